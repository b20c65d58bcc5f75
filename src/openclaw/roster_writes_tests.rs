use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use muster_simulator::{Fault, Profile, Simulator};
use serde_json::json;
use tokio::time::{Instant, timeout};
use url::Url;

use super::DELETE_TIMEOUT;
use crate::openclaw::model::{AgentEntry, HeartbeatClaims};
use crate::openclaw::{
    Auth, ConnectionSettings, DeviceKey, Dial, DialError, DialedStream, GatewayClient, RosterQueue, Trust,
};

/// The duration of each write to the roster.
const WRITE_TIME: Duration = Duration::from_secs(20);

/// A gateway with slow writes. It records when they begin.
struct SlowGateway {
    simulator: Simulator,
    writes: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Dial for SlowGateway {
    fn dial<'a>(&'a self, _: &'a Url, _: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
        Box::pin(async { Ok(DialedStream::new(self.simulator.connect()?)) })
    }
}

impl SlowGateway {
    /// A gateway with these agents.
    fn new(agents: &[&str]) -> Arc<Self> {
        let gateway = Self::of(Profile::v2026_9_6());
        gateway.simulator.edit_config(|config| {
            config["agents"]["ownership"] = json!("explicit");
            for id in agents {
                config["agents"]["entries"][id] = json!({ "name": id, "workspace": format!("/w/{id}") });
            }
        });
        gateway
    }

    fn of(profile: Profile) -> Arc<Self> {
        let writes = Arc::<Mutex<Vec<(String, Instant)>>>::default();
        let begun = Arc::clone(&writes);
        let latency = move |method: &str, _| {
            if !matches!(method, "agents.create" | "agents.delete" | "config.patch") {
                return Duration::ZERO;
            }
            begun.lock().unwrap().push((method.to_owned(), Instant::now()));
            WRITE_TIME
        };
        let profile = profile.with_token("secret").with_visibility_delay(Duration::ZERO);
        let simulator = Simulator::new(profile.with_latency(latency));
        Arc::new(Self { simulator, writes })
    }

    async fn client(self: &Arc<Self>) -> GatewayClient {
        self.client_with(RosterQueue::start()).await
    }

    async fn client_with(self: &Arc<Self>, roster: RosterQueue) -> GatewayClient {
        let settings = ConnectionSettings {
            url: "ws://gateway".parse().unwrap(),
            auth: Auth::Token("secret".into()),
            device_key: Arc::new(DeviceKey::generate().unwrap()),
            device_token: None,
            previous: None,
            trust: Trust::Platform,
            max_in_flight: 8,
            resync: Duration::from_hours(1),
        };
        let client = GatewayClient::open_with_queue(settings, Arc::clone(self) as Arc<dyn Dial>, Arc::new(()), roster);
        client.claim_heartbeats(HeartbeatClaims::default());
        client.inventory().wait_for(Option::is_some).await.unwrap();
        client
    }

    /// The methods of the writes in order, after none of them began during the one before.
    fn separate_writes(&self) -> Vec<String> {
        let writes = self.writes.lock().unwrap().clone();
        for pair in writes.windows(2) {
            assert!(pair[1].1 - pair[0].1 >= WRITE_TIME, "two writes at the same time: {writes:?}");
        }
        writes.into_iter().map(|(method, _)| method).collect()
    }
}

fn entry(id: &str) -> AgentEntry {
    AgentEntry { id: id.into(), name: None, workspace: format!("/w/{id}"), ..AgentEntry::default() }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_caller_went_away_ends_before_the_next_deletion_begins() {
    let gateway = SlowGateway::new(&["a", "b"]);
    let client = gateway.client().await;
    timeout(Duration::from_secs(1), client.agent_delete("a", true)).await.unwrap_err();
    client.agent_delete("b", true).await.unwrap();
    assert_eq!(gateway.separate_writes(), ["agents.delete", "agents.delete"]);
    assert!(!gateway.simulator.agents().contains_key("a"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_caller_went_away_ends_before_the_next_config_write_begins() {
    let gateway = SlowGateway::new(&["a"]);
    let client = gateway.client().await;
    timeout(Duration::from_secs(1), client.agent_delete("a", true)).await.unwrap_err();
    client.submit(entry("b"));
    client.inventory().wait_for(|i| i.as_ref().is_some_and(|i| i.agents.contains_key("b"))).await.unwrap();
    assert_eq!(gateway.separate_writes(), ["agents.delete", "config.patch"]);
}

#[tokio::test(start_paused = true)]
async fn a_creation_whose_caller_went_away_ends_before_the_next_deletion_begins() {
    let gateway = SlowGateway::new(&["a"]);
    let client = gateway.client().await;
    timeout(Duration::from_secs(1), client.agent_create("b", "/w/b")).await.unwrap_err();
    client.agent_delete("a", true).await.unwrap();
    assert_eq!(gateway.separate_writes(), ["agents.create", "agents.delete"]);
    assert!(gateway.simulator.agents().contains_key("b"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_caller_goes_away_before_its_turn_is_not_begun() {
    let gateway = SlowGateway::new(&["a", "b", "c"]);
    let client = gateway.client().await;
    let (first, second, third) = tokio::join!(
        client.agent_delete("a", true),
        timeout(Duration::from_secs(1), client.agent_delete("b", true)),
        client.agent_delete("c", true),
    );
    assert!(first.is_ok() && second.is_err() && third.is_ok());
    assert_eq!(gateway.separate_writes().len(), 2);
    assert!(gateway.simulator.agents().contains_key("b"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_never_answered_ends_at_its_own_timeout() {
    let gateway = SlowGateway::new(&["a", "b"]);
    let client = gateway.client().await;
    gateway.simulator.inject(Fault::on("agents.delete").hang());
    let began = Instant::now();
    timeout(Duration::from_secs(1), client.agent_delete("a", true)).await.unwrap_err();
    client.agent_delete("b", true).await.unwrap();
    assert_eq!(began.elapsed(), DELETE_TIMEOUT + WRITE_TIME);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_client_ends_its_deletion_before_the_next_client_writes() {
    let gateway = SlowGateway::new(&["a", "b"]);
    let roster = RosterQueue::start();
    let before = gateway.client_with(roster.clone()).await;
    timeout(Duration::from_secs(1), before.agent_delete("a", true)).await.unwrap_err();
    drop(before);
    let after = gateway.client_with(roster).await;
    after.agent_delete("b", true).await.unwrap();
    assert_eq!(gateway.separate_writes().len(), 2);
    let agents = gateway.simulator.agents();
    assert!(!agents.contains_key("a") && !agents.contains_key("b"), "{agents:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_client_ends_its_config_write_and_begins_no_other() {
    let gateway = SlowGateway::new(&["a"]);
    let roster = RosterQueue::start();
    let before = gateway.client_with(roster.clone()).await;
    before.submit(entry("b"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    before.submit(entry("never"));
    drop(before);
    let after = gateway.client_with(roster).await;
    after.agent_delete("a", true).await.unwrap();
    assert_eq!(gateway.separate_writes(), ["config.patch", "agents.delete"]);
    let agents = gateway.simulator.agents();
    assert!(agents.contains_key("b") && !agents.contains_key("never"), "{agents:?}");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_withdrawn_before_the_turn_of_its_patch_is_not_written() {
    let gateway = SlowGateway::new(&["a"]);
    let client = gateway.client().await;
    let deletion = client.agent_delete("a", true);
    let meanwhile = async {
        client.submit(entry("b"));
        client.submit(entry("c"));
        tokio::time::sleep(WRITE_TIME / 2).await;
        client.withdraw("b");
    };
    tokio::join!(deletion, meanwhile).0.unwrap();
    client.inventory().wait_for(|i| i.as_ref().is_some_and(|i| i.agents.contains_key("c"))).await.unwrap();
    assert!(!gateway.simulator.agents().contains_key("b"));
}

#[tokio::test(start_paused = true)]
async fn a_config_write_after_a_write_of_another_client_has_the_current_base() {
    // This version reports no config change by an event.
    let gateway = SlowGateway::of(Profile::v2026_7_1());
    let roster = RosterQueue::start();
    let (one, other) = (gateway.client_with(roster.clone()).await, gateway.client_with(roster).await);
    for (client, id) in [(&one, "a"), (&other, "b"), (&one, "c")] {
        client.submit(entry(id));
        client.inventory().wait_for(|i| i.as_ref().is_some_and(|i| i.agents.contains_key(id))).await.unwrap();
    }
    assert_eq!(gateway.separate_writes(), ["config.patch"; 3]);
}
