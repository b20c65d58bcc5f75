//! Changes on a gateway's disk: an invalid config file, and links in a workspace.

use std::time::Duration;

use muster::api::{Agent, ConditionType};
use muster_simulator::{FileLink, Profile, Simulator};
use serde_json::json;

use crate::rig::Rig;

/// Longer than a resync: the gateway sends no event when its config file is invalid.
const LONGER_THAN_RESYNC: Duration = Duration::from_mins(11);

const PROFILES: [fn() -> Profile; 3] = [Profile::v2026_9_6, Profile::v2026_7_1, Profile::v2026_3_2];

/// Two Ready agents without wakes, so that time alone causes no write.
async fn two_ready_agents(profile: fn() -> Profile) -> (Rig, Simulator) {
    let (mut rig, _) = Rig::new();
    let gateway = Simulator::new(profile().with_token("secret-token"));
    rig.host("gw", &gateway);
    rig.board("ops");
    let no_wake = json!({ "enabled": false });
    rig.agent("one", json!({ "boardRef": { "name": "ops" }, "wake": no_wake }));
    rig.agent("two", json!({ "boardRef": { "name": "ops" }, "agentId": "ops-bot", "wake": no_wake }));
    rig.until_ready().await;
    rig.run_for(Duration::from_mins(2)).await;
    (rig, gateway)
}

/// The number of requests of each method that writes the config.
fn config_write_counts(gateway: &Simulator) -> [usize; 4] {
    ["agents.create", "agents.update", "config.patch", "config.set"].map(|method| gateway.count(method))
}

fn reports_invalid_config(rig: &Rig) -> bool {
    let (status, _, message) = rig.gateway_condition("gw", ConditionType::Settled);
    status != "True" && message.contains("openclaw.json") && message.contains("valid")
}

#[tokio::test(start_paused = true)]
async fn an_invalid_config_file_is_reported_changes_nothing_and_recovers() {
    for profile in PROFILES {
        let version = profile().version;
        let (mut rig, gateway) = two_ready_agents(profile).await;
        let (config, before, writes, chats) =
            (gateway.config(), config_write_counts(&gateway), gateway.writes(), gateway.chats().len());
        gateway.break_config();
        for _ in 0..LONGER_THAN_RESYNC.as_secs() / 5 + 60 {
            rig.run_for(Duration::from_secs(5)).await;
            for name in ["one", "two"] {
                let (status, reason, message) = rig.condition(name, ConditionType::Ready);
                assert_ne!(status, "False", "{version}: {name}: {reason} {message}");
                let registered = rig.condition(name, ConditionType::Registered);
                assert_ne!(registered.0, "False", "{version}: {name}: {registered:?}");
            }
        }
        assert!(reports_invalid_config(&rig), "{version}: {:?}", rig.gateway_condition("gw", ConditionType::Settled));
        assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).0, "False", "{version}");
        assert_eq!((config_write_counts(&gateway), gateway.config()), (before, config.clone()), "{version}");
        gateway.repair_config();
        rig.until("the gateway to be Ready", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
        rig.until_ready().await;
        rig.run_for(Duration::from_mins(1)).await;
        assert_eq!((gateway.config(), gateway.writes(), gateway.chats().len()), (config, writes, chats), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn creations_and_deletions_wait_while_the_config_file_is_invalid() {
    for profile in PROFILES {
        let version = profile().version;
        let (mut rig, gateway) = two_ready_agents(profile).await;
        let id = rig.agent_id("one");
        gateway.break_config();
        rig.run_for(LONGER_THAN_RESYNC).await;
        let (config, before) = (gateway.config(), config_write_counts(&gateway));
        gateway.close_id("night-bot");
        rig.agent("three", json!({ "boardRef": { "name": "ops" }, "agentId": "night-bot" }));
        rig.worker("four");
        rig.delete::<Agent>("one");
        rig.run_for(Duration::from_mins(5)).await;
        assert_eq!((config_write_counts(&gateway), gateway.config()), (before, config), "{version}");
        let names: Vec<_> = rig.cluster.agents().keys().map(|key| key.name.clone()).collect();
        assert_eq!(names, ["four", "one", "three", "two"], "{version}: the removal is not confirmed");
        gateway.repair_config();
        rig.until("the removal", |rig| rig.cluster.agents().len() == 3).await;
        rig.until_ready().await;
        let agents = gateway.agents();
        assert!(!agents.contains_key(&id) && agents.contains_key("night-bot"), "{version}: {agents:?}");
        assert_eq!(gateway.config()["gateway"]["mode"], "local", "{version}: the foreign settings are kept");
        assert!(gateway.orphans().is_empty(), "{version}: {:?}", gateway.orphans());
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreported_invalid_config_file_is_never_overwritten() {
    for profile in PROFILES {
        let version = profile().version;
        let (mut rig, gateway) = two_ready_agents(profile).await;
        gateway.close_id("night-bot");
        gateway.break_config();
        rig.agent("three", json!({ "boardRef": { "name": "ops" }, "agentId": "night-bot" }));
        rig.worker("four");
        rig.run_for(Duration::from_mins(1)).await;
        assert!(reports_invalid_config(&rig), "{version}: {:?}", rig.gateway_condition("gw", ConditionType::Settled));
        gateway.repair_config();
        rig.until_ready().await;
        assert_eq!(gateway.agents().len(), 5, "{version}: {:?}", gateway.agents());
        assert_eq!(gateway.config()["gateway"]["mode"], "local", "{version}: the foreign settings are kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_in_the_default_agents_workspace_blocks_no_agent() {
    for profile in PROFILES {
        let version = profile().version;
        let (mut rig, _) = Rig::new();
        let gateway = Simulator::new(profile().with_token("secret-token"));
        rig.host("gw", &gateway);
        gateway.link_file("main", "SOUL.md", FileLink::Hard);
        gateway.link_file("main", "USER.md", FileLink::Symbolic);
        rig.board("ops");
        rig.agent(
            "one",
            json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "SOUL.md", "template": { "inline": "I am {{ agent_name }}." } }] }),
        );
        rig.until_ready().await;
        let soul = gateway.file(&rig.agent_id("one"), "SOUL.md");
        assert_eq!(soul.as_deref(), Some("I am one.\n"), "{version}: SOUL.md is rendered");
        assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).0, "True", "{version}");
    }
}
