//! How the operator reaches Kubernetes: a cluster, or the embedded API of a directory.

use std::path::{Path, PathBuf};

use kube::Client;
use muster_embedded::EmbeddedApi;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::listeners::AppError;
use super::tasks::Tasks;
use crate::api::crds;
use crate::kubeconfig;
use crate::options::RunOptions;
use crate::standalone::{AccessPoint, Directory};
use crate::state::kube_authz::KubeAccess;

/// The way to Kubernetes.
pub(super) struct Connection {
    /// The client of the operator.
    pub(super) client: Client,
    /// The host and the port of the API server, for the metrics.
    pub(super) api_host: String,
    /// The access for people.
    pub(super) authz: KubeAccess,
    /// Whether the operator runs with the account of a pod.
    pub(super) in_pod: bool,
    /// The embedded API, without a cluster.
    pub(super) embedded: Option<Embedded>,
}

/// The embedded API of a directory.
pub(super) struct Embedded {
    path: PathBuf,
    api: EmbeddedApi,
    access: AccessPoint,
}

impl Connection {
    /// Connects as the flags say.
    pub(super) async fn open(options: &RunOptions) -> Result<Self, AppError> {
        match &options.embedded {
            Some(dir) => Self::to_directory(dir, options).await,
            None => Self::to_cluster(options).await,
        }
    }

    async fn to_directory(dir: &Path, options: &RunOptions) -> Result<Self, AppError> {
        let definitions: Vec<_> = crds::all().into_iter().map(|(_, definition)| definition).collect();
        let directory = Directory::open(dir, &definitions, options.embedded_restore)?;
        let access = directory.listen(options.embedded_addr).await?;
        let connections = directory.connections();
        let (path, api) = directory.parts();
        let authz = KubeAccess::with(connections.operator.clone(), connections.anonymous);
        let (client, api_host) = (connections.operator, access.address.to_string());
        Ok(Self { client, api_host, authz, in_pod: false, embedded: Some(Embedded { path, api, access }) })
    }

    async fn to_cluster(options: &RunOptions) -> Result<Self, AppError> {
        let config = kubeconfig::load(options.kubeconfig.as_deref(), None).await?;
        let client = Client::try_from(config.clone())?;
        let api_host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
        let token_file = config.auth_info.token_file.as_deref().unwrap_or_default();
        let in_pod = token_file.starts_with("/var/run/secrets/kubernetes.io/serviceaccount/");
        let authz = KubeAccess::new(client.clone(), config)?;
        Ok(Self { client, api_host, authz, in_pod, embedded: None })
    }
}

impl Embedded {
    /// Serves the commands, and keeps snapshots.
    pub(super) fn start(self, tasks: &mut Tasks, shutdown: CancellationToken) {
        let Self { path, api, access } = self;
        let AccessPoint { server, router, address, kubeconfig } = access;
        info!(%address, kubeconfig = %kubeconfig.display(), "the embedded API listens; the commands of muster find it by --kubeconfig or KUBECONFIG");
        tasks.until_shutdown(Directory::keep_snapshots(path, api));
        tasks.past_shutdown(server.serve(router, shutdown));
    }
}
