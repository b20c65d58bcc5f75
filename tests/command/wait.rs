//! `muster wait`.

use serde_json::json;

use crate::rig::{AGENTS, Rig, agent};

#[tokio::test(start_paused = true)]
async fn a_condition_that_somebody_sets_ends_the_wait() {
    let rig = Rig::new().await;
    rig.agents(&["one", "two"]).await;
    rig.set_ready("two", "True", "Reconciled", 1).await;
    let ended = rig
        .alongside("wait agents one two --for=condition=Ready", true, async |out, err| {
            out.until("agent.muster.dev/two condition met\n").await;
            err.until("agent.muster.dev/one: there is no condition Ready yet\n").await;
            rig.set_ready("one", "False", "GatewayNotReady", 1).await;
            err.until("agent.muster.dev/one: Ready is False (GatewayNotReady): It is False.\n").await;
            rig.set_ready("one", "True", "Reconciled", 1).await;
            out.until("agent.muster.dev/one condition met\n").await;
        })
        .await;
    assert_eq!(ended, Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_condition_of_an_earlier_spec_does_not_count() {
    let rig = Rig::new().await;
    rig.agents(&["one"]).await;
    rig.set_ready("one", "True", "Reconciled", 1).await;
    rig.send("PATCH", &format!("{AGENTS}/one"), json!({ "spec": { "displayName": "One" } })).await;
    let ended = rig
        .alongside("wait agent/one --for condition=Ready", true, async |out, err| {
            err.until("Ready is True, for an earlier spec (Reconciled)").await;
            rig.set_ready("one", "True", "Reconciled", 2).await;
            out.until("condition met").await;
        })
        .await;
    assert_eq!(ended, Some(Ok(())));
    rig.ok("wait agent/one --for condition=ready=true").await;
}

#[tokio::test(start_paused = true)]
async fn without_time_left_the_error_has_the_last_reason() {
    let rig = Rig::new().await;
    rig.agents(&["one", "two"]).await;
    rig.set_ready("one", "False", "GatewayNotReady", 1).await;
    rig.set_ready("two", "True", "Reconciled", 1).await;
    let ran = rig.run("wait agents --all --for=condition=Ready --timeout 90s").await;
    assert_eq!((ran.status, ran.out.as_str()), (1, "agent.muster.dev/two condition met\n"));
    let state = "Ready is False (GatewayNotReady): It is False.";
    let expected = format!(
        "agent.muster.dev/one: {state}\nagent.muster.dev/one: no time left after 90 s of waiting for the condition Ready to be True: \
         {state}\nmuster: 1 object failed\n"
    );
    assert_eq!(ran.err, expected, "the first line is the progress of a long wait");
    let short = rig.run("wait agent one --for=condition=Ready --timeout 5s").await;
    assert!(short.status == 1 && short.err.starts_with("agent.muster.dev/one: no time left after 5 s"), "{short:?}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_not_there_ends_the_wait_for_a_condition() {
    let rig = Rig::new().await;
    let ran = rig.run("wait agent nobody --for=condition=Ready").await;
    assert_eq!(
        (ran.status, ran.err.as_str()),
        (1, "agents.muster.dev \"nobody\" not found\nmuster: 1 object failed\n")
    );
    assert_eq!(rig.ok("wait agent nobody --for=delete").await, "agent.muster.dev/nobody condition met\n");
    assert_eq!(rig.run("wait agents --all --for=condition=Ready").await.status, 1);
    rig.agents(&["one"]).await;
    let ended = rig
        .alongside("wait agent one --for=condition=Ready", true, async |_, err| {
            err.until("no condition Ready yet").await;
            rig.send("DELETE", &format!("{AGENTS}/one"), json!({})).await;
            err.until("agents.muster.dev \"one\" was deleted during the wait\n").await;
        })
        .await;
    assert_eq!(ended, Some(Err("1 object failed".into())));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_deletion_ends_with_the_object_even_if_another_takes_its_name() {
    let rig = Rig::new().await;
    rig.agents(&["one"]).await;
    rig.set_finalizers("one", json!(["muster.dev/agent"])).await;
    let ended = rig
        .alongside("wait agent one --for=delete", true, async |out, err| {
            err.until("agent.muster.dev/one: it is not being deleted\n").await;
            rig.send("DELETE", &format!("{AGENTS}/one"), json!({})).await;
            err.until("agent.muster.dev/one: it waits for muster.dev/agent\n").await;
            // The wait sees only the other object of this name.
            let path = format!("{AGENTS}/one");
            rig.send_at_once("PATCH", &path, json!({ "metadata": { "finalizers": [] } }));
            rig.send_at_once("POST", AGENTS, agent("one"));
            rig.api.compact();
            out.until("agent.muster.dev/one condition met\n").await;
        })
        .await;
    assert_eq!(ended, Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_command_line_is_refused() {
    let rig = Rig::new().await;
    for line in [
        "wait agents one",
        "wait agents --for=condition=Ready",
        "wait agents one --all --for=condition=Ready",
        "wait agents one --for=ready",
        "wait agents one --for=condition=Ready --timeout 5",
    ] {
        assert_eq!(rig.run(line).await.status, 2, "{line}");
    }
}
