//! Files on the gateway's disk that the gateway cannot read.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::time::Duration;

use common::{Client, patch};
use muster_simulator::{FileLink, Profile, Simulator};
use serde_json::{Value, json};
use tokio::time::timeout;

async fn with_one(profile: Profile) -> (Simulator, Client) {
    let simulator = Simulator::new(profile.instant());
    let mut client = Client::open(&simulator).await;
    client.call("agents.create", json!({"name": "mc-1", "workspace": "/w/mc-1"})).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.call("health", json!({})).await.unwrap();
    client.events.clear();
    (simulator, client)
}

async fn error(client: &mut Client, method: &str, params: Value) -> String {
    client.call(method, params).await.unwrap_err()["message"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_config_that_is_not_json_reads_as_empty_and_sends_no_event() {
    for profile in [Profile::v2026_9_6(), Profile::v2026_7_1(), Profile::v2026_3_2()] {
        let has_opaque_hashes = profile.opaque_hashes;
        let (simulator, mut client) = with_one(profile).await;
        let good = client.call("config.get", json!({})).await.unwrap();
        simulator.break_config();
        let broken = client.call("config.get", json!({})).await.unwrap();
        assert_eq!((&broken["valid"], &broken["parsed"], &broken["config"]), (&json!(false), &Value::Null, &json!({})));
        assert_ne!(broken["hash"], good["hash"]);
        if has_opaque_hashes {
            assert_eq!(broken["configRevisionHash"], Value::Null);
            assert_eq!(broken["appliedConfigHash"], good["appliedConfigHash"]);
        }
        let roster = client.call("agents.list", json!({})).await.unwrap();
        assert_eq!(roster["agents"].as_array().unwrap().len(), 2, "what runs goes on");
        client.call("agents.files.list", json!({"agentId": "mc-1"})).await.unwrap();
        simulator.repair_config();
        assert_eq!(client.call("config.get", json!({})).await.unwrap(), good);
        assert!(timeout(Duration::from_secs(20), client.end()).await.is_err());
        assert!(client.events.is_empty(), "{:?}", client.events);
    }
}

#[tokio::test(start_paused = true)]
async fn a_config_that_is_not_json_refuses_patches_and_finds_no_agent() {
    for (profile, refusal) in [
        (Profile::v2026_9_6(), "invalid config: <root>: JSON5 parse failed"),
        (Profile::v2026_7_1(), "invalid config; fix before patching"),
    ] {
        let (simulator, mut client) = with_one(profile).await;
        let stale = client.call("config.get", json!({})).await.unwrap()["hash"].clone();
        simulator.break_config();
        let said = error(&mut client, "config.patch", json!({"raw": patch(&["mc-2"]), "baseHash": stale})).await;
        assert!(said.starts_with("config changed since last load"), "{said}");
        let hash = client.call("config.get", json!({})).await.unwrap()["hash"].clone();
        let said = error(&mut client, "config.patch", json!({"raw": patch(&["mc-2"]), "baseHash": hash})).await;
        assert!(said.starts_with(refusal), "{said}");
        for method in ["agents.update", "agents.delete"] {
            assert_eq!(error(&mut client, method, json!({"agentId": "mc-1"})).await, "agent \"mc-1\" not found");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_on_a_config_that_is_not_json_replaces_the_written_config() {
    for (profile, left) in [(Profile::v2026_9_6(), false), (Profile::v2026_7_1(), false), (Profile::v2026_3_2(), true)]
    {
        let (simulator, mut client) = with_one(profile).await;
        simulator.break_config();
        client.call("agents.create", json!({"name": "mc-2", "workspace": "/w/mc-2"})).await.unwrap();
        assert!(simulator.agents().contains_key("mc-2"));
        assert_eq!(simulator.agents().contains_key("mc-1"), left);
        assert_eq!(simulator.config()["gateway"].is_object(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_linked_file_is_neither_read_nor_written() {
    for profile in [Profile::v2026_9_6(), Profile::v2026_3_2()] {
        let (simulator, mut client) = with_one(profile).await;
        simulator.link_file("mc-1", "SOUL.md", FileLink::Hard);
        for (method, content) in [("agents.files.get", None), ("agents.files.set", Some("x"))] {
            let mut params = json!({"agentId": "mc-1", "name": "SOUL.md"});
            params.as_object_mut().unwrap().extend(content.map(|content| ("content".to_owned(), json!(content))));
            let said = error(&mut client, method, params).await;
            assert!(said.starts_with("unsafe workspace file \"SOUL.md\""), "{said}");
        }
        let listed = client.call("agents.files.list", json!({"agentId": "mc-1"})).await.unwrap();
        let soul = listed["files"].as_array().unwrap().iter().find(|file| file["name"] == "SOUL.md").unwrap();
        assert_eq!(soul["missing"], true);
        client.call("agents.files.get", json!({"agentId": "mc-1", "name": "AGENTS.md"})).await.unwrap();
    }
}
