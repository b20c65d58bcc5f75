//! Limits of the messages that are read from a gateway.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use muster::openclaw::model::{ConnectionState, DownCause};
use muster::openclaw::{Dial, DialError, DialedStream, GatewayClient, Output, Session, Trust};
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tokio_tungstenite::accept_async;
use url::Url;

use crate::{connected_session, event, outputs, settings};

const MIB: usize = 1024 * 1024;

/// JSON of about this length whose parsed tree takes a hundred times as much memory.
fn nested_json(size: usize) -> String {
    format!("[{}0]", r#"{"":0},"#.repeat(size / 7))
}

fn event_with(payload: &str) -> String {
    format!(r#"{{"type":"event","event":"x","payload":{payload}}}"#)
}

fn challenge() -> String {
    json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n", "ts": 1 } }).to_string()
}

/// The successful response to `connect`, with this snapshot.
fn hello_with(snapshot: &str) -> String {
    format!(
        r#"{{"type":"res","id":"connect","ok":true,"payload":{{"type":"hello-ok","protocol":4,"server":{{"version":"2026.9.6"}},"snapshot":{snapshot}}}}}"#
    )
}

/// A gateway that sends its messages in order: the first at once, each other one after it has received a message.
#[derive(Clone, Default)]
struct ScriptedGateway {
    messages: Arc<[String]>,
    /// The number of bytes written to the stream.
    written: Arc<AtomicUsize>,
    /// The number of dials.
    dials: Arc<AtomicUsize>,
}

impl ScriptedGateway {
    fn new(messages: impl IntoIterator<Item = String>) -> Self {
        Self { messages: messages.into_iter().collect(), ..Self::default() }
    }

    async fn serve(self, stream: DuplexStream) {
        let mut socket = accept_async(stream).await.unwrap();
        for text in &*self.messages {
            if self.write(socket.get_mut(), text).await.is_err() {
                return;
            }
            socket.next().await;
        }
        while socket.next().await.is_some() {}
    }

    async fn write(&self, stream: &mut DuplexStream, text: &str) -> io::Result<()> {
        stream.write_all(&[0x81, 127]).await?;
        stream.write_all(&(text.len() as u64).to_be_bytes()).await?;
        for part in text.as_bytes().chunks(16 * 1024) {
            stream.write_all(part).await?;
            self.written.fetch_add(part.len(), Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Dial for ScriptedGateway {
    fn dial<'a>(&'a self, _: &'a Url, _: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
        let (here, there) = duplex(64 * 1024);
        self.dials.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(self.clone().serve(there));
        Box::pin(async move { Ok(DialedStream::new(here)) })
    }
}

/// The bound that ended a connection to this gateway.
async fn connection_error(gateway_script: &ScriptedGateway) -> String {
    let gateway = GatewayClient::open(settings(), Arc::new(gateway_script.clone()), Arc::new(()));
    let mut link = gateway.connection();
    match &*link.wait_for(|link| matches!(link, ConnectionState::Down { .. })).await.unwrap() {
        ConnectionState::Down { error, cause: DownCause::Misbehaves, .. } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_oversize_message_before_the_handshake_is_not_read() {
    let gateway_script = ScriptedGateway::new([event_with(&nested_json(30 * MIB))]);
    let why = connection_error(&gateway_script).await;
    assert!(why.contains("before the login Muster reads at most 65536 bytes"), "{why}");
    assert!(gateway_script.written.load(Ordering::Relaxed) < MIB, "{}", gateway_script.written.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn the_connect_response_has_a_higher_limit() {
    let gateway_script = ScriptedGateway::new([challenge(), hello_with(&nested_json(5 * MIB))]);
    let why = connection_error(&gateway_script).await;
    assert!(why.contains("in answer to the login Muster reads at most 4194304 bytes"), "{why}");
    let gateway = GatewayClient::open(
        settings(),
        Arc::new(ScriptedGateway::new([challenge(), hello_with(&nested_json(3 * MIB))])),
        Arc::new(()),
    );
    gateway.connection().wait_for(|link| matches!(link, ConnectionState::Up(_))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_after_the_handshake_are_limited() {
    let gateway_script = ScriptedGateway::new([challenge(), hello_with("{}"), event_with(&nested_json(17 * MIB))]);
    let why = connection_error(&gateway_script).await;
    assert!(why.contains("at any time Muster reads at most 16777216 bytes"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_met_a_bound_is_dialed_again_after_minutes() {
    let gateway_script = ScriptedGateway::new([event_with(&nested_json(30 * MIB))]);
    let _gateway = GatewayClient::open(settings(), Arc::new(gateway_script.clone()), Arc::new(()));
    tokio::time::sleep(Duration::from_mins(10)).await;
    let dials = gateway_script.dials.load(Ordering::Relaxed);
    assert!((2..=5).contains(&dials), "{dials} dials in ten minutes");
}

#[test]
fn only_the_connect_response_may_exceed_the_handshake_limit() {
    let now = Instant::now();
    let long = event_with(&nested_json(65 * 1024));
    for after in [vec![], vec![challenge()]] {
        let mut session = Session::new(settings(), now);
        for text in &after {
            session.receive(text, now);
        }
        session.receive(&long, now);
        let bound = outputs(&mut session).into_iter().find_map(|output| match output {
            Output::Misbehaves(bound) => Some(bound),
            _ => None,
        });
        assert!(bound.is_some_and(|bound| bound.contains("at most 65536 bytes")));
    }
    let mut session = connected_session(now);
    session.receive(&long, now);
    session.receive(&event(1, "config.changed"), now);
    assert_eq!(outputs(&mut session).len(), 2);
}
