//! One open connection: the socket, the session, and the requests that wait for their answers.

use std::collections::{HashMap, VecDeque};

use futures::{FutureExt, StreamExt};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::answer_reporter::AnswerReporter;
use super::failure::ConnectionFailure;
use super::metered::Charge;
use super::payload::Payload;
use super::redaction::Redactor;
use super::session::{Output, Session};
use super::socket::{Socket, incoming};
use crate::openclaw::channel::Call;
use crate::openclaw::limits::Exceeded;
use crate::openclaw::model::CallError;

/// The socket, the session and the requests of one connection.
pub(super) struct ActiveConnection {
    pub(super) socket: Socket,
    pub(super) session: Session,
    /// Ends the connection when a reader meets a bound.
    pub(super) reporter: AnswerReporter,
    /// The bound that a reader met.
    exceeded: mpsc::Receiver<Exceeded>,
    waiting: HashMap<u64, oneshot::Sender<Result<Payload, CallError>>>,
    pub(super) queue: VecDeque<Call>,
    ticket: u64,
    /// The budget share of the current message.
    pub(super) charge: Option<Charge>,
    /// The previous message, until the next poll of the socket.
    held: Option<Utf8Bytes>,
}

impl ActiveConnection {
    pub(super) fn new(socket: Socket, session: Session, redactor: Redactor) -> Self {
        let (reporter, exceeded) = AnswerReporter::new(redactor);
        Self {
            socket,
            session,
            reporter,
            exceeded,
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            ticket: 0,
            charge: None,
            held: None,
        }
    }

    /// The next message of the gateway, or the bound that a reader met. Cancel-safe, like both of its branches.
    pub(super) async fn next(&mut self) -> Result<Option<Utf8Bytes>, ConnectionFailure> {
        let Self { socket, exceeded, held, .. } = self;
        tokio::select! {
            biased;
            // The connection has a reporter itself, so that the channel stays open.
            Some(Exceeded(bound)) = exceeded.recv() => Err(ConnectionFailure::misbehaves(bound)),
            message = message(socket, held) => incoming(message),
        }
    }

    pub(super) fn receive(&mut self, text: Option<Utf8Bytes>) {
        self.charge = self.socket.get_mut().take_charge();
        match &text {
            Some(text) => self.session.receive(text, Instant::now()),
            None => self.session.receive_other(Instant::now()),
        }
        self.held = text;
    }

    /// Sends queued requests up to `max_in_flight` pending requests. A request whose caller has dropped its future is not sent.
    pub(super) fn fill(&mut self, max_in_flight: usize) {
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

    pub(super) fn next_output(&mut self) -> Option<Output> {
        self.session.output()
    }

    pub(super) fn has_output(&mut self) -> bool {
        self.session.has_output()
    }

    pub(super) fn answer(&mut self, ticket: u64, result: Result<Box<RawValue>, CallError>) {
        if let Some(reply) = self.waiting.remove(&ticket) {
            // The send fails when the caller has dropped its future.
            let _ = reply.send(result.map(|raw| Payload::new(raw, self.reporter.clone(), self.charge.take())));
        }
    }

    /// Answers all requests that still wait.
    pub(super) fn finish(&mut self) {
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

/// The next message. Cancel-safe: the future ends with the message and awaits nothing after it.
///
/// The WebSocket reuses the buffer of the previous message unless another owner holds it, and would keep a buffer of the longest
/// message. So the task holds the previous message during the poll.
async fn message(socket: &mut Socket, held: &mut Option<Utf8Bytes>) -> Option<Result<Message, tungstenite::Error>> {
    let held = held.take();
    let ready = socket.next().now_or_never();
    drop(held);
    match ready {
        Some(message) => message,
        None => socket.next().await,
    }
}
