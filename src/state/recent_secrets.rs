//! The token Secrets that were read or written a moment ago.
//!
//! An agent that is set up is reconciled several times, among a thousand others within half a minute, and each reconcile needs its token.
//! Secrets are never watched, so a change of a Secret is noticed with the next read in any case.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use tokio::time::Instant;

use crate::api::object_key::ObjectKey;

/// How long a Secret is as good as a new read.
const RECENT: Duration = Duration::from_secs(30);

/// The token Secrets that were read or written within the last 30 seconds.
#[derive(Default)]
pub struct RecentSecrets {
    secrets: Mutex<HashMap<ObjectKey, (Instant, Arc<Secret>)>>,
}

impl fmt::Debug for RecentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentSecrets").finish_non_exhaustive()
    }
}

impl RecentSecrets {
    fn secrets(&self) -> MutexGuard<'_, HashMap<ObjectKey, (Instant, Arc<Secret>)>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Secret that was read or written a moment ago.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Secret>> {
        let secrets = self.secrets();
        secrets.get(key).filter(|(at, _)| at.elapsed() < RECENT).map(|(_, secret)| Arc::clone(secret))
    }

    /// Records a Secret that was read or written now.
    pub fn insert(&self, key: ObjectKey, secret: Arc<Secret>) {
        self.secrets().insert(key, (Instant::now(), secret));
    }

    /// Removes a Secret, so that it is read again.
    pub fn forget(&self, key: &ObjectKey) {
        self.secrets().remove(key);
    }

    /// Removes the Secrets that are no longer recent.
    pub fn sweep(&self) {
        let mut secrets = self.secrets();
        secrets.retain(|_, (at, _)| at.elapsed() < RECENT);
        secrets.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_recent_for_half_a_minute_and_then_forgotten() {
        let (recent, key) = (RecentSecrets::default(), ObjectKey::new("fleet", "one-token"));
        recent.insert(key.clone(), Arc::default());
        tokio::time::advance(RECENT / 2).await;
        recent.sweep();
        assert!(recent.get(&key).is_some());
        tokio::time::advance(RECENT / 2).await;
        assert!(recent.get(&key).is_none());
        recent.sweep();
        assert!(recent.secrets().is_empty(), "no token stays in memory");
    }
}
