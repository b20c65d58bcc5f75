use super::*;
use crate::core::agent::fixtures::{Situation, applied, at};
use crate::core::agent::plan::Plan;

fn handled_kinds(situation: &Situation) -> Vec<(RequestKind, bool)> {
    situation.status.requests.iter().map(|r| (r.kind, r.handled_at.is_some())).collect()
}

fn annotations(value: &str) -> Annotations {
    [(RequestKind::Sync.annotation().to_owned(), value.to_owned())].into()
}

#[test]
fn what_is_no_time_or_in_the_future_is_told_and_not_done() {
    for (value, says) in [("yes", "is no time"), ("", "is no time"), ("2099-01-01T00:00:00Z", "in the future")] {
        let asked = RequestTimes::read(Some(&annotations(value)), at(1000));
        assert_eq!(asked.latest(), None);
        assert!(asked.invalid[0].contains(says) && asked.invalid[0].contains("sync-requested-at"), "{asked:?}");
    }
    assert_eq!(
        RequestTimes::read(Some(&annotations("1970-01-01T00:20:00Z")), at(1000)).at(RequestKind::Sync),
        Some(at(1200))
    );
}

#[test]
fn of_an_agents_and_its_boards_request_the_later_counts() {
    let of = |second| RequestTimes::read(Some(&annotations(&at(second).to_string())), at(1000));
    assert_eq!(of(5).and(&of(7)).at(RequestKind::Sync), Some(at(7)));
    assert_eq!(of(9).and(&of(7)).at(RequestKind::Sync), Some(at(9)));
}

#[test]
fn a_request_is_done_once_wherever_it_was_made() {
    for above in [false, true] {
        let mut situation = applied().working();
        situation.now += 10;
        let now = situation.now;
        if above { &mut situation.above } else { &mut situation.own }.insert(RequestKind::Sync, now);
        let plan = situation.plan();
        assert_eq!(plan.steps.len(), 1, "{plan:?}");
        situation.record(&plan, None);
        assert_eq!(handled_kinds(&situation), [(RequestKind::Sync, true)]);
        assert_eq!(situation.plan(), Plan::default());
    }
}

#[test]
fn what_was_asked_before_the_agent_came_does_not_concern_it() {
    let mut situation = applied();
    situation.own.insert(RequestKind::Overwrite, 900);
    situation.above.insert(RequestKind::Rotate, 900);
    let situation = situation.provisioned();
    assert_eq!(handled_kinds(&situation), [(RequestKind::Overwrite, false), (RequestKind::Rotate, false)]);
}

#[test]
fn what_was_asked_of_a_board_before_the_agent_moved_there_does_not_concern_it() {
    let mut situation = applied().working();
    situation.parents.board_uid = Some("b2".into());
    situation.above.insert(RequestKind::Overwrite, situation.now - 1);
    situation.now += 10;
    assert_eq!(situation.plan(), Plan::default());
    situation.record(&Plan::default(), None);
    assert_eq!(handled_kinds(&situation), [(RequestKind::Overwrite, false)]);
    situation.above.insert(RequestKind::Overwrite, situation.now);
    assert!(situation.plan().fulfils.contains(&RequestKind::Overwrite));
}

#[test]
fn a_request_that_failed_is_still_to_be_done() {
    let mut situation = applied().working();
    situation.now += 10;
    situation.own.insert(RequestKind::Sync, situation.now);
    let trouble = crate::core::error::ReconcileError::transient(crate::api::Reason::GatewayError, "no");
    let failed = Plan { blocker: Some(crate::core::agent::blocked::Blocker::Blocked(trouble)), ..situation.plan() };
    situation.record(&failed, None);
    assert_eq!(handled_kinds(&situation), []);
    assert!(situation.plan().fulfils.contains(&RequestKind::Sync));
}
