//! Trust in the certificates of gateways.

use std::sync::Arc;

use muster::openclaw::{Dial, Fingerprint, Network, Trust};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Server {
    url: String,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A server with a self-signed certificate for this host name.
async fn server(host: &str) -> Server {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
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
    Server { url, certificate, pem: made.cert.pem() }
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
