//! A token bucket, for the bounds on what a gateway sends without being asked.

use std::time::Duration;

use tokio::time::Instant;

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// The tokens of a full bucket.
    pub(crate) burst: u64,
    /// The tokens that return in one minute.
    pub(crate) per_minute: u64,
}

/// A bucket that is full at first and refills at its rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// The missing tokens, as the time until they are back.
    debt: Duration,
    at: Option<Instant>,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, debt: Duration::ZERO, at: None }
    }

    /// Takes `tokens`, if the bucket has them.
    pub(crate) fn take(&mut self, tokens: u64, now: Instant) -> bool {
        let debt = self.debt(now) + self.time_of(tokens);
        if debt > self.time_of(self.rate.burst) {
            return false;
        }
        (self.debt, self.at) = (debt, Some(now));
        true
    }

    /// The time until the bucket has one token.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        (self.debt(now) + self.time_of(1)).saturating_sub(self.time_of(self.rate.burst))
    }

    fn debt(&self, now: Instant) -> Duration {
        self.debt.saturating_sub(self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)))
    }

    /// The time in which `tokens` return.
    fn time_of(&self, tokens: u64) -> Duration {
        Duration::from_nanos(tokens.saturating_mul(60_000_000_000 / self.rate.per_minute.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(Rate { burst: 4, per_minute: 120 });
        let start = Instant::now();
        assert!(bucket.take(4, start) && !bucket.take(1, start));
        assert_eq!(bucket.wait(start), Duration::from_millis(500));
        let later = start + Duration::from_millis(500);
        assert!(bucket.wait(later).is_zero() && bucket.take(1, later) && !bucket.take(1, later));
        assert!(bucket.take(4, start + Duration::from_hours(1)), "the bucket never has more than its burst");
        assert!(!bucket.take(5, start + Duration::from_hours(2)));
    }
}
