//! The messages between the tasks of one gateway.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::connection::answer_reporter::AnswerReporter;
use super::connection::payload::Payload;
use super::inventory::event::GatewayEvent;
use super::model::CallError;

/// The timeout of ordinary requests.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The timeout of a config write. A write of 200 agents takes 54 s (2026.9.6,
/// `docs/gateway-facts.md#duration-of-config-writes`).
pub(crate) const CONFIG_WRITE_TIMEOUT: Duration = Duration::from_mins(2);

/// A change on the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The connection or the inventory was lost, or the read failure changed.
    Connection,
    /// An unspecified change. The receiver has to check all agents.
    Roster,
    /// What concerns no single agent: the heartbeat rule of the config, or whether the gateway returns file hashes.
    Gateway,
    /// The row of an agent, or the state of its config write.
    Agent(String),
    /// The start or the end of a run of an agent.
    Run(String),
}

/// Counts requests to gateways.
pub trait Meter: std::fmt::Debug + Send + Sync {
    /// Counts a completed request. `ok` is `false` after an error answer, a timeout or a lost connection. `duration` includes the wait for
    /// the connection task.
    fn requested(&self, method: &'static str, ok: bool, duration: Duration);

    /// Counts a write that the write guard delayed.
    fn held_back(&self, method: &'static str);
}

/// A meter that counts nothing.
impl Meter for () {
    fn requested(&self, _: &'static str, _: bool, _: Duration) {}

    fn held_back(&self, _: &'static str) {}
}

/// Sends requests to the connection task.
#[derive(Clone, Debug)]
pub(crate) struct Requester {
    pub(crate) calls: mpsc::Sender<Call>,
    pub(crate) meter: Arc<dyn Meter>,
}

impl Requester {
    /// Sends a request and waits for its answer. Dropping the future withdraws a request that is still queued.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn call(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
    ) -> Result<Payload, CallError> {
        let (reply, answer) = oneshot::channel();
        let began = Instant::now();
        let sent = self.calls.send(Call { method, params, timeout, reply }).await;
        let result = match sent {
            Err(_) => Err(CallError::NotConnected),
            Ok(()) => answer.await.unwrap_or(Err(CallError::Interrupted)),
        };
        self.meter.requested(method, result.is_ok(), began.elapsed());
        result
    }

    /// Sends a request and reads its answer at once, so that the answer holds no budget while the caller waits for another
    /// answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        timeout: Duration,
    ) -> Result<T, CallError> {
        self.call(method, params, timeout).await?.read(method)
    }
}

/// Requests a read of roster and config, and waits for its end. Returns `false` after a failed read.
pub(crate) async fn resync(requests: &mpsc::UnboundedSender<oneshot::Sender<bool>>) -> bool {
    let (reply, answer) = oneshot::channel();
    requests.send(reply).is_ok() && answer.await.unwrap_or(false)
}

/// A request for the connection task.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) params: Value,
    pub(crate) timeout: Duration,
    pub(crate) reply: oneshot::Sender<Result<Payload, CallError>>,
}

/// An event of the connection task for the informer.
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    /// The connection is open. The informer has to read everything. It reports a bound that it meets.
    Up(AnswerReporter),
    /// The connection ended.
    Down,
    /// Events were lost; with the share of the event queue, if it had room.
    Gap { _permit: Option<OwnedSemaphorePermit> },
    /// An event of the gateway, and its share of the event queue.
    Event { event: GatewayEvent, _permit: OwnedSemaphorePermit },
}
