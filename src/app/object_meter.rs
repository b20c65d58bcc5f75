//! Counts the objects of a kind by the state of their condition Ready, as the watch reports them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Resource;
use kube::api::ObjectMeta;

use crate::api::condition::Condition;
use crate::api::conditions::find;
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board, ConditionType, Reason};
use crate::metrics::{Metrics, ObjectState};
use crate::state::cache::CacheChange;

/// The state of an object that this version cannot decode.
const UNREADABLE: ObjectState = ObjectState { ready: "Unknown", reason: "Unreadable" };
/// The reason of an object without a condition Ready, and of one whose reason is of another version.
const NO_REASON: &str = "None";
const OTHER_REASON: &str = "Other";

/// A kind whose objects are counted.
pub(super) trait Counted: Resource<DynamicType = ()> {
    /// The name of the kind.
    const KIND: &'static str;
    /// Whether the time from the creation of an object until it is Ready is measured.
    const IS_TIMED: bool = false;

    /// The conditions of an object.
    fn conditions(&self) -> &[Condition];
}

impl Counted for Agent {
    const KIND: &'static str = "Agent";
    const IS_TIMED: bool = true;

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

impl Counted for Board {
    const KIND: &'static str = "Board";

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

impl Counted for AgentGateway {
    const KIND: &'static str = "AgentGateway";

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

/// Counts the objects of one kind. It keeps the state of each object: the last version of a deleted object may never have been counted.
#[derive(Debug)]
struct ObjectMeter {
    metrics: Arc<Metrics>,
    known: HashMap<ObjectKey, KnownObject>,
}

#[derive(Debug)]
struct KnownObject {
    state: ObjectState,
    /// Whether the object had no condition Ready when the watch brought it first, and was not Ready since.
    is_new: bool,
}

impl ObjectMeter {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, known: HashMap::new() }
    }

    /// Counts a change of the watch.
    fn apply<K: Counted>(&mut self, change: &CacheChange<K>) {
        match change {
            CacheChange::Applied { now, .. } => self.put::<K>(now.meta(), state(now.conditions()), now.conditions()),
            CacheChange::Unreadable(unreadable) => self.put::<K>(&unreadable.metadata, UNREADABLE, &[]),
            CacheChange::Deleted(last) => self.remove::<K>(last.meta()),
            CacheChange::UnreadableDeleted { metadata, .. } => self.remove::<K>(metadata),
        }
    }

    fn put<K: Counted>(&mut self, meta: &ObjectMeta, state: ObjectState, conditions: &[Condition]) {
        let before = self.known.get(&ObjectKey::of(meta));
        let was_new = before.map_or(state.reason == NO_REASON, |known| known.is_new);
        let is_ready = state.ready == "True";
        self.metrics.count_object(K::KIND, before.map(|known| known.state), Some(state));
        if K::IS_TIMED
            && was_new
            && is_ready
            && let Some(duration) = ready_after(meta, conditions)
        {
            self.metrics.agent_ready_after(duration);
        }
        self.known.insert(ObjectKey::of(meta), KnownObject { state, is_new: was_new && !is_ready });
    }

    fn remove<K: Counted>(&mut self, meta: &ObjectMeta) {
        let before = self.known.remove(&ObjectKey::of(meta));
        self.metrics.count_object(K::KIND, before.map(|known| known.state), None);
    }
}

/// The changes of a kind, each of which is counted.
pub(super) fn counted<K: Counted, S: Stream<Item = CacheChange<K>>>(
    changes: S,
    metrics: &Arc<Metrics>,
) -> impl Stream<Item = CacheChange<K>> + use<K, S> {
    let mut meter = ObjectMeter::new(Arc::clone(metrics));
    changes.inspect(move |change| meter.apply(change))
}

/// The state of an object with these conditions.
fn state(conditions: &[Condition]) -> ObjectState {
    let Some(ready) = find(conditions, ConditionType::Ready) else {
        return ObjectState { ready: "Unknown", reason: NO_REASON };
    };
    let status = ["True", "False"].into_iter().find(|status| ready.status == *status);
    let reason = Reason::parse(&ready.reason).map_or(OTHER_REASON, Reason::as_str);
    ObjectState { ready: status.unwrap_or("Unknown"), reason }
}

/// The time from the creation of an object until it became Ready.
fn ready_after(meta: &ObjectMeta, conditions: &[Condition]) -> Option<Duration> {
    let ready = find(conditions, ConditionType::Ready)?.last_transition_time.0;
    Some(Duration::try_from(ready.duration_since(meta.creation_timestamp.as_ref()?.0)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::api::conditions::{ConditionUpdate, set};
    use crate::metrics::TextFormat;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// An Agent that was created at second 10. Its Ready has been as it is since the given second.
    fn agent(name: &str, ready: Option<(bool, Reason, i64)>) -> Arc<Agent> {
        let spec = json!({ "boardRef": { "name": "ops" } });
        let mut agent = Agent::new(name, serde_json::from_value(spec).unwrap());
        agent.metadata.namespace = Some("fleet".into());
        agent.metadata.creation_timestamp = Some(Time(at(10)));
        if let Some((status, reason, second)) = ready {
            let ready = ConditionUpdate::new(ConditionType::Ready, status, reason, "x");
            set(&mut agent.status.get_or_insert_default().conditions, &ready, 1, at(second));
        }
        Arc::new(agent)
    }

    fn applied(agent: Arc<Agent>) -> CacheChange<Agent> {
        CacheChange::Applied { before: None, now: agent }
    }

    fn lines(metrics: &Metrics, of: &str) -> Vec<String> {
        let text = metrics.text(TextFormat::OpenMetrics).unwrap();
        let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with(of)).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn each_object_is_counted_in_its_last_state_alone() {
        let metrics = Arc::new(Metrics::default());
        let mut meter = ObjectMeter::new(Arc::clone(&metrics));
        for name in ["a", "b"] {
            meter.apply(&applied(agent(name, Some((false, Reason::GatewayNotReady, 11)))));
        }
        meter.apply(&applied(agent("a", Some((true, Reason::Reconciled, 12)))));
        let line = |ready: &str, reason: &str, number: u32| {
            format!("muster_objects{{kind=\"Agent\",ready=\"{ready}\",reason=\"{reason}\"}} {number}")
        };
        let of = "muster_objects{";
        assert_eq!(lines(&metrics, of), [line("False", "GatewayNotReady", 1), line("True", "Reconciled", 1)]);
        // The last version of a deleted object is one that was not counted.
        meter.apply(&CacheChange::Deleted(agent("a", Some((false, Reason::Deleting, 13)))));
        assert_eq!(lines(&metrics, of), [line("False", "GatewayNotReady", 1), line("True", "Reconciled", 0)]);
    }

    #[test]
    fn a_reason_of_another_version_adds_no_label() {
        let mut agent = Agent::clone(&agent("a", Some((false, Reason::Progressing, 11))));
        agent.status.get_or_insert_default().conditions[0].reason = "made-up".into();
        assert_eq!(state(agent.conditions()), ObjectState { ready: "False", reason: OTHER_REASON });
        assert_eq!(state(&[]), ObjectState { ready: "Unknown", reason: NO_REASON });
    }

    #[test]
    fn the_time_until_an_agent_is_ready_counts_once_and_not_for_agents_of_before_the_start() {
        let metrics = Arc::new(Metrics::default());
        let mut meter = ObjectMeter::new(Arc::clone(&metrics));
        let ready = |name: &str, second| applied(agent(name, Some((true, Reason::Reconciled, second))));
        let unready = |name: &str| applied(agent(name, Some((false, Reason::GatewayError, 20))));
        // One that is new, one that was Ready before, and one that may have been.
        for change in [applied(agent("new", None)), ready("old", 11), unready("unknown")] {
            meter.apply(&change);
        }
        for change in [unready("new"), ready("new", 17), unready("new"), ready("new", 90), ready("unknown", 90)] {
            meter.apply(&change);
        }
        let name = "muster_agent_ready_duration_seconds";
        assert_eq!(lines(&metrics, &format!("{name}_count")), [format!("{name}_count 1")]);
        assert_eq!(lines(&metrics, &format!("{name}_sum")), [format!("{name}_sum 7.0")]);
    }
}
