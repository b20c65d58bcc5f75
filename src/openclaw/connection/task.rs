//! The one task that owns the connection: it dials, speaks, and dials again.

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
use crate::openclaw::backoff::doubled;
use crate::openclaw::channel::{Call, ConnectionEvent};
use crate::openclaw::inventory::event::GatewayEvent;
use crate::openclaw::model::{CallError, ConnectionState, Hello, Refusal, RefusalKind, clean};
use crate::openclaw::settings::ConnectionSettings;

/// How long a stream may take to open, the WebSocket included.
const DIAL: Duration = Duration::from_secs(10);
/// How long the gateway may take to accept what is sent to it.
const SEND: Duration = Duration::from_secs(15);
/// The first and the longest wait before dialling again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The longest wait in the first time after the connection was lost, so that a gateway that was merely restarted is found
/// again before anybody makes something of it.
const AT_FIRST: (Duration, Duration) = (Duration::from_mins(1), Duration::from_secs(4));
/// How long to wait after a refusal, which only a person can end.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);
/// How long to wait while a person is asked to approve this device.
const WHILE_PAIRING: Duration = Duration::from_secs(5);

/// What the task works with.
pub(crate) struct ConnectionTask {
    pub(crate) settings: ConnectionSettings,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) calls: mpsc::Receiver<Call>,
    pub(crate) told: mpsc::UnboundedSender<ConnectionEvent>,
    pub(crate) link: watch::Sender<ConnectionState>,
    pub(crate) closing: CancellationToken,
    /// The places of `limits::EVENTS` that are free in the queue.
    pub(crate) places: Arc<Semaphore>,
    /// Whether an event found no place, and none has found one since.
    pub(crate) full: bool,
    /// Whether the gateway was seen to hash files.
    pub(crate) hashes: Arc<AtomicBool>,
    /// What the gateway said when it let this client in last.
    pub(crate) last: Option<Arc<Hello>>,
    /// What it presents.
    pub(crate) login: CredentialFallback,
}

/// How one connection ended.
enum End {
    Refused(Refusal),
    Lost(String),
    Closing,
}

impl ConnectionTask {
    /// Runs until it is told to close, or until the last handle is gone.
    pub(crate) async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            let end = self.once().await;
            let was_up = matches!(*self.link.borrow(), ConnectionState::Up(_));
            // The informer ends with this task.
            let _ = self.told.send(ConnectionEvent::Down);
            failures = if was_up && begun.elapsed() > BACKOFF.1 { 1 } else { failures.saturating_add(1) };
            let wait = match end {
                End::Closing => return,
                End::Refused(refusal) => match self.login.refused(refusal) {
                    Some(refusal) => self.refused(refusal),
                    // The other credential is tried at once.
                    None => Duration::ZERO,
                },
                End::Lost(error) => self.lost(&error, failures),
            };
            if !self.pause(wait).await {
                return;
            }
        }
    }

    fn refused(&self, refusal: Refusal) -> Duration {
        let wait = match &refusal.kind {
            RefusalKind::PairingRequired(_) => jittered(WHILE_PAIRING),
            // What the gateway asks for is the least: a try before its end begins the time anew.
            RefusalKind::RateLimited { retry_after } => retry_after.unwrap_or_default() + jittered(AFTER_REFUSAL),
            RefusalKind::BadCredentials
            | RefusalKind::ScopesMissing { .. }
            | RefusalKind::MethodsMissing { .. }
            | RefusalKind::Incompatible
            | RefusalKind::Protocol { .. }
            | RefusalKind::DeviceRejected
            | RefusalKind::Other => jittered(AFTER_REFUSAL),
        };
        let same = matches!(&*self.link.borrow(), ConnectionState::Refused(old) if old.is_the_same_as(&refusal));
        if !same {
            warn!(url = %self.settings.url, code = refusal.code, message = refusal.message, "the gateway refused the connection");
            self.link.send_replace(ConnectionState::Refused(Arc::new(refusal)));
        }
        wait
    }

    /// Takes note that there is no connection. The reason may hold words of whatever answers at the address.
    fn lost(&self, error: &str, failures: u32) -> Duration {
        let error = clean(error);
        let (same, since) = match &*self.link.borrow() {
            ConnectionState::Down { error: old, since, .. } => (**old == *error, *since),
            ConnectionState::Connecting | ConnectionState::Up(_) | ConnectionState::Refused(_) => {
                (false, Instant::now())
            }
        };
        if !same {
            warn!(url = %self.settings.url, error, "no connection to the gateway");
            self.link.send_replace(ConnectionState::Down { error: error.into(), attempts: failures, since });
        }
        let longest = if since.elapsed() < AT_FIRST.0 { AT_FIRST.1 } else { BACKOFF.1 };
        jittered(doubled((BACKOFF.0, longest), failures))
    }

    /// Waits before dialling again; requests are answered at once meanwhile. False when there is nothing left to do.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return false,
                call = self.calls.recv() => match call {
                    // Nobody waits any more when this fails.
                    Some(call) => { let _ = call.reply.send(Err(CallError::NotConnected)); }
                    None => return false,
                },
                () = tokio::time::sleep_until(until) => return true,
            }
        }
    }

    /// One connection, from the dial to its end.
    async fn once(&mut self) -> End {
        let opened = tokio::select! {
            biased;
            () = self.closing.cancelled() => return End::Closing,
            opened = tokio::time::timeout(DIAL, open(&*self.dial, &self.settings)) => opened,
        };
        let socket = match opened {
            Err(_) => return End::Lost(format!("no connection within {} s", DIAL.as_secs())),
            Ok(Err(error)) => return End::Lost(error),
            Ok(Ok(socket)) => socket,
        };
        let mut talk = Talk {
            socket,
            session: Session::with(self.settings.clone(), self.login.presented(), Instant::now()),
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            ticket: 0,
            charge: None,
            held: None,
        };
        let end = self.talk(&mut talk).await;
        talk.session.lost();
        talk.finish();
        end
    }

    async fn talk(&mut self, talk: &mut Talk) -> End {
        loop {
            match self.drain(talk).await {
                Ok(()) => {}
                Err(end) => return end,
            }
            talk.charge = None;
            talk.fill(self.settings.max_in_flight);
            if talk.has_output() {
                continue;
            }
            let wakeup = talk.session.wakeup();
            talk.socket.get_mut().set_stage(talk.session.stage());
            // Each branch is cancel-safe: a token, a channel, a WebSocket stream and a timer lose nothing when dropped.
            tokio::select! {
                biased;
                () = self.closing.cancelled() => {
                    // Best effort: the gateway notices a closed socket as well.
                    let _ = tokio::time::timeout(SEND, talk.socket.close(None)).await;
                    return End::Closing;
                }
                message = talk.message() => match incoming(message) {
                    Ok(text) => talk.receive(text),
                    Err(why) => return End::Lost(why),
                },
                call = self.calls.recv() => match call {
                    Some(call) => talk.queue.push_back(call),
                    None => return End::Closing,
                },
                () = tokio::time::sleep_until(wakeup) => talk.session.tick(Instant::now()),
            }
        }
    }

    /// Does what the session wants done.
    async fn drain(&mut self, talk: &mut Talk) -> Result<(), End> {
        while let Some(output) = talk.next_output() {
            match output {
                Output::Send(text) => {
                    let sending = tokio::time::timeout(SEND, talk.socket.send(Message::text(text)));
                    let stuck = |_| End::Lost(format!("the gateway took nothing for {} s", SEND.as_secs()));
                    sending.await.map_err(stuck)?.map_err(|e| End::Lost(e.to_string()))?;
                }
                Output::Up(hello) => {
                    info!(url = %self.settings.url, version = hello.server_version, protocol = hello.protocol, "connected to the gateway");
                    let credential = self.login.accepted(hello.device_token.as_ref());
                    let hello = Arc::new(Hello { credential, ..*hello });
                    // An older version in its place refuses the precondition that the newer one took.
                    if self.last.replace(Arc::clone(&hello)).is_some_and(|last| !last.is_of_the_version_of(&hello)) {
                        self.hashes.store(false, Ordering::Relaxed);
                    }
                    // Told first: who sees the link up may ask at once for what the gateway has.
                    self.tell(ConnectionEvent::Up);
                    self.link.send_replace(ConnectionState::Up(hello));
                }
                Output::Refused(refusal) => return Err(End::Refused(refusal)),
                Output::Done { ticket, result } => talk.answer(ticket, result),
                Output::Event { name, payload } => self.hear(&name, &payload),
                Output::Gap => self.tell(ConnectionEvent::Gap),
                Output::Close(why) => return Err(End::Lost(why)),
            }
        }
        Ok(())
    }

    /// Passes on what an event says. When there is no place for it, everything is read anew instead.
    fn hear(&mut self, name: &str, payload: &RawValue) {
        let Some(event) = GatewayEvent::read(name, payload) else { return };
        let size = u32::try_from(event.size()).unwrap_or(u32::MAX);
        match Arc::clone(&self.places).try_acquire_many_owned(size) {
            Ok(permit) => {
                self.full = false;
                self.tell(ConnectionEvent::Event { event, _permit: permit });
            }
            Err(_) if self.full => {}
            Err(_) => {
                self.full = true;
                self.tell(ConnectionEvent::Gap);
            }
        }
    }

    fn tell(&self, told: ConnectionEvent) {
        // The informer ends with this task.
        let _ = self.told.send(told);
    }
}

/// One connection's socket, conversation and requests.
struct Talk {
    socket: Socket,
    session: Session,
    waiting: HashMap<u64, oneshot::Sender<Result<Payload, CallError>>>,
    queue: VecDeque<Call>,
    ticket: u64,
    /// The part of the budget that belongs to the message at hand.
    charge: Option<Charge>,
    /// The message before, until the socket was looked at again.
    held: Option<Utf8Bytes>,
}

impl Talk {
    /// The next message. Cancel-safe: nothing is awaited once there is one.
    ///
    /// The WebSocket reads into the memory of the message before when nobody else has it, and would keep as much as the
    /// longest message had.
    async fn message(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        let held = self.held.take();
        let at_once = self.socket.next().now_or_never();
        drop(held);
        match at_once {
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

    /// Passes queued requests on, as many as may be open at one time. One whose asker has gone is not sent.
    fn fill(&mut self, most: usize) {
        while self.waiting.len() < most {
            let Some(call) = self.queue.pop_front() else { return };
            if call.reply.is_closed() {
                continue;
            }
            self.ticket += 1;
            self.waiting.insert(self.ticket, call.reply);
            self.session.request(self.ticket, call.method, &call.params, call.allowed, Instant::now());
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
            // Nobody waits any more when this fails.
            let _ = reply.send(result.map(|raw| Payload::new(raw, self.charge.take())));
        }
    }

    /// Answers everybody who still waits.
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

/// Between half of the time and all of it, so that clients of one gateway do not come back together.
fn jittered(time: Duration) -> Duration {
    let mut byte = [0_u8];
    let part = getrandom::fill(&mut byte).map_or(1.0, |()| f64::from(byte[0]) / 255.0);
    time.mul_f64(0.5 + 0.5 * part)
}
