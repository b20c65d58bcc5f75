//! One-shot requests: their kind, their origin, and whether they are still due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::api::agent::{Agent, AgentStatus, Parents};
use crate::api::requests::{RequestKind, RequestStatus};
use crate::api::{AgentGateway, Board, keys};

/// The largest difference by which the clock of a requester may be ahead of Muster's clock.
const MAX_CLOCK_SKEW: Duration = Duration::from_mins(10);

/// The annotations of one object.
pub type Annotations = BTreeMap<String, String>;

/// The times of the requests in the annotations of one or more objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestTimes {
    times: BTreeMap<RequestKind, Timestamp>,
    /// One sentence for each annotation that is no valid request.
    pub invalid: Vec<String>,
}

impl RequestTimes {
    /// Reads the requests of an object. A time in the future is invalid: the request would hide all requests before that time.
    #[must_use]
    pub fn read(annotations: Option<&Annotations>, now: Timestamp) -> Self {
        let mut requests = Self::default();
        for kind in RequestKind::ALL {
            let Some(text) = annotations.and_then(|a| a.get(kind.annotation())) else { continue };
            let latest = now.saturating_add(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MAX);
            match text.trim().parse::<Timestamp>() {
                // Kubernetes keeps whole seconds.
                Ok(time) if time <= latest => {
                    requests.times.insert(kind, Timestamp::from_second(time.as_second()).unwrap_or(time));
                }
                Ok(_) => requests.invalid.push(format!("annotation {}: {text:?} is in the future", kind.annotation())),
                Err(_) => requests.invalid.push(format!(
                    "annotation {}: {text:?} is no time; set it with \"$(date -u +%FT%TZ)\"",
                    kind.annotation()
                )),
            }
        }
        requests
    }

    /// Union of both sets; per kind the later timestamp wins.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (kind, time) in &other.times {
            let own = self.times.entry(*kind).or_insert(*time);
            *own = (*own).max(*time);
        }
        self.invalid.extend(other.invalid.iter().cloned());
        self
    }

    /// The time of a request.
    #[must_use]
    pub fn at(&self, kind: RequestKind) -> Option<Timestamp> {
        self.times.get(&kind).copied()
    }

    /// The time of the latest request, and the kinds that were requested at that time.
    #[must_use]
    pub fn latest_request(&self) -> Option<(Timestamp, Vec<RequestKind>)> {
        let latest = self.times.values().max().copied()?;
        let kinds = self.times.iter().filter(|(_, time)| **time == latest).map(|(kind, _)| *kind);
        Some((latest, kinds.collect()))
    }
}

/// The longest value of the annotation `muster.dev/reconcile-requested-at` that a status repeats, in characters.
const MAX_RECONCILE_REQUEST: usize = 253;

/// The value by which a status answers the annotation `muster.dev/reconcile-requested-at`, which may be any text. Without the annotation, the
/// answer `before` stays.
#[must_use]
pub fn handled_reconcile(meta: &ObjectMeta, before: Option<&String>) -> Option<String> {
    let requested = meta.annotations.as_ref().and_then(|all| all.get(keys::RECONCILE_REQUESTED_AT));
    requested.map(|value| value.chars().take(MAX_RECONCILE_REQUEST).collect()).or_else(|| before.cloned())
}

/// The requests to one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The requests in the annotations of the Agent.
    pub own: RequestTimes,
    /// The requests in the annotations of its Board and its AgentGateway.
    pub from_parents: RequestTimes,
    /// The requests that are still due.
    due: BTreeMap<RequestKind, Timestamp>,
    /// The Board and the AgentGateway.
    parents: Parents,
}

impl Requests {
    /// The requests in the annotations of an Agent, its Board and its AgentGateway.
    #[must_use]
    pub fn of(agent: &Agent, board: Option<&Board>, gateway: &AgentGateway, now: Timestamp) -> Self {
        let own = RequestTimes::read(agent.metadata.annotations.as_ref(), now);
        let of_board =
            board.map(|board| RequestTimes::read(board.metadata.annotations.as_ref(), now)).unwrap_or_default();
        let above = of_board.union(&RequestTimes::read(gateway.metadata.annotations.as_ref(), now));
        let parents = Parents {
            board_uid: board.and_then(|board| board.metadata.uid.clone()),
            gateway_uid: gateway.metadata.uid.clone().unwrap_or_default(),
        };
        Self::new(own, above, parents, &agent.status.clone().unwrap_or_default())
    }

    /// The requests to an agent with this status.
    ///
    /// # Guarantees
    /// A request is handled once. A request that is older than the agent is skipped. So is a request of a Board or an AgentGateway
    /// that is older than the agent's move there.
    #[must_use]
    pub fn new(own: RequestTimes, from_parents: RequestTimes, parents: Parents, status: &AgentStatus) -> Self {
        let mut due = BTreeMap::new();
        if status.parents.is_some() {
            let known = status.parents.as_ref() == Some(&parents);
            for kind in RequestKind::ALL {
                let requested_at = own.at(kind).max(from_parents.at(kind).filter(|_| known));
                if let Some(requested_at) = requested_at.filter(|at| Some(*at) > handled(status, kind)) {
                    due.insert(kind, requested_at);
                }
            }
        }
        Self { own, from_parents, due, parents }
    }

    /// The same requests to an agent with another status.
    #[must_use]
    pub fn with_status(&self, status: &AgentStatus) -> Self {
        Self::new(self.own.clone(), self.from_parents.clone(), self.parents.clone(), status)
    }

    /// The time of a request that is still due.
    #[must_use]
    pub fn due(&self, kind: RequestKind) -> Option<Timestamp> {
        self.due.get(&kind).copied()
    }

    /// Records the handled and the skipped requests in the status.
    pub fn record(&self, status: &mut AgentStatus, done: &BTreeSet<RequestKind>, now: Timestamp) {
        status.invalid_requests.clone_from(&self.own.invalid);
        for (kind, requested_at) in self.due.iter().filter(|(kind, _)| done.contains(kind)) {
            record_request(status, *kind, *requested_at, Some(now));
        }
        if status.parents.as_ref() == Some(&self.parents) {
            return;
        }
        let first = status.parents.is_none();
        for kind in RequestKind::ALL {
            let before = self.own.at(kind).filter(|_| first).max(self.from_parents.at(kind));
            if let Some(before) = before.filter(|before| Some(*before) > handled(status, kind)) {
                record_request(status, kind, before, None);
            }
        }
        status.parents = Some(self.parents.clone());
    }

    /// Records all due requests as skipped. `status.invalidRequests` says why for each request of the Agent itself for which nothing was
    /// done.
    pub fn decline(&self, status: &mut AgentStatus, why: &str, now: Timestamp) {
        self.record(status, &BTreeSet::new(), now);
        for (kind, requested_at) in &self.due {
            record_request(status, *kind, *requested_at, None);
        }
        let is_skipped = |kind: &RequestKind| {
            let record = status.requests.iter().find(|r| r.kind == *kind && r.handled_at.is_none());
            record.is_some_and(|record| self.own.at(*kind) == Some(record.requested_at.0))
        };
        let skipped: Vec<_> = RequestKind::ALL.into_iter().filter(is_skipped).collect();
        status.invalid_requests.extend(skipped.iter().map(|kind| format!("annotation {}: {why}", kind.annotation())));
    }
}

/// The time of the last request of a kind that an agent has handled.
#[must_use]
pub fn handled(status: &AgentStatus, kind: RequestKind) -> Option<Timestamp> {
    status.requests.iter().find(|r| r.kind == kind).map(|r| r.requested_at.0)
}

fn record_request(status: &mut AgentStatus, kind: RequestKind, requested_at: Timestamp, handled_at: Option<Timestamp>) {
    status.requests.retain(|r| r.kind != kind);
    status.requests.push(RequestStatus { kind, requested_at: Time(requested_at), handled_at: handled_at.map(Time) });
    status.requests.sort_by_key(|r| r.kind);
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
