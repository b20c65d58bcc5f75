//! The one writer of a gateway's config: queued entries are written together in one `config.patch`.
//!
//! - `writer`: the task, and `writer_state`: its states between two writes;
//! - `entry_queue` and `halving`: which entries are sent together, `batch_window`: how long a patch waits for them;
//! - `config_patch`: the composition of a patch, `shared_blocks`: the part of it that keeps the heartbeats of other agents;
//! - `entry_outcome`: the effect of a patch on each entry;
//! - `write_guard`: a limit for identical writes, `write_lock`: one write at a time.

pub(crate) mod batch_window;
pub(crate) mod config_patch;
pub(crate) mod entry_outcome;
pub(crate) mod entry_queue;
pub(crate) mod halving;
pub(crate) mod shared_blocks;
pub(crate) mod write_guard;
pub(crate) mod write_lock;
pub(crate) mod writer;
pub(crate) mod writer_state;
