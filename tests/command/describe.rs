//! `muster describe`.

use serde_json::json;

use crate::rig::{AGENTS, Rig, SECRETS};

#[tokio::test(start_paused = true)]
async fn an_object_is_described_with_its_own_events() {
    let rig = Rig::new().await;
    rig.agents(&["one", "two"]).await;
    rig.set_ready("one", "False", "GatewayNotReady", 1).await;
    for name in ["one", "two"] {
        let uid = rig.get(&format!("{AGENTS}/{name}")).await["metadata"]["uid"].clone();
        let event = json!({
            "metadata": { "name": format!("{name}.1") }, "type": "Normal", "reason": "Created", "action": "Create",
            "note": format!("The event of {name}."), "eventTime": "2026-03-01T09:50:00.000000Z",
            "reportingController": "muster.dev/muster", "reportingInstance": "muster-0",
            "regarding": { "kind": "Agent", "name": name, "namespace": "fleet", "uid": uid },
        });
        rig.send("POST", "/apis/events.k8s.io/v1/namespaces/fleet/events", event).await;
    }
    let text = rig.ok("describe agent one").await;
    for part in [
        "Name:        one\nNamespace:   fleet\nKind:        Agent (muster.dev/v1alpha1)\n",
        "\n  boardRef:\n    name: ops\n",
        "  Ready   False    GatewayNotReady   30m   It is False.\n",
        "  10m   Normal   Created   1       The event of one.\n",
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    assert!(!text.contains("The event of two."), "{text}");
    let both = rig.ok("describe agents").await;
    assert!(both.starts_with(&text) && both.contains("\n\n\nName:        two\n"), "{both}");
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_described_without_its_values_and_a_missing_object_is_named() {
    let rig = Rig::new().await;
    rig.send("POST", SECRETS, json!({ "metadata": { "name": "gw" }, "data": { "token": "aHVzaA==" } })).await;
    let text = rig.ok("describe secret gw").await;
    assert!(text.contains("token: 4 bytes") && !text.contains("aHVzaA"), "{text}");
    rig.ok("describe namespace fleet").await;
    let ran = rig.run("describe agent nobody").await;
    assert!(ran.status == 1 && ran.err.starts_with("agents.muster.dev \"nobody\" not found\n"), "{ran:?}");
    assert_eq!(rig.run("describe agents").await.err, "No resources found in fleet namespace.\n");
    assert_eq!(rig.run("describe agents one -l a=b").await.status, 2);
}
