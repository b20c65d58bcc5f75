//! The way into the embedded API for the commands: HTTPS on loopback, with the administrator's token.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use kube::Client;
use muster_embedded::EmbeddedApi;
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::directory::Directory;
use super::files::StandaloneError;
use crate::http::origin::TrustedProxies;
use crate::http::server::{Protocol, Server};

/// The clients of the operator.
#[derive(Clone)]
pub struct Connections {
    /// With all rights.
    pub operator: Client,
    /// Without a credential of its own.
    pub anonymous: Client,
}

/// The open listener of the embedded API.
pub struct AccessPoint {
    /// The server.
    pub server: Server,
    /// Its routes.
    pub router: Router,
    /// Where it listens.
    pub address: SocketAddr,
    /// The kubeconfig that leads to it.
    pub kubeconfig: PathBuf,
}

impl Directory {
    /// The clients of the operator, which is in the same process.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections { operator: self.api.client(), anonymous: Client::new(self.api.for_tokens(), "default") }
    }

    /// The directory, and its API.
    #[must_use]
    pub fn parts(&self) -> (PathBuf, EmbeddedApi) {
        (self.path.clone(), self.api.clone())
    }

    /// Listens at an address of this host, and writes the kubeconfig.
    ///
    /// # Errors
    /// The address is taken, or the kubeconfig cannot be written.
    pub async fn listen(&self, address: SocketAddr) -> Result<AccessPoint, StandaloneError> {
        let taken = |error| StandaloneError::Credentials(format!("--embedded-addr {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        let acceptor = self.credentials.certificate.acceptor();
        let acceptor = acceptor.map_err(|error| StandaloneError::Credentials(error.with_cause()))?;
        let kubeconfig = self.credentials.write_kubeconfig(address)?;
        let server = Server::api(listener, Protocol::Https(acceptor), TrustedProxies::default());
        Ok(AccessPoint { server, router: router(self.api.for_tokens()), address, kubeconfig })
    }
}

/// All paths lead to the API.
fn router(api: EmbeddedApi) -> Router {
    Router::new().fallback(move |request: Request| {
        let api = api.clone();
        async move {
            let Ok(response) = api.oneshot(request).await;
            response.map(Body::new)
        }
    })
}
