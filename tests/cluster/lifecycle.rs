//! The lifecycle of an agent on a real gateway: token rotation, session reset, pause.

use std::process::Stdio;

use muster_harness::{Failure, until};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, board, manifest, other_client, worker};

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

async fn token(fleet: &Fleet) -> Result<String, Failure> {
    fleet.run(&["get", "secret", "one-token", "-o", "go-template={{.data.token | base64decode}}"]).await
}

/// Makes a one-shot request as the documentation says.
async fn request(fleet: &Fleet, object: &str, kind: &str) -> Result<(), Failure> {
    let now = Command::new("date").args(["-u", "+%FT%TZ"]).output().await?;
    let now = String::from_utf8(now.stdout)?;
    let annotation = format!("muster.dev/{kind}-requested-at={}", now.trim());
    fleet.run(&["annotate", object, &annotation, "--overwrite"]).await?;
    Ok(())
}

/// The HTTP status of a GET with an agent's token.
async fn healthz(stack: &Stack, token: &str) -> Result<String, Failure> {
    let url = format!("{}/api/v1/agent/healthz", stack.operator.api_url());
    let arguments = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--header", "@-", &url];
    let mut curl = Command::new("curl").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    curl.stdin.take().ok_or("no pipe")?.write_all(format!("X-Agent-Token: {token}\n").as_bytes()).await?;
    Ok(String::from_utf8(curl.wait_with_output().await?.stdout)?)
}

/// Waits until a field has an accepted value.
async fn until_field(fleet: &Fleet, path: &str, accepts: impl Fn(&str) -> bool) -> Result<String, Failure> {
    until(&format!("agent/one: {path}"), CONDITION_TIMEOUT, async || {
        let value = fleet.field("agent/one", path).await.map_err(|e| e.to_string())?;
        if accepts(&value) { Ok(value) } else { Err(value) }
    })
    .await
}

/// Sends the agent a message like a wake.
async fn send_check_in_message(stack: &Stack, fleet: &Fleet, key: &str) -> Result<(), Failure> {
    let session = fleet.field("agent/one", ".status.sessionKey").await?;
    let client = other_client(&stack.openclaw).await?;
    client.chat_send(&session, "Read your files again, and check in once.", false, key).await?;
    Ok(())
}

fn token_was_used(stack: &Stack, token: &str) -> bool {
    // The command takes the token from the agent's files, which the gateway adds to the system prompt.
    stack.model.requests().iter().any(|run| run.command.is_some() && run.system.contains(token))
}

/// No message asks for the check-in, only the prompt of the gateway's heartbeat.
pub(crate) async fn an_agent_without_a_wake_checks_in_at_its_heartbeat(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("heartbeat").await?;
    let spec = json!({
        "boardRef": { "name": "ops" }, "wake": { "enabled": false }, "heartbeat": { "interval": "1m" },
    });
    fleet.apply(&[manifest("Agent", "one", spec)]).await?;
    fleet.wait("condition=Ready", &["agent/one"]).await?;
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
    let heartbeat = ".status.conditions[?(@.type==\"HeartbeatConfigured\")].status";
    assert_eq!(fleet.field("agent/one", heartbeat).await?, "True");
    assert_eq!(fleet.field("agent/one", ".status.wake").await?, "", "no wake was sent");
    fleet.delete().await
}

pub(crate) async fn an_agent_checks_in_with_the_old_token_and_then_with_the_new_one(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.fleet("rotation").await?;
    fleet.apply(&[worker("one")]).await?;
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
    until_field(&fleet, ".status.token.confirmedAt", |at| !at.is_empty()).await?;
    let old = token(&fleet).await?;
    assert!(token_was_used(stack, &old), "the agent checked in with its first token");

    request(&fleet, "board/ops", "rotate").await?;
    until_field(&fleet, ".status.token.previous.validUntil", |until| !until.is_empty()).await?;
    let new = token(&fleet).await?;
    assert_ne!(new, old);
    assert!(stack.file(&fleet, "one", "AGENTS.md").await?.contains(&new));
    assert_eq!(fleet.field("agent/one", ".status.token.sha256").await?, sha256(&new));
    // The old token works until the first use of the new token, which a run that is under way can use at any time.
    let answer = healthz(stack, &old).await?;
    if answer != "200" {
        assert_eq!(answer, "401", "the old token works or is replaced");
        until_field(&fleet, ".status.token.confirmedAt", |at| !at.is_empty()).await?;
    }

    send_check_in_message(stack, &fleet, "rotation-check").await?;
    until_field(&fleet, ".status.token.confirmedAt", |at| !at.is_empty()).await?;
    assert!(token_was_used(stack, &new), "the agent checked in with its new token");
    assert_eq!((healthz(stack, &old).await?, healthz(stack, &new).await?), ("401".into(), "200".into()));
    let keys = ["get", "secret", "one-token", "-o", "go-template={{range $k, $_ := .data}}{{$k}} {{end}}"];
    until("the old token to be gone from the Secret", CONDITION_TIMEOUT, async || {
        let keys = fleet.run(&keys).await.map_err(|e| e.to_string())?;
        if keys.trim() == "agent-id api-url token" { Ok(()) } else { Err(keys) }
    })
    .await?;
    let synced = fleet.field("board/ops", ".status.lastSync").await?;
    assert!(synced.contains("\"updated\":1"), "{synced}");
    fleet.delete().await
}

pub(crate) async fn runs_are_reported_and_a_session_is_reset(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("sessions").await?;
    fleet.apply(&[worker("one")]).await?;
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
    until_field(&fleet, ".status.wake.answeredAt", |at| !at.is_empty()).await?;
    let first = until_field(&fleet, ".status.lastRun.endedAt", |at| !at.is_empty()).await?;
    let session = fleet.field("agent/one", ".status.sessionKey").await?;
    let client = other_client(&stack.openclaw).await?;
    request(&fleet, "agent/one", "reset-session").await?;
    until_field(&fleet, ".status.requests[?(@.kind==\"ResetSession\")].handledAt", |at| !at.is_empty()).await?;
    let history = client.chat_history(&session).await?;
    assert!(history.iter().all(|message| message.marks_reset), "{history:?}");
    let label = client.session(&session).await?.and_then(|s| s.label);
    assert_eq!(label.as_deref(), Some("one"));
    send_check_in_message(stack, &fleet, "after-reset").await?;
    until_field(&fleet, ".status.lastRun.endedAt", |at| !at.is_empty() && at > first.as_str()).await?;
    fleet.delete().await
}

pub(crate) async fn a_paused_agent_has_no_heartbeat_on_the_gateway_until_it_is_resumed(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.fleet("pausing").await?;
    fleet.apply(&[worker("one")]).await?;
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
    let id = fleet.field("agent/one", ".status.agentId").await?;
    let paused = json!({ "boardRef": { "name": "ops" }, "suspend": true });
    fleet.apply(&[manifest("Agent", "one", paused)]).await?;
    fleet.wait("condition=Paused", &["agent/one"]).await?;
    fleet.wait("condition=Ready", &["agent/one"]).await?;
    let every = |stack: &Stack| -> Result<String, Failure> {
        Ok(stack.openclaw.config()?["agents"]["entries"][&id]["heartbeat"]["every"].to_string())
    };
    assert_eq!(every(stack)?, "\"0m\"");
    assert_eq!(fleet.field("agent/one", ".status.phase").await?, "Paused");
    let reason = fleet.condition("agent/one", "CheckedIn").await?.0;
    assert_eq!(reason, "Suspended");
    fleet.apply(&[worker("one")]).await?;
    fleet.wait("condition=HeartbeatConfigured", &["agent/one"]).await?;
    assert_eq!(every(stack)?, "\"5m\"");
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
    fleet.delete().await
}

pub(crate) async fn further_config_keys_reach_the_gateway_and_wait_while_it_is_suspended(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.namespace("further").await?;
    fleet.secret("gw", stack.openclaw.token()).await?;
    let agent = |deny: &[&str]| {
        let config = json!({ "tools": { "deny": deny }, "identity": { "theme": "calm" } });
        manifest(
            "Agent",
            "one",
            json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false }, "config": config }),
        )
    };
    fleet.apply(&[stack.gateway(), board("ops"), agent(&["browser"])]).await?;
    fleet.all_ready().await?;
    let id = fleet.field("agent/one", ".status.agentId").await?;
    let entry =
        |stack: &Stack| -> Result<Value, Failure> { Ok(stack.openclaw.config()?["agents"]["entries"][&id].clone()) };
    assert_eq!(entry(stack)?["tools"], json!({ "deny": ["browser"] }));
    assert_eq!(entry(stack)?["identity"]["theme"], "calm");

    let mut gateway = stack.gateway();
    gateway["spec"]["suspend"] = json!(true);
    gateway["spec"]["suspendReason"] = json!("a disk is replaced");
    fleet.apply(&[gateway]).await?;
    fleet.wait("condition=Suspended", &["agentgateway/gw"]).await?;
    fleet.apply(&[agent(&["browser", "canvas"])]).await?;
    fleet.wait("jsonpath={.status.observedGeneration}=2", &["agent/one"]).await?;
    for object in ["agentgateway/gw", "board/ops", "agent/one"] {
        fleet.wait("condition=Ready", &[object]).await?;
        let reconciling = fleet.field(object, ".status.conditions[?(@.type==\"Reconciling\")].status").await?;
        assert_eq!(reconciling, "", "{object}");
    }
    let message = fleet.condition("agent/one", "Ready").await?.1;
    assert!(message.contains("AgentGateway further/gw is suspended (a disk is replaced)"), "{message}");
    assert_eq!(entry(stack)?["tools"], json!({ "deny": ["browser"] }));

    fleet.apply(&[stack.gateway()]).await?;
    until("the change on the gateway", CONDITION_TIMEOUT, async || {
        let tools = entry(stack).map_err(|e| e.to_string())?["tools"].clone();
        if tools == json!({ "deny": ["browser", "canvas"] }) { Ok(()) } else { Err(tools.to_string()) }
    })
    .await?;
    fleet.delete().await
}
