//! Fixtures of agents in typical states, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::binding::{AgentIdentity, Binding};
use super::desired::{Delivery, Desired, DesiredFile, Origin, RenderedText, Rotation, Wake};
use super::observed::{Observed, ObservedFile, ObservedSession, Registration};
use super::plan::{ClusterState, Plan, plan};
use super::status::status;
use super::status_input::StatusInput;
use super::step::Step;
use super::token::rules::{IssuedToken, TokenChange, TokenState};
use super::wake::WakeResult;
use crate::api::agent::{AgentStatus, DeletionPolicy, DriftPolicy, FilePolicy, HeartbeatStatus, Parents, Role};
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::core::agent::conclude::{Conclusion, PassEnd, conclude};
use crate::core::requests::{RequestTimes, Requests};
use crate::openclaw::model::{AgentEntry, EntryIdentity, HeartbeatEntry};

/// A point in time, in seconds.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The binding of a worker to the gateway `ns/gw`.
pub(crate) fn binding(workspace: &str) -> Binding {
    Binding {
        uid: "u".into(),
        gateway: ObjectKey { namespace: "ns".into(), name: "gw".into() },
        address: "ws://gw:80".into(),
        identity: AgentIdentity::derive(Role::Worker, None, "u", workspace),
        adopted: false,
        deletion_policy: None,
        taken_up: false,
        claimed_for: None,
    }
}

/// All inputs of a plan.
#[derive(Clone, Debug)]
pub(crate) struct AgentFixture {
    pub(crate) desired: Desired,
    pub(crate) is_claimed: bool,
    pub(crate) annotated_id: Option<String>,
    pub(crate) binding: Option<Binding>,
    pub(crate) token: TokenState,
    pub(crate) status: AgentStatus,
    pub(crate) observed: Observed,
    pub(crate) seen: Option<i64>,
    pub(crate) confirmed: Option<(String, Timestamp)>,
    pub(crate) own: BTreeMap<RequestKind, i64>,
    pub(crate) from_parents: BTreeMap<RequestKind, i64>,
    pub(crate) parents: Parents,
    pub(crate) now: i64,
}

static NO_REQUESTS: BTreeSet<RequestKind> = BTreeSet::new();

fn issued(sha256: &str) -> IssuedToken {
    IssuedToken { sha256: sha256.into(), is_current: true, ..IssuedToken::default() }
}

/// A token Secret with this token.
pub(crate) fn issued_token(sha256: &str) -> TokenState {
    TokenState::Issued(issued(sha256))
}

/// A worker whose Agent was just applied.
pub(crate) fn applied() -> AgentFixture {
    let identity = AgentIdentity::derive(Role::Worker, None, "u1", "/data");
    let content = RenderedText::new("text".into(), "sha-of-text".into());
    let delivery = Delivery::Write { policy: FilePolicy::Always, drift: DriftPolicy::Correct, content };
    let heartbeat =
        HeartbeatEntry { every: Some("5m".into()), target: Some("none".into()), ..HeartbeatEntry::default() };
    let entry = AgentEntry {
        id: identity.agent_id.clone(),
        name: Some("One".into()),
        workspace: identity.workspace.clone(),
        model: None,
        identity: EntryIdentity { name: Some("One".into()), ..EntryIdentity::default() },
        heartbeat,
        ..AgentEntry::default()
    };
    let desired = Desired {
        uid: "u1".into(),
        generation: 1,
        gateway: ObjectKey { namespace: "fleet".into(), name: "gw".into() },
        address: "ws://gw:80".into(),
        identity,
        origin: Origin::Derived,
        deletion_policy: DeletionPolicy::Delete,
        claimed_for: None,
        keeps_folder: false,
        entry,
        label: "One".into(),
        files: Some(vec![DesiredFile { name: "AGENTS.md".into(), carries_token: true, is_adopted: false, delivery }]),
        soul: None,
        token_secret: "one-token".into(),
        secret_only: false,
        rotation: Rotation { interval: None, grace_period: Duration::from_hours(1) },
        requests: Requests::default(),
        reset_on_update: false,
        api_url: "http://muster:8080".into(),
        wake: Some(Wake { deliver: true, deadline: Duration::from_mins(5), max_attempts: 3 }),
        paused: None,
        heartbeat_interval: Duration::from_mins(5),
        resync_interval: Duration::from_mins(10),
        silence_counts_from: Timestamp::MIN,
        content_check_interval: Duration::from_hours(6),
    };
    AgentFixture {
        desired,
        is_claimed: false,
        annotated_id: None,
        binding: None,
        token: TokenState::Missing,
        status: AgentStatus::default(),
        observed: Observed { settled: true, ..Observed::default() },
        seen: None,
        confirmed: None,
        own: BTreeMap::new(),
        from_parents: BTreeMap::new(),
        parents: Parents { board_uid: Some("b1".into()), gateway_uid: "g1".into() },
        now: 1000,
    }
}

impl AgentFixture {
    /// With a recorded binding.
    pub(crate) fn bound(mut self) -> Self {
        let desired = &self.desired;
        self.is_claimed = true;
        self.binding = Some(Binding {
            uid: desired.uid.clone(),
            gateway: desired.gateway.clone(),
            address: desired.address.clone(),
            identity: desired.identity.clone(),
            adopted: desired.origin == Origin::Adopted,
            deletion_policy: Some(desired.deletion_policy),
            taken_up: desired.origin == Origin::TakenUp,
            claimed_for: desired.claimed_for.clone(),
        });
        self.annotated_id = Some(desired.identity.agent_id.clone());
        self
    }

    /// With a token in its Secret.
    pub(crate) fn with_token(mut self) -> Self {
        self.token = issued_token("t1");
        self.record(&Plan::default(), None);
        self
    }

    /// With a current entry in the gateway's roster.
    pub(crate) fn registered(mut self) -> Self {
        self.observed.registration = Registration::Current;
        self
    }

    /// With its files, its session and the resulting status.
    pub(crate) fn provisioned(self) -> Self {
        let mut all = self.bound().with_token().registered();
        all.write("AGENTS.md");
        all.label();
        all.record(&Plan::default(), None);
        all
    }

    /// Provisioned, woken and checked in.
    pub(crate) fn working(self) -> Self {
        let mut all = self.provisioned();
        all.record(&Plan::default(), Some(1));
        all.seen = Some(all.now + 1);
        all.now += 2;
        all.record(&Plan::default(), None);
        all
    }

    fn write(&mut self, name: &str) {
        let file = ObservedFile { size: 4, modified_ms: 9, sha256: Some("sha-of-text".into()), refused: None };
        self.observed.files.insert(name.into(), file);
    }

    /// Makes the gateway refuse a file.
    pub(crate) fn refuse(&mut self, name: &str) {
        let refused = Some(format!("unsafe workspace file {name}"));
        self.observed.files.insert(name.into(), ObservedFile { refused, ..ObservedFile::default() });
    }

    fn label(&mut self) {
        let session = self.observed.session.get_or_insert_default();
        session.label = Some(self.desired.label.clone());
    }

    /// The requests at the current time.
    fn requests(&self) -> Requests {
        let requests = |times: &BTreeMap<RequestKind, i64>| {
            let annotations = times.iter().map(|(kind, time)| (kind.annotation().to_owned(), at(*time).to_string()));
            RequestTimes::read(Some(&annotations.collect()), at(self.now))
        };
        Requests::new(requests(&self.own), requests(&self.from_parents), self.parents.clone(), &self.status)
    }

    /// The desired state with the requests at the current time.
    pub(crate) fn desired_now(&self) -> Desired {
        Desired { requests: self.requests(), ..self.desired.clone() }
    }

    pub(crate) fn cluster(&self) -> ClusterState<'_> {
        ClusterState {
            is_claimed: self.is_claimed,
            annotated_id: self.annotated_id.as_deref(),
            binding: self.binding.as_ref(),
            token: &self.token,
            status: &self.status,
            last_seen: self.seen.map(at),
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.desired_now(), self.cluster(), &self.observed, at(self.now))
    }

    /// Concludes a pass with this end.
    pub(crate) fn conclude(&self, end: &PassEnd) -> Conclusion {
        let desired = self.desired_now();
        let heartbeat = self.heartbeat();
        conclude(&self.input(&desired, heartbeat.as_ref()), end)
    }

    fn heartbeat(&self) -> Option<HeartbeatStatus> {
        self.seen.map(|s| HeartbeatStatus { last_seen: Time(at(s)), status: None, current_task: None })
    }

    fn input<'a>(&'a self, desired: &'a Desired, heartbeat: Option<&'a HeartbeatStatus>) -> StatusInput<'a> {
        StatusInput {
            old: &self.status,
            generation: self.desired.generation,
            desired: Some(desired),
            observed: Some(&self.observed),
            observer: None,
            token: Some(&self.token),
            blocker: None,
            heartbeat,
            woken: None,
            labelled: None,
            confirmed: self.confirmed.as_ref(),
            fulfilled: &NO_REQUESTS,
            begins_reset: false,
            revocation: None,
            now: at(self.now),
        }
    }

    /// Records the status that follows from a plan and a wake.
    pub(crate) fn record(&mut self, plan: &Plan, woken: Option<i32>) {
        self.desired.requests = self.requests();
        self.binding = plan.binds.clone().or(self.binding.take());
        let woken =
            woken.map(|attempt| WakeResult { attempt, key: format!("k{attempt}"), at: at(self.now), answered: false });
        let heartbeat = self.heartbeat();
        let input = StatusInput {
            blocker: plan.blocker.as_ref(),
            woken: woken.as_ref(),
            fulfilled: if plan.blocker.is_none() { &plan.fulfils } else { &NO_REQUESTS },
            begins_reset: plan.begins_reset,
            ..self.input(&self.desired, heartbeat.as_ref())
        };
        self.status = status(&input);
    }

    /// Applies a Step to the observed state.
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Release(_) => self.binding = None,
            Step::Claim { agent_id } => {
                self.is_claimed = true;
                self.annotated_id = Some(agent_id.clone());
            }
            Step::Token(change) => self.change_token(*change),
            Step::Create(_) => self.observed.registration = Registration::Outdated,
            Step::SubmitEntry(_) => self.observed.registration = Registration::Current,
            Step::WriteFiles(files) => {
                for file in files {
                    self.write(&file.name);
                }
            }
            Step::LabelSession { .. } => self.label(),
            Step::ResetSession { .. } => {
                self.observed.session = Some(ObservedSession { version: "after".into(), ..self.session() });
            }
            Step::Wake(message) => self.record(&Plan::default(), Some(message.attempt)),
        }
    }

    fn session(&self) -> ObservedSession {
        self.observed.session.clone().unwrap_or_default()
    }

    fn change_token(&mut self, change: TokenChange) {
        let old = match &self.token {
            TokenState::Issued(old) => old.clone(),
            TokenState::Missing | TokenState::Foreign | TokenState::Tampered => IssuedToken::default(),
        };
        let number: u32 = old.sha256.trim_start_matches('t').parse().unwrap_or(0);
        let issued_for = self.requests().due(RequestKind::Rotate).or(old.issued_for);
        self.token = TokenState::Issued(match change {
            TokenChange::Issue => IssuedToken { issued_for, ..issued(&format!("t{}", number + 100)) },
            TokenChange::Rotate => {
                IssuedToken { previous: Some(old.sha256), issued_for, ..issued(&format!("t{}", number + 1)) }
            }
            TokenChange::Repair => IssuedToken { is_current: true, ..old },
            TokenChange::Retire => IssuedToken { previous: None, ..old },
        });
    }

    /// With files as the gateway lists them, without hashes.
    pub(crate) fn listed(mut self) -> Self {
        let files = std::mem::take(&mut self.observed.files).into_iter();
        let bare = files.map(|(name, file)| (name, ObservedFile { sha256: None, ..file }));
        self.observed.files = bare.collect::<BTreeMap<_, _>>();
        self
    }
}
