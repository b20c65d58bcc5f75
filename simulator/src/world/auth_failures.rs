//! The failed logins of the single remote address, as the gateway's rate limiter counts them.

use std::time::Duration;

use tokio::time::Instant;

/// The number of failures in the window that locks the address out.
const MAX_FAILURES: usize = 10;
/// The time for which a failed login counts.
const FAILURE_WINDOW: Duration = Duration::from_mins(1);
/// The duration of a lockout.
const LOCKOUT: Duration = Duration::from_mins(5);

/// The failed logins with one kind of credential. Shared credentials and device tokens are counted separately.
#[derive(Debug, Default)]
pub(crate) struct AuthFailures {
    failed: Vec<Instant>,
    locked_until: Option<Instant>,
}

impl AuthFailures {
    /// The rest of the lockout; `None` if the address is not locked out.
    pub(crate) fn locked_for(&mut self) -> Option<Duration> {
        self.drop_expired();
        self.locked_until.map(|until| until - Instant::now())
    }

    /// Records a failed login. During a lockout nothing is recorded.
    pub(crate) fn record(&mut self) {
        self.drop_expired();
        if self.locked_until.is_some() {
            return;
        }
        self.failed.push(Instant::now());
        if self.failed.len() >= MAX_FAILURES {
            self.locked_until = Some(Instant::now() + LOCKOUT);
        }
    }

    /// Records as many failures as a lockout needs.
    pub(crate) fn exhaust(&mut self) {
        for _ in 0..MAX_FAILURES {
            self.record();
        }
    }

    /// Forgets all failures, as after a successful login.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn drop_expired(&mut self) {
        let now = Instant::now();
        if self.locked_until.is_some_and(|until| until <= now) {
            *self = Self::default();
        }
        self.failed.retain(|at| *at + FAILURE_WINDOW > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_failures_in_a_minute_lock_out_for_five_minutes() {
        let mut failures = AuthFailures::default();
        for _ in 0..30 {
            failures.record();
            tokio::time::advance(Duration::from_secs(7)).await;
        }
        assert_eq!(failures.locked_for(), None, "there were never ten in a minute");
        failures.exhaust();
        assert_eq!(failures.locked_for(), Some(LOCKOUT));
        tokio::time::advance(Duration::from_secs(299)).await;
        failures.record();
        assert_eq!(failures.locked_for(), Some(Duration::from_secs(1)), "what fails meanwhile does not count");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(failures.locked_for(), None);
    }
}
