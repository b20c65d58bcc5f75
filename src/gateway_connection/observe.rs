//! The wait for what a gateway shows of itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::openclaw::GatewayClient;
use crate::openclaw::model::{ConnectionState, Inventory, ReadFailure};

/// What a client has seen of its gateway.
#[derive(Clone, Debug)]
pub(crate) struct GatewayView {
    /// The state of the connection.
    pub(crate) connection: ConnectionState,
    /// Its roster and config, if they were read.
    pub(crate) inventory: Option<Arc<Inventory>>,
    /// The failure to read them, while reads fail repeatedly.
    pub(crate) read_failure: Option<Arc<ReadFailure>>,
}

impl GatewayView {
    /// What a client has seen up to now.
    pub(crate) fn of(client: &GatewayClient) -> Self {
        Self {
            connection: client.connection().borrow().clone(),
            inventory: client.inventory().borrow().clone(),
            read_failure: client.read_failure().borrow().clone(),
        }
    }
}

/// Calls `decide` at each change until it returns something. `None` after the limit.
pub(crate) async fn observe<T>(
    client: &GatewayClient,
    limit: Duration,
    mut decide: impl FnMut(&GatewayView) -> Option<T>,
) -> Option<T> {
    let (mut connection, mut inventory, mut failure) = (client.connection(), client.inventory(), client.read_failure());
    let end = Instant::now() + limit;
    loop {
        // A change after this is seen below.
        connection.mark_unchanged();
        inventory.mark_unchanged();
        failure.mark_unchanged();
        if let Some(outcome) = decide(&GatewayView::of(client)) {
            return Some(outcome);
        }
        // Each branch is cancel-safe: watches and a timer.
        tokio::select! {
            biased;
            changed = inventory.changed() => changed.ok()?,
            changed = connection.changed() => changed.ok()?,
            changed = failure.changed() => changed.ok()?,
            () = tokio::time::sleep_until(end) => return None,
        }
    }
}
