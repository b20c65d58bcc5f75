//! The verification of a gateway's certificate.

use std::sync::Arc;
use std::{fmt, io};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;
use sha2::{Digest, Sha256};

/// The rule for the verification of a gateway's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's roots must have signed the certificate.
    Platform,
    /// The authorities of these PEM certificates must have signed the certificate.
    Pem(Vec<u8>),
    /// The certificate must have this fingerprint. With `pem`, the authorities must also have signed the certificate for this
    /// host.
    Pinned {
        /// The fingerprint of the certificate.
        fingerprint: Fingerprint,
        /// The PEM certificates of the authorities.
        pem: Option<Vec<u8>>,
    },
    /// No verification. A machine between Muster and the gateway can read and change all messages.
    Unchecked,
}

/// The SHA-256 of a certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Parses 64 hexadecimal digits, with or without colons between the bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The fingerprint of a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<_> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        f.write_str(&bytes.join(":"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The TLS configuration for a rule.
///
/// # Errors
/// The PEM certificates are invalid, or TLS cannot be set up.
pub(crate) fn client_config(trust: &Trust) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid(&e.to_string()))?;
    let custom = |verifier: FingerprintVerifier| {
        let builder = builder.clone().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        builder.with_no_client_auth()
    };
    Ok(match trust {
        Trust::Platform => {
            builder.clone().with_platform_verifier().map_err(|e| invalid(&e.to_string()))?.with_no_client_auth()
        }
        Trust::Pem(pem) => builder.clone().with_root_certificates(roots(pem)?).with_no_client_auth(),
        Trust::Unchecked => custom(FingerprintVerifier { fingerprint: None, authority: None, provider }),
        Trust::Pinned { fingerprint, pem } => {
            let authority = match pem {
                None => None,
                Some(pem) => Some(authority(pem, &provider)?),
            };
            custom(FingerprintVerifier { fingerprint: Some(*fingerprint), authority, provider })
        }
    })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}

fn authority(pem: &[u8], provider: &Arc<CryptoProvider>) -> io::Result<Arc<WebPkiServerVerifier>> {
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(pem)?), Arc::clone(provider));
    builder.build().map_err(|e| invalid(&format!("the CA is not accepted: {e}")))
}

fn roots(pem: &[u8]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| invalid(&format!("the CA is no PEM certificate: {e}")))?;
        roots.add(certificate).map_err(|e| invalid(&format!("the CA is not accepted: {e}")))?;
    }
    if roots.is_empty() {
        return Err(invalid("the CA holds no PEM certificate"));
    }
    Ok(roots)
}

/// Checks the fingerprint and the authority of a certificate, each if set. The handshake always checks that the server has the
/// certificate's key.
#[derive(Debug)]
struct FingerprintVerifier {
    fingerprint: Option<Fingerprint>,
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Fingerprint::of(end_entity);
        if let Some(expected) = self.fingerprint.filter(|expected| *expected != seen) {
            return Err(rustls::Error::General(format!(
                "its certificate has the SHA-256 fingerprint {seen}, and {expected} is expected; if the certificate was replaced on \
                 purpose, change the fingerprint"
            )));
        }
        match &self.authority {
            None => Ok(ServerCertVerified::assertion()),
            Some(authority) => authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The text about a server whose certificate may sign others. Such a certificate proves no host.
const OF_AUTHORITY: &str = "TLS: the certificate of the gateway is that of an authority (CA:TRUE), as openssl req -x509 makes it; name it in \
                            spec.tls.fingerprint instead of caSecretRef, or make it with -addext basicConstraints=critical,CA:FALSE";

/// The text of a failed handshake, for a person.
pub(crate) fn explained(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::General(text)) => io::Error::new(error.kind(), text.clone()),
        Some(other) if other.to_string().contains("CaUsedAsEndEntity") => io::Error::new(error.kind(), OF_AUTHORITY),
        Some(other) => io::Error::new(error.kind(), format!("TLS: {other}")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons_and_shown_as_openssl_does() {
        let plain = "ab".repeat(32);
        let shown = vec!["AB"; 32].join(":");
        assert_eq!(Fingerprint::parse(&plain).unwrap().to_string(), shown);
        assert_eq!(Fingerprint::parse(&shown), Fingerprint::parse(&plain));
        assert!(Fingerprint::parse("ab").is_none() && Fingerprint::parse(&"zz".repeat(32)).is_none());
    }
}
