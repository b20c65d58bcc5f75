//! The running parts, and what the scenarios share.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use kube::api::{DeleteParams, PostParams};
use muster_harness::{ControlPlane, Failure, Operator};

use crate::agent_watch::AgentWatch;
use crate::bare;
use crate::fleet::{self, FLEET};
use crate::measure::{ApiServer, Counts, LOOK_INTERVAL, Memory, memory, since};
use crate::options::Options;
use crate::plan::GatewayPlan;
use crate::simulated::Gateways;

/// The operator is idle after this time without a reconcile of an Agent, a new object, such as an event, or a write to a gateway.
const IDLE_TIME: Duration = Duration::from_secs(2);
/// The time between two looks at the operator's metrics while it becomes idle.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The time between two lines about the progress of a phase.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// The running parts.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) operator: Operator,
    pub(crate) agents: AgentWatch,
    pub(crate) client: Client,
    pub(crate) gateways: Gateways,
    /// The number of Agents in the namespaces of the operator.
    pub(crate) created: usize,
    /// The operator's memory with no Agent, and with all Agents.
    pub(crate) memory: [Memory; 2],
    pub(crate) cluster: ControlPlane,
}

/// The counters at one time.
pub(crate) struct Counters {
    pub(crate) api_server: ApiServer,
    pub(crate) calls: Counts,
    pub(crate) reconciles: usize,
}

impl Bench {
    /// Starts the control plane, the gateways and the operator, and waits until every `AgentGateway` and every Board is Ready.
    pub(crate) async fn start(options: Options) -> Result<Self, Failure> {
        let cluster = ControlPlane::start().await?;
        cluster.install("deploy").await?;
        fleet::admit_bare_client(&cluster).await?;
        let operator = Operator::start(Path::new(env!("CARGO_BIN_EXE_muster")), &cluster).await?;
        eprintln!("the operator runs: pid {}", operator.id());
        let gateways = Gateways::start(options.gateways).await?;
        fleet::create_gateways(&cluster, &gateways, &operator.api_url()).await?;
        let client = bare::client(cluster.kubectl.kubeconfig()).await?;
        let agents = AgentWatch::start(client.clone());
        agents.wait_for(|seen| seen.listed).await?;
        let memory = [memory(operator.id())?, Memory::default()];
        Ok(Self { options, operator, agents, client, gateways, created: 0, memory, cluster })
    }

    /// Ends a phase that takes too long. Prints the progress meanwhile.
    pub(crate) async fn within<T>(
        &self,
        phase: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let progress = async {
            loop {
                tokio::time::sleep(PROGRESS_INTERVAL).await;
                eprintln!("{phase}: {} after {} s", self.agents.progress(), began.elapsed().as_secs());
            }
        };
        let limit = self.options.timeout();
        let too_long = || format!("{phase}: not done within {} s: {}", limit.as_secs(), self.agents.progress());
        tokio::select! {
            biased;
            done = tokio::time::timeout(limit, work) => done.map_err(|_| too_long())?,
            never = progress => never,
        }
        .map_err(|error| format!("{phase}: {error}").into())
    }

    /// Creates Agents in turns over the gateways.
    pub(crate) async fn create_agents(&self, count: usize) -> Result<(), Failure> {
        let create = |number: usize| self.create_agent(format!("agent-{number:05}"), number % self.options.gateways);
        stream::iter(0..count).map(create).buffer_unordered(self.options.creates).try_collect::<()>().await
    }

    /// Creates one Agent.
    pub(crate) async fn create_agent(&self, name: String, gateway: usize) -> Result<(), Failure> {
        let manifest = serde_json::from_value(fleet::agent(&name, gateway, self.options.wake))?;
        let agents = fleet::agents(&self.client, &fleet::namespace(FLEET, gateway));
        agents.create(&PostParams::default(), &manifest).await?;
        Ok(())
    }

    /// Deletes all Agents of the operator, and does not wait until they are gone.
    pub(crate) async fn delete_agents(&self) -> Result<(), Failure> {
        let mut names = Vec::new();
        for gateway in 0..self.options.gateways.min(fleet::NAMESPACES) {
            let namespace = fleet::namespace(FLEET, gateway);
            let agents =
                fleet::agents(&self.client, &namespace).list_metadata(&kube::api::ListParams::default()).await?;
            names.extend(agents.items.into_iter().filter_map(|agent| Some((namespace.clone(), agent.metadata.name?))));
        }
        let delete = async |(namespace, name): (String, String)| {
            fleet::agents(&self.client, &namespace).delete(&name, &DeleteParams::default()).await?;
            Ok::<_, Failure>(())
        };
        stream::iter(names).map(delete).buffer_unordered(self.options.creates).try_collect::<()>().await
    }

    /// The counters now.
    pub(crate) async fn counters(&self) -> Result<Counters, Failure> {
        Ok(Counters {
            api_server: ApiServer::read(&self.client).await?,
            calls: self.gateways.counts(),
            reconciles: self.reconciles().await?,
        })
    }

    /// The number of reconciles of Agents since the operator's start.
    pub(crate) async fn reconciles(&self) -> Result<usize, Failure> {
        self.count("controller_runtime_reconcile_total", "controller=\"agent\"").await
    }

    /// The number of objects that the operator has created since its start, events above all.
    async fn created_objects(&self) -> Result<usize, Failure> {
        self.count("rest_client_requests_total", "method=\"POST\"").await
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the counters are whole numbers")]
    async fn count(&self, metric: &str, label: &str) -> Result<usize, Failure> {
        Ok(self.operator.metric(metric, &[label]).await? as usize)
    }

    /// Waits until the operator is idle. Returns when it became idle.
    pub(crate) async fn idle(&self) -> Result<Instant, Failure> {
        let (mut last, mut since) = ((0, 0, 0), Instant::now());
        while since.elapsed() < IDLE_TIME {
            tokio::time::sleep(IDLE_LOOK_INTERVAL).await;
            let now = (self.reconciles().await?, self.created_objects().await?, self.gateways.writes());
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(since)
    }

    /// Stops the operator, and starts it again. Does not wait until it is ready.
    pub(crate) async fn restart_operator(&mut self) -> Result<(), Failure> {
        self.operator.terminate().await?;
        self.operator.start_again()?;
        eprintln!("the operator runs again: pid {}", self.operator.id());
        Ok(())
    }

    /// Waits until the operator's watches are in sync.
    pub(crate) async fn until_synced(&self) -> Result<(), Failure> {
        while !self.operator.is_ready().await {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// Runs a task of the bare client, with the operator's account.
    pub(crate) async fn bare(&self, job: bare::Job, gateways: &[GatewayPlan]) -> Result<bare::Figures, Failure> {
        let kubeconfig = self.cluster.kubeconfig("bare", self.operator.token())?;
        let task = bare::Task { job, kubeconfig, gateways: gateways.to_vec() };
        self.within(&format!("bare client, {job:?}"), bare::run(&task)).await
    }
}

impl Counters {
    /// The difference to earlier counters of the same process.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            api_server: self.api_server.since(&earlier.api_server),
            calls: since(&self.calls, &earlier.calls),
            reconciles: self.reconciles.saturating_sub(earlier.reconciles),
        }
    }
}
