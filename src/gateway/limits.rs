//! The bounds of what is taken from gateways.

/// Most agents of one gateway.
pub(super) const AGENTS: usize = 10_000;
/// Most methods that a gateway says that it offers. OpenClaw 2026.9.6 offers 466 (measured).
pub(super) const METHODS: usize = 4_096;
/// Most scopes that a gateway grants.
pub(super) const SCOPES: usize = 256;
/// Most workspace files in a list.
pub(super) const FILES: usize = 1_000;
/// Most sessions in a list. 100 are asked for.
pub(super) const SESSIONS: usize = 1_000;
/// Most messages of a session's history.
pub(super) const MESSAGES: usize = 5_000;
/// Most parts of a message.
pub(super) const PARTS: usize = 1_000;
/// Most runs of an agent that go on at one time.
pub(super) const RUNS: usize = 256;
/// The longest event about a session or a run that is read, in bytes.
pub(super) const RUN_EVENT: usize = 256 * 1024;
/// The most memory that the entries of a gateway's agents take as trees, by a generous estimate, in bytes. An entry with ten
/// objects in it counts for about 10 KiB.
pub(super) const ENTRIES_COST: usize = 32 * 1024 * 1024;
