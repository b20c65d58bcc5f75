//! The time that calls take, under a paused clock.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::time::Duration;

use common::Client;
use muster_simulator::{Profile, Simulator};
use serde_json::json;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn config_writes_take_their_latency_one_after_the_other_and_other_calls_at_the_same_time() {
    let profile = Profile::v2026_9_6().instant();
    let (call, config_write) = (Duration::from_millis(5), Duration::from_millis(30));
    let simulator = Simulator::new(profile.with_fixed_latency(call, config_write));
    let mut client = Client::open(&simulator).await;
    let began = Instant::now();
    let create = client.send("agents.create", json!({"name": "mc-1"})).await;
    let list = client.send("agents.list", json!({})).await;
    let sessions = client.send("sessions.list", json!({})).await;
    let delete = client.send("agents.delete", json!({"agentId": "mc-1"})).await;
    for (id, time) in [(list, call), (sessions, call), (create, config_write), (delete, config_write * 2)] {
        client.reply(&id).await.unwrap().unwrap();
        let elapsed = began.elapsed();
        // The runtime's timers have a resolution of 1 ms, and a config write waits twice.
        assert!(elapsed >= time && elapsed <= time + Duration::from_millis(4), "{time:?}: {elapsed:?}");
    }
}
