//! The operator without its surroundings: the watches, the triggers, the controllers and the routes of the HTTP API, over a client of
//! Kubernetes, a clock, and ways to gateways and soul directories. `super::run` passes the real ones, and a test passes ones that it controls.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use kube::Client;
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver};
use tokio_util::sync::CancellationToken;

use super::api_meter::ApiMeter;
use super::controllers::{Controllers, queues};
use super::fenced_dial::FencedDial;
use super::housekeeping::Housekeeping;
use super::leader_work::LeaderWork;
use super::object_meter::counted;
use super::tasks::Tasks;
use crate::api::Agent;
use crate::api::object_key::ObjectKey;
use crate::api::watched_namespaces::WatchedNamespaces;
use crate::controllers::Context;
use crate::controllers::agent::heartbeat_writer;
use crate::controllers::gateway_pool::GatewayPool;
use crate::core::gateway::transport::ServedApi;
use crate::http::api::AgentApi;
use crate::http::change_feed::ChangeFeed;
use crate::http::confidential::HttpTokens;
use crate::http::forward::WayToLeader;
use crate::http::people::PeopleApi;
use crate::http::probes::Probes;
use crate::http::rate_limit::RateLimits;
use crate::http::router;
use crate::metrics::Metrics;
use crate::openclaw::Dial;
use crate::souls::directories::SoulDirectories;
use crate::souls::fetch::Fetch;
use crate::state::cache::cache;
use crate::state::changes::GatewayChange;
use crate::state::kube_authz::KubeAccess;
use crate::state::kube_store::{KubeStore, WallClock};
use crate::state::triggers::Triggers;
use crate::state::watch_health::WatchHealth;
use crate::state::{Caches, State, unreadable, watch};

/// What an operator reaches, and how.
pub struct Surroundings {
    /// Kubernetes, with the operator's account.
    pub client: Client,
    /// The host and the port of the API server, for the metrics.
    pub api_host: String,
    /// The access of people to Kubernetes.
    pub authz: KubeAccess,
    /// Tells the time.
    pub clock: WallClock,
    /// The namespaces in which the operator works.
    pub namespaces: WatchedNamespaces,
    /// Which replica leads, and the way to it.
    pub leader: WayToLeader,
    /// The way to gateways.
    pub dial: Arc<dyn Dial>,
    /// The way to soul directories.
    pub souls: Arc<dyn Fetch>,
    /// The HTTP API for agents, as the operator serves it.
    pub served_api: ServedApi,
    /// Whether people's tokens need TLS.
    pub http_tokens: HttpTokens,
    /// The name of this run, in the positions of its change feed.
    pub run_id: String,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// A running operator. Dropping it ends its tasks at once, as a crash does.
#[derive(Debug)]
pub struct Operator {
    /// The handles of the reconciles.
    pub ctx: Arc<Context>,
    /// The HTTP API for agents and for people, and the fleet page.
    pub router: Router,
    /// The state of the probes, with the metrics.
    pub probes: Arc<Probes>,
    /// What the leader alone does.
    pub work: LeaderWork,
    /// The tasks.
    pub tasks: Tasks,
}

impl Operator {
    /// Spawns every task: the watches, the triggers, the controllers, which wait until this replica leads. They end after `shutdown`.
    #[must_use]
    pub fn start(surroundings: Surroundings, shutdown: &CancellationToken) -> Self {
        let namespaces = surroundings.namespaces;
        let (agents, agent_writers) = cache(&namespaces);
        let (boards, board_writers) = cache(&namespaces);
        let (gateways, gateway_writers) = cache(&namespaces);
        let caches = Caches { agents, boards, gateways };
        let (queues, receivers) = queues();
        let (due, heartbeats_due) = mpsc::channel(heartbeat_writer::BACKLOG);
        let (changes, gateway_changes) = mpsc::unbounded_channel();
        let (deleted_gateways, deleted_rx) = mpsc::unbounded_channel();
        let (metrics, watches) = (Arc::new(Metrics::default()), WatchHealth::default());
        let host = surroundings.api_host.into();
        let meter = ApiMeter { host, metrics: Arc::clone(&metrics), watches: watches.clone() };
        let client = meter.metered(surroundings.client);
        let (store, late_events) =
            KubeStore::new(client.clone(), caches.clone(), namespaces.clone(), surroundings.clock);
        let triggers = Triggers { objects: store.clone(), queues: queues.clone() };
        let state = Arc::new(State::new(store));
        let standing = surroundings.leader.standing.clone();
        let dial = Arc::new(FencedDial { dial: surroundings.dial, standing: standing.clone() });
        let ctx = Arc::new(Context {
            state: Arc::clone(&state),
            souls: SoulDirectories::new(surroundings.souls, changes.clone()),
            gateways: GatewayPool::new(dial, metrics.clone(), changes, state.inventories.clone()),
            served_api: surroundings.served_api,
        });
        let served = Served {
            change_feed: Arc::new(ChangeFeed::new(surroundings.run_id, shutdown.clone())),
            probes: Arc::new(Probes::new(Arc::clone(&metrics), watches.clone())),
        };
        let router = served.router(state, due, surroundings.authz, surroundings.leader, surroundings.http_tokens);

        let mut tasks = Tasks::new(shutdown.clone());
        let Served { change_feed, probes } = served;
        let on_agent = on_agent(Arc::clone(&ctx), change_feed);
        // The receiver is open until the operator stops.
        let on_deleted = move |gateway| drop(deleted_gateways.send(gateway));
        let agents = counted(watch::objects(&client, agent_writers, &watches), &metrics);
        let boards = counted(watch::objects(&client, board_writers, &watches), &metrics);
        let gateways = counted(watch::objects(&client, gateway_writers, &watches), &metrics);
        let (unreadables, unreadable_events) = unreadable::reports();
        tasks.until_shutdown(watch::agents(agents, triggers.clone(), unreadables.clone(), on_agent));
        tasks.until_shutdown(watch::boards(boards, triggers.clone(), unreadables.clone()));
        tasks.until_shutdown(watch::gateways(gateways, triggers.clone(), unreadables, on_deleted));
        let (config_maps, health) = (triggers.clone(), watches.clone());
        tasks.until_shutdown(async move { watch::config_maps(&client, &namespaces, config_maps, &health).await });
        tasks.until_shutdown(follow_gateways(gateway_changes, triggers));
        tasks.until_shutdown(Housekeeping::new(&ctx, &caches, watches, &metrics).run());
        tasks.until_shutdown(Arc::clone(&probes).beat());
        let controllers = Controllers {
            ctx: Arc::clone(&ctx),
            caches,
            probes: Arc::clone(&probes),
            queues,
            receivers,
            deleted_gateways: deleted_rx,
            heartbeats_due,
            unreadable_events,
            late_events,
            metrics,
        };
        let work = LeaderWork::new(shutdown);
        tasks.past_shutdown(work.run(standing, controllers));
        Self { ctx, router, probes, work, tasks }
    }
}

/// What the routes read, and the watches and controllers keep.
struct Served {
    change_feed: Arc<ChangeFeed>,
    probes: Arc<Probes>,
}

impl Served {
    /// The APIs and the page.
    fn router(
        &self,
        state: Arc<State>,
        due: Sender<ObjectKey>,
        authz: KubeAccess,
        leader: WayToLeader,
        http_tokens: HttpTokens,
    ) -> Router {
        let api = AgentApi {
            state: Arc::clone(&state),
            limits: RateLimits::default(),
            due,
            probes: Arc::clone(&self.probes),
        };
        let people = PeopleApi::new(state, authz, Arc::clone(&self.change_feed), Arc::clone(&self.probes));
        router::router(Arc::new(api), Arc::new(people), leader, http_tokens)
    }
}

/// Updates what is derived from an Agent when the watch reports the Agent.
fn on_agent(ctx: Arc<Context>, change_feed: Arc<ChangeFeed>) -> impl Fn(&Arc<Agent>, bool) {
    move |agent, deleted| {
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
