//! Slow clients, and a server that stops.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use muster::http::origin::TrustedProxies;
use muster::http::server::{Protocol, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

struct TestServer {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

async fn serve(router: Router) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let server = Server::api(listener, Protocol::Http, TrustedProxies::default());
    let ended = tokio::spawn(server.serve(router, stop.clone()));
    TestServer { address, stop, ended }
}

fn echo() -> Router {
    Router::new().route("/", get(|| async { "here" })).route("/echo", post(|body: Bytes| async { body }))
}

/// Sends `text` and returns everything that the server sends until it closes the connection.
async fn exchange(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn a_client_without_complete_headers_is_disconnected() {
    let served = serve(echo()).await;
    for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: muster\r\n"] {
        let began = Instant::now();
        assert_eq!(exchange(served.address, begun).await, "");
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{begun:?} took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_within_its_body_gets_408_and_is_disconnected() {
    let served = serve(echo()).await;
    let answer = exchange(served.address, "POST /echo HTTP/1.1\r\nhost: muster\r\ncontent-length: 9\r\n\r\nhalf").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"code\":\"timeout\""), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_idle_after_a_response_is_closed() {
    let served = serve(echo()).await;
    let answer = exchange(served.address, "GET / HTTP/1.1\r\nhost: muster\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("here"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn endless_headers_are_refused() {
    let served = serve(echo()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(32 * 1024));
    // The server may close the connection before everything is sent.
    let _ = stream.write_all(endless.as_bytes()).await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[tokio::test]
async fn a_pending_request_is_answered_after_the_stop() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (notify_begun, wait_go) = (Arc::clone(&begun), Arc::clone(&go));
    let slow = get(move || async move {
        notify_begun.notify_one();
        wait_go.notified().await;
        "done"
    });
    let served = serve(Router::new().route("/", slow)).await;
    let answer = tokio::spawn(exchange(served.address, "GET / HTTP/1.1\r\nhost: muster\r\n\r\n"));
    begun.notified().await;
    let idle = TcpStream::connect(served.address).await.unwrap();
    served.stop.cancel();
    go.notify_one();
    assert!(answer.await.unwrap().ends_with("done"));
    served.ended.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "the server still listens");
    drop(idle);
}

/// Notifies when it is dropped.
struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_response_is_disconnected() {
    let ended = Arc::new(Notify::new());
    let on_drop = Arc::new(Mutex::new(Some(NotifyOnDrop(Arc::clone(&ended)))));
    let endless = get(move || async move {
        let on_drop = on_drop.lock().unwrap().take();
        Body::from_stream(futures::stream::repeat_with(move || {
            assert!(on_drop.is_some(), "the route was called twice");
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 8 * 1024]))
        }))
    });
    let served = serve(Router::new().route("/", endless)).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let began = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: muster\r\n\r\n").await.unwrap();
    ended.notified().await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(40), "{took:?}");
    drop(stream);
}
