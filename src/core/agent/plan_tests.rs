use serde_json::json;

use super::*;
use crate::core::agent::desired::{Delivery, DesiredFile};
use crate::core::agent::fixtures::{AgentFixture, applied, at, issued_token};
use crate::core::agent::observed::{OwnershipConflict, Registration};
use crate::openclaw::model::FileLimit;

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(Step::name).collect()
}

fn reason(plan: &Plan) -> Option<Reason> {
    plan.blocker.as_ref().map(|blocker| blocker.error().reason)
}

#[test]
fn a_new_agent_is_claimed_and_gets_its_token_before_it_is_bound_and_its_entry_submitted() {
    let mut fixture = applied();
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec!["claim", "issue_token"], true));
    assert!(plan.blocker.is_none() && plan.binds.is_none());
    plan.steps.iter().for_each(|step| fixture.apply(step));
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again, plan.binds.is_some()), (vec![], true, true), "one write records both");
    fixture.record(&plan, None);
    let plan = fixture.plan();
    assert_eq!((names(&plan), reason(&plan)), (vec!["submit_entry"], Some(Reason::WaitingForConfigWrite)));
}

#[test]
fn a_replaced_token_is_recorded_while_the_entry_waits() {
    let mut fixture = applied().provisioned();
    fixture.observed.registration = Registration::Outdated;
    fixture.token = TokenState::Missing;
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec!["submit_entry", "issue_token"], true));
    assert!(!plan.waits_for_peers(), "a token rotation does not wait for peers");
}

#[test]
fn files_and_session_wait_for_the_roster() {
    for registration in [Registration::Absent, Registration::Outdated, Registration::Invisible] {
        let mut fixture = applied().bound().with_token();
        fixture.observed.registration = registration;
        let plan = fixture.plan();
        assert!(!names(&plan).iter().any(|n| ["write_files", "label_session", "wake"].contains(n)), "{registration:?}");
        assert!(plan.blocker.is_some());
    }
}

#[test]
fn a_registered_agent_gets_its_files_and_after_ready_its_label() {
    let mut fixture = applied().bound().with_token().registered();
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again, plan.waits_for_peers()), (vec!["write_files"], true, false));
    for step in &plan.steps {
        fixture.apply(step);
    }
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec![], true), "Ready is recorded first");
    fixture.record(&plan, None);
    fixture.record(&Plan::default(), None);
    let plan = fixture.plan();
    let late = vec!["label_session", "wake"];
    assert_eq!((names(&plan), plan.again, plan.waits_for_peers()), (late, false, true));
}

#[test]
fn no_agent_is_woken_before_ready_is_recorded() {
    let mut fixture = applied().provisioned();
    fixture.status = AgentStatus::default();
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec![], true));
    fixture.record(&plan, None);
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec![], true), "file states are recorded after the token");
    fixture.record(&plan, None);
    assert_eq!(names(&fixture.plan()), ["wake"]);
}

#[test]
fn a_working_agent_gets_no_step_with_or_without_hashes_in_the_list() {
    assert_eq!(applied().working().plan(), Plan::default());
    assert_eq!(applied().working().listed().plan(), Plan::default());
}

#[test]
fn an_earlier_binding_is_released_first_and_alone() {
    let mut fixture = applied().working();
    fixture.desired.gateway.name = "other".into();
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec!["release"], true));
}

#[test]
fn a_used_id_that_other_clients_can_have_blocks_the_plan() {
    for origin in [Origin::Chosen, Origin::ParentDerived, Origin::ParentReused] {
        for registration in [Registration::Outdated, Registration::Invisible, Registration::Current] {
            let mut fixture = applied();
            fixture.desired.origin = origin;
            fixture.observed.registration = registration;
            let plan = fixture.plan();
            assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::AgentIdTaken)), "{registration:?}");
        }
    }
}

#[test]
fn a_lead_that_was_set_up_for_this_agent_is_bound_again() {
    let mut fixture = applied().working();
    fixture.desired.origin = Origin::ParentDerived;
    fixture.binding = None;
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.binds.is_some()), (vec![], true));
}

#[test]
fn a_foreign_agent_created_between_binding_and_first_write_blocks_the_plan() {
    for origin in [Origin::Chosen, Origin::ParentDerived, Origin::ParentReused] {
        let mut fixture = applied().bound().with_token();
        fixture.desired.origin = origin;
        fixture.observed = Observed {
            registration: Registration::Outdated,
            conflict: Some(OwnershipConflict::Elsewhere),
            ..fixture.observed
        };
        let plan = fixture.plan();
        assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::AgentIdTaken)));
        let mut moved = applied().working();
        moved.desired.origin = origin;
        moved.observed = Observed {
            registration: Registration::Outdated,
            conflict: Some(OwnershipConflict::Elsewhere),
            ..moved.observed
        };
        assert_eq!(names(&moved.plan()), ["submit_entry"], "the agent is its own, and its workspace changes");
    }
}

#[test]
fn an_agent_without_a_config_entry_is_neither_bound_nor_created() {
    for origin in [Origin::Chosen, Origin::ParentDerived, Origin::ParentReused, Origin::Adopted] {
        let mut unbound = applied();
        unbound.desired.origin = origin;
        unbound.observed.conflict = Some(OwnershipConflict::NoEntry);
        for fixture in [unbound.clone(), unbound.bound().with_token()] {
            let plan = fixture.plan();
            assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::AgentIdTaken)), "{origin:?}");
        }
    }
}

#[test]
fn an_id_that_may_have_been_deleted_before_is_created_with_its_own_call() {
    for origin in [Origin::Chosen, Origin::ParentReused] {
        let mut fixture = applied().bound().with_token();
        fixture.desired.origin = origin;
        assert_eq!(names(&fixture.plan()), ["create"], "{origin:?}");
    }
    let mut removed = applied().working();
    removed.observed = Observed { settled: true, ..Observed::default() };
    assert_eq!(names(&removed.plan()), ["create"]);
}

#[test]
fn a_foreign_secret_blocks_the_plan() {
    let mut fixture = applied().bound();
    fixture.token = TokenState::Foreign;
    let plan = fixture.plan();
    assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::SecretConflict)));
    assert!(!plan.blocker.unwrap().error().transient, "a user has to act");
}

#[test]
fn the_blocker_of_a_waiting_entry_names_its_reason() {
    let waiting = |change: fn(&mut Observed)| {
        let mut fixture = applied().bound().with_token();
        change(&mut fixture.observed);
        reason(&fixture.plan())
    };
    assert_eq!(waiting(|o| o.refused = Some(("INVALID".into(), "no".into()))), Some(Reason::EntryRefused));
    assert_eq!(waiting(|o| o.config = ConfigAccess::Failed), Some(Reason::ConfigNotWritable));
    assert_eq!(waiting(|o| o.over_budget = true), Some(Reason::RateLimited));
    assert_eq!(waiting(|o| o.settled = false), Some(Reason::NotSettled));
    assert_eq!(waiting(|_| ()), Some(Reason::WaitingForConfigWrite));
}

fn long_file() -> DesiredFile {
    DesiredFile {
        is_adopted: false,
        carries_token: false,
        name: "SOUL.md".into(),
        delivery: Delivery::TooLarge { units: 20_001, limit: FileLimit::of(20_000, "the default") },
    }
}

#[test]
fn a_file_that_is_too_long_blocks_after_the_others_are_written() {
    let mut fixture = applied().bound().with_token().registered();
    fixture.desired.files.as_mut().unwrap().push(long_file());
    assert_eq!(names(&fixture.plan()), ["write_files"]);
    let mut fixture = applied().provisioned();
    fixture.desired.files.as_mut().unwrap().push(long_file());
    let plan = fixture.plan();
    assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::FileTooLarge)), "the agent is not woken");
}

/// Runs the Steps one at a time, with a crash after each Step. Only the recorded state survives. Returns the Steps.
fn steps_to_the_end(mut fixture: AgentFixture) -> Vec<&'static str> {
    let mut done = Vec::new();
    for _ in 0..20 {
        let plan = fixture.plan();
        let Some(step) = plan.steps.first() else {
            if !plan.again && plan.blocker.is_none() && plan.binds.is_none() {
                return done;
            }
            fixture.record(&plan, None);
            continue;
        };
        done.push(step.name());
        fixture.apply(step);
    }
    panic!("the plan does not settle: {done:?}");
}

#[test]
fn a_crash_after_every_step_repeats_none_of_them() {
    assert_eq!(
        steps_to_the_end(applied()),
        ["claim", "issue_token", "submit_entry", "write_files", "label_session", "wake"]
    );
    let mut removed = applied().working();
    removed.observed = Observed { settled: true, ..Observed::default() };
    assert_eq!(steps_to_the_end(removed), ["create", "submit_entry", "write_files", "label_session"]);
}

#[test]
fn an_agent_in_another_workspace_is_bound_again_and_not_released() {
    let mut fixture = applied().working();
    fixture.desired.identity.workspace = "/other/workspace-mc-u1".into();
    fixture.observed.registration = Registration::Outdated;
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.binds.is_some()), (vec![], true));
    fixture.record(&plan, None);
    assert_eq!(names(&fixture.plan()), ["submit_entry"]);
}

#[test]
fn nothing_is_made_under_a_used_id_while_the_gateway_is_unsettled() {
    let mut fixture = applied().bound().with_token();
    fixture.desired.origin = Origin::Chosen;
    fixture.observed.settled = false;
    let plan = fixture.plan();
    assert_eq!((names(&plan), reason(&plan)), (vec![], Some(Reason::NotSettled)));
}

#[test]
fn a_refused_file_is_written_once_and_blocks_neither_label_nor_wake() {
    let mut fixture = applied().bound().with_token().registered();
    assert_eq!(names(&fixture.plan()), ["write_files"]);
    fixture.refuse("AGENTS.md");
    let plan = fixture.plan();
    assert_eq!((names(&plan), plan.again), (vec![], true), "the refusal is recorded first");
    fixture.record(&plan, None);
    let plan = fixture.plan();
    assert_eq!(names(&plan), ["label_session", "wake"]);
    for step in &plan.steps {
        fixture.apply(step);
    }
    fixture.record(&plan, Some(1));
    fixture.record(&Plan::default(), Some(1));
    assert_eq!(fixture.plan(), Plan::default());
    fixture.observed.files.clear();
    assert_eq!(names(&fixture.plan()), ["write_files"], "once the files are listed again");
}

/// The rules that decide the plan: the rules that add its Steps, or, for a plan without Steps, the rule that ends it.
fn deciding_rules(fixture: &AgentFixture) -> Vec<&'static str> {
    let desired = fixture.desired_now();
    let input = RuleInput::new(&desired, fixture.cluster(), &fixture.observed, at(fixture.now));
    let mut plan = Plan::default();
    let mut adding = Vec::new();
    for (name, rule) in RULES {
        let before = plan.steps.len();
        let ends = rule(&input, &mut plan).is_break();
        if plan.steps.len() > before {
            adding.push(*name);
        }
        if ends && plan.steps.is_empty() {
            return vec![*name];
        }
        if ends {
            break;
        }
    }
    adding
}

fn changed(mut fixture: AgentFixture, change: impl FnOnce(&mut AgentFixture)) -> AgentFixture {
    change(&mut fixture);
    fixture
}

/// A working agent with a request of this kind.
fn requested(kind: RequestKind) -> AgentFixture {
    changed(applied().working(), |fixture| {
        fixture.now += 10;
        fixture.own.insert(kind, fixture.now);
    })
}

/// One fixture for each rule, in the order of [`RULES`], in which only this rule decides the plan.
fn rule_fixtures() -> Vec<(&'static str, AgentFixture)> {
    let with_token = || applied().bound().with_token();
    vec![
        ("release_earlier_binding", changed(applied().working(), |f| f.desired.gateway.name = "other".into())),
        ("leave_taken_id", changed(applied().registered(), |f| f.desired.origin = Origin::Chosen)),
        ("leave_foreign_secret", changed(applied().bound(), |f| f.token = TokenState::Foreign)),
        ("wait_for_a_writable_config", changed(applied(), |f| f.observed.config = ConfigAccess::Obstructed)),
        ("claim", applied()),
        ("bind", changed(applied().working(), |f| f.binding = None)),
        (
            "record_config_keys",
            changed(with_token(), |f| f.desired.entry.passed = [("tools".to_owned(), json!({}))].into()),
        ),
        ("wait_for_an_entry", changed(with_token(), |f| f.observed.conflict = Some(OwnershipConflict::NoEntry))),
        ("create_anew", changed(with_token(), |f| f.desired.origin = Origin::Chosen)),
        ("submit_entry", changed(with_token(), |f| f.observed.registration = Registration::Outdated)),
        ("change_token", changed(applied().working(), |f| f.token = TokenState::Tampered)),
        ("wait_for_the_roster", changed(with_token(), |f| f.observed.registration = Registration::Invisible)),
        ("record_token", changed(applied().working(), |f| f.token = issued_token("t2"))),
        ("write_files", changed(applied().working(), |f| f.observed.files.clear())),
        ("fulfil_requests", requested(RequestKind::Bootstrap)),
        ("reset_session", requested(RequestKind::ResetSession)),
        ("refuse_long_files", changed(applied().working(), |f| f.desired.files.as_mut().unwrap().push(long_file()))),
        ("label_session", changed(applied().working(), |f| f.observed.session = None)),
        ("send_wake", applied().provisioned()),
        ("record_ready_first", changed(applied().provisioned(), |f| f.status.observed_generation = 0)),
    ]
}

#[test]
fn each_rule_decides_the_plan_of_its_own_fixture_alone() {
    let fixtures = rule_fixtures();
    let named: Vec<_> = fixtures.iter().map(|(name, _)| *name).collect();
    let rules: Vec<_> = RULES.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, rules, "each rule of RULES has one fixture");
    for (name, fixture) in fixtures {
        assert_eq!(deciding_rules(&fixture), [name], "{:?}", fixture.plan());
    }
}

#[test]
fn the_claim_writes_the_id_of_the_agent() {
    let claims = |fixture: &AgentFixture| {
        let claim = |step: &Step| if let Step::Claim { agent_id } = step { Some(agent_id.clone()) } else { None };
        fixture.plan().steps.iter().find_map(claim)
    };
    assert_eq!(claims(&applied()).as_deref(), Some("mc-u1"));
    let mut restored = applied();
    (restored.is_claimed, restored.annotated_id) = (true, Some("mc-copied".into()));
    assert_eq!(claims(&restored).as_deref(), Some("mc-u1"), "the finalizer alone is no claim");
}

#[test]
fn the_annotation_of_a_bound_agent_is_put_right() {
    for annotation in [None, Some("mc-other".to_owned()), Some("no id!".to_owned())] {
        let mut fixture = applied().working();
        fixture.annotated_id = annotation;
        let plan = fixture.plan();
        assert_eq!((names(&plan), plan.again), (vec!["claim"], true));
        plan.steps.iter().for_each(|step| fixture.apply(step));
        assert_eq!(fixture.plan(), Plan::default());
    }
}

#[test]
fn an_agent_that_is_taken_up_is_bound_with_its_own_token_and_its_files() {
    let mut fixture = applied().registered();
    fixture.desired.origin = Origin::TakenUp;
    fixture.desired.claimed_for = Some("u1".into());
    fixture.annotated_id = Some(fixture.desired.identity.agent_id.clone());
    fixture.token = TokenState::Issued(token::IssuedToken { sha256: "t1".into(), ..token::IssuedToken::default() });
    let plan = fixture.plan();
    assert_eq!(names(&plan), ["claim", "repair_token"], "the token of the backup stays");
    plan.steps.iter().for_each(|step| fixture.apply(step));
    let binding = fixture.plan().binds.unwrap();
    assert!(binding.taken_up && !binding.adopted && binding.claimed_for.as_deref() == Some("u1"), "{binding:?}");
}

#[test]
fn a_claimed_id_that_the_gateway_does_not_have_is_created_by_its_own_call() {
    for origin in [Origin::Claimed, Origin::TakenUp] {
        let mut fixture = applied().bound().with_token();
        fixture.desired.origin = origin;
        fixture.binding = fixture.binding.map(|binding| Binding { taken_up: origin == Origin::TakenUp, ..binding });
        assert_eq!(names(&fixture.plan()), ["create"], "a config write does not open a deleted id again");
    }
}
