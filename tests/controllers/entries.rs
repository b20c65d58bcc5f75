//! How gateways store the values of an agent's config entry.

use std::time::Duration;

use muster::api::ConditionType;
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{Rig, ready};

/// An operator, and a gateway of this profile.
fn start_on(profile: Profile) -> (Rig, Simulator) {
    let (mut rig, _) = Rig::new();
    let gateway = Simulator::new(profile.with_token("secret-token"));
    rig.host("gw", &gateway);
    rig.start();
    rig.board("ops");
    (rig, gateway)
}

fn apply_agent(rig: &Rig, name: &str, more: &Value) {
    let mut spec = json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rig.agent(name, spec);
}

fn all_ready(rig: &Rig) -> bool {
    rig.cluster.agents().values().all(ready)
}

#[tokio::test(start_paused = true)]
async fn no_spec_text_reads_the_gateways_environment_on_any_version() {
    let text = "x ${OPENCLAW_GATEWAY_TOKEN} y";
    let spec = json!({ "displayName": text, "emoji": "${HOME}", "heartbeat": { "prompt": text, "target": text } });
    let (mut rig, gateway) = start_on(Profile::v2026_9_6());
    apply_agent(&rig, "curious", &spec);
    rig.until("the agent to be Ready", all_ready).await;
    let entry = gateway.applied_agents()[&rig.agent_id("curious")].clone();
    assert_eq!([&entry["name"], &entry["identity"]["name"], &entry["heartbeat"]["prompt"]], [text; 3]);
    assert_eq!(entry["identity"]["emoji"], "${HOME}");
    assert!(!entry.to_string().contains("secret-token"), "{entry}");
    let written = gateway.count("config.patch");
    rig.run_for(Duration::from_mins(30)).await;
    assert_eq!(gateway.count("config.patch"), written, "the stored form is recognized");
    // These versions lose the escape when they delete another agent.
    for profile in [Profile::v2026_3_2(), Profile::v2026_5_28(), Profile::v2026_7_1()] {
        let (mut rig, gateway) = start_on(profile);
        apply_agent(&rig, "curious", &spec);
        let message = rig.until_reason("curious", "InvalidSpec").await;
        for field in ["name", "identity.emoji", "heartbeat.prompt", "heartbeat.target", "agents.entries"] {
            assert!(message.contains(field), "{field} is not in: {message}");
        }
        assert_eq!((gateway.count("config.patch"), gateway.count("agents.create")), (0, 0));
        apply_agent(&rig, "curious", &json!({ "displayName": "x $HOME ${home} y" }));
        rig.until("the agent to be Ready", all_ready).await;
    }
}

#[tokio::test(start_paused = true)]
async fn values_that_leave_a_list_of_the_spec_leave_the_entry_on_any_version() {
    for profile in [Profile::v2026_3_2(), Profile::v2026_5_28(), Profile::v2026_7_1(), Profile::v2026_9_6()] {
        let (mut rig, gateway) = start_on(profile);
        let tools = json!({ "tools": { "deny": ["exec", "read"] }, "skills": ["one", "two"] });
        apply_agent(&rig, "one", &json!({ "model": "p/m", "modelFallbacks": ["p/1", "p/2"], "config": tools }));
        rig.until("the agent to be Ready", all_ready).await;
        let id = rig.agent_id("one");
        let entry = |rest: &Value| json!([rest["model"]["fallbacks"], rest["tools"]["deny"], rest["skills"]]);
        let tools = json!({ "tools": { "deny": ["read"] } });
        apply_agent(&rig, "one", &json!({ "model": "p/m", "modelFallbacks": ["p/2"], "config": tools }));
        let wanted = json!([["p/2"], ["read"], null]);
        rig.until("the shorter lists", |_| entry(&gateway.applied_agents()[&id]) == wanted).await;
        apply_agent(&rig, "one", &json!({}));
        rig.until("no lists", |_| entry(&gateway.applied_agents()[&id]) == json!([null, null, null])).await;
        rig.until("the agent to be Ready", all_ready).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_renamed_by_the_gateway_is_accepted_in_its_stored_form() {
    let (mut rig, gateway) = start_on(Profile::v2026_9_6());
    let model = json!({ "model": "google/gemini-3-pro", "heartbeat": { "model": "OpenAI/gpt-5.4" } });
    apply_agent(&rig, "renamed", &model);
    rig.until("the agent to be Ready", all_ready).await;
    assert_eq!(gateway.count("config.patch"), 1);
    let rewritten = rig.status("renamed").rewritten;
    let renamed: Vec<_> = rewritten.iter().map(|r| (r.field.as_str(), r.sent.as_str(), r.stored.as_str())).collect();
    assert_eq!(
        renamed,
        [
            ("heartbeat.model", "\"OpenAI/gpt-5.4\"", "\"openai/gpt-5.4\""),
            ("model", "\"google/gemini-3-pro\"", "\"google/gemini-3.1-pro-preview\""),
        ]
    );
    let (_, _, message) = rig.condition("renamed", ConditionType::Registered);
    assert!(message.contains("\"google/gemini-3.1-pro-preview\""), "{message}");
    rig.start();
    rig.run_for(Duration::from_mins(30)).await;
    assert_eq!(gateway.count("config.patch"), 1, "a restarted operator reads the stored form from the status");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_change_of_a_renamed_model_is_corrected_as_drift() {
    let (mut rig, gateway) = start_on(Profile::v2026_9_6());
    apply_agent(&rig, "renamed", &json!({ "model": "google/gemini-3-pro" }));
    rig.until("the agent to be Ready", all_ready).await;
    let id = rig.agent_id("renamed");
    gateway.edit_config(|config| config["agents"]["entries"][&id]["model"] = json!("other/model"));
    let stored = |_: &Rig| gateway.agents()[&id]["model"] == "google/gemini-3.1-pro-preview";
    rig.until("the model to be corrected", stored).await;
    rig.until("the agent to be Ready", all_ready).await;
}

#[tokio::test(start_paused = true)]
async fn agents_with_renamed_models_block_no_other_agent() {
    let (mut rig, gateway) = start_on(Profile::v2026_9_6());
    for number in 0..5 {
        apply_agent(&rig, &format!("renamed-{number}"), &json!({ "model": "Google/gemini-3-pro" }));
        apply_agent(&rig, &format!("plain-{number}"), &json!({}));
    }
    rig.until("all to be Ready", all_ready).await;
    assert!(gateway.count("config.patch") <= 2, "{}", gateway.count("config.patch"));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_does_not_last_is_held_back_after_five_times() {
    let (mut rig, gateway) = start_on(Profile::v2026_9_6());
    apply_agent(&rig, "undone", &json!({}));
    rig.until("the agent to be Ready", all_ready).await;
    let (id, link) = (rig.agent_id("undone"), rig.link("gw"));
    let write = || link.client().file_set(&id, "SOUL.md", "the same", None);
    for _ in 0..5 {
        write().await.unwrap();
    }
    let before = gateway.count("agents.files.set");
    let error = write().await.unwrap_err();
    assert!(error.is_transient() && error.code() == "REPEATED_WRITE", "{error}");
    assert!(error.message().contains("was sent 5 times and did not last"), "{}", error.message());
    assert_eq!(gateway.count("agents.files.set"), before);
    tokio::time::advance(Duration::from_mins(5)).await;
    write().await.unwrap();
}
