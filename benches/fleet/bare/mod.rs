//! The bare client: a process that makes the same writes as the operator and never looks at the result.

mod deletion;
mod provision;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use kube::Client;
use kube::api::{Api, ListParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use muster::api::Agent;
use muster_harness::Failure;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::measure::{Memory, Stopwatch, memory};
use crate::plan::{AgentPlan, GatewayPlan};

/// The maximum of open requests at the API server, as the operator has.
const MAX_REQUESTS: usize = 32;
/// The maximum of open requests at one gateway, as the operator has.
const MAX_IN_FLIGHT: usize = 16;

/// A task of the bare client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) job: Job,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) gateways: Vec<GatewayPlan>,
}

/// The kind of a task.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Set up all agents at once.
    Provision,
    /// Set up one agent after another.
    Alone,
    /// Remove all agents.
    Delete,
    /// List all Agents, and keep them in memory.
    List,
}

/// The figures of a task. A task does not have all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// The seconds until the last Agent was Ready, until the last was gone, or until all were listed.
    pub(crate) seconds: f64,
    /// The seconds until the end of the task.
    pub(crate) all_seconds: f64,
    /// The CPU seconds of the bare client.
    pub(crate) cpu: f64,
    /// The seconds of each agent.
    pub(crate) times: Vec<f64>,
    /// The memory before the first request and at the end.
    pub(crate) memory: [Memory; 2],
}

/// Runs a task in a process of its own.
pub(crate) async fn run(task: &Task) -> Result<Figures, Failure> {
    let mut file = tempfile::NamedTempFile::new()?;
    serde_json::to_writer(std::io::BufWriter::new(file.as_file_mut()), task)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--bare").arg(file.path()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = command.output().await?;
    if !output.status.success() {
        return Err(format!("the bare client ({:?}) ended with {}", task.job, output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs the task of the file in this process, and prints the figures.
pub(crate) async fn main(file: &Path) -> Result<(), Failure> {
    let stopwatch = Stopwatch::start(std::process::id())?;
    let task: Task = serde_json::from_slice(&std::fs::read(file)?)?;
    let client = client(&task.kubeconfig).await?;
    let api = ApiServer { client, permits: Arc::new(Semaphore::new(MAX_REQUESTS)) };
    let gateways = Arc::new(task.gateways);
    let figures = match task.job {
        Job::Provision => provision::all(&api, &gateways).await?,
        Job::Alone => provision::one_by_one(&api, &gateways).await?,
        Job::Delete => deletion::all(&api, &gateways).await?,
        Job::List => list(&api, &stopwatch).await?,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// A client of the API server.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client, Failure> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The API server, with a limit of open requests.
#[derive(Clone)]
struct ApiServer {
    client: Client,
    permits: Arc<Semaphore>,
}

impl ApiServer {
    async fn send<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        let _permit = self.permits.acquire().await?;
        Ok(request.await?)
    }
}

/// All agents in turns over the gateways, with the number of the gateway and the number on it.
fn in_turns(gateways: &[GatewayPlan]) -> impl Iterator<Item = (usize, usize, &AgentPlan)> {
    let longest = gateways.iter().map(|gateway| gateway.agents.len()).max().unwrap_or_default();
    let turns = (0..longest).flat_map(|agent| (0..gateways.len()).map(move |gateway| (gateway, agent)));
    turns.filter_map(|(gateway, agent)| Some((gateway, agent, gateways[gateway].agents.get(agent)?)))
}

/// Lists all Agents. Time and CPU time count from the start of the process, as the operator's do.
async fn list(api: &ApiServer, stopwatch: &Stopwatch) -> Result<Figures, Failure> {
    let process = std::process::id();
    let before = memory(process)?;
    let agents = Api::<Agent>::all(api.client.clone()).list(&ListParams::default()).await?;
    let seconds = stopwatch.seconds();
    let figures = Figures {
        seconds,
        all_seconds: seconds,
        cpu: stopwatch.cpu()?,
        times: Vec::new(),
        memory: [before, memory(process)?],
    };
    drop(agents);
    Ok(figures)
}
