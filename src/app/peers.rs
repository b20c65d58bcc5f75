//! Requests to other replicas of the operator.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::uri::{Authority, Scheme};
use axum::http::{Response, Uri};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::http::forward::{HttpRequest, PeerTransport};
use crate::leadership::Peer;
use crate::openclaw::{Fingerprint, Trust, client_config};

/// How long another replica may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection without requests is kept. The server ends it after 5 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

type PeerClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Sends requests to the leader by HTTPS. The leader's certificate must be the one that its Lease names.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// The client of the last leader.
    open: Mutex<Option<(Peer, PeerClient)>>,
}

impl PeerTransport for Peers {
    fn send<'a>(&'a self, peer: &'a Peer, request: HttpRequest) -> BoxFuture<'a, Result<Response<Bytes>, String>> {
        Box::pin(async move {
            let exchange = exchange(self.client(peer)?, peer, request);
            tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.map_err(|_| "no answer in time".to_owned())?
        })
    }
}

impl Peers {
    fn client(&self, peer: &Peer) -> Result<PeerClient, String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = open.as_ref().filter(|(of, _)| of == peer) {
            return Ok(client.clone());
        }
        let client = client(peer)?;
        *open = Some((peer.clone(), client.clone()));
        Ok(client)
    }
}

fn client(peer: &Peer) -> Result<PeerClient, String> {
    let fingerprint = Fingerprint::parse(&peer.fingerprint)
        .ok_or_else(|| format!("{:?} is no SHA-256 fingerprint of a certificate", peer.fingerprint))?;
    let tls = client_config(&Trust::Pinned { fingerprint, pem: None }).map_err(|error| error.to_string())?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(connector))
}

async fn exchange(client: PeerClient, peer: &Peer, mut request: HttpRequest) -> Result<Response<Bytes>, String> {
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTPS);
    let authority = peer.address.to_string();
    target.authority = Some(authority.parse::<Authority>().map_err(|error| format!("{authority}: {error}"))?);
    *request.uri_mut() = Uri::from_parts(target).map_err(|error| error.to_string())?;
    let answer = client.request(request.map(Full::new)).await.map_err(|error| cause(&error))?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// The innermost cause: the outer ones say only that the client failed.
fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), cause)
}
