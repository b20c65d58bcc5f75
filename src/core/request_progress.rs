//! The progress of a one-shot request on a Board or an AgentGateway.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::requests::{RequestTimes, handled};
use crate::api::agent::{Agent, AgentStatus};
use crate::api::object_key::ObjectKey;
use crate::api::requests::{RequestKind, SyncError, SyncStatus};

/// The largest number of errors that a status lists.
const MAX_LISTED_ERRORS: usize = 20;

/// The progress of one agent with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Updated,
    Skipped,
    Pending,
}

/// The progress of the latest request over these agents; `None` without a request.
#[must_use]
pub fn progress(requests: &RequestTimes, agents: &[Arc<Agent>]) -> Option<SyncStatus> {
    let (requested_at, kinds) = requests.latest_request()?;
    let mut sync =
        SyncStatus { requested_at: Time(requested_at), kinds, updated: 0, skipped: 0, pending: 0, errors: Vec::new() };
    for agent in agents {
        match agent_progress(agent, &sync) {
            Progress::Updated => sync.updated += 1,
            Progress::Skipped => sync.skipped += 1,
            Progress::Pending => {
                sync.pending += 1;
                sync.errors.extend(sync_error(agent).filter(|_| sync.errors.len() < MAX_LISTED_ERRORS));
            }
        }
    }
    Some(sync)
}

fn agent_progress(agent: &Agent, sync: &SyncStatus) -> Progress {
    let later = agent.metadata.creation_timestamp.as_ref().is_some_and(|made| made.0 > sync.requested_at.0);
    if later || agent.metadata.deletion_timestamp.is_some() {
        return Progress::Skipped;
    }
    let empty = AgentStatus::default();
    let status = agent.status.as_ref().unwrap_or(&empty);
    let handled_kinds = |kind: &RequestKind| handled(status, *kind) >= Some(sync.requested_at.0);
    if !sync.kinds.iter().all(handled_kinds) {
        return Progress::Pending;
    }
    let nothing_to_do = |kind: &RequestKind| {
        status.requests.iter().any(|r| r.kind == *kind && r.requested_at == sync.requested_at && r.handled_at.is_none())
    };
    if sync.kinds.iter().all(nothing_to_do) { Progress::Skipped } else { Progress::Updated }
}

fn sync_error(agent: &Agent) -> Option<SyncError> {
    let error = agent.status.as_ref()?.last_error.as_ref()?;
    Some(SyncError { agent: ObjectKey::of(&agent.metadata).to_string(), message: error.message.clone() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::api::agent::LastError;
    use crate::api::requests::RequestStatus;

    const AT: i64 = 1_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn requests() -> RequestTimes {
        let annotations: BTreeMap<_, _> = [RequestKind::Sync, RequestKind::Rotate]
            .map(|kind| (kind.annotation().to_owned(), at(AT).to_string()))
            .into();
        RequestTimes::read(Some(&annotations), at(AT))
    }

    /// An agent that handled requests of these kinds. The flag says whether the request caused work.
    fn agent(handled_kinds: &[(RequestKind, bool)], error: Option<&str>) -> Arc<Agent> {
        let mut agent = Agent::default();
        agent.metadata.name = Some("one".into());
        agent.metadata.namespace = Some("fleet".into());
        let request = |(kind, done): &(RequestKind, bool)| RequestStatus {
            kind: *kind,
            requested_at: Time(at(AT)),
            handled_at: done.then_some(Time(at(AT + 5))),
        };
        let last_error = error.map(|message| Box::new(LastError { message: message.into(), ..LastError::default() }));
        let requests = handled_kinds.iter().map(request).collect();
        agent.status = Some(AgentStatus { requests, last_error, ..AgentStatus::default() });
        Arc::new(agent)
    }

    #[test]
    fn agents_are_counted_by_their_progress() {
        let both = |done| [(RequestKind::Sync, done), (RequestKind::Rotate, done)];
        let mut terminating = Arc::unwrap_or_clone(agent(&[], None));
        terminating.metadata.deletion_timestamp = Some(Time(at(AT)));
        let agents = [
            agent(&both(true), None),
            agent(&both(false), None),
            agent(&[(RequestKind::Sync, true)], Some("the gateway is away")),
            Arc::new(terminating),
        ];
        let sync = progress(&requests(), &agents).unwrap();
        assert_eq!((sync.updated, sync.skipped, sync.pending), (1, 2, 1));
        assert_eq!(sync.kinds, [RequestKind::Sync, RequestKind::Rotate]);
        assert_eq!(
            (sync.errors[0].agent.as_str(), sync.errors[0].message.as_str()),
            ("fleet/one", "the gateway is away")
        );
    }

    #[test]
    fn without_a_request_there_is_no_progress() {
        assert_eq!(progress(&RequestTimes::default(), &[agent(&[], None)]), None);
    }
}
