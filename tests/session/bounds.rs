//! How much is read from a gateway, and when.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::future::BoxFuture;
use muster::openclaw::model::ConnectionState;
use muster::openclaw::{ByteStream, Dial, GatewayClient, Output, Session, Trust};
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tokio_tungstenite::accept_async;
use url::Url;

use crate::{event, outputs, settings, up};

const MIB: usize = 1024 * 1024;

/// JSON of about this length that takes a hundred times as much as a tree.
fn bomb(size: usize) -> String {
    format!("[{}0]", r#"{"":0},"#.repeat(size / 7))
}

fn event_with(payload: &str) -> String {
    format!(r#"{{"type":"event","event":"x","payload":{payload}}}"#)
}

fn challenge() -> String {
    json!({ "type": "event", "event": "connect.challenge", "payload": { "nonce": "n", "ts": 1 } }).to_string()
}

/// The answer that lets a client in, with this beside what is read of it.
fn hello_with(snapshot: &str) -> String {
    format!(
        r#"{{"type":"res","id":"connect","ok":true,"payload":{{"type":"hello-ok","protocol":4,"server":{{"version":"2026.9.6"}},"snapshot":{snapshot}}}}}"#
    )
}

/// A gateway that says one thing after the other, each but the first when it has heard something.
#[derive(Clone, Default)]
struct Fake {
    says: Arc<[String]>,
    /// How many bytes of that went into the stream.
    written: Arc<AtomicUsize>,
}

impl Fake {
    fn new(says: impl IntoIterator<Item = String>) -> Self {
        Self { says: says.into_iter().collect(), ..Self::default() }
    }

    async fn serve(self, stream: DuplexStream) {
        let mut socket = accept_async(stream).await.unwrap();
        for text in &*self.says {
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

impl Dial for Fake {
    fn dial<'a>(&'a self, _: &'a Url, _: &'a Trust) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        let (here, there) = duplex(64 * 1024);
        tokio::spawn(self.clone().serve(there));
        Box::pin(async move { Ok(Box::new(here) as Box<dyn ByteStream>) })
    }
}

/// Why there is no connection to this gateway.
async fn down(fake: &Fake) -> String {
    let gateway = GatewayClient::open(settings(), Arc::new(fake.clone()), Arc::new(()));
    let mut link = gateway.connection();
    match &*link.wait_for(|link| matches!(link, ConnectionState::Down { .. })).await.unwrap() {
        ConnectionState::Down { error, .. } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_bomb_before_the_login_is_not_read() {
    let fake = Fake::new([event_with(&bomb(30 * MIB))]);
    let why = down(&fake).await;
    assert!(why.contains("before the login Muster reads at most 65536 bytes"), "{why}");
    assert!(fake.written.load(Ordering::Relaxed) < MIB, "{}", fake.written.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_connect_may_be_longer_and_not_of_any_length() {
    let fake = Fake::new([challenge(), hello_with(&bomb(5 * MIB))]);
    let why = down(&fake).await;
    assert!(why.contains("in answer to the login Muster reads at most 4194304 bytes"), "{why}");
    let gateway =
        GatewayClient::open(settings(), Arc::new(Fake::new([challenge(), hello_with(&bomb(3 * MIB))])), Arc::new(()));
    gateway.connection().wait_for(|link| matches!(link, ConnectionState::Up(_))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_the_login_a_message_is_bounded_too() {
    let fake = Fake::new([challenge(), hello_with("{}"), event_with(&bomb(17 * MIB))]);
    let why = down(&fake).await;
    assert!(why.contains("at any time Muster reads at most 16777216 bytes"), "{why}");
}

#[test]
fn before_the_login_only_the_answer_to_connect_may_be_long() {
    let now = Instant::now();
    let long = event_with(&bomb(65 * 1024));
    for after in [vec![], vec![challenge()]] {
        let mut session = Session::new(settings(), now);
        for text in &after {
            session.receive(text, now);
        }
        session.receive(&long, now);
        let why = outputs(&mut session).into_iter().find_map(|output| match output {
            Output::Close(why) => Some(why),
            _ => None,
        });
        assert!(why.is_some_and(|why| why.contains("at most 65536 bytes")));
    }
    let mut session = up(now);
    session.receive(&long, now);
    session.receive(&event(1, "config.changed"), now);
    assert_eq!(outputs(&mut session).len(), 2);
}
