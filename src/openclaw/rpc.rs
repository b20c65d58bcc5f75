//! The requests that Muster makes, typed.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::channel::{CONFIG_WRITE, ORDINARY};
use super::client::GatewayClient;
use super::model::deletion::RawDeleted;
use super::model::message::{self, MessageMark};
use super::model::readers::{List, lax};
use super::model::session_info::{Patched, Sessions};
use super::model::text::word;
use super::model::{CallError, Deleted, FileContent, FileInfo, SessionInfo, UnlistedFile};
use crate::openclaw::limits;
use crate::openclaw::model::ChatMessage;

/// The deadline of a deletion: measured 3 to 6 s each with 20 agents that have sessions, and more behind others.
const DELETE: Duration = Duration::from_secs(90);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    name: String,
    #[serde(default)]
    missing: bool,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    updated_at_ms: i64,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    hash: Option<String>,
}

impl RawFile {
    fn info(&self) -> FileInfo {
        FileInfo { name: self.name.clone(), missing: self.missing, size: self.size, modified_ms: self.updated_at_ms }
    }
}

#[derive(Deserialize)]
struct OneFile {
    file: RawFile,
}

#[derive(Deserialize)]
struct Files {
    files: List<RawFile, { limits::FILES }>,
}

#[derive(Deserialize)]
struct Workspace {
    #[serde(default, deserialize_with = "word")]
    workspace: Option<String>,
}

#[derive(Deserialize)]
struct History {
    #[serde(default)]
    messages: List<RawMessage, { limits::MESSAGES }>,
}

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

#[derive(Deserialize)]
struct SessionDeleted {
    #[serde(default, deserialize_with = "lax")]
    deleted: Option<bool>,
}

impl GatewayClient {
    /// The workspace files of an agent. 2026.9.6 leaves IDENTITY.md out (measured); [`Self::file_get`] shows it.
    ///
    /// # Errors
    /// See [`CallError`]; "not found" while the agent is not visible yet.
    pub async fn files_list(&self, agent_id: &str) -> Result<Vec<FileInfo>, CallError> {
        let payload = self.call("agents.files.list", json!({ "agentId": agent_id }), ORDINARY).await?;
        Ok(payload.read::<Files>("agents.files.list")?.files.0.iter().map(RawFile::info).collect())
    }

    /// Where an agent works, for one whose entry does not say: 2026.3.2 does not tell it in its roster either.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn workspace(&self, agent_id: &str) -> Result<String, CallError> {
        let payload = self.call("agents.files.list", json!({ "agentId": agent_id }), ORDINARY).await?;
        let told = payload.read::<Workspace>("agents.files.list")?.workspace;
        told.ok_or_else(|| CallError::unreadable("agents.files.list", &"it names no plain path of a workspace"))
    }

    /// A workspace file; `None` when it is not there.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn file_get(&self, agent_id: &str, name: &str) -> Result<Option<FileContent>, CallError> {
        let payload = self.call("agents.files.get", json!({ "agentId": agent_id, "name": name }), ORDINARY).await?;
        let file = payload.read::<OneFile>("agents.files.get")?.file;
        if file.missing {
            return Ok(None);
        }
        Ok(Some(FileContent { info: file.info(), text: file.content.unwrap_or_default(), hash: file.hash }))
    }

    /// A workspace file that the list leaves out, without the content of a long one: in one message with that the gateway would
    /// close the connection. 2026.9.6 shows files of up to 256 KiB in this way, and a link as missing (read in its source).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn unlisted_file(&self, agent_id: &str, name: &str) -> Result<UnlistedFile, CallError> {
        let params = json!({ "agentId": agent_id, "path": name });
        match self.call("agents.workspace.get", params, ORDINARY).await {
            Ok(payload) => {
                let file = payload.read::<OneFile>("agents.workspace.get")?.file;
                let (info, text) = (file.info(), file.content.unwrap_or_default());
                Ok(UnlistedFile::Read(FileContent { info, text, hash: None }))
            }
            Err(error) => match error.unshown_file(name) {
                Some(unshown) => Ok(unshown),
                // Text that is not UTF-8, or a gateway without this method.
                None if error.is_transient() => Err(error),
                None => Ok(self.file_get(agent_id, name).await?.map_or(UnlistedFile::Missing, UnlistedFile::Read)),
            },
        }
    }

    /// Writes a workspace file. With `expected`, the SHA-256 of what is to be replaced, only while it is still that. Older
    /// gateways take no such precondition: there the file is read and compared just before.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::is_conflict`] when the file changed meanwhile.
    pub async fn file_set(
        &self,
        agent_id: &str,
        name: &str,
        content: &str,
        expected: Option<&str>,
    ) -> Result<FileInfo, CallError> {
        let mut params = json!({ "agentId": agent_id, "name": name, "content": content });
        if let Some(expected) = expected.filter(|_| !self.hashes()) {
            let there = self.file_get(agent_id, name).await?;
            if there.is_none_or(|file| file.sha256() != expected) {
                return Err(CallError::Changed(name.to_owned()));
            }
        }
        if let Some(expected) = expected.filter(|_| self.hashes()) {
            params["expectedHash"] = json!(expected);
        }
        let payload = self.write("agents.files.set", params, ORDINARY, "").await?;
        Ok(payload.read::<OneFile>("agents.files.set")?.file.info())
    }

    /// A session, when there is one.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn session(&self, key: &str) -> Result<Option<SessionInfo>, CallError> {
        let mut params = json!({ "limit": 100 });
        if let Some(agent_id) = key.strip_prefix("agent:").and_then(|k| k.split(':').next()) {
            params["agentId"] = json!(agent_id);
        }
        let payload = self.call_again("sessions.list", params, ORDINARY).await?;
        Ok(payload.read::<Sessions>("sessions.list")?.of(key, Instant::now()))
    }

    /// Puts a label on a session, and makes the session when there is none. Gives the session as it is then, without its
    /// runs. On an unknown agent this leaves an orphan (measured on all versions): call it only for an agent that the roster
    /// shows.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn session_label(&self, key: &str, label: &str) -> Result<SessionInfo, CallError> {
        let params = json!({ "key": key, "label": label });
        let patched: Patched = self.write("sessions.patch", params, ORDINARY, "").await?.read("sessions.patch")?;
        Ok(patched.of(key))
    }

    /// Ends the session that had this mark and starts it anew: what was said in it is no longer passed on to the model. One that is missing is made
    /// (measured on all versions).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn session_reset(&self, key: &str, mark: &str) -> Result<(), CallError> {
        self.write("sessions.reset", json!({ "key": key }), ORDINARY, mark).await.map(|_| ())
    }

    /// Deletes a session. False where the gateway keeps main sessions as long as their agent (from 2026.8.1).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn session_delete(&self, key: &str) -> Result<bool, CallError> {
        match self.call("sessions.delete", json!({ "key": key }), ORDINARY).await {
            Ok(payload) => Ok(payload.read::<SessionDeleted>("sessions.delete")?.deleted.unwrap_or(true)),
            Err(error) if error.is_main_session_refusal() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a message into a session. The gateway runs a key once, as long as it does not restart.
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
        self.write("chat.send", params, ORDINARY, "").await.map(|_| ())
    }

    /// The messages of a session.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat_history(&self, key: &str) -> Result<Vec<ChatMessage>, CallError> {
        let payload = self.call_again("chat.history", json!({ "sessionKey": key }), ORDINARY).await?;
        let message = |m: RawMessage| ChatMessage {
            text: m.content,
            role: m.role,
            idempotency_key: m.idempotency_key,
            marks_reset: m.mark.is_some_and(|mark| mark.kind == "reset"),
            written_ms: m.timestamp,
        };
        Ok(payload.read::<History>("chat.history")?.messages.0.into_iter().map(message).collect())
    }

    /// Creates an agent whose name is its id, or finds that it is there.
    ///
    /// A config write registers many agents at once, but it does not open an id that was deleted before: 2026.9.6 then
    /// restarts itself, and refuses every session of the agent with `UNAVAILABLE` until this is called (measured).
    /// The gateway also puts its own first files into an empty workspace.
    ///
    /// A gateway whose config file is not valid at this moment would put one in its place that has this agent and nothing else
    /// (measured on 2026.5.28, 2026.7.1 and 2026.9.6); it tells nobody that the file broke, so that it is read just before.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn agent_create(&self, agent_id: &str, workspace: &str) -> Result<(), CallError> {
        let turn = self.config_turn().await;
        if !self.resync().await {
            return Err(CallError::Unsettled("the gateway's config could not be read just before".into()));
        }
        let params = json!({ "name": agent_id, "workspace": workspace });
        let result = self.write("agents.create", params, CONFIG_WRITE, "").await;
        self.resync().await;
        drop(turn);
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_there() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes an agent, one at a time and never beside a config write.
    ///
    /// # Errors
    /// See [`CallError`]. "Not found" is believed only when the config shows the id absent and the gateway has applied its
    /// last config; until then it is [`CallError::Unsettled`].
    pub async fn agent_delete(&self, agent_id: &str, delete_files: bool) -> Result<Deleted, CallError> {
        let turn = self.config_turn().await;
        let params = json!({ "agentId": agent_id, "deleteFiles": delete_files });
        let result = self.call("agents.delete", params, DELETE).await;
        let resynced = self.resync().await;
        drop(turn);
        match result {
            Ok(_) if self.is_written(agent_id) => {
                Err(CallError::Unsettled(format!("the gateway removed agent {agent_id} and its config still has it")))
            }
            // It is removed in any case. What cannot be read of the answer is logged where it is read.
            Ok(payload) => {
                Ok(Deleted::Removed(payload.read::<RawDeleted>("agents.delete").unwrap_or_default().leftovers()))
            }
            Err(error) if error.is_not_found() => self.confirm_absent(agent_id, resynced),
            Err(error) => Err(error),
        }
    }

    /// Whether the config, as it was last read, has an entry of this id.
    fn is_written(&self, agent_id: &str) -> bool {
        let inventory = self.inventory().borrow().clone();
        inventory.is_some_and(|i| i.agents.get(agent_id).is_some_and(|row| row.entry.is_some()))
    }

    /// Believes that an agent is not there when the config, which was `read` after the gateway said so, agrees.
    fn confirm_absent(&self, agent_id: &str, read: bool) -> Result<Deleted, CallError> {
        let absent = |i: &super::model::Inventory| read && i.settled && !i.agents.contains_key(agent_id);
        if self.inventory().borrow().as_ref().is_some_and(|i| absent(i)) {
            return Ok(Deleted::Absent);
        }
        let message =
            format!("the gateway says that agent {agent_id} is not there, and its config does not confirm that yet");
        Err(CallError::Unsettled(message))
    }
}
