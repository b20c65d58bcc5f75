//! Which watches are lost, and for how long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The health of all watches. A clone shares it.
///
/// A watch is lost from its first failure until the API server accepts it again. A watch that begins anew brings no event before an object
/// changes, so that the answer to its request counts and not its first event.
#[derive(Clone, Debug, Default)]
pub struct WatchHealth(Arc<Mutex<HashMap<String, Watched>>>);

/// A watch, by the path of its request.
#[derive(Debug)]
struct Watched {
    kind: String,
    lost_since: Option<Instant>,
}

impl WatchHealth {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a watch of a kind, which is not lost.
    pub(crate) fn add(&self, path: &str, kind: &str) {
        self.lock().insert(path.to_owned(), Watched { kind: kind.to_owned(), lost_since: None });
    }

    /// Notes that a watch failed.
    pub(crate) fn failed(&self, path: &str) {
        if let Some(watch) = self.lock().get_mut(path) {
            watch.lost_since.get_or_insert_with(Instant::now);
        }
    }

    /// Notes that the API server accepted the request of a watch, or that no access to it is expected.
    pub fn works(&self, path: &str) {
        if let Some(watch) = self.lock().get_mut(path) {
            watch.lost_since = None;
        }
    }

    /// The kinds, and for how long the watch of each has been lost: the longest time of its namespaces, zero while all work.
    #[must_use]
    pub fn lost_by_kind(&self) -> HashMap<String, Duration> {
        let mut kinds = HashMap::new();
        for watch in self.lock().values() {
            let lost = watch.lost_since.map(|since| since.elapsed()).unwrap_or_default();
            let longest: &mut Duration = kinds.entry(watch.kind.clone()).or_default();
            *longest = lost.max(*longest);
        }
        kinds
    }

    /// The kind of a watch that has been lost for longer than this.
    #[must_use]
    pub fn lost_for(&self, bound: Duration) -> Option<String> {
        self.lost_by_kind().into_iter().filter(|(_, lost)| *lost > bound).map(|(kind, _)| kind).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_lost_from_its_first_failure_until_its_request_is_accepted() {
        let health = WatchHealth::default();
        let (one, other) = ("/apis/muster.dev/v1alpha1/agents", "/api/v1/configmaps");
        health.add(one, "Agent");
        health.add(other, "ConfigMap");
        let bound = Duration::from_mins(2);
        health.failed(one);
        tokio::time::advance(bound).await;
        health.failed(one);
        health.failed(other);
        assert_eq!(health.lost_for(bound), None, "not longer than the bound");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.lost_for(bound).as_deref(), Some("Agent"));
        let lost = health.lost_by_kind();
        assert_eq!((lost["Agent"].as_secs(), lost["ConfigMap"].as_secs()), (121, 1));
        health.works(one);
        assert_eq!(health.lost_for(bound), None);
    }
}
