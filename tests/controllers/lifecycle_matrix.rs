//! The lifecycle of one Agent from its creation to its deletion, on a gateway with a fault.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::api::{Agent, ConditionType};
use muster_simulator::{Call, Outcome, Profile, Simulator};
use serde_json::json;
use tokio::time::Instant;

use crate::rig::{Rig, ready};

/// The limit of a lifecycle, by the paused clock.
const LIFECYCLE_TIMEOUT: Duration = Duration::from_mins(40);
/// How long a killed gateway stays away: longer than a restart takes.
const OUTAGE_TIME: Duration = Duration::from_secs(70);
/// Requests in a lifecycle without a fault on the versions with one connection, at most.
const USUAL_REQUESTS: u64 = 77;
/// Requests that a reconnect causes: everything known of a gateway is read again.
const REQUESTS_PER_RECONNECT: u64 = 30;
/// A chosen id.
const CHOSEN_ID: &str = "ops-bot";
/// A file that a person wrote into the agent's workspace.
const MEMORY: &str = "remember the milk";

/// The additional cost that a fault may cause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Runs of the agent, for two wakes.
    pub runs: usize,
    /// Attempted connections.
    pub dials: usize,
    /// Whether a Ready agent stays Ready: the gateway refuses nothing, and is not away for longer than a restart takes.
    pub stays_ready: bool,
    /// Requests in each second of the lifecycle. The rig reconciles once a second and waits no longer after a failure, unlike
    /// the operator.
    pub requests_per_second: u64,
}

/// The source of the agent's id, which decides how the agent is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdSource {
    /// The id is chosen and was in use before: `agents.create` creates the agent, and config writes only change it.
    Chosen,
    /// The id is derived: a config write creates the agent.
    Derived,
}

/// One Agent whose session is reset at each change; the agent checks in when its run has ended.
pub(crate) struct Lifecycle {
    pub rig: Rig,
    pub gateway: Simulator,
    context: String,
    id: IdSource,
    /// The last generation for which the agent was Ready.
    ready_for: Option<i64>,
    end: Instant,
    answered_runs: usize,
    away_since: Option<Instant>,
    /// How often the gateway was started again.
    pub starts: usize,
}

impl Lifecycle {
    /// The state before the first reconcile. `context` is for the message of a failure.
    pub(crate) fn new(profile: Profile, id: IdSource, context: String) -> Self {
        let (rig, _) = Rig::new();
        let gateway = Simulator::new(profile.with_token("secret-token"));
        rig.host("gw", &gateway);
        gateway.close_id(CHOSEN_ID);
        rig.board("ops");
        let end = Instant::now() + LIFECYCLE_TIMEOUT;
        let mut lifecycle =
            Self { rig, gateway, context, id, ready_for: None, end, answered_runs: 0, away_since: None, starts: 0 };
        lifecycle.apply("one");
        lifecycle
    }

    fn apply(&mut self, name: &str) {
        let mut spec =
            json!({ "boardRef": { "name": "ops" }, "displayName": name, "session": { "resetOnUpdate": true } });
        if self.id == IdSource::Chosen {
            spec["agentId"] = json!(CHOSEN_ID);
        }
        self.rig.agent("one", spec);
    }

    /// The agent's id at the gateway; empty before the agent has one.
    fn agent(&self) -> String {
        self.rig.status("one").agent_id.unwrap_or_default()
    }

    fn main_session(&self) -> String {
        format!("agent:{}:main", self.agent())
    }

    /// Runs from the creation to the deletion.
    pub(crate) async fn run(&mut self, bounds: &Bounds) {
        let call_start = self.call_start();
        self.until("its first check-in", bounds, |lifecycle| lifecycle.is_settled("one", 1)).await;
        self.gateway.edit_file(&self.agent(), "MEMORY.md", Some(MEMORY));
        let token = self.rig.token("one");
        self.apply("two");
        self.until("the check-in after the change", bounds, |lifecycle| lifecycle.is_settled("two", 2)).await;
        self.assert_final_state(&token, bounds);
        self.rig.delete::<Agent>("one");
        self.until("the deletion to finish", bounds, |lifecycle| lifecycle.rig.cluster.agents().is_empty()).await;
        self.until("the gateway to be reachable again", bounds, |lifecycle| lifecycle.reachable() == "True").await;
        self.assert_gone();
        self.assert_request_bounds(call_start, bounds);
    }

    /// Reconciles, checks in for the agent and starts a killed gateway again, until `condition` holds.
    async fn until(&mut self, what: &str, bounds: &Bounds, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            assert!(
                Instant::now() < self.end,
                "{}: {what}: not within {LIFECYCLE_TIMEOUT:?}; {}\n{:#?}",
                self.context,
                self.rig.summary(),
                self.last_calls()
            );
            self.check_in_after_run().await;
            if bounds.stays_ready {
                self.assert_stays_ready();
            }
            self.restart_after_outage();
            self.rig.run_for(Duration::from_secs(1)).await;
        }
    }

    /// The agent checks in when one of its runs has ended with an answer.
    async fn check_in_after_run(&mut self) {
        let runs: usize = self.gateway.chats().iter().map(|chat| chat.runs).sum();
        let sessions = self.gateway.sessions();
        let last = sessions.get(&self.main_session()).and_then(|session| session.messages.last());
        if runs == self.answered_runs || last.is_none_or(|(role, _)| role != "assistant") {
            return;
        }
        self.answered_runs = runs;
        let is_deleted = |agent: &Agent| agent.metadata.deletion_timestamp.is_some();
        if self.rig.cluster.agents().values().any(|agent| !is_deleted(agent)) {
            assert_eq!(self.rig.check_in("one", &json!({})).await, 200, "{}", self.context);
        }
    }

    /// A gateway that is back within the time of a restart makes no Ready agent flap.
    fn assert_stays_ready(&mut self) {
        let Some(agent) = self.rig.cluster.agents().values().next().cloned() else { return };
        let generation = agent.metadata.generation.filter(|_| agent.metadata.deletion_timestamp.is_none());
        if ready(&agent) {
            self.ready_for = generation;
            return;
        }
        let (status, reason, message) = self.rig.condition("one", ConditionType::Ready);
        let flapped = generation.is_some() && self.ready_for == generation;
        assert!(!flapped, "{}: the agent was Ready: {status} {reason} {message}", self.context);
    }

    /// Starts the gateway again after `OUTAGE_TIME`, and checks the conditions of that moment.
    fn restart_after_outage(&mut self) {
        if self.gateway.is_running() {
            self.away_since = None;
            return;
        }
        let since = *self.away_since.get_or_insert(Instant::now());
        if since.elapsed() < OUTAGE_TIME {
            return;
        }
        let (status, reason, _) = self.rig.gateway_condition("gw", ConditionType::Reachable);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "Unreachable"),
            "{}: the gateway is away",
            self.context
        );
        if self.rig.cluster.agents().is_empty() {
            return self.start();
        }
        let (status, reason, message) = self.rig.condition("one", ConditionType::Ready);
        let is_reported = ["GatewayNotReady", "DeletionBlocked"].contains(&reason.as_str()) && status != "True";
        assert!(is_reported, "{}: the agent of a gateway that is away: {status} {reason} {message}", self.context);
        self.start();
    }

    fn start(&mut self) {
        self.gateway.start();
        self.starts += 1;
        self.away_since = None;
    }

    /// Whether the agent has this name everywhere, was woken so often and has checked in.
    fn is_settled(&self, name: &str, wakes: usize) -> bool {
        let is_ready = self.rig.cluster.agents().values().all(ready);
        let label = self.gateway.sessions().get(&self.main_session()).and_then(|session| session.label.clone());
        is_ready
            && label.as_deref() == Some(name)
            && self.wakes().len() >= wakes
            && self.rig.condition("one", ConditionType::CheckedIn).0 == "True"
    }

    /// The idempotency keys of the wakes.
    fn wakes(&self) -> BTreeSet<String> {
        self.gateway.chats().into_iter().map(|chat| chat.idempotency_key).collect()
    }

    fn reachable(&self) -> String {
        self.rig.gateway_condition("gw", ConditionType::Reachable).0
    }

    fn assert_final_state(&self, token: &str, bounds: &Bounds) {
        let context = &self.context;
        let ids: Vec<_> = self.gateway.agents().into_keys().filter(|id| id != "main").collect();
        assert_eq!(ids, [self.agent()], "{context}: exactly this agent");
        let orphans = self.gateway.orphans();
        assert!(orphans.is_empty(), "{context}: {orphans:?}");
        assert_eq!(self.rig.token("one"), token, "{context}: the agent keeps its token");
        let read = |name| self.gateway.file(&self.agent(), name).unwrap_or_default();
        assert!(
            (read("AGENTS.md") + &read("TOOLS.md")).contains(token),
            "{context}: the token is in the agent's files"
        );
        assert_eq!(read("MEMORY.md"), MEMORY, "{context}: the file of a person is kept");
        assert_eq!(self.gateway.agents()[&self.agent()]["name"], "two", "{context}: the name of the agent");
        assert_eq!(self.wakes().len(), 2, "{context}: one wake for each generation: {:?}", self.gateway.chats());
        let runs: usize = self.gateway.chats().iter().map(|chat| chat.runs).sum();
        assert!(runs <= bounds.runs, "{context}: {runs} runs: {:?}", self.gateway.chats());
    }

    fn assert_gone(&self) {
        let context = &self.context;
        let ids: Vec<_> = self.gateway.agents().into_keys().filter(|id| id != "main").collect();
        assert!(ids.is_empty(), "{context}: {ids:?} left on the gateway");
        let orphans = self.gateway.orphans();
        assert!(orphans.is_empty(), "{context}: {orphans:?} left; {:#?}", self.last_calls());
        let sessions = self.gateway.sessions();
        assert!(sessions.is_empty(), "{context}: {sessions:?} left");
        let secrets: Vec<_> = self.rig.cluster.secrets().keys().map(|key| key.name.clone()).collect();
        assert!(!secrets.contains(&"one-token".to_owned()), "{context}: {secrets:?} left");
    }

    fn assert_request_bounds(&self, (calls, began): (usize, Instant), bounds: &Bounds) {
        let context = &self.context;
        let dials = self.rig.dials().len();
        assert!(dials <= bounds.dials, "{context}: {dials} attempted connections");
        let most = self.gateway.max_in_flight();
        assert!(most <= 16, "{context}: {most} concurrent requests, and maxInFlight is 16");
        let connected = |call: &&Call| call.method == "connect" && call.outcome == Outcome::Ok;
        let again = self.gateway.calls().iter().filter(connected).count().saturating_sub(1);
        let (calls, seconds) = (self.gateway.calls().len() - calls, began.elapsed().as_secs());
        let most =
            USUAL_REQUESTS * 3 / 2 + REQUESTS_PER_RECONNECT * again as u64 + bounds.requests_per_second * seconds;
        assert!(calls as u64 <= most, "{context}: {calls} requests in {seconds} s, and at most {most} are expected");
    }

    fn call_start(&self) -> (usize, Instant) {
        (self.gateway.calls().len(), Instant::now())
    }

    /// The last requests, for the message of a failure.
    fn last_calls(&self) -> Vec<String> {
        let short = |params: &serde_json::Value| params.to_string().chars().take(100).collect::<String>();
        let calls = self.gateway.calls();
        calls.iter().rev().take(15).map(|c| format!("{} {} {:?}", c.method, short(&c.params), c.outcome)).collect()
    }
}
