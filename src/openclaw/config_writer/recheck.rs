//! Whether there may be something to write. The composition of a patch is the exact answer, and compares each entry of the patch with
//! the config; this answer costs a comparison once after a change.

/// The parts of a patch that may have changed since the last composition.
#[derive(Debug, Default)]
pub(crate) struct Recheck {
    entries: bool,
    blocks: BlockCheck,
    /// Whether the last composition found blocks of other agents that are not recorded. Further entries change nothing about that.
    waits_for_record: bool,
}

/// Whether blocks of other agents are to be written, without an entry of Muster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum BlockCheck {
    #[default]
    NotDue,
    Due,
    Unknown,
}

impl Recheck {
    /// The config, the claims or a queued entry changed.
    pub(crate) fn all(&mut self) {
        *self = Self { entries: true, blocks: BlockCheck::Unknown, waits_for_record: false };
    }

    /// An entry is new, or due.
    pub(crate) fn entries(&mut self) {
        self.entries = true;
    }

    /// The wait for blocks of other agents is over.
    pub(crate) fn blocks(&mut self) {
        self.blocks = BlockCheck::Unknown;
    }

    /// A patch was composed.
    pub(crate) fn done(&mut self) {
        *self = Self::default();
    }

    /// The composition found blocks that are not recorded.
    pub(crate) fn wait_for_record(&mut self) {
        self.waits_for_record = true;
    }

    /// Whether there may be something to write. `has_blocks` is asked once after a change.
    pub(crate) fn is_due(&mut self, has_candidates: bool, has_blocks: impl FnOnce() -> bool) -> bool {
        if self.entries && has_candidates && !self.waits_for_record {
            return true;
        }
        if self.blocks == BlockCheck::Unknown {
            self.blocks = if has_blocks() { BlockCheck::Due } else { BlockCheck::NotDue };
        }
        self.blocks == BlockCheck::Due
    }
}
