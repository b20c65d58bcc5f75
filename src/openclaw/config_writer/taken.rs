//! What became of the entries of a patch that the gateway has taken.

use serde_json::{Map, Value};

use crate::openclaw::model::rewritten::value_at;
use crate::openclaw::model::{AgentEntry, Rewritten};

/// The number of times that an entry is sent alone before the stored values are accepted, where the gateway does not say that nothing
/// changed.
const TRIES_ALONE: u32 = 2;

/// What became of one entry of a patch that the gateway has taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The config has the entry as it was sent.
    Kept,
    /// The gateway stores these values otherwise, and that is accepted.
    Rewritten(Vec<Rewritten>),
    /// The gateway takes the entry and keeps none under its id.
    NotKept,
    /// Nothing came of the entry, and this is what the config shows.
    Lost(String),
}

/// One entry in a patch that the gateway has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentEntry<'a> {
    /// The entry as it was sent.
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
    /// What became of the entry.
    pub(crate) fn outcome(self) -> Taken {
        if self.after.is_some() && self.entry.patch(self.after).is_none() {
            return Taken::Kept;
        }
        let Some(after) = self.after else {
            return if self.noop { Taken::NotKept } else { Taken::Lost("its config has no such entry".into()) };
        };
        let none = Map::new();
        let before = self.before.unwrap_or(&none);
        let rewritten = self.entry.rewrites(after);
        let persists = self.failures_alone.is_some_and(|failures| failures >= TRIES_ALONE);
        let is_accepted = |r: &Rewritten| self.entry.rewritten.contains(r) || is_renamed_model(r, before, after);
        if self.noop || persists || rewritten.iter().all(is_accepted) {
            return Taken::Rewritten(rewritten);
        }
        let fields: Vec<_> = rewritten.iter().map(|r| r.field.as_str()).collect();
        Taken::Lost(format!("its config does not have {} so", fields.join(", ")))
    }
}

/// Whether the gateway put another name of a model in the place of the one that was sent. Any other value may have been changed by
/// somebody else at the same moment: only a second write shows that.
fn is_renamed_model(rewrite: &Rewritten, before: &Map<String, Value>, after: &Map<String, Value>) -> bool {
    matches!(rewrite.field.as_str(), "model" | "heartbeat.model")
        && value_at(before, &rewrite.field) != value_at(after, &rewrite.field)
}
