//! Replacement of the API's certificate.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use muster::http::server;
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
    let tls = Some(certificate.acceptor().unwrap());
    tokio::spawn(server::serve(listener, tls, router, CancellationToken::new()));
    tokio::spawn(certificate.watch_files());
    address
}

async fn connect(address: SocketAddr, trusted: &[&CertificatePair]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.der.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("muster.test").unwrap(), stream).await
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

/// Passes the interval after which the files are read again. The clock runs on, because it would otherwise run ahead of the
/// kernel.
async fn pass_reload_interval() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
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
    pass_reload_interval().await;
    assert!(serves(address, &first).await && !serves(address, &second).await, "a key that does not fit is not served");
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200 "));

    mount(folder.path(), "3", &third.certificate, &third.key);
    while !serves(address, &third).await {
        assert!(serves(address, &first).await || serves(address, &third).await, "no certificate is served");
        assert!(ask(&mut open).await.starts_with("HTTP/1.1 200 "), "an open connection is cut off");
        pass_reload_interval().await;
    }
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_tls_handshake_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair();
    mount(folder.path(), "1", &pair.certificate, &pair.key);
    let mut stream = TcpStream::connect(serve(folder.path()).await).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}
