//! The HTTP client: it resolves a name, checks the addresses, connects, and follows redirects.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use url::Url;

use super::fetch::{Fetch, FetchError, FetchRequest, Fetched};
use super::http_exchange::{Answer, ask};
use crate::address::reach::{Reach, reach};
use crate::address::resolve::{Resolve, SystemResolver, addresses_of};

/// The timeout of a fetch, redirects and body included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Most redirects of a fetch.
const MAX_REDIRECTS: usize = 3;

/// Most concurrent fetches of the process.
const MAX_CONCURRENT_FETCHES: usize = 4;

/// A client of HTTP and HTTPS without proxy, cookies and credentials.
///
/// # Guarantees
/// The client connects only to addresses that it has checked. It resolves a name once per request, and resolves and checks the
/// name of each redirect again.
pub struct HttpClient {
    resolver: Arc<dyn Resolve>,
    permits: Semaphore,
    timeout: Duration,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new(Arc::new(SystemResolver), FETCH_TIMEOUT)
    }
}

impl Fetch for HttpClient {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        Box::pin(async move {
            let timed_out = || FetchError::new(format!("there was no complete answer within {:?}", self.timeout));
            let _permit = self.permits.acquire().await.map_err(|_| FetchError::new("the operator is stopping"))?;
            tokio::time::timeout(self.timeout, self.follow(request)).await.map_err(|_| timed_out())?
        })
    }
}

impl HttpClient {
    /// A client with this resolver and this timeout of a fetch.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolve>, timeout: Duration) -> Self {
        Self { resolver, permits: Semaphore::new(MAX_CONCURRENT_FETCHES), timeout }
    }

    async fn follow(&self, request: &FetchRequest) -> Result<Fetched, FetchError> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            match self.once(&url, request).await? {
                Answer::Done(fetched) => return Ok(fetched),
                Answer::Redirect(to) if url.scheme() == "https" && to.scheme() != "https" => {
                    return Err(FetchError::new("the server redirected from https to http"));
                }
                Answer::Redirect(to) => url = to,
            }
        }
        Err(FetchError::new(format!("the servers redirected more than {MAX_REDIRECTS} times")))
    }

    async fn once(&self, url: &Url, request: &FetchRequest) -> Result<Answer, FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::new(format!("{:?} is neither http nor https", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::new("the URL contains credentials"));
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

    /// The allowed addresses of a host.
    async fn addresses(&self, url: &Url, allow_private: bool) -> Result<Vec<SocketAddr>, FetchError> {
        let found = addresses_of(&*self.resolver, url).await.map_err(|e| FetchError::new(e.to_string()))?;
        let widest = if allow_private { Reach::Loopback } else { Reach::Public };
        let (allowed, refused): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| reach(a.ip()) <= widest);
        match (allowed.is_empty(), refused.first().map(|a| reach(a.ip()))) {
            (false, _) => Ok(allowed),
            (true, None) => Err(FetchError::new("the name has no address")),
            (true, Some(Reach::Never)) => Err(FetchError::new(
                "the name leads to a link-local or multicast address, which Muster never connects to",
            )),
            (true, Some(Reach::Loopback | Reach::Private | Reach::Public)) => Err(FetchError::new(
                "the name leads to a loopback or private address; set spec.soulDirectory.allowPrivateAddresses to allow this",
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
mod tests;
