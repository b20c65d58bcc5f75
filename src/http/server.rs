//! Connections: accept, places, TLS, and timeouts for slow clients.
//!
//! This module does not depend on the routes that it serves.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::error::{ApiError, ErrorCode};
use super::origin::{RequestOrigin, TrustedProxies, is_local, network_of};
use super::places::{ConnectionPlace, ConnectionPlaces, PlaceLimits};

/// The places of the APIs and the page. All pods of a node may have one address.
const API_PLACES: PlaceLimits = PlaceLimits { total: 2048, per_network: 256 };
/// The places of the probes, and of the metrics. A network has more places than the server accepts connections before it reads the
/// first of them, so that a probe is read also in a flood from its own address.
const PROBE_PLACES: PlaceLimits = PlaceLimits { total: 512, per_network: 256 };
/// How long a client may take to send the first byte and to end the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to send the headers of a request, from the start of the connection or from the answer before.
/// The timeout also ends idle connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take from its headers to the headers of its answer, including the read of its body. The body of
/// the answer may take longer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a write to a client may be blocked. The other timeouts do not run during a blocked write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests may take after the start of the shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// The maximum length of the headers of a request, in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// How long the server waits after a failed accept.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);

/// The protocol of a listener.
#[derive(Clone)]
pub enum Protocol {
    /// HTTP without TLS.
    Http,
    /// HTTPS. A connection without TLS is closed.
    Https(TlsAcceptor),
    /// HTTPS, and HTTP for connections that begin without a TLS handshake.
    Either(TlsAcceptor),
}

/// A listener and how it treats connections.
pub struct Server {
    /// The listener.
    pub listener: TcpListener,
    /// The protocol.
    pub protocol: Protocol,
    /// The proxies that name their clients.
    pub proxies: TrustedProxies,
    /// The bounds of its connections.
    pub limits: PlaceLimits,
}

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

impl Server {
    /// The server of the APIs and the page.
    #[must_use]
    pub fn api(listener: TcpListener, protocol: Protocol, proxies: TrustedProxies) -> Self {
        Self { listener, protocol, proxies, limits: API_PLACES }
    }

    /// A server of the probes or of the metrics.
    #[must_use]
    pub fn probes(listener: TcpListener) -> Self {
        Self { listener, protocol: Protocol::Http, proxies: TrustedProxies::default(), limits: PROBE_PLACES }
    }

    /// Serves `router` until `stop`, and then waits at most 5 s for the end of open requests.
    ///
    /// Handlers find the [`RequestOrigin`] in the extensions of a request.
    ///
    /// # Guarantees
    /// The server closes the connection of a client with a slow handshake, slow headers or a slow body, and of a client that does
    /// not read its answers. A failed connection does not end the server. The number of connections is bounded, in total and by
    /// network, see [`ConnectionPlaces`].
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let places = ConnectionPlaces::new(self.limits);
        let Ok(address) = self.listener.local_addr() else { return };
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            // Both branches are cancel-safe.
            let next = tokio::select! { biased; () = stop.cancelled() => break, next = self.listener.accept() => next };
            match next {
                Ok((stream, peer)) => {
                    let shared = self.proxies.contains(peer.ip());
                    let Some(place) = places.take(network_of(peer.ip()), shared) else { continue };
                    let local = is_local(address, peer);
                    let connection = Connection { peer, local, place, proxies: self.proxies.clone() };
                    let (protocol, router, stop) = (self.protocol.clone(), router.clone(), stop.clone());
                    connections.spawn(connection.serve(stream, protocol, router, stop));
                    // The connection is read before the next one is accepted, which may take its place.
                    tokio::task::yield_now().await;
                }
                Err(error) => back_off(&error).await,
            }
        }
        drop(self.listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        // The drop of the set ends the connections that are still open.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, rest).await;
    }
}

/// Waits after a failed accept. A connection that the client closed before the accept needs no wait. Another error is a lack
/// of resources, which an immediate retry makes worse.
async fn back_off(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        warn!(%error, "failed to accept a connection");
        tokio::time::sleep(ACCEPT_BACKOFF).await;
    }
}

/// An accepted connection.
struct Connection {
    peer: SocketAddr,
    /// Whether the connection stays on this host.
    local: bool,
    place: ConnectionPlace,
    proxies: TrustedProxies,
}

impl Connection {
    /// Serves the connection until its end, or until it loses its place.
    async fn serve(self, stream: TcpStream, protocol: Protocol, router: Router, stop: CancellationToken) {
        let evicted = self.place.evicted().clone();
        let peer = self.peer;
        if evicted.run_until_cancelled(self.handshake(stream, protocol, router, stop)).await.is_none() {
            debug!(%peer, "a connection lost its place to a newer connection");
        }
    }

    async fn handshake(self, stream: TcpStream, protocol: Protocol, router: Router, stop: CancellationToken) {
        let peer = self.peer;
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
            // Answers are small. Nagle's algorithm would only delay them.
            let _ = stream.set_nodelay(true);
            let tls = match protocol {
                Protocol::Http => None,
                Protocol::Https(tls) => Some(tls),
                Protocol::Either(tls) => begins_with_tls(&stream).await?.then_some(tls),
            };
            let mut stream = Box::pin(TimeoutStream::new(stream));
            stream.as_mut().set_write_timeout_pinned(Some(WRITE_TIMEOUT));
            Ok::<_, io::Error>(match tls {
                Some(tls) => Either::Left(tls.accept(stream).await?),
                None => Either::Right(stream),
            })
        });
        match accepted.await {
            Ok(Ok(stream)) => self.requests(stream, router, stop).await,
            Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => debug!(%peer, "the first byte or the TLS handshake timed out"),
        }
    }

    async fn requests<L, R>(self, stream: Either<L, R>, router: Router, stop: CancellationToken)
    where
        L: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        R: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = self.peer;
        let confidential = self.local || matches!(stream, Either::Left(_));
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let open = self.place.busy();
            let network = network_of(self.proxies.client(peer.ip(), request.headers()));
            request.extensions_mut().insert(RequestOrigin { network, confidential });
            let response = with_timeout(router.call(request));
            async move {
                let response = response.await?;
                // The request ends with the last byte of its answer.
                Ok::<_, Infallible>(response.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        let _ = &open;
                        frame
                    }))
                }))
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER_BYTES);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        // Both branches are cancel-safe: they borrow the connection.
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            ended = connection.as_mut() => ended,
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "connection ended with an error");
        }
    }
}

/// Whether a connection begins with a TLS handshake. The byte stays in the connection.
async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first == [TLS_HANDSHAKE])
}

async fn with_timeout<E>(response: impl Future<Output = Result<Response<Body>, E>>) -> Result<Response<Body>, E> {
    let timeout = || {
        let message = "the request took too long; send its body at once";
        ApiError::new(ErrorCode::Timeout, message).into_response()
    };
    tokio::time::timeout(RESPONSE_TIMEOUT, response).await.unwrap_or_else(|_| Ok(timeout()))
}
