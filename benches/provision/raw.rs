//! A gateway client that only sends and receives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use muster_harness::{Failure, OpenClaw, until};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

const MAX_FRAME_BYTES: usize = 32 * 1024 * 1024;
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// The error of a refused request.
#[derive(Debug)]
pub(crate) struct RequestRefused(Value);

impl RequestRefused {
    fn is_not_found(&self) -> bool {
        self.0["message"].as_str().is_some_and(|message| message.ends_with("not found"))
    }
}

impl Display for RequestRefused {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "a request was refused: {}", self.0)
    }
}

impl std::error::Error for RequestRefused {}

/// An authenticated connection.
pub(crate) struct RawClient {
    socket: WebSocketStream<TcpStream>,
    last: u64,
}

impl RawClient {
    /// Connects as soon as the gateway accepts clients: it refuses them for a moment after its start.
    pub(crate) async fn connect(gateway: &OpenClaw) -> Result<Self, Failure> {
        Self::connect_to(&gateway.url(), gateway.token()).await
    }

    /// As [`connect`](Self::connect), by URL.
    pub(crate) async fn connect_to(url: &str, token: &str) -> Result<Self, Failure> {
        until("the gateway to accept a client", READY_TIMEOUT, async || {
            Self::try_connect(url, token).await.map_err(|e| e.to_string())
        })
        .await
    }

    async fn try_connect(url: &str, token: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(url.trim_start_matches("ws://")).await?;
        stream.set_nodelay(true)?;
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_FRAME_BYTES)).max_frame_size(Some(MAX_FRAME_BYTES));
        let (socket, _) = client_async_with_config(url, stream, Some(config)).await?;
        let mut raw = Self { socket, last: 0 };
        // Only devices need the challenge. On loopback the token is enough.
        raw.receive().await?;
        let client = json!({ "id": "gateway-client", "version": "1", "platform": "linux", "mode": "backend" });
        let connect = json!({
            "minProtocol": 3, "maxProtocol": 4, "role": "operator", "client": client, "caps": [],
            "scopes": ["operator.read", "operator.write", "operator.admin"], "auth": { "token": token },
        });
        raw.call("connect", connect).await?;
        Ok(raw)
    }

    async fn receive(&mut self) -> Result<Value, Failure> {
        loop {
            match self.socket.next().await.ok_or("the gateway closed the connection")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => return Err(format!("the gateway closed the connection: {frame:?}").into()),
                _ => {}
            }
        }
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        let mut answers = self.call_all(vec![(method.to_owned(), params)], 1).await?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// Repeats a read until the gateway knows a new agent.
    pub(crate) async fn until_known(&mut self, agent: &str) -> Result<(), Failure> {
        let end = Instant::now() + READY_TIMEOUT;
        loop {
            let Err(error) = self.call("agents.files.list", json!({ "agentId": agent })).await else { return Ok(()) };
            if !error.downcast_ref().is_some_and(RequestRefused::is_not_found) || Instant::now() >= end {
                return Err(format!("{agent}: {error}").into());
            }
        }
    }

    /// Makes requests with at most `depth` of them open. Returns the responses in the order of the requests.
    pub(crate) async fn call_all(&mut self, calls: Vec<(String, Value)>, depth: usize) -> Result<Vec<Value>, Failure> {
        let mut calls = calls.into_iter();
        let mut open = BTreeSet::new();
        let mut answers = BTreeMap::new();
        loop {
            while open.len() < depth
                && let Some((method, params)) = calls.next()
            {
                self.last += 1;
                let frame = json!({ "type": "req", "id": self.last.to_string(), "method": method, "params": params });
                self.socket.send(Message::text(frame.to_string())).await?;
                open.insert(self.last);
            }
            if open.is_empty() {
                return Ok(answers.into_values().collect());
            }
            let frame = self.receive().await?;
            let Some(id) = frame["id"].as_str().and_then(|id| id.parse().ok()).filter(|id| open.remove(id)) else {
                continue;
            };
            if frame["ok"] != json!(true) {
                return Err(RequestRefused(frame["error"].clone()).into());
            }
            answers.insert(id, frame["payload"].clone());
        }
    }
}
