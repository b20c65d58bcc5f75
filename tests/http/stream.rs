//! The stream of agent changes.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use futures::{FutureExt, StreamExt};
use muster::api::{Agent, Board};
use muster::state::authz::{AccessError, ResourceKind, Verb};
use serde_json::{Value, json};

use crate::rig::{ADMIN, Rig, STRANGER, VIEWER};

/// The next item of a stream.
#[derive(Debug, PartialEq)]
enum StreamItem {
    Agent { id: String, name: String, status: String },
    KeepAlive,
    End,
}

struct Reader(BodyDataStream);

impl Reader {
    async fn open(rig: &Rig, token: &str, query: &str, last: Option<&str>) -> Self {
        let request = Request::get(format!("/api/v1/agents/stream?{query}"));
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = last.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        let response = rig.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let mut reader = Self(response.into_body().into_data_stream());
        let first = reader.0.next().now_or_never().flatten().map(Result::unwrap);
        assert_eq!(first.as_deref(), Some(&b": open\n\n"[..]), "a proxy passes the headers on with the first bytes");
        reader
    }

    async fn next(&mut self) -> StreamItem {
        let Some(chunk) = self.0.next().await else { return StreamItem::End };
        let text = String::from_utf8(chunk.unwrap().to_vec()).unwrap();
        if text.starts_with(':') {
            return StreamItem::KeepAlive;
        }
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        assert_eq!(field("event:"), "agent", "{text}");
        let data: Value = serde_json::from_str(field("data:")).unwrap();
        let text_field = |name: &str| data["agent"][name].as_str().unwrap().to_owned();
        StreamItem::Agent { id: field("id:").to_owned(), name: text_field("name"), status: text_field("status") }
    }

    /// The names and states of the next agents.
    async fn agents(&mut self, number: usize) -> Vec<String> {
        let mut found = Vec::new();
        while found.len() < number {
            match self.next().await {
                StreamItem::Agent { name, status, .. } => found.push(format!("{name} {status}")),
                StreamItem::KeepAlive => {}
                StreamItem::End => panic!("the stream ended after {found:?}"),
            }
        }
        found
    }

    /// Whether no item is ready.
    fn is_drained(&mut self) -> bool {
        self.0.next().now_or_never().is_none()
    }
}

fn set_phase(rig: &Rig, name: &str, phase: &str) {
    rig.status("fleet", name, json!({ "phase": phase }));
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_all_agents_and_continues_with_changes() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    rig.worker("fleet", "b");
    let mut reader = Reader::open(&rig, VIEWER, "", None).await;
    assert_eq!(reader.agents(2).await, ["a provisioning", "b provisioning"]);
    assert!(reader.is_drained());
    set_phase(&rig, "a", "Active");
    assert_eq!(reader.agents(1).await, ["a active"]);
    set_phase(&rig, "a", "Active");
    rig.watched.settle().await;
    assert!(reader.is_drained(), "an unchanged agent is not sent");
    rig.delete::<Agent>("fleet", "b");
    assert_eq!(reader.agents(1).await, ["b deleted"]);
    assert_eq!(reader.next().await, StreamItem::KeepAlive);
}

#[tokio::test(start_paused = true)]
async fn a_reconnected_reader_continues_at_its_last_event_id() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    rig.worker("fleet", "b");
    let mut reader = Reader::open(&rig, VIEWER, "", None).await;
    reader.agents(1).await;
    let StreamItem::Agent { id, .. } = reader.next().await else { panic!("no agent") };
    drop(reader);
    set_phase(&rig, "a", "Idle");
    rig.delete::<Agent>("fleet", "b");
    let mut resumed = Reader::open(&rig, VIEWER, "", Some(&id)).await;
    assert_eq!(resumed.agents(2).await, ["a idle", "b deleted"]);
    assert!(resumed.is_drained());
    let mut other_boot = Reader::open(&rig, VIEWER, "", Some("0123-1")).await;
    assert_eq!(other_boot.agents(1).await, ["a idle"]);
    assert!(other_boot.is_drained());
}

#[tokio::test(start_paused = true)]
async fn since_omits_older_agents() {
    let rig = Rig::new().await;
    let seen = |at: &str| json!({ "phase": "Idle", "heartbeat": { "lastSeen": at } });
    rig.worker("fleet", "old");
    rig.status("fleet", "old", seen("2026-03-05T11:00:00Z"));
    rig.worker("fleet", "new");
    rig.status("fleet", "new", seen("2026-03-05T13:00:00Z"));
    let mut reader = Reader::open(&rig, VIEWER, "since=2026-03-05T12:00:00Z", None).await;
    assert_eq!(reader.agents(1).await, ["new idle"]);
    assert!(reader.is_drained());
    rig.status("fleet", "old", json!({ "phase": "Offline" }));
    assert_eq!(reader.agents(1).await, ["old offline"], "a change is sent whatever its time");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_filtered_by_board_gateway_and_namespace() {
    let rig = Rig::new().await;
    rig.worker("other", "elsewhere");
    rig.agent("fleet", "on-web", json!({ "boardRef": { "name": "web" } }));
    rig.worker("fleet", "on-ops");
    for (query, expected) in [
        ("board_id=fleet/ops", "on-ops provisioning"),
        ("board_id=web&gateway_id=gw", "on-web provisioning"),
        ("namespace=other", "elsewhere provisioning"),
    ] {
        let mut reader = Reader::open(&rig, ADMIN, query, None).await;
        assert_eq!(reader.agents(1).await, [expected]);
        assert!(reader.is_drained(), "{query}");
    }
    let mut reader = Reader::open(&rig, VIEWER, "", None).await;
    assert_eq!(reader.agents(2).await, ["on-web provisioning", "on-ops provisioning"]);
    assert!(reader.is_drained(), "an agent of another namespace is not sent");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_skips_intermediate_states() {
    let rig = Rig::new().await;
    for n in 0..100 {
        rig.worker("fleet", &format!("a{n}"));
    }
    let mut reader = Reader::open(&rig, VIEWER, "", None).await;
    assert_eq!(reader.agents(1).await.len(), 1);
    for n in 0..50 {
        for agent in 0..100 {
            set_phase(&rig, &format!("a{agent}"), if n % 2 == 0 { "Active" } else { "Idle" });
        }
        rig.watched.settle().await;
    }
    // The reader took at most one batch before.
    let mut count = 0;
    while !reader.drained_or_count(&mut count) {}
    assert!((100..=140).contains(&count), "{count} events of 5000 changes");
}

impl Reader {
    fn drained_or_count(&mut self, count: &mut usize) -> bool {
        let item = self.0.next().now_or_never();
        *count += usize::from(item.is_some());
        item.is_none()
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_without_its_permission_is_disconnected() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    let mut reader = Reader::open(&rig, VIEWER, "", None).await;
    assert_eq!(reader.agents(1).await, ["a provisioning"]);
    assert_eq!(reader.next().await, StreamItem::KeepAlive);
    rig.rbac.rules.lock().unwrap().retain(|(user, ..)| *user != "viewer");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(reader.next().await, StreamItem::End);
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_an_expired_token_is_disconnected() {
    let rig = Rig::new().await;
    let mut reader = Reader::open(&rig, VIEWER, "", None).await;
    rig.rbac.users.lock().unwrap().remove(VIEWER);
    assert_eq!(reader.next().await, StreamItem::End);
}

#[tokio::test(start_paused = true)]
async fn a_reader_stays_connected_through_a_kubernetes_outage_below_one_minute() {
    let rig = Rig::new().await;
    let mut reader = Reader::open(&rig, VIEWER, "", None).await;
    for down in [true, true, false, true, true, true, true] {
        *rig.rbac.failure.lock().unwrap() = down.then(|| AccessError::Failed("away".into()));
        assert_eq!(reader.next().await, StreamItem::KeepAlive, "{down}");
    }
    assert_eq!(reader.next().await, StreamItem::End, "the outage lasts a minute");
}

#[tokio::test(start_paused = true)]
async fn a_later_permission_adds_the_existing_agents() {
    let rig = Rig::new().await;
    rig.worker("other", "theirs");
    rig.worker("fleet", "mine");
    let mut reader = Reader::open(&rig, VIEWER, "", None).await;
    assert_eq!(reader.agents(1).await, ["mine provisioning"]);
    rig.rbac.allow("viewer", &[Verb::List], &[ResourceKind::Agent], "other");
    assert_eq!(reader.agents(2).await, ["theirs provisioning", "mine provisioning"]);
}

#[tokio::test(start_paused = true)]
async fn streams_end_when_the_operator_stops() {
    let rig = Rig::new().await;
    let mut reader = Reader::open(&rig, VIEWER, "", None).await;
    assert!(reader.is_drained());
    rig.watched.feed.shutdown().cancel();
    assert_eq!(reader.next().await, StreamItem::End);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_streams_per_user_is_limited() {
    let rig = Rig::new().await;
    let mut readers = Vec::new();
    for _ in 0..16 {
        readers.push(Reader::open(&rig, ADMIN, "", None).await);
    }
    Reader::open(&rig, VIEWER, "", None).await;
    let refused = rig.get(ADMIN, "/api/v1/agents/stream").await;
    assert_eq!((refused.status, &refused.json["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("too_many_streams")));
    assert!(refused.headers.contains_key("retry-after"));
    drop(readers.pop());
    Reader::open(&rig, ADMIN, "", None).await;
    assert_eq!(rig.get(STRANGER, "/api/v1/agents/stream").await.status, StatusCode::FORBIDDEN);
    assert_eq!(rig.get(ADMIN, "/api/v1/agents/stream?since=soon").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_reaches_readers_filtered_by_a_deleted_board() {
    let rig = Rig::new().await;
    rig.worker("fleet", "a");
    let mut reader = Reader::open(&rig, VIEWER, "board_id=ops", None).await;
    assert_eq!(reader.agents(1).await, ["a provisioning"]);
    rig.delete::<Board>("fleet", "ops");
    rig.watched.settle().await;
    rig.delete::<Agent>("fleet", "a");
    assert_eq!(reader.agents(1).await, ["a deleted"]);
}
