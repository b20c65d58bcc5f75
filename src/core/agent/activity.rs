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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openclaw::model::GatewayActivity;
    use crate::openclaw::model::run_event::{RunEvent, RunEventKind, RunPhase};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The gateway's clock is 100 s ahead.
    fn our_time(ms: i64) -> Timestamp {
        at(ms / 1000 - 100)
    }

    fn session(id: &str, started_ms: i64, ended_ms: Option<i64>) -> SessionInfo {
        let run = Some(Run { id: id.into(), started_ms, ended_ms });
        SessionInfo {
            key: "agent:mc-1:main".into(),
            label: None,
            id: "s".into(),
            updated_ms: started_ms,
            run,
            clock: None,
        }
    }

    fn events(of: &[(&str, RunPhase, i64)]) -> AgentActivity {
        let mut gateway = GatewayActivity::default();
        for (id, phase, at_ms) in of {
            let kind =
                RunEventKind::Run { id: (*id).to_owned(), phase: *phase, at_ms: *at_ms, job: false, outcome: None };
            gateway.apply(RunEvent { agent: "mc-1".into(), kind }).unwrap();
        }
        gateway.of("mc-1").cloned().unwrap()
    }

    #[test]
    fn an_unfinished_run_of_the_session_counts_without_events() {
        let activity = observed_activity(None, Some(&session("r", 200_000, None)), our_time);
        assert_eq!(activity.running, Some((at(100), at(100))), "by our clock");
        assert_eq!(activity.run, Some(ObservedRun { started: at(200), ended: None }), "by the gateway's clock");
        assert_eq!((activity.rested, activity.ended.len()), (None, 0));
    }

    #[test]
    fn the_end_of_a_run_in_the_events_has_precedence_over_the_session() {
        let ended = events(&[("r", RunPhase::Start, 200_000), ("r", RunPhase::End, 210_000)]);
        let activity = observed_activity(Some(&ended), Some(&session("r", 200_000, None)), our_time);
        assert_eq!((activity.running, activity.rested), (None, Some((at(100), at(110)))));
        assert_eq!(activity.ended, ["r".to_owned()].into());
    }

    #[test]
    fn running_spans_the_unfinished_runs_of_events_and_session() {
        let started = events(&[("a", RunPhase::Start, 300_000)]);
        let activity = observed_activity(Some(&started), Some(&session("b", 200_000, None)), our_time);
        assert_eq!(activity.running, Some((at(100), at(200))));
    }

    #[test]
    fn the_last_finished_run_of_events_and_session_counts_as_rest() {
        let ended = events(&[("a", RunPhase::Start, 200_000), ("a", RunPhase::End, 210_000)]);
        let activity = observed_activity(Some(&ended), Some(&session("b", 220_000, Some(230_000))), our_time);
        assert_eq!(activity.rested, Some((at(120), at(130))));
        assert_eq!(activity.ended, ["a".to_owned(), "b".to_owned()].into());
    }

    #[test]
    fn without_events_and_session_nothing_is_known() {
        assert_eq!(observed_activity(None, None, our_time), ObservedActivity::default());
    }
}
