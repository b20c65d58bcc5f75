//! Where the operator listens: the listeners, and the certificate of the HTTP API.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tracing::info;

use crate::http::confidential::HttpTokens;
use crate::http::made_certificate::MadeCertificate;
use crate::http::origin::TrustedProxies;
use crate::http::server::{Protocol, Server};
use crate::http::tls::{self, Certificate, CertificateFiles};
use crate::options::ListenOptions;

/// A sentence about the missing requirement.
pub(super) type AppError = Box<dyn std::error::Error>;

/// Tells the fingerprint of the certificate that is served now.
pub(super) type ServedFingerprint = Arc<dyn Fn() -> String + Send + Sync>;

/// The open listeners.
pub(super) struct Listeners {
    /// The APIs and the page.
    pub(super) api: Server,
    /// The probes.
    pub(super) probes: Server,
    /// The metrics.
    pub(super) metrics: Server,
    /// The certificate of files, which is reloaded.
    pub(super) reloaded: Option<Arc<Certificate>>,
    /// Whether people's tokens need TLS.
    pub(super) tokens: HttpTokens,
    /// The fingerprint of the certificate that the HTTP API serves now.
    pub(super) fingerprint: ServedFingerprint,
}

/// Opens the listeners, and loads or makes the certificate.
pub(super) async fn open(options: &ListenOptions) -> Result<Listeners, AppError> {
    let reloaded = certificate(options)?;
    let shown = |certificate: Option<&CertificateDer<'_>>| certificate.map(tls::fingerprint).unwrap_or_default();
    let (protocol, fingerprint): (_, ServedFingerprint) = if let Some(certificate) = &reloaded {
        let served = Arc::clone(certificate);
        (Protocol::Https(certificate.acceptor()?), Arc::new(move || shown(served.certificate().as_ref())))
    } else {
        let made = MadeCertificate::new(options.api_addr.ip())?;
        (Protocol::Either(made.acceptor()?), Arc::new(move || shown(made.certificate())))
    };
    let api = listen(options.api_addr, "--api-addr").await?;
    let probes = listen(options.probe_addr, "--probe-addr").await?;
    let metrics = listen(options.metrics_addr, "--metrics-addr").await?;
    info!(
        sha256 = fingerprint(),
        made = reloaded.is_none(),
        "the fingerprint of the HTTP API's TLS certificate; compare it when a browser or a program does not know the certificate"
    );
    Ok(Listeners {
        api: Server::api(api, protocol, TrustedProxies::new(options.trusted_proxies.clone())),
        probes: Server::probes(probes),
        metrics: Server::probes(metrics),
        reloaded,
        tokens: if options.allow_http_tokens { HttpTokens::Accepted } else { HttpTokens::LocalOnly },
        fingerprint,
    })
}

/// The certificate of the flags, if they are set.
fn certificate(options: &ListenOptions) -> Result<Option<Arc<Certificate>>, AppError> {
    let (Some(certificate), Some(key)) = (&options.tls_cert_file, &options.tls_key_file) else { return Ok(None) };
    let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
    let loaded =
        Certificate::load(files).map_err(|e| format!("--tls-cert-file, --tls-key-file: {}", e.with_cause()))?;
    Ok(Some(loaded))
}

async fn listen(addr: SocketAddr, flag: &str) -> Result<TcpListener, AppError> {
    TcpListener::bind(addr).await.map_err(|e| format!("{flag} {addr}: {e}").into())
}
