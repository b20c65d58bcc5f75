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
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::cluster::access::KubeAccess;
use crate::cluster::controllers::{self, Controller};
use crate::cluster::store::KubeStore;
use crate::cluster::triggers::{Queues, Triggers};
use crate::cluster::{Caches, watch};
use crate::directory::Web;
use crate::gateway::{Link, Network};
use crate::metrics::Metrics;
use crate::reconcile::changes::Changed;
use crate::reconcile::farewell::{self, Gone};
use crate::reconcile::{Gateways, Heartbeats, Key, Souls, World, agent, board, gateway, pass_on};
use crate::server::agents;
use crate::server::api::Api;
use crate::server::feed::Feed;
use crate::server::fleet;
use crate::server::limits::Limits;
use crate::server::listen;
use crate::server::people::{self, People};
use crate::server::probes::{self, Probes};
use crate::server::tls::{self, Certificate};
use crate::server::tokens::Tokens;

/// How long reconciles that are under way may go on after a signal to stop.
const GRACE: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error>;

/// How the operator runs.
#[derive(Debug, clap::Args)]
pub struct Options {
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
pub fn main(options: &Options) -> Result<(), Failure> {
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

async fn config(options: &Options) -> Result<Config, Failure> {
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

async fn operate(options: &Options) -> Result<(), Failure> {
    let certificate = certificate(options)?;
    let config = config(options).await?;
    let client = Client::try_from(config.clone())?;
    let access = KubeAccess::new(client.clone(), config)?;
    let version = client.apiserver_version().await.map_err(|e| format!("the API server does not answer: {e}"))?;
    let api_listener = listen(options.api_addr, "--api-addr").await?;
    let probe_listener = listen(options.probe_addr, "--probe-addr").await?;
    info!(
        tls = certificate.is_some(), api = %api_listener.local_addr()?, probes = %probe_listener.local_addr()?, kubernetes = version.git_version,
        "muster runs"
    );
    let shutdown = CancellationToken::new();
    let feed = Arc::new(Feed::new(format!("{:x}", getrandom::u64()?), shutdown.clone()));
    let mut parts = JoinSet::new();
    if let Some(certificate) = &certificate {
        let (certificate, stop) = (Arc::clone(certificate), shutdown.clone());
        parts.spawn(async move {
            let _ = stop.run_until_cancelled(certificate.follow()).await;
        });
    }
    let tls = certificate.map(|c| c.acceptor()).transpose()?;
    start(&client, (access, feed), ((api_listener, tls), probe_listener), &shutdown, &mut parts);
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        biased;
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
        ended = parts.join_next() => ended,
    };
    info!("stopping");
    shutdown.cancel();
    let rest = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, rest).await.is_err() {
        info!(seconds = GRACE.as_secs(), "some reconciles did not end in time and are cut off");
    }
    match ended {
        None => Ok(()),
        Some(_) => Err("a part of the operator ended by itself; see the log".into()),
    }
}

/// The certificate that the flags name, if they name one.
fn certificate(options: &Options) -> Result<Option<Arc<Certificate>>, Failure> {
    let (Some(certificate), Some(key)) = (&options.tls_cert_file, &options.tls_key_file) else { return Ok(None) };
    let files = tls::Files { certificate: certificate.clone(), key: key.clone() };
    let loaded = Certificate::load(files).map_err(|e| format!("--tls-cert-file, --tls-key-file: {}", e.whole()))?;
    Ok(Some(loaded))
}

async fn listen(addr: std::net::SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr).await.map_err(|e| format!("{flag} {addr}: {e}").into())
}

fn start(
    client: &Client,
    (access, feed): (KubeAccess, Arc<Feed>),
    ((api_listener, tls), probe_listener): ((TcpListener, Option<TlsAcceptor>), TcpListener),
    shutdown: &CancellationToken,
    parts: &mut JoinSet<()>,
) {
    let (agents_cache, agents_writer) = reflector::store();
    let (boards_cache, boards_writer) = reflector::store();
    let (gateways_cache, gateways_writer) = reflector::store();
    let caches = Caches { agents: agents_cache, boards: boards_cache, gateways: gateways_cache };
    let store = KubeStore::new(client.clone(), caches.clone());
    let (queues, farewells, receivers) = queues();
    let (due, heard) = mpsc::channel(pass_on::BACKLOG);
    let (news, changed) = mpsc::unbounded_channel();
    let triggers = Triggers { store: store.clone(), queues: queues.clone() };
    let metrics = Arc::new(Metrics::default());
    let world = Arc::new(World {
        store,
        souls: Souls::new(Arc::new(Web::default()), news.clone()),
        gateways: Gateways::new(Arc::new(Network), metrics.clone(), news),
        heartbeats: Heartbeats::default(),
    });
    let tokens = Arc::new(Tokens::default());
    let probes = Arc::new(Probes { synced: AtomicBool::new(false), metrics: Arc::clone(&metrics) });
    let api = Api {
        world: Arc::clone(&world),
        tokens: Arc::clone(&tokens),
        limits: Limits::default(),
        due,
        probes: Arc::clone(&probes),
    };

    let mut until_stop = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let stop = shutdown.clone().cancelled_owned();
        parts.spawn(async move {
            tokio::select! { biased; () = stop => {}, () = work => {} }
        });
    };
    let people = Arc::new(People::new(Arc::clone(&world), access, Arc::clone(&feed), Arc::clone(&probes)));
    let directories = Arc::clone(&world);
    let on_agent = move |agent: &crate::api::Agent, gone: bool| {
        tokens.update(agent, gone);
        feed.update(agent, gone);
        if gone {
            directories.souls.forget(&Key::of(&agent.metadata));
        }
    };
    until_stop(Box::pin(watch::agents(watch::objects(client, agents_writer), triggers.clone(), on_agent)));
    until_stop(Box::pin(watch::boards(watch::objects(client, boards_writer), triggers.clone())));
    // The receiver ends only when the operator does.
    let on_gone = move |gateway| drop(farewells.send(gateway));
    until_stop(Box::pin(watch::gateways(watch::objects(client, gateways_writer), triggers.clone(), on_gone)));
    until_stop(Box::pin({
        let (client, triggers) = (client.clone(), triggers.clone());
        async move { watch::config_maps(&client, triggers).await }
    }));
    until_stop(Box::pin(follow_gateways(changed, triggers)));
    until_stop(Box::pin(count_gateways(Arc::clone(&world), Arc::clone(&metrics))));
    until_stop(Box::pin(pass_on::run(Arc::clone(&world), heard, queues.agents.clone())));
    let api = agents::router(Arc::new(api)).merge(people::router(people)).merge(fleet::router());
    parts.spawn(listen::serve(api_listener, tls, api, shutdown.clone()));
    parts.spawn(listen::serve(probe_listener, None, probes::router(Arc::clone(&probes)), shutdown.clone()));
    parts.spawn(run_controllers(world, (caches, probes), receivers, metrics, shutdown.clone()));
}

struct Receivers {
    agents: UnboundedReceiver<Key>,
    boards: UnboundedReceiver<Key>,
    gateways: UnboundedReceiver<Key>,
    gone: UnboundedReceiver<Gone>,
}

fn queues() -> (Queues, UnboundedSender<Gone>, Receivers) {
    let (agents, agents_rx) = mpsc::unbounded_channel();
    let (boards, boards_rx) = mpsc::unbounded_channel();
    let (gateways, gateways_rx) = mpsc::unbounded_channel();
    let (farewells, gone) = mpsc::unbounded_channel();
    let receivers = Receivers { agents: agents_rx, boards: boards_rx, gateways: gateways_rx, gone };
    (Queues { agents, boards, gateways }, farewells, receivers)
}

/// How long changes of agents are gathered before their board and gateway are looked at.
const GATHER: Duration = Duration::from_millis(500);

async fn run_controllers(
    world: Arc<World<KubeStore>>,
    (caches, probes): (Caches, Arc<Probes>),
    receivers: Receivers,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => return,
        synced = synced(&caches, &probes) => if let Err(error) = synced {
            error!(%error, "a watch ended before it brought what there is");
            return;
        },
    }
    let Caches { agents, boards, gateways } = caches;
    let metrics = || Arc::clone(&metrics);
    let agent = Controller {
        name: "agent",
        cache: agents,
        queue: receivers.agents,
        gather: Duration::ZERO,
        metrics: metrics(),
    };
    let board =
        Controller { name: "board", cache: boards, queue: receivers.boards, gather: GATHER, metrics: metrics() };
    let gateway = Controller {
        name: "agentgateway",
        cache: gateways,
        queue: receivers.gateways,
        gather: GATHER,
        metrics: metrics(),
    };
    let (one, two, three) = (Arc::clone(&world), Arc::clone(&world), Arc::clone(&world));
    futures::join!(
        shutdown.run_until_cancelled(farewell::run(&world, receivers.gone)),
        controllers::run(agent, shutdown.clone(), move |object| {
            let world = Arc::clone(&one);
            async move { Box::pin(agent::reconcile(&world, &object)).await }
        }),
        controllers::run(board, shutdown.clone(), move |object| {
            let world = Arc::clone(&two);
            async move { board::reconcile(&world, &object).await }
        }),
        controllers::run(gateway, shutdown.clone(), move |object| {
            let world = Arc::clone(&three);
            async move { gateway::reconcile(&world, &object).await }
        }),
    );
}

async fn follow_gateways(mut changed: UnboundedReceiver<Changed>, triggers: Triggers<KubeStore>) {
    while let Some(change) = changed.recv().await {
        triggers.changed(&change);
    }
}

/// How often the gateways' figures are taken over into the metrics.
const COUNT: Duration = Duration::from_secs(5);

async fn count_gateways(world: Arc<World<KubeStore>>, metrics: Arc<Metrics>) {
    let mut tick = tokio::time::interval(COUNT);
    loop {
        tick.tick().await;
        let links = world.gateways.links();
        let up = links.iter().filter(|(_, link)| matches!(*link.client().link().borrow(), Link::Up(_))).count();
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
