//! The tasks of the operator, and their end.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tasks of the operator. None of them ends before the shutdown.
#[derive(Debug)]
pub struct Tasks {
    pub(super) set: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Self { set: JoinSet::new(), shutdown }
    }

    /// Spawns a task that is dropped at the shutdown.
    pub(super) fn until_shutdown(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.shutdown.clone();
        self.set.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    }

    /// Spawns a task that handles the shutdown and ends after it.
    pub(super) fn past_shutdown(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(task);
    }
}
