//! `muster import` of the configs of people with many agents: what it writes changes nothing on the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use muster::api::{Agent, AgentGateway, Board};
use muster::gateway_connection::GatewayConnectionOptions;
use muster::import::{Import, ImportOptions, import};
use muster_simulator::{Profile, RosterShape, Simulator};
use serde_json::{Value, json};

use crate::rig::Rig;
use crate::shapes::{SHAPES, Shape};

/// Longer than a resync.
const LONG: Duration = Duration::from_mins(11);

/// Agents without a manifest: the gateway's own, ids that `spec.agentId` does not accept, and shared workspaces.
const LEFT_OUT: [&str; 5] = ["main", "Ops_Bot", "review.bot", "desk", "coder"];

/// The state of a gateway that an import must not change.
#[derive(Debug, PartialEq)]
struct Snapshot {
    config: Value,
    files: BTreeMap<String, BTreeMap<String, String>>,
    sessions: Vec<String>,
    writes: usize,
    chats: usize,
}

fn snapshot(gateway: &Simulator) -> Snapshot {
    let workspaces =
        gateway.agents().into_iter().filter_map(|(id, entry)| Some((id, entry["workspace"].as_str()?.to_owned())));
    Snapshot {
        config: gateway.config(),
        files: workspaces.map(|(id, path)| (id, gateway.workspace(&path))).collect(),
        sessions: gateway.sessions().keys().cloned().collect(),
        writes: gateway.writes(),
        chats: gateway.chats().len(),
    }
}

/// A gateway with this config, and a file of its own in the workspace of each agent.
fn gateway(shape: &Shape, profile: Profile) -> Simulator {
    let config = if profile.roster == RosterShape::Entries { shape.entries() } else { shape.list() };
    let gateway = Simulator::new(profile.with_token("secret-token"));
    gateway.write_config(config);
    for id in gateway.agents().keys() {
        gateway.edit_file(id, "SOUL.md", Some(&format!("I am {id}.")));
        gateway.edit_file(id, "MEMORY.md", Some("what I know"));
    }
    gateway
}

async fn run_import(rig: &Rig, files: bool) -> Import {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "secret-token").unwrap();
    let options = ImportOptions {
        gateway: "ws://people:18789".into(),
        connection: GatewayConnectionOptions {
            token_file: Some(token_file),
            password_file: None,
            ca_file: None,
            fingerprint: None,
            timeout: 60,
        },
        namespace: None,
        gateway_name: Some("theirs".into()),
        board_name: Some("imported".into()),
        api_url: "http://muster".into(),
        only_agents: false,
        files,
        diff: false,
        filename: Vec::new(),
    };
    import(&options, rig.dial()).await.unwrap()
}

/// Applies a YAML stream of manifests; returns the ids of its agents.
fn apply(rig: &Rig, manifests: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for text in manifests.split("---\n").skip(1) {
        let manifest: Value = serde_saphyr::from_str(text).unwrap();
        match manifest["kind"].as_str().unwrap() {
            "AgentGateway" => rig.apply::<AgentGateway>(manifest),
            "Board" => rig.apply::<Board>(manifest),
            "ConfigMap" => rig.apply::<ConfigMap>(manifest),
            _ => {
                ids.insert(manifest["spec"]["agentId"].as_str().unwrap().to_owned());
                rig.apply::<Agent>(manifest);
            }
        }
    }
    ids
}

async fn check(shape: &Shape, profile: Profile) {
    let (name, version) = (shape.name, profile.version);
    let (mut rig, _) = Rig::new();
    let gateway = gateway(shape, profile);
    rig.host("people", &gateway);
    rig.secret("theirs-auth", "token", "secret-token");
    let before = snapshot(&gateway);
    let imported = run_import(&rig, false).await;
    assert_eq!(snapshot(&gateway), before, "{name} {version}: the import reads alone");
    let ids = apply(&rig, &imported.manifests);
    let all: BTreeSet<_> = gateway.agents().into_keys().collect();
    let is_left_out = |id: &&String| LEFT_OUT.contains(&id.as_str()) && (name != "coding_crew" || *id != "coder");
    let expected: BTreeSet<_> = all.iter().filter(|id| !is_left_out(id)).cloned().collect();
    assert_eq!(ids, expected, "{name} {version}: {:?}", imported.notes);
    rig.until_ready().await;
    rig.run_for(LONG).await;
    assert_eq!(snapshot(&gateway), before, "{name} {version}: the adoption changes nothing");
    assert!(rig.cluster.agents().values().all(crate::rig::ready), "{name} {version}: {}", rig.summary());
    for key in rig.agent_keys() {
        rig.delete::<Agent>(&key.name);
    }
    rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
    assert_eq!(snapshot(&gateway), before, "{name} {version}: the deletion removes nothing");
}

macro_rules! versions {
    ($($name:ident: $profile:ident;)+) => {
        $(#[tokio::test(start_paused = true)]
        async fn $name() {
            for shape in &SHAPES {
                check(shape, Profile::$profile()).await;
            }
        })+
    };
}

versions! {
    an_imported_gateway_of_any_shape_is_unchanged_on_2026_9_6: v2026_9_6;
    an_imported_gateway_of_any_shape_is_unchanged_on_2026_7_1: v2026_7_1;
    an_imported_gateway_of_any_shape_is_unchanged_on_2026_5_28: v2026_5_28;
    an_imported_gateway_of_any_shape_is_unchanged_on_2026_3_2: v2026_3_2;
}

#[tokio::test(start_paused = true)]
async fn agents_that_share_a_workspace_are_left_out_with_a_note_about_the_other_one() {
    let (rig, _) = Rig::new();
    let shape = SHAPES.iter().find(|shape| shape.name == "nested_workspaces").unwrap();
    let gateway = gateway(shape, Profile::v2026_9_6());
    rig.host("people", &gateway);
    let imported = run_import(&rig, false).await;
    assert!(imported.manifests.contains("agentId: free") && !imported.manifests.contains("agentId: coder"));
    for id in ["desk", "coder"] {
        let noted = |note: &&String| note.starts_with(&format!("{id}: left out")) && note.contains("workspace of");
        assert_eq!(imported.notes.iter().filter(noted).count(), 1, "{:?}", imported.notes);
    }
}

/// The manifests of an agent and its ConfigMap.
fn manifests_of(manifests: &str, id: &str) -> (Value, Value) {
    let documents = manifests.split("---\n").skip(1).map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let documents: Vec<_> = documents.collect();
    let agent = documents.iter().find(|one| one["spec"]["agentId"] == id).unwrap().clone();
    let name = &agent["spec"]["templates"]["configMapRef"]["name"];
    let texts = documents.iter().find(|one| one["kind"] == "ConfigMap" && one["metadata"]["name"] == *name).unwrap();
    (agent, texts.clone())
}

async fn check_files(profile: Profile) {
    let version = profile.version;
    let (mut rig, _) = Rig::new();
    let gateway = gateway(&SHAPES[0], profile);
    let id = gateway.agents().into_keys().find(|id| id != "main").unwrap();
    let (soul, agents) = ("# Soul\n\nI write {{ name }} and {% this %}.\n", "# Agents\n\nMy own rules.\n");
    gateway.edit_file(&id, "SOUL.md", Some(soul));
    gateway.edit_file(&id, "AGENTS.md", Some(agents));
    gateway.edit_file(&id, "IDENTITY.md", Some("X-Agent-Token: uY3kQ9_xTz7Lw0aBcDeFgHiJkLmNoPqRsTuVwXyZ1-2\n"));
    rig.host("people", &gateway);
    rig.secret("theirs-auth", "token", "secret-token");
    let before = snapshot(&gateway);
    let imported = run_import(&rig, true).await;
    assert_eq!(snapshot(&gateway), before, "{version}: the import reads alone");
    let left_out = format!("{id}: the text of IDENTITY.md is left out: line 1 looks like a secret");
    assert!(imported.notes.iter().any(|note| note.starts_with(&left_out)), "{:?}", imported.notes);
    assert!(!imported.manifests.contains("uY3kQ9") && !imported.manifests.contains("what I know"));
    apply(&rig, &imported.manifests);
    rig.until_ready().await;
    rig.run_for(LONG).await;
    assert_eq!(snapshot(&gateway), before, "{version}: the adoption changes nothing");

    let (mut agent, mut texts) = manifests_of(&imported.manifests, &id);
    texts["data"]["SOUL.md"] = json!("Another soul.\n");
    rig.apply::<ConfigMap>(texts);
    rig.until("the edited text", |_| gateway.file(&id, "SOUL.md").as_deref() == Some("Another soul.\n")).await;
    assert_eq!(gateway.file(&id, "AGENTS.md").as_deref(), Some(agents));

    // The agent gets the check-in command after its own text, or in a file of its own.
    let files = agent["spec"]["files"].as_array_mut().unwrap();
    files.retain(|file| file["name"] != "TOOLS.md");
    rig.apply::<Agent>(agent);
    let carries_command = |name: &str| gateway.file(&id, name).is_some_and(|text| text.contains("/heartbeat"));
    rig.until("the check-in command", |_| carries_command("AGENTS.md") || carries_command("TOOLS.md")).await;
    assert!(gateway.file(&id, "AGENTS.md").unwrap().starts_with(agents), "{version}");
}

#[tokio::test(start_paused = true)]
async fn imported_texts_change_nothing_and_can_be_edited_from_there_on_2026_9_6() {
    check_files(Profile::v2026_9_6()).await;
}

#[tokio::test(start_paused = true)]
async fn imported_texts_change_nothing_and_can_be_edited_from_there_on_2026_3_2() {
    check_files(Profile::v2026_3_2()).await;
}

#[test]
fn the_shapes_are_ten_and_more_and_different() {
    let configs: BTreeSet<_> = SHAPES.iter().map(|shape| shape.list().to_string()).collect();
    assert!(configs.len() >= 10 && configs.len() == SHAPES.len());
    let keys = |config: &Value| {
        config["agents"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|entry| entry.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
            .collect::<BTreeSet<_>>()
    };
    let all: BTreeSet<_> = SHAPES.iter().flat_map(|shape| keys(&shape.list())).collect();
    for key in
        ["model", "tools", "subagents", "sandbox", "heartbeat", "identity", "groupChat", "skills", "agentDir", "params"]
    {
        assert!(all.contains(key), "no shape has {key}");
    }
    let has = |pointer: &str| SHAPES.iter().any(|shape| shape.list().pointer(pointer).is_some());
    assert!(["/bindings/0", "/channels", "/agents/defaults/heartbeat", "/tools"].into_iter().all(has));
    assert_eq!(json!(SHAPES[0].entries()["agents"]["ownership"]), "explicit");
}
