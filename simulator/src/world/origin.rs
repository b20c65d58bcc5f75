//! Where clients come from.

/// Where a client comes from, as the gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The gateway's own machine: the shared secret is enough.
    Loopback,
    /// Another machine: without a paired device there are no scopes.
    Remote,
}
