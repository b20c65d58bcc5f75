//! Bad input ends in a condition that names the field and the remedy.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board, ConditionType};
use muster::controllers::agent;
use muster_simulator::Fault;
use serde_json::{Value, json};

use crate::rig::{NS, Rig, gateway_manifest};

async fn until_gateway(rig: &mut Rig, kind: ConditionType, reason: &str) -> String {
    rig.until(reason, |rig| rig.gateway_condition("gw", kind).1 == reason).await;
    rig.gateway_condition("gw", kind).2
}

/// The message of `Ready` of an Agent that ends with this reason.
async fn agent_message(spec: Value, reason: &str, set_up: impl FnOnce(&Rig)) -> String {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    set_up(&rig);
    rig.agent("one", spec);
    let message = rig.until_reason("one", reason).await;
    assert_eq!(rig.condition("one", ConditionType::Stalled).0, "True", "{reason}");
    message
}

#[tokio::test(start_paused = true)]
async fn an_unknown_template_variable_is_reported_with_its_field_and_line() {
    let spec = json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "SOUL.md", "template": { "inline": "a\n{{ agent_nam }}" } }] });
    let message = agent_message(spec, "TemplateError", |_| {}).await;
    assert!(
        message.contains("agent_nam") && message.contains("spec.files[SOUL.md].template") && message.contains('2'),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_api_url_comes_from_the_operator_or_is_reported() {
    let (mut rig, gateway) = Rig::new();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"].as_object_mut().unwrap().remove("apiUrl");
    rig.apply::<AgentGateway>(manifest);
    rig.board("ops");
    rig.worker("one");
    let message = rig.until_reason("one", "InvalidSpec").await;
    assert!(message.contains("spec.apiUrl of AgentGateway fleet/gw") && message.contains("--api-url"), "{message}");
    rig.stop();
    rig.default_api_url = Some("https://muster.example.com".into());
    rig.start();
    rig.until_ready().await;
    let file = gateway.file(&rig.agent_id("one"), "AGENTS.md").unwrap();
    assert!(file.contains("https://muster.example.com/api/v1/"), "{file}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_or_key_is_reported_with_its_name() {
    let spec = json!({ "boardRef": { "name": "ops" }, "templates": { "configMapRef": { "name": "nowhere" } } });
    let message = agent_message(spec, "ConfigMapNotFound", |_| {}).await;
    assert!(message.contains("fleet/nowhere") && message.contains("spec.templates"), "{message}");
    let reference = json!({ "configMapKeyRef": { "name": "souls", "key": "b" } });
    let spec = json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "SOUL.md", "template": reference }] });
    let message = agent_message(spec, "ConfigMapNotFound", |rig| rig.config_map("souls", &[("a", "x")])).await;
    assert!(message.contains("\"b\"") && message.contains("spec.files[SOUL.md].template"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_template_in_binary_data_is_reported_with_its_config_map_and_key() {
    let by_key = json!({ "configMapKeyRef": { "name": "souls", "key": "SOUL.md" } });
    for more in [
        json!({ "files": [{ "name": "SOUL.md", "template": by_key }] }),
        json!({ "templates": { "configMapRef": { "name": "souls" } } }),
    ] {
        let mut spec = json!({ "boardRef": { "name": "ops" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let message = agent_message(spec, "TemplateError", |rig| rig.binary_key("souls", "SOUL.md")).await;
        for word in ["fleet/souls", "\"SOUL.md\"", "binaryData", "spec."] {
            assert!(message.contains(word), "{word}: {message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unused_binary_data_key_is_no_error() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    for key in ["logo.png", "SOUL.md", "APPROVALS.md"] {
        rig.binary_key("souls", key);
    }
    let templates = json!({ "configMapRef": { "name": "souls" } });
    let soul = json!({ "inline": "I am {{ agent_name }}." });
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "templates": templates, "files": [{ "name": "SOUL.md", "template": soul }] }));
    rig.until_ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_template_over_a_limit_is_reported_with_its_config_map_and_the_limit() {
    for (text, limit) in [("x".repeat(128 * 1024 + 1), "128 KiB"), ("{{ agent_name }}".repeat(2_001), "2000 tags")] {
        let spec = json!({ "boardRef": { "name": "ops" }, "templates": { "configMapRef": { "name": "souls" } } });
        let set_up = |rig: &Rig| rig.config_map("souls", &[("SOUL.md", &text)]);
        let message = agent_message(spec, "TemplateError", set_up).await;
        for word in ["SOUL.md", "ConfigMap fleet/souls", limit] {
            assert!(message.contains(word), "{word}: {message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_board_is_reported_and_its_creation_recovers() {
    let (mut rig, _gateway) = Rig::new();
    rig.worker("one");
    let message = rig.until_reason("one", "BoardNotFound").await;
    assert!(message.contains("\"ops\"") && message.contains("spec.boardRef"), "{message}");
    rig.board("ops");
    rig.until_ready().await;
    assert_eq!(rig.condition("one", ConditionType::Stalled).0, "", "Stalled is present only while true");
}

#[tokio::test(start_paused = true)]
async fn the_second_lead_of_a_board_reports_the_first_lead() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    let lead = json!({ "role": "Lead", "boardRef": { "name": "ops" } });
    rig.agent("first", lead.clone());
    rig.agent("second", lead);
    let message = rig.until_reason("second", "RoleTaken").await;
    assert!(message.contains("fleet/first"), "{message}");
    rig.until("the first lead to be Ready", |rig| rig.condition("first", ConditionType::Ready).0 == "True").await;
}

#[tokio::test(start_paused = true)]
async fn a_full_board_admits_the_older_agents() {
    let (mut rig, gateway) = Rig::new();
    rig.apply::<Board>(
        json!({ "metadata": { "name": "ops" }, "spec": { "gatewayRef": { "name": "gw" }, "maxAgents": 1 } }),
    );
    rig.worker("old");
    rig.worker("new");
    let message = rig.until_reason("new", "BoardFull").await;
    assert!(message.contains("maxAgents"), "{message}");
    rig.until("the older agent to be Ready", |rig| rig.condition("old", ConditionType::Ready).0 == "True").await;
    assert_eq!(gateway.agents().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_id_in_use_at_the_gateway_is_never_taken_over() {
    let (mut rig, gateway) = Rig::new();
    gateway.edit_config(|config| {
        config["agents"]["ownership"] = json!("explicit");
        config["agents"]["entries"]["ops-bot"] = json!({ "name": "Mine", "workspace": "/mine" });
    });
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "agentId": "ops-bot" }));
    let message = rig.until_reason("one", "AgentIdTaken").await;
    assert!(message.contains("ops-bot") && message.contains("spec.agentId"), "{message}");
    assert_eq!(gateway.agents()["ops-bot"]["name"], "Mine");
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_another_owner_is_not_overwritten() {
    let spec = json!({ "boardRef": { "name": "ops" } });
    let message = agent_message(spec, "SecretConflict", |rig| rig.secret("one-token", "token", "mine")).await;
    assert!(message.contains("one-token") && message.contains("spec.token.secretName"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn not_admitted_names_allowed_namespaces_and_admission_recovers() {
    let (mut rig, _gateway) = Rig::new();
    rig.cluster.label_namespace(NS, "team", "a");
    let mut far = gateway_manifest("gw");
    far["metadata"]["namespace"] = json!("shared");
    rig.apply::<AgentGateway>(far.clone());
    rig.apply::<Secret>(
        json!({ "metadata": { "name": "gw-auth", "namespace": "shared" }, "data": { "token": "c2VjcmV0LXRva2Vu" } }),
    );
    rig.apply::<Board>(
        json!({ "metadata": { "name": "ops" }, "spec": { "gatewayRef": { "name": "gw", "namespace": "shared" } } }),
    );
    rig.worker("one");
    let message = rig.until_reason("one", "NotAdmitted").await;
    assert!(message.contains("allowedNamespaces"), "{message}");
    far["spec"]["allowedNamespaces"] = json!({ "from": "Selector", "selector": { "matchLabels": { "team": "a" } } });
    rig.apply::<AgentGateway>(far);
    rig.until_ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_gateway_says_within_seconds_what_its_spec_lacks() {
    let (mut rig, _gateway) = Rig::new();
    rig.apply::<AgentGateway>(gateway_manifest("second"));
    rig.run_for(Duration::from_secs(5)).await;
    assert_eq!(rig.gateway_condition("second", ConditionType::Ready).1, "SecretNotFound");
}

#[tokio::test(start_paused = true)]
async fn a_missing_gateway_secret_is_reported_and_its_creation_recovers() {
    let (mut rig, _gateway) = Rig::new();
    rig.delete::<Secret>("gw-auth");
    let message = until_gateway(&mut rig, ConditionType::Ready, "SecretNotFound").await;
    assert!(message.contains("fleet/gw-auth") && message.contains("spec.auth.tokenSecretRef"), "{message}");
    rig.secret("gw-auth", "token", "secret-token");
    until_gateway(&mut rig, ConditionType::Ready, "Connected").await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_token_is_reported_with_the_gateways_code_and_the_right_token_recovers() {
    let (mut rig, _gateway) = Rig::new();
    rig.secret("gw-auth", "token", "wrong");
    let message = until_gateway(&mut rig, ConditionType::Authenticated, "BadCredentials").await;
    assert!(message.contains("AUTH_TOKEN_MISMATCH") && message.contains("spec.auth"), "{message}");
    assert!(!message.contains("wrong"), "{message}");
    assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).1, "BadCredentials", "Ready shows the cause");
    assert_eq!(
        rig.gateway_condition("gw", ConditionType::Stalled).0,
        "True",
        "a wrong token needs a change by the user"
    );
    rig.secret("gw-auth", "token", "secret-token");
    until_gateway(&mut rig, ConditionType::Ready, "Connected").await;
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_gateway_is_reported_with_its_address_and_its_return_recovers() {
    let (mut rig, gateway) = Rig::new();
    gateway.kill();
    let message = until_gateway(&mut rig, ConditionType::Reachable, "Unreachable").await;
    assert!(message.contains("ws://gw:18789"), "{message}");
    gateway.start();
    until_gateway(&mut rig, ConditionType::Ready, "Connected").await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_entry_does_not_block_other_entries() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    for name in ["good", "bad", "fine"] {
        rig.worker(name);
    }
    rig.until("the agents to have ids", |rig| ["good", "bad", "fine"].iter().all(|n| rig.status(n).agent_id.is_some()))
        .await;
    rig.until_ready().await;
    // A real gateway refuses fields outside its schema. Here it refuses every write that names this agent.
    let id = rig.agent_id("bad");
    for _ in 0..4 {
        let message = format!("invalid config: agents.entries.{id}.name");
        gateway.inject(Fault::on("config.patch").containing(&id).error("INVALID_REQUEST", &message, false));
    }
    for name in ["good", "bad", "fine"] {
        rig.agent(name, json!({ "boardRef": { "name": "ops" }, "displayName": format!("new {name}") }));
    }
    let message = rig.until_reason("bad", "EntryRefused").await;
    assert!(message.contains(&id), "{message}");
    for name in ["good", "fine"] {
        rig.until(name, |rig| gateway.agents()[&rig.agent_id(name)]["name"] == format!("new {name}")).await;
    }
    // A refused entry is retried when another part of the config changes.
    for round in 0..4 {
        gateway.edit_config(|config| config["agents"]["defaults"]["model"] = json!({ "primary": format!("m{round}") }));
        rig.run_for(Duration::from_secs(10)).await;
    }
    assert_eq!(gateway.agents()[&id]["name"], "new bad");
}

#[tokio::test(start_paused = true)]
async fn the_older_of_two_agents_with_one_id_keeps_it() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    for name in ["first", "second"] {
        rig.agent(name, json!({ "boardRef": { "name": "ops" }, "agentId": "ops-bot" }));
    }
    let message = rig.until_reason("second", "AgentIdTaken").await;
    assert!(message.contains("fleet/first") && message.contains("ops-bot"), "{message}");
    rig.until("the first agent to be Ready", |rig| rig.condition("first", ConditionType::Ready).0 == "True").await;
    rig.delete::<Agent>("second");
    rig.until("the deletion of the second agent", |rig| {
        !rig.cluster.agents().contains_key(&ObjectKey::new(NS, "second"))
    })
    .await;
    assert_eq!(gateway.agents()["ops-bot"]["name"], "first", "deleting the second agent keeps the first");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_name_is_reported_and_its_agent_can_be_deleted() {
    let long = "a".repeat(250);
    for (name, spec, words) in [
        ("one", json!({ "boardRef": { "name": ".." } }), "spec.boardRef.name \"..\""),
        ("one", json!({ "boardRef": { "name": "ops" }, "token": { "secretName": "a/b" } }), "spec.token.secretName"),
        ("one", json!({ "boardRef": { "name": "ops" }, "agentId": "constructor" }), "spec.agentId \"constructor\""),
        (long.as_str(), json!({ "boardRef": { "name": "ops" } }), "256 characters"),
    ] {
        let (mut rig, gateway) = Rig::new();
        rig.board("ops");
        rig.unchecked::<Agent>(json!({ "metadata": { "name": name }, "spec": spec }));
        let message = rig.until_reason(name, "InvalidSpec").await;
        assert!(message.contains(words), "{message}");
        assert_eq!(rig.condition(name, ConditionType::Stalled).0, "True");
        assert!(gateway.agents().keys().all(|id| id == "main"), "an invalid Agent creates no agent");
        rig.delete::<Agent>(name);
        rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_secret_name_of_a_gateway_is_reported_and_the_gateway_can_be_deleted() {
    let (mut rig, _gateway) = Rig::new();
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["auth"] = json!({ "tokenSecretRef": { "name": "../configmaps/x", "key": "token" } });
    rig.unchecked::<AgentGateway>(manifest);
    let message = until_gateway(&mut rig, ConditionType::Ready, "InvalidSpec").await;
    assert!(message.contains("spec.auth.tokenSecretRef.name"), "{message}");
    rig.delete::<AgentGateway>("gw");
    rig.until("the deletion to finish", |rig| rig.cluster.gateways().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_denies_the_token_secret_is_reported_and_retried_with_the_growing_backoff() {
    let (mut rig, _gateway) = Rig::new();
    rig.board("ops");
    let words = r#"secrets "one-token" is forbidden: exceeded quota: small, requested: secrets=1, used: secrets=2, limited: secrets=2"#;
    rig.until("the gateway", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
    rig.faults.state().denied_secrets = Some((403, words.to_owned()));
    rig.worker("one");
    let message = rig.until_reason("one", "KubernetesError").await;
    assert!(message.contains("exceeded quota: small") && message.contains("raise the quota"), "{message}");
    assert_eq!(rig.condition("one", ConditionType::Reconciling).0, "True");
    let object = Arc::new(rig.cluster.agents()[&ObjectKey::new(NS, "one")].clone());
    assert!(
        agent::reconcile(rig.ctx(), &object).await.failed,
        "a failed reconcile is retried with the growing backoff"
    );
    rig.faults.state().denied_secrets = None;
    rig.until_ready().await;
}
