//! Adoption of the agents that a gateway already has.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::SystemTime;

use muster_harness::Failure;
use raw::RawClient;
use serde_json::{Value, json};

use crate::stack::{Fleet, Stack, other_client, until_settled};

#[allow(dead_code, reason = "only the benchmark needs all of it")]
#[path = "../../benches/provision/raw.rs"]
mod raw;

const IDS: [&str; 2] = ["nova", "atlas_2"];

/// The time of a file's last change and its content.
type Content = (SystemTime, Vec<u8>);

/// The state of a gateway's agents.
#[derive(Debug, PartialEq)]
struct GatewaySnapshot {
    /// The config of the agents on the disk.
    config: Value,
    /// Every file of their workspaces.
    files: BTreeMap<String, Content>,
    /// Ids and labels of their sessions.
    sessions: Vec<(String, Option<String>)>,
}

async fn snapshot(stack: &Stack) -> Result<GatewaySnapshot, Failure> {
    let mut files = BTreeMap::new();
    for folder in std::fs::read_dir(stack.openclaw.home().join("own"))? {
        let folder = folder?.path();
        for file in std::fs::read_dir(&folder)? {
            let path = file?.path();
            if path.is_file() {
                files.insert(path.display().to_string(), (path.metadata()?.modified()?, std::fs::read(&path)?));
            }
        }
    }
    let client = other_client(&stack.openclaw).await?;
    let mut sessions = Vec::new();
    for id in IDS {
        let session = client.session(&session(id)).await?.ok_or("there is no session")?;
        sessions.push((session.id, session.label));
    }
    Ok(GatewaySnapshot { config: stack.openclaw.config()?["agents"].clone(), files, sessions })
}

fn session(id: &str) -> String {
    format!("agent:{id}:main")
}

/// Two unmanaged agents. One has its own settings: some that the spec of an Agent has, and others.
async fn create_by_hand(stack: &Stack) -> Result<(), Failure> {
    let client = other_client(&stack.openclaw).await?;
    for id in IDS {
        client.agent_create(id, &format!("~/own/{id}")).await?;
        until_settled(&stack.openclaw).await?;
        client.file_set(id, "SOUL.md", &format!("I am {id}."), None).await?;
        client.session_label(&session(id), &format!("the desk of {id}")).await?;
    }
    let hours = json!({ "start": "09:00", "end": "24:00", "timezone": "Europe/Berlin" });
    let nova = json!({
        "model": { "primary": "scripted/m1", "fallbacks": ["scripted/m1"] },
        "identity": { "emoji": "🚀", "theme": "dark" },
        "heartbeat": { "every": "45m", "target": "none", "prompt": "Look around.", "activeHours": hours, "lightContext": true },
        "tools": { "deny": ["browser"] },
    });
    let mut by_hand = RawClient::connect(&stack.openclaw).await?;
    let config = by_hand.call("config.get", json!({})).await?;
    let patch = json!({ "agents": { "entries": { "nova": nova } } });
    by_hand.call("config.patch", json!({ "raw": patch.to_string(), "baseHash": config["hash"] })).await?;
    until_settled(&stack.openclaw).await
}

async fn import(stack: &Stack, fleet: &Fleet) -> Result<String, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["import", "--gateway", &stack.openclaw.url(), "--namespace", &fleet.namespace]);
    command.args(["--api-url", &stack.operator.api_url()]);
    command.env("MUSTER_GATEWAY_TOKEN", stack.openclaw.token());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let messages = String::from_utf8(output.stderr)?;
    assert!(output.status.success(), "{messages}");
    assert!(messages.contains("main: the gateway's own agent") && messages.contains("2 agents of"), "{messages}");
    let manifests = String::from_utf8(output.stdout)?;
    assert!(!manifests.contains(stack.openclaw.token()), "the token is in no manifest");
    Ok(manifests)
}

pub(crate) async fn imported_agents_are_adopted_unchanged_and_stay_after_the_manifests_are_deleted(
    stack: &mut Stack,
) -> Result<(), Failure> {
    create_by_hand(stack).await?;
    let before = snapshot(stack).await?;
    let fleet = stack.namespace("imported").await?;
    let manifests = import(stack, &fleet).await?;
    let gateway = stack.openclaw.url().replace("ws://", "gateway-").replace(['.', ':'], "-");
    fleet.secret(&format!("{gateway}-auth"), stack.openclaw.token()).await?;
    fleet.apply_text(&manifests).await?;
    fleet.all_ready().await?;
    for (name, id) in ["nova", "atlas-2"].into_iter().zip(IDS) {
        let binding: Value = serde_json::from_str(&fleet.field(&format!("agent/{name}"), ".status.binding").await?)?;
        assert_eq!((&binding["agentId"], &binding["adopted"]), (&json!(id), &json!(true)));
    }
    let spec: Value = serde_json::from_str(&fleet.field("agent/nova", ".spec").await?)?;
    assert_eq!((&spec["model"], &spec["emoji"]), (&json!("scripted/m1"), &json!("🚀")));
    let hours = json!({ "start": "09:00", "end": "24:00", "timezone": "Europe/Berlin" });
    let heartbeat = json!({ "interval": "45m", "target": "none", "prompt": "Look around.", "activeHours": hours });
    assert_eq!(spec["heartbeat"], heartbeat);
    assert_eq!(snapshot(stack).await?, before, "the adoption changes nothing");
    fleet.run(&["delete", "agents", "--all"]).await?;
    fleet.delete().await?;
    assert_eq!(snapshot(stack).await?, before, "the deletion removes nothing");
    for id in IDS {
        other_client(&stack.openclaw).await?.agent_delete(id, true).await?;
    }
    Ok(())
}
