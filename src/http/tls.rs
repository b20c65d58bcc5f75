//! The certificate of the HTTP API, from files that may change.

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

/// How often the files are read again. Kubernetes swaps a link when a Secret changes, which no watch of a file sees.
const LOOK: Duration = Duration::from_secs(10);

/// Where a certificate and its key are, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that it was issued by, its own first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no PEM of the kind that it should.
    #[error("failed to find {what} in {path}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit, or are of a kind that is not supported.
    #[error("failed to use the certificate with its key")]
    Pair(#[source] rustls::Error),
}

impl TlsError {
    /// What went wrong and why, in one line.
    #[must_use]
    pub fn whole(&self) -> String {
        let cause = std::error::Error::source(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{self}{cause}")
    }
}

/// A certificate that is served, and read again when its files change.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    provider: Arc<CryptoProvider>,
    served: RwLock<Arc<CertifiedKey>>,
}

/// What tells one content of the two files from another.
type Content = [u8; 32];

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or the two are no certificate and its key.
    pub fn load(files: CertificateFiles) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let served = RwLock::new(Arc::new(pair(&read(&files)?, &files, &provider)?));
        Ok(Arc::new(Self { files, provider, served }))
    }

    /// What shakes hands with this certificate, as it is at that time.
    ///
    /// # Errors
    /// None in practice: the versions are those that the provider has.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        let versions = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = versions.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files every 10 seconds, and serves what they hold from then on. What cannot be used is logged once and
    /// changes nothing. Never ends.
    pub async fn follow(self: Arc<Self>) {
        // What was loaded is not known by its content; to take it over once more does no harm.
        let mut tried = None;
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let this = Arc::clone(&self);
            // Files of a mounted Secret are in memory; others may be on a slow disk.
            let looked = tokio::task::spawn_blocking(move || this.look(tried.as_ref())).await;
            tried = looked.ok();
        }
    }

    /// Reads the files and takes them over when they hold something else than what was tried last. Gives what they hold.
    fn look(&self, tried: Option<&Content>) -> Content {
        let read = read(&self.files);
        let content = match &read {
            Ok(read) => read.content(),
            // The same failure is told once.
            Err(error) => Sha256::digest(error.whole()).into(),
        };
        if tried == Some(&content) {
            return content;
        }
        match read.and_then(|read| pair(&read, &self.files, &self.provider)) {
            Ok(new) => {
                let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
                if served.cert != new.cert {
                    info!(file = %self.files.certificate.display(), "a new TLS certificate is served");
                }
                *served = Arc::new(new);
            }
            Err(error) => {
                warn!(error = error.whole(), "the new TLS certificate is not taken over; the one before is served on");
            }
        }
        content
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

struct Read {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Read {
    fn content(&self) -> Content {
        Sha256::new().chain_update(Sha256::digest(&self.certificate)).chain_update(&self.key).finalize().into()
    }
}

fn read(files: &CertificateFiles) -> Result<Read, TlsError> {
    let file = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
    Ok(Read { certificate: file(&files.certificate)?, key: file(&files.key)? })
}

fn pair(read: &Read, files: &CertificateFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let pem = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, what, source }
    };
    let missing = || rustls::pki_types::pem::Error::NoItemsFound;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read.certificate)
        .collect::<Result<_, _>>()
        .and_then(|chain: Vec<_>| if chain.is_empty() { Err(missing()) } else { Ok(chain) })
        .map_err(pem("a certificate", &files.certificate))?;
    let key = PrivateKeyDer::from_pem_slice(&read.key).map_err(pem("a private key", &files.key))?;
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
    fn a_pair_that_does_not_fit_says_which_file_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let (one, other) = (pem(), pem());
        let said = |certificate: &str, key: &str| {
            write(&files, &Pem { certificate: certificate.into(), key: key.into() });
            Certificate::load(files.clone()).unwrap_err().whole()
        };
        assert!(said(&one.certificate, &other.key).contains("certificate with its key"));
        assert!(said("", &one.key).contains("a certificate in"));
        assert!(said(&one.certificate, "nonsense").contains("tls.key"));
        std::fs::remove_file(&files.key).unwrap();
        assert!(Certificate::load(files).unwrap_err().whole().contains("failed to read"));
    }

    #[test]
    fn a_broken_pair_is_tried_once_and_a_good_one_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        write(&files, &pem());
        let certificate = Certificate::load(files.clone()).unwrap();
        let served = || certificate.served.read().unwrap().cert.clone();
        let first = served();
        write(&files, &Pem { certificate: pem().certificate, key: pem().key });
        let tried = certificate.look(None);
        assert_eq!((served(), certificate.look(Some(&tried))), (first.clone(), tried));
        write(&files, &pem());
        certificate.look(Some(&tried));
        assert_ne!(served(), first);
    }
}
