//! Waits for a condition.

use std::time::Duration;

use tokio::time::Instant;

use super::Failure;

/// The shortest time between two checks of a condition.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The longest time between two checks of a condition. A check may run kubectl, which takes a tenth of a second of processor time.
const LONGEST_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Polls `condition` until it returns a value, less often the longer it takes.
///
/// # Errors
/// `limit` is over. The error has the condition's last error.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        let seen = match condition().await {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if began.elapsed() >= limit {
            return Err(format!("{what}: not within {} s; last seen: {seen}", limit.as_secs()).into());
        }
        tokio::time::sleep(poll_interval(began.elapsed())).await;
    }
}

/// The time until the next check after this time of waiting.
fn poll_interval(waited: Duration) -> Duration {
    (waited / 10).clamp(POLL_INTERVAL, LONGEST_POLL_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_wait_is_checked_less_often() {
        let intervals = [0, 1_000, 5_000, 60_000].map(|ms| poll_interval(Duration::from_millis(ms)).as_millis());
        assert_eq!(intervals, [200, 200, 500, 1_000]);
    }
}
