//! Waits for a condition.

use std::time::Duration;

use tokio::time::Instant;

use super::Failure;

/// Time between two checks of a condition.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Polls `condition` until it returns a value.
///
/// # Errors
/// `limit` is over. The error has the condition's last error.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, Failure> {
    let end = Instant::now() + limit;
    loop {
        let seen = match condition().await {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if Instant::now() >= end {
            return Err(format!("{what}: not within {} s; last seen: {seen}", limit.as_secs()).into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
