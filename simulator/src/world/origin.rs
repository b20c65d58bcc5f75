//! The origin of clients.

/// The origin of a client, as the gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The gateway's own host: the shared secret is enough.
    Loopback,
    /// Another host: a client without a paired device gets no scopes.
    Remote,
}
