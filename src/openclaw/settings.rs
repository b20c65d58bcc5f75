//! The settings and the credentials of a connection to a gateway.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::connection::device_key::DeviceKey;
use super::connection::tls::Trust;

/// The settings of a connection to a gateway.
#[derive(Clone)]
pub struct ConnectionSettings {
    /// The URL of the gateway, `ws` or `wss`.
    pub url: Url,
    /// The shared credential.
    pub auth: Auth,
    /// The key of this device.
    pub device_key: Arc<DeviceKey>,
    /// The token that the gateway issued for this device on an earlier connection.
    pub device_token: Option<SecretString>,
    /// The shared credential that this gateway accepted last, if it differs from `auth`. The gateway may get a new credential
    /// later than Muster.
    pub previous: Option<Auth>,
    /// The rule for the verification of the gateway's certificate.
    pub trust: Trust,
    /// Most pending requests.
    pub max_in_flight: usize,
    /// The interval between two reads of roster and config without an event.
    pub resync: Duration,
}

impl ConnectionSettings {
    /// The credentials.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretString> {
        let shared = [Some(&self.auth), self.previous.as_ref()].into_iter().flatten().map(Auth::secret);
        shared.chain(&self.device_token)
    }
}

impl fmt::Debug for ConnectionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSettings")
            .field("url", &self.url.as_str())
            .field("device_key", &self.device_key)
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

impl Auth {
    /// The value of the credential.
    pub(crate) fn secret(&self) -> &SecretString {
        match self {
            Self::Token(value) | Self::Password(value) => value,
        }
    }
}

/// The credential in a `connect`.
#[derive(Clone, Debug)]
pub(crate) enum PresentedCredential {
    /// A shared token or password.
    Shared(Auth),
    /// The token of this device.
    Device(SecretString),
}
