//! One connection: the upgrade, the challenge, the handshake, then calls and events until either side closes.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, interval_at},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{ErrorResponse, Request as Upgrade, Response},
        http::StatusCode,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    gateway::{Gateway, RequestFrame},
    handshake,
    methods::system,
    profile::MAX_PAYLOAD_BYTES,
    world::origin::Origin,
    world::{ProcessState, connections::ConnectionCommand},
};

/// Serves one client until its connection ends.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    origin: Origin,
) {
    if gateway.process_state() == ProcessState::HostLost {
        return hold_open(stream).await;
    }
    let draining = gateway.process_state() == ProcessState::Draining;
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_PAYLOAD_BYTES)).max_frame_size(Some(MAX_PAYLOAD_BYTES));
    // The callback's signature belongs to tungstenite, whose error is a whole response.
    #[expect(clippy::result_large_err, reason = "the callback's type is given by tungstenite")]
    let check = |upgrade: &Upgrade, response: Response| match refusal_status(upgrade, draining) {
        Some(status) => Err(refusal_response(status)),
        None => Ok(response),
    };
    let Ok(socket) = accept_hdr_async_with_config(stream, check, Some(config)).await else {
        return;
    };
    let (sender, commands) = unbounded_channel();
    let connection_id = gateway.world().connections.open(sender, origin == Origin::Remote);
    let mut connection =
        Connection { gateway: gateway.clone(), socket, commands, id: connection_id, nonce: String::new() };
    // A client that disconnects is no error of the server.
    let _ = connection.run().await;
    gateway.world().connections.close(connection_id);
}

/// Holds a byte stream open without a reply until the client closes it.
async fn hold_open(mut stream: impl AsyncRead + Unpin) {
    // A client that disconnects is no error of the server.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

fn refusal_status(upgrade: &Upgrade, draining: bool) -> Option<StatusCode> {
    if draining {
        Some(StatusCode::SERVICE_UNAVAILABLE)
    } else if upgrade.headers().contains_key("x-forwarded-for") {
        Some(StatusCode::FORBIDDEN)
    } else {
        None
    }
}

fn refusal_response(status: StatusCode) -> ErrorResponse {
    let mut response = ErrorResponse::new(None);
    *response.status_mut() = status;
    response
}

/// The task of one connection, with its WebSocket stream.
struct Connection<S> {
    gateway: Arc<Gateway>,
    socket: WebSocketStream<S>,
    commands: UnboundedReceiver<ConnectionCommand>,
    id: u64,
    nonce: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self) -> Result<(), Error> {
        self.challenge().await?;
        let profile = self.gateway.world().profile.clone();
        let (tick, health) = (profile.tick, profile.health);
        let mut ticks = interval_at(Instant::now() + tick, tick);
        let mut healths = interval_at(Instant::now() + health, health);
        loop {
            // Cancel-safe: each branch waits on a queue or a timer, and sends only after the select chose it.
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    if !self.send(command).await? {
                        return Ok(());
                    }
                }
                message = self.socket.next() => {
                    if !self.receive(message).await? {
                        return Ok(());
                    }
                }
                _ = ticks.tick() => {
                    let mut world = self.gateway.world();
                    let payload = json!({"ts": world.clock.now_ms()});
                    world.emit_to(self.id, "tick", &payload);
                }
                _ = healths.tick() => {
                    let mut world = self.gateway.world();
                    let payload = system::snapshot(&world);
                    world.emit_to(self.id, "health", &payload);
                }
            }
        }
    }

    async fn challenge(&mut self) -> Result<(), Error> {
        let payload = {
            let mut world = self.gateway.world();
            self.nonce = world.ids.uuid();
            let mut payload = json!({"nonce": self.nonce, "ts": world.clock.now_ms()});
            if world.profile.opaque_hashes {
                payload["capabilities"] = json!(["model-catalog-snapshot"]);
            }
            payload
        };
        let frame = json!({"type": "event", "event": "connect.challenge", "payload": payload});
        self.write(frame.to_string()).await
    }

    /// Executes a command; returns whether the connection goes on.
    async fn send(&mut self, command: Option<ConnectionCommand>) -> Result<bool, Error> {
        match command {
            Some(ConnectionCommand::Frame(frame)) => self.write(frame).await.map(|()| true),
            Some(ConnectionCommand::Close(code, reason)) => self.close(code, &reason).await.map(|()| false),
            Some(ConnectionCommand::Silence) => {
                self.silence().await;
                Ok(false)
            }
            Some(ConnectionCommand::Abort) | None => Ok(false),
        }
    }

    /// Holds the WebSocket open without a reply, like a host without a network, until the client closes it.
    async fn silence(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// Handles a message of the client; returns whether the connection goes on.
    async fn receive(&mut self, message: Option<Result<Message, Error>>) -> Result<bool, Error> {
        let text = match message {
            None | Some(Ok(Message::Close(_))) => return Ok(false),
            Some(Err(error)) => return Err(error),
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(_)) => return Ok(true),
        };
        let Some(request) = parsed(self.id, text.as_str()) else {
            self.close(1008, "invalid request frame").await?;
            return Ok(false);
        };
        let accepted =
            self.gateway.world().connections.get(self.id).is_some_and(|connection| connection.client.is_some());
        if accepted {
            tokio::spawn(self.gateway.clone().serve(request));
            return Ok(true);
        }
        let answer = handshake::answer(&self.gateway, &request, &self.nonce).await;
        if let Some(frame) = answer.frame {
            self.write(frame).await?;
        }
        if let Some((code, reason)) = answer.close {
            self.close(code, &reason).await?;
            return Ok(false);
        }
        Ok(!answer.abort)
    }

    async fn write(&mut self, frame: String) -> Result<(), Error> {
        self.socket.send(Message::text(frame)).await
    }

    async fn close(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.to_owned().into() };
        self.socket.close(Some(frame)).await
    }
}

fn parsed(connection_id: u64, text: &str) -> Option<RequestFrame> {
    let mut frame: Value = serde_json::from_str(text).ok()?;
    if frame["type"] != "req" {
        return None;
    }
    let params = match frame["params"].take() {
        Value::Null => json!({}),
        params => params,
    };
    Some(RequestFrame {
        connection_id,
        id: frame["id"].as_str()?.to_owned(),
        method: frame["method"].as_str()?.to_owned(),
        params,
    })
}
