//! `agents.list`, `agents.create`, `agents.update`, `agents.delete`.

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::method::{Caller, FollowUp, MethodOutput, not_found, reply, text};
use crate::{
    config::{self, layout::ConfigWrite, roster},
    error::RpcError,
    profile::RosterShape,
    schema::{Param, ParamType, optional, required},
    world::{TrashState, World},
};

pub(crate) const CREATE: &[Param] = &[
    required("name", ParamType::NonEmpty),
    optional("workspace", ParamType::NonEmpty),
    optional("model", ParamType::NonEmpty),
    optional("emoji", ParamType::Text),
    optional("avatar", ParamType::Text),
];
pub(crate) const UPDATE: &[Param] = &[
    required("agentId", ParamType::NonEmpty),
    optional("name", ParamType::NonEmpty),
    optional("workspace", ParamType::NonEmpty),
    optional("model", ParamType::TextOrNull),
    optional("emoji", ParamType::Text),
    optional("avatar", ParamType::Text),
];
pub(crate) const DELETE: &[Param] =
    &[required("agentId", ParamType::NonEmpty), optional("deleteFiles", ParamType::Flag)];

const STATE_FILES: &[&str] = &[
    "/agent/openclaw-agent.sqlite",
    "/agent/openclaw-agent.sqlite-journal",
    "/agent/openclaw-agent.sqlite-shm",
    "/agent/openclaw-agent.sqlite-wal",
    "/agent",
    "/sessions",
];

/// Lists the applied agents, `main` first.
pub(crate) fn list(world: &mut World, _: &Caller, _: &Value) -> Result<MethodOutput, RpcError> {
    let mut known = world.applied_agents();
    let marked = known.iter().find(|(_, entry)| entry["default"] == true).map(|(id, _)| *id);
    let first = known.keys().next().copied().filter(|_| !known.contains_key(roster::MAIN));
    let default_id = marked.or(first).unwrap_or(roster::MAIN).to_owned();
    let main = known.remove(roster::MAIN).map(|entry| (roster::MAIN, entry));
    let agents = main.into_iter().chain(known).map(|(id, entry)| row(world, id, &entry)).collect();
    let mut payload = json!({"defaultId": default_id, "mainKey": "main", "scope": "per-sender"});
    payload["agents"] = Value::Array(agents);
    if world.profile.roster == RosterShape::Entries {
        let ownership = world.config.applied.value["agents"]["ownership"].as_str().unwrap_or("sole");
        payload["ownership"] = json!(ownership);
        payload["selectionRequired"] = json!(false);
    }
    reply(payload)
}

fn row(world: &World, id: &str, entry: &Value) -> Value {
    let mut row = json!({"id": id});
    if let Some(name) = entry["name"].as_str() {
        row["name"] = json!(name);
    }
    if world.profile.protocol < 4 {
        return row;
    }
    if !entry["identity"].is_null() && entry["identity"]["name"] != entry["name"] {
        row["identity"] = entry["identity"].clone();
    }
    let workspace = world.workspace_of(id, entry);
    row["workspaceGit"] = json!(world.workspaces.by_path.get(&workspace).is_some_and(|found| found.git));
    row["workspace"] = json!(workspace);
    row["model"] = json!({"primary": entry["model"].as_str().unwrap_or("scripted/m1")});
    row["agentRuntime"] = json!({"id": "auto", "source": "implicit"});
    row
}

/// Creates an agent whose id is the normalised name, seeds its workspace, and applies the change later.
pub(crate) fn create(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let name = text(params, "name").trim().to_owned();
    let id = new_id(world, &name)?;
    let workspace =
        params["workspace"].as_str().map_or_else(|| config::default_workspace(&world.profile, &id), str::to_owned);
    let mut entry = Map::new();
    entry.insert("name".into(), json!(name));
    entry.insert("workspace".into(), json!(workspace));
    entry.insert("agentDir".into(), json!(format!("{}/agent", state_dir(world, &id))));
    entry.insert("identity".into(), identity(&name, params));
    if let Some(model) = params["model"].as_str() {
        entry.insert("model".into(), json!(model));
    }
    let shape = world.profile.roster;
    world.claim_config(ConfigWrite::Create)?;
    world.write(|document| roster::add(document, shape, &id, entry));
    let now_ms = world.clock.now_ms();
    let seeds = world.profile.seeds;
    world.workspaces.seed(&workspace, seeds, now_ms);
    if let Some(created) = world.workspaces.by_path.get_mut(&workspace) {
        created.git = true;
    }
    world.closed_ids.remove(&id);
    *world.create_counts.entry(id.clone()).or_default() += 1;
    let mut payload = json!({"ok": true, "agentId": id, "name": name, "workspace": workspace});
    if let Some(model) = params["model"].as_str() {
        payload["model"] = json!(model);
    }
    Ok(MethodOutput::new(&payload, FollowUp::ApplyAfterReply))
}

fn new_id(world: &mut World, name: &str) -> Result<String, RpcError> {
    let old = world.profile.roster == RosterShape::List;
    let Some(id) = roster::normalised(name) else {
        return Err(RpcError::invalid(if old {
            "\"main\" is reserved".to_owned()
        } else {
            format!("Agent name \"{name}\" has no valid id characters. Use at least one letter a-z or digit.")
        }));
    };
    if old && id == roster::MAIN {
        return Err(RpcError::invalid("\"main\" is reserved"));
    }
    if world.config.document.agent(&id).is_some() {
        world.closed_ids.remove(&id);
        return Err(RpcError::invalid(format!("agent \"{id}\" already exists")));
    }
    if lease_held(world, &id) {
        return Err(RpcError::unavailable(format!("agent \"{id}\" deletion cleanup is still pending")));
    }
    if world.half_deleted.contains_key(&id) {
        return Err(RpcError::invalid(format!("agent \"{id}\" deletion cleanup is still pending")));
    }
    Ok(id)
}

fn identity(name: &str, params: &Value) -> Value {
    let mut identity = json!({"name": name});
    for key in ["emoji", "avatar"] {
        if let Some(value) = params[key].as_str() {
            identity[key] = json!(value);
        }
    }
    identity
}

/// Changes an entry. A name or an emoji is also written to IDENTITY.md, and missing files are seeded.
pub(crate) fn update(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let id = text(params, "agentId").to_owned();
    if world.config.applied.agent(&id).is_none() || config_unreadable(world) {
        return Err(not_found(&id));
    }
    let shape = world.profile.roster;
    world.write(|document| {
        if shape == RosterShape::Entries && document["agents"]["entries"][&id].is_null() {
            document["agents"]["entries"][&id] = json!({});
        }
        let Some(entry) = roster::entry_mut(document, shape, &id) else {
            return;
        };
        for key in ["name", "workspace", "model"] {
            match params.get(key) {
                Some(Value::Null) => drop(entry.remove(key)),
                Some(value) => drop(entry.insert(key.to_owned(), value.clone())),
                None => {}
            }
        }
        for key in ["name", "emoji", "avatar"] {
            if let Some(value) = params[key].as_str() {
                entry.entry("identity").or_insert_with(|| json!({}))[key] = json!(value);
            }
        }
    });
    update_identity_file(world, &id);
    Ok(MethodOutput::new(&json!({"ok": true, "agentId": id}), FollowUp::ApplyAfterReply))
}

/// Whether the file is not valid JSON and counts as empty.
fn config_unreadable(world: &World) -> bool {
    world.config.broken && !world.profile.heals_broken_config
}

fn update_identity_file(world: &mut World, id: &str) {
    let document = world.config.document.clone();
    let Some(entry) = document.agent(id) else {
        return;
    };
    let workspace = world.workspace_of(id, entry);
    let now_ms = world.clock.now_ms();
    let emoji = entry["identity"]["emoji"].as_str();
    if let Some(name) = entry["identity"]["name"].as_str() {
        world.workspaces.identify(&workspace, name, emoji, now_ms);
    }
    world.workspaces.seed(&workspace, &["AGENTS.md", "USER.md", "IDENTITY.md"], now_ms);
}

/// Removes an agent and, with `deleteFiles` (the default), its workspace and its state.
pub(crate) fn delete(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let id = text(params, "agentId").to_owned();
    if id == roster::MAIN {
        return Err(RpcError::invalid(if world.profile.roster == RosterShape::List {
            "\"main\" cannot be deleted"
        } else {
            "Agent \"main\" owns the legacy shared auth store and cannot be deleted. Run openclaw doctor --fix to \
             migrate shared auth, then retry."
        }));
    }
    if config_unreadable(world) {
        return Err(not_found(&id));
    }
    let journalled = world.journalled_delete.as_ref().filter(|(agent, _)| *agent == id);
    let journalled = journalled.map(|(_, workspace)| workspace).or_else(|| world.half_deleted.get(&id));
    let Some(workspace) = world.applied_workspace(&id).or_else(|| journalled.cloned()) else {
        return Err(not_found(&id));
    };
    let is_only_one = world.config.applied.agent_count() == 1 && world.config.applied.agent(&id).is_some();
    if world.profile.roster == RosterShape::Entries && is_only_one {
        return Err(RpcError::invalid(format!("Agent \"{id}\" is the only configured agent and cannot be deleted.")));
    }
    if lease_held(world, &id) {
        return Err(RpcError::unavailable(format!(
            "OpenClawStateLeaseError: agent deletion {id} is held by another process (OPENCLAW_STATE_LEASE_HELD)"
        )));
    }
    world.claim_config(ConfigWrite::Delete)?;
    let mut without = world.config.document.value.clone();
    roster::remove(&mut without, world.profile.roster, &id);
    world.check_size(&without)?;
    world.journalled_delete.take_if(|(agent, _)| *agent == id);
    let shape = world.profile.roster;
    world.write(|document| roster::remove(document, shape, &id));
    let files = params["deleteFiles"].as_bool().unwrap_or(true);
    let FileDisposal { removed, failed } =
        if files { dispose_files(world, &id, &workspace) } else { FileDisposal::default() };
    let purge_failed = shape == RosterShape::Entries && world.trash == TrashState::PurgeFails;
    world.half_deleted.remove(&id);
    if shape == RosterShape::Entries && (purge_failed || !failed.is_empty()) {
        world.half_deleted.insert(id.clone(), workspace);
    }
    world.close_id(&id);
    if !files {
        world.retained.insert(id.clone());
    }
    // A version that loses writes replies before its reload.
    let follow_up =
        if world.profile.loses_writes.is_some() { FollowUp::ApplyAfterReply } else { FollowUp::ApplyBeforeReply };
    let mut payload = json!({"ok": true, "agentId": id, "removedBindings": 0});
    if shape == RosterShape::Entries {
        payload["removed"] = json!(removed);
        payload["failed"] = json!(failed);
    }
    if purge_failed {
        payload["purgeFailed"] = json!(true);
    }
    Ok(MethodOutput::new(&payload, follow_up))
}

/// The files of a deleted agent, removed and failed.
#[derive(Default)]
struct FileDisposal {
    removed: Vec<Value>,
    failed: Vec<Value>,
}

fn dispose_files(world: &mut World, id: &str, workspace: &str) -> FileDisposal {
    let mut trashed = FileDisposal::default();
    if world.trash == TrashState::PurgeFails && world.profile.roster == RosterShape::Entries {
        return trashed;
    }
    let state = world.sessions.remove_agent(id);
    let dir = state_dir(world, id);
    let files = STATE_FILES.iter().map(|file| (format!("{dir}{file}"), state && !file.ends_with("-journal")));
    let found = world.workspaces.by_path.contains_key(workspace);
    let is_kept = world.profile.keeps_shared_workspaces && is_shared(world, id, workspace);
    let workspaces = (!is_kept).then(|| (workspace.to_owned(), found));
    for (path, there) in files.chain(workspaces).collect::<Vec<_>>() {
        if there && world.trash == TrashState::Blocked {
            let reason = format!("EEXIST: file already exists, mkdir '{}/.Trash'", world.profile.home);
            trashed.failed.push(json!({"path": path, "reason": reason}));
        } else {
            trashed.removed.push(json!({"path": path, "method": disposal(there)}));
        }
    }
    if world.trash == TrashState::Works && !is_kept {
        world.workspaces.move_to_trash(workspace);
    }
    trashed
}

/// Whether a workspace is, contains or is within the workspace of another agent.
fn is_shared(world: &World, id: &str, workspace: &str) -> bool {
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    let others = world.config.document.agents().into_iter().filter(|(other, _)| *other != id);
    let mut folders = others.map(|(other, entry)| world.workspace_of(other, entry));
    folders.any(|other| other == workspace || within(&other, workspace) || within(workspace, &other))
}

fn disposal(there: bool) -> &'static str {
    if there { "trash" } else { "missing" }
}

fn lease_held(world: &World, id: &str) -> bool {
    let held = |until: Option<Instant>| until.is_none_or(|until| until > Instant::now());
    world.delete_lease.as_ref().is_some_and(|(agent, until)| agent == id && held(*until))
}

fn state_dir(world: &World, id: &str) -> String {
    format!("{}/.openclaw/agents/{id}", world.profile.home)
}
