//! One connection's conversation, without I/O: handshake, ids, the table of pending requests, deadlines, gaps.
//!
//! Bytes go in as text, time as an [`Instant`]; what is to be done comes out as [`Output`]s. So every order of frames
//! can be tested without a socket and without a runtime.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::frame::Incoming;
use super::handshake::connect;
use crate::openclaw::connection::frame;
use crate::openclaw::limits::{EARLY_MESSAGE, Stage};
use crate::openclaw::model::error::ErrorShape;
use crate::openclaw::model::{CallError, Hello, Refusal};
use crate::openclaw::settings::{ConnectionSettings, Presented};

/// How long the gateway has from the opened socket to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Send this text.
    Send(String),
    /// The gateway let this client in.
    Up(Box<Hello>),
    /// The gateway did not let this client in.
    Refused(Refusal),
    /// The request with this ticket ended.
    Done {
        /// The number that [`Session::request`] gave.
        ticket: u64,
        /// The answer, unread.
        result: Result<Box<RawValue>, CallError>,
    },
    /// The gateway told something.
    Event {
        /// Its name.
        name: String,
        /// What it says, unread.
        payload: Box<RawValue>,
    },
    /// Events were lost: everything that is known has to be read again.
    Gap,
    /// The connection is of no use any more; why.
    Close(String),
}

#[derive(Debug)]
enum State {
    /// The socket is open; the gateway's challenge has not come.
    Waiting,
    /// `connect` was sent.
    Introduced,
    /// The handshake is done.
    Up,
    /// Nothing more is said.
    Closed,
}

/// With what the gateway begins.
#[derive(Deserialize)]
struct Challenge {
    nonce: String,
    ts: i64,
}

#[derive(Debug)]
struct Pending {
    ticket: u64,
    allowed: Duration,
    deadline: Instant,
}

/// One connection's conversation.
#[derive(Debug)]
pub struct Session {
    settings: ConnectionSettings,
    presented: Presented,
    state: State,
    pending: BTreeMap<String, Pending>,
    next: u64,
    handshake_until: Instant,
    heard: Instant,
    tick: Duration,
    last_seq: Option<u64>,
    longest: usize,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A conversation over a socket that was just opened, begun with the shared credential.
    #[must_use]
    pub fn new(settings: ConnectionSettings, now: Instant) -> Self {
        let shared = Presented::Shared(settings.auth.clone());
        Self::with(settings, shared, now)
    }

    /// A conversation that is begun with this credential.
    #[must_use]
    pub(crate) fn with(settings: ConnectionSettings, presented: Presented, now: Instant) -> Self {
        Self {
            settings,
            presented,
            state: State::Waiting,
            pending: BTreeMap::new(),
            next: 0,
            handshake_until: now + HANDSHAKE,
            heard: now,
            tick: Duration::from_secs(30),
            last_seq: None,
            longest: 512 * 1024,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to be done.
    pub fn output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether there is something to be done.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Asks something. The answer comes as [`Output::Done`] with the ticket.
    pub fn request(&mut self, ticket: u64, method: &str, params: &Value, allowed: Duration, now: Instant) {
        if !matches!(self.state, State::Up) {
            self.outputs.push_back(Output::Done { ticket, result: Err(CallError::NotConnected) });
            return;
        }
        self.next += 1;
        let id = self.next.to_string();
        let text = frame::request(&id, method, params);
        if text.len() > self.longest {
            let error = CallError::TooLarge { size: text.len(), limit: self.longest };
            self.outputs.push_back(Output::Done { ticket, result: Err(error) });
            return;
        }
        self.pending.insert(id, Pending { ticket, allowed, deadline: now + allowed });
        self.outputs.push_back(Output::Send(text));
    }

    /// Takes a text from the gateway.
    pub fn receive(&mut self, text: &str, now: Instant) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.heard = now;
        let frame = frame::parse(text);
        let answers_connect = matches!(self.state, State::Introduced)
            && matches!(&frame, Ok(Incoming::Response { id, .. }) if id == CONNECT_ID);
        if text.len() > EARLY_MESSAGE && !matches!(self.state, State::Up) && !answers_connect {
            let size = text.len();
            return self.close(format!(
                "the gateway sent a message of {size} bytes, and before the login Muster reads at most {EARLY_MESSAGE} bytes"
            ));
        }
        match frame {
            Ok(Incoming::Response { id, result }) => self.response(&id, result),
            Ok(Incoming::Event { name, payload, seq }) => self.event(&name, payload, seq),
            Ok(Incoming::Unknown) => {}
            Err(error) => self.close(format!("the gateway sent something that is no frame: {error}")),
        }
    }

    fn response(&mut self, id: &str, result: Result<&RawValue, ErrorShape>) {
        match self.state {
            State::Introduced if id == CONNECT_ID => self.introduced(result),
            State::Up => {
                // An answer that comes twice, or after its deadline, belongs to nobody any more.
                if let Some(pending) = self.pending.remove(id) {
                    let result = result.map(ToOwned::to_owned).map_err(|e| CallError::Gateway(Box::new(e)));
                    self.outputs.push_back(Output::Done { ticket: pending.ticket, result });
                }
            }
            State::Waiting | State::Introduced | State::Closed => {}
        }
    }

    fn introduced(&mut self, result: Result<&RawValue, ErrorShape>) {
        let refusal = match result {
            Ok(payload) => match Hello::read(payload) {
                Ok(hello) => {
                    self.state = State::Up;
                    self.tick = hello.tick.max(Duration::from_secs(1));
                    self.longest = hello.max_payload;
                    self.outputs.push_back(Output::Up(Box::new(hello)));
                    return;
                }
                Err(refusal) => Some(refusal),
            },
            Err(error) => match Refusal::read(&error) {
                Some(refusal) => Some(refusal),
                None => return self.close(format!("the gateway is not ready: {}", error.message)),
            },
        };
        if let Some(refusal) = refusal {
            self.state = State::Closed;
            self.outputs.push_back(Output::Refused(refusal));
        }
    }

    fn event(&mut self, name: &str, payload: &RawValue, seq: Option<u64>) {
        if let (State::Waiting, "connect.challenge") = (&self.state, name) {
            return self.introduce(payload);
        }
        if !matches!(self.state, State::Up) {
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

    fn introduce(&mut self, challenge: &RawValue) {
        let Ok(Challenge { nonce, ts }) = serde_json::from_str(challenge.get()) else {
            return self.close("the gateway's challenge has no nonce or no time".into());
        };
        let params = connect(&self.settings, &self.presented, &nonce, ts);
        self.outputs.push_back(Output::Send(frame::request(CONNECT_ID, "connect", &params)));
        self.state = State::Introduced;
    }

    /// How far the conversation is.
    #[must_use]
    pub(crate) fn stage(&self) -> Stage {
        match self.state {
            State::Waiting => Stage::Challenge,
            State::Introduced => Stage::Connect,
            State::Up | State::Closed => Stage::Open,
        }
    }

    /// When [`Self::tick`] is to be called at the latest.
    #[must_use]
    pub fn wakeup(&self) -> Instant {
        let base = match self.state {
            State::Up | State::Closed => self.heard + self.tick * 2,
            State::Waiting | State::Introduced => self.handshake_until,
        };
        self.pending.values().map(|p| p.deadline).fold(base, Instant::min)
    }

    /// Ends what is overdue.
    pub fn tick(&mut self, now: Instant) {
        let overdue: Vec<_> =
            self.pending.iter().filter(|(_, p)| p.deadline <= now).map(|(id, _)| id.clone()).collect();
        for pending in overdue.iter().filter_map(|id| self.pending.remove(id)) {
            let result = Err(CallError::Deadline(pending.allowed));
            self.outputs.push_back(Output::Done { ticket: pending.ticket, result });
        }
        match self.state {
            State::Waiting | State::Introduced if self.handshake_until <= now => {
                self.close(format!("no handshake within {} s", HANDSHAKE.as_secs()));
            }
            State::Up if self.heard + self.tick * 2 <= now => {
                self.close(format!("nothing was heard for {} s", (self.tick * 2).as_secs()));
            }
            State::Waiting | State::Introduced | State::Up | State::Closed => {}
        }
    }

    /// The connection is gone: every pending request ends with an unknown outcome.
    pub fn lost(&mut self) {
        self.state = State::Closed;
        for (_, pending) in std::mem::take(&mut self.pending) {
            self.outputs.push_back(Output::Done { ticket: pending.ticket, result: Err(CallError::Interrupted) });
        }
    }

    fn close(&mut self, why: String) {
        self.state = State::Closed;
        self.outputs.push_back(Output::Close(why));
    }
}

/// The id of the `connect` request; those of others are numbers.
const CONNECT_ID: &str = "connect";
