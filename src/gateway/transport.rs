//! The bytes below the WebSocket.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::hello::Trust;

/// A stream of bytes, both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Opens streams to gateways. Tests hand in one that leads to a simulated gateway in the same process.
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream to the host and port of `url`.
    fn dial<'a>(&'a self, url: &'a Url, trust: &'a Trust) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>>;
}

/// TCP, and TLS for `wss`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network;

impl Dial for Network {
    fn dial<'a>(&'a self, url: &'a Url, trust: &'a Trust) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let host = url.host_str().ok_or_else(|| invalid("the URL names no host"))?;
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let port = url.port_or_known_default().ok_or_else(|| invalid("the URL names no port"))?;
            let tcp = TcpStream::connect((bare, port)).await?;
            tcp.set_nodelay(true)?;
            if url.scheme() == "ws" {
                return Ok(Box::new(tcp) as Box<dyn ByteStream>);
            }
            let name = ServerName::try_from(bare.to_owned()).map_err(|e| invalid(&e.to_string()))?;
            let tls = connector(trust)?.connect(name, tcp).await?;
            Ok(Box::new(tls) as Box<dyn ByteStream>)
        })
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}

fn connector(trust: &Trust) -> io::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid(&e.to_string()))?;
    let config = match trust {
        Trust::Platform => builder.with_platform_verifier().map_err(|e| invalid(&e.to_string()))?.with_no_client_auth(),
        Trust::Pem(pem) => builder.with_root_certificates(roots(pem)?).with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(pem: &[u8]) -> io::Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| invalid(&format!("the CA is no PEM certificate: {e}")))?;
        roots.add(certificate).map_err(|e| invalid(&format!("the CA is not accepted: {e}")))?;
    }
    if roots.is_empty() {
        return Err(invalid("the CA holds no PEM certificate"));
    }
    Ok(roots)
}
