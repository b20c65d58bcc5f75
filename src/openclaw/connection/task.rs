//! The task that owns the connection: it dials the gateway, serves the connection, and dials again after its end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::credential_fallback::CredentialFallback;
use super::metered::Charge;
use super::payload::Payload;
use super::session::{Output, Session};
use super::socket::{Socket, incoming, open};
use super::transport::Dial;
use crate::backoff::doubled;
use crate::openclaw::channel::{Call, ConnectionEvent};
use crate::openclaw::inventory::event::GatewayEvent;
use crate::openclaw::model::{CallError, ConnectionState, Hello, Refusal, RefusalKind, clean};
use crate::openclaw::settings::ConnectionSettings;

/// The timeout of a dial, the WebSocket upgrade included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
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
/// The wait while a person has to approve this device.
const PAIRING_RETRY: Duration = Duration::from_secs(5);

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
    /// Whether the last event found no room in the queue.
    pub(crate) queue_full: bool,
    /// Whether an answer of the gateway had a file hash.
    pub(crate) file_hashes: Arc<AtomicBool>,
    /// The hello of the last connection.
    pub(crate) last_hello: Option<Arc<Hello>>,
    pub(crate) credential_fallback: CredentialFallback,
}

/// The end of a connection.
enum ConnectionEnd {
    Refused(Refusal),
    Lost(String),
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
                ConnectionEnd::Lost(error) => self.lost(&error, failures),
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

    /// Publishes a lost connection or a failed dial. Returns the wait before the next dial. The error is cleaned, because it
    /// may contain text of the server at the address.
    fn lost(&self, error: &str, failures: u32) -> Duration {
        let error = clean(error);
        let (same, since) = match &*self.state.borrow() {
            ConnectionState::Down { error: old, since, .. } => (**old == *error, *since),
            ConnectionState::Connecting | ConnectionState::Up(_) | ConnectionState::Refused(_) => {
                (false, Instant::now())
            }
        };
        if !same {
            warn!(url = %self.settings.url, error, "no connection to the gateway");
            self.state.send_replace(ConnectionState::Down { error: error.into(), attempts: failures, since });
        }
        let (early, longest_early) = EARLY_DIAL_BACKOFF;
        let longest = if since.elapsed() < early { longest_early } else { DIAL_BACKOFF.1 };
        jittered(doubled(DIAL_BACKOFF.0, longest, failures))
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
            opened = tokio::time::timeout(DIAL_TIMEOUT, open(&*self.dial, &self.settings)) => opened,
        };
        let socket = match opened {
            Err(_) => return ConnectionEnd::Lost(format!("no connection within {} s", DIAL_TIMEOUT.as_secs())),
            Ok(Err(error)) => return ConnectionEnd::Lost(error),
            Ok(Ok(socket)) => socket,
        };
        let mut connection = ActiveConnection {
            socket,
            session: Session::with(self.settings.clone(), self.credential_fallback.presented(), Instant::now()),
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            ticket: 0,
            charge: None,
            held: None,
        };
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
                message = connection.message() => match incoming(message) {
                    Ok(text) => connection.receive(text),
                    Err(why) => return ConnectionEnd::Lost(why),
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
                    let stuck =
                        |_| ConnectionEnd::Lost(format!("the gateway took nothing for {} s", SEND_TIMEOUT.as_secs()));
                    write.await.map_err(stuck)?.map_err(|e| ConnectionEnd::Lost(e.to_string()))?;
                }
                Output::Up(hello) => {
                    info!(url = %self.settings.url, version = hello.server_version, protocol = hello.protocol, "connected to the gateway");
                    let credential = self.credential_fallback.accepted(hello.device_token.as_ref());
                    let hello = Arc::new(Hello { credential, ..*hello });
                    // An older version at the same address may refuse the precondition that the newer version accepted.
                    if self.last_hello.replace(Arc::clone(&hello)).is_some_and(|last| !last.same_version_as(&hello)) {
                        self.file_hashes.store(false, Ordering::Relaxed);
                    }
                    // The event is sent first: a caller that sees `Up` may request a resync at once.
                    self.send(ConnectionEvent::Up);
                    self.state.send_replace(ConnectionState::Up(hello));
                }
                Output::Refused(refusal) => return Err(ConnectionEnd::Refused(refusal)),
                Output::Done { ticket, result } => connection.answer(ticket, result),
                Output::Event { name, payload } => self.forward_event(&name, &payload),
                Output::Gap => self.send(ConnectionEvent::Gap),
                Output::Close(why) => return Err(ConnectionEnd::Lost(why)),
            }
        }
        Ok(())
    }

    /// Sends an event to the informer. Without room in the queue the informer gets a gap instead and reads everything again.
    fn forward_event(&mut self, name: &str, payload: &RawValue) {
        let Some(event) = GatewayEvent::read(name, payload) else { return };
        let size = u32::try_from(event.size()).unwrap_or(u32::MAX);
        match Arc::clone(&self.event_permits).try_acquire_many_owned(size) {
            Ok(permit) => {
                self.queue_full = false;
                self.send(ConnectionEvent::Event { event, _permit: permit });
            }
            Err(_) if self.queue_full => {}
            Err(_) => {
                self.queue_full = true;
                self.send(ConnectionEvent::Gap);
            }
        }
    }

    fn send(&self, event: ConnectionEvent) {
        // The informer ends with this task.
        let _ = self.events.send(event);
    }
}

/// The socket, the session and the requests of one connection.
struct ActiveConnection {
    socket: Socket,
    session: Session,
    waiting: HashMap<u64, oneshot::Sender<Result<Payload, CallError>>>,
    queue: VecDeque<Call>,
    ticket: u64,
    /// The budget share of the current message.
    charge: Option<Charge>,
    /// The previous message, until the next poll of the socket.
    held: Option<Utf8Bytes>,
}

impl ActiveConnection {
    /// The next message. Cancel-safe: the future ends with the message and awaits nothing after it.
    ///
    /// The WebSocket reuses the buffer of the previous message unless another owner holds it, and would keep a buffer of the
    /// longest message. So the task holds the previous message during the poll.
    async fn message(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        let held = self.held.take();
        let ready = self.socket.next().now_or_never();
        drop(held);
        match ready {
            Some(message) => message,
            None => self.socket.next().await,
        }
    }

    fn receive(&mut self, text: Option<Utf8Bytes>) {
        self.charge = self.socket.get_mut().take_charge();
        if let Some(text) = &text {
            self.session.receive(text, Instant::now());
        }
        self.held = text;
    }

    /// Sends queued requests up to `max_in_flight` pending requests. A request whose caller has dropped its future is not sent.
    fn fill(&mut self, max_in_flight: usize) {
        while self.waiting.len() < max_in_flight {
            let Some(call) = self.queue.pop_front() else { return };
            if call.reply.is_closed() {
                continue;
            }
            self.ticket += 1;
            self.waiting.insert(self.ticket, call.reply);
            self.session.request(self.ticket, call.method, &call.params, call.timeout, Instant::now());
        }
    }

    fn next_output(&mut self) -> Option<Output> {
        self.session.output()
    }

    fn has_output(&mut self) -> bool {
        self.session.has_output()
    }

    fn answer(&mut self, ticket: u64, result: Result<Box<RawValue>, CallError>) {
        if let Some(reply) = self.waiting.remove(&ticket) {
            // The send fails when the caller has dropped its future.
            let _ = reply.send(result.map(|raw| Payload::new(raw, self.charge.take())));
        }
    }

    /// Answers all requests that still wait.
    fn finish(&mut self) {
        while let Some(output) = self.session.output() {
            if let Output::Done { ticket, result } = output {
                self.answer(ticket, result);
            }
        }
        for call in self.queue.drain(..) {
            let _ = call.reply.send(Err(CallError::NotConnected));
        }
    }
}

/// The time less up to 50 % of jitter, so that the clients of one gateway do not reconnect together.
fn jittered(time: Duration) -> Duration {
    let mut byte = [0_u8];
    let part = getrandom::fill(&mut byte).map_or(1.0, |()| f64::from(byte[0]) / 255.0);
    time.mul_f64(0.5 + 0.5 * part)
}
