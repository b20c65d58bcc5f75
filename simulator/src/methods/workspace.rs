//! `agents.workspace.list`, `agents.workspace.get`: any file of a workspace, read-only.

use serde_json::{Value, json};

use super::files;
use super::method::{Caller, MethodOutput, reply, text};
use crate::{
    error::RpcError,
    schema::{Param, ParamType, optional, required},
    world::World,
};

pub(crate) const LIST: &[Param] = &[
    required("agentId", ParamType::NonEmpty),
    optional("path", ParamType::Text),
    optional("offset", ParamType::Integer),
    optional("limit", ParamType::Integer),
];
pub(crate) const GET: &[Param] = &[required("agentId", ParamType::NonEmpty), required("path", ParamType::NonEmpty)];

/// The largest file, in bytes, that is returned.
const PREVIEW_LIMIT_BYTES: usize = 256 * 1024;

/// Lists the entries of the workspace, with sizes and times, without hashes.
pub(crate) fn list(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let (id, path) = files::workspace(world, params)?;
    let below = text(params, "path");
    let Some(workspace) = world.workspaces.by_path.get(&path).filter(|_| below.is_empty()) else {
        return Err(RpcError::invalid("workspace directory not found")
            .with_details(json!({"type": "workspace_path_not_found", "path": below})));
    };
    let now_ms = world.clock.now_ms();
    let git =
        workspace.git.then(|| json!({"path": ".git", "name": ".git", "kind": "directory", "updatedAtMs": now_ms}));
    let found = workspace.files.iter().map(|(name, file)| {
        let (size, at) = (file.content.len(), file.updated_ms);
        json!({"path": name, "name": name, "kind": "file", "size": size, "updatedAtMs": at})
    });
    let entries: Vec<Value> = git.into_iter().chain(found).collect();
    let offset = usize::try_from(params["offset"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = usize::try_from(params["limit"].as_u64().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let shown: Vec<&Value> = entries.iter().skip(offset).take(limit).collect();
    reply(json!({"agentId": id, "path": "", "entries": shown, "totalEntries": entries.len(), "offset": offset}))
}

/// Returns one file with its content.
pub(crate) fn get(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let (id, workspace) = files::workspace(world, params)?;
    let name = text(params, "path");
    let Some(file) = world.workspaces.file(&workspace, name) else {
        return Err(RpcError::invalid("workspace file not found")
            .with_details(json!({"type": "workspace_file_not_found", "path": name})));
    };
    if file.content.len() > PREVIEW_LIMIT_BYTES {
        let size = file.content.len();
        let details =
            json!({"type": "workspace_file_too_large", "maxBytes": PREVIEW_LIMIT_BYTES, "path": name, "size": size});
        return Err(RpcError::invalid("workspace file is too large to preview").with_details(details));
    }
    if std::str::from_utf8(&file.content).is_err() {
        let details = json!({"type": "workspace_file_unsupported", "path": name});
        let message = "workspace file is not UTF-8 text or a supported image";
        return Err(RpcError::invalid(message).with_details(details));
    }
    reply(json!({"agentId": id, "file": {
        "path": name,
        "name": name,
        "size": file.content.len(),
        "updatedAtMs": file.updated_ms,
        "mimeType": "text/plain",
        "encoding": "utf8",
        "content": file.text(),
    }}))
}
