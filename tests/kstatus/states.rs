//! Every state of the three kinds, from the functions that write the status, and what a tool that waits makes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use muster::api::agent::{Agent, AgentStatus, Role};
use muster::api::condition::Condition;
use muster::api::conditions::{ConditionUpdate, set};
use muster::api::object_key::ObjectKey;
use muster::api::reason::Persistence;
use muster::api::{AgentGateway, AgentGatewayStatus, Board, ConditionType, Reason};
use muster::core::agent::binding::AgentIdentity;
use muster::core::agent::blocked::Blocker;
use muster::core::agent::observer::{ObserverInput, ObserverTarget, SeenAgent};
use muster::core::agent::status_input::StatusInput;
use muster::core::error::ReconcileError;
use muster::core::gateway::census::Census;
use muster::core::gateway::status::{GatewayFacts, GatewayObservation};
use muster::core::gateway::transport::ServedApi;
use muster::core::requests::Requests;
use muster::core::{agent, board, gateway};
use serde_json::{Value, json};

/// What a tool that waits makes of an object, in the words of kstatus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Current,
    #[expect(clippy::enum_variant_names, reason = "the word of kstatus")]
    InProgress,
    Failed,
    Terminating,
}

/// An object in one of its states.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) object: Value,
    pub(crate) progress: Progress,
}

impl State {
    fn new(name: impl Into<String>, object: Value, progress: Progress) -> Self {
        Self { name: name.into(), object, progress }
    }
}

const GENERATION: i64 = 3;

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// An object of a kind with this spec.
fn object<K: serde::de::DeserializeOwned>(kind: &str, spec: &Value) -> K {
    let metadata = json!({ "name": "one", "namespace": "fleet", "uid": "u", "generation": GENERATION });
    let value = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec });
    serde_json::from_value(value).unwrap()
}

fn an_agent() -> Agent {
    object("Agent", &json!({ "boardRef": { "name": "ops" } }))
}

fn a_board() -> Board {
    object("Board", &json!({ "gatewayRef": { "name": "one" } }))
}

fn a_gateway(suspend: bool) -> AgentGateway {
    object(
        "AgentGateway",
        &json!({
            "url": "ws://gateway:18789", "auth": { "tokenSecretRef": { "name": "gateway", "key": "token" } },
            "workspaceRoot": "~/agents", "apiUrl": "http://muster:8080", "suspend": suspend,
        }),
    )
}

fn with_status<K: serde::Serialize>(object: &K, status: impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value["status"] = serde_json::to_value(status).unwrap();
    value
}

/// The status of an Agent with this blocker.
fn agent_status(old: &AgentStatus, blocker: Option<&Blocker>) -> AgentStatus {
    observer_status(old, blocker, None)
}

/// The status of an Agent with this blocker, which only observes if there is an `observer`.
fn observer_status(old: &AgentStatus, blocker: Option<&Blocker>, observer: Option<ObserverInput<'_>>) -> AgentStatus {
    let fulfilled = BTreeSet::new();
    agent::status::status(&StatusInput {
        old,
        generation: GENERATION,
        desired: None,
        observed: None,
        observer,
        token: None,
        blocker,
        heartbeat: None,
        woken: None,
        labelled: None,
        confirmed: None,
        fulfilled: &fulfilled,
        begins_reset: false,
        revocation: None,
        now: now(),
    })
}

fn gateway_status(gateway: &AgentGateway, seen: &GatewayObservation<'_>) -> AgentGatewayStatus {
    let facts = GatewayFacts {
        bound: &[],
        observers: &[],
        census: Census::default(),
        soul_directory: None,
        served_api: &ServedApi::default(),
        now: now(),
    };
    gateway::status::status(gateway, seen, facts)
}

/// An Agent with this error, a Board whose AgentGateway cannot be used for it, and an AgentGateway with it.
pub(crate) fn with_error(error: &ReconcileError) -> [Value; 3] {
    let (agent, board, gateway) = (an_agent(), a_board(), a_gateway(false));
    let of_agent = agent_status(&AgentStatus::default(), Some(&Blocker::Failed(error.clone())));
    [
        with_status(&agent, of_agent),
        with_status(&board, board::status::status(&board, &[], Err(error), now())),
        with_status(&gateway, gateway_status(&gateway, &GatewayObservation::Error(error))),
    ]
}

/// Every state.
pub(crate) fn all() -> Vec<State> {
    let states: Vec<_> = with_each_reason()
        .into_iter()
        .chain(ready_ones())
        .chain(observers())
        .chain(new_ones())
        .chain(leaving())
        .collect();
    assert!(states.len() > 300, "{} states", states.len());
    states
}

/// An object of each kind with each reason. It is in progress or failed as the reason lasts.
fn with_each_reason() -> Vec<State> {
    let mut states = Vec::new();
    // Ready has this reason only while a suspension keeps it.
    for reason in Reason::ALL.iter().filter(|reason| **reason != Reason::Suspended) {
        for error in [ReconcileError::permanent(*reason, "x"), ReconcileError::transient(*reason, "x")] {
            let lasts = match reason.persistence() {
                Persistence::Lasting => true,
                Persistence::Passing => false,
                Persistence::OfTheError => !error.transient,
            };
            for (kind, object) in ["Agent", "Board", "AgentGateway"].into_iter().zip(with_error(&error)) {
                // A Board knows of the AgentGateway's error only by its reason.
                let lasts = lasts && (kind != "Board" || reason.persistence() == Persistence::Lasting);
                let progress = if lasts { Progress::Failed } else { Progress::InProgress };
                states.push(State::new(format!("{kind} {reason}"), object, progress));
            }
        }
    }
    states
}

/// The conditions of an object that is Ready.
fn ready<T>(conditions: impl FnOnce(Vec<Condition>) -> T) -> T {
    let mut all = Vec::new();
    let ready = ConditionUpdate::new(ConditionType::Ready, true, Reason::Connected, "connected");
    set(&mut all, &ready, GENERATION - 1, now());
    conditions(all)
}

/// Objects that are Ready, and stay so while their gateway is suspended. Those that never were Ready wait.
fn ready_ones() -> Vec<State> {
    let (agent, board) = (an_agent(), a_board());
    let mut gateway = a_gateway(true);
    let first = gateway_status(&gateway, &GatewayObservation::Suspended);
    let suspended = agent::blocked::gateway_suspended(&gateway).unwrap();
    let waits = Blocker::Failed(suspended);
    let never_ready = [
        ("Agent", with_status(&agent, agent_status(&AgentStatus::default(), Some(&waits)))),
        ("Board", with_status(&board, board::status::status(&board, &[], Ok(&gateway), now()))),
        ("AgentGateway", with_status(&gateway, first)),
    ];
    let before: AgentStatus = ready(|conditions| AgentStatus { conditions, ..AgentStatus::default() });
    gateway.status = Some(ready(|conditions| AgentGatewayStatus { conditions, ..AgentGatewayStatus::default() }));
    let kept = gateway_status(&gateway, &GatewayObservation::Suspended);
    gateway.status = Some(kept.clone());
    let current = [
        ("Agent", with_status(&agent, AgentStatus { observed_generation: GENERATION, ..before.clone() })),
        ("Agent on a suspended gateway", with_status(&agent, agent_status(&before, Some(&waits)))),
        ("Board on a suspended gateway", with_status(&board, board::status::status(&board, &[], Ok(&gateway), now()))),
        ("AgentGateway that is suspended", with_status(&gateway, kept)),
    ];
    let current = current.into_iter().map(|(name, object)| State::new(name, object, Progress::Current));
    let never = never_ready.into_iter().map(|(kind, object)| {
        State::new(format!("{kind}, suspended before it was Ready"), object, Progress::InProgress)
    });
    current.chain(never).collect()
}

/// Agents that Muster only observes: the gateway has the agent, is about to have it, or does not have it, or cannot be asked.
fn observers() -> Vec<State> {
    let target = ObserverTarget {
        identity: AgentIdentity::derive(Role::Worker, Some("nova"), "", ""),
        gateway: ObjectKey::new("fleet", "one"),
        requests: Requests::default(),
        is_suspended: false,
        resync_interval: Duration::from_mins(10),
    };
    let observed = |seen: Option<&SeenAgent>, blocker: Option<&Blocker>| {
        let observer = ObserverInput { is_bound: false, target: Some(&target), seen };
        observer_status(&AgentStatus::default(), blocker, Some(observer))
    };
    let seen = |is_served, is_configured| SeenAgent { is_served, is_configured, ..SeenAgent::default() };
    let away = Blocker::Failed(ReconcileError::transient(Reason::GatewayNotReady, "x"));
    let spec = json!({ "boardRef": { "name": "ops" }, "agentId": "nova", "managementPolicy": "Observe" });
    let agent: Agent = object("Agent", &spec);
    let states = [
        ("an observed Agent", observed(Some(&seen(true, true)), None), Progress::Current),
        ("an observed Agent without its agent", observed(Some(&SeenAgent::default()), None), Progress::Failed),
        ("an observed Agent with an entry alone", observed(Some(&seen(false, true)), None), Progress::InProgress),
        ("an observed Agent whose gateway is away", observed(None, Some(&away)), Progress::InProgress),
    ];
    states.into_iter().map(|(name, status, progress)| State::new(name, with_status(&agent, status), progress)).collect()
}

/// Objects that Muster has not looked at, or not since a change of their spec.
fn new_ones() -> Vec<State> {
    let never = json!({ "observedGeneration": -1 });
    let outdated: AgentStatus =
        ready(|conditions| AgentStatus { observed_generation: GENERATION - 1, conditions, ..AgentStatus::default() });
    let objects = [
        ("a new Agent", with_status(&an_agent(), &never)),
        ("a new Board", with_status(&a_board(), &never)),
        ("a new AgentGateway", with_status(&a_gateway(false), &never)),
        ("an Agent with a changed spec", with_status(&an_agent(), outdated)),
    ];
    objects.into_iter().map(|(name, object)| State::new(name, object, Progress::InProgress)).collect()
}

/// Objects that are being deleted, whatever their conditions say.
fn leaving() -> Vec<State> {
    let mut gateway = a_gateway(false);
    gateway.metadata.deletion_timestamp = Some(Time(now()));
    let mut agent = an_agent();
    agent.metadata.deletion_timestamp.clone_from(&gateway.metadata.deletion_timestamp);
    let blocked = ReconcileError::permanent(Reason::DeletionBlocked, "x");
    let old = AgentStatus::default();
    let bound = GatewayObservation::Deleting { bound: 2, connection: None };
    let objects = [
        (
            "a blocked deletion",
            with_status(&agent, agent::status::terminating(&old, GENERATION, Some(&blocked), now())),
        ),
        ("a deletion", with_status(&agent, agent::status::terminating(&old, GENERATION, None, now()))),
        ("a deletion of an AgentGateway", with_status(&gateway, gateway_status(&gateway, &bound))),
    ];
    objects.into_iter().map(|(name, object)| State::new(name, object, Progress::Terminating)).collect()
}
