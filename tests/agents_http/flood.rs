//! Clients that take many connections.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use muster::http::origin::TrustedProxies;
use muster::http::places::PlaceLimits;
use muster::http::server::{Protocol, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

/// Serves, and returns the address.
async fn serve(change: impl FnOnce(TcpListener) -> Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(|| async { "here" }));
    tokio::spawn(change(listener).serve(router, CancellationToken::new()));
    address
}

fn api(listener: TcpListener) -> Server {
    Server::api(listener, Protocol::Http, TrustedProxies::default())
}

/// A connection from an address of this host.
async fn connect(from: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await
}

/// Idle connections that stay open.
async fn flood(from: [u8; 4], to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(connect(from, to).await.unwrap());
    }
    held
}

/// Whether a connection gets an answer.
async fn answers(mut stream: TcpStream) -> bool {
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    let asked = stream.write_all(request).await.is_ok() && stream.read_to_string(&mut answer).await.is_ok();
    asked && answer.ends_with("here")
}

/// The number of connections that get an answer.
async fn answered(held: Vec<TcpStream>) -> usize {
    let mut number = 0;
    for stream in held {
        number += usize::from(answers(stream).await);
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_one_address_takes_no_place_from_another_and_none_from_its_own_next_request() {
    for server in [api, Server::probes] {
        let address = serve(server).await;
        let early = connect([127, 0, 0, 2], address).await.unwrap();
        let held = flood([127, 0, 0, 1], address, 300).await;
        assert!(answers(early).await, "an older connection of another address stays");
        assert!(answers(connect([127, 0, 0, 2], address).await.unwrap()).await);
        assert!(answers(connect([127, 0, 0, 1], address).await.unwrap()).await, "as a probe from the flood's address");
        let open = answered(held).await;
        assert!(open <= 256, "{open} connections of one address are open");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connections_of_a_trusted_proxy_are_of_many_clients() {
    let limits = PlaceLimits { total: 16, per_network: 4 };
    let proxies = TrustedProxies::new(vec!["127.0.0.1/32".parse().unwrap()]);
    for (proxies, open) in [(TrustedProxies::default(), 4), (proxies, 8)] {
        let address = serve(|listener| Server { limits, proxies, ..api(listener) }).await;
        let held = flood([127, 0, 0, 1], address, 8).await;
        // The server accepts in order: the flood has its places once a later connection is answered.
        assert!(answers(connect([127, 0, 0, 2], address).await.unwrap()).await);
        assert_eq!(answered(held).await, open);
    }
}
