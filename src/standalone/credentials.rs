//! The token, the certificate and the kubeconfig of the embedded API.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use super::files::{StandaloneError, private_file};
use crate::http::made_certificate::self_signed;
use crate::http::tls::{Certificate, CertificateFiles};

const TOKEN: &str = "token";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The kubeconfig of the commands.
pub(super) const KUBECONFIG: &str = "kubeconfig";
/// The bytes of a token.
const TOKEN_BYTES: usize = 32;

/// What the commands need to reach the API, and to know it.
#[derive(Debug)]
pub(super) struct AccessFiles {
    dir: PathBuf,
    token: SecretString,
    /// The certificate of the server.
    pub(super) certificate: Arc<Certificate>,
}

impl AccessFiles {
    /// Reads the credentials of a directory, or makes them.
    pub(super) fn load_or_make(dir: &Path) -> Result<Self, StandaloneError> {
        let file = dir.join(TOKEN);
        if !file.exists() {
            private_file(&file, new_token()?.expose_secret().as_bytes())?;
        }
        let token = fs::read_to_string(&file).map_err(StandaloneError::file(&file))?;
        let token = SecretString::from(token.trim().to_owned());
        if token.expose_secret().is_empty() {
            let text = format!("{} is empty; delete it, and a new token is made", file.display());
            return Err(StandaloneError::Credentials(text));
        }
        let files = CertificateFiles { certificate: dir.join(CERTIFICATE), key: dir.join(KEY) };
        if !files.certificate.exists() || !files.key.exists() {
            make_certificate(&files)?;
        }
        let unusable = |error: crate::http::tls::TlsError| {
            let advice = format!("delete {CERTIFICATE} and {KEY}, and new ones are made");
            StandaloneError::Credentials(format!("{}; {advice}", error.with_cause()))
        };
        let certificate = Certificate::load(files).map_err(unusable)?;
        Ok(Self { dir: dir.to_owned(), token, certificate })
    }

    /// The administrator's token.
    pub(super) fn token(&self) -> SecretString {
        self.token.clone()
    }

    /// Writes the kubeconfig for a server at this address.
    pub(super) fn write_kubeconfig(&self, address: SocketAddr) -> Result<PathBuf, StandaloneError> {
        let certificate = self.dir.join(CERTIFICATE);
        let authority = fs::read(&certificate).map_err(StandaloneError::file(&certificate))?;
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: muster\n  cluster:\n    server: https://{address}\n    \
             certificate-authority-data: {}\nusers:\n- name: admin\n  user:\n    token: {}\ncontexts:\n- name: muster\n  context:\n    \
             cluster: muster\n    user: admin\n    namespace: default\ncurrent-context: muster\n",
            STANDARD.encode(authority),
            self.token.expose_secret()
        );
        let file = self.dir.join(KUBECONFIG);
        private_file(&file, text.as_bytes())?;
        Ok(file)
    }
}

fn new_token() -> Result<SecretString, StandaloneError> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| StandaloneError::Credentials(format!("no random numbers: {error}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

/// Makes a self-signed certificate for this host.
fn make_certificate(files: &CertificateFiles) -> Result<(), StandaloneError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let (certificate, key) = self_signed(names).map_err(|error| StandaloneError::Credentials(error.with_cause()))?;
    private_file(&files.key, key.serialize_pem().as_bytes())?;
    private_file(&files.certificate, certificate.pem().as_bytes())
}
