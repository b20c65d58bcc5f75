//! The retries of a watch that fails, and what the log says about them.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::runtime::watcher::{self, Event};
use tracing::{info, warn};

use super::watch_health::WatchHealth;
use crate::backoff;

/// The wait after the first failure, and the longest wait. There is no jitter: the watches of one operator are few.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The kind and the namespace of a watch, for the log, and its health.
#[derive(Clone, Debug)]
pub(super) struct WatchName {
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    /// The path of its requests.
    pub(super) path: String,
    pub(super) health: WatchHealth,
}

impl WatchName {
    /// Notes a failure. A namespace that the API server refuses is no lost watch: the log names it, and the other namespaces work.
    fn failed(&self, is_refused: bool) {
        if is_refused && self.namespace.is_some() {
            self.health.works(&self.path);
        } else {
            self.health.failed(&self.path);
        }
    }
}

/// The events of a watch, with a wait after each failure that grows with the failures in a row.
///
/// kube's own backoff begins anew with each event, and kube begins each attempt at a list with an event: a list that is refused would be
/// asked for once a second for ever. Here only a complete list or a change of an object ends the failures.
pub(super) fn retried<K>(
    name: WatchName,
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Unpin,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> {
    name.health.add(&name.path, &name.kind);
    let begin = (events, Failures::default(), false);
    stream::unfold((begin, name), |((mut events, mut failures, waits), name)| async move {
        if waits {
            tokio::time::sleep(failures.wait()).await;
        }
        let event = events.next().await?;
        match &event {
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => {
                if failures.end() {
                    info!(kind = name.kind, namespace = name.namespace, "the watch works again");
                }
            }
            Err(error) => {
                name.failed(is_refused(error));
                if failures.add(is_refused(error)) {
                    report(&name, error, &failures);
                }
            }
        }
        let waits = event.is_err();
        Some((event, ((events, failures, waits), name)))
    })
}

/// The failures of a watch in a row.
#[derive(Debug, Default)]
struct Failures {
    number: u32,
    /// Whether the API server refused the last attempt.
    refused: bool,
}

impl Failures {
    /// Adds a failure. Returns whether the log has to say so: for the first failure, a failure of another sort, and then at distances that
    /// double.
    fn add(&mut self, refused: bool) -> bool {
        self.number = self.number.saturating_add(1);
        let is_other = std::mem::replace(&mut self.refused, refused) != refused;
        is_other || self.number.is_power_of_two()
    }

    /// Ends the failures. Returns whether there were any.
    fn end(&mut self) -> bool {
        std::mem::take(self).number > 0
    }

    fn wait(&self) -> Duration {
        backoff::doubled(FIRST_WAIT, LONGEST_WAIT, self.number)
    }
}

/// The answer of the API server in an error.
fn answer(error: &watcher::Error) -> Option<(u16, &str)> {
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::WatchError(status) => return Some((status.code, &status.message)),
        watcher::Error::NoResourceVersion => return None,
    };
    match cause {
        kube::Error::Api(status) => Some((status.code, &status.message)),
        _ => None,
    }
}

/// Whether the operator's account has no right to list or to watch.
pub(super) fn is_refused(error: &watcher::Error) -> bool {
    answer(error).is_some_and(|(code, _)| code == 403)
}

fn report(name: &WatchName, error: &watcher::Error, failures: &Failures) {
    let WatchName { kind, namespace, .. } = name;
    // The message alone: the whole answer would say it three times.
    let text = answer(error).map_or_else(|| error.to_string(), |(_, message)| message.to_owned());
    let (failures, retry_in) = (failures.number, failures.wait().as_secs());
    match namespace {
        Some(namespace) if is_refused(error) => warn!(
            kind,
            namespace,
            error = text,
            failures,
            retry_in,
            "the API server refuses the watch of a namespace, which is retried; grant the Role of deploy/components/namespaced in the \
             namespace, or take the namespace out of --namespaces"
        ),
        namespace => warn!(kind, namespace, error = text, failures, retry_in, "watch failed and is retried"),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use tokio::time::Instant;

    use super::*;

    fn name() -> WatchName {
        let path = "/api/v1/namespaces/team/configmaps".into();
        WatchName { kind: "ConfigMap".into(), namespace: Some("team".into()), path, health: WatchHealth::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_refused_again_and_again_is_asked_for_ever_less_often() {
        // kube begins each attempt at a list with an event, and then asks.
        let attempt = || [Ok::<Event<ConfigMap>, _>(Event::Init), Err(watcher::Error::NoResourceVersion)];
        let events = retried(name(), stream::iter(std::iter::repeat_with(attempt).flatten()));
        let began = Instant::now();
        let failures = events.filter(|event| std::future::ready(event.is_err()));
        let times = failures.map(|_| began.elapsed()).take_while(|time| std::future::ready(time.as_secs() < 600));
        let times: Vec<_> = times.collect().await;
        assert!(times.len() < 30, "{} attempts in 10 minutes", times.len());
        let longest = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max();
        assert!(longest <= Some(Duration::from_secs(30)), "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_is_lost_and_a_namespace_that_is_refused_is_not() {
        let health_after = async |error: watcher::Error| {
            let name = name();
            let health = name.health.clone();
            let events = retried(name, stream::iter([Err::<Event<ConfigMap>, _>(error)]));
            assert_eq!(events.count().await, 1);
            tokio::time::advance(Duration::from_secs(1)).await;
            health.lost_for(Duration::ZERO)
        };
        assert_eq!(health_after(watcher::Error::NoResourceVersion).await.as_deref(), Some("ConfigMap"));
        let refusal = kube::core::Status::failure("no right", "Forbidden").with_code(403);
        assert_eq!(health_after(watcher::Error::WatchError(Box::new(refusal))).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_worked_is_retried_soon() {
        let attempt = || [Ok::<Event<ConfigMap>, _>(Event::InitDone), Err(watcher::Error::NoResourceVersion)];
        let events = retried(name(), stream::iter(std::iter::repeat_with(attempt).flatten()));
        let began = Instant::now();
        assert_eq!(events.take(20).count().await, 20);
        assert_eq!(began.elapsed(), FIRST_WAIT * 9);
    }

    #[test]
    fn the_log_names_a_failure_once_and_then_at_growing_distances() {
        let mut failures = Failures::default();
        let reported: Vec<_> = (1..=20).filter(|_| failures.add(true)).collect();
        assert_eq!(reported, [1, 2, 4, 8, 16]);
        assert!(failures.add(false), "another failure");
        assert!(failures.end() && !failures.end());
        assert!(failures.add(true), "the first of a new row");
    }
}
