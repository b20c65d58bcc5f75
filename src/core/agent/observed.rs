//! The observed state of an agent on its gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use crate::api::agent::{RewrittenField, RunStatus};
use crate::core::agent::desired::Desired;
use crate::core::agent::heartbeat_state::ObservedHeartbeat;
use crate::openclaw::model::{
    self, AgentRow, CallError, ConfigWrites, EntryState, FileContent, FileInfo, Inventory, Rewritten, SessionInfo,
};

/// The observed state of an agent on its gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its registration in roster and config.
    pub registration: Registration,
    /// Why the agent of this id cannot be this Agent's own.
    pub conflict: Option<OwnershipConflict>,
    /// The gateway's refusal of its entry: code and message.
    pub refused: Option<(String, String)>,
    /// Why the write of its entry had no effect and is retried: code and message.
    pub delayed: Option<(String, String)>,
    /// The values of its entry that the gateway stores in another form than they were sent.
    pub rewritten: Vec<RewrittenField>,
    /// Whether the gateway accepts no config writes for now.
    pub over_budget: bool,
    /// Whether the gateway stores a write to its config.
    pub settled: bool,
    /// Whether the gateway applies a changed config at its next start alone.
    pub reload_is_off: bool,
    /// Whether the gateway can write its config.
    pub config: ConfigAccess,
    /// The time until an agent is created again, after a creation that failed because the gateway could not write its config.
    pub creation_in: Option<Duration>,
    /// Its workspace files by name; empty unless it is registered.
    pub files: BTreeMap<String, ObservedFile>,
    /// Its main session.
    pub session: Option<ObservedSession>,
    /// Its runs.
    pub activity: ObservedActivity,
    /// Its heartbeat.
    pub heartbeat: ObservedHeartbeat,
    /// When the connection to the gateway was opened. A wake that was sent before may have been lost in a restart of the gateway.
    pub connected_at: Option<Timestamp>,
}

/// Whether the gateway can write its config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigAccess {
    /// Nothing speaks against it.
    #[default]
    Writable,
    /// The last write failed. Further writes are tried.
    Failed,
    /// The layout of the config keeps the gateway from a write. No write is tried.
    Obstructed,
}

impl ConfigAccess {
    fn of(inventory: &Inventory, writes: &ConfigWrites) -> Self {
        match (&inventory.obstacle, &writes.unwritable) {
            (Some(_), _) => Self::Obstructed,
            (None, Some(_)) => Self::Failed,
            (None, None) => Self::Writable,
        }
    }
}

/// The registration of an agent in the gateway's roster and config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// The gateway does not know the id.
    #[default]
    Absent,
    /// The gateway knows the id. Its entry differs from the desired entry.
    Outdated,
    /// The entry equals the desired entry. The roster does not show the agent yet.
    Invisible,
    /// The entry equals the desired entry, and the roster shows the agent.
    Current,
}

/// Why an agent of the gateway cannot be the agent of an Agent resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnershipConflict {
    /// The roster shows it, and the config has no entry with exactly its id. The entry has another spelling of the id.
    NoEntry,
    /// Its workspace is another directory than the desired workspace.
    Elsewhere,
}

/// A workspace file in the answers of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedFile {
    /// Size in bytes.
    pub size: i64,
    /// Time of its last change, in milliseconds since 1970.
    pub modified_ms: i64,
    /// SHA-256 of its content, when the content was read.
    pub sha256: Option<String>,
    /// The message of the gateway when it refused to read or write the file.
    pub refused: Option<String>,
}

/// The main session of an agent in the answers of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedSession {
    /// Its label.
    pub label: Option<String>,
    /// The label without control and format characters, for messages.
    pub shown_label: Option<String>,
    /// The text of its [`SessionVersion`].
    pub version: String,
}

/// The runs of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedActivity {
    /// When the first and the last of the unfinished runs began, by our clock. Runs of the gateway's own heartbeat are included.
    pub running: Option<(Timestamp, Timestamp)>,
    /// The beginning and the end of the run that ended last, by our clock.
    pub rested: Option<(Timestamp, Timestamp)>,
    /// The unfinished run, or the latest run.
    pub run: Option<ObservedRun>,
    /// The ids of runs whose end was observed.
    pub ended: BTreeSet<String>,
}

/// A run of an agent by the gateway's clock. The clock may be wrong, so nothing is decided by these times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedRun {
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None` while it is unfinished.
    pub ended: Option<Timestamp>,
}

/// The version of a session: its id, which a reset changes before 2026.9, and the time of its last change. Each history
/// entry that is written afterwards has a later time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionVersion {
    /// The session's id.
    pub id: String,
    /// Milliseconds since 1970 by the gateway's clock.
    pub updated_ms: i64,
}

impl SessionVersion {
    /// The version of a session.
    #[must_use]
    pub fn of(session: &SessionInfo) -> Self {
        Self { id: session.id.clone(), updated_ms: session.updated_ms }
    }

    /// Reads the text of a version. A text without a time is an id.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (id, time) = text.rsplit_once('@').unwrap_or((text, "0"));
        Self { id: id.to_owned(), updated_ms: time.parse().unwrap_or_default() }
    }
}

impl fmt::Display for SessionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.updated_ms)
    }
}

impl Observed {
    /// The observed registration of an agent: by the inventory, and by the state of the config writes.
    #[must_use]
    pub fn of_registration(inventory: &Inventory, writes: &ConfigWrites, desired: &Desired) -> Self {
        let id = desired.identity.agent_id.as_str();
        let row = inventory.agents.get(id);
        let mut entry = desired.entry.clone();
        entry.rewritten.extend(writes.rewritten.get(id).into_iter().flatten().cloned());
        let registration = match inventory.entry_state(&entry) {
            EntryState::Absent => Registration::Absent,
            EntryState::Outdated => Registration::Outdated,
            EntryState::Current if row.is_some_and(|row| row.in_roster) => Registration::Current,
            EntryState::Current => Registration::Invisible,
        };
        Self {
            registration,
            conflict: row.and_then(|row| ownership_conflict(row, &desired.identity.workspace)),
            refused: writes.refused.get(id).map(|refusal| (refusal.code.clone(), refusal.message.clone())),
            delayed: writes.delayed.get(id).map(|refusal| (refusal.code.clone(), refusal.message.clone())),
            rewritten: inventory.rewrites(&entry).into_iter().map(RewrittenField::from).collect(),
            settled: inventory.stores_writes(),
            reload_is_off: inventory.reload_is_off,
            config: ConfigAccess::of(inventory, writes),
            ..Self::default()
        }
    }
}

fn ownership_conflict(row: &AgentRow, workspace: &str) -> Option<OwnershipConflict> {
    if row.in_roster && row.entry.is_none() {
        return Some(OwnershipConflict::NoEntry);
    }
    let is_elsewhere = row.workspace.as_deref().is_some_and(|observed| !model::same_path(workspace, observed));
    is_elsewhere.then_some(OwnershipConflict::Elsewhere)
}

impl ObservedFile {
    /// A file that the gateway refuses to read and to write, because its path is not a regular file.
    ///
    /// # Errors
    /// Any other error is returned.
    pub fn refused(error: CallError) -> Result<Self, CallError> {
        if !error.is_unsafe_file() {
            return Err(error);
        }
        Ok(Self { refused: Some(error.message()), ..Self::default() })
    }
}

impl ObservedFile {
    /// The time of its last change; `None` for a number that is no time.
    #[must_use]
    pub fn modified_at(&self) -> Option<MicroTime> {
        Timestamp::from_millisecond(self.modified_ms).ok().map(MicroTime)
    }
}

impl From<&FileInfo> for ObservedFile {
    fn from(info: &FileInfo) -> Self {
        Self { size: info.size, modified_ms: info.modified_ms, ..Self::default() }
    }
}

impl From<&FileContent> for ObservedFile {
    fn from(content: &FileContent) -> Self {
        Self { sha256: Some(content.sha256()), ..Self::from(&content.info) }
    }
}

impl From<&SessionInfo> for ObservedSession {
    fn from(session: &SessionInfo) -> Self {
        Self {
            label: session.label.clone(),
            shown_label: session.label.as_deref().map(model::clean),
            version: SessionVersion::of(session).to_string(),
        }
    }
}

impl From<ObservedRun> for RunStatus {
    fn from(run: ObservedRun) -> Self {
        Self { started_at: Some(Time(run.started)), ended_at: run.ended.map(Time) }
    }
}

impl From<&RewrittenField> for Rewritten {
    fn from(known: &RewrittenField) -> Self {
        let RewrittenField { field, sent, stored } = known.clone();
        Self { field, sent, stored }
    }
}

impl From<Rewritten> for RewrittenField {
    fn from(rewritten: Rewritten) -> Self {
        let Rewritten { field, sent, stored } = rewritten;
        Self { field, sent, stored }
    }
}
