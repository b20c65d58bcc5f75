//! The one writer of a gateway's config: queued entries are written together in one `config.patch`.
//!
//! - `writer`: the task, `writer_state`: its states between two writes, `recheck`: whether there may be something to write;
//! - `entry_queue` and `halving`: which entries are sent together, `batch_window`: how long a patch waits for them;
//! - `config_patch`: the composition of a patch, `replaced_arrays`: the arrays in it, `shared_blocks`: the part of it that keeps the heartbeats of other agents;
//! - `answer`: what follows from the answer to a patch, `entry_outcome`: the effect of a patch on each entry;
//! - `write_guard`: a limit for identical writes, `entry_losses`: entries that something else removes, `unwritable`: why the gateway
//!   could not write its config.

mod answer;
pub(crate) mod batch_window;
pub(crate) mod config_patch;
mod entry_losses;
pub(crate) mod entry_outcome;
pub(crate) mod entry_queue;
pub(crate) mod halving;
pub(crate) mod recheck;
mod replaced_arrays;
pub(crate) mod shared_blocks;
mod unwritable;
pub(crate) mod write_guard;
pub(crate) mod writer;
pub(crate) mod writer_state;
