//! `agents.files.list`, `agents.files.get`, `agents.files.set`.

use serde_json::{Value, json};

use super::method::{Caller, MethodOutput, not_found, reply, text};
use crate::{
    clock::sha256_hex,
    error::RpcError,
    schema::{Param, ParamType, optional, required},
    world::{
        World,
        workspaces::{self, FileLink},
    },
};

/// The largest file, in bytes, that is read for its content or for a precondition.
const READ_LIMIT_BYTES: usize = 16 * 1024 * 1024;

pub(crate) const LIST: &[Param] = &[required("agentId", ParamType::NonEmpty)];
pub(crate) const GET: &[Param] = &[required("agentId", ParamType::NonEmpty), required("name", ParamType::NonEmpty)];
pub(crate) const SET: &[Param] = &[
    required("agentId", ParamType::NonEmpty),
    required("name", ParamType::NonEmpty),
    required("content", ParamType::Text),
    optional("expectedHash", ParamType::Text),
];

/// Lists the files that the gateway knows by name, missing files included.
pub(crate) fn list(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let (id, workspace) = workspace(world, params)?;
    let profile = &world.profile;
    let listed = profile.files.iter().filter(|name| !profile.unlisted_files.contains(name));
    let files: Vec<Value> = listed
        .map(|name| workspaces::file_json(profile, &workspace, name, world.workspaces.file(&workspace, name), false))
        .collect();
    reply(json!({"agentId": id, "workspace": workspace, "files": files}))
}

/// Returns one file with its content.
pub(crate) fn get(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let (id, workspace) = workspace(world, params)?;
    let name = supported(world, &workspace, params)?;
    readable(world, &workspace, name)?;
    let file = workspaces::file_json(&world.profile, &workspace, name, world.workspaces.file(&workspace, name), true);
    reply(json!({"agentId": id, "workspace": workspace, "file": file}))
}

/// Writes one file. With `expectedHash`, the write requires that the current file has this hash.
pub(crate) fn set(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let (id, workspace) = workspace(world, params)?;
    let name = supported(world, &workspace, params)?.to_owned();
    if params["expectedHash"].is_string() {
        readable(world, &workspace, &name)?;
    }
    let current = world.workspaces.file(&workspace, &name).map(|file| sha256_hex(&file.content));
    if let Some(expected) = params["expectedHash"].as_str()
        && current.as_deref() != Some(expected)
    {
        let mut details = json!({"type": "agent_file_conflict", "name": name});
        if let Some(current) = current {
            details["currentHash"] = json!(current);
        }
        let message = format!("agent file \"{name}\" changed since it was read");
        return Err(RpcError::invalid(message).with_details(details));
    }
    let now_ms = world.clock.now_ms();
    world.workspaces.write(&workspace, &name, text(params, "content"), now_ms);
    let file = workspaces::file_json(&world.profile, &workspace, &name, world.workspaces.file(&workspace, &name), true);
    reply(json!({"ok": true, "agentId": id, "workspace": workspace, "file": file}))
}

/// The id and the workspace of the agent that the parameters name.
pub(crate) fn workspace(world: &World, params: &Value) -> Result<(String, String), RpcError> {
    let id = text(params, "agentId").to_owned();
    match world.applied_workspace(&id) {
        Some(workspace) => Ok((id, workspace)),
        None if world.profile.names_unknown_agent => Err(not_found(&id)),
        None => Err(RpcError::invalid("unknown agent id")),
    }
}

/// The file name of the parameters. An unknown name and a link are refused.
fn supported<'a>(world: &World, workspace: &str, params: &'a Value) -> Result<&'a str, RpcError> {
    let name = text(params, "name");
    if !world.profile.files.contains(&name) {
        return Err(RpcError::invalid(format!("unsupported file \"{name}\"")));
    }
    let Some(link) = world.workspaces.link(workspace, name) else { return Ok(name) };
    let why = match (world.profile.protocol, link) {
        (..4, FileLink::Hard) => {
            format!(" (Hardlinked path is not allowed under workspace root ({workspace}): {workspace}/{name})")
        }
        (..4, FileLink::Symbolic) => {
            format!(" (Symlink escapes workspace root ({workspace}): {workspace}/{name})")
        }
        (4.., _) => String::new(),
    };
    Err(RpcError::invalid(format!("unsafe workspace file \"{name}\"{why}")))
}

/// Refuses a file that is too large to read.
fn readable(world: &World, workspace: &str, name: &str) -> Result<(), RpcError> {
    let too_large = world.workspaces.file(workspace, name).is_some_and(|file| file.content.len() > READ_LIMIT_BYTES);
    if too_large { Err(RpcError::invalid(format!("unsafe workspace file \"{name}\""))) } else { Ok(()) }
}
