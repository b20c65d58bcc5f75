//! The main job: the gateway has what was applied, and nothing is written twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use muster_harness::{Failure, until};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, board, manifest, other_client, unwoken, worker};

/// The methods that change something on a gateway.
const WRITE_METHODS: [&str; 7] = [
    "agents.create",
    "agents.delete",
    "agents.files.set",
    "config.patch",
    "sessions.patch",
    "sessions.delete",
    "chat.send",
];

async fn requests(stack: &Stack, method: &str) -> Result<f64, Failure> {
    stack.operator.metric("muster_gateway_requests_total", &[&format!("method=\"{method}\"")]).await
}

/// The token in an agent's Secret.
async fn token(fleet: &Fleet, agent: &str) -> Result<String, Failure> {
    let path = ["get", "secret", &format!("{agent}-token"), "-o", "go-template={{.data.token | base64decode}}"];
    fleet.run(&path).await
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

pub(crate) async fn an_agent_is_woken_reads_its_files_and_checks_in(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("checkin").await?;
    let profile = json!({ "role": "DevOps Engineer", "expertise": ["Kubernetes"], "purpose": "Keep the pager quiet" });
    let spec =
        json!({ "boardRef": { "name": "ops" }, "displayName": "Dev Ops", "emoji": "🛠", "identityProfile": profile });
    fleet.apply(&[manifest("Agent", "one", spec)]).await?;
    fleet.wait("condition=Ready", &["agent/one"]).await?;
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;

    let token = token(&fleet, "one").await?;
    let runs = stack.model.requests();
    let run = runs.iter().find(|run| run.command.is_some() && run.system.contains(&token)).ok_or("no such run")?;
    let command = run.command.as_ref().unwrap();
    assert!(command.contains(&stack.operator.api_url()) && !command.contains(&token), "{command}");
    assert!(
        run.system.contains("Dev Ops") && run.system.contains("Keep the pager quiet"),
        "the files are in the system prompt"
    );

    let id = fleet.field("agent/one", ".status.agentId").await?;
    let uid = fleet.field("agent/one", ".metadata.uid").await?;
    assert_eq!(id, format!("mc-{uid}"));
    assert_eq!(fleet.field("agent/one", ".status.sessionKey").await?, format!("agent:{id}:main"));
    assert_eq!(fleet.field("agent/one", ".status.observedGeneration").await?, "1");
    assert_eq!(fleet.field("agent/one", ".status.token.sha256").await?, sha256(&token));
    let config = stack.openclaw.config()?;
    let entry = &config["agents"]["entries"][&id];
    assert_eq!((&entry["name"], &entry["heartbeat"]["every"]), (&json!("Dev Ops"), &json!("5m")), "{entry}");

    let table = fleet.run(&["get", "agents"]).await?;
    let header: Vec<_> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["NAME", "BOARD", "ROLE", "PHASE", "LAST-SEEN", "READY", "REASON", "AGE"]);
    let described = fleet.run(&["describe", "agent", "one"]).await?;
    assert!(
        described.contains("CheckedIn") && described.contains("Events:") && described.contains("Woken"),
        "{described}"
    );

    fleet.delete().await
}

/// The API server's count of writes to the resources that the operator may write.
async fn api_writes(stack: &Stack) -> Result<BTreeMap<String, String>, Failure> {
    let text = stack.cluster.kubectl.run(&["get", "--raw", "/metrics"]).await?;
    let of_ours = |line: &&str| {
        let has = |label: &str, values: &[&str]| values.iter().any(|v| line.contains(&format!("{label}=\"{v}\"")));
        line.starts_with("apiserver_request_total{")
            && has("verb", &["POST", "PUT", "PATCH", "APPLY", "DELETE"])
            && has("resource", &["agents", "boards", "agentgateways", "secrets", "events", "configmaps"])
    };
    let pair = |line: &str| line.rsplit_once(' ').map(|(series, n)| (series.to_owned(), n.to_owned()));
    Ok(text.lines().filter(of_ours).filter_map(pair).collect())
}

/// Collects every file below a directory with the time of its last change.
fn collect_times(path: &Path, into: &mut BTreeMap<String, SystemTime>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_times(&entry.path(), into)?;
        } else {
            into.insert(entry.path().display().to_string(), entry.metadata()?.modified()?);
        }
    }
    Ok(())
}

fn write_times(stack: &Stack) -> Result<BTreeMap<String, SystemTime>, Failure> {
    let mut found = BTreeMap::new();
    let config = stack.openclaw.home().join(".openclaw/openclaw.json");
    found.insert("openclaw.json".into(), config.metadata()?.modified()?);
    collect_times(&stack.openclaw.home().join("workspaces"), &mut found)?;
    Ok(found)
}

pub(crate) async fn twenty_agents_are_ready_with_few_config_writes_and_a_second_run_writes_nothing(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.fleet("twenty").await?;
    let of = |name: &str, role: &str, on: Value| {
        // The gateway's own heartbeat would write into a workspace during the test.
        let mut spec = json!({ "role": role, "wake": { "enabled": false }, "heartbeat": { "interval": "24h" } });
        spec.as_object_mut().unwrap().extend(on.as_object().unwrap().clone());
        manifest("Agent", name, spec)
    };
    let mut all = vec![board("web"), of("main", "Main", json!({ "gatewayRef": { "name": "gw" } }))];
    for board in ["ops", "web"] {
        all.push(of(&format!("{board}-lead"), "Lead", json!({ "boardRef": { "name": board } })));
    }
    for n in 0..17 {
        let board = if n % 2 == 0 { "ops" } else { "web" };
        all.push(of(&format!("worker-{n}"), "Worker", json!({ "boardRef": { "name": board } })));
    }
    let before = requests(stack, "config.patch").await?;
    fleet.apply(&all).await?;
    fleet.all_ready().await?;
    let patches = requests(stack, "config.patch").await? - before;
    assert_eq!(stack.agents()?.len(), 20);
    assert!((1.0..=6.0).contains(&patches), "20 agents took {patches} config writes");
    for (agent, name) in [("ops-lead", "lead-"), ("main", "mc-gateway-"), ("worker-3", "mc-")] {
        assert!(fleet.field(&format!("agent/{agent}"), ".status.agentId").await?.starts_with(name));
    }

    until("the gateway's status to count 20 agents", CONDITION_TIMEOUT, async || {
        let ready = fleet.field("agentgateway/gw", ".status.agents.ready").await.map_err(|e| e.to_string())?;
        if ready == "20" { Ok(()) } else { Err(ready) }
    })
    .await?;
    let objects = ["get", "agentgateways,boards,agents,events", "-o", "yaml"];
    let objects_before = fleet.run(&objects).await?;
    let (api_before, gateway_before) = (api_writes(stack).await?, write_times(stack)?);
    stack.operator.restart().await?;
    until("every agent to be reconciled again", CONDITION_TIMEOUT, async || {
        let listed = requests(stack, "agents.files.list").await.map_err(|e| e.to_string())?;
        let active =
            stack.operator.metric("controller_runtime_active_workers", &[]).await.map_err(|e| e.to_string())?;
        if listed >= 20.0 && active < 1.0 { Ok(()) } else { Err(format!("{listed} lists, {active} active reconciles")) }
    })
    .await?;
    for method in WRITE_METHODS {
        assert!(requests(stack, method).await? < 1.0, "{method} in a run without changes");
    }
    let api_after = api_writes(stack).await?;
    if api_after != api_before {
        let after = fleet.run(&objects).await?;
        let new = after.lines().filter(|line| !objects_before.contains(line)).collect::<Vec<_>>().join("\n");
        panic!("API writes in a run without changes: {api_before:?}\n{api_after:?}\n{new}");
    }
    assert_eq!(write_times(stack)?, gateway_before, "the files on the gateway's disk");
    fleet.delete().await?;
    assert!(stack.agents()?.is_empty(), "{:?}", stack.agents()?);
    Ok(())
}

pub(crate) async fn a_changed_agent_board_gateway_and_config_map_reach_the_files(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.fleet("changes").await?;
    fleet.config_map("souls", json!({ "SOUL.md": "First soul of {{ agent_name }}." })).await?;
    let spec = |name: &str| {
        json!({ "boardRef": { "name": "ops" }, "displayName": name, "wake": { "enabled": false },
        "templates": { "configMapRef": { "name": "souls" } } })
    };
    fleet.apply(&[manifest("Agent", "one", spec("First")), unwoken("two")]).await?;
    fleet.all_ready().await?;
    let until_file = async |agent: &str, file: &str, text: &str| {
        until(&format!("{text:?} in {file} of {agent}"), CONDITION_TIMEOUT, async || {
            let seen = stack.file(&fleet, agent, file).await.map_err(|e| e.to_string())?;
            if seen.contains(text) { Ok(()) } else { Err(seen) }
        })
        .await
    };
    until_file("one", "SOUL.md", "First soul of First.").await?;
    let untouched = stack.workspace(&fleet, "two").await?.join("SOUL.md");
    let time = untouched.metadata()?.modified()?;

    fleet.config_map("souls", json!({ "SOUL.md": "Second soul of {{ agent_name }}." })).await?;
    until_file("one", "SOUL.md", "Second soul of First.").await?;
    fleet.apply(&[manifest("Agent", "one", spec("Second"))]).await?;
    until_file("one", "SOUL.md", "Second soul of Second.").await?;
    let id = fleet.field("agent/one", ".status.agentId").await?;
    until("its name on the gateway", CONDITION_TIMEOUT, async || {
        let name = stack.openclaw.config().map_err(|e| e.to_string())?["agents"]["entries"][&id]["name"].clone();
        if name == "Second" { Ok(()) } else { Err(name.to_string()) }
    })
    .await?;
    assert_eq!(untouched.metadata()?.modified()?, time, "another agent's file was written");

    let objective = json!({ "gatewayRef": { "name": "gw" }, "objective": "Keep the lights on" });
    fleet.apply(&[manifest("Board", "ops", objective)]).await?;
    until_file("two", "AGENTS.md", "Keep the lights on").await?;
    let mut gateway = stack.gateway();
    gateway["spec"]["apiUrl"] = json!("http://muster.example:8080");
    fleet.apply(&[gateway]).await?;
    until_file("two", "AGENTS.md", "http://muster.example:8080").await?;
    fleet.all_ready().await?;
    fleet.delete().await
}

pub(crate) async fn losses_on_the_gateway_are_repaired_by_the_next_resync(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("repair").await?;
    fleet.apply(&[unwoken("one"), worker("two")]).await?;
    fleet.all_ready().await?;
    let file = stack.workspace(&fleet, "one").await?.join("AGENTS.md");
    let right = std::fs::read_to_string(&file)?;
    std::fs::write(&file, "")?;
    until("the emptied file to be written again", CONDITION_TIMEOUT, async || {
        let seen = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
        if seen == right { Ok(()) } else { Err(format!("{} bytes", seen.len())) }
    })
    .await?;

    let id = fleet.field("agent/two", ".status.agentId").await?;
    let client = other_client(&stack.openclaw).await?;
    client.agent_delete(&id, true).await?;
    // A start of a gateway that restarts itself takes minutes on a busy machine.
    until("the deleted agent to be registered again, with its files", CONDITION_TIMEOUT, async || {
        stack.openclaw.revive().await.map_err(|e| e.to_string())?;
        let agents = stack.agents().map_err(|e| e.to_string())?;
        let file = stack.file(&fleet, "two", "AGENTS.md").await.map_err(|e| e.to_string())?;
        if agents.contains(&id) && file.contains("/heartbeat") { Ok(()) } else { Err(format!("{agents:?}")) }
    })
    .await?;
    until("the gateway to be Ready", CONDITION_TIMEOUT, async || {
        stack.openclaw.revive().await.map_err(|e| e.to_string())?;
        let ready = fleet.field("agentgateway/gw", ".status.conditions[?(@.type==\"Ready\")].status").await;
        let ready = ready.map_err(|e| e.to_string())?;
        if ready == "True" { Ok(()) } else { Err(ready) }
    })
    .await?;
    fleet.all_ready().await?;
    assert_eq!(stack.agents()?.len(), 2);
    fleet.delete().await
}
