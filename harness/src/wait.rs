//! Waiting for a condition.

use std::time::Duration;

use tokio::time::Instant;

use super::Failure;

/// How often a condition is looked at.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Looks until `condition` gives a value.
///
/// # Errors
/// What it last saw, when `limit` is over.
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
