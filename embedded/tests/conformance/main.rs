//! The same requests to the embedded API and to kube-apiserver, whose answers have to be the same after times, uids and versions are set
//! aside.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, outside of #[test] functions too")]

mod scenario;
mod scenarios;
mod sequences;
mod side;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use libtest_mimic::{Arguments, Failed, Trial};
use muster_embedded::{EmbeddedApi, Resources};
use muster_harness::{ControlPlane, Failure, TestReport};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::scenario::{Step, compare};
use crate::side::{Call, Side};

/// The shipped definitions.
const DEFINITIONS: [&str; 3] = [
    include_str!("../../../crds/agentgateways.yaml"),
    include_str!("../../../crds/boards.yaml"),
    include_str!("../../../crds/agents.yaml"),
];

/// The two APIs.
pub(crate) struct Apis {
    real: Client,
    embedded: Client,
}

impl Apis {
    async fn start() -> Result<(ControlPlane, Self), Failure> {
        let cluster = ControlPlane::start().await?;
        cluster.install_definitions().await?;
        let kubeconfig = Kubeconfig::read_from(cluster.kubectl.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let definitions: Vec<CustomResourceDefinition> =
            DEFINITIONS.iter().map(|text| serde_saphyr::from_str(text)).collect::<Result<_, _>>()?;
        let embedded = EmbeddedApi::in_memory(Resources::new(&definitions)?, Arc::new(Timestamp::now))?;
        Ok((cluster, Self { real: Client::try_from(config)?, embedded: embedded.client() }))
    }

    /// Both sides, with a new namespace.
    pub(crate) async fn sides(&self, namespace: &str) -> Result<[Side; 2], Failure> {
        let mut sides = [Side::new("kube-apiserver", self.real.clone()), Side::new("embedded", self.embedded.clone())];
        for side in &mut sides {
            side.keep("ns", namespace);
            let made = side
                .send(&Call {
                    method: http::Method::POST,
                    path: "/api/v1/namespaces".into(),
                    content_type: scenario::JSON,
                    accept: scenario::JSON,
                    body: Some(json!({ "metadata": { "name": namespace } })),
                })
                .await?;
            if made.code != 201 {
                return Err(format!("{}: {made:?}", side.name).into());
            }
        }
        Ok(sides)
    }
}

/// Ends the control plane with the last test: a static is never dropped.
type Parts = Arc<(Runtime, std::sync::Mutex<Option<ControlPlane>>, Apis, TestReport)>;

fn trial(parts: &Parts, name: &'static str, steps: Vec<Step>) -> Trial {
    let parts = Arc::clone(parts);
    Trial::test(name, move || {
        let (runtime, _, apis, report) = &*parts;
        let test = async {
            let namespace = name.replace('_', "-");
            let namespace = namespace[..namespace.len().min(60)].trim_end_matches('-');
            compare(&steps, &mut apis.sides(namespace).await?).await
        };
        report.run(name, || runtime.block_on(test)).map_err(Failed::from)
    })
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        let names = scenarios::all().into_iter().map(|(name, _)| Trial::test(name, || Ok(())));
        let names = names.chain([Trial::test(sequences::NAME, || Ok(()))]).collect();
        return libtest_mimic::run(&arguments, names).exit_code();
    }
    let runtime = Runtime::new().unwrap();
    let (cluster, apis) =
        runtime.block_on(Apis::start()).unwrap_or_else(|failure| panic!("no control plane: {failure}"));
    let parts: Parts = Arc::new((runtime, std::sync::Mutex::new(Some(cluster)), apis, TestReport::default()));
    let mut trials: Vec<_> = scenarios::all().into_iter().map(|(name, steps)| trial(&parts, name, steps)).collect();
    let shared = Arc::clone(&parts);
    trials.push(Trial::test(sequences::NAME, move || {
        shared.3.run(sequences::NAME, || sequences::run(&shared.0, &shared.2)).map_err(Failed::from)
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    parts.1.lock().unwrap().take();
    parts.3.finish().unwrap_or_else(|failure| panic!("{failure}"));
    conclusion.exit_code()
}
