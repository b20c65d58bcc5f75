//! The TLS certificate of the HTTP API, from files that may change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// How often the files are read again. Kubernetes swaps a link when a Secret changes, so a watch of the file sees no change.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// The PEM files of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by the certificates of its issuers.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file does not contain the expected PEM item.
    #[error("failed to find {what} in {path}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The expected PEM item.
        what: &'static str,
        /// The cause.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate does not match the key, or its type is not supported.
    #[error("failed to use the certificate with its key")]
    Pair(#[source] rustls::Error),
    /// No certificate can be made.
    #[error("failed to make a certificate")]
    Make(#[source] rcgen::Error),
}

impl TlsError {
    /// The error and its cause in one line.
    #[must_use]
    pub fn with_cause(&self) -> String {
        let cause = std::error::Error::source(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{self}{cause}")
    }
}

/// The served certificate, which is reloaded when its files change.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    provider: Arc<CryptoProvider>,
    served: RwLock<Arc<CertifiedKey>>,
}

/// A hash of the content of the two files, or of the error of a failed read.
type ContentHash = [u8; 32];

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, or the files do not contain a certificate and its key.
    pub fn load(files: CertificateFiles) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let served = RwLock::new(Arc::new(certified_key(&read(&files)?, &files, &provider)?));
        Ok(Arc::new(Self { files, provider, served }))
    }

    /// An acceptor that uses the certificate that is served at the time of a handshake.
    ///
    /// # Errors
    /// None in practice: the provider supports the protocol versions.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        acceptor(Arc::clone(&self.provider), Arc::clone(self) as _)
    }

    /// The served certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).cert.first().cloned()
    }

    /// Reads the files every 10 s and serves a new certificate. A certificate that cannot be served is logged once, and the old
    /// certificate stays in use. Never ends.
    pub async fn watch_files(self: Arc<Self>) {
        // The hash of the loaded files is unknown, so the first reload loads the same certificate again.
        let mut last = None;
        let mut tick = tokio::time::interval(RELOAD_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let this = Arc::clone(&self);
            // Files of a mounted Secret are in memory. Other files may be on a slow disk.
            let reloaded = tokio::task::spawn_blocking(move || this.reload(last.as_ref())).await;
            last = reloaded.ok();
        }
    }

    /// Reads the files and serves the certificate, unless the hash is the `last` hash. Returns the hash.
    fn reload(&self, last: Option<&ContentHash>) -> ContentHash {
        let pair = read(&self.files);
        let hash = match &pair {
            Ok(pair) => pair.hash(),
            // The hash of the error prevents a second log line for the same error.
            Err(error) => Sha256::digest(error.with_cause()).into(),
        };
        if last == Some(&hash) {
            return hash;
        }
        match pair.and_then(|pair| certified_key(&pair, &self.files, &self.provider)) {
            Ok(new) => {
                let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
                if served.cert != new.cert {
                    let sha256 = new.cert.first().map(fingerprint).unwrap_or_default();
                    info!(file = %self.files.certificate.display(), sha256, "a new TLS certificate is served");
                }
                *served = Arc::new(new);
            }
            Err(error) => {
                warn!(
                    error = error.with_cause(),
                    "failed to load the new TLS certificate; the old certificate is served"
                );
            }
        }
        hash
    }
}

/// An acceptor that asks `resolver` for the certificate of each handshake.
pub(super) fn acceptor(
    provider: Arc<CryptoProvider>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<TlsAcceptor, TlsError> {
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = versions.map_err(TlsError::Pair)?.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The SHA-256 fingerprint of a certificate, in the form of `openssl x509 -fingerprint -sha256`.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let hex: Vec<_> = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    hex.join(":")
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The content of the two files.
struct PemPair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl PemPair {
    fn hash(&self) -> ContentHash {
        Sha256::new().chain_update(Sha256::digest(&self.certificate)).chain_update(&self.key).finalize().into()
    }
}

fn read(files: &CertificateFiles) -> Result<PemPair, TlsError> {
    let file = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
    Ok(PemPair { certificate: file(&files.certificate)?, key: file(&files.key)? })
}

fn certified_key(
    pair: &PemPair,
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let pem = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, what, source }
    };
    let missing = || rustls::pki_types::pem::Error::NoItemsFound;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pair.certificate)
        .collect::<Result<_, _>>()
        .and_then(|chain: Vec<_>| if chain.is_empty() { Err(missing()) } else { Ok(chain) })
        .map_err(pem("a certificate", &files.certificate))?;
    let key = PrivateKeyDer::from_pem_slice(&pair.key).map_err(pem("a private key", &files.key))?;
    CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pem {
        certificate: String,
        key: String,
    }

    fn pem() -> Pem {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Pem { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn write(files: &CertificateFiles, pem: &Pem) {
        std::fs::write(&files.certificate, &pem.certificate).unwrap();
        std::fs::write(&files.key, &pem.key).unwrap();
    }

    fn files(folder: &Path) -> CertificateFiles {
        CertificateFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") }
    }

    #[test]
    fn an_error_names_the_invalid_file() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let (one, other) = (pem(), pem());
        let error = |certificate: &str, key: &str| {
            write(&files, &Pem { certificate: certificate.into(), key: key.into() });
            Certificate::load(files.clone()).unwrap_err().with_cause()
        };
        assert!(error(&one.certificate, &other.key).contains("certificate with its key"));
        assert!(error("", &one.key).contains("a certificate in"));
        assert!(error(&one.certificate, "nonsense").contains("tls.key"));
        std::fs::remove_file(&files.key).unwrap();
        assert!(Certificate::load(files).unwrap_err().with_cause().contains("failed to read"));
    }

    #[test]
    fn an_invalid_pair_is_loaded_once_and_a_valid_pair_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        write(&files, &pem());
        let certificate = Certificate::load(files.clone()).unwrap();
        let served = || certificate.served.read().unwrap().cert.clone();
        let first = served();
        write(&files, &Pem { certificate: pem().certificate, key: pem().key });
        let last = certificate.reload(None);
        assert_eq!((served(), certificate.reload(Some(&last))), (first.clone(), last));
        write(&files, &pem());
        certificate.reload(Some(&last));
        assert_ne!(served(), first);
    }
}
