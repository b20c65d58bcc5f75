//! The runs of an agent, from the gateway's events and from its session.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::observed::{ObservedActivity, ObservedRun};
use crate::openclaw::model::{AgentActivity, Run, SessionInfo};

/// The runs of an agent. Events have precedence. The session adds a run without events, such as one that began before the connection
/// was opened.
///
/// `our_time` translates milliseconds since 1970 by the gateway's clock into a time by our clock.
#[must_use]
pub fn observed_activity(
    events: Option<&AgentActivity>,
    session: Option<&SessionInfo>,
    our_time: impl Fn(i64) -> Timestamp,
) -> ObservedActivity {
    let session = session.and_then(|session| session.run.as_ref());
    let without_events = session.filter(|run| is_run_without_events(run, events));
    let unfinished =
        events.filter(|events| events.is_running()).and_then(AgentActivity::run).or_else(|| without_events.cloned());
    let run = unfinished.or_else(|| events.and_then(AgentActivity::run)).or_else(|| session.cloned());
    let began = || events.into_iter().flat_map(AgentActivity::began_ms).chain(without_events.map(|run| run.started_ms));
    let finished = events.and_then(AgentActivity::last).into_iter().chain(session);
    let last = finished.filter_map(|run| Some((run.started_ms, run.ended_ms?))).max_by_key(|(_, ended)| *ended);
    let has_ended = |run: &&Run| run.ended_ms.is_some() && !run.id.is_empty();
    let mut ended: BTreeSet<_> = session.iter().filter(|run| has_ended(run)).map(|run| run.id.clone()).collect();
    ended.extend(events.into_iter().flat_map(|events| events.ended().map(str::to_owned)));
    let gateway_time = |ms: i64| Timestamp::from_second(ms / 1000).unwrap_or_default();
    ObservedActivity {
        running: began().min().zip(began().max()).map(|(first, last)| (our_time(first), our_time(last))),
        rested: last.map(|(started, ended)| (our_time(started), our_time(ended))),
        run: run
            .map(|run| ObservedRun { started: gateway_time(run.started_ms), ended: run.ended_ms.map(gateway_time) }),
        ended,
    }
}

/// Whether the session has an unfinished run without events. The end of such a run may have no event either.
#[must_use]
pub fn is_run_without_events(run: &Run, events: Option<&AgentActivity>) -> bool {
    run.ended_ms.is_none() && !events.is_some_and(|events| events.has_seen(&run.id))
}
