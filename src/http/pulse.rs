//! The sign that a runtime runs its tasks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the pulse beats.
const INTERVAL: Duration = Duration::from_secs(1);

/// A task beats, and another thread measures the time since the last beat. The time grows when no thread of the runtime runs the task, because
/// all of them are blocked.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// The time of the last beat, in milliseconds after the origin.
    last_beat: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { origin: Instant::now(), last_beat: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// Beats once a second, for ever.
    pub async fn beat(&self) {
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tick.tick().await;
            let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_beat.store(now, Ordering::Relaxed);
        }
    }

    /// The time since the last beat, or since the start.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.origin.elapsed().saturating_sub(Duration::from_millis(self.last_beat.load(Ordering::Relaxed)))
    }

    /// A pulse that began a while ago and never beat.
    #[cfg(test)]
    pub(super) fn silent_for(silence: Duration) -> Option<Self> {
        Some(Self { origin: Instant::now().checked_sub(silence)?, last_beat: AtomicU64::new(0) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_pulse_is_silent_while_every_thread_of_the_runtime_is_blocked() {
        let silence = Duration::from_secs(20);
        let pulse = Arc::new(Pulse::silent_for(silence).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move {
            begun.send(()).unwrap();
            // It blocks the only thread.
            let _ = released.recv();
        });
        has_begun.recv().unwrap();
        let beating = Arc::clone(&pulse);
        runtime.spawn(async move { beating.beat().await });
        assert!(pulse.silence() >= silence);
        drop(release);
        let limit = Instant::now() + Duration::from_secs(20);
        while pulse.silence() >= silence {
            assert!(Instant::now() < limit, "no beat after the thread was free");
            std::thread::yield_now();
        }
        runtime.shutdown_background();
    }
}
