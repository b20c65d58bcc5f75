//! Bad input that the schema cannot reject.

use muster_harness::{Failure, free_port, until};
use serde_json::json;

use crate::stack::{CONDITION_TIMEOUT, Stack, board, manifest, unwoken, worker};

pub(crate) async fn bad_references_and_templates_end_in_conditions_with_the_remedy(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.fleet("bad").await?;
    let of = |more: serde_json::Value| {
        let mut spec = json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let agent = |name: &str, more: serde_json::Value| manifest("Agent", name, of(more));
    fleet
        .apply(&[
            agent(
                "variable",
                json!({ "files": [{ "name": "SOUL.md", "template": { "inline": "Hello\n{{ agent_nmae }}" } }] }),
            ),
            agent("config-map", json!({ "templates": { "configMapRef": { "name": "nowhere" } } })),
            agent("long", json!({ "files": [{ "name": "SOUL.md", "template": { "inline": "x".repeat(20_001) } }] })),
            agent("board", json!({ "boardRef": { "name": "elsewhere" } })),
            agent("good", json!({})),
            agent("lead", json!({ "role": "Lead" })),
        ])
        .await?;
    fleet.wait("condition=Ready", &["agent/good", "agent/lead"]).await?;
    fleet.apply(&[agent("second-lead", json!({ "role": "Lead" }))]).await?;
    for (name, reason, words) in [
        ("variable", "TemplateError", &["agent_nmae", "spec.files[SOUL.md].template", "line 2"][..]),
        ("config-map", "ConfigMapNotFound", &["bad/nowhere", "spec.templates"]),
        ("long", "FileTooLarge", &["SOUL.md", "20000"]),
        ("board", "BoardNotFound", &["\"elsewhere\"", "spec.boardRef"]),
        ("second-lead", "RoleTaken", &["bad/lead"]),
    ] {
        let message = fleet.until_reason(&format!("agent/{name}"), "Ready", reason).await?;
        for word in words {
            assert!(message.contains(word), "{name}: {word:?} is not in {message:?}");
        }
    }
    fleet.config_map("nowhere", json!({ "SOUL.md": "Found." })).await?;
    fleet.wait("condition=Ready", &["agent/config-map"]).await?;
    fleet.delete().await
}

pub(crate) async fn a_wrong_token_and_an_unreachable_gateway_are_reported_and_recover(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.namespace("away").await?;
    fleet.apply(&[stack.gateway(), board("ops"), unwoken("one")]).await?;
    let message = fleet.until_reason("agentgateway/gw", "Ready", "SecretNotFound").await?;
    assert!(message.contains("away/gw") && message.contains("spec.auth.tokenSecretRef"), "{message}");
    fleet.secret("gw", "no-such-token").await?;
    let message = fleet.until_reason("agentgateway/gw", "Authenticated", "BadCredentials").await?;
    assert!(message.contains("AUTH_TOKEN_MISMATCH") && !message.contains("no-such-token"), "{message}");
    fleet.until_reason("agent/one", "Ready", "GatewayNotReady").await?;
    fleet.secret("gw", stack.openclaw.token()).await?;
    fleet.all_ready().await?;

    let mut gateway = stack.gateway();
    let unreachable = format!("ws://127.0.0.1:{}", free_port()?);
    gateway["spec"]["url"] = json!(unreachable);
    fleet.apply(&[gateway]).await?;
    let message = fleet.until_reason("agentgateway/gw", "Reachable", "Unreachable").await?;
    assert!(message.contains(&unreachable), "{message}");
    fleet.apply(&[stack.gateway()]).await?;
    fleet.all_ready().await?;
    fleet.delete().await
}

pub(crate) async fn a_namespace_is_refused_until_it_is_admitted(stack: &mut Stack) -> Result<(), Failure> {
    let shared = stack.fleet("shared").await?;
    let guests = stack.namespace("guests").await?;
    let far = manifest("Board", "ops", json!({ "gatewayRef": { "name": "gw", "namespace": "shared" } }));
    guests.apply(&[far, worker("one")]).await?;
    let message = guests.until_reason("agent/one", "Ready", "NotAdmitted").await?;
    assert!(message.contains("spec.allowedNamespaces") && message.contains("shared/gw"), "{message}");
    assert!(stack.agents()?.is_empty(), "a refused namespace registers no agent");
    let mut gateway = stack.gateway();
    let selector = json!({ "matchLabels": { "kubernetes.io/metadata.name": "guests" } });
    gateway["spec"]["allowedNamespaces"] = json!({ "from": "Selector", "selector": selector });
    shared.apply(&[gateway]).await?;
    guests.wait("condition=Ready", &["agent/one"]).await?;
    guests.delete().await?;
    shared.delete().await?;
    assert!(stack.agents()?.is_empty());
    Ok(())
}

pub(crate) async fn an_object_that_cannot_be_read_gets_an_event_and_the_others_are_served(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.fleet("unreadable").await?;
    // The definitions of a later version know more words.
    let policy = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/adoptionPolicy/enum";
    let patch = json!([{ "op": "remove", "path": policy }]).to_string();
    fleet.run(&["patch", "crd", "agents.muster.dev", "--type=json", "-p", &patch]).await?;
    let strange = json!({ "boardRef": { "name": "ops" }, "adoptionPolicy": "Sometimes" });
    let strange = manifest("Agent", "strange", strange);
    // The API server needs a moment for changed definitions.
    until("the API server to accept the word", CONDITION_TIMEOUT, async || {
        fleet.apply(std::slice::from_ref(&strange)).await.map_err(|e| e.to_string())
    })
    .await?;
    let selector = "--field-selector=involvedObject.name=strange,reason=Unreadable";
    let messages = "jsonpath={.items[*].message}";
    let message = until("the event", CONDITION_TIMEOUT, async || {
        let found = fleet.run(&["get", "events", selector, "-o", messages]).await.map_err(|e| e.to_string())?;
        if found.is_empty() { Err("there is none".to_owned()) } else { Ok(found) }
    })
    .await?;
    assert!(message.contains("Sometimes") && message.contains("Never"), "{message}");
    fleet.apply(&[unwoken("one")]).await?;
    fleet.wait("condition=Ready", &["agent/one"]).await?;
    fleet.run(&["delete", "agent", "strange"]).await?;
    stack.cluster.install("deploy").await?;
    fleet.delete().await
}
