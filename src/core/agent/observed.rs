//! What was seen of an agent on its gateway.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::api::agent::RewrittenField;
use crate::openclaw::model::Rewritten;

/// What was seen of an agent on its gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its place in the roster.
    pub registration: Registration,
    /// What speaks against the agent of this id being this Agent's own.
    pub conflict: Option<OwnershipConflict>,
    /// The gateway's refusal of its entry: code and message.
    pub refused: Option<(String, String)>,
    /// Why its entry came to nothing and is retried: code and message.
    pub delayed: Option<(String, String)>,
    /// The values of its entry that the gateway stores otherwise than they were sent.
    pub rewritten: Vec<RewrittenField>,
    /// Whether the gateway takes no config writes for now.
    pub over_budget: bool,
    /// Whether the gateway has applied its own last config.
    pub settled: bool,
    /// Its workspace files by name; empty unless it is registered.
    pub files: BTreeMap<String, ObservedFile>,
    /// Its main session, if there is one.
    pub session: Option<ObservedSession>,
    /// What it does.
    pub activity: ObservedActivity,
    /// Since when the connection to the gateway stands. What was sent before may have been lost with the gateway.
    pub connected_at: Option<Timestamp>,
}

/// An agent's place in the gateway's roster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// The gateway does not know the id.
    #[default]
    Absent,
    /// The gateway knows the id, and its entry is not as it should be.
    Outdated,
    /// The entry is as it should be, and the roster does not show the agent yet.
    Invisible,
    /// The entry is as it should be, and the roster shows the agent.
    Current,
}

/// What speaks against an agent of a gateway being the one that an Agent stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnershipConflict {
    /// The roster shows it, and the config has no entry of exactly its id: it stands there in another spelling, or in a
    /// file that the config includes.
    NoEntry,
    /// It works in another workspace than this one would.
    Elsewhere,
}

/// A workspace file as the gateway shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedFile {
    /// Size in bytes.
    pub size: i64,
    /// Time of its last change, in milliseconds since 1970.
    pub modified_ms: i64,
    /// SHA-256 of its content, when the content was read.
    pub sha256: Option<String>,
    /// The words of the gateway when it refused to read or to write it.
    pub refused: Option<String>,
}

/// An agent's main session as the gateway shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedSession {
    /// Its label.
    pub label: Option<String>,
    /// The label as it may be shown: without control and format characters.
    pub shown_label: Option<String>,
    /// What a reset changes, now or in the history: its id and the time of its last change.
    pub mark: String,
}

/// What an agent does at its gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedActivity {
    /// When the runs began that go on, those of the gateway's own heartbeat included: the first and the last of them, by our
    /// clock.
    pub running: Option<(Timestamp, Timestamp)>,
    /// Beginning and end of the run that ended last, by our clock.
    pub rested: Option<(Timestamp, Timestamp)>,
    /// The run that goes on, or the latest one.
    pub run: Option<ObservedRun>,
    /// Ids of runs that were seen to end.
    pub ended: BTreeSet<String>,
}

/// A run of an agent, by the gateway's clock, which may be wrong: nothing is decided by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedRun {
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None` while it goes on.
    pub ended: Option<Timestamp>,
}

impl From<&RewrittenField> for Rewritten {
    fn from(known: &RewrittenField) -> Self {
        let RewrittenField { field, sent, stored } = known.clone();
        Self { field, sent, stored }
    }
}

impl From<Rewritten> for RewrittenField {
    fn from(seen: Rewritten) -> Self {
        let Rewritten { field, sent, stored } = seen;
        Self { field, sent, stored }
    }
}
