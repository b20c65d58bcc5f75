//! The token Secrets that were read or written a moment ago.
//!
//! An agent that is set up is reconciled several times, among a thousand others within half a minute, and each reconcile needs its token.
//! Secrets are never watched, so a change of a Secret is noticed with the next read in any case.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use tokio::time::Instant;

use crate::api::object_key::ObjectKey;

/// How long a Secret is as good as a new read.
const RECENT: Duration = Duration::from_secs(30);
/// The largest number of reads and writes whose Secrets are kept. A restart reads the Secrets of all Agents, and a Secret takes 4 KiB.
const MAX_SECRETS: usize = 2048;

/// The token Secrets of the last 2,048 reads and writes, if these were within the last 30 seconds.
#[derive(Default)]
pub struct RecentSecrets {
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    secrets: HashMap<ObjectKey, (Instant, Arc<Secret>)>,
    /// The keys of the Secrets in the order of their times. A key stays when its Secret is forgotten, or is read or written again.
    order: VecDeque<(Instant, ObjectKey)>,
}

impl Recent {
    /// Removes the oldest Secrets as long as `is_over` holds for the time of the oldest one and for the number of reads and writes.
    fn trim(&mut self, is_over: impl Fn(Instant, usize) -> bool) {
        while let Some((at, key)) = self.order.front().cloned().filter(|(at, _)| is_over(*at, self.order.len())) {
            self.order.pop_front();
            if self.secrets.get(&key).is_some_and(|(latest, _)| *latest == at) {
                self.secrets.remove(&key);
            }
        }
    }
}

impl fmt::Debug for RecentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentSecrets").finish_non_exhaustive()
    }
}

impl RecentSecrets {
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Secret that was read or written a moment ago.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Secret>> {
        let recent = self.recent();
        recent.secrets.get(key).filter(|(at, _)| at.elapsed() < RECENT).map(|(_, secret)| Arc::clone(secret))
    }

    /// Records a Secret that was read or written now.
    pub fn insert(&self, key: ObjectKey, secret: Arc<Secret>) {
        let (mut recent, now) = (self.recent(), Instant::now());
        recent.order.push_back((now, key.clone()));
        recent.secrets.insert(key, (now, secret));
        recent.trim(|_, entries| entries > MAX_SECRETS);
    }

    /// Removes a Secret, so that it is read again.
    pub fn forget(&self, key: &ObjectKey) {
        self.recent().secrets.remove(key);
    }

    /// Removes the Secrets that are no longer recent.
    pub fn sweep(&self) {
        let mut recent = self.recent();
        recent.trim(|at, _| at.elapsed() >= RECENT);
        recent.secrets.shrink_to_fit();
        recent.order.shrink_to_fit();
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
        let all = recent.recent();
        assert!(all.secrets.is_empty() && all.order.is_empty(), "no token stays in memory");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_their_number_the_secrets_that_were_read_or_written_last_stay() {
        let (recent, key) = (RecentSecrets::default(), |number: usize| ObjectKey::new("fleet", number.to_string()));
        for number in (0..MAX_SECRETS).chain([0]) {
            recent.insert(key(number), Arc::default());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let is_recent = |number: usize| recent.get(&key(number)).is_some();
        assert!(is_recent(0), "it was read again");
        recent.insert(key(MAX_SECRETS), Arc::default());
        assert!(!is_recent(1) && is_recent(2));
    }
}
