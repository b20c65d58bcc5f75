//! What the operator does every few seconds: the metrics of the gateways and the watches, places that nobody took, and old Secrets.

use std::sync::Arc;
use std::time::Duration;

use crate::api::AgentGateway;
use crate::api::object_key::ObjectKey;
use crate::controllers::Context;
use crate::metrics::{GatewayState, Metrics};
use crate::openclaw::GatewayClient;
use crate::openclaw::model::ConnectionState;
use crate::state::Caches;
use crate::state::cache::Cache;
use crate::state::watch_health::WatchHealth;

/// How often metrics of the gateways and the watches are updated, untaken places given on, and Secrets removed that are no longer recent.
const INTERVAL: Duration = Duration::from_secs(5);

/// What the housekeeping looks at.
pub(super) struct Housekeeping {
    ctx: Arc<Context>,
    gateways: Cache<AgentGateway>,
    watches: WatchHealth,
    metrics: Arc<Metrics>,
}

impl Housekeeping {
    pub(super) fn new(ctx: &Arc<Context>, caches: &Caches, watches: WatchHealth, metrics: &Arc<Metrics>) -> Self {
        Self { ctx: Arc::clone(ctx), gateways: caches.gateways.clone(), watches, metrics: Arc::clone(metrics) }
    }

    /// Never ends.
    pub(super) async fn run(self) {
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tick.tick().await;
            self.ctx.gateways.wake_overdue();
            self.ctx.state.recent_secrets.sweep();
            for (kind, lost) in self.watches.lost_by_kind() {
                self.metrics.set_watch_lost(&kind, lost);
            }
            let gateways = self.gateways.all();
            let counted = gateways.iter().filter(|gateway| !gateway.spec.suspend);
            self.metrics.set_gateways(counted.map(|gateway| self.gateway(ObjectKey::of(&gateway.metadata))).collect());
        }
    }

    fn gateway(&self, key: ObjectKey) -> GatewayState {
        let handle = self.ctx.gateways.handle(&key);
        let client = handle.as_ref().map(|handle| handle.client());
        GatewayState {
            namespace: key.namespace,
            name: key.name,
            has_client: client.is_some(),
            is_up: client.is_some_and(|client| matches!(*client.connection().borrow(), ConnectionState::Up(_))),
            writes_waiting: client.map_or(0, |client| client.config_writes().borrow().pending.len()),
            budget_left: client.and_then(GatewayClient::config_write_budget),
        }
    }
}
