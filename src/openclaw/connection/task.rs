//! The task that owns the connection: it dials the gateway, serves the connection, and dials again after its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::SinkExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::active_connection::ActiveConnection;
use super::credential_fallback::CredentialFallback;
use super::failure::ConnectionFailure;
use super::session::{Output, Session};
use super::socket::open;
use super::transport::{DIAL_TIMEOUT, Dial};
use crate::backoff::doubled;
use crate::openclaw::channel::{Call, ConnectionEvent};
use crate::openclaw::inventory::event::GatewayEvent;
use crate::openclaw::limits::Exceeded;
use crate::openclaw::model::{CallError, ConnectionState, DownCause, Hello, Refusal, RefusalKind, clean};
use crate::openclaw::settings::ConnectionSettings;

/// The timeout of a write to the socket.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// The first and the longest wait before the next dial.
const DIAL_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The time after the loss of a connection in which the waits are shorter, and the longest wait in that time. The client finds
/// a restarted gateway again before an outage is reported; a restart takes 3.4 to 20 s (2026.9.6,
/// `docs/gateway-facts.md#restarts`).
const EARLY_DIAL_BACKOFF: (Duration, Duration) = (Duration::from_mins(1), Duration::from_secs(4));
/// The wait after a refusal that a person has to correct.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// The wait after a gateway exceeded a bound.
const MISBEHAVED_RETRY: Duration = Duration::from_mins(5);
/// The wait while a person has to approve this device.
const PAIRING_RETRY: Duration = Duration::from_secs(5);

/// The estimated memory of a gap in the event queue, in bytes.
const GAP_SIZE: usize = 256;

/// The task that owns the connection.
pub(crate) struct ConnectionTask {
    pub(crate) settings: ConnectionSettings,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) calls: mpsc::Receiver<Call>,
    pub(crate) events: mpsc::UnboundedSender<ConnectionEvent>,
    pub(crate) state: watch::Sender<ConnectionState>,
    pub(crate) closing: CancellationToken,
    /// The free bytes of the event queue, out of [`EVENT_QUEUE`](crate::openclaw::limits::EVENT_QUEUE).
    pub(crate) event_permits: Arc<Semaphore>,
    /// Whether an answer of the gateway had a file hash.
    pub(crate) file_hashes: Arc<AtomicBool>,
    pub(crate) credential_fallback: CredentialFallback,
    pub(crate) memory: ConnectionMemory,
}

/// What the task knows of its earlier connections and events.
#[derive(Default)]
pub(crate) struct ConnectionMemory {
    /// Whether the last event found no room in the queue.
    queue_full: bool,
    /// The hello of the last connection.
    last_hello: Option<Arc<Hello>>,
    /// The hidden cause in the last log line.
    logged: String,
}

/// The end of a connection.
enum ConnectionEnd {
    Refused(Refusal),
    Failed(ConnectionFailure),
    Closing,
}

impl ConnectionTask {
    /// Runs until `closing` is cancelled, or until the last handle is dropped.
    pub(crate) async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let started = Instant::now();
            let end = self.connect_once().await;
            let was_up = matches!(*self.state.borrow(), ConnectionState::Up(_));
            // The informer ends with this task.
            let _ = self.events.send(ConnectionEvent::Down);
            failures = if was_up && started.elapsed() > DIAL_BACKOFF.1 { 1 } else { failures.saturating_add(1) };
            let wait = match end {
                ConnectionEnd::Closing => return,
                ConnectionEnd::Refused(refusal) => match self.credential_fallback.refused(refusal) {
                    Some(refusal) => self.refused(refusal),
                    // The next connection presents the fallback at once.
                    None => Duration::ZERO,
                },
                ConnectionEnd::Failed(failure) => {
                    if failure.hidden.is_some() && !self.is_briefly_down() {
                        // A refused connection is reported as late as a connection that timed out.
                        let rest = DIAL_TIMEOUT.saturating_sub(started.elapsed());
                        if !self.shows(&failure) && !self.pause(rest).await {
                            return;
                        }
                    }
                    self.lost(&failure, failures)
                }
            };
            if !self.pause(wait).await {
                return;
            }
        }
    }

    /// Publishes a refusal. Returns the wait before the next dial.
    fn refused(&self, refusal: Refusal) -> Duration {
        let wait = match &refusal.kind {
            RefusalKind::PairingRequired(_) => jittered(PAIRING_RETRY),
            // An attempt before the end of the rate limit restarts the limit.
            RefusalKind::RateLimited { retry_after } => retry_after.unwrap_or_default() + jittered(REFUSED_RETRY),
            RefusalKind::BadCredentials
            | RefusalKind::ScopesMissing { .. }
            | RefusalKind::MethodsMissing { .. }
            | RefusalKind::Incompatible
            | RefusalKind::Protocol { .. }
            | RefusalKind::DeviceRejected
            | RefusalKind::Other => jittered(REFUSED_RETRY),
        };
        let same = matches!(&*self.state.borrow(), ConnectionState::Refused(old) if old.same_cause_as(&refusal));
        if !same {
            warn!(url = %self.settings.url, code = refusal.code, message = refusal.message, "the gateway refused the connection");
            self.state.send_replace(ConnectionState::Refused(Arc::new(refusal)));
        }
        wait
    }

    /// Whether the connection was lost only just.
    fn is_briefly_down(&self) -> bool {
        matches!(&*self.state.borrow(), ConnectionState::Down { since, .. } if since.elapsed() < EARLY_DIAL_BACKOFF.0)
    }

    /// Whether the published state has this failure.
    fn shows(&self, failure: &ConnectionFailure) -> bool {
        matches!(&*self.state.borrow(), ConnectionState::Down { error, .. } if **error == *failure.text)
    }

    /// Publishes a lost connection or a failed dial. Returns the wait before the next dial. The error is cleaned, because it
    /// may contain text of the server at the address. A hidden cause does not replace the cause of a loss at once.
    fn lost(&mut self, failure: &ConnectionFailure, failures: u32) -> Duration {
        let error = self.credential_fallback.redactor().text(&clean(&failure.text));
        let hidden = failure.hidden.as_deref().map(clean).unwrap_or_default();
        let cause = failure.cause;
        let (same, since) = match &*self.state.borrow() {
            ConnectionState::Down { error: old, cause: old_cause, since, .. } => {
                (**old == *error && *old_cause == cause, *since)
            }
            ConnectionState::Connecting | ConnectionState::Up(_) | ConnectionState::Refused(_) => {
                (false, Instant::now())
            }
        };
        let is_kept = failure.hidden.is_some() && self.is_briefly_down();
        if hidden != self.memory.logged || !same && !is_kept {
            warn!(url = %self.settings.url, error, cause = hidden, "no connection to the gateway");
            self.memory.logged = hidden;
        }
        if !same && !is_kept {
            self.state.send_replace(ConnectionState::Down { error: error.into(), cause, attempts: failures, since });
        }
        match cause {
            DownCause::Unreachable => {
                let (early, longest_early) = EARLY_DIAL_BACKOFF;
                let longest = if since.elapsed() < early { longest_early } else { DIAL_BACKOFF.1 };
                jittered(doubled(DIAL_BACKOFF.0, longest, failures))
            }
            DownCause::Forbidden => jittered(REFUSED_RETRY),
            DownCause::Misbehaves => jittered(MISBEHAVED_RETRY),
        }
    }

    /// Waits before the next dial, and answers requests with an error meanwhile. Returns `false` when the task has to end.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return false,
                call = self.calls.recv() => match call {
                    // The send fails when the caller has dropped its future.
                    Some(call) => { let _ = call.reply.send(Err(CallError::NotConnected)); }
                    None => return false,
                },
                () = tokio::time::sleep_until(until) => return true,
            }
        }
    }

    /// Opens one connection and serves it until its end.
    async fn connect_once(&mut self) -> ConnectionEnd {
        let opened = tokio::select! {
            biased;
            () = self.closing.cancelled() => return ConnectionEnd::Closing,
            opened = open(&*self.dial, &self.settings) => opened,
        };
        let socket = match opened {
            Err(failure) => return ConnectionEnd::Failed(failure),
            Ok(socket) => socket,
        };
        let (presented, redactor) = (self.credential_fallback.presented(), self.credential_fallback.redactor());
        let session = Session::with(self.settings.clone(), presented, redactor.clone(), Instant::now());
        let mut connection = ActiveConnection::new(socket, session, redactor);
        let end = self.serve(&mut connection).await;
        // The pending requests end with an unknown outcome.
        connection.session.lost();
        connection.finish();
        end
    }

    async fn serve(&mut self, connection: &mut ActiveConnection) -> ConnectionEnd {
        loop {
            match self.drain(connection).await {
                Ok(()) => {}
                Err(end) => return end,
            }
            connection.charge = None;
            connection.fill(self.settings.max_in_flight);
            if connection.has_output() {
                continue;
            }
            let wakeup = connection.session.wakeup();
            connection.socket.get_mut().set_stage(connection.session.stage());
            // Each branch is cancel-safe: a token, a channel, a WebSocket stream and a timer lose nothing when dropped.
            tokio::select! {
                biased;
                () = self.closing.cancelled() => {
                    // Best effort: the gateway notices the closed socket as well.
                    let _ = tokio::time::timeout(SEND_TIMEOUT, connection.socket.close(None)).await;
                    return ConnectionEnd::Closing;
                }
                message = connection.next() => match message {
                    Ok(text) => connection.receive(text),
                    Err(failure) => return ConnectionEnd::Failed(failure),
                },
                call = self.calls.recv() => match call {
                    Some(call) => connection.queue.push_back(call),
                    None => return ConnectionEnd::Closing,
                },
                () = tokio::time::sleep_until(wakeup) => connection.session.tick(Instant::now()),
            }
        }
    }

    /// Executes the outputs of the session.
    async fn drain(&mut self, connection: &mut ActiveConnection) -> Result<(), ConnectionEnd> {
        while let Some(output) = connection.next_output() {
            match output {
                Output::Send(text) => {
                    let write = tokio::time::timeout(SEND_TIMEOUT, connection.socket.send(Message::text(text)));
                    let failed = |text: String| ConnectionEnd::Failed(ConnectionFailure::lost(text));
                    let stuck = |_| failed(format!("the gateway took nothing for {} s", SEND_TIMEOUT.as_secs()));
                    write.await.map_err(stuck)?.map_err(|e| failed(e.to_string()))?;
                }
                Output::Up(hello) => {
                    info!(url = %self.settings.url, version = hello.server_version, protocol = hello.protocol, "connected to the gateway");
                    let credential = self.credential_fallback.accepted(hello.device_token.as_ref());
                    let hello = Arc::new(Hello { credential, ..*hello });
                    // An older version at the same address may refuse the precondition that the newer version accepted.
                    if self
                        .memory
                        .last_hello
                        .replace(Arc::clone(&hello))
                        .is_some_and(|last| !last.same_version_as(&hello))
                    {
                        self.file_hashes.store(false, Ordering::Relaxed);
                    }
                    // The event is sent first: a caller that sees `Up` may request a resync at once.
                    self.send(ConnectionEvent::Up(connection.reporter.clone()));
                    self.state.send_replace(ConnectionState::Up(hello));
                }
                Output::Refused(refusal) => return Err(ConnectionEnd::Refused(refusal)),
                Output::Done { ticket, result } => connection.answer(ticket, result),
                Output::Event { name, payload } => match GatewayEvent::read(&name, &payload) {
                    Ok(Some(event)) => {
                        self.forward(event.size(), |permit| ConnectionEvent::Event { event, _permit: permit });
                    }
                    Ok(None) => {}
                    Err(Exceeded(bound)) => {
                        let bound = format!("in an event {}, {bound}", clean(&name));
                        return Err(ConnectionEnd::Failed(ConnectionFailure::misbehaves(bound)));
                    }
                },
                Output::Gap => self.forward(GAP_SIZE, |permit| ConnectionEvent::Gap { _permit: Some(permit) }),
                Output::Close(why) => return Err(ConnectionEnd::Failed(ConnectionFailure::lost(why))),
                Output::Misbehaves(bound) => return Err(ConnectionEnd::Failed(ConnectionFailure::misbehaves(bound))),
            }
        }
        Ok(())
    }

    /// Sends an event of this size to the informer. Without room in the queue the informer gets one gap instead and reads
    /// everything again.
    fn forward(&mut self, size: usize, event: impl FnOnce(OwnedSemaphorePermit) -> ConnectionEvent) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        match Arc::clone(&self.event_permits).try_acquire_many_owned(size) {
            Ok(permit) => {
                self.memory.queue_full = false;
                self.send(event(permit));
            }
            Err(_) if self.memory.queue_full => {}
            Err(_) => {
                self.memory.queue_full = true;
                self.send(ConnectionEvent::Gap { _permit: None });
            }
        }
    }

    fn send(&self, event: ConnectionEvent) {
        // The informer ends with this task.
        let _ = self.events.send(event);
    }
}

/// The time less up to 50 % of jitter, so that the clients of one gateway do not reconnect together.
fn jittered(time: Duration) -> Duration {
    let mut byte = [0_u8];
    let part = getrandom::fill(&mut byte).map_or(1.0, |()| f64::from(byte[0]) / 255.0);
    time.mul_f64(0.5 + 0.5 * part)
}
