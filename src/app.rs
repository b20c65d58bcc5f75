//! The operator: the composition of its parts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::api::Agent;
use crate::api::object_key::ObjectKey;
use crate::controllers::agent::{self, heartbeat_writer};
use crate::controllers::gateway::{self, orphaned_secrets};
use crate::controllers::gateway_handle::GatewayHandle;
use crate::controllers::gateway_pool::GatewayPool;
use crate::controllers::runner::{self, Controller};
use crate::controllers::{Context, board};
use crate::core::gateway::cleanup::DeletedGateway;
use crate::http::api::AgentApi;
use crate::http::change_feed::ChangeFeed;
use crate::http::people::{self, PeopleApi};
use crate::http::probes::{self, Probes};
use crate::http::rate_limit::RateLimits;
use crate::http::tls::{self, Certificate};
use crate::http::{agents, server, ui};
use crate::metrics::Metrics;
use crate::openclaw::Network;
use crate::openclaw::model::ConnectionState;
use crate::souls::directories::SoulDirectories;
use crate::souls::http_client::HttpClient;
use crate::state::cache::{NeverSynced, cache};
use crate::state::changes::GatewayChange;
use crate::state::kube_authz::KubeAccess;
use crate::state::kube_store::KubeStore;
use crate::state::tokens::TokenTable;
use crate::state::triggers::{Queues, Triggers};
use crate::state::{Caches, State, watch};

/// How long open reconciles may take after a signal to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

type AppError = Box<dyn std::error::Error>;

/// The options of the operator.
#[derive(Debug, clap::Args)]
pub struct RunOptions {
    /// Kubeconfig file. Default: the pod's ServiceAccount in a cluster, else $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the HTTP API for agents and people, and of the fleet page.
    #[arg(long, env = "MUSTER_API_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub api_addr: SocketAddr,
    /// File with the TLS certificate of the HTTP API and its chain, PEM. Needs --tls-key-file. A changed file is reloaded.
    /// Default: no TLS.
    #[arg(long, env = "MUSTER_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the private key of the TLS certificate, PEM. Needs --tls-cert-file.
    #[arg(long, env = "MUSTER_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "MUSTER_PROBE_ADDR", default_value = "0.0.0.0:8081", value_name = "ADDR")]
    pub probe_addr: SocketAddr,
    /// Format of the log lines on standard error.
    #[arg(long, env = "MUSTER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Format of the log lines on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the operator until SIGTERM or Ctrl-C.
///
/// # Errors
/// A sentence about the missing requirement: a kubeconfig, the API server, a free port.
pub fn main(options: &RunOptions) -> Result<(), AppError> {
    init_logging(options.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

fn init_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

async fn kube_config(options: &RunOptions) -> Result<Config, AppError> {
    let config = match &options.kubeconfig {
        None => Config::infer()
            .await
            .map_err(|e| format!("no kubeconfig and no ServiceAccount was found: {e}; give --kubeconfig"))?,
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path)
                .map_err(|e| format!("--kubeconfig {}: {e}", path.display()))?;
            Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
                .await
                .map_err(|e| format!("--kubeconfig {}: {e}", path.display()))?
        }
    };
    Ok(config)
}

async fn run(options: &RunOptions) -> Result<(), AppError> {
    let certificate = certificate(options)?;
    let config = kube_config(options).await?;
    let client = Client::try_from(config.clone())?;
    let authz = KubeAccess::new(client.clone(), config)?;
    let version = client.apiserver_version().await.map_err(|e| format!("the API server does not answer: {e}"))?;
    let api_listener = listen(options.api_addr, "--api-addr").await?;
    let probe_listener = listen(options.probe_addr, "--probe-addr").await?;
    info!(
        tls = certificate.is_some(), api = %api_listener.local_addr()?, probes = %probe_listener.local_addr()?, kubernetes = version.git_version,
        "muster runs"
    );
    let shutdown = CancellationToken::new();
    let app = App {
        client,
        authz,
        change_feed: Arc::new(ChangeFeed::new(format!("{:x}", getrandom::u64()?), shutdown.clone())),
        api_listener,
        tls: certificate.as_ref().map(super::http::tls::Certificate::acceptor).transpose()?,
        certificate,
        probe_listener,
        shutdown: shutdown.clone(),
    };
    let mut tasks = app.start();
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        biased;
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
        ended = tasks.join_next() => ended,
    };
    info!("stopping");
    shutdown.cancel();
    let rest = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, rest).await.is_err() {
        info!(seconds = SHUTDOWN_GRACE.as_secs(), "some reconciles did not end in time and are cut off");
    }
    match ended {
        None => Ok(()),
        Some(_) => Err("a task of the operator ended unexpectedly; see the log".into()),
    }
}

/// The certificate of the flags, if they are set.
fn certificate(options: &RunOptions) -> Result<Option<Arc<Certificate>>, AppError> {
    let (Some(certificate), Some(key)) = (&options.tls_cert_file, &options.tls_key_file) else { return Ok(None) };
    let files = tls::CertificateFiles { certificate: certificate.clone(), key: key.clone() };
    let loaded =
        Certificate::load(files).map_err(|e| format!("--tls-cert-file, --tls-key-file: {}", e.with_cause()))?;
    Ok(Some(loaded))
}

async fn listen(addr: std::net::SocketAddr, flag: &str) -> Result<TcpListener, AppError> {
    TcpListener::bind(addr).await.map_err(|e| format!("{flag} {addr}: {e}").into())
}

/// The parts of the operator before its start.
struct App {
    client: Client,
    authz: KubeAccess,
    change_feed: Arc<ChangeFeed>,
    certificate: Option<Arc<Certificate>>,
    api_listener: TcpListener,
    tls: Option<TlsAcceptor>,
    probe_listener: TcpListener,
    shutdown: CancellationToken,
}

/// The tasks of the operator. None of them ends before the shutdown.
struct Tasks {
    set: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Tasks {
    /// Spawns a task that is dropped at the shutdown.
    fn until_shutdown(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.shutdown.clone();
        self.set.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    }

    /// Spawns a task that handles the shutdown and ends after it.
    fn past_shutdown(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(task);
    }
}

impl App {
    /// Spawns every task: the watches, the triggers, the controllers, the servers.
    fn start(self) -> JoinSet<()> {
        let Self { client, authz, change_feed, certificate, api_listener, tls, probe_listener, shutdown } = self;
        let (agents, agents_writer) = cache();
        let (boards, boards_writer) = cache();
        let (gateways, gateways_writer) = cache();
        let caches = Caches { agents, boards, gateways };
        let (queues, receivers) = queues();
        let (due, heartbeats_due) = mpsc::channel(heartbeat_writer::BACKLOG);
        let (changes, gateway_changes) = mpsc::unbounded_channel();
        let (deleted_gateways, deleted_rx) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::default());
        let store = KubeStore::new(client.clone(), caches.clone());
        let triggers = Triggers { objects: store.clone(), queues: queues.clone() };
        let state = Arc::new(State::new(store));
        let ctx = Arc::new(Context {
            state: Arc::clone(&state),
            souls: SoulDirectories::new(Arc::new(HttpClient::default()), changes.clone()),
            gateways: GatewayPool::new(Arc::new(Network), metrics.clone(), changes, state.inventories.clone()),
        });
        let tokens = Arc::new(TokenTable::default());
        let probes = Arc::new(Probes { synced: AtomicBool::new(false), metrics: Arc::clone(&metrics) });
        let api = AgentApi {
            state: Arc::clone(&state),
            tokens: Arc::clone(&tokens),
            limits: RateLimits::default(),
            due,
            probes: Arc::clone(&probes),
        };
        let people = PeopleApi::new(state, authz, Arc::clone(&change_feed), Arc::clone(&probes));
        let router = agents::router(Arc::new(api)).merge(people::router(Arc::new(people))).merge(ui::router());

        let mut tasks = Tasks { set: JoinSet::new(), shutdown: shutdown.clone() };
        if let Some(certificate) = certificate {
            tasks.until_shutdown(async move { certificate.watch_files().await });
        }
        let on_agent = on_agent(Arc::clone(&ctx), tokens, change_feed);
        // The receiver is open until the operator stops.
        let on_deleted = move |gateway| drop(deleted_gateways.send(gateway));
        tasks.until_shutdown(watch::agents(watch::objects(&client, agents_writer), triggers.clone(), on_agent));
        tasks.until_shutdown(watch::boards(watch::objects(&client, boards_writer), triggers.clone()));
        tasks.until_shutdown(watch::gateways(watch::objects(&client, gateways_writer), triggers.clone(), on_deleted));
        let config_maps = triggers.clone();
        tasks.until_shutdown(async move { watch::config_maps(&client, config_maps).await });
        tasks.until_shutdown(follow_gateways(gateway_changes, triggers));
        tasks.until_shutdown(keep_house(Arc::clone(&ctx), Arc::clone(&metrics)));
        tasks.until_shutdown(heartbeat_writer::run(Arc::clone(&ctx.state), heartbeats_due, queues.agents));
        tasks.past_shutdown(server::serve(api_listener, tls, router, shutdown.clone()));
        tasks.past_shutdown(server::serve(probe_listener, None, probes::router(Arc::clone(&probes)), shutdown.clone()));
        let controllers =
            Controllers { ctx, caches, probes, receivers, deleted_gateways: deleted_rx, metrics, shutdown };
        tasks.past_shutdown(controllers.run());
        tasks.set
    }
}

/// Updates what is derived from an Agent when the watch reports the Agent.
fn on_agent(
    ctx: Arc<Context<KubeStore>>,
    tokens: Arc<TokenTable>,
    change_feed: Arc<ChangeFeed>,
) -> impl Fn(&Agent, bool) {
    move |agent, deleted| {
        tokens.update(agent, deleted);
        change_feed.update(agent, deleted);
        if deleted {
            ctx.forget_agent(agent);
        }
    }
}

/// The receivers of the queues.
struct Receivers {
    agents: UnboundedReceiver<ObjectKey>,
    boards: UnboundedReceiver<ObjectKey>,
    gateways: UnboundedReceiver<ObjectKey>,
}

fn queues() -> (Queues, Receivers) {
    let (agents, agents_rx) = mpsc::unbounded_channel();
    let (boards, boards_rx) = mpsc::unbounded_channel();
    let (gateways, gateways_rx) = mpsc::unbounded_channel();
    (Queues { agents, boards, gateways }, Receivers { agents: agents_rx, boards: boards_rx, gateways: gateways_rx })
}

/// How long changes of agents are batched before their Board and AgentGateway are reconciled.
const BATCH_WINDOW: Duration = Duration::from_millis(500);
/// The largest number of Agents that are reconciled at one time. A gateway serves at most its `maxInFlight` of them, so that the agents of
/// another gateway wait only behind some sixty gateways that do not answer.
const MAX_AGENT_RECONCILES: usize = 1024;
/// The largest number of Boards, and of AgentGateways, that are reconciled at one time.
const MAX_PARENT_RECONCILES: usize = 64;

/// The three controllers and their dependencies.
struct Controllers {
    ctx: Arc<Context<KubeStore>>,
    caches: Caches,
    probes: Arc<Probes>,
    receivers: Receivers,
    deleted_gateways: UnboundedReceiver<DeletedGateway>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
}

impl Controllers {
    /// Runs the controllers after the watches are in sync.
    async fn run(self) {
        let Self { ctx, caches, probes, receivers, deleted_gateways, metrics, shutdown } = self;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            synced = wait_until_synced(&caches, &probes) => if let Err(error) = synced {
                error!(%error, "the operator stops");
                return;
            },
        }
        let agents = Controller {
            name: "agent",
            cache: caches.agents,
            queue: receivers.agents,
            window: Duration::ZERO,
            concurrency: MAX_AGENT_RECONCILES,
            metrics: Arc::clone(&metrics),
        };
        let boards = Controller {
            name: "board",
            cache: caches.boards,
            queue: receivers.boards,
            window: BATCH_WINDOW,
            concurrency: MAX_PARENT_RECONCILES,
            metrics: Arc::clone(&metrics),
        };
        let gateways = Controller {
            name: "agentgateway",
            cache: caches.gateways,
            queue: receivers.gateways,
            window: BATCH_WINDOW,
            concurrency: MAX_PARENT_RECONCILES,
            metrics,
        };
        let (for_agents, for_boards, for_gateways) = (Arc::clone(&ctx), Arc::clone(&ctx), Arc::clone(&ctx));
        futures::join!(
            shutdown.run_until_cancelled(orphaned_secrets::run(&ctx, deleted_gateways)),
            runner::run(agents, shutdown.clone(), move |object| {
                let ctx = Arc::clone(&for_agents);
                async move { Box::pin(agent::reconcile(&ctx, &object)).await }
            }),
            runner::run(boards, shutdown.clone(), move |object| {
                let ctx = Arc::clone(&for_boards);
                async move { board::reconcile(&ctx, &object).await }
            }),
            runner::run(gateways, shutdown.clone(), move |object| {
                let ctx = Arc::clone(&for_gateways);
                async move { gateway::reconcile(&ctx, &object).await }
            }),
        );
    }
}

/// Calls the triggers for each change on a gateway.
async fn follow_gateways(mut changes: UnboundedReceiver<GatewayChange>, triggers: Triggers<KubeStore>) {
    while let Some(change) = changes.recv().await {
        triggers.gateway_change(&change);
    }
}

/// How often metrics of the gateways are updated, untaken places given on, and Secrets removed that are no longer recent.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);

async fn keep_house(ctx: Arc<Context<KubeStore>>, metrics: Arc<Metrics>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    loop {
        tick.tick().await;
        let handles = ctx.gateways.handles();
        ctx.gateways.wake_overdue();
        ctx.state.recent_secrets.sweep();
        let is_up = |handle: &GatewayHandle| matches!(*handle.client().connection().borrow(), ConnectionState::Up(_));
        metrics.set_gateways(handles.len(), handles.iter().filter(|(_, handle)| is_up(handle)).count());
    }
}

/// Waits until the caches are complete, and sets the readiness probe. An object that is not in its cache counts as absent.
async fn wait_until_synced(caches: &Caches, probes: &Probes) -> Result<(), NeverSynced> {
    caches.agents.wait_until_synced().await?;
    caches.boards.wait_until_synced().await?;
    caches.gateways.wait_until_synced().await?;
    info!("the watches are in sync");
    probes.synced.store(true, Ordering::Relaxed);
    Ok(())
}
