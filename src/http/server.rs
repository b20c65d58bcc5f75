//! Connections: accept, TLS, and timeouts for slow clients.
//!
//! This module does not depend on the routes that it serves.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::error::ApiError;

/// The maximum number of connections. Further connections wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 2048;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send the headers of a request, from the start of the connection or from the answer before.
/// The timeout also ends idle connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
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

/// Serves `router` until `stop`, and then waits at most 5 s for the end of open requests.
///
/// Handlers find the client's address as [`ConnectInfo<SocketAddr>`] in the extensions of a request.
///
/// # Guarantees
/// The server closes the connection of a client with a slow handshake, slow headers or a slow body, and of a client that does
/// not read its answers. A failed connection does not end the server. The number of connections is bounded.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|connection| (connection, permit))
        };
        // Both branches are cancel-safe: a dropped future releases its permit.
        let next = tokio::select! { biased; () = stop.cancelled() => break, next = next => next };
        match next {
            Ok(((stream, peer), permit)) => {
                let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                connections.spawn(async move {
                    serve_connection(stream, peer, tls, router, stop).await;
                    drop(permit);
                });
            }
            Err(error) => back_off(&error).await,
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    // The drop of the set ends the connections that are still open.
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, rest).await;
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

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    // Answers are small. Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    let mut stream = Box::pin(TimeoutStream::new(stream));
    stream.as_mut().set_write_timeout_pinned(Some(WRITE_TIMEOUT));
    let Some(tls) = tls else { return serve_requests(stream, peer, router, stop).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_requests(stream, peer, router, stop).await,
        Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => debug!(%peer, "TLS handshake timed out"),
    }
}

async fn serve_requests<T>(stream: T, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        with_timeout(router.call(request))
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

async fn with_timeout<E>(response: impl Future<Output = Result<Response<Body>, E>>) -> Result<Response<Body>, E> {
    let timeout = || {
        let message = "the request took too long; send its body at once";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message).into_response()
    };
    tokio::time::timeout(RESPONSE_TIMEOUT, response).await.unwrap_or_else(|_| Ok(timeout()))
}
