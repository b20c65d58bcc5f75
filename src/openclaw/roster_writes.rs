//! The writes to a gateway's roster that are no config patch: creations and deletions.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::channel::CONFIG_WRITE_TIMEOUT;
use super::client::GatewayClient;
use super::config_writer::config_patch::shortened;
use super::link::GatewayLink;
use super::model::deletion::RawDeleted;
use super::model::{CallError, Deleted, Inventory, WriteRefusal};

/// The timeout of a deletion. A deletion takes 3 to 6 s with 20 agents that have sessions, and the gateway serialises
/// concurrent deletions (2026.9.6, `docs/gateway-facts.md#deletion`).
const DELETE_TIMEOUT: Duration = Duration::from_secs(90);
/// The waits before the config is read again after a deletion, until it shows the deletion.
const CONFIRM_WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

impl GatewayClient {
    /// Creates an agent with its id as the name. An existing agent is a success.
    ///
    /// A config write registers many agents at once, but cannot register an id that was deleted before: 2026.9.6 then restarts
    /// itself and refuses each session of the agent with `UNAVAILABLE` until `agents.create`
    /// (`docs/gateway-facts.md#ids-that-were-deleted`). The gateway puts its own first files into an empty workspace.
    ///
    /// While the config file is invalid, `agents.create` replaces the file by a file with the new agent alone, and no event
    /// reports the invalid file (2026.5.28, 2026.7.1 and 2026.9.6, `docs/gateway-facts.md#invalid-config-file`). So the client
    /// reads the config before the request.
    ///
    /// # Guarantees
    /// The creation waits for its turn among the writes to the gateway's roster. A creation that has begun ends also when the
    /// returned future is dropped.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::Unsettled`] when the read of the config failed.
    pub async fn agent_create(&self, agent_id: &str, workspace: &str) -> Result<(), CallError> {
        let (agent_id, workspace) = (agent_id.to_owned(), workspace.to_owned());
        let result = self.in_turn(|link| async move { link.create(&agent_id, &workspace).await }).await;
        match &result {
            Ok(()) => self.report_creation(None),
            Err(error) if error.is_unwritable_config(false) => self.report_creation(Some(WriteRefusal::of(error))),
            Err(_) => {}
        }
        result
    }

    /// Deletes an agent.
    ///
    /// # Guarantees
    /// The deletion waits for its turn among the writes to the gateway's roster. A deletion that has begun ends also when the
    /// returned future is dropped.
    ///
    /// # Errors
    /// See [`CallError`]. "Not found" is [`CallError::Unsettled`] until the gateway has applied its last config and the config
    /// has no such id (`docs/gateway-facts.md#roster-visibility`).
    pub async fn agent_delete(&self, agent_id: &str, delete_files: bool) -> Result<Deleted, CallError> {
        let agent_id = agent_id.to_owned();
        self.announce_deletion(&agent_id);
        self.in_turn(|link| async move { link.delete(&agent_id, delete_files).await }).await
    }

    /// Shortens the entry of an agent that is about to be deleted: a gateway deletes no agent whose entry is more than half of its
    /// config (`docs/gateway-facts.md#rejected-config-writes`).
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn entry_shorten(&self, agent_id: &str) -> Result<(), CallError> {
        let agent_id = agent_id.to_owned();
        self.in_turn(|link| async move { link.shorten(&agent_id).await }).await
    }

    /// Runs a write in its turn.
    async fn in_turn<T, F>(&self, write: impl FnOnce(Arc<GatewayLink>) -> F) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CallError>> + Send + 'static,
    {
        let link = self.link();
        let result = link.roster.run(link.view.clone(), write(Arc::clone(link))).await;
        result.unwrap_or(Err(CallError::Interrupted))
    }
}

impl GatewayLink {
    async fn create(&self, agent_id: &str, workspace: &str) -> Result<(), CallError> {
        if !self.resync().await {
            return Err(CallError::Unsettled(
                "the gateway's config could not be read before the agent was created".into(),
            ));
        }
        let params = json!({ "name": agent_id, "workspace": workspace });
        let result = self.write("agents.create", params, CONFIG_WRITE_TIMEOUT, "").await;
        self.resync().await;
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_there() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, agent_id: &str, delete_files: bool) -> Result<Deleted, CallError> {
        let params = json!({ "agentId": agent_id, "deleteFiles": delete_files });
        let result = self.call("agents.delete", params, DELETE_TIMEOUT).await;
        let resynced = self.resync().await;
        match result {
            Ok(_) if !self.loses(agent_id).await => Err(CallError::Unsettled(format!(
                "the gateway deleted agent {agent_id}, and its config still has the agent"
            ))),
            // An `ok` means that the agent is deleted. The reader of the answer logs an unreadable part.
            Ok(payload) => {
                Ok(Deleted::Removed(payload.read::<RawDeleted>("agents.delete").unwrap_or_default().removal()))
            }
            Err(error) if error.is_not_found() => self.confirm_absent(agent_id, resynced),
            Err(error) => Err(error),
        }
    }

    async fn shorten(&self, agent_id: &str) -> Result<(), CallError> {
        let inventory = self.view.inventory.borrow().clone();
        let change = inventory.and_then(|inventory| Some((shortened(&inventory, agent_id)?, inventory)));
        let Some((change, inventory)) = change else { return Ok(()) };
        let result = change.send(&self.requester, &inventory).await;
        self.resync().await;
        result.map(drop)
    }

    /// Whether the config has no entry with this id any more. A busy gateway shows its former config for a moment, and a repeated deletion
    /// would no longer say what the gateway left.
    async fn loses(&self, agent_id: &str) -> bool {
        for wait in CONFIRM_WAITS {
            if !self.is_configured(agent_id) {
                return true;
            }
            tokio::time::sleep(wait).await;
            self.resync().await;
        }
        !self.is_configured(agent_id)
    }

    /// Whether the last read of the config has an entry with this id.
    fn is_configured(&self, agent_id: &str) -> bool {
        let inventory = self.view.inventory.borrow();
        inventory.as_ref().is_some_and(|i| i.has_entry(agent_id))
    }

    /// Confirms "not found" by the config. `read` says whether the config was read after the answer.
    fn confirm_absent(&self, agent_id: &str, read: bool) -> Result<Deleted, CallError> {
        let absent = |i: &Arc<Inventory>| read && i.stores_writes() && !i.agents.contains_key(agent_id);
        if self.view.inventory.borrow().as_ref().is_some_and(absent) {
            return Ok(Deleted::Absent);
        }
        let message = format!(
            "the gateway answered that agent {agent_id} does not exist, and its config does not confirm that yet"
        );
        Err(CallError::Unsettled(message))
    }
}

#[cfg(test)]
#[path = "roster_writes_tests.rs"]
mod tests;
