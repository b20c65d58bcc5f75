//! Gateways of several versions, and upgrades and downgrades.

use std::time::Duration;

use muster::api::agent::FileState;
use muster::api::conditions::find;
use muster::api::object_key::ObjectKey;
use muster::api::{AgentGatewayStatus, ConditionType};
use muster_simulator::{Fault, Profile, Simulator};
use tokio::time::Instant;

use crate::rig::{NS, Rig, ready};

fn profile_2026_7_1() -> Profile {
    Profile::v2026_7_1().with_token("secret-token")
}

fn profile_2026_9_6() -> Profile {
    Profile::v2026_9_6().with_token("secret-token")
}

/// A gateway of this profile with one Ready agent.
async fn provisioned(profile: Profile) -> (Rig, Simulator, String) {
    let (mut rig, gateway) = Rig::new();
    gateway.upgrade(profile);
    rig.board("ops");
    rig.worker("one");
    rig.until_ready().await;
    let id = rig.agent_id("one");
    (rig, gateway, id)
}

fn gateway_status(rig: &Rig) -> AgentGatewayStatus {
    rig.cluster.gateways()[&ObjectKey::new(NS, "gw")].status.clone().unwrap_or_default()
}

fn tools_state(rig: &Rig) -> Option<FileState> {
    rig.status("one").files.into_iter().find(|file| file.name == "TOOLS.md").map(|file| file.state)
}

async fn until_tools_state(rig: &mut Rig, state: FileState) {
    rig.until("TOOLS.md", |rig| tools_state(rig) == Some(state) && rig.cluster.agents().values().all(ready)).await;
}

/// Profiles for versions between the four measured ones, each with some features of both neighbours; unknown features are
/// assumed.
fn intermediate_profiles() -> [Profile; 4] {
    [
        // Protocol 3, without lost writes.
        Profile {
            version: "2026.5.7",
            announced_version: "2026.5.7",
            restarts_on_patch: false,
            loses_writes: None,
            ..Profile::v2026_3_2()
        },
        // The last version with a list. It has the errors and methods of later versions.
        Profile {
            version: "2026.7.35",
            announced_version: "2026.7.35",
            methods: profile_2026_9_6().methods,
            forbidden: true,
            names_unknown_agent: true,
            names_every_missing: true,
            target_first: true,
            ..Profile::v2026_7_1()
        },
        // The first version with entries, without hashes and without config events.
        Profile {
            version: "2026.8.1",
            announced_version: "2026.8.1",
            file_hashes: false,
            opaque_hashes: false,
            config_events: false,
            heartbeat_jobs: false,
            ..profile_2026_9_6()
        },
        // Entries without file hashes.
        Profile { version: "2026.9.3", announced_version: "2026.9.3", file_hashes: false, ..profile_2026_9_6() },
    ]
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_set_up_woken_and_removed_on_every_version() {
    let measured = [Profile::v2026_3_2(), Profile::v2026_5_28(), Profile::v2026_7_1(), Profile::v2026_9_6()];
    for profile in measured.into_iter().chain(intermediate_profiles()).map(|profile| profile.with_token("secret-token"))
    {
        let version = profile.version;
        let (mut rig, gateway, id) = provisioned(profile).await;
        assert_eq!(gateway.chats().len(), 1, "{version}");
        let instructions = gateway.file(&id, "AGENTS.md").unwrap() + &gateway.file(&id, "TOOLS.md").unwrap_or_default();
        assert!(instructions.contains(&rig.token("one")), "{version}: the token is not in the agent's files");
        rig.delete::<muster::api::agent::Agent>("one");
        rig.until("the deletion to finish", |rig| rig.cluster.agents().is_empty()).await;
        assert!(!gateway.agents().contains_key(&id), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn files_refused_after_an_upgrade_are_folded() {
    let (mut rig, gateway, id) = provisioned(profile_2026_7_1()).await;
    assert_eq!(tools_state(&rig), Some(FileState::Synced));
    let began = Instant::now();
    gateway.upgrade(profile_2026_9_6());
    until_tools_state(&mut rig, FileState::Folded).await;
    assert!(gateway.file(&id, "AGENTS.md").unwrap().contains("muster:begin TOOLS.md"));
    let hashes = |rig: &Rig| gateway_status(rig).capabilities.is_some_and(|c| c.file_hashes);
    rig.until("the capability of file hashes to be reported", hashes).await;
    assert!(
        began.elapsed() < Duration::from_mins(1),
        "the upgrade is noticed before the next resync: {:?}",
        began.elapsed()
    );
    let status = gateway_status(&rig);
    assert_eq!(status.server_version.as_deref(), Some("2026.9.6"));
    assert_eq!(status.capabilities.unwrap().roster, "entries");
    assert_eq!(rig.agent_id("one"), id);
}

#[tokio::test(start_paused = true)]
async fn a_downgrade_makes_folded_sections_files_again() {
    let (mut rig, gateway, id) = provisioned(profile_2026_9_6()).await;
    assert_eq!(tools_state(&rig), Some(FileState::Folded));
    gateway.upgrade(profile_2026_7_1());
    until_tools_state(&mut rig, FileState::Synced).await;
    assert!(!gateway.file(&id, "AGENTS.md").unwrap().contains("muster:begin TOOLS.md"));
    assert!(gateway.file(&id, "TOOLS.md").is_some());
    let is_old =
        |c: muster::api::gateway_status::GatewayCapabilities| (c.roster.as_str(), c.file_hashes) == ("list", false);
    rig.until("the capabilities", |rig| gateway_status(rig).capabilities.is_some_and(is_old)).await;
    assert_eq!(rig.agent_id("one"), id);
}

#[tokio::test(start_paused = true)]
async fn missing_methods_are_reported_and_an_upgrade_recovers() {
    let (mut rig, gateway) = Rig::new();
    gateway.upgrade(Profile { methods: "agents.list\nconfig.get\nchat.send", ..profile_2026_9_6() });
    rig.board("ops");
    rig.worker("one");
    let compatible = |rig: &Rig| find(&gateway_status(rig).conditions, ConditionType::Compatible).cloned();
    rig.until("Compatible to be False", |rig| compatible(rig).is_some_and(|c| c.status == "False")).await;
    let compatible_condition = compatible(&rig).unwrap();
    assert_eq!(compatible_condition.reason, "MethodsMissing");
    assert!(
        compatible_condition.message.contains("config.patch") && !compatible_condition.message.contains("agents.list"),
        "{}",
        compatible_condition.message
    );
    assert_eq!(rig.condition("one", ConditionType::Ready).0, "Unknown");
    gateway.upgrade(profile_2026_9_6());
    rig.until_ready().await;
    assert_eq!(compatible(&rig).unwrap().status, "True");
}

/// Reconciles until Compatible is False; returns its reason and message.
async fn until_incompatible(rig: &mut Rig) -> (String, String) {
    let compatible_condition = |rig: &Rig| rig.gateway_condition("gw", ConditionType::Compatible);
    rig.until("Compatible to be False", |rig| compatible_condition(rig).0 == "False").await;
    let (_, reason, message) = compatible_condition(rig);
    (reason, message)
}

#[tokio::test(start_paused = true)]
async fn an_unsupported_protocol_is_reported_with_its_number() {
    let (mut rig, gateway) = Rig::new();
    gateway.upgrade(Profile { protocol: 5, ..profile_2026_9_6() });
    let (reason, message) = until_incompatible(&mut rig).await;
    assert_eq!(reason, "ProtocolMismatch");
    assert!(message.contains("protocol 5"), "{message}");
    gateway.upgrade(profile_2026_9_6());
    rig.until("Ready", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
}

/// `Compatible` while a gateway refuses this method with a permanent error. The gateway is Ready when the error ends.
async fn while_refused(method: &str, said: &str) -> (String, String) {
    let (mut rig, gateway) = Rig::new();
    gateway.inject(Fault::on(method).error("INVALID_REQUEST", said, false).lasting(Duration::from_mins(3)));
    let compatible_condition = until_incompatible(&mut rig).await;
    assert!(compatible_condition.1.contains(said), "{}", compatible_condition.1);
    rig.until("Ready", |rig| rig.gateway_condition("gw", ConditionType::Ready).0 == "True").await;
    assert_eq!(rig.gateway_condition("gw", ConditionType::Compatible).0, "True");
    compatible_condition
}

#[tokio::test(start_paused = true)]
async fn a_permanent_roster_error_makes_the_gateway_incompatible_until_it_ends() {
    let (reason, message) = while_refused("config.get", "config.get: not implemented").await;
    assert_eq!(reason, "RosterUnreadable");
    assert!(message.contains("use a gateway version"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_handshake_makes_the_gateway_incompatible() {
    while_refused("connect", "invalid connect params: at root: unexpected property 'caps'").await;
}
