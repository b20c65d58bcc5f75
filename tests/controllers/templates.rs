//! Which agents a changed template affects.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::api::object_key::ObjectKey;
use muster::api::{AgentGateway, Board, ConditionType};
use muster::state::triggers::{Queues, Triggers};
use muster_simulator::Simulator;
use serde_json::json;
use tokio::sync::mpsc;

use crate::rig::{NS, Rig, gateway_manifest};

/// Agents whose SOUL.md comes from a ConfigMap of the agent, the board, the gateway, by a key, and from an inline template.
async fn templated_agents() -> (Rig, Simulator) {
    let (mut rig, gateway) = Rig::new();
    for name in ["of-gateway", "of-board", "of-agent", "by-key", "unused"] {
        rig.config_map(name, &[("SOUL.md", name), ("key", name)]);
    }
    let templates = |name: &str| json!({ "configMapRef": { "name": name } });
    let mut manifest = gateway_manifest("gw");
    manifest["spec"]["templates"] = templates("of-gateway");
    rig.apply::<AgentGateway>(manifest);
    rig.board("ops");
    let spec = json!({ "gatewayRef": { "name": "gw" }, "templates": templates("of-board") });
    rig.apply::<Board>(json!({ "metadata": { "name": "templated" }, "spec": spec }));
    rig.worker("plain");
    rig.agent("boarder", json!({ "boardRef": { "name": "templated" } }));
    rig.agent("owner", json!({ "boardRef": { "name": "templated" }, "templates": templates("of-agent") }));
    let by_key = json!({ "configMapKeyRef": { "name": "by-key", "key": "key" } });
    rig.agent("keyed", json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "SOUL.md", "template": by_key }] }));
    rig.agent(
        "inline",
        json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "SOUL.md", "template": { "inline": "inline" } }] }),
    );
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(1)).await;
    (rig, gateway)
}

const AGENTS: [&str; 5] = ["plain", "boarder", "owner", "keyed", "inline"];

fn souls(rig: &Rig, gateway: &Simulator) -> Vec<String> {
    AGENTS.iter().map(|name| gateway.file(&rig.agent_id(name), "SOUL.md").unwrap()).collect()
}

/// The agents that a change of a ConfigMap queues.
fn queued_agents(rig: &Rig, config_map: &str) -> BTreeSet<String> {
    let (agents, mut queue) = mpsc::unbounded_channel();
    let (boards, _) = mpsc::unbounded_channel();
    let (gateways, _) = mpsc::unbounded_channel();
    let triggers = Triggers { objects: rig.ctx().state.store.clone(), queues: Queues { agents, boards, gateways } };
    triggers.config_map(&ObjectKey::new(NS, config_map));
    std::iter::from_fn(|| queue.try_recv().ok()).map(|trigger| trigger.key.name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_config_map_change_queues_only_the_agents_that_use_it() {
    let (rig, _) = templated_agents().await;
    let everyone: Vec<_> = AGENTS.to_vec();
    for (config_map, concerned) in [
        ("of-gateway", everyone),
        ("of-board", vec!["boarder", "owner"]),
        ("of-agent", vec!["owner"]),
        ("by-key", vec!["keyed"]),
        ("unused", vec![]),
    ] {
        let concerned: BTreeSet<_> = concerned.into_iter().map(str::to_owned).collect();
        assert_eq!(queued_agents(&rig, config_map), concerned, "{config_map}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_nearest_template_wins_and_a_change_writes_only_the_files_that_use_it() {
    let (mut rig, gateway) = templated_agents().await;
    let mut texts = ["of-gateway\n", "of-board\n", "of-agent\n", "by-key\n", "inline\n"].map(str::to_owned);
    assert_eq!(souls(&rig, &gateway), texts);
    for (at, config_map) in ["of-gateway", "of-board", "of-agent", "by-key"].into_iter().enumerate() {
        let before: Vec<_> = AGENTS.iter().map(|name| rig.status(name)).collect();
        rig.config_map(config_map, &[("SOUL.md", "new"), ("key", "new")]);
        texts[at] = "new\n".into();
        rig.run_for(Duration::from_secs(30)).await;
        assert_eq!(souls(&rig, &gateway), texts, "{config_map}");
        for (other, name) in AGENTS.iter().enumerate().filter(|(other, _)| *other != at) {
            assert_eq!(rig.status(name), before[other], "{config_map} {name}");
        }
    }
    let before = rig.write_counts();
    rig.config_map("unused", &[("SOUL.md", "new")]);
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(rig.write_counts(), before);
}

#[tokio::test(start_paused = true)]
async fn removing_a_template_falls_back_to_the_next_one() {
    let (mut rig, gateway) = templated_agents().await;
    rig.agent("inline", json!({ "boardRef": { "name": "templated" } }));
    rig.until("the template of the board", |rig| souls(rig, &gateway)[4] == "of-board\n").await;
    rig.config_map("of-board", &[("USER.md", "x")]);
    rig.until("the template of the gateway", |rig| souls(rig, &gateway)[4] == "of-gateway\n").await;
    rig.apply::<AgentGateway>(gateway_manifest("gw"));
    rig.until("the built-in template", |rig| souls(rig, &gateway)[4].contains("You are a worker")).await;
}

#[tokio::test(start_paused = true)]
async fn an_inline_identity_template_affects_only_its_agent() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("other");
    let template = json!({ "inline": "I am {{ agent_name }} of {{ board_name }}." });
    rig.agent(
        "one",
        json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "IDENTITY.md", "template": template }] }),
    );
    rig.until_ready().await;
    let identity = |rig: &Rig, name: &str| gateway.file(&rig.agent_id(name), "IDENTITY.md").unwrap();
    assert_eq!(identity(&rig, "one"), "I am one of ops.\n");
    assert!(!identity(&rig, "other").contains("I am other of ops."));
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_of_prompts_is_noticed_with_the_config_that_has_it() {
    let (mut rig, gateway) = Rig::new();
    let set_limit = |limit: u32| {
        gateway.edit_config(|config| config["agents"]["defaults"]["bootstrapMaxChars"] = json!(limit));
        gateway.send_event("config.changed", &json!({}));
    };
    set_limit(3_000);
    rig.board("ops");
    rig.worker("one");
    let message = rig.until_reason("one", "FileTooLarge").await;
    assert!(message.contains("at most 3000 (agents.defaults.bootstrapMaxChars"), "{message}");
    rig.run_for(Duration::from_mins(1)).await;
    set_limit(20_000);
    rig.run_for(Duration::from_secs(30)).await;
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "True", "{}", rig.summary());
}
