//! The connection of a command to a gateway: its options, its settings, and the wait until the gateway has answered. The commands
//! only read from the gateway.

mod observe;
mod open;
mod url_flag;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use observe::{GatewayView, observe};
pub use open::OpenGateway;
pub(crate) use open::{open, unused_device};
use url::Url;
pub(crate) use url_flag::{gateway_url, is_in_clear, plain_url};

use crate::core::gateway::credential;
use crate::openclaw::{Auth, ConnectionSettings, DeviceKey, Fingerprint, Trust};

/// The read interval of the client, longer than any command.
const RESYNC: Duration = Duration::from_hours(1);
/// Most pending requests.
const MAX_IN_FLIGHT: usize = 8;

/// The options of a connection to a gateway, without its URL.
#[derive(Debug, clap::Args)]
pub struct GatewayConnectionOptions {
    /// File with the gateway's token. Without it, and without --password-file, `MUSTER_GATEWAY_TOKEN` has the token.
    #[arg(long, value_name = "FILE", conflicts_with = "password_file")]
    pub token_file: Option<PathBuf>,
    /// File with the gateway's password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// File with the PEM certificates of the authority that signed the gateway's certificate. Default: the system's roots.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The SHA-256 of the gateway's certificate, 64 hexadecimal digits with or without colons. Any other certificate is
    /// refused.
    #[arg(long, value_name = "SHA256", value_parser = fingerprint)]
    pub fingerprint: Option<Fingerprint>,
    /// Timeout in seconds, the wait for a person who approves this device included.
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

impl GatewayConnectionOptions {
    /// The settings of the connection to a gateway, by these options alone.
    ///
    /// # Errors
    /// A sentence that names the flag or the file, and says what to do.
    pub(crate) fn settings(&self, url: &Url) -> Result<ConnectionSettings, String> {
        let trust = self.trust(url)?.unwrap_or(Trust::Platform);
        let auth = self.auth()?;
        let auth = auth.ok_or("no credential: give --token-file or --password-file, or set MUSTER_GATEWAY_TOKEN")?;
        settings(url, auth, trust)
    }

    /// The rule for the gateway's certificate; `None` without an option about it.
    ///
    /// # Errors
    /// The file cannot be read, or the connection has no certificate.
    pub(crate) fn trust(&self, url: &Url) -> Result<Option<Trust>, String> {
        if url.scheme() == "ws" && (self.ca_file.is_some() || self.fingerprint.is_some()) {
            return Err(format!("{url}: only wss:// has a certificate for --ca-file or --fingerprint"));
        }
        let pem = self.ca_file.as_deref().map(|path| contents("--ca-file", path)).transpose()?.map(String::into_bytes);
        Ok(match (self.fingerprint, pem) {
            (Some(fingerprint), pem) => Some(Trust::Pinned { fingerprint, pem }),
            (None, Some(pem)) => Some(Trust::Pem(pem)),
            (None, None) => None,
        })
    }

    /// The credential of a file or of the environment; `None` without one.
    ///
    /// # Errors
    /// The file cannot be read or is empty.
    pub(crate) fn auth(&self) -> Result<Option<Auth>, String> {
        if let Some(path) = &self.password_file {
            return Ok(Some(Auth::Password(credential::of_file(&contents("--password-file", path)?).into())));
        }
        if let Some(path) = &self.token_file {
            return Ok(Some(Auth::Token(credential::of_file(&contents("--token-file", path)?).into())));
        }
        let token = std::env::var("MUSTER_GATEWAY_TOKEN").ok().filter(|token| !token.is_empty());
        Ok(token.map(|token| Auth::Token(token.into())))
    }

    /// How long the command waits for the gateway.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// The settings of a connection. Each run has a device of its own.
///
/// # Errors
/// The system gives no randomness.
pub(crate) fn settings(url: &Url, auth: Auth, trust: Trust) -> Result<ConnectionSettings, String> {
    let device_key = DeviceKey::generate().map_err(|e| format!("no randomness for a device identity: {e}"))?;
    Ok(ConnectionSettings {
        url: url.clone(),
        auth,
        device_key: Arc::new(device_key),
        device_token: None,
        previous: None,
        trust,
        max_in_flight: MAX_IN_FLIGHT,
        resync: RESYNC,
    })
}

fn fingerprint(text: &str) -> Result<Fingerprint, &'static str> {
    Fingerprint::parse(text).ok_or("give the SHA-256 of the certificate: 64 hexadecimal digits, with or without colons")
}

fn contents(flag: &str, path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{flag} {}: {e}", path.display()))?;
    if credential::of_file(&text).trim().is_empty() {
        Err(format!("{flag} {}: it is empty", path.display()))
    } else {
        Ok(text)
    }
}
