//! The resolution of a URL's host.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use tokio::net::TcpStream;
use url::{Host, Url};

use super::race;

/// Resolves names and connects to addresses.
pub trait Resolve: Send + Sync + 'static {
    /// Resolves the name of a host.
    ///
    /// # Errors
    /// The resolver failed.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// Connects to the first of these addresses that accepts a connection. Dead addresses do not hold up the others.
    ///
    /// # Errors
    /// No address accepted the connection.
    fn connect<'a>(&'a self, addresses: &'a [SocketAddr]) -> BoxFuture<'a, io::Result<TcpStream>> {
        Box::pin(race::first(addresses, TcpStream::connect))
    }
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// The cause of a URL without addresses.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The URL has no port, and its scheme has no default.
    #[error("the URL has no port")]
    NoPort,
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
    /// The resolver failed.
    #[error("the name {name:?} was not resolved: {error}")]
    Failed {
        /// The name.
        name: String,
        /// The error of the resolver.
        error: io::Error,
    },
}

/// The addresses of a URL's host. A name is resolved once.
///
/// # Errors
/// See [`ResolveError`].
pub async fn addresses_of(resolver: &dyn Resolve, url: &Url) -> Result<Vec<SocketAddr>, ResolveError> {
    let port = url.port_or_known_default().ok_or(ResolveError::NoPort)?;
    match url.host() {
        None => Err(ResolveError::NoHost),
        Some(Host::Ipv4(v4)) => Ok(vec![SocketAddr::new(IpAddr::V4(v4), port)]),
        Some(Host::Ipv6(v6)) => Ok(vec![SocketAddr::new(IpAddr::V6(v6), port)]),
        Some(Host::Domain(name)) => {
            resolver.resolve(name, port).await.map_err(|error| ResolveError::Failed { name: name.to_owned(), error })
        }
    }
}
