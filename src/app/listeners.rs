//! Where the operator listens: the flags, the listeners, and the certificate of the HTTP API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::net::TcpListener;
use tracing::info;

use crate::http::confidential::HttpTokens;
use crate::http::made_certificate::MadeCertificate;
use crate::http::origin::TrustedProxies;
use crate::http::server::{Protocol, Server};
use crate::http::tls::{self, Certificate, CertificateFiles};

/// A sentence about the missing requirement.
pub(super) type AppError = Box<dyn std::error::Error>;

/// Where the operator listens.
#[derive(Debug, clap::Args)]
pub struct ListenOptions {
    /// Address of the HTTP API for agents and people, and of the fleet page.
    #[arg(long, env = "MUSTER_API_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub api_addr: SocketAddr,
    /// File with the TLS certificate of the HTTP API and its chain, PEM. Needs --tls-key-file. A changed file is reloaded. The API then
    /// speaks HTTPS only. Default: a certificate is made at each start, and agents may use HTTP too.
    #[arg(long, env = "MUSTER_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the private key of the TLS certificate, PEM. Needs --tls-cert-file.
    #[arg(long, env = "MUSTER_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Take the Kubernetes tokens of people without TLS too, from every address. For a proxy that ends TLS before Muster.
    #[arg(long, env = "MUSTER_ALLOW_HTTP_TOKENS")]
    pub allow_http_tokens: bool,
    /// Networks of the proxies whose header X-Forwarded-For names the client, such as 10.0.0.0/8. Separated by commas.
    #[arg(long, env = "MUSTER_TRUSTED_PROXIES", value_name = "CIDRS", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "MUSTER_PROBE_ADDR", default_value = "0.0.0.0:8081", value_name = "ADDR")]
    pub probe_addr: SocketAddr,
}

/// The open listeners.
pub(super) struct Listeners {
    /// The APIs and the page.
    pub(super) api: Server,
    /// The probes and the metrics.
    pub(super) probes: Server,
    /// The certificate of files, which is reloaded.
    pub(super) reloaded: Option<Arc<Certificate>>,
    /// Whether people's tokens need TLS.
    pub(super) tokens: HttpTokens,
}

impl ListenOptions {
    /// Opens the listeners, and loads or makes the certificate.
    pub(super) async fn open(&self) -> Result<Listeners, AppError> {
        let reloaded = self.certificate()?;
        let (protocol, certificate) = if let Some(certificate) = &reloaded {
            (Protocol::Https(certificate.acceptor()?), certificate.certificate())
        } else {
            let made = MadeCertificate::new(self.api_addr.ip())?;
            (Protocol::Either(made.acceptor()?), made.certificate().cloned())
        };
        let api = listen(self.api_addr, "--api-addr").await?;
        let probes = listen(self.probe_addr, "--probe-addr").await?;
        info!(
            sha256 = certificate.as_ref().map(tls::fingerprint),
            made = reloaded.is_none(),
            "the fingerprint of the HTTP API's TLS certificate; compare it when a browser or a program does not know the certificate"
        );
        Ok(Listeners {
            api: Server::api(api, protocol, TrustedProxies::new(self.trusted_proxies.clone())),
            probes: Server::probes(probes),
            reloaded,
            tokens: if self.allow_http_tokens { HttpTokens::Accepted } else { HttpTokens::LocalOnly },
        })
    }

    /// The certificate of the flags, if they are set.
    fn certificate(&self) -> Result<Option<Arc<Certificate>>, AppError> {
        let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_key_file) else { return Ok(None) };
        let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
        let loaded =
            Certificate::load(files).map_err(|e| format!("--tls-cert-file, --tls-key-file: {}", e.with_cause()))?;
        Ok(Some(loaded))
    }
}

async fn listen(addr: SocketAddr, flag: &str) -> Result<TcpListener, AppError> {
    TcpListener::bind(addr).await.map_err(|e| format!("{flag} {addr}: {e}").into())
}
