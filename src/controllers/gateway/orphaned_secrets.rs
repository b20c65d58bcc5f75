//! What an AgentGateway leaves that goes without our leave: somebody took its finalizer away.
//!
//! No reconcile sees it any more, and its device Secret carries a finalizer of ours. Secrets are never listed, so that the
//! names come from what was last seen of it. What went while no operator ran is found by those who still refer to it.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tracing::warn;

use super::credentials::SecretHolder;
use crate::backoff;
use crate::controllers::Context;
use crate::controllers::gateway::{credentials, reconcile};
use crate::core::error::ReconcileError;
use crate::core::gateway::cleanup::{GoneGateway, missing};
use crate::state::store::Store;

/// How long a farewell that failed waits for the next attempt: the first time, and at most.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// Ends what is open for an AgentGateway that is gone, and lets go of its device Secrets, unless another AgentGateway uses
/// them. Kubernetes deletes them with their owner.
///
/// # Errors
/// The request to Kubernetes that failed.
pub async fn take_leave<S: Store>(ctx: &Context<S>, gone: &GoneGateway) -> Result<(), ReconcileError> {
    if ctx.state.store.gateway(&gone.key).is_none() {
        reconcile::close(ctx, &gone.key);
    }
    let holder = SecretHolder { namespace: &gone.key.namespace, uid: gone.uid.as_deref() };
    for name in &gone.secrets {
        credentials::discard(&ctx.state.store, holder, name).await?;
    }
    Ok(())
}

/// A farewell that is due.
struct Due {
    gone: GoneGateway,
    failures: u32,
    at: Instant,
}

impl Due {
    fn now(gone: GoneGateway) -> Self {
        Self { gone, failures: 0, at: Instant::now() }
    }

    /// After a failure, with a wait that grows.
    fn later(self) -> Self {
        let failures = self.failures.saturating_add(1);
        Self { failures, at: Instant::now() + backoff::doubled(FIRST_WAIT, LONGEST_WAIT, failures), ..self }
    }
}

/// Takes leave of each AgentGateway that goes, and retries until it succeeds; at first of those that went while no operator ran.
/// The caches must be in sync. Ends with the senders.
pub async fn run<S: Store>(ctx: &Context<S>, mut gone: UnboundedReceiver<GoneGateway>) {
    let mut waiting: Vec<_> = missing(&ctx.state.store).into_iter().map(Due::now).collect();
    loop {
        let now = Instant::now();
        for due in std::mem::take(&mut waiting) {
            waiting.extend(if due.at <= now { attempt(ctx, due).await } else { Some(due) });
        }
        let next = match waiting.iter().map(|due| due.at).min() {
            Some(at) => tokio::time::timeout_at(at, gone.recv()).await,
            None => Ok(gone.recv().await),
        };
        match next {
            Ok(Some(gone)) => {
                waiting.retain(|due| !due.gone.is_same_object(&gone));
                waiting.push(Due::now(gone));
            }
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

/// One attempt; what is left to do of it.
async fn attempt<S: Store>(ctx: &Context<S>, due: Due) -> Option<Due> {
    let trouble = take_leave(ctx, &due.gone).await.err()?;
    let due = due.later();
    let seconds = due.at.duration_since(Instant::now()).as_secs();
    warn!(gateway = %due.gone.key, %trouble, seconds, "is gone, and its device Secret could not be let go of yet");
    Some(due)
}
