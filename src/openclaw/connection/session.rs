//! The protocol of one connection, without I/O: handshake, ids, pending requests, deadlines, gaps.
//!
//! The inputs are texts and the time as an [`Instant`]; the outputs are [`Output`]s. So tests can check each order of frames
//! without a socket and without a runtime.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::frame::Incoming;
use super::handshake::connect;
use super::inflow::Inflow;
use super::redaction::Redactor;
use crate::openclaw::connection::frame;
use crate::openclaw::limits::{PRE_AUTH_MESSAGE, Stage};
use crate::openclaw::model::error::ErrorShape;
use crate::openclaw::model::{CallError, Hello, Refusal};
use crate::openclaw::settings::{ConnectionSettings, PresentedCredential};

/// The timeout of the handshake, from the opened socket to the hello.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// An action for the owner of the session.
#[derive(Debug)]
pub enum Output {
    /// Send this text.
    Send(String),
    /// The gateway accepted this client.
    Up(Box<Hello>),
    /// The gateway refused this client.
    Refused(Refusal),
    /// The request with this ticket ended.
    Done {
        /// The ticket that the caller gave to [`Session::request`].
        ticket: u64,
        /// The answer as raw JSON.
        result: Result<Box<RawValue>, CallError>,
    },
    /// The gateway sent an event.
    Event {
        /// The name of the event.
        name: String,
        /// The payload as raw JSON.
        payload: Box<RawValue>,
    },
    /// Events were lost. The client has to read everything again.
    Gap,
    /// The connection has to be closed, for this cause.
    Close(String),
    /// The connection has to be closed, because the gateway exceeded this bound.
    Misbehaves(String),
}

/// The state of the handshake.
#[derive(Debug)]
enum SessionState {
    /// The socket is open.
    AwaitingChallenge,
    /// The client has sent `connect`.
    AwaitingHello,
    /// The handshake is complete.
    Up,
    /// The session sends and accepts no more frames.
    Closed,
}

/// The payload of `connect.challenge`, the gateway's first event.
#[derive(Deserialize)]
struct Challenge {
    nonce: String,
    ts: i64,
}

/// A request without an answer.
#[derive(Debug)]
struct PendingRequest {
    ticket: u64,
    timeout: Duration,
    deadline: Instant,
}

/// The protocol state of one connection.
#[derive(Debug)]
pub struct Session {
    settings: ConnectionSettings,
    presented: PresentedCredential,
    redactor: Redactor,
    inflow: Inflow,
    state: SessionState,
    pending: BTreeMap<String, PendingRequest>,
    last_id: u64,
    handshake_deadline: Instant,
    last_received: Instant,
    tick: Duration,
    last_seq: Option<u64>,
    /// The gateway's limit for a request, in bytes.
    max_request: usize,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session over a socket that was just opened, with the shared credential.
    #[must_use]
    pub fn new(settings: ConnectionSettings, now: Instant) -> Self {
        let shared = PresentedCredential::Shared(settings.auth.clone());
        let redactor = Redactor::new(settings.secrets());
        Self::with(settings, shared, redactor, now)
    }

    /// A session with this credential. The texts of the session have no credential of `redactor`.
    #[must_use]
    pub(crate) fn with(
        settings: ConnectionSettings,
        presented: PresentedCredential,
        redactor: Redactor,
        now: Instant,
    ) -> Self {
        Self {
            settings,
            presented,
            redactor,
            inflow: Inflow::default(),
            state: SessionState::AwaitingChallenge,
            pending: BTreeMap::new(),
            last_id: 0,
            handshake_deadline: now + HANDSHAKE_TIMEOUT,
            last_received: now,
            tick: Duration::from_secs(30),
            last_seq: None,
            max_request: 512 * 1024,
            outputs: VecDeque::new(),
        }
    }

    /// Takes the next output.
    pub fn output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether an output is ready.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Sends a request. [`Output::Done`] with the ticket follows, at the latest after `timeout`.
    pub fn request(&mut self, ticket: u64, method: &str, params: &Value, timeout: Duration, now: Instant) {
        if !matches!(self.state, SessionState::Up) {
            self.outputs.push_back(Output::Done { ticket, result: Err(CallError::NotConnected) });
            return;
        }
        self.last_id += 1;
        let id = self.last_id.to_string();
        let text = frame::request(&id, method, params);
        if text.len() > self.max_request {
            let error = CallError::TooLarge { size: text.len(), limit: self.max_request };
            self.outputs.push_back(Output::Done { ticket, result: Err(error) });
            return;
        }
        self.pending.insert(id, PendingRequest { ticket, timeout, deadline: now + timeout });
        self.outputs.push_back(Output::Send(text));
    }

    /// Receives a text from the gateway.
    pub fn receive(&mut self, text: &str, now: Instant) {
        if matches!(self.state, SessionState::Closed) {
            return;
        }
        self.last_received = now;
        let frame = frame::parse(text);
        let answers_connect = matches!(self.state, SessionState::AwaitingHello)
            && matches!(&frame, Ok(Incoming::Response { id, .. }) if id == CONNECT_ID);
        if text.len() > PRE_AUTH_MESSAGE && !matches!(self.state, SessionState::Up) && !answers_connect {
            let size = text.len();
            return self.misbehaves(&format!(
                "the gateway sent a message of {size} bytes, and before the login Muster reads at most {PRE_AUTH_MESSAGE} bytes"
            ));
        }
        let is_requested = match &frame {
            Ok(Incoming::Response { id, .. }) => answers_connect || self.pending.contains_key(id),
            Ok(Incoming::Event { .. } | Incoming::Unknown) | Err(_) => false,
        };
        if !is_requested && !self.count_unrequested(text.len(), now) {
            return;
        }
        match frame {
            Ok(Incoming::Response { id, result }) => self.response(&id, result),
            Ok(Incoming::Event { name, payload, seq }) => self.event(&name, payload, seq),
            Ok(Incoming::Unknown) => {}
            Err(error) => self.close(&format!("the gateway sent a text that is not a frame: {error}")),
        }
    }

    /// Receives a message without text from the gateway: a ping, or bytes.
    pub fn receive_other(&mut self, now: Instant) {
        if !matches!(self.state, SessionState::Closed) {
            self.count_unrequested(0, now);
        }
    }

    /// Counts a message that no request asked for. Returns `false` when the gateway sent too many, and ends the session.
    fn count_unrequested(&mut self, bytes: usize, now: Instant) -> bool {
        let counted = self.inflow.count(bytes, matches!(self.state, SessionState::Up), now);
        counted.map_err(|bound| self.misbehaves(&bound)).is_ok()
    }

    fn response(&mut self, id: &str, result: Result<&RawValue, ErrorShape>) {
        if let Some(bound) = result.as_ref().err().and_then(ErrorShape::exceeded_wait) {
            return self.misbehaves(&bound);
        }
        let result = result.map_err(|error| self.redactor.error(error));
        match self.state {
            SessionState::AwaitingHello if id == CONNECT_ID => self.finish_handshake(result),
            SessionState::Up => {
                // A second answer, and an answer after the deadline, match no pending request.
                if let Some(pending) = self.pending.remove(id) {
                    let result = result.map(ToOwned::to_owned).map_err(|e| CallError::Gateway(Box::new(e)));
                    self.outputs.push_back(Output::Done { ticket: pending.ticket, result });
                }
            }
            SessionState::AwaitingChallenge | SessionState::AwaitingHello | SessionState::Closed => {}
        }
    }

    fn finish_handshake(&mut self, result: Result<&RawValue, ErrorShape>) {
        let refusal = match result {
            Ok(payload) => match Hello::read(payload) {
                Ok(hello) => {
                    hello.device_token.iter().for_each(|issued| self.redactor.add(issued));
                    let hello = self.redactor.hello(hello);
                    self.state = SessionState::Up;
                    self.tick = hello.tick.max(Duration::from_secs(1));
                    self.max_request = hello.max_payload;
                    self.outputs.push_back(Output::Up(Box::new(hello)));
                    return;
                }
                Err(refusal) => Some(refusal),
            },
            Err(error) => match Refusal::read(&error) {
                Some(refusal) => Some(refusal),
                None => return self.close(&format!("the gateway is not ready: {}", error.message)),
            },
        };
        if let Some(refusal) = refusal {
            self.state = SessionState::Closed;
            self.outputs.push_back(Output::Refused(self.redactor.refusal(refusal)));
        }
    }

    fn event(&mut self, name: &str, payload: &RawValue, seq: Option<u64>) {
        if let (SessionState::AwaitingChallenge, "connect.challenge") = (&self.state, name) {
            return self.answer_challenge(payload);
        }
        if !matches!(self.state, SessionState::Up) {
            return;
        }
        if let Some(seq) = seq {
            match self.last_seq {
                Some(last) if seq <= last => return,
                Some(last) if seq > last + 1 => self.outputs.push_back(Output::Gap),
                Some(_) | None => {}
            }
            self.last_seq = Some(seq);
        }
        self.outputs.push_back(Output::Event { name: name.to_owned(), payload: payload.to_owned() });
    }

    fn answer_challenge(&mut self, challenge: &RawValue) {
        let Ok(Challenge { nonce, ts }) = serde_json::from_str(challenge.get()) else {
            return self.close("the gateway's challenge has no nonce or no time");
        };
        let params = connect(&self.settings, &self.presented, &nonce, ts);
        self.outputs.push_back(Output::Send(frame::request(CONNECT_ID, "connect", &params)));
        self.state = SessionState::AwaitingHello;
    }

    /// The stage of the connection, which bounds the length of messages.
    #[must_use]
    pub(crate) fn stage(&self) -> Stage {
        match self.state {
            SessionState::AwaitingChallenge => Stage::Challenge,
            SessionState::AwaitingHello => Stage::Connect,
            SessionState::Up | SessionState::Closed => Stage::Open,
        }
    }

    /// The latest time for the next call of [`Self::tick`].
    #[must_use]
    pub fn wakeup(&self) -> Instant {
        let base = match self.state {
            SessionState::Up | SessionState::Closed => self.last_received + self.tick * 2,
            SessionState::AwaitingChallenge | SessionState::AwaitingHello => self.handshake_deadline,
        };
        self.pending.values().map(|p| p.deadline).fold(base, Instant::min)
    }

    /// Ends overdue requests, an overdue handshake, and a connection without messages for two tick intervals.
    pub fn tick(&mut self, now: Instant) {
        let overdue: Vec<_> =
            self.pending.iter().filter(|(_, p)| p.deadline <= now).map(|(id, _)| id.clone()).collect();
        for pending in overdue.iter().filter_map(|id| self.pending.remove(id)) {
            let result = Err(CallError::Deadline(pending.timeout));
            self.outputs.push_back(Output::Done { ticket: pending.ticket, result });
        }
        match self.state {
            SessionState::AwaitingChallenge | SessionState::AwaitingHello if self.handshake_deadline <= now => {
                self.close(&format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()));
            }
            SessionState::Up if self.last_received + self.tick * 2 <= now => {
                self.close(&format!("the gateway sent nothing for {} s", (self.tick * 2).as_secs()));
            }
            SessionState::AwaitingChallenge | SessionState::AwaitingHello | SessionState::Up | SessionState::Closed => {
            }
        }
    }

    /// Ends the session after the loss of its connection. The pending requests end with an unknown outcome.
    pub fn lost(&mut self) {
        self.state = SessionState::Closed;
        for (_, pending) in std::mem::take(&mut self.pending) {
            self.outputs.push_back(Output::Done { ticket: pending.ticket, result: Err(CallError::Interrupted) });
        }
    }

    /// The cause may repeat what the gateway sent: `serde_json` quotes a text in the place of a frame.
    fn close(&mut self, why: &str) {
        self.state = SessionState::Closed;
        self.outputs.push_back(Output::Close(self.redactor.text(why)));
    }

    fn misbehaves(&mut self, bound: &str) {
        self.state = SessionState::Closed;
        self.outputs.push_back(Output::Misbehaves(self.redactor.text(bound)));
    }
}

/// The id of the `connect` request. Other requests have numbers.
const CONNECT_ID: &str = "connect";
