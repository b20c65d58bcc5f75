//! Replacement of the API's certificate.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Extensions;
use axum::routing::get;
use muster::http::made_certificate::MadeCertificate;
use muster::http::origin::{RequestOrigin, TrustedProxies};
use muster::http::server::{Protocol, Server};
use muster::http::tls::{Certificate, CertificateFiles};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

struct CertificatePair {
    der: CertificateDer<'static>,
    certificate: String,
    key: String,
}

fn pair() -> CertificatePair {
    let made = rcgen::generate_simple_self_signed(["muster.test".to_owned()]).unwrap();
    CertificatePair {
        der: made.cert.der().clone(),
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

/// Writes both files into a new folder and swaps the link to it, as Kubernetes does.
fn mount(folder: &Path, version: &str, certificate: &str, key: &str) {
    std::fs::create_dir(folder.join(version)).unwrap();
    std::fs::write(folder.join(version).join("tls.crt"), certificate).unwrap();
    std::fs::write(folder.join(version).join("tls.key"), key).unwrap();
    std::os::unix::fs::symlink(version, folder.join("new")).unwrap();
    std::fs::rename(folder.join("new"), folder.join("data")).unwrap();
}

fn files(folder: &Path) -> CertificateFiles {
    CertificateFiles { certificate: folder.join("data/tls.crt"), key: folder.join("data/tls.key") }
}

/// Serves with the certificate in `folder` and reloads it.
async fn serve(folder: &Path) -> SocketAddr {
    let certificate = Certificate::load(files(folder)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(|| async { "here" }));
    let server = Server::api(listener, Protocol::Https(certificate.acceptor().unwrap()), TrustedProxies::default());
    tokio::spawn(server.serve(router, CancellationToken::new()));
    tokio::spawn(certificate.watch_files());
    address
}

async fn connect(address: SocketAddr, trusted: &[&CertificatePair]) -> std::io::Result<TlsStream<TcpStream>> {
    connect_to("muster.test", address, trusted.iter().map(|pair| &pair.der)).await
}

async fn connect_to(
    name: &'static str,
    address: SocketAddr,
    trusted: impl IntoIterator<Item = &CertificateDer<'static>>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for der in trusted {
        roots.add(der.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream).await
}

/// Whether a new connection is served with this certificate.
async fn serves(address: SocketAddr, pair: &CertificatePair) -> bool {
    connect(address, &[pair]).await.is_ok()
}

async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: muster.test\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        answer.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

/// Passes the interval after which the files are read again, with requests on an open connection, which would be closed when idle.
/// The clock runs on, because it would otherwise run ahead of the kernel.
async fn pass_reload_interval(open: &mut TlsStream<TcpStream>) {
    for _ in 0..3 {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(4)).await;
        tokio::time::resume();
        assert!(ask(open).await.starts_with("HTTP/1.1 200 "), "an open connection is cut off");
    }
}

#[tokio::test]
async fn a_new_certificate_is_served_and_open_connections_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, third) = (pair(), pair(), pair());
    mount(folder.path(), "1", &first.certificate, &first.key);
    let address = serve(folder.path()).await;
    let mut open = connect(address, &[&first]).await.unwrap();
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200 "));

    mount(folder.path(), "2", &second.certificate, &third.key);
    pass_reload_interval(&mut open).await;
    assert!(serves(address, &first).await && !serves(address, &second).await, "a key that does not fit is not served");
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200 "));

    mount(folder.path(), "3", &third.certificate, &third.key);
    while !serves(address, &third).await {
        assert!(serves(address, &first).await || serves(address, &third).await, "no certificate is served");
        pass_reload_interval(&mut open).await;
    }
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200 "));
}

/// Serves with a made certificate and without. The answer is whether the request was confidential, and the client's network.
async fn serve_either(bind: &str, proxies: &[&str]) -> (SocketAddr, CertificateDer<'static>) {
    let made = MadeCertificate::new([127, 0, 0, 1].into()).unwrap();
    let listener = TcpListener::bind(bind).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let origin = get(|extensions: Extensions| async move {
        let origin = RequestOrigin::of(&extensions);
        format!("{} {} here", origin.confidential, origin.network)
    });
    let proxies = TrustedProxies::new(proxies.iter().map(|network| network.parse().unwrap()).collect());
    let server = Server::api(listener, Protocol::Either(made.acceptor().unwrap()), proxies);
    tokio::spawn(server.serve(Router::new().route("/", origin), CancellationToken::new()));
    (address, made.certificate().unwrap().clone())
}

/// The body of the answer to a GET without TLS.
async fn ask_in_clear_text(address: SocketAddr, forwarded: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {forwarded}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_made_certificate_serves_tls_beside_clear_text_and_handlers_know_the_difference() {
    let (address, der) = serve_either("0.0.0.0:0", &[]).await;
    for name in ["localhost", "127.0.0.1", "muster.muster-system.svc"] {
        let mut tls = connect_to(name, address, [&der]).await.unwrap();
        assert!(ask(&mut tls).await.ends_with("true 127.0.0.1 here"), "{name}");
    }
    assert_eq!(ask_in_clear_text(address, "").await, "false 127.0.0.1 here", "a sidecar connects from loopback too");
    let (local, _) = serve_either("127.0.0.1:0", &[]).await;
    assert_eq!(ask_in_clear_text(local, "192.0.2.7").await, "true 127.0.0.1 here", "only trusted proxies are believed");
    let (proxied, _) = serve_either("127.0.0.1:0", &["127.0.0.0/8"]).await;
    assert_eq!(ask_in_clear_text(proxied, "198.51.100.1, 192.0.2.7").await, "true 192.0.2.7 here");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_tls_handshake_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair();
    mount(folder.path(), "1", &pair.certificate, &pair.key);
    let mut stream = TcpStream::connect(serve(folder.path()).await).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}
