//! The wait before a failed attempt is retried.

use std::time::Duration;

/// The bounds of the wait of a reconcile, before jitter.
const FIRST_REQUEUE: Duration = Duration::from_secs(1);
const LONGEST_REQUEUE: Duration = Duration::from_mins(5);

/// The wait of a reconcile after the `failures`-th failure in a row, counted from 1: 1 s, doubled per failure up to 5 min, then
/// shortened by up to 50 %.
///
/// `jitter` is that share of the 50 %, from 0 to 1.
#[must_use]
pub fn wait(failures: u32, jitter: f64) -> Duration {
    doubled(FIRST_REQUEUE, LONGEST_REQUEUE, failures).mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}

/// The wait after the `failures`-th failure in a row, counted from 1: `first`, doubled per failure up to `longest`.
#[must_use]
pub fn doubled(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_from_the_first_to_the_longest() {
        let waits = [1, 2, 3, 5, 6, u32::MAX]
            .map(|failures| doubled(Duration::from_secs(2), Duration::from_mins(1), failures).as_secs());
        assert_eq!(waits, [2, 4, 8, 32, 60, 60]);
    }

    #[test]
    fn the_wait_of_a_reconcile_doubles_up_to_five_minutes() {
        assert_eq!(wait(1, 0.0), Duration::from_secs(1));
        assert_eq!(wait(3, 0.0), Duration::from_secs(4));
        assert_eq!(wait(40, 0.0), LONGEST_REQUEUE);
    }

    #[test]
    fn jitter_shortens_the_wait_by_at_most_half() {
        assert_eq!(wait(2, 1.0), Duration::from_secs(1));
        assert_eq!(wait(40, 2.0), LONGEST_REQUEUE / 2);
    }
}
