//! The typed requests of a [`GatewayClient`].

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::channel::REQUEST_TIMEOUT;
use super::client::GatewayClient;
use super::model::message::{self, MessageMark};
use super::model::readers::{List, lax, short};
use super::model::session_info::{PatchedSession, SessionList};
use super::model::text::word;
use super::model::{CallError, FileContent, FileInfo, SessionInfo, UnlistedFile};
use crate::openclaw::limits;
use crate::openclaw::model::ChatMessage;

/// The length of the first list of sessions that match a key. Few sessions do.
const FIRST_SESSIONS: usize = 20;

/// A workspace file in an answer of `agents.files.*` and `agents.workspace.get`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    #[serde(deserialize_with = "word")]
    name: Option<String>,
    #[serde(default)]
    missing: bool,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    updated_at_ms: i64,
    #[serde(default)]
    content: Option<String>,
    #[serde(default, deserialize_with = "short::<_, { limits::HASH }>")]
    hash: Option<String>,
}

impl RawFile {
    fn info(&self) -> FileInfo {
        FileInfo {
            name: self.name.clone().unwrap_or_default(),
            missing: self.missing,
            size: self.size,
            modified_ms: self.updated_at_ms,
        }
    }
}

/// The answer of a method about one file.
#[derive(Deserialize)]
struct FileAnswer {
    file: RawFile,
}

/// The answer of `agents.files.list`.
#[derive(Deserialize)]
struct FileList {
    files: List<RawFile, { limits::FILES }>,
}

/// The workspace in the answer of `agents.files.list`.
#[derive(Deserialize)]
struct WorkspaceAnswer {
    #[serde(default, deserialize_with = "word")]
    workspace: Option<String>,
}

/// The answer of `chat.history`.
#[derive(Deserialize)]
struct HistoryAnswer {
    #[serde(default)]
    messages: List<RawMessage, { limits::MESSAGES }>,
}

/// A message in the answer of `chat.history`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMessage {
    #[serde(default)]
    role: String,
    #[serde(default, deserialize_with = "message::text")]
    content: String,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    timestamp: i64,
    #[serde(default, rename = "__openclaw", deserialize_with = "lax")]
    mark: Option<MessageMark>,
}

/// The answer of `sessions.delete`.
#[derive(Deserialize)]
struct SessionDeleteAnswer {
    #[serde(default, deserialize_with = "lax")]
    deleted: Option<bool>,
}

impl GatewayClient {
    /// The workspace files of an agent. 2026.9.6 leaves out IDENTITY.md (`docs/gateway-facts.md#workspace-files`);
    /// [`Self::file_get`] returns it.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::is_not_found`] while the agent is not visible yet.
    pub async fn files_list(&self, agent_id: &str) -> Result<Vec<FileInfo>, CallError> {
        let payload = self.link().call("agents.files.list", json!({ "agentId": agent_id }), REQUEST_TIMEOUT).await?;
        let listed = payload.read::<FileList>("agents.files.list")?.files.0;
        let is_kept = |file: &&RawFile| file.name.as_ref().is_some_and(|name| name.len() <= limits::FILE_NAME);
        Ok(listed.iter().filter(is_kept).map(RawFile::info).collect())
    }

    /// The path of an agent's workspace, for an agent whose entry and row in the roster have none, as on 2026.3.2
    /// (`docs/gateway-facts.md#agents`).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn workspace(&self, agent_id: &str) -> Result<String, CallError> {
        let payload = self.link().call("agents.files.list", json!({ "agentId": agent_id }), REQUEST_TIMEOUT).await?;
        let workspace = payload.read::<WorkspaceAnswer>("agents.files.list")?.workspace;
        workspace.ok_or_else(|| CallError::unreadable("agents.files.list", &"it names no plain path of a workspace"))
    }

    /// A workspace file; `None` when the file does not exist.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn file_get(&self, agent_id: &str, name: &str) -> Result<Option<FileContent>, CallError> {
        let payload =
            self.link().call("agents.files.get", json!({ "agentId": agent_id, "name": name }), REQUEST_TIMEOUT).await?;
        let file = payload.read::<FileAnswer>("agents.files.get")?.file;
        if file.missing {
            return Ok(None);
        }
        Ok(Some(FileContent { info: file.info(), text: file.content.unwrap_or_default(), hash: file.hash }))
    }

    /// A workspace file that the file list leaves out. A long file comes without its text, because the text could exceed the
    /// longest message. 2026.9.6 returns the text of files of up to 256 KiB, and reports a link as missing (source,
    /// `docs/gateway-facts.md#workspace-files`).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn unlisted_file(&self, agent_id: &str, name: &str) -> Result<UnlistedFile, CallError> {
        let params = json!({ "agentId": agent_id, "path": name });
        match self.link().call("agents.workspace.get", params, REQUEST_TIMEOUT).await {
            Ok(payload) => {
                let file = payload.read::<FileAnswer>("agents.workspace.get")?.file;
                let (info, text) = (file.info(), file.content.unwrap_or_default());
                Ok(UnlistedFile::Read(FileContent { info, text, hash: None }))
            }
            Err(error) => match error.unlisted_file(name) {
                Some(file) => Ok(file),
                // The file is not UTF-8, or the gateway does not have the method.
                None if error.is_transient() => Err(error),
                None => Ok(self.file_get(agent_id, name).await?.map_or(UnlistedFile::Missing, UnlistedFile::Read)),
            },
        }
    }

    /// Writes a workspace file. `expected` is the SHA-256 of the current content, in hexadecimal, and makes the write
    /// conditional. On gateways without `expectedHash` the client reads and compares the file before the write.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::is_conflict`] when the current content differs.
    pub async fn file_set(
        &self,
        agent_id: &str,
        name: &str,
        content: &str,
        expected: Option<&str>,
    ) -> Result<FileInfo, CallError> {
        let mut params = json!({ "agentId": agent_id, "name": name, "content": content });
        if let Some(expected) = expected.filter(|_| !self.link().has_file_hashes()) {
            let current = self.file_get(agent_id, name).await?;
            if current.is_none_or(|file| file.sha256() != expected) {
                return Err(CallError::Changed(name.to_owned()));
            }
        }
        if let Some(expected) = expected.filter(|_| self.link().has_file_hashes()) {
            params["expectedHash"] = json!(expected);
        }
        let payload = self.link().write("agents.files.set", params, REQUEST_TIMEOUT, "").await?;
        Ok(payload.read::<FileAnswer>("agents.files.set")?.file.info())
    }

    /// The session of a key; `None` without a session.
    ///
    /// The gateway lists the newest sessions that match the search. A search for a key also finds sessions whose key or label contains
    /// the key, such as its threads (`docs/gateway-facts.md#sessions-and-messages`). A full list without the session is therefore
    /// followed by a longer list.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::Unreadable`] when the longest list is full and does not show the session.
    pub async fn session(&self, key: &str) -> Result<Option<SessionInfo>, CallError> {
        for limit in [FIRST_SESSIONS, limits::SESSIONS] {
            let mut params = json!({ "search": key, "limit": limit });
            if let Some(agent_id) = key.strip_prefix("agent:").and_then(|k| k.split(':').next()) {
                params["agentId"] = json!(agent_id);
            }
            let payload = self.link().call_with_retries("sessions.list", params, REQUEST_TIMEOUT).await?;
            let list = payload.read::<SessionList>("sessions.list")?;
            let is_full = list.len() >= limit;
            let found = list.of(key, Instant::now());
            if found.is_some() || !is_full {
                return Ok(found);
            }
        }
        Err(CallError::unreadable(
            "sessions.list",
            &format_args!("more than {} sessions match {key}", limits::SESSIONS),
        ))
    }

    /// Sets the label of a session, and creates a missing session. Returns the session without its runs.
    ///
    /// # Assumptions
    /// The roster shows the agent. For an unknown agent the gateway leaves an orphan store
    /// (`docs/gateway-facts.md#sessions-and-messages`).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn session_label(&self, key: &str, label: &str) -> Result<SessionInfo, CallError> {
        let params = json!({ "key": key, "label": label });
        let patched: PatchedSession =
            self.link().write("sessions.patch", params, REQUEST_TIMEOUT, "").await?.read("sessions.patch")?;
        Ok(patched.with_key(key))
    }

    /// Resets a session, so that the model no longer gets the earlier messages. The gateway creates a missing session
    /// (`docs/gateway-facts.md#sessions-and-messages`). `version` is the version of the session before the reset; the write guard
    /// counts resets of the same version alone.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn session_reset(&self, key: &str, version: &str) -> Result<(), CallError> {
        self.link().write("sessions.reset", json!({ "key": key }), REQUEST_TIMEOUT, version).await.map(|_| ())
    }

    /// Deletes a session. Returns `false` for a missing session, and for a main session from 2026.8.1 on, which the gateway
    /// keeps until the deletion of its agent (`docs/gateway-facts.md#version-boundaries`).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn session_delete(&self, key: &str) -> Result<bool, CallError> {
        match self.link().call("sessions.delete", json!({ "key": key }), REQUEST_TIMEOUT).await {
            Ok(payload) => Ok(payload.read::<SessionDeleteAnswer>("sessions.delete")?.deleted.unwrap_or(true)),
            Err(error) if error.is_main_session_refusal() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a message to a session. The gateway runs a message with the same `idempotency_key` once until its next restart
    /// (`docs/gateway-facts.md#idempotency-of-messages`).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat_send(
        &self,
        key: &str,
        message: &str,
        deliver: bool,
        idempotency_key: &str,
    ) -> Result<(), CallError> {
        let params =
            json!({ "sessionKey": key, "message": message, "deliver": deliver, "idempotencyKey": idempotency_key });
        self.link().write("chat.send", params, REQUEST_TIMEOUT, "").await.map(|_| ())
    }

    /// The messages of a session.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat_history(&self, key: &str) -> Result<Vec<ChatMessage>, CallError> {
        let payload =
            self.link().call_with_retries("chat.history", json!({ "sessionKey": key }), REQUEST_TIMEOUT).await?;
        let message = |m: RawMessage| ChatMessage {
            text: m.content,
            role: m.role,
            idempotency_key: m.idempotency_key,
            marks_reset: m.mark.is_some_and(|mark| mark.kind == "reset"),
            written_ms: m.timestamp,
        };
        Ok(payload.read::<HistoryAnswer>("chat.history")?.messages.0.into_iter().map(message).collect())
    }
}
