//! A TLS certificate that is made when the operator starts.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{Certificate, CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::TlsAcceptor;

use super::tls::{self, TlsError};

/// The names of the certificate: this host, and the Service of the shipped manifests.
const NAMES: [&str; 7] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "muster",
    "muster.muster-system",
    "muster.muster-system.svc",
    "muster.muster-system.svc.cluster.local",
];

/// Makes a key, and a self-signed certificate with these names.
///
/// # Errors
/// When no key can be made.
pub fn self_signed(names: Vec<String>) -> Result<(Certificate, KeyPair), TlsError> {
    let key = KeyPair::generate().map_err(TlsError::Make)?;
    let mut params = CertificateParams::new(names).map_err(TlsError::Make)?;
    params.distinguished_name.push(DnType::CommonName, "muster");
    let certificate = params.self_signed(&key).map_err(TlsError::Make)?;
    Ok((certificate, key))
}

/// A self-signed certificate. Its key is in memory only, so that each start makes another certificate.
#[derive(Debug)]
pub struct MadeCertificate(Arc<CertifiedKey>);

impl MadeCertificate {
    /// Makes a key and a certificate for this host, the Service `muster`, and the address of the listener.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(listener: IpAddr) -> Result<Self, TlsError> {
        let mut names: Vec<String> = NAMES.map(str::to_owned).into();
        if !listener.is_unspecified() && !listener.is_loopback() {
            names.push(listener.to_string());
        }
        let (certificate, key) = self_signed(names)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::ring::default_provider();
        let pair = CertifiedKey::from_der(vec![certificate.der().clone()], private, &provider);
        pair.map(|pair| Self(Arc::new(pair))).map_err(TlsError::Pair)
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.0.cert.first()
    }

    /// An acceptor that uses the certificate.
    ///
    /// # Errors
    /// None in practice: the provider supports the protocol versions.
    pub fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        tls::acceptor(provider, Arc::new(SingleCertAndKey::from(Arc::clone(&self.0))))
    }
}
