//! `config.get`, `config.patch`, `config.set`.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::method::{Caller, FollowUp, MethodOutput, reply, reply_text, text};
use crate::{
    config::{self, Document, layout::ConfigWrite, merge, roster, rules},
    error::RpcError,
    frames::object_text,
    profile::RosterShape,
    schema::{Param, ParamType, optional, required},
    world::World,
};

pub(crate) const PATCH: &[Param] = &[
    required("raw", ParamType::NonEmpty),
    optional("baseHash", ParamType::NonEmpty),
    optional("sessionKey", ParamType::Text),
    optional("note", ParamType::Text),
    optional("restartDelayMs", ParamType::Integer),
    optional("replacePaths", ParamType::Any),
];
pub(crate) const SET: &[Param] = &[required("raw", ParamType::NonEmpty), optional("baseHash", ParamType::NonEmpty)];

/// Returns the written configuration and the state of its application.
pub(crate) fn get(world: &mut World, _: &Caller, _: &Value) -> Result<MethodOutput, RpcError> {
    reply_text(world.config.reply(&world.profile))
}

/// Merges a patch into the written configuration. The reply is sent after the reload.
pub(crate) fn patch(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let entries = world.profile.roster == RosterShape::Entries;
    if params["baseHash"].is_null() && !entries {
        return Err(RpcError::invalid("config base hash required; re-run config.get and retry"));
    }
    if !world.profile.guards_arrays && !params["replacePaths"].is_null() {
        return Err(RpcError::invalid("invalid config.patch params: at root: unexpected property 'replacePaths'"));
    }
    check_base(world, params)?;
    if world.config.broken {
        return Err(refusal_of_broken(entries));
    }
    let patch: Value = serde_json::from_str(text(params, "raw"))
        .map_err(|error| RpcError::invalid(format!("SyntaxError: JSON5: {error}")))?;
    let (old, profile) = (world.config.document.clone(), world.profile.clone());
    let merge = |document: &Document| {
        let mut merged = merge::merged(document.value.clone(), patch.clone());
        config::models::normalise(&mut merged, &profile);
        merged
    };
    let new = merge(&old);
    require_base_hash(&old.value, &new, params)?;
    if new == old.value {
        return noop_reply(world);
    }
    if profile.guards_arrays {
        refuse_unnamed_arrays(config::arrays::shortened_arrays(&old.value, &patch, &new), params)?;
    }
    world.claim_config(ConfigWrite::Patch)?;
    refuse_dropped_agents(world, &new)?;
    rules::check(&new, &profile)?;
    world.check_size(&new)?;
    let changed = merge::changed_paths(&old.value, &new);
    world.replace(|base| if Arc::ptr_eq(base, &old) { new } else { merge(base) });
    let mut payload = json!({
        "ok": true,
        "path": config::path(&profile),
        "sentinel": {"persisted": true, "payload": {"kind": "config-patch", "status": "ok", "ts": world.clock.now_ms()}},
    });
    if entries {
        payload["hash"] = json!(world.config.hash(&profile));
        payload["changedPaths"] = json!(changed);
    } else {
        payload["restart"] = json!({"ok": true, "reason": "config.patch"});
    }
    Ok(MethodOutput {
        payload: with_written_config(world, &payload),
        follow_up: if profile.restarts_on_patch { FollowUp::ApplyAfterReply } else { FollowUp::ApplyBeforeReply },
    })
}

fn refuse_unnamed_arrays(shortened: BTreeSet<String>, params: &Value) -> Result<(), RpcError> {
    let named: BTreeSet<_> =
        params["replacePaths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let unnamed: Vec<_> = shortened.into_iter().filter(|path| !named.contains(path.as_str())).collect();
    if unnamed.is_empty() {
        return Ok(());
    }
    Err(RpcError::invalid(format!(
        "config.patch would remove entries from array path(s): {}. Pass replacePaths with the exact path(s) when this is intentional, \
         or use config.apply for full-config replacement.",
        unnamed.join(", ")
    )))
}

fn with_written_config(world: &World, payload: &Value) -> Arc<str> {
    object_text(payload, &[("config", world.config.document.text())]).into()
}

fn refusal_of_broken(entries: bool) -> RpcError {
    if !entries {
        return RpcError::invalid("invalid config; fix before patching");
    }
    RpcError::invalid(format!("invalid config: <root>: {}; fix (openclaw doctor) before patching", config::PARSE_ERROR))
        .with_details(json!({"issues": [{"path": "", "message": config::PARSE_ERROR}]}))
}

fn noop_reply(world: &World) -> Result<MethodOutput, RpcError> {
    let mut payload = json!({
        "ok": true,
        "path": config::path(&world.profile),
        "config": config::with_defaults(world.config.document.value.clone(), &world.profile),
    });
    if world.profile.protocol >= 4 {
        payload["noop"] = json!(true);
        payload["changedPaths"] = json!([]);
    }
    reply(payload)
}

/// Replaces the written configuration. The reply is sent before the reload.
pub(crate) fn set(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    if params["baseHash"].is_null() {
        return Err(RpcError::invalid("config base hash required; re-run config.get and retry"));
    }
    check_base(world, params)?;
    let new: Value = serde_json::from_str(text(params, "raw"))
        .map_err(|error| RpcError::invalid(format!("SyntaxError: JSON5: {error}")))?;
    let dropped = dropped_agents(world, &new);
    if !dropped.is_empty() {
        return Err(RpcError::invalid(format!(
            "config.set would remove existing agent entries: {}. Use the agents.delete RPC or `openclaw agents delete <id>` \
             for intentional deletion.",
            dropped.join(", ")
        )));
    }
    rules::check(&new, &world.profile)?;
    world.replace(|_| new);
    let payload = json!({"ok": true, "path": config::path(&world.profile)});
    Ok(MethodOutput { payload: with_written_config(world, &payload), follow_up: FollowUp::ApplyAfterReply })
}

fn check_base(world: &World, params: &Value) -> Result<(), RpcError> {
    match params["baseHash"].as_str() {
        Some(base) if base != world.config.hash(&world.profile) => {
            Err(RpcError::invalid("config changed since last load; re-run config.get and retry"))
        }
        _ => Ok(()),
    }
}

fn require_base_hash(old: &Value, new: &Value, params: &Value) -> Result<(), RpcError> {
    if !params["baseHash"].is_null() || old == new {
        return Ok(());
    }
    let changed = merge::changed_leaves(old, new);
    let paths = changed.join(", ");
    Err(RpcError::invalid(format!("config base hash required for {paths}; re-run config.get and retry with baseHash")))
}

fn refuse_dropped_agents(world: &World, new: &Value) -> Result<(), RpcError> {
    let dropped = dropped_agents(world, new);
    if dropped.is_empty() {
        return Ok(());
    }
    Err(RpcError::unavailable(format!(
        "Error: Config write would drop agent roster entries without an explicit deletion: {}.",
        dropped.join(", ")
    )))
}

fn dropped_agents(world: &World, new: &Value) -> Vec<String> {
    let kept = roster::entries(new, world.profile.roster);
    let written = world.config.document.agents();
    written.into_keys().filter(|id| !kept.contains_key(id)).map(str::to_owned).collect()
}
