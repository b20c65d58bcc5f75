//! Situations of an agent, for the tests of what follows from them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::desired::{Content, Delivery, Desired, DesiredFile, Entry, EntryHeartbeat, Wake};
use super::status::{Report, status};
use super::{Binding, Identity, Observed, ObservedFile, Plan, Registration, Step, TokenState, agent, plan};
use crate::api::agent::{AgentStatus, FilePolicy, GatewayKey, HeartbeatStatus, Role};

/// A point in time, in seconds.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Everything that a plan is made from.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    pub(super) desired: Desired,
    pub(super) binding: Option<Binding>,
    pub(super) token: TokenState,
    pub(super) status: AgentStatus,
    pub(super) observed: Observed,
    pub(super) seen: Option<i64>,
    pub(super) now: i64,
}

/// A worker that was just applied.
pub(super) fn applied() -> Situation {
    let identity = Identity::derive(Role::Worker, None, "u1", "/data");
    let content = Content::new("text".into(), "sha-of-text".into());
    let delivery = Delivery::Write { policy: FilePolicy::Always, content };
    let heartbeat = EntryHeartbeat {
        every: Duration::from_mins(5),
        target: "none".into(),
        prompt: None,
        model: None,
        active_hours: None,
    };
    let entry = Entry {
        name: "One".into(),
        workspace: identity.workspace.clone(),
        model: None,
        emoji: None,
        avatar: None,
        heartbeat,
    };
    let desired = Desired {
        uid: "u1".into(),
        generation: 1,
        gateway: GatewayKey { namespace: "fleet".into(), name: "gw".into() },
        identity,
        chosen_id: false,
        entry,
        label: "One".into(),
        files: Some(vec![DesiredFile { name: "AGENTS.md".into(), delivery }]),
        token_secret: "one-token".into(),
        api_url: "http://muster:8080".into(),
        wake: Some(Wake { deliver: true, deadline: Duration::from_mins(5), max_attempts: 3 }),
        paused: None,
        heartbeat_interval: Duration::from_mins(5),
        resync_interval: Duration::from_mins(10),
    };
    Situation {
        desired,
        binding: None,
        token: TokenState::Missing,
        status: AgentStatus::default(),
        observed: Observed { settled: true, ..Observed::default() },
        seen: None,
        now: 1000,
    }
}

impl Situation {
    /// The same, and its binding is recorded.
    pub(super) fn bound(mut self) -> Self {
        let desired = &self.desired;
        self.binding = Some(Binding {
            uid: desired.uid.clone(),
            gateway: desired.gateway.clone(),
            identity: desired.identity.clone(),
        });
        self
    }

    /// The same, and its token is in its Secret.
    pub(super) fn with_token(mut self) -> Self {
        self.token = TokenState::Valid("hash".into());
        self
    }

    /// The same, and the gateway's roster shows it.
    pub(super) fn registered(mut self) -> Self {
        self.observed.registration = Registration::Current;
        self
    }

    /// The same with its files and its session, and all that is in its status.
    pub(super) fn provisioned(self) -> Self {
        let mut all = self.bound().with_token().registered();
        all.write("AGENTS.md");
        all.observed.label = Some(all.desired.label.clone());
        all.record(&Plan::default(), None);
        all
    }

    /// The same, woken and heard of.
    pub(super) fn working(self) -> Self {
        let mut all = self.provisioned();
        all.record(&Plan::default(), Some(1));
        all.seen = Some(all.now + 1);
        all.now += 2;
        all.record(&Plan::default(), None);
        all
    }

    fn write(&mut self, name: &str) {
        let file = ObservedFile { size: 4, modified_ms: 9, sha256: Some("sha-of-text".into()) };
        self.observed.files.insert(name.into(), file);
    }

    pub(super) fn plan(&self) -> Plan {
        let known = agent::Known {
            binding: self.binding.as_ref(),
            token: &self.token,
            status: &self.status,
            last_seen: self.seen.map(at),
        };
        plan(&self.desired, known, &self.observed, at(self.now))
    }

    /// Takes the status over that follows from a plan and a wake.
    pub(super) fn record(&mut self, plan: &Plan, woken: Option<i32>) {
        let heartbeat = self.seen.map(|s| HeartbeatStatus { last_seen: Time(at(s)), status: None, current_task: None });
        let report = Report {
            old: &self.status,
            generation: self.desired.generation,
            desired: Some(&self.desired),
            observed: Some(&self.observed),
            token: Some(&self.token),
            wait: plan.wait.as_ref(),
            heartbeat: heartbeat.as_ref(),
            woken: woken.map(|attempt| (attempt, at(self.now))),
            now: at(self.now),
        };
        self.status = status(&report);
    }

    /// What the world is after a Step.
    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::Release(_) => self.binding = None,
            Step::Bind(binding) => self.binding = Some(binding.clone()),
            Step::IssueToken => self.token = TokenState::Valid("hash".into()),
            Step::Create => self.observed.registration = Registration::Outdated,
            Step::SubmitEntry => self.observed.registration = Registration::Current,
            Step::WriteFiles(files) => {
                for (name, _) in files {
                    self.write(name);
                }
            }
            Step::LabelSession => self.observed.label = Some(self.desired.label.clone()),
            Step::Wake { attempt, .. } => self.record(&Plan::default(), Some(*attempt)),
        }
    }

    /// What the gateway's cheap list shows: no hashes.
    pub(super) fn listed(mut self) -> Self {
        let files = std::mem::take(&mut self.observed.files).into_iter();
        let bare = files.map(|(name, file)| (name, ObservedFile { sha256: None, ..file }));
        self.observed.files = bare.collect::<BTreeMap<_, _>>();
        self
    }
}
