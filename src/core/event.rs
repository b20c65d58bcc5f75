//! Events, as `kubectl describe` shows them.

/// Something that an admin should see in `kubectl describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether it is a warning.
    pub warning: bool,
    /// Its reason, one CamelCase word.
    pub reason: String,
    /// What was done, in one word.
    pub action: &'static str,
    /// A sentence. Never a token.
    pub message: String,
}
