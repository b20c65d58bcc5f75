//! The one-shot requests, `muster suspend` and `muster resume`.

use serde_json::{Value, json};

use crate::rig::{AGENTS, BOARDS, GATEWAYS, Rig, board, gateway};

async fn fleet() -> Rig {
    let rig = Rig::new().await;
    rig.agents(&["one", "two"]).await;
    rig.send("POST", BOARDS, board("ops")).await;
    rig.send("POST", GATEWAYS, gateway("gw")).await;
    rig
}

async fn record(rig: &Rig, name: &str, kind: &str, requested_at: &str) {
    let record = json!([{ "kind": kind, "requestedAt": requested_at, "handledAt": "2026-03-01T10:00:09Z" }]);
    rig.send("PATCH", &format!("{AGENTS}/{name}/status"), json!({ "status": { "requests": record } })).await;
}

#[tokio::test(start_paused = true)]
async fn the_command_that_the_demo_prints_makes_a_request() {
    let rig = Rig::new().await;
    rig.agents(&["one"]).await;
    let demo = include_str!("../../harness/src/demo/embedded.rs");
    let printed = demo.lines().find_map(|line| line.trim().strip_prefix("println!(\"  muster rotate ")).unwrap();
    let printed = printed.trim_end_matches("\");").replace("{agent}", "one").replace("{NAMESPACE}", "fleet");
    // No operator answers.
    let line = format!("rotate {printed} --timeout=1s");
    let ran = rig.run(&line).await;
    assert_eq!((ran.status, ran.out.as_str()), (1, "agent.muster.dev/one rotate requested\n"), "{ran:?}");
    assert!(printed.ends_with("--wait") && ran.err.contains("rotate is not handled"), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn each_request_sets_its_annotation_on_each_kind() {
    let rig = fleet().await;
    for verb in ["sync", "overwrite", "rotate", "bootstrap", "reset-session", "wake"] {
        let out = rig.ok(&format!("{verb} agent/one board/ops gateway/gw")).await;
        let expected = format!(
            "agent.muster.dev/one {verb} requested\nboard.muster.dev/ops {verb} requested\nagentgateway.muster.dev/gw {verb} requested\n"
        );
        assert_eq!(out, expected);
        for path in [format!("{AGENTS}/one"), format!("{BOARDS}/ops"), format!("{GATEWAYS}/gw")] {
            let annotations = rig.get(&path).await["metadata"]["annotations"].clone();
            let value = annotations[format!("muster.dev/{verb}-requested-at")].as_str().unwrap().to_owned();
            assert!(value.starts_with("2026-03-01T10:00:0") && value.ends_with('Z'), "{path}: {annotations}");
        }
    }
    assert_eq!(rig.ok("sync agents --all").await.lines().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_second_request_in_the_same_second_is_another_request() {
    let rig = fleet().await;
    let annotation = async || {
        rig.get(&format!("{AGENTS}/one")).await["metadata"]["annotations"]["muster.dev/rotate-requested-at"].clone()
    };
    rig.ok("rotate agent one").await;
    assert_eq!(annotation().await, "2026-03-01T10:00:00Z");
    rig.ok("rotate agent one").await;
    assert_eq!(annotation().await, "2026-03-01T10:00:01Z");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_record_of_this_request_and_not_with_ready() {
    let rig = fleet().await;
    rig.set_ready("one", "True", "Reconciled", 1).await;
    record(&rig, "one", "Rotate", "2026-03-01T09:00:00Z").await;
    let ended = rig
        .alongside("rotate agent one --wait", true, async |out, err| {
            out.until("agent.muster.dev/one rotate requested\n").await;
            err.until("agent.muster.dev/one: rotate is not handled yet; Ready is True (Reconciled): It is True.\n")
                .await;
            rig.set_ready("one", "False", "GatewayNotReady", 1).await;
            err.until("rotate is not handled yet; Ready is False (GatewayNotReady): It is False.\n").await;
            record(&rig, "one", "Rotate", "2026-03-01T10:00:00Z").await;
            out.until("agent.muster.dev/one rotate handled\n").await;
        })
        .await;
    assert_eq!(ended, Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_board_is_done_when_none_of_its_agents_is_left() {
    let rig = fleet().await;
    let set = async |pending: i32| {
        let errors = if pending > 0 { json!([{ "agent": "fleet/one", "message": "it is away" }]) } else { json!([]) };
        let sync = json!({ "requestedAt": "2026-03-01T10:00:00Z", "kinds": ["Sync"], "updated": 2 - pending, "skipped": 0,
            "pending": pending, "errors": errors });
        let status = json!({ "status": { "observedGeneration": 1, "lastSync": sync } });
        rig.send("PATCH", &format!("{BOARDS}/ops/status"), status).await;
    };
    let ended = rig
        .alongside("sync board ops --wait", true, async |out, err| {
            err.until("board.muster.dev/ops: Muster has not seen the request yet").await;
            set(1).await;
            err.until("handled by 1 agent, 0 agents had nothing to do, 1 agent to go: fleet/one: it is away\n").await;
            set(0).await;
            out.until("board.muster.dev/ops sync handled by 2 agents, 0 agents had nothing to do\n").await;
        })
        .await;
    assert_eq!(ended, Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn without_time_left_the_error_says_what_the_request_waits_for() {
    let rig = fleet().await;
    rig.set_ready("one", "False", "GatewayNotReady", 1).await;
    let ran = rig.run("wake agents one nobody --wait --timeout 30s").await;
    assert_eq!((ran.status, ran.out.as_str()), (1, "agent.muster.dev/one wake requested\n"));
    let timeout = "agent.muster.dev/one: no time left after 30 s of waiting for the request wake of 2026-03-01T10:00:00Z to be handled: \
        wake is not handled yet; Ready is False (GatewayNotReady): It is False.\n";
    assert!(ran.err.contains("agents.muster.dev \"nobody\" not found") && ran.err.contains(timeout), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn a_suspension_has_a_reason_and_ends_with_it() {
    let rig = fleet().await;
    for (kind, path) in [("agent one", format!("{AGENTS}/one")), ("board ops", format!("{BOARDS}/ops"))] {
        let spec = async || {
            let spec = rig.get(&path).await["spec"].clone();
            (spec["suspend"].clone(), spec["suspendReason"].clone())
        };
        rig.ok(&format!("suspend {kind} --reason holidays")).await;
        assert_eq!(spec().await, (json!(true), json!("holidays")));
        rig.ok(&format!("suspend {kind}")).await;
        assert_eq!(spec().await, (json!(true), Value::Null));
        rig.ok(&format!("resume {kind}")).await;
        assert_eq!(spec().await, (json!(false), Value::Null));
    }
    assert_eq!(rig.ok("suspend gateways --all").await, "agentgateway.muster.dev/gw suspended\n");
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_suspension_ends_when_the_status_has_it() {
    let rig = fleet().await;
    let ended = rig
        .alongside("suspend agent one --wait", true, async |out, err| {
            err.until("agent.muster.dev/one: there is no condition Paused yet\n").await;
            let paused = json!({ "type": "Paused", "status": "True", "reason": "Suspended", "message": "spec.suspend is true",
                "lastTransitionTime": "2026-03-01T09:30:00Z", "observedGeneration": 2 });
            let status = json!({ "status": { "observedGeneration": 2, "conditions": [paused] } });
            rig.send("PATCH", &format!("{AGENTS}/one/status"), status).await;
            out.until("agent.muster.dev/one is suspended\n").await;
        })
        .await;
    assert_eq!(ended, Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn other_kinds_and_wrong_command_lines_are_refused() {
    let rig = fleet().await;
    let ran = rig.run("rotate secret gw").await;
    let expected = "muster: a Secret takes no such request; give agents, boards or agentgateways\n";
    assert_eq!((ran.status, ran.err.as_str()), (2, expected));
    for line in ["sync", "sync agents", "sync agents one --all", "suspend ns fleet", "resume agents", "wake agents -l"]
    {
        assert_eq!(rig.run(line).await.status, 2, "{line}");
    }
    let ran = rig.run("sync agents --all -n other").await;
    assert_eq!((ran.status, ran.err.as_str()), (1, "muster: no resources found in other namespace\n"));
    let ran = rig.run("suspend agents one nobody").await;
    assert_eq!((ran.status, ran.out.as_str()), (1, "agent.muster.dev/one suspended\n"));
}
