//! What a connection to a gateway needs, and what it presents.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::connection::device_key::DeviceKey;
use super::connection::tls::Trust;

/// Everything that a connection needs.
#[derive(Clone)]
pub struct ConnectionSettings {
    /// Where the gateway listens, `ws` or `wss`.
    pub url: Url,
    /// The shared credential.
    pub auth: Auth,
    /// This device.
    pub identity: Arc<DeviceKey>,
    /// What the gateway issued for this device earlier.
    pub device_token: Option<SecretString>,
    /// The shared credential that this gateway took last, when it is another one: the gateway may learn of a change later.
    pub former: Option<Auth>,
    /// How the gateway's certificate is checked.
    pub trust: Trust,
    /// Most requests open at one time.
    pub max_in_flight: usize,
    /// How often roster and config are read although nothing seems to have changed.
    pub resync: Duration,
}

impl fmt::Debug for ConnectionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url.as_str())
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The shared credential of a gateway.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Its token.
    Token(SecretString),
    /// Its password.
    Password(SecretString),
}

/// A credential, as it is presented.
#[derive(Clone, Debug)]
pub(crate) enum Presented {
    /// A shared token or password.
    Shared(Auth),
    /// The token of this device.
    Device(SecretString),
}
