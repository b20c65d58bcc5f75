//! `muster apply`.

use muster::api::keys;
use serde_json::{Value, json};

use crate::rig::{AGENTS, BOARDS, Rig, SECRETS};

const FLEET: &str = "
apiVersion: muster.dev/v1alpha1
kind: Agent
metadata:
  name: one
  labels: {team: a}
spec:
  boardRef: {name: ops}
  displayName: One
  heartbeat: {interval: 10m, prompt: look}
---
apiVersion: muster.dev/v1alpha1
kind: Board
metadata: {name: ops}
spec:
  gatewayRef: {name: gw}
---
apiVersion: v1
kind: Secret
metadata: {name: gw}
stringData: {token: hush-hush}
";

const UNCHANGED: &str = "secret/gw unchanged\nboard.muster.dev/ops unchanged\nagent.muster.dev/one unchanged\n";

#[tokio::test(start_paused = true)]
async fn objects_are_created_once() {
    let rig = Rig::new().await;
    rig.write("fleet.yaml", FLEET);
    let created = rig.ok("apply -f DIR/fleet.yaml").await;
    assert_eq!(created, "secret/gw created\nboard.muster.dev/ops created\nagent.muster.dev/one created\n");
    let version = rig.get(&format!("{AGENTS}/one")).await["metadata"]["resourceVersion"].clone();
    assert_eq!(rig.ok("apply -f DIR/fleet.yaml").await, UNCHANGED);
    assert_eq!(rig.get(&format!("{AGENTS}/one")).await["metadata"]["resourceVersion"], version);
    assert_eq!(rig.run_with("apply -f -", FLEET).await.out, UNCHANGED);
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_changes_its_objects_alone() {
    let rig = Rig::new().await;
    rig.write("fleet.yaml", FLEET);
    rig.ok("apply -f DIR").await;
    rig.write("fleet.yaml", &FLEET.replace("displayName: One", "displayName: First"));
    let changed = rig.ok("apply -f DIR").await;
    assert_eq!(changed, UNCHANGED.replace("one unchanged", "one configured"));
    assert_eq!(rig.get(&format!("{AGENTS}/one")).await["spec"]["displayName"], "First");
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_no_longer_in_the_file_is_removed_and_a_field_of_others_stays() {
    let rig = Rig::new().await;
    rig.write("fleet.yaml", FLEET);
    rig.ok("apply -f DIR").await;
    let others = json!({ "metadata": { "labels": { "theirs": "x" } }, "spec": { "suspend": true, "heartbeat": { "target": "none" } } });
    rig.send("PATCH", &format!("{AGENTS}/one"), others).await;
    rig.write(
        "fleet.yaml",
        &FLEET.replace("  displayName: One\n", "").replace(", prompt: look", "").replace("team: a", "rank: b"),
    );
    assert!(rig.ok("apply -f DIR").await.ends_with("agent.muster.dev/one configured\n"));
    let agent = rig.get(&format!("{AGENTS}/one")).await;
    assert_eq!(agent["metadata"]["labels"], json!({ "rank": "b", "theirs": "x" }));
    let spec = &agent["spec"];
    assert!(spec.get("displayName").is_none() && spec["suspend"] == true, "{spec}");
    let heartbeat = &spec["heartbeat"];
    assert!(
        heartbeat["interval"] == "10m" && heartbeat["target"] == "none" && heartbeat.get("prompt").is_none(),
        "{spec}"
    );
    assert!(rig.ok("apply -f DIR").await.ends_with("agent.muster.dev/one unchanged\n"));
}

#[tokio::test(start_paused = true)]
async fn one_bad_document_does_not_stop_the_others() {
    let rig = Rig::new().await;
    let bad = "
---
apiVersion: muster.dev/v1alpha1
kind: Agent
metadata: {name: typo}
spec: {boardRef: {name: ops}, displayNam: x}
---
apiVersion: muster.dev/v1alpha1
kind: Agent
metadata: {name: wrong}
spec: {boardRef: {name: ops}, role: King}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
---
a: [
";
    rig.write("fleet.yaml", &format!("{FLEET}{bad}"));
    let ran = rig.run("apply -f DIR/fleet.yaml").await;
    assert_eq!((ran.status, ran.out), (1, UNCHANGED.replace("unchanged", "created")));
    let lines: Vec<_> = ran.err.lines().collect();
    let expected = [
        ("DIR/fleet.yaml, document 6: apps/v1 Deployment is a kind that muster does not handle", ""),
        ("DIR/fleet.yaml, document 7: the YAML cannot be read in line ", ""),
        ("DIR/fleet.yaml, document 4: agent.muster.dev/typo: ", "unknown field \"spec.displayNam\""),
        ("DIR/fleet.yaml, document 5: agent.muster.dev/wrong: ", "spec.role"),
        ("muster: 4 documents failed", ""),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (start, part)) in lines.iter().zip(expected) {
        assert!(line.starts_with(start) && line.contains(part), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_field_of_a_changed_object_is_refused() {
    let rig = Rig::new().await;
    rig.write("fleet.yaml", FLEET);
    rig.ok("apply -f DIR").await;
    rig.write("fleet.yaml", &FLEET.replace("displayName", "displayNam"));
    let ran = rig.run("apply -f DIR").await;
    assert!(ran.status == 1 && ran.err.contains("document 1: agent.muster.dev/one: "), "{ran:?}");
    assert!(ran.err.contains("unknown field \"spec.displayNam\""), "{ran:?}");
    assert_eq!(rig.get(&format!("{AGENTS}/one")).await["spec"]["displayName"], "One");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_the_files_is_made_first() {
    let rig = Rig::new().await;
    rig.write("b/board.json", r#"{"apiVersion": "muster.dev/v1alpha1", "kind": "Board", "metadata": {"name": "ops", "namespace": "new"}, "spec": {"gatewayRef": {"name": "gw"}}}"#);
    rig.write("z.yml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: new}\n");
    let dry = rig.ok("apply --dry-run -f DIR").await;
    assert_eq!(
        dry,
        "namespace/new created (server dry run)\nboard.muster.dev/ops created, not checked because its namespace does not exist yet \
         (server dry run)\n"
    );
    assert_eq!(rig.ok("apply -f DIR").await, "namespace/new created\nboard.muster.dev/ops created\n");
    assert_eq!(rig.ok("apply -f DIR").await, "namespace/new unchanged\nboard.muster.dev/ops unchanged\n");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing() {
    let rig = Rig::new().await;
    rig.write("fleet.yaml", FLEET);
    assert!(rig.ok("apply --dry-run -f DIR").await.ends_with("agent.muster.dev/one created (server dry run)\n"));
    assert!(rig.try_send("GET", &format!("{BOARDS}/ops"), Value::Null).await.is_err());
    rig.ok("apply -f DIR").await;
    rig.write("fleet.yaml", &FLEET.replace("One", "First"));
    assert!(rig.ok("apply --dry-run -f DIR").await.ends_with("agent.muster.dev/one configured (server dry run)\n"));
    assert_eq!(rig.get(&format!("{AGENTS}/one")).await["spec"]["displayName"], "One");
}

#[tokio::test(start_paused = true)]
async fn the_values_of_a_secret_appear_nowhere_but_in_its_data() {
    let rig = Rig::new().await;
    rig.write("fleet.yaml", FLEET);
    rig.ok("apply -f DIR").await;
    let secret = rig.get(&format!("{SECRETS}/gw")).await;
    assert_eq!(secret["data"], json!({ "token": "aHVzaC1odXNo" }));
    let kept = secret["metadata"]["annotations"][keys::LAST_APPLIED].as_str().unwrap();
    assert!(kept.contains("\"token\":\"\"") && !kept.contains("hush") && !kept.contains("aHVz"), "{kept}");
    rig.write("fleet.yaml", &FLEET.replace("token: hush-hush", "other: hush-hush"));
    assert!(rig.ok("apply -f DIR").await.starts_with("secret/gw configured\n"));
    assert_eq!(rig.get(&format!("{SECRETS}/gw")).await["data"], json!({ "other": "aHVzaC1odXNo" }));
    rig.write("fleet.yaml", &FLEET.replace("stringData: {token: hush-hush}", "data: {token: [hush-hush]}"));
    let ran = rig.run("apply -f DIR").await;
    assert!(ran.status == 1 && ran.err.contains("document 3: secret/gw: ") && !ran.err.contains("hush"), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_namespace_and_a_missing_file_are_named() {
    let rig = Rig::new().await;
    rig.write("fleet.yaml", FLEET);
    let ran = rig.run("apply -n nowhere -f DIR/fleet.yaml DIR/missing.yaml").await;
    assert!(ran.status == 1 && ran.err.contains("DIR/missing.yaml: "), "{ran:?}");
    assert!(ran.err.contains("document 1: agent.muster.dev/one: namespaces \"nowhere\" not found"), "{ran:?}");
    let ran = rig.run_with("apply -f -", "# nothing\n").await;
    assert_eq!((ran.status, ran.err.as_str()), (1, "muster: there is no object in -\n"));
    assert_eq!(rig.run("apply").await.status, 2);
}

#[tokio::test(start_paused = true)]
async fn the_shipped_examples_are_applied() {
    let rig = Rig::new().await;
    for (name, text) in [
        ("gateway.yaml", include_str!("../../deploy/examples/gateway.yaml")),
        ("boards.yaml", include_str!("../../deploy/examples/boards.yaml")),
        ("agents.yaml", include_str!("../../deploy/examples/agents.yaml")),
    ] {
        rig.write(name, text);
    }
    let applied = rig.ok("apply -f DIR").await;
    assert_eq!(applied.lines().filter(|line| line.ends_with(" created")).count(), 9, "{applied}");
    assert!(applied.contains("agent.muster.dev/devops-engineer created\n"), "{applied}");
}
