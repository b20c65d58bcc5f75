use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::core::agent::desired::RenderedText;
use crate::openclaw::model::inventory::assemble;
use crate::openclaw::model::roster::{ConfigAnswer, RosterAnswer};
use crate::openclaw::model::{HeartbeatJob, JobOutcome};

const ID: &str = "mc-1";

/// The inventory of a gateway with this config.
fn inventory(shape: RosterShape, defaults: &Value, cron: &Value) -> Inventory {
    let agents = match shape {
        RosterShape::Entries => json!({ "defaults": defaults, "entries": { ID: { "heartbeat": { "every": "5m" } } } }),
        RosterShape::List => json!({ "defaults": defaults, "list": [{ "id": ID, "heartbeat": { "every": "5m" } }] }),
    };
    let config = json!({ "config": { "agents": agents, "cron": cron } });
    let config = ConfigAnswer::read(&config.to_string()).unwrap();
    assemble(config, &RosterAnswer::default(), &BTreeSet::new(), false)
}

fn observed(inventory: &Inventory, jobs: &HeartbeatJobs) -> ObservedHeartbeat {
    ObservedHeartbeat::of(ID, inventory, Some(jobs), None, |ms| Timestamp::from_millisecond(ms).unwrap())
}

fn entries() -> Inventory {
    inventory(RosterShape::Entries, &json!({}), &json!({}))
}

/// The jobs of a gateway whose heartbeat of the agent ended like this.
fn ended(result: HeartbeatResult, skips: u32) -> HeartbeatJobs {
    let last = Some(JobOutcome { started_ms: 7000, result, skips });
    HeartbeatJobs::Listed([(ID.to_owned(), HeartbeatJob { enabled: true, last })].into())
}

/// Whether calls are due at some time.
fn due(observed: &ObservedHeartbeat) -> bool {
    !DueCalls::of(Some(observed), &AgentStatus::default()).are_none()
}

#[test]
fn a_scheduler_that_is_off_stops_calls_and_the_message_names_the_setting() {
    let by_config = inventory(RosterShape::Entries, &json!({}), &json!({ "enabled": false }));
    let off = observed(&by_config, &HeartbeatJobs::SchedulerOff);
    assert_eq!(off.flaw, Some(HeartbeatFlaw::SchedulerOff { by_config: true }));
    assert!(off.flaw.as_ref().unwrap().message().contains("cron.enabled is false"));
    assert!(!due(&off));
    let by_environment = observed(&entries(), &HeartbeatJobs::SchedulerOff).flaw.unwrap();
    assert!(by_environment.message().contains("OPENCLAW_SKIP_CRON"));
    let old = inventory(RosterShape::List, &json!({}), &json!({ "enabled": false }));
    assert!(due(&observed(&old, &HeartbeatJobs::NoJobs)), "an old gateway needs no scheduler");
}

#[test]
fn a_missing_and_a_disabled_job_stop_calls_and_an_unreadable_list_is_unknown() {
    let missing = observed(&entries(), &HeartbeatJobs::Listed(BTreeMap::new()));
    assert_eq!((missing.flaw.clone(), due(&missing)), (Some(HeartbeatFlaw::NotScheduled), false));
    let job = HeartbeatJob { enabled: false, last: None };
    let disabled = observed(&entries(), &HeartbeatJobs::Listed([(ID.to_owned(), job)].into()));
    assert_eq!((disabled.flaw.clone(), due(&disabled)), (Some(HeartbeatFlaw::JobDisabled), false));
    let unreadable = observed(&entries(), &HeartbeatJobs::Unreadable("missing scope".into()));
    assert_eq!(unreadable.flaw.as_ref().map(HeartbeatFlaw::status), Some(ConditionStatus::Unknown));
    assert!(due(&unreadable));
}

#[test]
fn the_outcome_of_the_last_heartbeat_decides() {
    let flaw = |result, skips| observed(&entries(), &ended(result, skips)).flaw;
    assert_eq!(flaw(HeartbeatResult::Ran, 0), None);
    assert_eq!(flaw(HeartbeatResult::Skipped(SkipReason::QuietHours), 9), None);
    let busy = SkipReason::Other("cron-in-progress".into());
    assert_eq!(flaw(HeartbeatResult::Skipped(busy.clone()), 2), None);
    assert_eq!(flaw(HeartbeatResult::Skipped(busy.clone()), 3), Some(HeartbeatFlaw::Skipped(busy.clone())));
    for reason in [SkipReason::NoRoute, SkipReason::EmptyScratch, SkipReason::Disabled] {
        let skipped = observed(&entries(), &ended(HeartbeatResult::Skipped(reason.clone()), 1));
        assert_eq!((skipped.flaw.clone(), due(&skipped)), (Some(HeartbeatFlaw::Skipped(reason)), false));
    }
    let failed = observed(&entries(), &ended(HeartbeatResult::Failed("timeout".into()), 0));
    assert_eq!((failed.flaw.clone(), due(&failed)), (Some(HeartbeatFlaw::Failed("timeout".into())), true));
    let skipped = observed(&entries(), &ended(HeartbeatResult::Skipped(busy), 5));
    assert_eq!((skipped.skipped_at, due(&skipped)), (Timestamp::from_second(7).ok(), true));
}

#[test]
fn an_event_that_is_later_than_the_list_decides() {
    let skipped = HeartbeatResult::Skipped(SkipReason::NoRoute);
    let mut activity = AgentActivity::default();
    activity.heartbeats.record(JobOutcome { started_ms: 9000, result: HeartbeatResult::Ran, skips: 0 });
    let of = |activity: &AgentActivity| {
        let time = |ms| Timestamp::from_millisecond(ms).unwrap();
        ObservedHeartbeat::of(ID, &entries(), Some(&ended(skipped.clone(), 1)), Some(activity), time)
    };
    assert_eq!((of(&activity).flaw, of(&activity).skipped_at), (None, Timestamp::from_second(7).ok()));
    let mut earlier = AgentActivity::default();
    earlier.heartbeats.record(JobOutcome { started_ms: 5000, result: HeartbeatResult::Ran, skips: 0 });
    assert_eq!(of(&earlier).flaw, Some(HeartbeatFlaw::Skipped(SkipReason::NoRoute)));
}

#[test]
fn hidden_files_stop_calls_on_gateways_whose_light_runs_see_no_file() {
    let light = json!({ "heartbeat": { "lightContext": true } });
    let new = observed(&inventory(RosterShape::Entries, &light, &json!({})), &ended(HeartbeatResult::Ran, 0));
    assert_eq!((new.flaw.clone(), due(&new)), (Some(HeartbeatFlaw::FilesHidden), false));
    let old = observed(&inventory(RosterShape::List, &light, &json!({})), &HeartbeatJobs::NoJobs);
    assert_eq!((old.flaw.clone(), due(&old)), (None, true));
}

#[test]
fn a_window_in_an_unknown_zone_lets_no_silence_count_unless_the_gateway_shows_its_outcomes() {
    let hours = json!({ "heartbeat": { "activeHours": { "start": "08:00", "end": "22:00" } } });
    let old = observed(&inventory(RosterShape::List, &hours, &json!({})), &HeartbeatJobs::NoJobs);
    assert_eq!((due(&old), old.flaw.clone()), (false, None));
    let new = observed(&inventory(RosterShape::Entries, &hours, &json!({})), &ended(HeartbeatResult::Ran, 0));
    assert!(due(&new));
    let status = AgentStatus { active_hours: new.hours.clone().map(Box::new), ..AgentStatus::default() };
    assert!(DueCalls::of(None, &status).are_none(), "while the gateway is away");
    let empty = json!({ "heartbeat": { "activeHours": { "start": "08:00", "end": "08:00" } } });
    let empty = observed(&inventory(RosterShape::List, &empty, &json!({})), &HeartbeatJobs::NoJobs);
    assert_eq!((due(&empty), empty.flaw.clone()), (false, Some(HeartbeatFlaw::EmptyHours)));
}

#[test]
fn a_heartbeat_file_without_a_task_stops_calls_on_gateways_that_read_it() {
    let of = |roster, text: &str| {
        let content = RenderedText::of(text.into());
        let delivery = Delivery::Write { policy: FilePolicy::Always, drift: DriftPolicy::Correct, content };
        let file = DesiredFile { name: HEARTBEAT_FILE.into(), carries_token: false, is_adopted: false, delivery };
        ObservedHeartbeat::default().with_files(roster, &[file])
    };
    let empty = of(RosterShape::List, "# Heartbeat\n\n- [ ] \n*\n##\n");
    assert_eq!((empty.flaw.clone(), due(&empty)), (Some(HeartbeatFlaw::EmptyFile), false));
    for text in ["# Heartbeat\ncheck in", "- [ ] check in", "#!"] {
        assert_eq!(of(RosterShape::List, text).flaw, None, "{text}");
    }
    assert_eq!(of(RosterShape::Entries, "").flaw, None);
}

#[test]
fn every_message_says_what_to_do_and_fits_a_condition() {
    let flaws = [
        HeartbeatFlaw::Unreadable("x".repeat(512)),
        HeartbeatFlaw::SchedulerOff { by_config: false },
        HeartbeatFlaw::NotScheduled,
        HeartbeatFlaw::JobDisabled,
        HeartbeatFlaw::EmptyHours,
        HeartbeatFlaw::FilesHidden,
        HeartbeatFlaw::EmptyFile,
        HeartbeatFlaw::Skipped(SkipReason::Other("x".repeat(64))),
        HeartbeatFlaw::Failed("x".repeat(512)),
    ];
    for flaw in flaws {
        assert!((40..1024).contains(&flaw.message().len()), "{flaw:?}");
    }
}

#[test]
fn each_reason_of_a_skip_has_its_own_explanation_and_next_step() {
    let message = |reason: &str| HeartbeatFlaw::Skipped(SkipReason::Other(reason.into())).message();
    for (reason, words) in [
        ("requests-in-flight", "look for a run that does not end in its sessions"),
        ("active-run", "look for a run that does not end in its sessions"),
        ("cron-in-progress", "openclaw cron list"),
        ("channel-not-ready", "set spec.heartbeat.target to none"),
        ("alerts-disabled", "heartbeatVisibility"),
        ("preempted", "another run of the same session"),
        ("agent-runner-cancelled", "were cancelled"),
        ("not-due", "longer spec.heartbeat.interval"),
        ("min-spacing", "longer spec.heartbeat.interval"),
        ("flood", "longer spec.heartbeat.interval"),
        ("handler-unavailable", "starts or stops"),
        ("store-replaced", "its session store was replaced"),
        ("something-new", "see the gateway's log for the cause"),
    ] {
        let message = message(reason);
        assert!(message.contains(words) && message.contains(&format!("({reason})")), "{message}");
        assert_eq!(message.contains("another agent"), reason == "cron-in-progress", "{message}");
    }
}
