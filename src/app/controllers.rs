//! The controllers as tasks: their queues, the first connections to gateways, and their start after the watches.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::api::ObjectMeta;
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::api::AgentGateway;
use crate::api::object_key::ObjectKey;
use crate::controllers::agent::heartbeat_writer;
use crate::controllers::gateway::{self, named_secrets, orphaned_secrets};
use crate::controllers::runner::{self, Controller};
use crate::controllers::{Context, agent, board};
use crate::core::gateway::cleanup::DeletedGateway;
use crate::core::index::Indexed;
use crate::core::objects::{Coverage, Objects};
use crate::core::requeue::Requeue;
use crate::http::probes::Probes;
use crate::leadership::Standing;
use crate::metrics::Metrics;
use crate::state::Caches;
use crate::state::cache::{Cache, NeverSynced};
use crate::state::late_events::LateEvents;
use crate::state::triggers::{Queues, Trigger};
use crate::state::unreadable::UnreadableEvents;

/// The receivers of the queues.
pub(super) struct Receivers {
    agents: UnboundedReceiver<Trigger>,
    boards: UnboundedReceiver<Trigger>,
    gateways: UnboundedReceiver<Trigger>,
}

pub(super) fn queues() -> (Queues, Receivers) {
    let (agents, agents_rx) = mpsc::unbounded_channel();
    let (boards, boards_rx) = mpsc::unbounded_channel();
    let (gateways, gateways_rx) = mpsc::unbounded_channel();
    (Queues { agents, boards, gateways }, Receivers { agents: agents_rx, boards: boards_rx, gateways: gateways_rx })
}

/// How long changes of agents are batched before their Board and AgentGateway are reconciled.
const BATCH_WINDOW: Duration = Duration::from_millis(500);
/// The largest number of Agents that are reconciled at one time. A gateway serves at most its `maxConcurrentReconciles` of them, and the work queue
/// takes at most 16 new ones of one Board and 128 of all, so that the agents of another gateway wait only behind many gateways that do not answer.
const MAX_AGENT_RECONCILES: usize = 1024;
/// The largest number of Boards, and of AgentGateways, that are reconciled at one time.
const MAX_PARENT_RECONCILES: usize = 64;

/// How long connections are open that were opened before the operator knows all Agents.
const MAX_EARLY: Duration = Duration::from_secs(10);

/// The three controllers and their dependencies.
pub(super) struct Controllers {
    pub(super) ctx: Arc<Context>,
    pub(super) caches: Caches,
    pub(super) probes: Arc<Probes>,
    pub(super) queues: Queues,
    pub(super) receivers: Receivers,
    pub(super) deleted_gateways: UnboundedReceiver<DeletedGateway>,
    pub(super) heartbeats_due: Receiver<ObjectKey>,
    pub(super) unreadable_events: UnreadableEvents,
    pub(super) late_events: LateEvents,
    pub(super) metrics: Arc<Metrics>,
}

impl Controllers {
    /// Runs the controllers after the watches are in sync and this replica leads, until `stop`, and then until the reconciles under way have
    /// ended. The first connections are opened before.
    pub(super) async fn run(mut self, standing: &Standing, stop: &CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            synced = wait_until_synced(&self.caches, &self.probes) => if let Err(error) = synced {
                error!(%error, "the operator stops");
                return;
            },
            never = self.connect_early(standing) => match never {},
        }
        // These AgentGateways are not reconciled.
        self.close_gateways(|namespace| self.ctx.state.store.coverage(namespace) != Coverage::Complete);
        if !standing.may_work() {
            info!("another replica may lead; this one waits");
            if stop.run_until_cancelled(self.discard_until_leading(standing)).await.is_none() {
                return;
            }
            self.enqueue_all();
        }
        Box::pin(self.reconcile_until(stop)).await;
    }

    /// Connects to the gateways that were Ready, while the Agents are still listed: a new Agent after a restart would wait for the connection.
    /// If the lists take long, the connections are closed again, because nothing follows what changes about the gateways meanwhile.
    async fn connect_early(&self, standing: &Standing) -> Infallible {
        if self.caches.gateways.wait_until_synced().await.is_ok() {
            standing.until_leading().await;
            let connect = async |gateway: Arc<AgentGateway>| gateway::connect_early(&self.ctx, &gateway).await;
            stream::iter(self.caches.gateways.all()).for_each_concurrent(MAX_PARENT_RECONCILES, connect).await;
            tokio::time::sleep(MAX_EARLY).await;
            self.close_gateways(|_| true);
        }
        std::future::pending().await
    }

    /// Closes the connections to the gateways of some namespaces.
    fn close_gateways(&self, is_closed: impl Fn(&str) -> bool) {
        for (key, _) in self.ctx.gateways.handles().into_iter().filter(|(key, _)| is_closed(&key.namespace)) {
            gateway::close(&self.ctx, &key);
        }
    }

    /// Forgets what is to do while another replica does it.
    async fn discard_until_leading(&mut self, standing: &Standing) {
        let mut leading = std::pin::pin!(standing.until_leading());
        loop {
            // All branches are cancel-safe: a watch and channels, which are open as long as the watches.
            tokio::select! {
                biased;
                () = &mut leading => return,
                Some(_) = self.receivers.agents.recv() => {}
                Some(_) = self.receivers.boards.recv() => {}
                Some(_) = self.receivers.gateways.recv() => {}
                Some(_) = self.deleted_gateways.recv() => {}
            }
        }
    }

    /// Enqueues all objects, as after a restart.
    fn enqueue_all(&self) {
        fn enqueue<K: Indexed>(cache: &Cache<K>, queue: &UnboundedSender<Trigger>) {
            for object in cache.all() {
                // The receiver is open.
                let _ = queue.send(ObjectKey::of(object.meta()).into());
            }
        }
        enqueue(&self.caches.gateways, &self.queues.gateways);
        enqueue(&self.caches.boards, &self.queues.boards);
        enqueue(&self.caches.agents, &self.queues.agents);
    }

    async fn reconcile_until(self, stop: &CancellationToken) {
        let Self { ctx, caches, queues, receivers, deleted_gateways, metrics, .. } = self;
        let (heartbeats_due, unreadable_events, late_events) =
            (self.heartbeats_due, self.unreadable_events, self.late_events);
        metrics.set_leading(true);
        let agents = Controller {
            name: "agent",
            cache: caches.agents,
            queue: receivers.agents,
            window: Duration::ZERO,
            first_at_once: false,
            concurrency: MAX_AGENT_RECONCILES,
            metrics: Arc::clone(&metrics),
        };
        let boards = Controller {
            name: "board",
            cache: caches.boards,
            queue: receivers.boards,
            window: BATCH_WINDOW,
            first_at_once: false,
            concurrency: MAX_PARENT_RECONCILES,
            metrics: Arc::clone(&metrics),
        };
        let gateways = Controller {
            name: "agentgateway",
            cache: caches.gateways,
            queue: receivers.gateways,
            window: BATCH_WINDOW,
            // The settled Agents wait for the connection of their gateway.
            first_at_once: true,
            concurrency: MAX_PARENT_RECONCILES,
            metrics,
        };
        let (for_agents, for_boards, for_gateways) = (Arc::clone(&ctx), Arc::clone(&ctx), Arc::clone(&ctx));
        let ended = CancellationToken::new();
        let work = async {
            futures::join!(
                stop.run_until_cancelled(orphaned_secrets::run(&ctx, deleted_gateways)),
                stop.run_until_cancelled(named_secrets::run(&ctx.state.store, &queues.gateways)),
                stop.run_until_cancelled(unreadable_events.publish(&ctx.state.store)),
                heartbeat_writer::run(Arc::clone(&ctx.state), heartbeats_due, queues.agents, stop.clone()),
                runner::run(agents, stop.clone(), move |object| {
                    let ctx = Arc::clone(&for_agents);
                    async move { in_full_view(&ctx, &object.metadata, Box::pin(agent::reconcile(&ctx, &object))).await }
                }),
                runner::run(boards, stop.clone(), move |object| {
                    let ctx = Arc::clone(&for_boards);
                    async move { in_full_view(&ctx, &object.metadata, Box::pin(board::reconcile(&ctx, &object))).await }
                }),
                runner::run(gateways, stop.clone(), move |object| {
                    let ctx = Arc::clone(&for_gateways);
                    async move { in_full_view(&ctx, &object.metadata, Box::pin(gateway::reconcile(&ctx, &object))).await }
                }),
            );
            ended.cancel();
        };
        futures::join!(work, late_events.write(&ended));
    }
}

/// Does a reconcile if the operator knows all objects of the object's namespace: an object that is not in its cache counts as absent. The
/// API server may refuse the list of one kind, or bring one list later than another.
async fn in_full_view(ctx: &Context, meta: &ObjectMeta, reconcile: impl Future<Output = Requeue>) -> Requeue {
    match ctx.state.store.coverage(meta.namespace.as_deref().unwrap_or_default()) {
        Coverage::Complete => reconcile.await,
        Coverage::NotWatched | Coverage::Refused => Requeue::retry(),
    }
}

/// Waits until the caches are complete, and sets the readiness probe. A namespace that the API server refuses does not hold up the others:
/// the log names it, and its objects wait.
async fn wait_until_synced(caches: &Caches, probes: &Probes) -> Result<(), NeverSynced> {
    caches.agents.wait_until_synced().await?;
    caches.boards.wait_until_synced().await?;
    caches.gateways.wait_until_synced().await?;
    // A reader of the log may ask the API at once.
    probes.synced.store(true, Ordering::Relaxed);
    info!("the watches are in sync");
    Ok(())
}
