//! Configs that are spread over files, cannot be written, or are written by something else.

use std::time::Duration;

use muster::api::{Agent, ConditionType, keys};
use muster_simulator::{ConfigLayout, Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{NS, Rig};

/// Longer than the resync interval of ten minutes.
const RESYNC: Duration = Duration::from_secs(700);

/// Longer than the time until the end of such a layout is noticed.
const NOTICED: Duration = Duration::from_secs(70);

/// A version, a layout that it cannot write, and words of the message.
type Case = (fn() -> Profile, ConfigLayout, &'static str);

fn conditions(rig: &Rig) -> [(String, String); 2] {
    [ConditionType::ConfigSynced, ConditionType::Ready].map(|kind| {
        let (status, reason, _) = rig.gateway_condition("gw", kind);
        (status, reason)
    })
}

fn unwritable() -> [(String, String); 2] {
    [("False".to_owned(), "ConfigNotWritable".to_owned()), ("False".to_owned(), "ConfigNotWritable".to_owned())]
}

/// A gateway with this layout, and a Board.
fn laid_out(profile: Profile, layout: ConfigLayout) -> (Rig, Simulator) {
    let (rig, gateway) = Rig::with(profile);
    gateway.lay_out_config(layout);
    rig.board("ops");
    (rig, gateway)
}

#[tokio::test(start_paused = true)]
async fn agents_are_set_up_through_an_included_file() {
    for layout in [ConfigLayout::IncludedAgents, ConfigLayout::IncludedRoster] {
        let (mut rig, gateway) = laid_out(Profile::v2026_9_6(), layout);
        rig.worker("one");
        rig.until_ready().await;
        assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).0, "True");
        let (patches, id) = (gateway.count("config.patch"), rig.agent_id("one"));
        rig.run_for(2 * RESYNC).await;
        assert_eq!(gateway.count("config.patch"), patches, "{layout:?}: an entry in an included file is seen");
        gateway.edit_config(|config| config["agents"]["entries"][&id]["name"] = "Mine".into());
        rig.run_for(RESYNC).await;
        assert_eq!(gateway.agents()[&id]["name"], "one", "{layout:?}: drift is corrected");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layout_that_cannot_be_written_is_reported_once_before_anything_is_made() {
    let root = ConfigLayout::IncludedRoot;
    let cases: [Case; 5] = [
        (Profile::v2026_9_6, root, "at the top of openclaw.json (/"),
        (Profile::v2026_9_6, ConfigLayout::IncludedDefaults, "at agents.defaults (/"),
        (Profile::v2026_7_1, ConfigLayout::IncludedAgents, "at agents; move agents.list"),
        (Profile::v2026_5_28, ConfigLayout::IncludedRoster, "at agents.list; move agents.list"),
        (Profile::v2026_3_2, root, "replaces each $include"),
    ];
    for (profile, layout, words) in cases {
        let (mut rig, gateway) = laid_out(profile(), layout);
        rig.until("the AgentGateway to report it", |rig| conditions(rig) == unwritable()).await;
        let message = rig.gateway_condition("gw", ConditionType::ConfigSynced).2;
        assert!(message.contains(words), "{message}");
        rig.worker("one");
        let message = rig.until_reason("one", "ConfigNotWritable").await;
        assert!(message.contains("ConfigSynced of AgentGateway"), "{message}");
        rig.run_for(Duration::from_mins(30)).await;
        assert_eq!((gateway.count("config.patch"), gateway.count("agents.create")), (0, 0), "{layout:?}");
        assert!(rig.cluster.secrets().keys().all(|key| !key.name.contains("one-token")), "no token is made");
        let agent = rig.cluster.agents().values().next().unwrap().clone();
        let finalizers = agent.metadata.finalizers.clone().unwrap_or_default();
        assert!(!finalizers.iter().any(|name| name == keys::AGENT_FINALIZER), "{NS}: nothing is claimed");
        let reads = gateway.count("config.get");
        rig.run_for(Duration::from_mins(10)).await;
        assert!(gateway.count("config.get") - reads <= 11, "{layout:?}: the config is read once a minute");
        // No value changes, and no event reports the change of the layout.
        gateway.lay_out_config(ConfigLayout::OneFile);
        rig.run_for(NOTICED).await;
        assert_eq!(rig.gateway_condition("gw", ConditionType::ConfigSynced).0, "True", "{layout:?}");
        rig.until_ready().await;
        assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).0, "True");
    }
}

#[tokio::test(start_paused = true)]
async fn agents_that_are_as_specified_stay_ready_on_a_config_that_cannot_be_written() {
    let (mut rig, gateway) = laid_out(Profile::v2026_9_6(), ConfigLayout::OneFile);
    rig.worker("one");
    rig.until_ready().await;
    gateway.lay_out_config(ConfigLayout::IncludedRoot);
    rig.run_for(RESYNC).await;
    assert_eq!(conditions(&rig), unwritable());
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "True");
    let id = rig.agent_id("one");
    gateway.edit_file(&id, "SOUL.md", Some("mine"));
    rig.until("its file to be repaired", |_| gateway.file(&id, "SOUL.md").as_deref() != Some("mine")).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_is_reported_by_the_first_write_and_agents_go_on_afterwards() {
    for profile in [Profile::v2026_3_2, Profile::v2026_5_28, Profile::v2026_7_1, Profile::v2026_9_6] {
        let (mut rig, gateway) = laid_out(profile(), ConfigLayout::Mounted);
        rig.worker("one");
        rig.worker("two");
        rig.until("the AgentGateway to report it", |rig| conditions(rig) == unwritable()).await;
        let message = rig.gateway_condition("gw", ConditionType::ConfigSynced).2;
        assert!(message.contains("EBUSY") && message.contains("mount its folder instead"), "{message}");
        rig.until_reason("one", "ConfigNotWritable").await;
        let before = gateway.count("config.patch");
        rig.run_for(Duration::from_mins(30)).await;
        let tried = gateway.count("config.patch") - before;
        assert!((10..=80).contains(&tried), "{tried} config writes in half an hour");
        gateway.lay_out_config(ConfigLayout::OneFile);
        rig.run_for(Duration::from_mins(3)).await;
        rig.until_ready().await;
        assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).0, "True");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_created_says_that_the_config_cannot_be_written_and_is_tried_after_growing_pauses() {
    for profile in [Profile::v2026_3_2, Profile::v2026_7_1, Profile::v2026_9_6] {
        let (mut rig, gateway) = laid_out(profile(), ConfigLayout::Mounted);
        rig.agent("one", json!({ "boardRef": { "name": "ops" }, "agentId": "chosen" }));
        let message = rig.until_reason("one", "ConfigNotWritable").await;
        assert!(message.contains("ConfigSynced of AgentGateway"), "{message}");
        let before = gateway.count("agents.create");
        for _ in 0..30 {
            rig.run_for(Duration::from_mins(1)).await;
            assert_eq!(rig.condition("one", ConditionType::Ready).1, "ConfigNotWritable");
        }
        let tried = gateway.count("agents.create") - before;
        assert!((5..=9).contains(&tried), "{tried} creations in half an hour");
        gateway.lay_out_config(ConfigLayout::OneFile);
        rig.run_for(Duration::from_mins(6)).await;
        rig.until_ready().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_could_not_be_written_is_reported_while_an_agent_waits_for_it() {
    for spec in
        [json!({ "boardRef": { "name": "ops" } }), json!({ "boardRef": { "name": "ops" }, "agentId": "chosen" })]
    {
        let (mut rig, _gateway) = laid_out(Profile::v2026_9_6(), ConfigLayout::Mounted);
        rig.agent("one", spec);
        rig.until("the AgentGateway to report it", |rig| conditions(rig) == unwritable()).await;
        rig.run_for(Duration::from_mins(30)).await;
        assert_eq!(conditions(&rig), unwritable());
        rig.delete::<Agent>("one");
        rig.run_for(Duration::from_mins(11)).await;
        assert_eq!(rig.gateway_condition("gw", ConditionType::ConfigSynced).1, "Reconciled");
        assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).0, "True");
    }
}

#[tokio::test(start_paused = true)]
async fn a_config_that_is_written_anew_at_each_restart_is_repaired_and_reported() {
    let (mut rig, gateway) = laid_out(Profile::v2026_9_6(), ConfigLayout::OneFile);
    let mut whole = Value::Null;
    gateway.edit_config(|config| whole = config.clone());
    for name in ["one", "two"] {
        rig.worker(name);
    }
    rig.until_ready().await;
    let ids = [rig.agent_id("one"), rig.agent_id("two")];
    for (restart, reason) in [(1, "Reconciled"), (2, "ConfigOverwritten"), (3, "ConfigOverwritten")] {
        gateway.stop();
        gateway.edit_config(|config| *config = whole.clone());
        gateway.start();
        rig.run_for(Duration::from_mins(5)).await;
        rig.until_ready().await;
        let agents = gateway.agents();
        assert!(agents.len() == 3 && ids.iter().all(|id| agents.contains_key(id)), "{restart}: {agents:?}");
        let (status, why, message) = rig.gateway_condition("gw", ConditionType::ConfigSynced);
        assert_eq!((status.as_str(), why.as_str()), ("True", reason), "{restart}: {message}");
        assert_eq!(rig.gateway_condition("gw", ConditionType::Ready).0, "True");
    }
    assert!(rig.gateway_condition("gw", ConditionType::ConfigSynced).2.contains("3 times"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_muster_deletes_counts_as_no_loss() {
    let (mut rig, _gateway) = laid_out(Profile::v2026_9_6(), ConfigLayout::OneFile);
    for round in ["a", "b", "c"] {
        rig.worker(round);
        rig.until_ready().await;
        rig.delete::<muster::api::Agent>(round);
        rig.until("it to be gone", |rig| rig.cluster.agents().is_empty()).await;
    }
    rig.run_for(RESYNC).await;
    assert_eq!(rig.gateway_condition("gw", ConditionType::ConfigSynced).1, "Reconciled");
}

/// A gateway with this `gateway.reload.mode`, and a Board.
fn reloading(profile: Profile, mode: &str) -> (Rig, Simulator) {
    let (rig, gateway) = Rig::with(profile);
    gateway.edit_config(|config| config["gateway"]["reload"]["mode"] = mode.into());
    rig.board("ops");
    (rig, gateway)
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_reload_is_off_says_that_a_restart_applies_a_created_agent() {
    let (mut rig, gateway) = reloading(Profile::v2026_9_6(), "off");
    rig.agent("one", serde_json::json!({ "boardRef": { "name": "ops" }, "agentId": "chosen" }));
    let message = rig.until_reason("one", "RestartRequired").await;
    assert!(message.contains("gateway.reload.mode"), "{message}");
    rig.until("Settled to say so", |rig| rig.gateway_condition("gw", ConditionType::Settled).1 == "RestartRequired")
        .await;
    let created = gateway.count("agents.create");
    rig.run_for(Duration::from_mins(30)).await;
    assert_eq!((gateway.count("agents.create"), created), (1, 1), "the creation is not repeated");
    gateway.restart();
    rig.until_ready().await;
    assert_eq!(rig.gateway_condition("gw", ConditionType::Settled).0, "True");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_restarts_for_each_write_needs_no_restart_by_somebody() {
    for profile in [Profile::v2026_9_6, Profile::v2026_7_1] {
        let (mut rig, gateway) = reloading(profile(), "restart");
        rig.worker("one");
        rig.agent("two", serde_json::json!({ "boardRef": { "name": "ops" }, "agentId": "chosen" }));
        let asks = |rig: &Rig| rig.gateway_condition("gw", ConditionType::Settled).1 == "RestartRequired";
        rig.until("both to be Ready", |rig| {
            assert!(!asks(rig), "the gateway restarts itself");
            ["one", "two"].iter().all(|name| rig.condition(name, ConditionType::Ready).0 == "True")
        })
        .await;
        assert_eq!(gateway.agents().iter().filter(|(id, _)| id.as_str() != "main").count(), 2);
    }
}
