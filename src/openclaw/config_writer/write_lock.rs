//! Turns at a gateway's config: one write at a time, and not too soon after the last.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

/// How far apart writes are on gateways that lose one of two (2026.3.2; measured: none lost at 1 s).
const APART: Duration = Duration::from_secs(1);

/// Whoever writes to the config or the roster takes a turn.
#[derive(Debug, Default)]
pub(crate) struct WriteLock(Mutex<Option<Instant>>);

/// A turn. The next one begins when it is dropped.
#[derive(Debug)]
pub(crate) struct WriteLockGuard<'a>(MutexGuard<'a, Option<Instant>>);

impl WriteLock {
    /// Waits for a turn; on a gateway that loses writes also for its last one to be kept.
    pub(crate) async fn take(&self, loses_writes: bool) -> WriteLockGuard<'_> {
        let last = self.0.lock().await;
        if let Some(last) = last.filter(|_| loses_writes) {
            tokio::time::sleep_until(last + APART).await;
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
        let turns = WriteLock::default();
        let began = Instant::now();
        for loses in [true, false, true] {
            drop(turns.take(loses).await);
        }
        assert_eq!(began.elapsed(), APART);
    }
}
