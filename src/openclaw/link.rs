//! The link to a gateway: its connection, and the requests that go over the connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::channel::{Requester, resync};
use super::config_writer::write_guard::{WriteGuard, WriteHash};
use super::connection::payload::Payload;
use super::model::CallError;
use super::model::file::FileHashProbe;
use super::roster_queue::{RosterQueue, RosterView};

/// The waits before the retries of a request that the gateway asks to repeat.
const RETRY_WAITS: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];

/// The link to a gateway. The handles of the client share it, and a write to the roster keeps it until the write ends. The
/// connection closes when the last owner is gone.
#[derive(Debug)]
pub(crate) struct GatewayLink {
    pub(crate) requester: Requester,
    pub(crate) view: RosterView,
    /// Whether an answer of the gateway had a file hash.
    pub(crate) file_hashes: Arc<AtomicBool>,
    pub(crate) write_guard: Mutex<WriteGuard>,
    pub(crate) roster: RosterQueue,
    /// Closes the connection.
    pub(crate) closing: Arc<DropGuard>,
}

impl GatewayLink {
    /// Reads roster and config now. Returns `false` after a failed read; the inventory may then be old.
    pub(crate) async fn resync(&self) -> bool {
        resync(&self.view.resync_requests).await
    }

    /// Sends a request.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn call(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
    ) -> Result<Payload, CallError> {
        let answer = self.requester.call(method, params, timeout).await?;
        let may_have_hash = method.starts_with("agents.files.") && !self.has_file_hashes();
        let has_hash = may_have_hash && answer.peek::<FileHashProbe>().is_some_and(|answer| answer.has_hash());
        // The inventory contains the capabilities, so that a new capability needs a new inventory.
        if has_hash && !self.file_hashes.swap(true, Ordering::Relaxed) {
            let (reply, _) = oneshot::channel();
            // The informer ends only with this link.
            let _ = self.view.resync_requests.send(reply);
        }
        Ok(answer)
    }

    /// Sends a write, unless the write guard delays it: an identical write with the same `cause` was sent too often. The guard
    /// counts acknowledged writes alone, because the caller paces the retries of a failed write.
    ///
    /// # Errors
    /// [`CallError::Repeated`], or the error of the request.
    pub(crate) async fn write(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
        cause: &str,
    ) -> Result<Payload, CallError> {
        let (write, now) = (WriteHash::of((method, cause, params.to_string())), Instant::now());
        if let Some(until) = self.write_guard().held_back(write, now) {
            self.requester.meter.held_back(method);
            return Err(CallError::Repeated { method, wait: until - now });
        }
        let result = self.call_with_retries(method, params, timeout).await;
        if result.is_ok() {
            self.write_guard().made(write, now);
        }
        result
    }

    fn write_guard(&self) -> MutexGuard<'_, WriteGuard> {
        self.write_guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an answer of the gateway had a file hash.
    pub(crate) fn has_file_hashes(&self) -> bool {
        self.file_hashes.load(Ordering::Relaxed)
    }

    /// Sends an idempotent request, and repeats it while the gateway asks for a retry, at most four times.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn call_with_retries(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
    ) -> Result<Payload, CallError> {
        for wait in RETRY_WAITS {
            match self.call(method, params.clone(), timeout).await {
                Err(error) if error.asks_for_retry() => tokio::time::sleep(wait).await,
                answer => return answer,
            }
        }
        self.call(method, params, timeout).await
    }
}
