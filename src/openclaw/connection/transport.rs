//! The byte streams below the WebSocket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::tls::{Trust, client_config, explained};
use super::tunnel;
use crate::address::networks::{Admission, GatewayNetworks};
use crate::address::proxy::{HttpsProxy, ProxyRules};
use crate::address::resolve::{Resolve, SystemResolver, addresses_of};

/// The timeout of the resolution of a name, and of a connection with its TLS handshake.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A duplex stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An open stream to a gateway.
pub struct DialedStream {
    /// The stream.
    pub stream: Box<dyn ByteStream>,
    /// Whether users of the cluster may see why the server at the address is no gateway.
    pub shows_cause: bool,
}

impl fmt::Debug for DialedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialedStream").field("shows_cause", &self.shows_cause).finish_non_exhaustive()
    }
}

impl DialedStream {
    /// A stream whose failures are shown.
    pub fn new(stream: impl ByteStream + 'static) -> Self {
        Self { stream: Box::new(stream), shows_cause: true }
    }
}

/// The failure of a dial.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The rules of this operator forbid the connection.
    #[error("{0}")]
    Forbidden(String),
    /// The connection or the TLS handshake failed, or the URL is invalid.
    #[error("{error}")]
    Failed {
        /// The cause.
        error: io::Error,
        /// Whether users of the cluster may see the cause.
        shows_cause: bool,
    },
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self::Failed { error, shows_cause: true }
    }
}

/// Opens byte streams to gateways. Tests connect to a simulated gateway in the same process.
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream to the host and port of `url`. The dial ends by itself within some seconds.
    ///
    /// # Errors
    /// See [`DialError`].
    fn dial<'a>(&'a self, url: &'a Url, trust: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>>;
}

/// The rules of the admin about connections to gateways.
#[derive(Clone, Debug)]
pub struct DialRules {
    /// The networks in which gateways may be.
    pub networks: GatewayNetworks,
    /// Whether `spec.url` may have a path other than `/`.
    pub allow_paths: bool,
    /// The proxy on the way to gateways.
    pub proxies: ProxyRules,
    /// Whether whoever uses this operator also runs it, and may see why an address is no gateway.
    pub shows_causes: bool,
}

/// Dials with TCP, and with TLS for `wss`.
///
/// # Guarantees
/// The name of a host is resolved once. With rules, only addresses that the rules allow are dialed. A proxy resolves the name once more: of
/// the addresses that it finds, Muster knows nothing.
pub struct Network {
    resolver: Arc<dyn Resolve>,
    rules: Option<DialRules>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Default for Network {
    /// A network without rules, for a command that a person runs with the person's own rights.
    fn default() -> Self {
        Self { resolver: Arc::new(SystemResolver), rules: None }
    }
}

/// The way to a gateway.
enum Route<'a> {
    /// To one of these addresses.
    Direct(Vec<SocketAddr>),
    /// Through a proxy, which resolves the name.
    Through(&'a HttpsProxy),
}

impl Dial for Network {
    fn dial<'a>(&'a self, url: &'a Url, trust: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
        Box::pin(async move {
            self.check_path(url)?;
            let proxy = self.rules.as_ref().and_then(|rules| rules.proxies.of(url));
            let shows_causes = self.rules.as_ref().is_none_or(|rules| rules.shows_causes);
            let through = proxy.map(|proxy| format!(" through the proxy {}", proxy.place())).unwrap_or_default();
            let (route, shows_cause) = if let Some(proxy) = proxy {
                (Route::Through(proxy), self.checked_for_proxy(url).await?)
            } else {
                let (addresses, shows_cause) = self.addresses(url).await?;
                (Route::Direct(addresses), shows_cause)
            };
            let shows_cause = shows_cause || shows_causes;
            let connected = tokio::time::timeout(DIAL_TIMEOUT, self.connect(route, url, trust)).await;
            let connected = connected.unwrap_or_else(|_| Err(timed_out(&through)));
            let stream = connected.map_err(|error| DialError::Failed { error, shows_cause })?;
            Ok(DialedStream { stream, shows_cause })
        })
    }
}

impl Network {
    /// A network with the rules of the admin.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolve>, rules: DialRules) -> Self {
        Self { resolver, rules: Some(rules) }
    }

    fn check_path(&self, url: &Url) -> Result<(), DialError> {
        let allowed = self.rules.as_ref().is_none_or(|rules| rules.allow_paths);
        if allowed || url.path() == "/" {
            return Ok(());
        }
        let message = format!(
            "spec.url has the path {}; remove the path, or have the admin run the operator with --allow-gateway-paths",
            url.path()
        );
        Err(DialError::Forbidden(message))
    }

    /// The allowed addresses of a host, and whether users may see why none of them answers as a gateway.
    async fn addresses(&self, url: &Url) -> Result<(Vec<SocketAddr>, bool), DialError> {
        let shows_cause = self.rules.as_ref().is_none_or(|rules| rules.shows_causes);
        let hidden = |error| DialError::Failed { error, shows_cause };
        let resolved = tokio::time::timeout(DIAL_TIMEOUT, addresses_of(&*self.resolver, url)).await;
        let resolved = resolved.map_err(|_| hidden(timed_out("")))?;
        let found = resolved.map_err(|error| hidden(io::Error::other(error)))?;
        let Some(rules) = &self.rules else { return Ok((found, true)) };
        let is_none = found.is_empty();
        let admitted = found.into_iter().map(|address| (address, rules.networks.admission(address.ip())));
        let admitted: Vec<_> = admitted.filter(|(_, admission)| *admission != Admission::Refused).collect();
        if admitted.is_empty() {
            return Err(if is_none {
                hidden(io::Error::other("the name has no address"))
            } else {
                DialError::Forbidden(
                    "the host of spec.url is in no network that this operator connects to; use another address, or have the admin \
                     list the network in --gateway-networks (link-local addresses and those of metadata services are never allowed)"
                        .to_owned(),
                )
            });
        }
        let all_listed = admitted.iter().all(|(_, admission)| *admission == Admission::Listed);
        Ok((admitted.into_iter().map(|(address, _)| address).collect(), all_listed))
    }

    /// Checks a host that a proxy connects to, as far as Muster can: an address, and each host when the admin listed networks. Returns whether
    /// users may see why there is no gateway.
    async fn checked_for_proxy(&self, url: &Url) -> Result<bool, DialError> {
        let lists_networks = self.rules.as_ref().is_some_and(|rules| rules.networks.is_listed());
        let is_name = matches!(url.host(), Some(Host::Domain(_)));
        if lists_networks || !is_name {
            self.addresses(url).await.map(|(_, shows_cause)| shows_cause)
        } else {
            Ok(false)
        }
    }

    async fn connect(&self, route: Route<'_>, url: &Url, trust: &Trust) -> io::Result<Box<dyn ByteStream>> {
        let host = url.host_str().ok_or_else(|| invalid("the URL names no host"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = match route {
            Route::Direct(addresses) => self.resolver.connect(&addresses).await?,
            Route::Through(proxy) => {
                let refused = |error: io::Error| {
                    io::Error::new(error.kind(), format!("no connection to the proxy {}: {error}", proxy.place()))
                };
                let addresses = addresses_of(&*self.resolver, &proxy.url).await.map_err(io::Error::other);
                let addresses = addresses.map_err(refused)?;
                tunnel::open(self.resolver.connect(&addresses).await.map_err(refused)?, proxy, url).await?
            }
        };
        tcp.set_nodelay(true)?;
        if url.scheme() == "ws" {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(bare.to_owned()).map_err(|e| invalid(&e.to_string()))?;
        let connector = TlsConnector::from(Arc::new(client_config(trust)?));
        let tls = connector.connect(name, tcp).await.map_err(explained)?;
        Ok(Box::new(tls))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}

fn timed_out(through: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no connection{through} within {} s", DIAL_TIMEOUT.as_secs()))
}
