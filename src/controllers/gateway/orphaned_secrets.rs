//! The device Secrets of an AgentGateway that was deleted without its finalizer: somebody removed the finalizer.
//!
//! No reconcile sees such an AgentGateway, and its device Secret carries a finalizer of Muster. Muster never lists Secrets, so the
//! names come from the last state of the AgentGateway. One that was deleted while no operator ran is found by the Agents and Boards
//! that still refer to it.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tracing::warn;

use super::credentials::SecretHolder;
use crate::backoff;
use crate::controllers::Context;
use crate::controllers::gateway::{credentials, reconcile};
use crate::core::error::ReconcileError;
use crate::core::gateway::cleanup::{DeletedGateway, missing};
use crate::core::objects::Objects;

/// The wait after the first failed release, and the longest wait.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// Closes the connection of a deleted AgentGateway, and releases its device Secrets, unless another AgentGateway uses them.
/// Kubernetes deletes released Secrets with their owner.
///
/// # Errors
/// The request to Kubernetes that failed.
pub async fn release(ctx: &Context, deleted: &DeletedGateway) -> Result<(), ReconcileError> {
    if ctx.state.store.gateway(&deleted.key).is_none() {
        reconcile::close(ctx, &deleted.key);
    }
    let holder = SecretHolder { namespace: &deleted.key.namespace, uid: deleted.uid.as_deref() };
    for name in &deleted.secrets {
        credentials::discard(&ctx.state.store, holder, name).await?;
    }
    Ok(())
}

/// A release that is still to be done.
struct PendingRelease {
    deleted: DeletedGateway,
    failures: u32,
    at: Instant,
}

impl PendingRelease {
    fn now(deleted: DeletedGateway) -> Self {
        Self { deleted, failures: 0, at: Instant::now() }
    }

    fn after_failure(self) -> Self {
        let failures = self.failures.saturating_add(1);
        Self { failures, at: Instant::now() + backoff::doubled(FIRST_WAIT, LONGEST_WAIT, failures), ..self }
    }
}

/// Releases the Secrets of each deleted AgentGateway, and retries until it succeeds. It begins with the AgentGateways that were deleted
/// while no operator ran. The caches must be in sync. Ends with the senders.
pub async fn run(ctx: &Context, mut deleted: UnboundedReceiver<DeletedGateway>) {
    let mut pending: Vec<_> = missing(&ctx.state.store).into_iter().map(PendingRelease::now).collect();
    loop {
        let now = Instant::now();
        for release in std::mem::take(&mut pending) {
            pending.extend(if release.at <= now { attempt(ctx, release).await } else { Some(release) });
        }
        let next = match pending.iter().map(|release| release.at).min() {
            Some(at) => tokio::time::timeout_at(at, deleted.recv()).await,
            None => Ok(deleted.recv().await),
        };
        match next {
            Ok(Some(deleted)) => {
                pending.retain(|release| !release.deleted.is_same_object(&deleted));
                pending.push(PendingRelease::now(deleted));
            }
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

/// Attempts a release. Returns it after a failure.
async fn attempt(ctx: &Context, pending: PendingRelease) -> Option<PendingRelease> {
    let error = release(ctx, &pending.deleted).await.err()?;
    let pending = pending.after_failure();
    let seconds = pending.at.duration_since(Instant::now()).as_secs();
    warn!(gateway = %pending.deleted.key, %error, seconds, "cannot release the device Secret of a deleted AgentGateway");
    Some(pending)
}
