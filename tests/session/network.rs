//! The addresses that the operator dials, and what a failed connection shows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use muster::address::networks::GatewayNetworks;
use muster::address::proxy::ProxyRules;
use muster::address::resolve::Resolve;
use muster::openclaw::model::{ConnectionState, DownCause};
use muster::openclaw::{ConnectionSettings, DialRules, GatewayClient, Network};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::settings;

/// Resolves each name to one address after the other, and connects to a server of the test in the place of that address.
struct TestResolver {
    addresses: Vec<&'static str>,
    resolved: AtomicUsize,
    server: Option<SocketAddr>,
}

impl TestResolver {
    fn new(addresses: &[&'static str], server: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self { addresses: addresses.to_vec(), resolved: AtomicUsize::new(0), server })
    }
}

impl Resolve for TestResolver {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let at = self.resolved.fetch_add(1, Ordering::Relaxed).min(self.addresses.len() - 1);
        Box::pin(async move { Ok(vec![SocketAddr::new(self.addresses[at].parse().unwrap(), port)]) })
    }

    fn connect<'a>(&'a self, addresses: &'a [SocketAddr]) -> BoxFuture<'a, io::Result<TcpStream>> {
        Box::pin(async move {
            assert_eq!(addresses[0].ip().to_string(), self.addresses[0], "the checked address is dialed");
            TcpStream::connect(self.server.ok_or(io::ErrorKind::ConnectionRefused)?).await
        })
    }
}

fn network(resolver: &Arc<TestResolver>, listed: &[&str], allow_paths: bool) -> Arc<Network> {
    let listed = listed.iter().map(|network| network.parse().unwrap()).collect();
    let networks = GatewayNetworks::new(listed, true);
    let rules = DialRules { networks, allow_paths, proxies: ProxyRules::default(), shows_causes: false };
    Arc::new(Network::new(Arc::clone(resolver) as Arc<dyn Resolve>, rules))
}

/// The first failure of a connection to this URL, and the time until its report.
async fn failure(url: &str, network: Arc<Network>) -> (DownCause, String, Duration) {
    let started = Instant::now();
    let settings = ConnectionSettings { url: url.parse().unwrap(), ..settings() };
    let gateway = GatewayClient::open(settings, network, Arc::new(()));
    let mut link = gateway.connection();
    let state = link.wait_for(|link| !matches!(link, ConnectionState::Connecting)).await.unwrap().clone();
    match state {
        ConnectionState::Down { error, cause, .. } => (cause, error.to_string(), started.elapsed()),
        other => unreachable!("{other:?}"),
    }
}

/// A server that answers each connection with these bytes.
async fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(answer).await;
            open.push(stream);
        }
    });
    address
}

#[tokio::test(start_paused = true)]
async fn forbidden_addresses_are_not_dialed_and_the_condition_names_the_field_and_the_flag() {
    for (address, listed) in [
        ("127.0.0.1", &[][..]),
        ("169.254.169.254", &[]),
        ("10.0.0.1", &["192.168.0.0/16"]),
        ("127.0.0.1", &["0.0.0.0/0"]),
    ] {
        let resolver = TestResolver::new(&[address], None);
        let (cause, text, _) = failure("ws://gw:18789", network(&resolver, listed, false)).await;
        assert_eq!(cause, DownCause::Forbidden, "{address}");
        assert!(text.contains("spec.url") && text.contains("--gateway-networks"), "{text}");
        assert!(!text.contains(address), "{text}");
    }
    let literal = network(&TestResolver::new(&["10.0.0.1"], None), &[], false);
    assert_eq!(failure("ws://[::ffff:169.254.169.254]:80", literal).await.0, DownCause::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_changes_after_the_check_is_not_resolved_again() {
    let resolver = TestResolver::new(&["10.0.0.1", "127.0.0.1"], None);
    let (cause, ..) = failure("ws://gw:18789", network(&resolver, &[], false)).await;
    assert_eq!(cause, DownCause::Unreachable);
    assert_eq!(resolver.resolved.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_path_needs_the_flag() {
    let resolver = TestResolver::new(&["10.0.0.1"], None);
    let (cause, text, _) = failure("ws://gw:18789/metrics", network(&resolver, &[], false)).await;
    assert_eq!(cause, DownCause::Forbidden);
    assert!(text.contains("spec.url has the path /metrics") && text.contains("--allow-gateway-paths"), "{text}");
    assert_eq!(resolver.resolved.load(Ordering::Relaxed), 0);
    let (cause, ..) = failure("ws://gw:18789/openclaw", network(&resolver, &[], true)).await;
    assert_eq!(cause, DownCause::Unreachable);
    let (cause, ..) = failure("ws://gw:18789/", network(&resolver, &[], false)).await;
    assert_eq!(cause, DownCause::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn users_cannot_tell_a_closed_port_from_another_server_at_an_unlisted_address() {
    let http = server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let ssh = server(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    let silent = server(b"").await;
    let mut seen = Vec::new();
    for server in [None, Some(http), Some(ssh), Some(silent)] {
        for url in ["ws://gw:18789", "wss://gw:18789"] {
            let resolver = TestResolver::new(&["10.0.0.1"], server);
            let (cause, text, after) = failure(url, network(&resolver, &[], false)).await;
            assert_eq!(cause, DownCause::Unreachable);
            assert!(after >= Duration::from_secs(10), "{server:?} was reported after {after:?}");
            seen.push(text);
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].contains("the operator's log has the cause"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn the_cause_is_shown_for_an_address_in_a_listed_network() {
    let resolver = TestResolver::new(&["10.0.0.1"], None);
    let (_, text, after) = failure("ws://gw:18789", network(&resolver, &["10.0.0.0/8"], false)).await;
    assert!(text.contains("refused"), "{text}");
    assert!(after < Duration::from_secs(1), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn an_operator_without_a_cluster_shows_each_cause_to_its_admin() {
    let resolver = TestResolver::new(&["10.0.0.1"], None);
    let networks = GatewayNetworks::new(Vec::new(), false);
    let rules = DialRules { networks, allow_paths: false, proxies: ProxyRules::default(), shows_causes: true };
    let network = Arc::new(Network::new(Arc::clone(&resolver) as Arc<dyn Resolve>, rules));
    let (_, text, after) = failure("ws://gw:18789", network).await;
    assert!(text.contains("refused"), "{text}");
    assert!(after < Duration::from_secs(1), "{after:?}");
}
