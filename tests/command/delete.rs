//! `muster delete`.

use serde_json::{Value, json};

use crate::rig::{AGENTS, Rig};

#[tokio::test(start_paused = true)]
async fn the_command_waits_until_the_objects_are_gone() {
    let rig = Rig::new().await;
    rig.agents(&["one", "two"]).await;
    rig.set_finalizers("one", json!(["muster.dev/agent"])).await;
    let ended = rig
        .alongside("delete agents one two", true, async |out, err| {
            let deleted = out.until("\"two\" deleted").await;
            assert!(deleted.starts_with("agent.muster.dev \"one\" deleted from fleet namespace\n"), "{deleted}");
            err.until("agent.muster.dev/one: it waits for muster.dev/agent\n").await;
            rig.set_finalizers("one", json!([])).await;
        })
        .await;
    assert_eq!(ended, Some(Ok(())));
    assert!(rig.try_send("GET", &format!("{AGENTS}/one"), Value::Null).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn without_wait_the_command_ends_at_once_and_with_it_not_without_end() {
    let rig = Rig::new().await;
    rig.agents(&["one"]).await;
    rig.set_finalizers("one", json!(["muster.dev/agent"])).await;
    rig.ok("delete agent/one --wait=false").await;
    let ran = rig.run("delete agent one --timeout 1m").await;
    let expected =
        "agent.muster.dev/one: no time left after 60 s of waiting for the deletion: it waits for muster.dev/agent\n";
    assert!(ran.status == 1 && ran.err.contains(expected), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn objects_are_deleted_by_label_and_missing_ones_are_named() {
    let rig = Rig::new().await;
    rig.agents(&["one", "two", "three"]).await;
    rig.send("PATCH", &format!("{AGENTS}/two"), json!({ "metadata": { "labels": { "team": "a" } } })).await;
    assert_eq!(rig.ok("delete agents -l team=a").await, "agent.muster.dev \"two\" deleted from fleet namespace\n");
    let ran = rig.run("delete agents two three").await;
    assert_eq!((ran.status, ran.out.as_str()), (1, "agent.muster.dev \"three\" deleted from fleet namespace\n"));
    assert!(ran.err.starts_with("agents.muster.dev \"two\" not found\n"), "{ran:?}");
    assert_eq!(rig.ok("delete agent two --ignore-not-found").await, "");
    assert_eq!(rig.ok("delete agents --all").await, "agent.muster.dev \"one\" deleted from fleet namespace\n");
    assert_eq!(rig.run("delete agents --all").await.err, "No resources found in fleet namespace.\n");
    for line in
        ["delete", "delete agents", "delete agents one --all", "delete agents one -f DIR", "delete agents --all -l a=b"]
    {
        assert_eq!(rig.run(line).await.status, 2, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_objects_of_files_are_deleted_in_the_reverse_order() {
    let rig = Rig::new().await;
    rig.write(
        "all.yaml",
        "
apiVersion: v1
kind: Namespace
metadata: {name: new}
---
apiVersion: v1
kind: Secret
metadata: {name: gw, namespace: new}
---
apiVersion: muster.dev/v1alpha1
kind: Board
metadata: {name: ops, namespace: new}
spec: {gatewayRef: {name: gw}}
---
apiVersion: muster.dev/v1alpha1
kind: Agent
metadata: {name: one, namespace: new}
spec: {boardRef: {name: ops}}
---
apiVersion: muster.dev/v1alpha1
kind: Agent
metadata: {name: two, namespace: new}
spec: {boardRef: {name: ops}}
",
    );
    rig.ok("apply -f DIR").await;
    let deleted = rig.ok("delete -f DIR/all.yaml").await;
    let names: Vec<_> = deleted.lines().filter_map(|line| line.split(" deleted").next()).collect();
    let expected = [
        "agent.muster.dev \"one\"",
        "agent.muster.dev \"two\"",
        "board.muster.dev \"ops\"",
        "secret \"gw\"",
        "namespace \"new\"",
    ];
    assert_eq!(names, expected);
    assert!(rig.try_send("GET", "/api/v1/namespaces/new", Value::Null).await.is_err());
}
