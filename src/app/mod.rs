//! The operator: the composition of its parts.

mod connection;
mod controllers;
mod listeners;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::connection::Connection;
use self::controllers::{Controllers, queues};
use self::listeners::{AppError, Listeners};
use self::tasks::Tasks;
use crate::address::networks::GatewayNetworks;
use crate::address::proxy::{NoProxy, ProxyRules};
use crate::address::resolve::SystemResolver;
use crate::api::Agent;
use crate::api::watched_namespaces::WatchedNamespaces;
use crate::controllers::Context;
use crate::controllers::agent::heartbeat_writer;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::controllers::gateway_pool::GatewayPool;
use crate::core::gateway::transport::ServedApi;
use crate::http::api::AgentApi;
use crate::http::change_feed::ChangeFeed;
use crate::http::people::PeopleApi;
use crate::http::probes::{self, Probes};
use crate::http::rate_limit::RateLimits;
use crate::http::router;
use crate::metrics::Metrics;
use crate::openclaw::model::ConnectionState;
use crate::openclaw::{DialRules, Network};
use crate::options::{LogFormat, RunOptions};
use crate::souls::directories::SoulDirectories;
use crate::souls::http_client::HttpClient;
use crate::state::cache::cache;
use crate::state::changes::GatewayChange;
use crate::state::kube_authz::KubeAccess;
use crate::state::kube_store::KubeStore;
use crate::state::tokens::TokenTable;
use crate::state::triggers::Triggers;
use crate::state::{Caches, State, unreadable, watch};

/// How long open reconciles may take after a signal to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

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
    // kube logs each refusal of a watch itself, in full. `state::watch_retries` says it shorter and less often.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn,kube_runtime=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

async fn run(options: &RunOptions) -> Result<(), AppError> {
    // The directory first: a second operator on it is told so, and not of its ports.
    let Connection { client, authz, in_pod, embedded } = Connection::open(options).await?;
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
    let app = App {
        client,
        namespaces: options.namespaces.clone().unwrap_or_default(),
        authz,
        network,
        change_feed: Arc::new(ChangeFeed::new(format!("{:x}", getrandom::u64()?), shutdown.clone())),
        listeners,
        served_api: ServedApi {
            default_url: options.api_url.clone().or_else(|| embedded.as_ref().map(|_| format!("http://{api}"))),
            https_only: options.listen.tls_cert_file.is_some(),
        },
        shutdown: shutdown.clone(),
    };
    let mut tasks = app.start();
    if let Some(embedded) = embedded {
        embedded.start(&mut tasks, shutdown.clone());
    }
    let mut tasks = tasks.set;
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

/// The parts of the operator before its start.
struct App {
    client: Client,
    namespaces: WatchedNamespaces,
    authz: KubeAccess,
    network: Network,
    change_feed: Arc<ChangeFeed>,
    listeners: Listeners,
    served_api: ServedApi,
    shutdown: CancellationToken,
}

impl App {
    /// Spawns every task: the watches, the triggers, the controllers, the servers.
    fn start(self) -> Tasks {
        let Self { client, namespaces, authz, network, change_feed, listeners, served_api, shutdown } = self;
        let (agents, agent_writers) = cache(&namespaces);
        let (boards, board_writers) = cache(&namespaces);
        let (gateways, gateway_writers) = cache(&namespaces);
        let caches = Caches { agents, boards, gateways };
        let (queues, receivers) = queues();
        let (due, heartbeats_due) = mpsc::channel(heartbeat_writer::BACKLOG);
        let (changes, gateway_changes) = mpsc::unbounded_channel();
        let (deleted_gateways, deleted_rx) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::default());
        let store = KubeStore::new(client.clone(), caches.clone(), namespaces.clone());
        let triggers = Triggers { objects: store.clone(), queues: queues.clone() };
        let state = Arc::new(State::new(store));
        let ctx = Arc::new(Context {
            state: Arc::clone(&state),
            souls: SoulDirectories::new(Arc::new(HttpClient::default()), changes.clone()),
            gateways: GatewayPool::new(Arc::new(network), metrics.clone(), changes, state.inventories.clone()),
            served_api,
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
        let router = router::router(Arc::new(api), Arc::new(people), listeners.tokens);

        let mut tasks = Tasks::new(shutdown.clone());
        if let Some(certificate) = listeners.reloaded {
            tasks.until_shutdown(async move { certificate.watch_files().await });
        }
        let on_agent = on_agent(Arc::clone(&ctx), tokens, change_feed);
        // The receiver is open until the operator stops.
        let on_deleted = move |gateway| drop(deleted_gateways.send(gateway));
        let (agents, boards) = (watch::objects(&client, agent_writers), watch::objects(&client, board_writers));
        let gateways = watch::objects(&client, gateway_writers);
        let (unreadables, unreadable_events) = unreadable::reports();
        tasks.until_shutdown(watch::agents(agents, triggers.clone(), unreadables.clone(), on_agent));
        tasks.until_shutdown(watch::boards(boards, triggers.clone(), unreadables.clone()));
        tasks.until_shutdown(watch::gateways(gateways, triggers.clone(), unreadables, on_deleted));
        let events = Arc::clone(&ctx.state);
        tasks.until_shutdown(async move { unreadable_events.publish(&events.store).await });
        let config_maps = triggers.clone();
        tasks.until_shutdown(async move { watch::config_maps(&client, &namespaces, config_maps).await });
        tasks.until_shutdown(follow_gateways(gateway_changes, triggers));
        tasks.until_shutdown(keep_house(Arc::clone(&ctx), Arc::clone(&metrics)));
        tasks.until_shutdown(heartbeat_writer::run(Arc::clone(&ctx.state), heartbeats_due, queues.agents));
        tasks.past_shutdown(listeners.api.serve(router, shutdown.clone()));
        tasks.past_shutdown(listeners.probes.serve(probes::router(Arc::clone(&probes)), shutdown.clone()));
        tasks.past_shutdown(listeners.metrics.serve(probes::metrics_router(Arc::clone(&metrics)), shutdown.clone()));
        let controllers =
            Controllers { ctx, caches, probes, receivers, deleted_gateways: deleted_rx, metrics, shutdown };
        tasks.past_shutdown(controllers.run());
        tasks
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
