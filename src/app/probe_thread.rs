//! The probes on a thread and a runtime of their own: `/livez` answers that the operator's runtime hangs, which that runtime could not.

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::listeners::AppError;
use crate::http::server::Server;

/// Serves the probes until `shutdown`. The returned future ends with the thread.
///
/// # Errors
/// The system starts no thread, or the listener cannot move to it.
pub(super) fn serve(
    server: Server,
    router: Router,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, AppError> {
    let listener = server.listener.into_std()?;
    let (running, ended) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        // It is dropped with the thread, also after a panic.
        let _running = running;
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => Server::probes(listener).serve(router, shutdown).await,
                Err(error) => error!(%error, "the probes cannot be served"),
            }
        });
    };
    std::thread::Builder::new().name("probes".into()).spawn(serve)?;
    Ok(async move {
        // Nothing is sent: the channel closes.
        let _ = ended.await;
    })
}
