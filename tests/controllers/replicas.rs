//! Several replicas of the operator: one works, and the others take over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use futures::future::BoxFuture;
use http::Response;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use muster::api::ConditionType;
use muster::api::object_key::ObjectKey;
use muster::http::forward::{HttpRequest, PeerTransport, WayToLeader};
use muster::http::origin::RequestOrigin;
use muster::leadership::{Candidacy, Candidate, Peer};
use muster::state::kube_store::WallClock;
use muster_simulator::Simulator;
use serde_json::json;
use tokio::time::Instant;

use crate::rig::{NS, Rig};

/// How often a gateway's connections are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The replicas of an operator, as they reach one another. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Replicas(Arc<Mutex<Addresses>>);

#[derive(Default)]
struct Addresses {
    number: u16,
    routers: BTreeMap<SocketAddr, Router>,
}

/// One of several replicas.
pub(crate) struct Replica {
    pub candidate: Candidate,
    pub leader: WayToLeader,
    pub address: SocketAddr,
}

impl Replicas {
    /// Another replica, with an address of its own.
    pub(crate) fn join(&self, client: &Client, clock: WallClock) -> Replica {
        let number = {
            let mut addresses = self.0.lock().unwrap();
            addresses.number += 1;
            addresses.number
        };
        let address = SocketAddr::from(([10, 0, 0, 1], number));
        let (candidate, standing) = Candidate::new(Candidacy {
            client: client.clone(),
            namespace: NS.to_owned(),
            identity: format!("replica-{number}"),
            clock: Box::new(move || clock()),
            peer: Box::new(move || Peer { address, fingerprint: "of the certificate".into() }),
        });
        Replica { candidate, leader: WayToLeader { standing, transport: Arc::new(self.clone()) }, address }
    }

    /// Serves a replica at its address.
    pub(crate) fn serve(&self, address: SocketAddr, router: Router) {
        self.0.lock().unwrap().routers.insert(address, router);
    }

    /// Ends a replica at this address.
    pub(crate) fn leave(&self, address: SocketAddr) {
        self.0.lock().unwrap().routers.remove(&address);
    }
}

impl PeerTransport for Replicas {
    fn send<'a>(&'a self, peer: &'a Peer, request: HttpRequest) -> BoxFuture<'a, Result<Response<Bytes>, String>> {
        Box::pin(async move {
            let router = self.0.lock().unwrap().routers.get(&peer.address).cloned();
            let router = TowerToHyperService::new(router.ok_or("connection refused")?);
            let mut request = request.map(Body::from);
            request.extensions_mut().insert(RequestOrigin { network: [10, 0, 0, 1].into(), confidential: true });
            let (parts, body) = router.call(request).await.unwrap().into_parts();
            Ok(Response::from_parts(parts, body.collect().await.unwrap().to_bytes()))
        })
    }
}

/// Two replicas, of which the first works: its Agent is Ready.
async fn two_replicas() -> (Rig, Rig, Simulator) {
    let mut first = Rig::empty();
    first.replicas = Some(Replicas::default());
    let gateway = first.gateway("gw");
    first.board("ops");
    first.worker("one");
    first.start();
    first.until_ready().await;
    let mut second = first.another_replica();
    second.start();
    second.run_for(Duration::from_secs(5)).await;
    (first, second, gateway)
}

/// Looks at a gateway for this time. Returns when its last connection ended, and when the next one began, since now.
async fn change_of_connections(gateway: &Simulator, time: Duration) -> (Duration, Duration) {
    let (began, mut ended, mut resumed) = (Instant::now(), None, None);
    while began.elapsed() < time {
        let connections = gateway.connections();
        assert!(connections <= 1, "two replicas at one gateway");
        if connections == 0 {
            ended.get_or_insert_with(|| began.elapsed());
        } else if ended.is_some() && resumed.is_none() {
            resumed = Some(began.elapsed());
        }
        tokio::time::sleep(LOOK).await;
    }
    (ended.unwrap_or_default(), resumed.unwrap())
}

fn holder(rig: &Rig) -> Option<String> {
    rig.cluster.get::<Lease>(&ObjectKey::new(NS, "muster")).and_then(|lease| lease.spec?.holder_identity)
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_the_lease_does_nothing_at_gateways_and_writes_nothing() {
    let (mut first, mut second, gateway) = two_replicas().await;
    let dials = first.dials().len();
    first.worker("two");
    first.until_ready().await;
    second.run_for(Duration::from_mins(20)).await;
    assert_eq!(holder(&first).as_deref(), Some("replica-1"));
    assert_eq!((second.faults.state().writes, gateway.connections(), first.dials().len()), (0, 1, dials));
    assert_eq!(second.reconciles("agent") + second.reconciles("board") + second.reconciles("agentgateway"), 0);
}

#[tokio::test(start_paused = true)]
async fn another_replica_takes_over_within_15_seconds_of_a_crash() {
    let (mut first, mut second, gateway) = two_replicas().await;
    first.stop();
    first.worker("two");
    first.delete::<muster::api::Agent>("one");
    let (_, resumed) = change_of_connections(&gateway, Duration::from_secs(20)).await;
    assert!(resumed <= Duration::from_secs(15), "{resumed:?}");
    second.until_ready().await;
    second.until("the agent to be deleted", |rig| !rig.agent_keys().contains(&ObjectKey::new(NS, "one"))).await;
    assert_eq!(holder(&second).as_deref(), Some("replica-2"));
    assert_eq!(gateway.orphans(), muster_simulator::Orphans::default());
}

#[tokio::test(start_paused = true)]
async fn another_replica_takes_over_within_2_seconds_of_a_signal() {
    let (mut first, mut second, gateway) = two_replicas().await;
    let ((), (_, resumed)) =
        futures::join!(first.take_election().hand_over(), change_of_connections(&gateway, Duration::from_secs(5)));
    assert!(resumed <= Duration::from_secs(2), "{resumed:?}");
    second.worker("two");
    second.until_ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_the_api_server_leaves_its_gateways_before_another_replica_leads() {
    let (mut first, mut second, gateway) = two_replicas().await;
    first.faults.state().unreachable = true;
    let (ended, resumed) = change_of_connections(&gateway, Duration::from_secs(20)).await;
    assert!(resumed.checked_sub(ended) >= Some(Duration::from_secs(2)), "{ended:?} {resumed:?}");
    assert!(resumed <= Duration::from_secs(15), "{resumed:?}");
    tokio::time::timeout(Duration::from_secs(1), first.until_lost()).await.expect("it knows that it has lost");
    let writes = first.faults.state().writes;
    first.faults.state().unreachable = false;
    second.worker("two");
    second.until_ready().await;
    assert_eq!(first.faults.state().writes, writes, "it does not come back");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_somebody_else_has_stops() {
    let (mut first, _second, gateway) = two_replicas().await;
    first.cluster.edit::<Lease>(&ObjectKey::new(NS, "muster"), |lease| {
        lease.spec.as_mut().unwrap().holder_identity = Some("somebody".into());
    });
    tokio::time::timeout(Duration::from_secs(5), first.until_lost()).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(gateway.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deleted_is_made_anew_by_its_holder() {
    let (mut first, _second, gateway) = two_replicas().await;
    first.cluster.delete::<Lease>(&ObjectKey::new(NS, "muster"));
    first.until("the Lease to be there", |rig| holder(rig).is_some()).await;
    let by = holder(&first);
    first.run_for(Duration::from_secs(30)).await;
    assert_eq!((gateway.connections(), holder(&first)), (1, by));
}

#[tokio::test(start_paused = true)]
async fn a_call_on_any_replica_is_answered_by_the_leader() {
    let (mut first, second, _gateway) = two_replicas().await;
    let token = first.token("one");
    assert_eq!(second.call_heartbeat(&token, &json!({ "status": "busy" })).await, 200);
    first.until("the call to be in the status", |rig| rig.condition("one", ConditionType::CheckedIn).0 == "True").await;
    assert_eq!(second.call_heartbeat("nonsense", &json!({})).await, 401);
    assert_eq!(second.call_heartbeat(&token, &json!({ "status": "flying" })).await, 400);
    assert_eq!(second.call_heartbeat(&token, &json!({ "status": "x".repeat(20_000) })).await, 413);
    assert_eq!(second.faults.state().writes, 0);
}

/// Calls of an agent, each 300 ms: an agent has 20 calls at once. Returns the statuses of the answers.
async fn calls(rig: &Rig, token: &str) -> Vec<u16> {
    let mut answers = Vec::new();
    for _ in 0..9 {
        answers.push(rig.call_heartbeat(token, &json!({ "status": "busy" })).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn no_call_is_lost_while_a_replica_hands_over() {
    let (mut first, mut second, _gateway) = two_replicas().await;
    let (token, election) = (first.token("one"), first.take_election());
    let ((), on_first, on_second) = futures::join!(election.hand_over(), calls(&first, &token), calls(&second, &token));
    assert_eq!((on_first, on_second), (vec![200; 9], vec![200; 9]));
    second.until("a call to be in the status", |rig| rig.condition("one", ConditionType::CheckedIn).0 == "True").await;
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_next_leader_after_a_crash() {
    let (mut first, second, _gateway) = two_replicas().await;
    let token = first.token("one");
    first.stop();
    let began = Instant::now();
    assert_eq!(second.call_heartbeat(&token, &json!({ "status": "busy" })).await, 200);
    assert!(began.elapsed() <= Duration::from_secs(15), "{:?}", began.elapsed());
}
