use serde_json::{Value, json};

use super::*;
use crate::openclaw::model::readers::raw;

impl GatewayActivity {
    fn apply_raw(&mut self, event: &str, payload: &Value) -> Option<String> {
        self.apply(RunEvent::read(event, &raw(payload)).unwrap()?).unwrap()
    }
}

fn changed(phase: &str, run: &str, ts: i64) -> Value {
    json!({ "sessionKey": "agent:mc-1:main", "agentId": "mc-1", "phase": phase, "runId": run, "ts": ts })
}

fn lifecycle(phase: &str, run: &str, at: i64) -> Value {
    json!({ "agentId": "mc-1", "runId": run, "stream": "lifecycle", "ts": at,
        "data": { "phase": phase, "startedAt": at, "endedAt": at } })
}

fn job(action: &str) -> Value {
    json!({ "jobId": "j", "action": action, "runAtMs": 5, "job": { "declarationKey": "heartbeat:mc-1" } })
}

#[test]
fn a_run_lasts_from_its_start_to_its_end() {
    let mut activity = GatewayActivity::default();
    assert_eq!(activity.apply_raw("agent", &lifecycle("start", "r", 5)).as_deref(), Some("mc-1"));
    assert!(activity.of("mc-1").unwrap().is_running());
    assert_eq!(activity.apply_raw("agent", &lifecycle("end", "r", 9)).as_deref(), Some("mc-1"));
    let agent = activity.of("mc-1").unwrap();
    assert!(!agent.is_running() && agent.has_ended("r"));
    assert_eq!(agent.run(), Some(Run { id: "r".into(), started_ms: 5, ended_ms: Some(9) }));
}

#[test]
fn a_late_event_of_an_ended_run_changes_nothing() {
    let mut activity = GatewayActivity::default();
    activity.apply_raw("agent", &lifecycle("start", "r", 5));
    activity.apply_raw("agent", &lifecycle("end", "r", 9));
    assert_eq!(activity.apply_raw("sessions.changed", &changed("start", "r", 5)), None);
    assert_eq!(activity.apply_raw("sessions.changed", &changed("end", "r", 9)), None);
    assert!(!activity.of("mc-1").unwrap().is_running());
}

#[test]
fn an_agent_is_running_while_the_gateways_heartbeat_job_is() {
    let mut activity = GatewayActivity::default();
    activity.apply_raw("cron", &job("started"));
    assert!(activity.of("mc-1").unwrap().is_running());
    activity.apply_raw("sessions.changed", &changed("start", "r", 6));
    activity.apply_raw("sessions.changed", &changed("end", "r", 7));
    activity.apply_raw("cron", &job("finished"));
    let agent = activity.of("mc-1").unwrap();
    assert_eq!((agent.is_running(), agent.run().map(|r| r.id)), (false, Some("r".into())));
    activity.apply_raw("cron", &job("started"));
    assert!(activity.of("mc-1").unwrap().is_running(), "the next run of the job has the same id");
}

#[test]
fn a_loss_of_events_starts_a_new_epoch() {
    let mut activity = GatewayActivity::default();
    activity.apply_raw("agent", &lifecycle("start", "r", 5));
    activity.reset();
    assert_eq!((activity.of("mc-1"), activity.epoch), (None, 1));
}

#[test]
fn changes_of_a_session_are_counted() {
    let mut activity = GatewayActivity::default();
    for reason in ["patch", "reset", "delete"] {
        let payload = json!({ "sessionKey": "agent:mc-1:main", "reason": reason, "ts": 1 });
        assert_eq!(activity.apply_raw("sessions.changed", &payload).as_deref(), Some("mc-1"));
    }
    assert_eq!(activity.of("mc-1").map(|a| a.session_changes), Some(3));
}

#[test]
fn an_agent_that_the_gateway_no_longer_has_is_forgotten() {
    let mut activity = GatewayActivity::default();
    let changed = |id: &str| json!({ "sessionKey": format!("agent:{id}:main"), "reason": "reset", "ts": 1 });
    for id in ["gone", "stays"] {
        activity.apply_raw("sessions.changed", &changed(id));
    }
    activity.forget_others(|id| id == "stays");
    assert_eq!(activity.agents.keys().collect::<Vec<_>>(), ["stays"]);
    activity.apply_raw("sessions.changed", &changed("gone"));
    assert_eq!(activity.of("gone").map(|agent| agent.session_changes), Some(3), "a later agent of the id is another");
}

#[test]
fn a_label_event_is_read_in_the_forms_of_old_and_new_gateways() {
    let mut activity = GatewayActivity::default();
    let labelled = LabelEvent { key: "agent:mc-1:main".into(), id: "s1".into(), label: Some("Ops".into()) };
    let session = json!({ "sessionId": "s1", "label": "Ops" });
    let mut old = json!({ "sessionKey": labelled.key, "reason": "patch", "sessionId": "s1", "label": "Ops" });
    for payload in [json!({ "sessionKey": labelled.key, "reason": "patch", "session": session }), old.clone()] {
        activity.apply_raw("sessions.changed", &payload);
        let agent = activity.of("mc-1").unwrap();
        assert_eq!((agent.labelled.as_ref(), agent.session_changes), (Some(&labelled), 0));
    }
    old["reason"] = json!("reset");
    activity.apply_raw("sessions.changed", &old);
    assert_eq!(activity.of("mc-1").map(|a| (a.labelled.clone(), a.session_changes)), Some((None, 1)));
}

#[test]
fn events_with_made_up_ids_meet_a_bound() {
    let mut activity = GatewayActivity::default();
    let event = |id: String| {
        let payload = json!({ "sessionKey": format!("agent:{id}:main"), "reason": "reset", "ts": 1 });
        RunEvent::read("sessions.changed", &raw(&payload)).unwrap().unwrap()
    };
    for n in 0..limits::AGENTS {
        assert!(activity.apply(event(format!("made-up-{n}"))).is_ok());
    }
    let Exceeded(bound) = activity.apply(event("one-more".into())).unwrap_err();
    assert!(bound.contains("more than 10000 agents"), "{bound}");
}

#[test]
fn runs_with_long_made_up_ids_meet_a_bound_and_a_forgotten_agent_gives_its_memory_back() {
    let mut activity = GatewayActivity::default();
    let id = "x".repeat(500);
    let mut started = 0..;
    let bound = loop {
        let n: usize = started.next().unwrap();
        let payload = json!({ "agentId": format!("a{}", n / 60), "runId": format!("{id}{n}"), "stream": "lifecycle",
            "ts": 1, "data": { "phase": "start", "startedAt": 1 } });
        if let Err(Exceeded(bound)) = activity.apply(RunEvent::read("agent", &raw(&payload)).unwrap().unwrap()) {
            break bound;
        }
    };
    assert!(bound.contains("more than 32 MiB"), "{bound}");
    assert!(started.start * 500 < limits::ACTIVITY);
    activity.forget_others(|id| id == "a1");
    assert!(activity.bytes() < 64 * 1024);
    activity.forget_others(|_| false);
    assert_eq!(activity.bytes(), 0);
}

#[test]
fn an_id_of_a_megabyte_meets_a_bound() {
    for payload in [json!({ "agentId": "x".repeat(1 << 20) }), json!({ "runId": "x".repeat(1 << 20) })] {
        assert!(RunEvent::read("agent", &raw(&payload)).is_err());
    }
}

#[test]
fn events_without_a_run_are_ignored() {
    let mut activity = GatewayActivity::default();
    let events = [
        ("sessions.changed", json!({ "sessionKey": "agent:mc-1:main", "reason": "participants", "ts": 1 })),
        ("agent", json!({ "agentId": "mc-1", "runId": "r", "stream": "assistant", "data": { "phase": "start" } })),
        ("cron", json!({ "jobId": "j", "action": "started", "job": { "declarationKey": "other:mc-1" } })),
        ("tick", json!({ "ts": 1 })),
    ];
    for (event, payload) in events {
        assert_eq!(activity.apply_raw(event, &payload), None, "{event}");
    }
}
