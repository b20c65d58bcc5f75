//! The byte streams below the WebSocket.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::tls::{Trust, client_config, explained};

/// A duplex stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Opens byte streams to gateways. Tests connect to a simulated gateway in the same process.
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream to the host and port of `url`.
    ///
    /// # Errors
    /// The connection or the TLS handshake failed, or `url` or `trust` is invalid.
    fn dial<'a>(&'a self, url: &'a Url, trust: &'a Trust) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>>;
}

/// Dials with TCP, and with TLS for `wss`.
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
            let connector = TlsConnector::from(Arc::new(client_config(trust)?));
            let tls = connector.connect(name, tcp).await.map_err(explained)?;
            Ok(Box::new(tls) as Box<dyn ByteStream>)
        })
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}
