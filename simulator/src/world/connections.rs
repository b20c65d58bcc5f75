//! The connections: their clients, their scopes, and their event sequence numbers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::frames;

/// A command for the task of a connection.
#[derive(Debug)]
pub(crate) enum ConnectionCommand {
    /// Send a frame.
    Frame(String),
    /// Send a close frame with code and reason.
    Close(u16, String),
    /// End the byte stream without a close frame.
    Abort,
    /// From now on, send nothing and ignore what arrives.
    Silence,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    pub(crate) commands: UnboundedSender<ConnectionCommand>,
    pub(crate) remote: bool,
    /// Set by a successful handshake.
    pub(crate) client: Option<Client>,
    seq: u64,
    /// The number of events still to drop.
    events_to_lose: usize,
}

/// An authenticated client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) device: Option<String>,
    pub(crate) sessions_subscribed: bool,
    pub(crate) unauthorized: usize,
}

impl Client {
    /// Whether the client has `scope`, directly or through a wider scope.
    pub(crate) fn has_scope(&self, scope: &str) -> bool {
        let has = |scope: &str| self.scopes.contains(scope);
        has("operator.admin") || has(scope) || (scope == "operator.read" && has("operator.write"))
    }
}

/// Every connection by its id.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    by_id: BTreeMap<u64, ConnectionState>,
    opened: u64,
}

impl Connections {
    pub(crate) fn open(&mut self, commands: UnboundedSender<ConnectionCommand>, remote: bool) -> u64 {
        self.opened += 1;
        self.by_id.insert(self.opened, ConnectionState { commands, remote, client: None, seq: 0, events_to_lose: 0 });
        self.opened
    }

    pub(crate) fn close(&mut self, id: u64) {
        self.by_id.remove(&id);
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
    }

    pub(crate) fn get(&self, id: u64) -> Option<&ConnectionState> {
        self.by_id.get(&id)
    }

    pub(crate) fn client_mut(&mut self, id: u64) -> Option<&mut Client> {
        self.by_id.get_mut(&id)?.client.as_mut()
    }

    pub(crate) fn admit(&mut self, id: u64, client: Client) {
        if let Some(connection) = self.by_id.get_mut(&id) {
            connection.client = Some(client);
        }
    }

    /// The number of authenticated clients.
    pub(crate) fn client_count(&self) -> usize {
        self.by_id.values().filter(|connection| connection.client.is_some()).count()
    }

    pub(crate) fn send(&self, id: u64, command: ConnectionCommand) {
        if let Some(connection) = self.by_id.get(&id) {
            // A closed channel belongs to a connection that has already ended.
            let _ = connection.commands.send(command);
        }
    }

    /// Sends a text to every authenticated client.
    pub(crate) fn send_to_all(&self, text: &str) {
        for connection in self.by_id.values().filter(|connection| connection.client.is_some()) {
            let _ = connection.commands.send(ConnectionCommand::Frame(text.to_owned()));
        }
    }

    /// Closes every connection with a close frame.
    pub(crate) fn close_all(&self, code: u16, reason: &str) {
        for connection in self.by_id.values() {
            let _ = connection.commands.send(ConnectionCommand::Close(code, reason.to_owned()));
        }
    }

    /// Closes the connections of a device.
    pub(crate) fn close_device(&self, device: &str, code: u16, reason: &str) {
        let of_device = |connection: &&ConnectionState| {
            connection.client.as_ref().is_some_and(|client| client.device.as_deref() == Some(device))
        };
        for connection in self.by_id.values().filter(of_device) {
            let _ = connection.commands.send(ConnectionCommand::Close(code, reason.to_owned()));
        }
    }

    /// Ends every connection without a close frame.
    pub(crate) fn abort_all(&self) {
        for connection in self.by_id.values() {
            let _ = connection.commands.send(ConnectionCommand::Abort);
        }
    }

    /// Silences every connection: the stream stays open and carries nothing.
    pub(crate) fn silence_all(&self) {
        for connection in self.by_id.values() {
            let _ = connection.commands.send(ConnectionCommand::Silence);
        }
    }

    /// Drops the next events of every connection. Dropped events use up their sequence numbers.
    pub(crate) fn lose_events(&mut self, count: usize) {
        for connection in self.by_id.values_mut() {
            connection.events_to_lose = count;
        }
    }

    /// Sends an event to every connection with the required scope.
    pub(crate) fn emit(&mut self, event: &str, payload: &Value) {
        let may_receive = |client: &Client| may_receive(client, event);
        let mut receivers =
            self.by_id.values_mut().filter(|connection| connection.client.as_ref().is_some_and(may_receive)).peekable();
        if receivers.peek().is_none() {
            return;
        }
        let payload = payload.to_string();
        for connection in receivers {
            Self::deliver(connection, event, &payload);
        }
    }

    /// Sends an event to one connection.
    pub(crate) fn emit_to(&mut self, id: u64, event: &str, payload: &Value) {
        if let Some(connection) = self.by_id.get_mut(&id)
            && connection.client.is_some()
        {
            Self::deliver(connection, event, &payload.to_string());
        }
    }

    fn deliver(connection: &mut ConnectionState, event: &str, payload: &str) {
        connection.seq += 1;
        if connection.events_to_lose > 0 {
            connection.events_to_lose -= 1;
            return;
        }
        let frame = frames::event(event, payload, connection.seq);
        let _ = connection.commands.send(ConnectionCommand::Frame(frame));
    }
}

fn may_receive(client: &Client, event: &str) -> bool {
    match event {
        "tick" | "health" | "heartbeat" | "shutdown" => true,
        "sessions.changed" | "session.message" => client.sessions_subscribed && client.has_scope("operator.read"),
        _ if event.starts_with("device.pair.") => client.has_scope("operator.pairing"),
        _ => client.has_scope("operator.read"),
    }
}
