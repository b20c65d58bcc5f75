//! The life of one Agent from its creation to its deletion, on a gateway on which something goes wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::api::{Agent, ConditionType};
use muster::reconcile::heartbeats::Report;
use muster_simulator::{Profile, Simulator};
use serde_json::json;
use tokio::time::Instant;

use crate::rig::{Rig, ready};

/// How long a life may take, by the paused clock.
const LONGEST: Duration = Duration::from_mins(40);
/// How long a gateway that was killed stays away: longer than what passes for a restart.
const AWAY: Duration = Duration::from_secs(70);
/// What a person wrote into the agent's workspace.
const MEMORY: &str = "remember the milk";

/// What went wrong, where, and how much more than usual it may cost.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Runs of the agent, for two wakes.
    pub runs: usize,
    /// Connections that were tried.
    pub dials: usize,
}

/// One Agent with an id that was in use before and a session that starts anew with each change; the agent checks in when its
/// run has ended.
pub(crate) struct Life {
    pub rig: Rig,
    pub gateway: Simulator,
    context: String,
    end: Instant,
    answered: usize,
    away_since: Option<Instant>,
    /// How often the gateway was started again.
    pub starts: usize,
}

impl Life {
    /// Before the operator has seen anything. `context` is for the message of a failure.
    pub(crate) fn new(profile: Profile, context: String) -> Self {
        let (rig, _) = Rig::new();
        let gateway = Simulator::new(profile.with_token("secret-token"));
        rig.host("gw", &gateway);
        gateway.close_id("ops-bot");
        rig.board("ops");
        let mut life =
            Self { rig, gateway, context, end: Instant::now() + LONGEST, answered: 0, away_since: None, starts: 0 };
        life.apply("one");
        life
    }

    fn apply(&mut self, name: &str) {
        let spec = json!({
            "boardRef": { "name": "ops" }, "agentId": "ops-bot", "displayName": name, "session": { "resetOnUpdate": true }
        });
        self.rig.agent("one", spec);
    }

    /// Lives from the creation to the deletion.
    pub(crate) async fn live(&mut self, bounds: &Bounds) {
        let called = self.called();
        self.until("its first check-in", |life| life.is_at_rest("one", 1)).await;
        self.gateway.edit_file("ops-bot", "MEMORY.md", Some(MEMORY));
        let token = self.rig.token("one");
        self.apply("two");
        self.until("the check-in after the change", |life| life.is_at_rest("two", 2)).await;
        self.assert_whole(&token, bounds);
        self.rig.delete::<Agent>("one");
        self.until("its end", |life| life.rig.store.state().agents.is_empty()).await;
        self.until("the gateway to be reachable again", |life| life.reachable() == "True").await;
        self.assert_gone();
        self.assert_no_storm(called, bounds);
    }

    /// Looks, answers for the agent and starts a killed gateway again, until `condition` holds.
    async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            assert!(
                Instant::now() < self.end,
                "{}: {what}: not within {LONGEST:?}; {}\n{:#?}",
                self.context,
                self.rig.summary(),
                self.last_calls()
            );
            self.answer();
            self.rig.look().await;
            self.tend();
            self.rig.pause(Duration::from_secs(1)).await;
        }
    }

    /// The agent checks in when a run of it has ended with an answer.
    fn answer(&mut self) {
        let runs: usize = self.gateway.chats().iter().map(|chat| chat.runs).sum();
        let sessions = self.gateway.sessions();
        let last = sessions.get("agent:ops-bot:main").and_then(|session| session.messages.last());
        if runs == self.answered || last.is_none_or(|(role, _)| role != "assistant") {
            return;
        }
        self.answered = runs;
        let world = self.rig.world();
        for agent in self.rig.store.state().agents.values() {
            world.heartbeats.record(agent, Report::default(), muster::reconcile::Store::now(&world.store));
        }
    }

    /// Starts the gateway again when it was away for long enough, and looks at what is said of it then.
    fn tend(&mut self) {
        if self.gateway.is_running() {
            self.away_since = None;
            return;
        }
        let since = *self.away_since.get_or_insert(Instant::now());
        if since.elapsed() < AWAY {
            return;
        }
        let (status, reason, _) = self.rig.gateway_condition("gw", ConditionType::Reachable);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "Unreachable"),
            "{}: the gateway is away",
            self.context
        );
        if self.rig.store.state().agents.is_empty() {
            return self.start();
        }
        let (status, reason, message) = self.rig.condition("one", ConditionType::Ready);
        let told = ["GatewayNotReady", "DeletionBlocked"].contains(&reason.as_str()) && status != "True";
        assert!(told, "{}: the agent of a gateway that is away: {status} {reason} {message}", self.context);
        self.start();
    }

    fn start(&mut self) {
        self.gateway.start();
        self.starts += 1;
        self.away_since = None;
    }

    /// Whether the agent has this name everywhere, was woken so often and has checked in.
    fn is_at_rest(&self, name: &str, wakes: usize) -> bool {
        let is_ready = self.rig.store.state().agents.values().all(ready);
        let label = self.gateway.sessions().get("agent:ops-bot:main").and_then(|session| session.label.clone());
        is_ready
            && label.as_deref() == Some(name)
            && self.wakes().len() >= wakes
            && self.rig.condition("one", ConditionType::CheckedIn).0 == "True"
    }

    /// The keys of the wakes.
    fn wakes(&self) -> BTreeSet<String> {
        self.gateway.chats().into_iter().map(|chat| chat.idempotency_key).collect()
    }

    fn reachable(&self) -> String {
        self.rig.gateway_condition("gw", ConditionType::Reachable).0
    }

    fn assert_whole(&self, token: &str, bounds: &Bounds) {
        let context = &self.context;
        let ids: Vec<_> = self.gateway.agents().into_keys().filter(|id| id != "main").collect();
        assert_eq!(ids, ["ops-bot"], "{context}: exactly this agent");
        let orphans = self.gateway.orphans();
        assert!(orphans.is_empty(), "{context}: {orphans:?}");
        assert_eq!(self.rig.token("one"), token, "{context}: it keeps its token");
        let read = |name| self.gateway.file("ops-bot", name).unwrap_or_default();
        assert!((read("AGENTS.md") + &read("TOOLS.md")).contains(token), "{context}: it knows its token");
        assert_eq!(self.gateway.file("ops-bot", "MEMORY.md").as_deref(), Some(MEMORY), "{context}: a person's file");
        assert_eq!(self.gateway.agents()["ops-bot"]["name"], "two", "{context}: its name");
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
        let secrets: Vec<_> = self.rig.store.state().secrets.keys().map(|key| key.name.clone()).collect();
        assert!(!secrets.contains(&"one-token".to_owned()), "{context}: {secrets:?} left");
    }

    fn assert_no_storm(&self, (calls, began): (usize, Instant), bounds: &Bounds) {
        let context = &self.context;
        let dials = self.rig.dials().len();
        assert!(dials <= bounds.dials, "{context}: {dials} connections were tried");
        let most = self.gateway.most_in_flight();
        assert!(most <= 16, "{context}: {most} requests at one time, and maxInFlight is 16");
        // The rig looks once a second and never waits longer, as the operator does after a failure.
        let (calls, seconds) = (self.gateway.calls().len() - calls, began.elapsed().as_secs());
        let most = 200 + 12 * seconds;
        assert!(calls as u64 <= most, "{context}: {calls} requests in {seconds} s");
    }

    fn called(&self) -> (usize, Instant) {
        (self.gateway.calls().len(), Instant::now())
    }

    /// What was asked last, for the message of a failure.
    fn last_calls(&self) -> Vec<String> {
        let short = |params: &serde_json::Value| params.to_string().chars().take(100).collect::<String>();
        let calls = self.gateway.calls();
        calls.iter().rev().take(15).map(|c| format!("{} {} {:?}", c.method, short(&c.params), c.outcome)).collect()
    }
}
