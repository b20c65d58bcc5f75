//! A minimal client of the simulator: it only knows frames.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it is surprised")]
#![allow(unreachable_pub, reason = "each test binary is its own crate")]

use std::collections::BTreeMap;

use futures::{SinkExt, StreamExt};
use muster_simulator::{Origin, Profile, Simulator};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

pub const SCOPES: [&str; 5] =
    ["operator.read", "operator.write", "operator.admin", "operator.approvals", "operator.pairing"];

/// A gateway of the newest version without latency.
pub fn instant() -> Simulator {
    Simulator::new(Profile::v2026_9_6().instant())
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Lost,
    Closed(u16, String),
}

pub struct Client {
    socket: WebSocketStream<DuplexStream>,
    sent: u64,
    pub challenge: Value,
    pub events: Vec<Value>,
    replies: BTreeMap<String, Value>,
}

impl Client {
    /// A connection after its challenge and before its handshake.
    pub async fn dial(simulator: &Simulator, origin: Origin) -> Self {
        let stream = simulator.connect_from(origin).unwrap();
        let (socket, _) = client_async("ws://simulator/", stream).await.unwrap();
        let mut client = Self { socket, sent: 0, challenge: Value::Null, events: Vec::new(), replies: BTreeMap::new() };
        client.challenge = client.frame().await.unwrap()["payload"].clone();
        client
    }

    /// A connection from loopback with every scope.
    pub async fn open(simulator: &Simulator) -> Self {
        let mut client = Self::dial(simulator, Origin::Loopback).await;
        client.connect(&hello(&json!({"token": "t"}))).await.unwrap();
        client
    }

    pub async fn connect(&mut self, params: &Value) -> Result<Value, Value> {
        self.call("connect", params.clone()).await
    }

    /// Sends a request and waits for its reply. Earlier events are kept.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.send(method, params).await;
        self.reply(&id).await.expect("a reply")
    }

    pub async fn send(&mut self, method: &str, params: Value) -> String {
        self.sent += 1;
        let id = format!("request {}", self.sent);
        let frame = json!({"type": "req", "id": id, "method": method, "params": params});
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
        id
    }

    /// Waits for the reply to a request. Earlier frames are kept.
    pub async fn reply(&mut self, id: &str) -> Result<Result<Value, Value>, End> {
        loop {
            if let Some(mut frame) = self.replies.remove(id) {
                let ok = frame["ok"] == true;
                return Ok(if ok { Ok(frame["payload"].take()) } else { Err(frame["error"].take()) });
            }
            let frame = self.frame().await?;
            match frame["id"].as_str() {
                Some(id) => drop(self.replies.insert(id.to_owned(), frame)),
                None => self.events.push(frame),
            }
        }
    }

    /// Waits for an event. Earlier events are kept.
    pub async fn event(&mut self, name: &str) -> Value {
        if let Some(index) = self.events.iter().position(|event| event["event"] == name) {
            return self.events.remove(index);
        }
        loop {
            let frame = self.frame().await.unwrap();
            if frame["event"] == name {
                return frame;
            }
            self.events.push(frame);
        }
    }

    /// Waits for the end of the connection.
    pub async fn end(&mut self) -> End {
        loop {
            match self.frame().await {
                Ok(frame) => self.events.push(frame),
                Err(end) => return end,
            }
        }
    }

    async fn frame(&mut self) -> Result<Value, End> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(text.as_str()).unwrap());
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(End::Closed(frame.code.into(), frame.reason.as_str().to_owned()));
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Err(End::Lost),
                Some(Ok(_)) => {}
            }
        }
    }
}

/// The parameters of a handshake.
pub fn hello(auth: &Value) -> Value {
    json!({
        "minProtocol": 3,
        "maxProtocol": 4,
        "role": "operator",
        "scopes": SCOPES,
        "client": {"id": "gateway-client", "version": "1.0.0", "platform": "linux", "mode": "backend"},
        "auth": auth,
        "caps": [],
    })
}

/// The patch that registers agents, each with a workspace and a heartbeat.
pub fn patch(agents: &[&str]) -> String {
    let entry = |id: &&str| {
        let heartbeat = json!({"every": "5m", "target": "none"});
        ((*id).to_owned(), json!({"name": id, "workspace": format!("/w/{id}"), "heartbeat": heartbeat}))
    };
    let entries: serde_json::Map<String, Value> = agents.iter().map(entry).collect();
    json!({"agents": {"ownership": "explicit", "entries": entries}}).to_string()
}

impl Client {
    /// Registers agents with one patch.
    pub async fn register(&mut self, agents: &[&str]) -> Result<Value, Value> {
        let hash = self.call("config.get", json!({})).await.unwrap()["hash"].clone();
        self.call("config.patch", json!({"raw": patch(agents), "baseHash": hash})).await
    }
}
