//! `chat.send`, `chat.history`, and the stages of a run.

use serde_json::{Value, json};

use super::method::{Caller, FollowUp, MethodOutput, reply, text};
use super::sessions::{emit_session_changed, open_session};
use crate::{
    error::RpcError,
    schema::{Param, ParamType, optional, required},
    world::{World, roster_id, sessions, sessions::Run},
};

pub(crate) const SEND: &[Param] = &[
    required("sessionKey", ParamType::NonEmpty),
    required("message", ParamType::Text),
    required("idempotencyKey", ParamType::NonEmpty),
    optional("agentId", ParamType::NonEmpty),
    optional("sessionId", ParamType::NonEmpty),
    optional("thinking", ParamType::Text),
    optional("deliver", ParamType::Flag),
    optional("attachments", ParamType::Any),
    optional("timeoutMs", ParamType::Integer),
];
pub(crate) const HISTORY: &[Param] = &[
    required("sessionKey", ParamType::NonEmpty),
    optional("agentId", ParamType::NonEmpty),
    optional("cursor", ParamType::Text),
    optional("limit", ParamType::Integer),
    optional("maxBytes", ParamType::Integer),
    optional("offset", ParamType::Integer),
    optional("sessionId", ParamType::NonEmpty),
    optional("maxChars", ParamType::Integer),
];

/// The agent's answer at the end of a run.
const RUN_REPLY: &str = "Done.";

/// Newer gateways check the session of a message before anything else.
pub(crate) fn check_target(world: &World, method: &str, params: &Value) -> Result<(), RpcError> {
    if method != "chat.send" || !world.profile.target_first || params["sessionKey"].is_string() {
        return Ok(());
    }
    let details = json!({"code": "SESSION_MUTATION_TARGET_REQUIRED", "method": method});
    Err(RpcError::invalid("session mutation target is unavailable").with_details(details))
}

/// Starts a run, unless the process remembers a run with the same idempotency key.
pub(crate) fn send(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let key = sessions::full_key(text(params, "sessionKey"));
    let run_id = text(params, "idempotencyKey").to_owned();
    if let Some(run) = world.sessions.runs.get(&run_id) {
        let status = if run.ended { "ok" } else { "in_flight" };
        return reply(json!({"runId": run_id, "status": status}));
    }
    let agent = roster_id(&key).to_owned();
    if world.config.applied.agent(&agent).is_none() && !world.profile.wakes_unknown_agent {
        return Err(RpcError::invalid(format!("Agent \"{agent}\" no longer exists in configuration")));
    }
    let message = text(params, "message").to_owned();
    if let Some(active) = world.sessions.by_key.get(&key).and_then(|session| session.run.clone()) {
        steer(world, &key, (&active, &run_id), message);
        return reply(json!({"runId": run_id, "status": "started"}));
    }
    world.chats.record(&key, &run_id, &message, 1);
    let run = Run { session_key: key.clone(), message, ended: false };
    world.sessions.runs.insert(run_id.clone(), run);
    let now_ms = world.clock.now_ms();
    let session = open_session(world, &key);
    session.run = Some(run_id.clone());
    session.started_ms = Some(now_ms);
    session.ended_ms = None;
    session.updated_ms = now_ms;
    let payload = json!({"runId": run_id, "status": "started"});
    Ok(MethodOutput::new(&payload, FollowUp::StartRun(run_id)))
}

/// Adds a message to the active run (queue mode `steer`, the default): the run skips its tool calls that have not
/// begun, and the message starts no run of its own. Measured on 2026.9.6.
fn steer(world: &mut World, key: &str, (active, run_id): (&str, &str), message: String) {
    world.chats.record(key, run_id, &message, 0);
    world.steered.push(active.to_owned());
    world.sessions.runs.insert(run_id.to_owned(), Run { session_key: key.to_owned(), message, ended: true });
    store(world, run_id);
    emit_run_event(world, "chat", run_id, key, json!({"state": "final", "seq": 1}));
}

/// The messages of a session.
pub(crate) fn history(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let key = sessions::full_key(text(params, "sessionKey"));
    let mut payload = json!({
        "sessionKey": key,
        "messages": [],
        "pendingInputs": {"items": [], "total": 0},
        "hasMore": false,
        "totalMessages": 0,
    });
    if let Some(session) = world.sessions.by_key.get(&key) {
        let limit = usize::try_from(params["limit"].as_u64().unwrap_or(200)).unwrap_or(usize::MAX);
        let total = session.messages.len();
        payload["sessionId"] = json!(session.id);
        payload["messages"] = json!(session.messages[total.saturating_sub(limit)..]);
        payload["totalMessages"] = json!(total);
        payload["hasMore"] = json!(total > limit);
        payload["sessionInfo"] = sessions::row(&key, session);
    }
    reply(payload)
}

/// Begins the run and sends its first events.
pub(crate) fn begin(world: &mut World, run_id: &str) {
    let Some(run) = world.sessions.runs.get(run_id).cloned() else {
        return;
    };
    emit_session_changed(world, &run.session_key, "reason", "send", None);
    let status = json!({"state": "status", "phase": "preparing_workspace", "seq": 1});
    emit_run_event(world, "chat", run_id, &run.session_key, status);
    let started =
        json!({"stream": "lifecycle", "data": {"phase": "start", "startedAt": world.clock.now_ms()}, "seq": 2});
    emit_run_event(world, "agent", run_id, &run.session_key, started);
    emit_session_changed(world, &run.session_key, "phase", "start", Some(run_id));
}

/// Whether the session of a run was deleted in the meantime, with its agent.
fn session_deleted(world: &World, key: &str) -> bool {
    !world.sessions.by_key.contains_key(key)
}

/// Stores the message in the history. A process that is killed earlier loses the message.
pub(crate) fn store(world: &mut World, run_id: &str) {
    let Some(run) = world.sessions.runs.get(run_id).cloned() else {
        return;
    };
    if session_deleted(world, &run.session_key) {
        return;
    }
    let now_ms = world.clock.now_ms();
    let key = format!("{run_id}:user");
    let session = open_session(world, &run.session_key);
    session.messages.push(json!({
        "role": "user",
        "content": run.message,
        "timestamp": now_ms,
        "idempotencyKey": key,
        "__openclaw": {"idempotencyKey": key, "seq": session.messages.len() + 1},
    }));
    emit_session_changed(world, &run.session_key, "phase", "message", None);
}

/// Ends the run: stores the answer in the history and sends the last events.
pub(crate) fn finish(world: &mut World, run_id: &str) {
    let Some(run) = world.sessions.runs.get_mut(run_id) else {
        return;
    };
    run.ended = true;
    let key = run.session_key.clone();
    if session_deleted(world, &key) {
        return;
    }
    let now_ms = world.clock.now_ms();
    let session = open_session(world, &key);
    session.run = session.run.take().filter(|active| active != run_id);
    session.last_run = Some(run_id.to_owned());
    session.ended_ms = Some(now_ms);
    session.updated_ms = now_ms;
    session.messages.push(json!({
        "role": "assistant",
        "content": [{"type": "text", "text": RUN_REPLY}],
        "stopReason": "stop",
        "timestamp": now_ms,
        "__openclaw": {"runId": run_id, "seq": session.messages.len() + 1},
    }));
    let ended = json!({"stream": "lifecycle", "data": {"phase": "end", "endedAt": now_ms}, "seq": 3});
    emit_run_event(world, "agent", run_id, &key, ended);
    let answer = json!({"role": "assistant", "content": [{"type": "text", "text": RUN_REPLY}]});
    emit_run_event(
        world,
        "chat",
        run_id,
        &key,
        json!({"state": "final", "stopReason": "stop", "message": answer, "seq": 4}),
    );
    emit_session_changed(world, &key, "phase", "end", Some(run_id));
}

fn emit_run_event(world: &mut World, event: &str, run_id: &str, key: &str, mut payload: Value) {
    payload["runId"] = json!(run_id);
    payload["sessionKey"] = json!(key);
    payload["agentId"] = json!(roster_id(key));
    if event == "agent" {
        payload["isHeartbeat"] = json!(false);
        payload["ts"] = json!(world.clock.now_ms());
    }
    world.emit(event, &payload);
}
