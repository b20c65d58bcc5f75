//! How far an object is with a one-shot request, by the object's own record. Pure.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::observed::{condition, condition_text};
use crate::api::requests::{RequestKind, RequestStatus, SyncStatus};

/// Muster refuses a request whose time is further ahead of its clock.
const MAX_AHEAD: SignedDuration = SignedDuration::from_mins(10);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A one-shot request that a command made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestGoal {
    pub(super) kind: RequestKind,
    /// The value of the annotation, in whole seconds.
    pub(super) requested_at: Timestamp,
}

/// A request as the command line names it.
pub(super) fn verb(kind: RequestKind) -> &'static str {
    match kind {
        RequestKind::Sync => "sync",
        RequestKind::Overwrite => "overwrite",
        RequestKind::Rotate => "rotate",
        RequestKind::Bootstrap => "bootstrap",
        RequestKind::ResetSession => "reset-session",
        RequestKind::Wake => "wake",
    }
}

impl fmt::Display for RequestGoal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request {} of {} to be handled", verb(self.kind), self.requested_at)
    }
}

fn read<T: DeserializeOwned + Default>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

/// The record of an Agent about a kind of request.
fn of_agent(object: &Value, kind: RequestKind) -> Option<RequestStatus> {
    let records: Vec<RequestStatus> = read(&object["status"]["requests"]);
    records.into_iter().find(|record| record.kind == kind)
}

/// The record of a Board or an AgentGateway about its latest request.
fn of_parent(object: &Value) -> Option<SyncStatus> {
    read(&object["status"]["lastSync"])
}

fn is_agent(object: &Value) -> bool {
    object["kind"] == "Agent"
}

impl RequestGoal {
    /// A request to these objects: now, or a second after each request that one of them has. A request at the time of an earlier one would
    /// count as handled.
    pub(super) fn new(kind: RequestKind, now: Timestamp, objects: &[Value]) -> Self {
        let latest = now.saturating_add(MAX_AHEAD).unwrap_or(now);
        let known = objects.iter().flat_map(|object| times(object, kind)).filter(|time| *time <= latest).max();
        let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
        let after = known.and_then(|time| whole(time).checked_add(SECOND).ok());
        Self { kind, requested_at: after.map_or(whole(now), |after| after.max(whole(now))) }
    }

    /// The record of a Board or an AgentGateway, if it is about this request or a later one of the kind.
    fn sync(&self, object: &Value) -> Option<SyncStatus> {
        of_parent(object).filter(|sync| sync.requested_at.0 >= self.requested_at && sync.kinds.contains(&self.kind))
    }

    fn record(&self, object: &Value) -> Option<RequestStatus> {
        of_agent(object, self.kind).filter(|record| record.requested_at.0 >= self.requested_at)
    }

    /// Whether the object, or every agent of it, has handled the request.
    pub(super) fn is_met(&self, object: &Value) -> bool {
        if is_agent(object) {
            return self.record(object).is_some();
        }
        self.sync(object).is_some_and(|sync| sync.pending == 0)
    }

    /// What an object that has handled the request did.
    pub(super) fn outcome(&self, object: &Value) -> String {
        let verb = verb(self.kind);
        if is_agent(object) {
            return match self.record(object) {
                Some(RequestStatus { handled_at: None, .. }) => {
                    let cause = self.refusal(object).unwrap_or("the request is older than the agent");
                    format!("{verb} had nothing to do: {cause}")
                }
                _ => format!("{verb} handled"),
            };
        }
        let (updated, skipped) = self.sync(object).map_or((0, 0), |sync| (sync.updated, sync.skipped));
        format!("{verb} handled by {}, {} had nothing to do", agents(updated), agents(skipped))
    }

    /// Why Muster does not do what the annotation asks for.
    fn refusal<'a>(&self, object: &'a Value) -> Option<&'a str> {
        let refusals = object["status"]["invalidRequests"].as_array()?;
        let start = format!("annotation {}:", self.kind.annotation());
        refusals.iter().filter_map(Value::as_str).find(|text| text.starts_with(&start))
    }

    /// What an object waits for.
    pub(super) fn progress(&self, object: &Value) -> String {
        if let Some(refusal) = self.refusal(object) {
            return format!("Muster refuses the request: {refusal}");
        }
        if is_agent(object) {
            return format!("{} is not handled yet; {}", verb(self.kind), state(object));
        }
        match (self.sync(object), of_parent(object)) {
            (Some(sync), _) => sync_text(&sync),
            (None, Some(later)) if later.requested_at.0 > self.requested_at => format!(
                "the later request of {} hides how far this one is; see status.requests of the agents",
                later.requested_at.0
            ),
            (None, _) => format!("Muster has not seen the request yet; {}", state(object)),
        }
    }
}

/// The times of the requests that an object has.
fn times(object: &Value, kind: RequestKind) -> Vec<Timestamp> {
    let annotations = &object["metadata"]["annotations"];
    let parsed = |kind: RequestKind| annotations[kind.annotation()].as_str()?.trim().parse().ok();
    let mut times: Vec<Timestamp> = RequestKind::ALL.into_iter().filter_map(parsed).collect();
    times.extend(of_agent(object, kind).map(|RequestStatus { requested_at: Time(time), .. }| time));
    times.extend(of_parent(object).map(|sync| sync.requested_at.0));
    times
}

/// Why an object does not go on.
fn state(object: &Value) -> String {
    let ready = condition_text(object, "Ready");
    let suspended = ["Paused", "Suspended"].into_iter();
    let suspended = suspended.filter(|kind| condition(object, kind).is_some_and(|one| one["status"] == "True"));
    let texts = suspended.map(|kind| condition_text(object, kind)).chain([ready]);
    texts.collect::<Vec<_>>().join("; ")
}

fn sync_text(sync: &SyncStatus) -> String {
    let errors: Vec<_> = sync.errors.iter().map(|error| format!("{}: {}", error.agent, error.message)).collect();
    let errors = if errors.is_empty() { String::new() } else { format!(": {}", errors.join("; ")) };
    let done = format!("handled by {}, {} had nothing to do", agents(sync.updated), agents(sync.skipped));
    format!("{done}, {} to go{errors}", agents(sync.pending))
}

fn agents(count: i32) -> String {
    if count == 1 { "1 agent".into() } else { format!("{count} agents") }
}

#[cfg(test)]
#[path = "request_goal_tests.rs"]
mod tests;
