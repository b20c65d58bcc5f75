//! Connections: accepting, TLS, and deadlines for slow clients.
//!
//! This module knows nothing of what it serves.

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

/// Most connections at one time. Further ones wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 2048;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to send the headers of a request, counted from the answer before it: so long, too, a
/// connection may be idle.
const HEADERS: Duration = Duration::from_secs(15);
/// How long it may take from the headers of a request to those of its answer, reading its body included. The body of the
/// answer may take longer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a client may take none of what it is sent. The deadlines above do not run while an answer cannot be written.
const UNREAD: Duration = Duration::from_secs(30);
/// How long requests under way have at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// The longest headers that are read, in bytes.
const LONGEST_HEADERS: usize = 16 * 1024;
/// How long no connection is accepted after the system had no room for one.
const BREATH: Duration = Duration::from_millis(500);

/// Serves `router` until `stop`, and then until the requests under way have ended, or 5 seconds.
///
/// Handlers find the caller's address as [`ConnectInfo<SocketAddr>`] among the extensions of a request.
///
/// # Guarantees
/// A client that is slow to shake hands, to send its headers or its body, or that does not read its answers, is cut off.
/// No failure of a connection ends this. The number of connections is bounded.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|connection| (connection, place))
        };
        // Both branches are cancel-safe: a place that was not used is given back.
        let next = tokio::select! { biased; () = stop.cancelled() => break, next = next => next };
        match next {
            Ok(((stream, peer), place)) => {
                let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, tls, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => refused(&error).await,
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    // What is left is dropped with the set.
    let _ = tokio::time::timeout(FAREWELL, rest).await;
}

/// A connection that was lost before it was accepted is none of our business; anything else is a lack of resources, which
/// an immediate further try would only make worse.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        warn!(%error, "no connection can be accepted");
        tokio::time::sleep(BREATH).await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    // Answers are small; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let mut stream = Box::pin(TimeoutStream::new(stream));
    stream.as_mut().set_write_timeout_pinned(Some(UNREAD));
    let Some(tls) = tls else { return requests(stream, peer, router, stop).await };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, peer, router, stop).await,
        Ok(Err(error)) => debug!(%peer, %error, "no TLS handshake"),
        Err(_) => debug!(%peer, "the TLS handshake took too long"),
    }
}

async fn requests<T>(stream: T, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        answer(router.call(request))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(LONGEST_HEADERS);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Both branches are cancel-safe: the connection is only borrowed.
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection ended early");
    }
}

async fn answer<E>(answer: impl Future<Output = Result<Response<Body>, E>>) -> Result<Response<Body>, E> {
    let late = || {
        let message = "the request took too long; send its body at once";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message).into_response()
    };
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|_| Ok(late()))
}
