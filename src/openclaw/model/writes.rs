//! The state of a gateway's config writes.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::error::CallError;
use super::rewritten::Rewritten;

/// The state of the config writes.
#[derive(Clone, Debug, Default)]
pub struct ConfigWrites {
    /// Ids whose entries wait.
    pub pending: BTreeSet<String>,
    /// Entries that the gateway refuses, by id.
    pub refused: BTreeMap<String, WriteRefusal>,
    /// Entries that came to nothing and go out again later, by id: the last reason.
    pub delayed: BTreeMap<String, WriteRefusal>,
    /// What the gateway took and stores otherwise, by id of the agent.
    pub rewritten: BTreeMap<String, Vec<Rewritten>>,
    /// When the gateway takes config writes again, while its limit is used up.
    pub budget_until: Option<Instant>,
    /// Why the last config write failed, while it is tried again.
    pub failed: Option<WriteRefusal>,
}

/// The gateway's refusal of an entry, or of a config write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRefusal {
    /// The gateway's code.
    pub code: String,
    /// What it said.
    pub message: String,
}

impl WriteRefusal {
    pub(crate) fn of(error: &CallError) -> Self {
        Self { code: error.code().to_owned(), message: error.message() }
    }
}
