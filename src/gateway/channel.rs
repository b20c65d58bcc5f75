//! What the tasks of one gateway say to one another.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::error::CallError;
use super::hello::{Hello, Refusal};
use super::news::News;
use super::payload::Payload;

/// The deadline of ordinary requests.
pub(super) const ORDINARY: Duration = Duration::from_secs(15);
/// The deadline of a config write: measured 54 s for 200 agents.
pub(super) const CONFIG_WRITE: Duration = Duration::from_mins(2);

/// The state of the connection.
#[derive(Clone, Debug)]
pub enum Link {
    /// The first connection is being made.
    Connecting,
    /// It stands.
    Up(Arc<Hello>),
    /// The gateway refused it; it is tried again slowly.
    Refused(Arc<Refusal>),
    /// It could not be made, or was lost; it is tried again.
    Down {
        /// Why.
        error: Arc<str>,
        /// How often it failed in a row.
        attempts: u32,
        /// Since when there is none.
        since: Instant,
    },
}

/// Something changed at the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The connection.
    Link,
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
pub(super) struct Caller {
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) meter: Arc<dyn Meter>,
}

impl Caller {
    /// Makes a request. It is dropped when the future is, unless it was sent already.
    pub(super) async fn call(
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
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        allowed: Duration,
    ) -> Result<T, CallError> {
        self.call(method, params, allowed).await?.read(method)
    }
}

/// Has roster and config read, and waits for it. False when they could not be read.
pub(super) async fn resync(wanted: &mpsc::UnboundedSender<oneshot::Sender<bool>>) -> bool {
    let (done, wait) = oneshot::channel();
    wanted.send(done).is_ok() && wait.await.unwrap_or(false)
}

/// A request on its way to the connection.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) params: Value,
    pub(super) allowed: Duration,
    pub(super) reply: oneshot::Sender<Result<Payload, CallError>>,
}

/// Something that the gateway told, for the informer.
#[derive(Debug)]
pub(super) enum Told {
    /// The connection stands; everything has to be read.
    Up,
    /// The connection is gone.
    Down,
    /// Events were lost.
    Gap,
    /// What an event says, and its place in the queue.
    News { news: News, _place: OwnedSemaphorePermit },
}
