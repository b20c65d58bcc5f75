//! The operator: everything put together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::runtime::reflector;
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
use crate::controllers::gateway_pool::GatewayPool;
use crate::controllers::runner::{self, Controller};
use crate::controllers::{Context, board};
use crate::core::gateway::cleanup::GoneGateway;
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
use crate::state::changes::GatewayChange;
use crate::state::kube_authz::KubeAccess;
use crate::state::kube_store::KubeStore;
use crate::state::tokens::TokenTable;
use crate::state::triggers::{Queues, Triggers};
use crate::state::{Caches, State, watch};

/// How long reconciles that are under way may go on after a signal to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error>;

/// How the operator runs.
#[derive(Debug, clap::Args)]
pub struct RunOptions {
    /// Kubeconfig file. Default: the pod's ServiceAccount in a cluster, else $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the HTTP API that agents and people call.
    #[arg(long, env = "MUSTER_API_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub api_addr: SocketAddr,
    /// Certificate (PEM, its chain included) with which the HTTP API is served; needs --tls-key-file. Without the two it
    /// is plain HTTP. Read again when it changes.
    #[arg(long, env = "MUSTER_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key (PEM) of that certificate; needs --tls-cert-file.
    #[arg(long, env = "MUSTER_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "MUSTER_PROBE_ADDR", default_value = "0.0.0.0:8081", value_name = "ADDR")]
    pub probe_addr: SocketAddr,
    /// How log lines are written.
    #[arg(long, env = "MUSTER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines are written.
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
/// A sentence about what is missing to begin: a kubeconfig, the API server, a free port.
pub fn main(options: &RunOptions) -> Result<(), Failure> {
    logging(options.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(operate(options))
}

fn logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

async fn config(options: &RunOptions) -> Result<Config, Failure> {
    let config = match &options.kubeconfig {
        None => {
            Config::infer().await.map_err(|e| format!("no way to the API server was found: {e}; give --kubeconfig"))?
        }
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

async fn operate(options: &RunOptions) -> Result<(), Failure> {
    let certificate = certificate(options)?;
    let config = config(options).await?;
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
        feed: Arc::new(ChangeFeed::new(format!("{:x}", getrandom::u64()?), shutdown.clone())),
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
        Some(_) => Err("a part of the operator ended by itself; see the log".into()),
    }
}

/// The certificate that the flags name, if they name one.
fn certificate(options: &RunOptions) -> Result<Option<Arc<Certificate>>, Failure> {
    let (Some(certificate), Some(key)) = (&options.tls_cert_file, &options.tls_key_file) else { return Ok(None) };
    let files = tls::CertificateFiles { certificate: certificate.clone(), key: key.clone() };
    let loaded = Certificate::load(files).map_err(|e| format!("--tls-cert-file, --tls-key-file: {}", e.whole()))?;
    Ok(Some(loaded))
}

async fn listen(addr: std::net::SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr).await.map_err(|e| format!("{flag} {addr}: {e}").into())
}

/// What the operator is made of, before it runs.
struct App {
    client: Client,
    authz: KubeAccess,
    feed: Arc<ChangeFeed>,
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
    /// Runs a task that the shutdown drops.
    fn until_shutdown(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.shutdown.clone();
        self.set.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    }

    /// Runs a task that ends by itself after the shutdown.
    fn past_shutdown(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(task);
    }
}

impl App {
    /// Starts every task: the watches, the triggers, the controllers, the servers.
    fn start(self) -> JoinSet<()> {
        let Self { client, authz, feed, certificate, api_listener, tls, probe_listener, shutdown } = self;
        let (agents, agents_writer) = reflector::store();
        let (boards, boards_writer) = reflector::store();
        let (gateways, gateways_writer) = reflector::store();
        let caches = Caches { agents, boards, gateways };
        let (queues, receivers) = queues();
        let (due, heartbeats_due) = mpsc::channel(heartbeat_writer::BACKLOG);
        let (changes, gateway_changes) = mpsc::unbounded_channel();
        let (gone_gateways, gone) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::default());
        let store = KubeStore::new(client.clone(), caches.clone());
        let triggers = Triggers { store: store.clone(), queues: queues.clone() };
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
        let people = PeopleApi::new(state, authz, Arc::clone(&feed), Arc::clone(&probes));
        let router = agents::router(Arc::new(api)).merge(people::router(Arc::new(people))).merge(ui::router());

        let mut tasks = Tasks { set: JoinSet::new(), shutdown: shutdown.clone() };
        if let Some(certificate) = certificate {
            tasks.until_shutdown(async move { certificate.follow().await });
        }
        let on_agent = {
            let ctx = Arc::clone(&ctx);
            move |agent: &Agent, gone: bool| {
                tokens.update(agent, gone);
                feed.update(agent, gone);
                if gone {
                    ctx.souls.forget(&ObjectKey::of(&agent.metadata));
                }
            }
        };
        // The receiver ends only when the operator does.
        let on_gone = move |gateway| drop(gone_gateways.send(gateway));
        tasks.until_shutdown(watch::agents(watch::objects(&client, agents_writer), triggers.clone(), on_agent));
        tasks.until_shutdown(watch::boards(watch::objects(&client, boards_writer), triggers.clone()));
        tasks.until_shutdown(watch::gateways(watch::objects(&client, gateways_writer), triggers.clone(), on_gone));
        let config_maps = triggers.clone();
        tasks.until_shutdown(async move { watch::config_maps(&client, config_maps).await });
        tasks.until_shutdown(follow_gateways(gateway_changes, triggers));
        tasks.until_shutdown(count_gateways(Arc::clone(&ctx), Arc::clone(&metrics)));
        tasks.until_shutdown(heartbeat_writer::run(Arc::clone(&ctx.state), heartbeats_due, queues.agents));
        tasks.past_shutdown(server::serve(api_listener, tls, router, shutdown.clone()));
        tasks.past_shutdown(server::serve(probe_listener, None, probes::router(Arc::clone(&probes)), shutdown.clone()));
        let controllers = Controllers { ctx, caches, probes, receivers, gone, metrics, shutdown };
        tasks.past_shutdown(controllers.run());
        tasks.set
    }
}

/// The receiving ends of the queues.
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

/// How long changes of agents are gathered before their board and gateway are looked at.
const GATHER: Duration = Duration::from_millis(500);

/// The three controllers and what ends with them.
struct Controllers {
    ctx: Arc<Context<KubeStore>>,
    caches: Caches,
    probes: Arc<Probes>,
    receivers: Receivers,
    gone: UnboundedReceiver<GoneGateway>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
}

impl Controllers {
    /// Runs the controllers, from the moment in which the watches are in sync.
    async fn run(self) {
        let Self { ctx, caches, probes, receivers, gone, metrics, shutdown } = self;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            synced = synced(&caches, &probes) => if let Err(error) = synced {
                error!(%error, "a watch ended before it brought what there is");
                return;
            },
        }
        let agents = Controller {
            name: "agent",
            cache: caches.agents,
            queue: receivers.agents,
            gather: Duration::ZERO,
            metrics: Arc::clone(&metrics),
        };
        let boards = Controller {
            name: "board",
            cache: caches.boards,
            queue: receivers.boards,
            gather: GATHER,
            metrics: Arc::clone(&metrics),
        };
        let gateways = Controller {
            name: "agentgateway",
            cache: caches.gateways,
            queue: receivers.gateways,
            gather: GATHER,
            metrics,
        };
        let (for_agents, for_boards, for_gateways) = (Arc::clone(&ctx), Arc::clone(&ctx), Arc::clone(&ctx));
        futures::join!(
            shutdown.run_until_cancelled(orphaned_secrets::run(&ctx, gone)),
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

async fn follow_gateways(mut changed: UnboundedReceiver<GatewayChange>, triggers: Triggers<KubeStore>) {
    while let Some(change) = changed.recv().await {
        triggers.changed(&change);
    }
}

/// How often the gateways' figures are taken over into the metrics.
const COUNT: Duration = Duration::from_secs(5);

async fn count_gateways(ctx: Arc<Context<KubeStore>>, metrics: Arc<Metrics>) {
    let mut tick = tokio::time::interval(COUNT);
    loop {
        tick.tick().await;
        let links = ctx.gateways.links();
        let up = links
            .iter()
            .filter(|(_, link)| matches!(*link.client().connection().borrow(), ConnectionState::Up(_)))
            .count();
        metrics.gateways(links.len(), up);
    }
}

/// Waits until the watches have brought what there is, and tells the readiness probe. No reconcile begins before: an
/// object that has not been brought yet would look like one that does not exist. Only one task may wait for a cache:
/// kube-runtime 5.0 wakes the last one that asked and no other.
async fn synced(caches: &Caches, probes: &Probes) -> Result<(), reflector::store::WriterDropped> {
    caches.agents.wait_until_ready().await?;
    caches.boards.wait_until_ready().await?;
    caches.gateways.wait_until_ready().await?;
    info!("the watches are in sync");
    probes.synced.store(true, Ordering::Relaxed);
    Ok(())
}
