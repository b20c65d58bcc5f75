//! The client: resolves, checks, connects, follows.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::fetch::{Fetch, FetchError, FetchRequest, Fetched};
use super::http_exchange::{Answer, ask};
use super::ip_filter::{Reach, reach};

/// How long a request may take, redirects and body included.
const DEADLINE: Duration = Duration::from_secs(15);

/// How many redirects are followed.
const MOST_REDIRECTS: usize = 3;

/// How many requests are under way at one time.
const AT_ONCE: usize = 4;

/// Says which addresses a name has, and connects to them.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of a host's name.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// A connection to one of these addresses.
    fn connect<'a>(&'a self, addresses: &'a [SocketAddr]) -> BoxFuture<'a, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(addresses))
    }
}

/// The resolver of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// HTTP and HTTPS, straight to the server: no proxy, no cookies, no credentials.
///
/// # Guarantees
/// The address that is checked is the one that is connected to: a name is resolved once for each request, and anew, with
/// the same check, for each redirect.
pub struct HttpClient {
    resolver: Arc<dyn Resolve>,
    places: Semaphore,
    deadline: Duration,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Web").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new(Arc::new(System), DEADLINE)
    }
}

impl Fetch for HttpClient {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        Box::pin(async move {
            let late = || FetchError::new(format!("there was no whole answer within {:?}", self.deadline));
            let _place = self.places.acquire().await.map_err(|_| FetchError::new("the operator is stopping"))?;
            tokio::time::timeout(self.deadline, self.follow(request)).await.map_err(|_| late())?
        })
    }
}

impl HttpClient {
    /// A client with its resolver and the time that a request may take.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolve>, deadline: Duration) -> Self {
        Self { resolver, places: Semaphore::new(AT_ONCE), deadline }
    }

    async fn follow(&self, request: &FetchRequest) -> Result<Fetched, FetchError> {
        let mut url = request.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            match self.once(&url, request).await? {
                Answer::Done(fetched) => return Ok(fetched),
                Answer::Elsewhere(to) if url.scheme() == "https" && to.scheme() != "https" => {
                    return Err(FetchError::new("it was redirected from https to a plain address"));
                }
                Answer::Elsewhere(to) => url = to,
            }
        }
        Err(FetchError::new(format!("it was redirected more than {MOST_REDIRECTS} times")))
    }

    async fn once(&self, url: &Url, request: &FetchRequest) -> Result<Answer, FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::new(format!("{:?} is neither http nor https", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::new("the address carries credentials"));
        }
        let addresses = self.addresses(url, request.allow_private).await?;
        let tcp = self.resolver.connect(&addresses).await;
        let tcp = tcp.map_err(|e| FetchError::new(format!("no connection was made: {e}")))?;
        if url.scheme() == "http" {
            return ask(tcp, url, request).await;
        }
        let failed = |e: String| FetchError::new(format!("no TLS connection was made: {e}"));
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|e| failed(e.to_string()))?;
        let tls = connector().map_err(|e| failed(e.to_string()))?;
        let stream = tls.connect(name, tcp).await.map_err(|e| failed(e.to_string()))?;
        ask(stream, url, request).await
    }

    /// The addresses of a host that may be reached.
    async fn addresses(&self, url: &Url, allow_private: bool) -> Result<Vec<SocketAddr>, FetchError> {
        let port = url.port_or_known_default().ok_or_else(|| FetchError::new("the address has no port"))?;
        let found = match url.host() {
            None => return Err(FetchError::new("the address has no host")),
            Some(Host::Ipv4(v4)) => vec![SocketAddr::new(IpAddr::V4(v4), port)],
            Some(Host::Ipv6(v6)) => vec![SocketAddr::new(IpAddr::V6(v6), port)],
            Some(Host::Domain(name)) => {
                let found = self.resolver.resolve(name, port).await;
                found.map_err(|e| FetchError::new(format!("the name {name:?} was not resolved: {e}")))?
            }
        };
        let most = if allow_private { Reach::Private } else { Reach::Public };
        let (may, may_not): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| reach(a.ip()) <= most);
        match (may.is_empty(), may_not.first().map(|a| reach(a.ip()))) {
            (false, _) => Ok(may),
            (true, None) => Err(FetchError::new("the name has no address")),
            (true, Some(Reach::Never)) => {
                Err(FetchError::new("it leads to a link-local or multicast address, which is never asked"))
            }
            (true, Some(Reach::Private | Reach::Public)) => Err(FetchError::new(
                "it leads to a loopback or private address; set spec.soulDirectory.allowPrivateAddresses if that is meant",
            )),
        }
    }
}

fn connector() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
#[path = "http_client_tests.rs"]
mod web_tests;
