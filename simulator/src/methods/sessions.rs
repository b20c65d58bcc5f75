//! `sessions.subscribe`, `sessions.list`, `sessions.patch`, `sessions.reset`, `sessions.delete`.

use serde_json::{Value, json};

use super::method::{Caller, MethodOutput, reply, text};
use crate::{
    error::RpcError,
    schema::{Param, ParamType, optional, required},
    world::{
        World, roster_id,
        sessions::{self, StoredSession},
    },
};

pub(crate) const LIST: &[Param] = &[
    optional("limit", ParamType::Positive),
    optional("offset", ParamType::Integer),
    optional("activeMinutes", ParamType::Integer),
    optional("activeOnly", ParamType::Flag),
    optional("requireLastInteraction", ParamType::Flag),
    optional("sortBy", ParamType::Text),
    optional("includeGlobal", ParamType::Flag),
    optional("includeUnknown", ParamType::Flag),
    optional("configuredAgentsOnly", ParamType::Flag),
    optional("includeDerivedTitles", ParamType::Flag),
    optional("includeLastMessage", ParamType::Flag),
    optional("label", ParamType::Text),
    optional("spawnedBy", ParamType::Text),
    optional("agentId", ParamType::NonEmpty),
    optional("search", ParamType::Text),
];
pub(crate) const PATCH: &[Param] = &[
    required("key", ParamType::NonEmpty),
    optional("agentId", ParamType::NonEmpty),
    optional("label", ParamType::TextOrNull),
    optional("model", ParamType::TextOrNull),
    optional("thinkingLevel", ParamType::TextOrNull),
    optional("expectedSessionId", ParamType::NonEmpty),
    optional("expectedLifecycleRevision", ParamType::NonEmpty),
];
pub(crate) const RESET: &[Param] = &[
    required("key", ParamType::NonEmpty),
    optional("agentId", ParamType::NonEmpty),
    optional("reason", ParamType::Text),
    optional("expectedSessionId", ParamType::NonEmpty),
];
pub(crate) const DELETE: &[Param] = &[
    required("key", ParamType::NonEmpty),
    optional("agentId", ParamType::NonEmpty),
    optional("deleteTranscript", ParamType::Flag),
    optional("expectedSessionId", ParamType::NonEmpty),
    optional("emitLifecycleHooks", ParamType::Flag),
];

/// Subscribes the connection to `sessions.changed`.
pub(crate) fn subscribe(world: &mut World, caller: &Caller, _: &Value) -> Result<MethodOutput, RpcError> {
    set_subscription(world, caller, true)
}

/// Ends the connection's subscription to `sessions.changed`.
pub(crate) fn unsubscribe(world: &mut World, caller: &Caller, _: &Value) -> Result<MethodOutput, RpcError> {
    set_subscription(world, caller, false)
}

fn set_subscription(world: &mut World, caller: &Caller, subscribed: bool) -> Result<MethodOutput, RpcError> {
    if let Some(client) = world.connections.client_mut(caller.connection_id) {
        client.sessions_subscribed = subscribed;
    }
    reply(json!({"subscribed": subscribed}))
}

/// Lists the sessions, the latest first, at most `limit`. Sessions of unknown agents are included.
pub(crate) fn list(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let matches = |(key, session): &(&String, &StoredSession)| matches_filter(params, key, session);
    let mut found: Vec<(&String, &StoredSession)> = match params["agentId"].as_str() {
        Some(agent) => world.sessions.of_agent(agent).filter(matches).collect(),
        None => world.sessions.by_key.iter().filter(matches).collect(),
    };
    found.sort_by_key(|(_, session)| std::cmp::Reverse(session.updated_ms));
    let total = found.len();
    let limit = params["limit"].as_u64().map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let limit = limit.or(world.profile.session_limit).unwrap_or(usize::MAX);
    let offset = usize::try_from(params["offset"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
    let rows: Vec<Value> =
        found.into_iter().skip(offset).take(limit).map(|(key, session)| sessions::row(key, session)).collect();
    let end = offset.saturating_add(rows.len());
    reply(json!({
        "ts": world.clock.now_ms(),
        "path": "(multiple)",
        "count": rows.len(),
        "totalCount": total,
        "limitApplied": limit,
        "nextOffset": if end < total { json!(end) } else { Value::Null },
        "hasMore": end < total,
        "defaults": {"modelProvider": "scripted", "model": "m1", "contextTokens": 120_000},
        "sessions": rows,
    }))
}

fn matches_filter(params: &Value, key: &str, session: &StoredSession) -> bool {
    let label = params["label"].as_str().is_none_or(|label| session.label.as_deref() == Some(label));
    let active = params["activeOnly"].as_bool() != Some(true) || session.run.is_some();
    let search = params["search"].as_str().unwrap_or_default().trim().to_lowercase();
    label && active && matches_search(&search, key, session)
}

/// Whether a text of the session contains the search. The other texts that real gateways search are not simulated.
fn matches_search(search: &str, key: &str, session: &StoredSession) -> bool {
    let texts = [Some(key), session.label.as_deref(), Some(&session.id)];
    texts.into_iter().flatten().any(|text| text.to_lowercase().contains(search))
}

/// Changes a session. A missing session is created, even for an unknown agent.
pub(crate) fn patch(world: &mut World, caller: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let other = params.as_object().is_some_and(|params| {
        params.keys().any(|key| !matches!(key.as_str(), "key" | "label" | "agentId" | "expectedSessionId"))
    });
    if other && !caller.client.has_scope("operator.admin") {
        return Err(RpcError::new("FORBIDDEN", "missing scope: operator.admin")
            .with_details(json!({"code": "MISSING_SCOPE", "missingScope": "operator.admin"})));
    }
    let key = sessions::full_key(text(params, "key"));
    if world.closed_ids.contains(roster_id(&key)) {
        return Err(RpcError::unavailable("Session patch failed unexpectedly. Retry the request.").retryable());
    }
    let label = match params.get("label") {
        None => None,
        Some(label) => Some(label.as_str().map(|label| parsed_label(world, &key, label)).transpose()?),
    };
    let now_ms = world.clock.now_ms();
    let session = open_session(world, &key);
    session.updated_ms = now_ms;
    if let Some(label) = label {
        session.label = label;
    }
    let entry = sessions::entry(session);
    emit_session_changed(world, &key, "reason", "patch", None);
    let path = format!("{}/.openclaw/agents/{}/agent/openclaw-agent.sqlite", world.profile.home, roster_id(&key));
    reply(json!({
        "ok": true,
        "path": path,
        "key": key,
        "entry": entry,
        "resolved": {"modelProvider": "scripted", "model": "m1"},
    }))
}

/// The stored form of a label: trimmed as JavaScript trims, within the limit, and unique among the agent's sessions,
/// which share one store.
fn parsed_label(world: &World, key: &str, label: &str) -> Result<String, RpcError> {
    let limit = world.profile.label_limit;
    if label.chars().count() > limit {
        let message = format!("invalid sessions.patch params: at /label: must NOT have more than {limit} characters");
        return Err(RpcError::invalid(message));
    }
    let trimmed = label.trim_matches(|c: char| c == '\u{feff}' || c.is_whitespace() && c != '\u{85}');
    if trimmed.is_empty() {
        return Err(RpcError::invalid("invalid label: empty"));
    }
    if trimmed.encode_utf16().count() > limit {
        return Err(RpcError::invalid(format!("invalid label: too long (max {limit})")));
    }
    let another =
        |(other, session): (&String, &StoredSession)| other != key && session.label.as_deref() == Some(trimmed);
    if world.sessions.of_agent(roster_id(key)).any(another) {
        return Err(RpcError::invalid(format!("label already in use: {trimmed}")));
    }
    Ok(trimmed.to_owned())
}

/// Resets a session. A missing session is created.
pub(crate) fn reset(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let key = sessions::full_key(text(params, "key"));
    let now_ms = world.clock.now_ms();
    let (id, lifecycle) = (world.ids.uuid(), world.ids.uuid());
    let keeps_id = world.profile.reset_keeps_id;
    let session = open_session(world, &key);
    if !keeps_id {
        session.id = id;
    }
    session.lifecycle = lifecycle;
    session.updated_ms = now_ms;
    session.messages.clear();
    if keeps_id {
        session.messages.push(json!({
            "role": "system",
            "content": [{"type": "text", "text": "Reset"}],
            "timestamp": now_ms,
            "__openclaw": {"kind": "reset", "seq": 1},
        }));
    }
    session.last_run = None;
    session.started_ms = None;
    session.ended_ms = None;
    let mut entry = sessions::entry(session);
    entry["sessionStartedAt"] = json!(now_ms);
    entry["systemSent"] = json!(false);
    entry["abortedLastRun"] = json!(false);
    if keeps_id {
        entry["lifecycleRevision"] = json!(session.lifecycle);
    }
    emit_session_changed(world, &key, "reason", "reset", None);
    reply(json!({
        "ok": true,
        "key": key,
        "entry": entry,
        "resolved": {"modelProvider": "scripted", "model": "m1"},
    }))
}

/// Deletes a session, if the version allows it.
pub(crate) fn delete(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let key = sessions::full_key(text(params, "key"));
    let protected = !world.profile.main_session_delete || roster_id(&key) == "main";
    if sessions::is_main(&key) && protected {
        return Err(RpcError::invalid(format!("Cannot delete the main session ({key}).")));
    }
    let deleted = world.sessions.by_key.remove(&key).is_some();
    if deleted {
        let payload = json!({"sessionKey": key, "reason": "delete", "ts": world.clock.now_ms()});
        world.emit("sessions.changed", &payload);
    }
    reply(json!({"ok": true, "key": key, "deleted": deleted, "archived": []}))
}

/// The session of a key. A missing session is created.
pub(crate) fn open_session<'a>(world: &'a mut World, key: &str) -> &'a mut StoredSession {
    let now_ms = world.clock.now_ms();
    let (id, lifecycle) = (world.ids.uuid(), world.ids.uuid());
    world.sessions.by_key.entry(key.to_owned()).or_insert(StoredSession {
        id,
        lifecycle,
        label: None,
        created_ms: now_ms,
        updated_ms: now_ms,
        run: None,
        last_run: None,
        started_ms: None,
        ended_ms: None,
        messages: Vec::new(),
    })
}

/// Sends `sessions.changed` to the subscribers, with the `reason` of the change or the `phase` of a run.
pub(crate) fn emit_session_changed(world: &mut World, key: &str, kind: &str, value: &str, run: Option<&str>) {
    let Some(session) = world.sessions.by_key.get(key) else {
        return;
    };
    let row = sessions::row(key, session);
    let mut payload = json!({
        "sessionKey": key,
        "agentId": roster_id(key),
        "ts": world.clock.now_ms(),
        "session": row,
        "sessionId": row["sessionId"],
        "updatedAt": row["updatedAt"],
        "label": row["label"],
        "status": row["status"],
        "hasActiveRun": row["hasActiveRun"],
    });
    payload[kind] = json!(value);
    if let Some(run) = run {
        payload["runId"] = json!(run);
    }
    world.emit("sessions.changed", &payload);
}
