//! What the leader alone does, and its end.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::controllers::Controllers;
use crate::leadership::Standing;

/// The work of the leader.
#[derive(Clone, Debug)]
pub struct LeaderWork {
    /// No reconcile begins after this.
    stop: CancellationToken,
    /// What runs is dropped.
    cut_off: CancellationToken,
    /// Nothing runs any more.
    ended: CancellationToken,
}

impl LeaderWork {
    /// Work that ends after `shutdown`, when the reconciles under way have ended.
    pub(super) fn new(shutdown: &CancellationToken) -> Self {
        Self { stop: shutdown.child_token(), cut_off: CancellationToken::new(), ended: CancellationToken::new() }
    }

    /// Runs the controllers while this replica leads. When it loses the right to work, they are dropped at once.
    pub(super) fn run(
        &self,
        standing: Standing,
        controllers: Controllers,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Self { stop, cut_off, ended } = self.clone();
        let metrics = Arc::clone(&controllers.metrics);
        async move {
            let over = async {
                standing.until_leading().await;
                standing.until_over().await;
            };
            tokio::select! {
                biased;
                () = cut_off.cancelled() => info!("the reconciles under way are cut off"),
                () = over => {}
                () = controllers.run(&standing, &stop) => {}
            }
            metrics.set_leading(false);
            ended.cancel();
            // A replica that has lost its Lease passes calls on until its end.
            if !standing.may_work() {
                stop.cancelled().await;
            }
        }
    }

    /// Ends the work: no reconcile begins, and those under way are cut off after `grace`.
    pub async fn end(&self, grace: Duration) {
        self.stop.cancel();
        let _ = tokio::time::timeout(grace, self.ended.cancelled()).await;
        self.cut_off.cancel();
        self.ended.cancelled().await;
    }
}
