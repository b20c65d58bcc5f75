//! Events of Kubernetes, which `kubectl describe` shows.

/// An event for an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether the event is a warning.
    pub warning: bool,
    /// The reason, one CamelCase word.
    pub reason: String,
    /// The action, one word.
    pub action: &'static str,
    /// A sentence. The sentence never holds a token.
    pub message: String,
}
