//! A certificate authority for servers on loopback.

use std::sync::Arc;

use muster_harness::Failure;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

pub(crate) struct CertificateAuthority {
    /// Its certificate.
    pub(crate) pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl CertificateAuthority {
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: rcgen::Issuer::new(params, key) })
    }

    /// A TLS server of this name or address, and its certificate.
    pub(crate) fn server(&self, host: &str) -> Result<(TlsAcceptor, CertificateDer<'static>), Failure> {
        let key = rcgen::KeyPair::generate()?;
        let own = rcgen::CertificateParams::new([host.to_owned()])?.signed_by(&key, &self.issuer)?;
        let der: CertificateDer<'static> = own.der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
        Ok((TlsAcceptor::from(Arc::new(config)), der))
    }
}
