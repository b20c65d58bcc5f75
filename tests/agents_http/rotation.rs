//! Both tokens of a rotation.

use std::time::Duration;

use muster::api::object_key::ObjectKey;
use muster::hash::sha256_hex;
use serde_json::{Value, json};

use crate::rig::{NS, Rig};

/// An agent whose token `old` was replaced by `new`. The agent has not used `new` yet.
fn rotating(valid_until: Option<&str>) -> impl FnOnce(&mut Value) {
    let mut previous = json!({ "sha256": sha256_hex("old") });
    if let Some(until) = valid_until {
        previous["validUntil"] = json!(until);
    }
    move |agent| {
        agent["status"]["token"] =
            json!({ "secretName": "a-token", "sha256": sha256_hex("new"), "revision": 2, "previous": previous });
    }
}

#[tokio::test(start_paused = true)]
async fn both_tokens_work_until_the_first_use_of_the_new_token() {
    let rig = Rig::new().await;
    rig.agent("a", rotating(None));
    assert_eq!((rig.checks_in("old").await, rig.checks_in("old").await), (200, 200));
    assert_eq!(rig.checks_in("new").await, 200);
    assert_eq!(rig.checks_in("old").await, 401, "the old token is refused before the status changes");
    assert_eq!(rig.checks_in("new").await, 200);
}

#[tokio::test(start_paused = true)]
async fn the_previous_token_expires_at_valid_until() {
    let rig = Rig::new().await;
    rig.agent("a", rotating(Some("2026-01-01T00:10:00Z")));
    assert_eq!(rig.checks_in("old").await, 200);
    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(rig.checks_in("old").await, 401);
    assert_eq!(rig.checks_in("new").await, 200);
}

#[tokio::test(start_paused = true)]
async fn the_first_use_of_a_token_is_queued_once_without_delay() {
    let mut rig = Rig::new().await;
    rig.agent("a", rotating(None));
    rig.checks_in("old").await;
    while rig.due.try_recv().is_ok() {}
    assert_eq!(rig.state.heartbeats.confirmed(&rig.stored("a")), None);
    rig.checks_in("new").await;
    assert_eq!(rig.due.try_recv(), Ok(ObjectKey::new(NS, "a")));
    let (sha256, _) = rig.state.heartbeats.confirmed(&rig.stored("a")).unwrap();
    assert_eq!(sha256, sha256_hex("new"));
    rig.checks_in("new").await;
    assert!(rig.due.try_recv().is_err());
}
