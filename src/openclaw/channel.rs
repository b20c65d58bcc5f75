//! What the tasks of one gateway say to one another.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::connection::payload::Payload;
use super::inventory::event::GatewayEvent;
use super::model::CallError;

/// The deadline of ordinary requests.
pub(crate) const ORDINARY: Duration = Duration::from_secs(15);
/// The deadline of a config write: measured 54 s for 200 agents.
pub(crate) const CONFIG_WRITE: Duration = Duration::from_mins(2);

/// Something changed at the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The connection.
    Connection,
    /// Anything: look at everything again.
    Roster,
    /// What the config says about heartbeats.
    Heartbeats,
    /// An agent's row, or what became of its entry.
    Agent(String),
    /// A run of an agent began or ended.
    Run(String),
}

/// Told of every request that ended.
pub trait Meter: std::fmt::Debug + Send + Sync {
    /// A request of this method was answered (`ok`), or was refused, ran out of time or lost its connection.
    fn requested(&self, method: &'static str, ok: bool);

    /// A write was held back, since the same one was made too often.
    fn held_back(&self, method: &'static str);
}

/// Counts nothing.
impl Meter for () {
    fn requested(&self, _: &'static str, _: bool) {}

    fn held_back(&self, _: &'static str) {}
}

/// Makes requests. The tasks behind a handle have one too.
#[derive(Clone, Debug)]
pub(crate) struct Requester {
    pub(crate) calls: mpsc::Sender<Call>,
    pub(crate) meter: Arc<dyn Meter>,
}

impl Requester {
    /// Makes a request. It is dropped when the future is, unless it was sent already.
    pub(crate) async fn call(
        &self,
        method: &'static str,
        params: Value,
        allowed: Duration,
    ) -> Result<Payload, CallError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.calls.send(Call { method, params, allowed, reply }).await;
        let result = match sent {
            Err(_) => Err(CallError::NotConnected),
            Ok(()) => answer.await.unwrap_or(Err(CallError::Interrupted)),
        };
        self.meter.requested(method, result.is_ok());
        result
    }

    /// Makes a request and reads its answer as soon as it is there: no answer is kept while another is awaited.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        allowed: Duration,
    ) -> Result<T, CallError> {
        self.call(method, params, allowed).await?.read(method)
    }
}

/// Has roster and config read, and waits for it. False when they could not be read.
pub(crate) async fn resync(wanted: &mpsc::UnboundedSender<oneshot::Sender<bool>>) -> bool {
    let (done, wait) = oneshot::channel();
    wanted.send(done).is_ok() && wait.await.unwrap_or(false)
}

/// A request on its way to the connection.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) params: Value,
    pub(crate) allowed: Duration,
    pub(crate) reply: oneshot::Sender<Result<Payload, CallError>>,
}

/// Something that the gateway told, for the informer.
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    /// The connection stands; everything has to be read.
    Up,
    /// The connection is gone.
    Down,
    /// Events were lost.
    Gap,
    /// What an event says, and its place in the queue.
    Event { event: GatewayEvent, _permit: OwnedSemaphorePermit },
}
