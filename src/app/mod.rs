//! The operator: the composition of its parts.

mod api_meter;
mod connection;
mod controllers;
pub mod election;
mod fenced_dial;
mod housekeeping;
mod leader_work;
mod listeners;
mod object_meter;
pub mod operator;
mod peers;
mod probe_thread;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::connection::Connection;
use self::election::RunningElection;
use self::listeners::{AppError, Listeners};
use self::operator::{Operator, Surroundings};
use self::tasks::Tasks;
use crate::address::networks::GatewayNetworks;
use crate::address::proxy::{NoProxy, ProxyRules};
use crate::address::resolve::SystemResolver;
use crate::api::watched_namespaces::WatchedNamespaces;
use crate::core::gateway::transport::ServedApi;
use crate::http::probes;
use crate::openclaw::{DialRules, Network};
use crate::options::{LogFormat, LogLevel, RunOptions};
use crate::souls::http_client::HttpClient;
use crate::state::kube_store::WallClock;

/// How long open reconciles may take after a signal to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

/// Runs the operator until SIGTERM or Ctrl-C.
///
/// # Errors
/// A sentence about the missing requirement: a kubeconfig, the API server, a free port.
pub fn main(options: &RunOptions) -> Result<(), AppError> {
    init_logging(options.log_format, options.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run(options));
    if options.election.leader_elect {
        // Another replica may lead already. No thread is waited for.
        runtime.shutdown_background();
    }
    ended
}

fn init_logging(format: LogFormat, level: LogLevel) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level.filter()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

async fn run(options: &RunOptions) -> Result<(), AppError> {
    // The directory first: a second operator on it is told so, and not of its ports.
    let Connection { client, api_host, authz, in_pod, embedded } = Connection::open(options).await?;
    let listeners = listeners::open(&options.listen).await?;
    let network = network(options, in_pod)?;
    let version = client.apiserver_version().await.map_err(|e| format!("the API server does not answer: {e}"))?;
    let (api, probes) = (listeners.api.listener.local_addr()?, listeners.probes.listener.local_addr()?);
    let metrics = listeners.metrics.listener.local_addr()?;
    info!(%api, %probes, %metrics, kubernetes = version.git_version, "muster runs");
    if let Some(WatchedNamespaces::Only(names)) = &options.namespaces {
        info!(?names, "the operator works in these namespaces only");
    }
    let shutdown = CancellationToken::new();
    let clock: WallClock = Arc::new(Timestamp::now);
    let fingerprint = Arc::clone(&listeners.fingerprint);
    let (candidate, leader) =
        election::take_part(&options.election, &client, Arc::clone(&clock), api.port(), fingerprint)?;
    let surroundings = Surroundings {
        client,
        api_host,
        authz,
        clock,
        namespaces: options.namespaces.clone().unwrap_or_default(),
        leader,
        dial: Arc::new(network),
        souls: Arc::new(HttpClient::default()),
        served_api: ServedApi {
            default_url: options.api_url.clone().or_else(|| embedded.as_ref().map(|_| format!("http://{api}"))),
            https_only: options.listen.tls_cert_file.is_some(),
        },
        http_tokens: listeners.tokens,
        run_id: format!("{:x}", getrandom::u64()?),
    };
    let operator = Operator::start(surroundings, &shutdown);
    let mut election = candidate.map(|candidate| RunningElection::start(candidate, operator.work.clone()));
    let mut tasks = serve(operator, listeners, &shutdown)?;
    if let Some(embedded) = embedded {
        embedded.start(&mut tasks, shutdown.clone());
    }
    let mut tasks = tasks.set;
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        biased;
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        () = election::lost(election.as_mut()) => Err("this replica lost the Lease; another one leads, or takes the Lease soon"),
        _ = tasks.join_next() => Err("a task of the operator ended unexpectedly; see the log"),
    };
    info!("stopping");
    if let Some(election) = election {
        election.hand_over().await;
    }
    shutdown.cancel();
    let rest = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, rest).await.is_err() {
        info!(seconds = SHUTDOWN_GRACE.as_secs(), "some reconciles did not end in time and are cut off");
    }
    ended.map_err(Into::into)
}

/// Serves the routes of an operator.
fn serve(operator: Operator, listeners: Listeners, shutdown: &CancellationToken) -> Result<Tasks, AppError> {
    let Operator { router, probes, mut tasks, .. } = operator;
    if let Some(certificate) = listeners.reloaded {
        tasks.until_shutdown(async move { certificate.watch_files().await });
    }
    let metrics = probes::metrics_router(Arc::clone(&probes.metrics));
    tasks.past_shutdown(listeners.api.serve(router, shutdown.clone()));
    let probes = probe_thread::serve(listeners.probes, probes::router(probes), shutdown.clone())?;
    tasks.past_shutdown(probes);
    tasks.past_shutdown(listeners.metrics.serve(metrics, shutdown.clone()));
    Ok(tasks)
}

/// The network with the rules of the flags. The operator runs in a pod if its account is the account of a pod. The loopback addresses are
/// then addresses of the pod.
fn network(options: &RunOptions, in_pod: bool) -> Result<Network, AppError> {
    let networks = GatewayNetworks::new(options.gateway_networks.clone(), in_pod);
    let proxy = match options.https_proxy.trim() {
        "" => None,
        text => Some(text.parse().map_err(|error| format!("--https-proxy, HTTPS_PROXY: {error}"))?),
    };
    let proxies = ProxyRules { proxy, exceptions: NoProxy::new(&options.no_proxy) };
    // Without a cluster, there is nobody from whom the admin has to hide the network.
    let shows_causes = options.embedded.is_some();
    let rules = DialRules { networks, allow_paths: options.allow_gateway_paths, proxies, shows_causes };
    Ok(Network::new(Arc::new(SystemResolver), rules))
}
