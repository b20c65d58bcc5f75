//! The one writer of a gateway's config: entries that wait go out together in one `config.patch`.
//!
//! `batch_window`: how long a write waits for further entries. `entry_queue`, `halving`: what goes out together. `config_patch`: the
//! patch itself. `taken`: what became of an entry. `writer_state`: the states between two writes. `shared_blocks`: the heartbeats of agents that Muster did not make. `write_guard`: a limit for repeated writes.
//! `write_lock`: one write at a time. `writer`: the task.

pub(crate) mod batch_window;
pub(crate) mod config_patch;
pub(crate) mod entry_queue;
pub(crate) mod halving;
pub(crate) mod shared_blocks;
pub(crate) mod taken;
pub(crate) mod write_guard;
pub(crate) mod write_lock;
pub(crate) mod writer;
pub(crate) mod writer_state;
