//! How long to wait before something that failed is retried.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// The wait of a reconcile after its `failures`-th failure in a row: 1 s, doubled each time up to 5 min, less up to half of it by
/// `jitter` (0 to 1).
#[must_use]
pub fn wait(failures: u32, jitter: f64) -> Duration {
    doubled(FIRST, LONGEST, failures).mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}

/// The wait after the `failures`-th failure in a row: `first`, doubled each time up to `longest`.
#[must_use]
pub fn doubled(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_five_minutes() {
        assert_eq!(wait(1, 0.0), Duration::from_secs(1));
        assert_eq!(wait(3, 0.0), Duration::from_secs(4));
        assert_eq!(wait(40, 0.0), LONGEST);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        assert_eq!(wait(2, 1.0), Duration::from_secs(1));
        assert_eq!(wait(40, 2.0), LONGEST / 2);
    }
}
