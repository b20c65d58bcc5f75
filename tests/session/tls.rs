//! Trust in the certificates of gateways.

use std::sync::{Arc, Mutex};

use muster::address::networks::GatewayNetworks;
use muster::address::proxy::{NoProxy, ProxyRules};
use muster::address::resolve::SystemResolver;
use muster::openclaw::{Dial, DialRules, Fingerprint, Network, Trust};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

struct Server {
    url: String,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A server with a self-signed certificate for this host name.
async fn server(host: &str) -> Server {
    server_of(host, rcgen::IsCa::NoCa).await
}

async fn server_of(host: &str, is_ca: rcgen::IsCa) -> Server {
    let mut params = rcgen::CertificateParams::new([host.to_owned()]).unwrap();
    params.is_ca = is_ca;
    let signing_key = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    let certificate = cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The client may refuse the certificate.
            let _ = acceptor.accept(stream).await;
        }
    });
    Server { url, certificate, pem: cert.pem() }
}

async fn dial(server: &Server, trust: Trust) -> Result<(), String> {
    let url = server.url.parse().unwrap();
    Network::default().dial(&url, &trust).await.map(|_| ()).map_err(|e| e.to_string())
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_and_a_configured_authority_is_accepted() {
    let ours = server("127.0.0.1").await;
    assert!(dial(&ours, Trust::Platform).await.unwrap_err().starts_with("TLS: "));
    assert_eq!(dial(&ours, Trust::Pem(ours.pem.clone().into_bytes())).await, Ok(()));
    let other = server("127.0.0.1").await;
    assert!(dial(&ours, Trust::Pem(other.pem.into_bytes())).await.is_err());
}

#[tokio::test]
async fn only_the_pinned_certificate_is_accepted_for_any_host() {
    let ours = server("elsewhere.test").await;
    let fingerprint = Fingerprint::of(&ours.certificate);
    assert_eq!(dial(&ours, Trust::Pinned { fingerprint, pem: None }).await, Ok(()));
    let other = server("elsewhere.test").await;
    let said = dial(&other, Trust::Pinned { fingerprint, pem: None }).await.unwrap_err();
    let seen = Fingerprint::of(&other.certificate).to_string();
    assert!(said.contains(&seen) && said.contains(&fingerprint.to_string()), "{said}");
}

#[tokio::test]
async fn a_pin_and_an_authority_must_both_match() {
    let ours = server("127.0.0.1").await;
    let other = server("127.0.0.1").await;
    let fingerprint = Fingerprint::of(&ours.certificate);
    let pinned = |pem: &str| Trust::Pinned { fingerprint, pem: Some(pem.as_bytes().to_vec()) };
    assert_eq!(dial(&ours, pinned(&ours.pem)).await, Ok(()));
    assert!(dial(&ours, pinned(&other.pem)).await.unwrap_err().starts_with("TLS: "));
    let misnamed = server("elsewhere.test").await;
    let fingerprint = Fingerprint::of(&misnamed.certificate);
    let trust = Trust::Pinned { fingerprint, pem: Some(misnamed.pem.clone().into_bytes()) };
    assert!(dial(&misnamed, trust).await.is_err(), "an authority's certificate must match the host");
}

#[tokio::test]
async fn unchecked_trust_accepts_any_certificate() {
    assert_eq!(dial(&server("elsewhere.test").await, Trust::Unchecked).await, Ok(()));
}

/// `openssl req -x509` makes such a certificate by default.
#[tokio::test]
async fn a_self_signed_certificate_of_an_authority_is_refused_with_what_to_do_and_accepted_by_its_fingerprint() {
    let ours = server_of("127.0.0.1", rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)).await;
    let refusal = dial(&ours, Trust::Pem(ours.pem.clone().into_bytes())).await.unwrap_err();
    for words in ["is that of an authority", "spec.tls.fingerprint", "basicConstraints=critical,CA:FALSE"] {
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    let fingerprint = Fingerprint::of(&ours.certificate);
    assert_eq!(dial(&ours, Trust::Pinned { fingerprint, pem: None }).await, Ok(()));
}

/// A proxy that tunnels every request to this server, and answers with this status. Returns its address.
async fn proxy(server: &Server, status: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, target) = (listener.local_addr().unwrap(), server.url.replace("wss://", ""));
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut client = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && client.read_line(&mut head).await.unwrap() > 0 {}
            seen.lock().unwrap().push(head);
            client.write_all(format!("HTTP/1.1 {status}\r\nVia: test\r\n\r\n").as_bytes()).await.unwrap();
            if status.starts_with('2') {
                let mut server = TcpStream::connect(&target).await.unwrap();
                // Either side may end the connection.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        }
    });
    (format!("user:p%40ss@{address}"), heads)
}

async fn dial_through(proxy: &str, url: &str, listed: &[&str], trust: &Trust) -> Result<bool, String> {
    let listed = listed.iter().map(|network| network.parse().unwrap()).collect();
    let proxies = ProxyRules { proxy: Some(proxy.parse().unwrap()), exceptions: NoProxy::default() };
    let rules =
        DialRules { networks: GatewayNetworks::new(listed, true), allow_paths: false, proxies, shows_causes: false };
    let network = Network::new(Arc::new(SystemResolver), rules);
    let dialed = network.dial(&url.parse().unwrap(), trust).await;
    dialed.map(|dialed| dialed.shows_cause).map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_gateway_behind_a_proxy_is_reached_by_its_name_and_its_certificate_is_checked() {
    let ours = server("gateway.test").await;
    let (proxy, heads) = proxy(&ours, "200 Connection established").await;
    let url = "wss://gateway.test:18789";
    // Users do not learn why a host that the proxy reaches is no gateway.
    assert_eq!(dial_through(&proxy, url, &[], &Trust::Pem(ours.pem.clone().into_bytes())).await, Ok(false));
    let head = heads.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("CONNECT gateway.test:18789 HTTP/1.1\r\nHost: gateway.test:18789\r\n"), "{head}");
    assert!(head.contains("\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n"), "{head}");
    let other = server("gateway.test").await;
    let refusal = dial_through(&proxy, url, &[], &Trust::Pem(other.pem.into_bytes())).await.unwrap_err();
    assert!(refusal.starts_with("TLS: "), "{refusal}");
}

#[tokio::test]
async fn a_refusal_of_the_proxy_is_the_cause() {
    let ours = server("gateway.test").await;
    for (status, words) in
        [("407 Proxy Authentication Required", "user and the password"), ("403 Forbidden", "403 Forbidden")]
    {
        let (proxy, _) = proxy(&ours, status).await;
        let refusal = dial_through(&proxy, "wss://gateway.test", &[], &Trust::Unchecked).await.unwrap_err();
        assert!(refusal.contains(words) && !refusal.contains("p@ss"), "{refusal}");
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_answer_is_named_without_its_credentials() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = format!("http://muster:secret@{closed}");
    let refusal = dial_through(&proxy, "wss://gateway.test", &[], &Trust::Unchecked).await.unwrap_err();
    assert!(refusal.starts_with(&format!("no connection to the proxy {closed}: ")), "{refusal}");
    assert!(!refusal.contains("secret"), "{refusal}");
}

#[tokio::test]
async fn an_address_that_the_rules_forbid_is_not_asked_of_the_proxy() {
    let ours = server("gateway.test").await;
    let (proxy, heads) = proxy(&ours, "200 OK").await;
    for (url, listed) in
        [("wss://169.254.169.254", &[][..]), ("wss://[fe80::1]", &[]), ("wss://10.0.0.1", &["192.168.0.0/16"])]
    {
        let refusal = dial_through(&proxy, url, listed, &Trust::Unchecked).await.unwrap_err();
        assert!(refusal.contains("--gateway-networks"), "{url}: {refusal}");
    }
    assert!(heads.lock().unwrap().is_empty());
    assert_eq!(dial_through(&proxy, "wss://10.0.0.1", &["10.0.0.0/8"], &Trust::Unchecked).await, Ok(true));
}
