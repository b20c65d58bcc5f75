//! The state of the config writes to a gateway.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::CallError;
use super::rewritten::Rewritten;

/// The state of the config writes to a gateway. A clone shares the sets.
#[derive(Clone, Debug, Default)]
pub struct ConfigWrites {
    /// The ids of the agents whose entries wait for a write.
    pub pending: Arc<BTreeSet<String>>,
    /// The entries that the gateway refuses, by agent id.
    pub refused: Arc<BTreeMap<String, WriteRefusal>>,
    /// The entries whose write had no effect and is retried later, with the last cause, by agent id.
    pub delayed: Arc<BTreeMap<String, WriteRefusal>>,
    /// Why the gateway could not write its config, until a write succeeds or nothing waits for one.
    pub unwritable: Option<WriteRefusal>,
    /// The time of the next creation of an agent, after one that failed because the gateway could not write its config.
    pub creation_at: Option<Instant>,
    /// The number of times that something else removed entries of Muster from the config.
    pub losses: u32,
    /// The values that the gateway stores in another form than they were sent, by agent id.
    pub rewritten: Arc<BTreeMap<String, Vec<Rewritten>>>,
    /// The time at which the gateway accepts config writes again, while its rate limit is used up.
    pub budget_until: Option<Instant>,
    /// The cause of the last failed config write, while the write is retried.
    pub failed: Option<WriteRefusal>,
    /// The times of the latest config writes, at least of the last minute.
    pub sent: Arc<VecDeque<Instant>>,
}

/// The part of one agent in the state of the config writes.
#[derive(Debug, Default)]
pub(crate) struct EntryWriteState {
    pub(crate) pending: bool,
    pub(crate) refused: Option<WriteRefusal>,
    pub(crate) delayed: Option<WriteRefusal>,
    pub(crate) rewritten: Option<Vec<Rewritten>>,
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

/// The time in which a gateway counts config writes (`docs/gateway-facts.md#rate-limits`).
const BUDGET_PERIOD: Duration = Duration::from_mins(1);

impl ConfigWrites {
    /// How many config writes the gateway accepts now, as far as the operator's own writes tell. `limit` is the gateway's limit within a
    /// minute.
    #[must_use]
    pub fn budget_left(&self, limit: usize, now: Instant) -> usize {
        if self.budget_until.is_some_and(|until| until > now) {
            return 0;
        }
        limit.saturating_sub(self.sent.iter().filter(|at| **at + BUDGET_PERIOD > now).count())
    }

    /// Replaces the part of one agent. A set is copied only while a clone of this value exists.
    pub(crate) fn set(&mut self, id: &str, state: EntryWriteState) {
        let EntryWriteState { pending, refused, delayed, rewritten } = state;
        if self.pending.contains(id) != pending {
            let ids = Arc::make_mut(&mut self.pending);
            if pending {
                ids.insert(id.to_owned());
            } else {
                ids.remove(id);
            }
        }
        put(&mut self.refused, id, refused);
        put(&mut self.delayed, id, delayed);
        put(&mut self.rewritten, id, rewritten);
    }
}

fn put<V: Clone + PartialEq>(map: &mut Arc<BTreeMap<String, V>>, id: &str, value: Option<V>) {
    if map.get(id) == value.as_ref() {
        return;
    }
    let map = Arc::make_mut(map);
    match value {
        Some(value) => {
            map.insert(id.to_owned(), value);
        }
        None => {
            map.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_what_the_own_writes_of_a_minute_leave_of_the_limit() {
        let mut writes = ConfigWrites::default();
        let second = |seconds| Duration::from_secs(seconds);
        let began = Instant::now();
        assert_eq!(writes.budget_left(3, began), 3);
        writes.sent = Arc::new([began, began + second(50)].into());
        assert_eq!([55, 60, 110].map(|at| writes.budget_left(3, began + second(at))), [1, 2, 3]);
        writes.budget_until = Some(began + second(100));
        assert_eq!(
            [99, 100].map(|at| writes.budget_left(3, began + second(at))),
            [0, 2],
            "the gateway's own word counts first"
        );
    }
}
