//! The model and its fallbacks, and `spec.config`: keys of the config entry that Muster does not model.

use std::time::Duration;

use muster::api::agent::Agent;
use serde_json::{Value, json};

use crate::rig::Rig;

fn spec(config: &Value) -> Value {
    json!({ "boardRef": { "name": "ops" }, "config": config })
}

#[tokio::test(start_paused = true)]
async fn a_passed_key_is_written_changed_and_removed_and_the_keys_of_others_stay() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("one", spec(&json!({ "tools": { "deny": ["exec", "${HOME}"] }, "identity": { "theme": "dark" } })));
    rig.until_ready().await;
    let id = rig.agent_id("one");
    let entry = |key: &str| gateway.agents()[&id][key].clone();
    assert_eq!(entry("tools"), json!({ "deny": ["exec", "$${HOME}"] }));
    assert_eq!(entry("identity")["theme"], "dark");
    assert_eq!(rig.status("one").config_keys, ["identity.theme", "tools"]);
    gateway.edit_config(|config| config["agents"]["entries"][&id]["sandbox"] = json!({ "mode": "all" }));
    rig.agent("one", spec(&json!({ "tools": { "allow": ["read"] } })));
    rig.until("the change", |_| entry("tools") == json!({ "allow": ["read"] })).await;
    rig.until_ready().await;
    assert!(entry("identity").get("theme").is_none(), "{}", entry("identity"));
    assert_eq!(rig.status("one").config_keys, ["tools"]);
    let writes = gateway.count("config.patch");
    rig.run_for(Duration::from_mins(30)).await;
    assert_eq!(gateway.count("config.patch"), writes, "nothing changed, and nothing is written");
    rig.agent("one", json!({ "boardRef": { "name": "ops" } }));
    rig.until("the removal", |_| gateway.agents()[&id].get("tools").is_none()).await;
    rig.until_ready().await;
    assert_eq!(rig.status("one").config_keys, [""; 0]);
    assert_eq!(entry("sandbox"), json!({ "mode": "all" }), "somebody else's key stays");
}

#[tokio::test(start_paused = true)]
async fn a_further_key_of_a_registered_agent_is_recorded_and_written() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    for (config, recorded) in [
        (json!({ "tools": { "allow": ["read"] } }), vec!["tools"]),
        (json!({ "tools": { "allow": ["read"] }, "sandbox": { "mode": "off" } }), vec!["sandbox", "tools"]),
        (json!({ "sandbox": { "mode": "all" } }), vec!["sandbox"]),
    ] {
        rig.agent("one", spec(&config));
        let expected = config.clone();
        rig.until("the keys in the entry", |_| {
            expected.as_object().unwrap().iter().all(|(key, value)| gateway.agents()[&id][key] == *value)
        })
        .await;
        rig.until_ready().await;
        assert_eq!(rig.status("one").config_keys, recorded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_another_field_sets_is_refused_before_anything_is_written() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.agent("one", spec(&json!({ "heartbeat": { "every": "1s" } })));
    let message = rig.until_reason("one", "InvalidSpec").await;
    assert!(message.contains("spec.config.heartbeat is not allowed; use spec.heartbeat"), "{message}");
    assert_eq!(gateway.count("config.patch"), 0);
    rig.delete::<Agent>("one");
    rig.until("the deletion", |rig| rig.agent_keys().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_model_keeps_the_gateways_fallbacks_until_the_spec_names_its_own() {
    let (mut rig, gateway) = Rig::new();
    gateway.edit_config(|config| {
        config["agents"]["defaults"]["model"] = json!({ "primary": "acme/default", "fallbacks": ["acme/spare"] });
    });
    rig.board("ops");
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "model": "acme/large" }));
    rig.until_ready().await;
    let id = rig.agent_id("one");
    let model = || gateway.agents()[&id]["model"].clone();
    assert_eq!(model(), json!({ "primary": "acme/large", "fallbacks": ["acme/spare"] }));
    for (spec, expected) in [
        (json!({ "model": "acme/small" }), json!({ "primary": "acme/small", "fallbacks": ["acme/spare"] })),
        (
            json!({ "model": "acme/small", "modelFallbacks": ["acme/own"] }),
            json!({ "primary": "acme/small", "fallbacks": ["acme/own"] }),
        ),
        (json!({ "model": "acme/small", "modelFallbacks": [] }), json!({ "primary": "acme/small", "fallbacks": [] })),
        (json!({ "model": "acme/large" }), json!({ "primary": "acme/large", "fallbacks": [] })),
    ] {
        let mut agent = json!({ "boardRef": { "name": "ops" } });
        agent.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        rig.agent("one", agent);
        rig.until("the model", |_| model() == expected).await;
        rig.until_ready().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_adopted_agent_loses_no_fallbacks_by_its_first_model_and_gets_none_beside_its_own() {
    let (mut rig, gateway) = Rig::new();
    rig.board("ops");
    rig.run_for(std::time::Duration::from_secs(5)).await;
    gateway.edit_config(|config| {
        config["agents"]["defaults"]["model"] = json!({ "primary": "acme/default", "fallbacks": ["f/1", "f/2"] });
        config["agents"]["ownership"] = json!("explicit");
        let entries = &mut config["agents"]["entries"];
        entries["inherits"] = json!({ "workspace": "/srv/inherits" });
        entries["named"] = json!({ "workspace": "/srv/named", "model": "acme/own" });
        entries["object"] = json!({ "workspace": "/srv/object", "model": { "primary": "acme/own" } });
    });
    let inherited = ["f/1", "f/2"];
    for (model, expected) in [
        ("p/m", [json!({ "primary": "p/m", "fallbacks": inherited }), json!("p/m"), json!({ "primary": "p/m" })]),
        ("p/n", [json!({ "primary": "p/n", "fallbacks": inherited }), json!("p/n"), json!({ "primary": "p/n" })]),
    ] {
        for (id, expected) in ["inherits", "named", "object"].into_iter().zip(expected) {
            let adopted = json!({
                "boardRef": { "name": "ops" }, "agentId": id, "adoptionPolicy": "IfExists", "model": model,
                "wake": { "enabled": false },
            });
            rig.agent(id, adopted);
            rig.until("the model", |_| gateway.agents()[id]["model"] == expected).await;
        }
        rig.until_ready().await;
    }
}
