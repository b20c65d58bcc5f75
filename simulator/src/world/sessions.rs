//! Sessions, their histories, and the runs that the gateway remembers until its restart.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The stored state of one session.
#[derive(Clone, Debug)]
pub(crate) struct StoredSession {
    pub(crate) id: String,
    pub(crate) lifecycle: String,
    pub(crate) label: Option<String>,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) run: Option<String>,
    pub(crate) last_run: Option<String>,
    pub(crate) started_ms: Option<i64>,
    pub(crate) ended_ms: Option<i64>,
    pub(crate) messages: Vec<Value>,
}

/// One run that the gateway remembers by its idempotency key.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) session_key: String,
    pub(crate) message: String,
    pub(crate) ended: bool,
}

/// Every session by key, and every remembered run.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) by_key: BTreeMap<String, StoredSession>,
    pub(crate) runs: BTreeMap<String, Run>,
}

impl Sessions {
    /// Forgets the runs, as a restart does: idempotency keys are in memory, and active runs end.
    pub(crate) fn forget_runs(&mut self) {
        self.runs.clear();
        for session in self.by_key.values_mut() {
            session.run = None;
        }
    }

    pub(crate) fn remove_agent(&mut self, agent: &str) -> bool {
        let keys: Vec<String> = self.of_agent(agent).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.by_key.remove(key);
        }
        !keys.is_empty()
    }

    /// The sessions of one agent. The cost does not depend on the sessions of other agents.
    pub(crate) fn of_agent(&self, agent: &str) -> impl Iterator<Item = (&String, &StoredSession)> {
        let whole = format!("agent:{agent}");
        // The character after `:` is `;`, so that the range holds all keys with the agent's prefix.
        let range = format!("{whole}:")..format!("{whole};");
        self.by_key.get_key_value(&whole).into_iter().chain(self.by_key.range(range))
    }
}

/// The agent that a session key names.
pub(crate) fn agent_of(key: &str) -> Option<&str> {
    key.strip_prefix("agent:")?.split(':').next().filter(|agent| !agent.is_empty())
}

/// The full session key. A key without an agent belongs to `main`.
pub(crate) fn full_key(key: &str) -> String {
    if agent_of(key).is_some() { key.to_owned() } else { format!("agent:main:{key}") }
}

/// Whether the key belongs to an agent's main session.
pub(crate) fn is_main(key: &str) -> bool {
    agent_of(key).is_some_and(|agent| key == format!("agent:{agent}:main"))
}

/// The session as `sessions.list` and events show it.
pub(crate) fn row(key: &str, session: &StoredSession) -> Value {
    let mut row = json!({
        "key": key,
        "kind": "direct",
        "classification": if is_main(key) { "main" } else { "custom" },
        "agentId": roster_id(key),
        "isMain": is_main(key),
        "isBackground": false,
        "chatType": "direct",
        "visibility": "shared",
        "archived": false,
        "pinned": false,
        "unread": false,
        "sessionId": session.id,
        "createdAt": session.created_ms,
        "updatedAt": session.updated_ms,
        "abortedLastRun": false,
        "hasActiveRun": session.run.is_some(),
        "activeRunIds": session.run.iter().collect::<Vec<_>>(),
        "modelProvider": "scripted",
        "model": "m1",
    });
    let status = if session.run.is_some() { Some("running") } else { session.last_run.as_ref().map(|_| "done") };
    let fields = [
        ("label", session.label.as_ref().map(|label| json!(label))),
        ("displayName", session.label.as_ref().map(|label| json!(label))),
        ("status", status.map(|status| json!(status))),
        ("lastRunId", session.last_run.as_ref().map(|run| json!(run))),
        ("startedAt", session.started_ms.map(|at| json!(at))),
        ("endedAt", session.ended_ms.map(|at| json!(at))),
        ("lastInteractionAt", session.started_ms.map(|at| json!(at))),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            row[name] = value;
        }
    }
    row
}

/// The session as the replies of `sessions.patch` and `sessions.reset` show it.
pub(crate) fn entry(session: &StoredSession) -> Value {
    let mut entry = json!({
        "sessionId": session.id,
        "updatedAt": session.updated_ms,
        "createdVia": "operator",
        "createdAt": session.created_ms,
    });
    if let Some(label) = &session.label {
        entry["label"] = json!(label);
    }
    entry
}

/// The agent of a session key. A key without an agent belongs to `main`.
pub(crate) fn roster_id(key: &str) -> &str {
    agent_of(key).unwrap_or(crate::config::roster::MAIN)
}
