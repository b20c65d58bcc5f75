//! How long to wait before something that failed on the gateway is tried again.

use std::time::Duration;

/// The wait after the `failures`-th failure in a row, from 1: the first of `waits`, doubled each time up to the second.
pub(crate) fn doubled(waits: (Duration, Duration), failures: u32) -> Duration {
    waits.0.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(waits.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

    #[test]
    fn the_wait_doubles_from_the_first_to_the_longest() {
        let waits = [1, 2, 3, 5, 6, u32::MAX].map(|failures| doubled(WAITS, failures).as_secs());
        assert_eq!(waits, [2, 4, 8, 32, 60, 60]);
    }
}
