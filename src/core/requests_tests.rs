use super::*;
use crate::core::agent::fixtures::{AgentFixture, applied, at};
use crate::core::agent::plan::Plan;

fn handled_kinds(fixture: &AgentFixture) -> Vec<(RequestKind, bool)> {
    fixture.status.requests.iter().map(|r| (r.kind, r.handled_at.is_some())).collect()
}

fn annotations(value: &str) -> Annotations {
    [(RequestKind::Sync.annotation().to_owned(), value.to_owned())].into()
}

#[test]
fn an_invalid_or_future_time_is_reported_and_not_handled() {
    for (value, says) in [("yes", "is no time"), ("", "is no time"), ("2099-01-01T00:00:00Z", "in the future")] {
        let requests = RequestTimes::read(Some(&annotations(value)), at(1000));
        assert_eq!(requests.latest_request(), None);
        assert!(
            requests.invalid[0].contains(says) && requests.invalid[0].contains("sync-requested-at"),
            "{requests:?}"
        );
    }
    assert_eq!(
        RequestTimes::read(Some(&annotations("1970-01-01T00:20:00Z")), at(1000)).at(RequestKind::Sync),
        Some(at(1200))
    );
}

#[test]
fn the_later_request_of_an_agent_and_its_board_wins() {
    let of = |second| RequestTimes::read(Some(&annotations(&at(second).to_string())), at(1000));
    assert_eq!(of(5).union(&of(7)).at(RequestKind::Sync), Some(at(7)));
    assert_eq!(of(9).union(&of(7)).at(RequestKind::Sync), Some(at(9)));
}

#[test]
fn a_request_of_any_origin_is_handled_once() {
    for from_parents in [false, true] {
        let mut fixture = applied().working();
        fixture.now += 10;
        let now = fixture.now;
        if from_parents { &mut fixture.from_parents } else { &mut fixture.own }.insert(RequestKind::Sync, now);
        let plan = fixture.plan();
        assert_eq!(plan.steps.len(), 1, "{plan:?}");
        fixture.record(&plan, None);
        assert_eq!(handled_kinds(&fixture), [(RequestKind::Sync, true)]);
        assert_eq!(fixture.plan(), Plan::default());
    }
}

#[test]
fn a_request_older_than_the_agent_is_skipped() {
    let mut fixture = applied();
    fixture.own.insert(RequestKind::Overwrite, 900);
    fixture.from_parents.insert(RequestKind::Rotate, 900);
    let fixture = fixture.provisioned();
    assert_eq!(handled_kinds(&fixture), [(RequestKind::Overwrite, false), (RequestKind::Rotate, false)]);
}

#[test]
fn a_request_on_a_board_older_than_the_agents_move_there_is_skipped() {
    let mut fixture = applied().working();
    fixture.parents.board_uid = Some("b2".into());
    fixture.from_parents.insert(RequestKind::Overwrite, fixture.now - 1);
    fixture.now += 10;
    assert_eq!(fixture.plan(), Plan::default());
    fixture.record(&Plan::default(), None);
    assert_eq!(handled_kinds(&fixture), [(RequestKind::Overwrite, false)]);
    fixture.from_parents.insert(RequestKind::Overwrite, fixture.now);
    assert!(fixture.plan().fulfils.contains(&RequestKind::Overwrite));
}

#[test]
fn a_failed_request_stays_due() {
    let mut fixture = applied().working();
    fixture.now += 10;
    fixture.own.insert(RequestKind::Sync, fixture.now);
    let error = crate::core::error::ReconcileError::transient(crate::api::Reason::GatewayError, "no");
    let failed = Plan { blocker: Some(crate::core::agent::blocked::Blocker::Failed(error)), ..fixture.plan() };
    fixture.record(&failed, None);
    assert_eq!(handled_kinds(&fixture), []);
    assert!(fixture.plan().fulfils.contains(&RequestKind::Sync));
}
