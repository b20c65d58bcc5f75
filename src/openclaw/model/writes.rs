//! The state of the config writes to a gateway.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::error::CallError;
use super::rewritten::Rewritten;

/// The state of the config writes to a gateway.
#[derive(Clone, Debug, Default)]
pub struct ConfigWrites {
    /// The ids of the agents whose entries wait for a write.
    pub pending: BTreeSet<String>,
    /// The entries that the gateway refuses, by agent id.
    pub refused: BTreeMap<String, WriteRefusal>,
    /// The entries whose write had no effect and is retried later, with the last cause, by agent id.
    pub delayed: BTreeMap<String, WriteRefusal>,
    /// The values that the gateway stores in another form than they were sent, by agent id.
    pub rewritten: BTreeMap<String, Vec<Rewritten>>,
    /// The time at which the gateway accepts config writes again, while its rate limit is used up.
    pub budget_until: Option<Instant>,
    /// The cause of the last failed config write, while the write is retried.
    pub failed: Option<WriteRefusal>,
}

/// The gateway's refusal of an entry, or of a config write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRefusal {
    /// The gateway's code, or a code of Muster.
    pub code: String,
    /// The gateway's message, or the text of the error.
    pub message: String,
}

impl WriteRefusal {
    pub(crate) fn of(error: &CallError) -> Self {
        Self { code: error.code().to_owned(), message: error.message() }
    }
}
