//! The effect of an acknowledged patch on its entries.

use serde_json::{Map, Value};

use crate::openclaw::model::rewritten::value_at;
use crate::openclaw::model::{AgentEntry, Rewritten};

/// The number of times that an entry is sent alone before the stored values are accepted, where the gateway does not say that nothing
/// changed.
const TRIES_ALONE: u32 = 2;

/// The effect of an acknowledged patch on one entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EntryOutcome {
    /// The config has the sent entry.
    Stored,
    /// The gateway stores these values in another form, which is accepted.
    Rewritten(Vec<Rewritten>),
    /// The gateway stores no entry under the id.
    NotStored,
    /// The patch had no effect on the entry. The text says what the config shows.
    NoEffect(String),
}

/// One entry of an acknowledged patch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentEntry<'a> {
    /// The sent entry.
    pub(crate) entry: &'a AgentEntry,
    /// The entry in the config before the patch.
    pub(crate) before: Option<&'a Map<String, Value>>,
    /// The entry in the config after the patch.
    pub(crate) after: Option<&'a Map<String, Value>>,
    /// Whether the gateway said that the patch changed nothing.
    pub(crate) noop: bool,
    /// The number of patches in which the entry was alone and had no effect, this patch not included; `None` in a patch of several.
    pub(crate) failures_alone: Option<u32>,
}

impl SentEntry<'_> {
    /// Compares the sent entry with the config.
    pub(crate) fn outcome(self) -> EntryOutcome {
        if self.after.is_some() && self.entry.patch(self.after).is_none() {
            return EntryOutcome::Stored;
        }
        let Some(after) = self.after else {
            return if self.noop {
                EntryOutcome::NotStored
            } else {
                EntryOutcome::NoEffect("its config has no such entry".into())
            };
        };
        let none = Map::new();
        let before = self.before.unwrap_or(&none);
        let rewritten = self.entry.rewrites(after);
        let persists = self.failures_alone.is_some_and(|failures| failures >= TRIES_ALONE);
        let is_accepted = |r: &Rewritten| self.entry.rewritten.contains(r) || is_renamed_model(r, before, after);
        if self.noop || persists || rewritten.iter().all(is_accepted) {
            return EntryOutcome::Rewritten(rewritten);
        }
        let fields: Vec<_> = rewritten.iter().map(|r| r.field.as_str()).collect();
        EntryOutcome::NoEffect(format!("its config has other values for {}", fields.join(", ")))
    }
}

/// Whether the gateway replaced the name of a model. Any other value may have been changed by another client at the same moment, which
/// only a second write shows.
fn is_renamed_model(rewrite: &Rewritten, before: &Map<String, Value>, after: &Map<String, Value>) -> bool {
    matches!(rewrite.field.as_str(), "model" | "heartbeat.model")
        && value_at(before, &rewrite.field) != value_at(after, &rewrite.field)
}
