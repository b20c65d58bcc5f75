//! The failed logins of the one remote address that there is, as a gateway's limiter counts them.

use std::time::Duration;

use tokio::time::Instant;

/// How many logins may fail in the window.
const MAX_FAILURES: usize = 10;
/// How long a failed login counts.
const FAILURE_WINDOW: Duration = Duration::from_mins(1);
/// How long an address that failed too often is refused.
const LOCKOUT: Duration = Duration::from_mins(5);

/// What failed with one kind of credential: shared ones and device tokens are counted apart.
#[derive(Debug, Default)]
pub(crate) struct AuthFailures {
    failed: Vec<Instant>,
    locked_until: Option<Instant>,
}

impl AuthFailures {
    /// How long the address is still refused.
    pub(crate) fn locked_for(&mut self) -> Option<Duration> {
        self.drop_expired();
        self.locked_until.map(|until| until - Instant::now())
    }

    /// One more has failed. While the address is refused nothing is counted.
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

    /// As many have failed as it takes.
    pub(crate) fn exhaust(&mut self) {
        for _ in 0..MAX_FAILURES {
            self.record();
        }
    }

    /// One went well: nothing counts any more.
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
    async fn ten_in_a_minute_are_too_many_for_five() {
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
