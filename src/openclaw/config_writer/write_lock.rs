//! The lock for writes to a gateway's config and roster: one write at a time.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

/// The interval of writes on gateways that lose one of two concurrent writes: 2026.3.2 loses none at 1 s
/// (`docs/gateway-facts.md#lost-writes`).
const MIN_WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The lock, with the time of the last write.
#[derive(Debug, Default)]
pub(crate) struct WriteLock(Mutex<Option<Instant>>);

/// The held lock. Its drop is the time of the write.
#[derive(Debug)]
pub(crate) struct WriteLockGuard<'a>(MutexGuard<'a, Option<Instant>>);

impl WriteLock {
    /// Waits for the lock, and on a gateway that loses writes for the interval after the last write.
    pub(crate) async fn take(&self, loses_writes: bool) -> WriteLockGuard<'_> {
        let last = self.0.lock().await;
        if let Some(last) = last.filter(|_| loses_writes) {
            tokio::time::sleep_until(last + MIN_WRITE_INTERVAL).await;
        }
        WriteLockGuard(last)
    }
}

impl Drop for WriteLockGuard<'_> {
    fn drop(&mut self) {
        *self.0 = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_are_apart_where_one_of_two_would_be_lost() {
        let lock = WriteLock::default();
        let began = Instant::now();
        for loses in [true, false, true] {
            drop(lock.take(loses).await);
        }
        assert_eq!(began.elapsed(), MIN_WRITE_INTERVAL);
    }
}
