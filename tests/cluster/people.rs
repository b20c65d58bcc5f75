//! The API for people, with ServiceAccount tokens and the documented commands.

use std::process::Stdio;

use muster_harness::{Failure, until};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, unwoken};

const CREATE: &str = r#"curl -X POST http://localhost:8000/api/v1/agents \
-H "Authorization: Bearer $TOKEN" \
-H "Content-Type: application/json" \
-d @agent-config.json"#;
const CONFIG: &str = r#"{
"name": "DevOps Engineer",
"board_id": "<board-id>",
"is_board_lead": false,
"identity_profile": {
"role": "DevOps Engineer",
"expertise": ["Kubernetes", "CI/CD", "monitoring"],
"tone": "professional",
"communication_style": "Proactive and detail-oriented"
},
"heartbeat_config": {
"enabled": true,
"intervalSeconds": 300
}
}"#;
const UPDATE: &str = r#"curl -X PATCH http://localhost:8000/api/v1/agents/<agent-id> \
-H "Authorization: Bearer $TOKEN" \
-H "Content-Type: application/json" \
-d '{
"name": "Senior DevOps Engineer",
"identity_profile": {
"role": "Senior DevOps Engineer",
"expertise": ["Kubernetes", "Terraform", "AWS"]
}
}'"#;
const HEARTBEAT: &str = r#"curl -X POST http://localhost:8000/api/v1/agents/<agent-id>/heartbeat \
-H "X-Agent-Token: $AGENT_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"status": "active",
"current_task_id": "<task-id>"
}'"#;
const DELETE: &str = r#"curl -X DELETE http://localhost:8000/api/v1/agents/<agent-id> \
-H "Authorization: Bearer $TOKEN""#;
const LIST: &str = "/api/v1/agents?board_id=<board-id>&gateway_id=<gateway-id>&is_mc_agent=true";
const STREAM: &str = "/api/v1/agents/stream?board_id=<board-id>&since=2026-03-05T12:00:00Z";
const SYNC: &str = r#"curl -X POST "http://localhost:8000/api/v1/gateways/<gateway-id>/templates/sync?rotate_tokens=true&overwrite=true" \
-H "Authorization: Bearer $TOKEN""#;

/// curl that also prints the HTTP status, on the last line, and gets the headers on its standard input: no process of a test has a token in its
/// arguments.
const CURL: &str = r#"curl() {
    headers= header=
    for word; do
        shift
        if [ "$word" = -H ]; then header=1
        elif [ "$header" ]; then headers="$headers$word
" header=
        else set -- "$@" "$word"; fi
    done
    printf %s "$headers" | command curl -sS -w '\n%{http_code}' -H @- "$@"
}
"#;

/// A shell with the variables of the documentation.
struct Shell {
    dir: tempfile::TempDir,
    api: String,
    token: String,
    agent_token: String,
    ids: Vec<(&'static str, String)>,
}

impl Shell {
    fn fill(&self, text: &str) -> String {
        let text = text.replace("http://localhost:8000", &self.api);
        self.ids.iter().fold(text, |text, (name, id)| text.replace(name, id))
    }

    /// A command with this shell's variables.
    fn sh(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-euc", &format!("{CURL}{}", self.fill(script))]).current_dir(self.dir.path());
        command.env("TOKEN", &self.token).env("AGENT_TOKEN", &self.agent_token);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// The HTTP status and the body of a documented command.
    async fn run(&self, script: &str) -> Result<(u16, Value), Failure> {
        let output = tokio::time::timeout(CONDITION_TIMEOUT, self.sh(script).output()).await??;
        let text = String::from_utf8(output.stdout)?;
        let (body, status) =
            text.rsplit_once('\n').ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let body = serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))?;
        Ok((status.parse()?, body))
    }

    async fn get(&self, path: &str) -> Result<(u16, Value), Failure> {
        self.run(&format!("curl \"http://localhost:8000{path}\" -H \"Authorization: Bearer $TOKEN\"")).await
    }
}

/// Creates an account with this `ClusterRole` in the fleet's namespace and returns its token.
async fn account(fleet: &Fleet, name: &str, role: Option<&str>) -> Result<String, Failure> {
    fleet.run(&["create", "serviceaccount", name]).await?;
    if let Some(role) = role {
        let (role, account) = (format!("--clusterrole={role}"), format!("--serviceaccount={}:{name}", fleet.namespace));
        fleet.run(&["create", "rolebinding", name, &role, &account]).await?;
        let rules = ["create", "role", &format!("{name}-events"), "--verb=list", "--resource=events.events.k8s.io"];
        fleet.run(&rules).await?;
        let (role, binding) = (format!("--role={name}-events"), format!("{name}-events"));
        fleet.run(&["create", "rolebinding", &binding, &role, &account]).await?;
    }
    fleet.account_token(name).await
}

async fn shell(stack: &Stack, fleet: &Fleet, token: String) -> Result<Shell, Failure> {
    let uid = async |object: &str| fleet.field(object, ".metadata.uid").await;
    let ids = vec![
        ("<board-id>", uid("board/ops").await?),
        ("<gateway-id>", uid("agentgateway/gw").await?),
        ("<task-id>", "T-17".to_owned()),
    ];
    let dir = tempfile::tempdir()?;
    Ok(Shell { dir, api: stack.operator.api_url(), token, agent_token: String::new(), ids })
}

/// The documented update and heartbeat.
async fn update_and_heartbeat(stack: &Stack, fleet: &Fleet, shell: &mut Shell) -> Result<(), Failure> {
    let (status, changed) = shell.run(UPDATE).await?;
    assert_eq!((status, &changed["name"]), (200, &json!("Senior DevOps Engineer")), "{changed}");
    until("the new name in a file", CONDITION_TIMEOUT, async || {
        let file = stack.file(fleet, "devops-engineer", "IDENTITY.md").await.map_err(|e| e.to_string())?;
        if file.contains("Senior DevOps Engineer") { Ok(()) } else { Err(file) }
    })
    .await?;

    let secret = ["get", "secret", "devops-engineer-token", "-o", "go-template={{.data.token | base64decode}}"];
    shell.agent_token = fleet.run(&secret).await?;
    let (status, seen) = shell.run(HEARTBEAT).await?;
    assert_eq!((status, &seen["ok"]), (200, &json!(true)), "{seen}");
    until("the heartbeat in the API", CONDITION_TIMEOUT, async || {
        let (_, agent) = shell.get("/api/v1/agents/<agent-id>").await.map_err(|e| e.to_string())?;
        if agent["current_task_id"] == "T-17" { Ok(()) } else { Err(agent.to_string()) }
    })
    .await?;
    Ok(())
}

/// The documented template sync, and the events of the agent.
async fn sync_and_read_events(fleet: &Fleet, shell: &Shell) -> Result<(), Failure> {
    let (status, asked) = shell.run(SYNC).await?;
    assert_eq!(
        (status, &asked["kinds"], &asked["agents"]),
        (200, &json!(["Sync", "Overwrite", "Rotate"]), &json!(1)),
        "{asked}"
    );
    let time = fleet.field("agentgateway/gw", ".metadata.annotations.muster\\.dev/rotate-requested-at").await?;
    assert_eq!(asked["requested_at"], json!(time));

    let (status, events) = shell.get("/api/v1/agents/<agent-id>/events").await?;
    assert_eq!(status, 200, "{events}");
    assert!(!events["items"].as_array().unwrap().is_empty(), "{events}");
    Ok(())
}

pub(crate) async fn the_documented_commands_work_unchanged(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("people").await?;
    fleet.wait("condition=Ready", &["agentgateway/gw"]).await?;
    let token = account(&fleet, "person", Some("muster-admin")).await?;
    let mut shell = shell(stack, &fleet, token).await?;
    std::fs::write(shell.dir.path().join("agent-config.json"), shell.fill(CONFIG))?;

    let (status, made) = shell.run(CREATE).await?;
    assert_eq!((status, &made["status"]), (201, &json!("provisioning")), "{made}");
    shell.ids.push(("<agent-id>", made["id"].as_str().unwrap().to_owned()));
    assert_eq!(shell.get("/api/v1/agents/<agent-id>").await?.0, 200, "the id in the response works at once");
    fleet.wait("condition=Ready", &["agent/devops-engineer"]).await?;
    let managers = "{.metadata.managedFields[*].manager}";
    let managers = fleet
        .run(&["get", "agent/devops-engineer", "-o", &format!("jsonpath={managers}"), "--show-managed-fields"])
        .await?;
    assert!(managers.contains("muster-http-api"), "{managers}");
    assert_eq!(shell.run(CREATE).await?.0, 409, "a second agent with this name");

    let (status, list) = shell.get(LIST).await?;
    assert_eq!((status, &list["total"], &list["items"][0]["id"]), (200, &json!(1), &made["id"]), "{list}");
    let session = list["items"][0]["openclaw_session_id"].as_str().unwrap_or_default();
    assert!(session.starts_with("agent:mc-"), "{list}");

    let stream = format!(
        "printf 'Authorization: Bearer %s' \"$TOKEN\" >header
        exec curl -sSN --max-time 110 -H @header \"http://localhost:8000{STREAM}\" >stream.txt"
    );
    let mut streaming = shell.sh(&stream).spawn()?;

    update_and_heartbeat(stack, &fleet, &mut shell).await?;
    sync_and_read_events(&fleet, &shell).await?;

    let (status, gone) = shell.run(DELETE).await?;
    assert_eq!((status, gone), (200, json!({ "ok": true })));
    fleet.wait("delete", &["agent/devops-engineer"]).await?;
    until("the stream to contain all changes", CONDITION_TIMEOUT, async || {
        let events = std::fs::read_to_string(shell.dir.path().join("stream.txt")).map_err(|e| e.to_string())?;
        let all = ["event: agent", "Senior DevOps Engineer", "\"status\":\"active\"", "\"status\":\"deleted\""];
        if all.iter().all(|word| events.contains(word)) { Ok(()) } else { Err(events) }
    })
    .await?;
    streaming.kill().await?;
    fleet.delete().await
}

pub(crate) async fn a_forbidden_user_gets_the_missing_permission(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("strangers").await?;
    fleet.apply(&[unwoken("one")]).await?;
    let id = fleet.field("agent/one", ".metadata.uid").await?;
    let viewer = account(&fleet, "viewer", Some("muster-view")).await?;
    let stranger = account(&fleet, "stranger", None).await?;
    let mut shell = shell(stack, &fleet, stranger).await?;
    shell.ids.push(("<agent-id>", id));
    std::fs::write(shell.dir.path().join("agent-config.json"), shell.fill(CONFIG))?;
    let (status, refused) = shell.get("/api/v1/agents").await?;
    assert_eq!((status, &refused["code"]), (403, &json!("forbidden")), "{refused}");
    for command in [CREATE, UPDATE, DELETE, SYNC] {
        assert_eq!(shell.run(command).await?.0, 403, "{command}");
    }
    shell.token = viewer;
    let (status, list) = shell.get("/api/v1/agents").await?;
    assert_eq!((status, &list["total"]), (200, &json!(1)), "{list}");
    let (status, refused) = shell.run(DELETE).await?;
    let message = refused["message"].as_str().unwrap_or_default();
    assert_eq!(status, 403, "{refused}");
    assert!(message.contains("may not delete agents.muster.dev in namespace strangers"), "{message}");
    shell.token = "not-a-token".into();
    assert_eq!(shell.get("/api/v1/agents").await?.0, 401);
    fleet.delete().await
}

pub(crate) async fn the_api_matches_its_openapi_document(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("described").await?;
    fleet.apply(&[unwoken("one")]).await?;
    fleet.wait("condition=Ready", &["agent/one"]).await?;
    let token = account(&fleet, "person", Some("muster-admin")).await?;
    let secret = ["get", "secret", "one-token", "-o", "go-template={{.data.token | base64decode}}"];
    let agent_token = fleet.run(&secret).await?;
    // Generated agents have to be accepted or refused by Kubernetes and must not reach a gateway.
    let mut gateway = stack.gateway();
    gateway["spec"]["suspend"] = json!(true);
    fleet.apply(&[gateway]).await?;
    let mut command = Command::new("scripts/api-check");
    command.arg(stack.operator.api_url()).env("MUSTER_TOKEN", token).env("MUSTER_AGENT_TOKEN", agent_token);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    fleet.apply(&[stack.gateway()]).await?;
    fleet.delete().await
}
