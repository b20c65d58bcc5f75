//! What was seen of an agent on its gateway.

use std::collections::BTreeMap;

/// What was seen of an agent on its gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its place in the roster.
    pub registration: Registration,
    /// Whether its entry waits for the next config write.
    pub waiting: bool,
    /// The gateway's refusal of its entry: code and message.
    pub refused: Option<(String, String)>,
    /// Whether the gateway takes no config writes for now.
    pub over_budget: bool,
    /// Whether the gateway has applied its own last config.
    pub settled: bool,
    /// Its workspace files by name; empty unless it is registered.
    pub files: BTreeMap<String, ObservedFile>,
    /// The label of its session.
    pub label: Option<String>,
}

/// An agent's place in the gateway's roster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// The gateway does not know the id.
    #[default]
    Absent,
    /// The gateway knows the id, and its entry is not as it should be.
    Outdated,
    /// The entry is as it should be, and the roster does not show the agent yet.
    Invisible,
    /// The entry is as it should be, and the roster shows the agent.
    Current,
}

/// A workspace file as the gateway shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedFile {
    /// Size in bytes.
    pub size: i64,
    /// Time of its last change, in milliseconds since 1970.
    pub modified_ms: i64,
    /// SHA-256 of its content, when the content was read.
    pub sha256: Option<String>,
}

/// An agent's token Secret as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// There is no such Secret.
    Missing,
    /// A Secret of that name belongs to somebody else.
    Foreign,
    /// It is ours and lacks a token, or its other keys are out of date.
    Damaged,
    /// It is as it should be; the token's SHA-256.
    Valid(String),
}
