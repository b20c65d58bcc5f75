//! The connections as the world sees them: who may hear what, and the sequence number of each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

/// What the task of a connection is to send or do.
#[derive(Debug)]
pub(crate) enum Out {
    /// A frame.
    Frame(Value),
    /// A close frame with code and reason.
    Close(u16, String),
    /// The byte stream ends, with no close frame.
    Abort,
    /// From now on nothing is sent, and what comes is not heard.
    Silence,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) out: UnboundedSender<Out>,
    pub(crate) remote: bool,
    /// Set by a successful handshake.
    pub(crate) client: Option<Client>,
    seq: u64,
    /// How many events are still to be lost on the way.
    losing: usize,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) device: Option<String>,
    pub(crate) follows_sessions: bool,
    pub(crate) unauthorized: usize,
}

impl Client {
    /// Whether the client may use what needs `scope`.
    pub(crate) fn may(&self, scope: &str) -> bool {
        let has = |scope: &str| self.scopes.contains(scope);
        has("operator.admin") || has(scope) || (scope == "operator.read" && has("operator.write"))
    }
}

/// Every connection by its number.
#[derive(Debug, Default)]
pub(crate) struct Links {
    by_number: BTreeMap<u64, Link>,
    opened: u64,
}

impl Links {
    pub(crate) fn open(&mut self, out: UnboundedSender<Out>, remote: bool) -> u64 {
        self.opened += 1;
        self.by_number.insert(self.opened, Link { out, remote, client: None, seq: 0, losing: 0 });
        self.opened
    }

    pub(crate) fn close(&mut self, number: u64) {
        self.by_number.remove(&number);
    }

    pub(crate) fn clear(&mut self) {
        self.by_number.clear();
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Link> {
        self.by_number.get(&number)
    }

    pub(crate) fn client_mut(&mut self, number: u64) -> Option<&mut Client> {
        self.by_number.get_mut(&number)?.client.as_mut()
    }

    pub(crate) fn admit(&mut self, number: u64, client: Client) {
        if let Some(link) = self.by_number.get_mut(&number) {
            link.client = Some(client);
        }
    }

    /// How many clients are connected.
    pub(crate) fn admitted(&self) -> usize {
        self.by_number.values().filter(|link| link.client.is_some()).count()
    }

    pub(crate) fn send(&self, number: u64, out: Out) {
        if let Some(link) = self.by_number.get(&number) {
            // A closed channel is a connection that is already gone.
            let _ = link.out.send(out);
        }
    }

    /// Closes every connection with a close frame.
    pub(crate) fn close_all(&self, code: u16, reason: &str) {
        for link in self.by_number.values() {
            let _ = link.out.send(Out::Close(code, reason.to_owned()));
        }
    }

    /// Closes the connections of a device.
    pub(crate) fn close_device(&self, device: &str, code: u16, reason: &str) {
        let of_device =
            |link: &&Link| link.client.as_ref().is_some_and(|client| client.device.as_deref() == Some(device));
        for link in self.by_number.values().filter(of_device) {
            let _ = link.out.send(Out::Close(code, reason.to_owned()));
        }
    }

    /// Ends every connection with no close frame.
    pub(crate) fn abort_all(&self) {
        for link in self.by_number.values() {
            let _ = link.out.send(Out::Abort);
        }
    }

    /// Nothing comes or goes on any connection any more.
    pub(crate) fn silence_all(&self) {
        for link in self.by_number.values() {
            let _ = link.out.send(Out::Silence);
        }
    }

    /// Loses the next events of every connection; their sequence numbers are used up.
    pub(crate) fn lose_events(&mut self, count: usize) {
        for link in self.by_number.values_mut() {
            link.losing = count;
        }
    }

    /// Sends an event to every connection that may hear it.
    pub(crate) fn emit(&mut self, event: &str, payload: &Value) {
        for link in self.by_number.values_mut() {
            if link.client.as_ref().is_some_and(|client| hears(client, event)) {
                Self::deliver(link, event, payload);
            }
        }
    }

    /// Sends an event to one connection.
    pub(crate) fn emit_to(&mut self, number: u64, event: &str, payload: &Value) {
        if let Some(link) = self.by_number.get_mut(&number)
            && link.client.is_some()
        {
            Self::deliver(link, event, payload);
        }
    }

    fn deliver(link: &mut Link, event: &str, payload: &Value) {
        link.seq += 1;
        if link.losing > 0 {
            link.losing -= 1;
            return;
        }
        let frame = json!({"type": "event", "event": event, "payload": payload, "seq": link.seq});
        let _ = link.out.send(Out::Frame(frame));
    }
}

fn hears(client: &Client, event: &str) -> bool {
    match event {
        "tick" | "health" | "heartbeat" | "shutdown" => true,
        "sessions.changed" | "session.message" => client.follows_sessions && client.may("operator.read"),
        _ if event.starts_with("device.pair.") => client.may("operator.pairing"),
        _ => client.may("operator.read"),
    }
}
