//! What an operator knows of a cluster, without its controllers: the caches with their watches, and what is derived from the Agents.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use kube::Client;
use muster::api::Agent;
use muster::api::watched_namespaces::WatchedNamespaces;
use muster::http::change_feed::ChangeFeed;
use muster::state::cache::cache;
use muster::state::kube_store::KubeStore;
use muster::state::triggers::{Queues, Trigger, Triggers};
use muster::state::watch_health::WatchHealth;
use muster::state::{Caches, unreadable, watch};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;

/// The caches of a cluster, which its watches update.
pub(crate) struct Watched {
    cluster: Cluster,
    pub(crate) store: KubeStore,
    pub(crate) feed: Arc<ChangeFeed>,
    /// The revision that the caches have.
    settled: AtomicU64,
    /// Dropping it ends the watches.
    _tasks: JoinSet<()>,
}

impl Watched {
    /// Watches the objects of these namespaces by this client. Returns when the caches have all of them.
    pub(crate) async fn start(cluster: &Cluster, client: &Client, namespaces: &WatchedNamespaces) -> Self {
        let (agents, agent_writers) = cache(namespaces);
        let (boards, board_writers) = cache(namespaces);
        let (gateways, gateway_writers) = cache(namespaces);
        let caches = Caches { agents, boards, gateways };
        let (store, late_events) = KubeStore::new(client.clone(), caches.clone(), namespaces.clone(), cluster.clock());
        let queues = Queues { agents: without_reader(), boards: without_reader(), gateways: without_reader() };
        let triggers = Triggers { objects: store.clone(), queues };
        let (unreadables, _) = unreadable::reports();
        let feed = Arc::new(ChangeFeed::new("b007", CancellationToken::new()));
        let for_feed = Arc::clone(&feed);
        let on_agent = move |agent: &Arc<Agent>, deleted: bool| for_feed.update(agent, deleted);
        let health = WatchHealth::default();
        let agents = watch::objects(client, agent_writers, &health);
        let boards = watch::objects(client, board_writers, &health);
        let gateways = watch::objects(client, gateway_writers, &health);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { late_events.write(&CancellationToken::new()).await });
        tasks.spawn(watch::agents(agents, triggers.clone(), unreadables.clone(), on_agent));
        tasks.spawn(watch::boards(boards, triggers.clone(), unreadables.clone()));
        tasks.spawn(watch::gateways(gateways, triggers, unreadables, drop));
        caches.agents.wait_until_synced().await.unwrap();
        caches.boards.wait_until_synced().await.unwrap();
        caches.gateways.wait_until_synced().await.unwrap();
        Self { cluster: cluster.clone(), store, feed, settled: AtomicU64::default(), _tasks: tasks }
    }

    /// Lets the watches bring all that was written. A millisecond of the paused clock ends when no task has anything to do. No time passes if nothing
    /// was written since the last call, so that no limit refills.
    pub(crate) async fn settle(&self) {
        let list = self.cluster.succeed(Method::GET, "/api/v1/namespaces?limit=1", None);
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        if self.settled.swap(revision, Ordering::Relaxed) != revision {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A queue that nobody reads.
fn without_reader() -> UnboundedSender<Trigger> {
    mpsc::unbounded_channel().0
}
