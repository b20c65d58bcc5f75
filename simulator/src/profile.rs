//! The differences between gateway versions, as data in one place.

use std::{fmt, sync::Arc, time::Duration};

/// The longest accepted frame, in bytes, as the hello reports it.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 26_214_400;

/// The shape of the agents in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterShape {
    /// `agents.list[]`, an array of objects with an `id`.
    List,
    /// `agents.entries{}`, an object keyed by id.
    Entries,
}

/// The kind of shared secret that the gateway requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// `auth.token`.
    Token,
    /// `auth.password`.
    Password,
}

/// The duration of a call, from the method's name and the number of agents in the roster.
pub type Latency = Arc<dyn Fn(&str, usize) -> Duration + Send + Sync>;

/// The delay before a written configuration is applied, from the number of agents in the roster.
pub type Visibility = Arc<dyn Fn(usize) -> Duration + Send + Sync>;

/// One gateway version, and the numbers that a test may change.
///
/// The constructors hold measured values. A test may replace every field before
/// [`Simulator::new`](crate::Simulator::new).
#[expect(clippy::struct_excessive_bools, reason = "each is one measured difference")]
#[derive(Clone)]
pub struct Profile {
    /// The version that the configuration names as its last writer.
    pub version: &'static str,
    /// `server.version` of the hello, which may differ from the version.
    pub announced_version: &'static str,
    /// The only accepted protocol.
    pub protocol: u64,
    /// The oldest protocol that a probe may name, as a refusal reports it.
    pub probe_protocol: u64,
    /// `features.methods` of the hello, one per line.
    pub methods: &'static str,
    /// `features.events` of the hello, one per line.
    pub events: &'static str,
    /// The shape of the agents in the configuration.
    pub roster: RosterShape,
    /// The shared secret.
    pub token: String,
    /// The kind of shared secret that the gateway requires.
    pub auth_mode: AuthMode,
    /// The gateway's home directory, as paths show it.
    pub home: String,
    /// Writable workspace files, in the order in which they are listed.
    pub files: &'static [&'static str],
    /// Files that `agents.create` puts into a new workspace.
    pub seeds: &'static [&'static str],
    /// Files of `files` that `agents.files.list` leaves out.
    pub unlisted_files: &'static [&'static str],
    /// Whether files have hashes and `expectedHash` is supported.
    pub file_hashes: bool,
    /// The keys that an agent's `heartbeat` may have.
    pub heartbeat_keys: &'static [&'static str],
    /// Whether a heartbeat block in the defaults enrols all agents; if not, only the default agent.
    pub defaults_enrol_all: bool,
    /// Whether heartbeats are cron jobs that `cron.list` shows.
    pub heartbeat_jobs: bool,
    /// Whether the gateway sends `config.changed`.
    pub config_events: bool,
    /// Whether `config.get` shows the applied revision beside the written revision, and hashes are opaque.
    pub opaque_hashes: bool,
    /// Whether a missing scope gives `FORBIDDEN` with details.
    pub forbidden: bool,
    /// Whether a remote client without a device keeps its requested scopes.
    pub deviceless_remote: bool,
    /// Whether a retry of a device renews its pairing request. If not, a new request replaces the first one after five
    /// minutes.
    pub retries_renew_pairing: bool,
    /// Whether the main session of an agent can be deleted.
    pub main_session_delete: bool,
    /// The longest label of a session, in UTF-16 code units.
    pub label_limit: usize,
    /// The number of rows of `sessions.list` without a limit; `None` for every row.
    pub session_limit: Option<usize>,
    /// Whether `sessions.reset` keeps the session's id.
    pub reset_keeps_id: bool,
    /// Whether by-id methods name an unknown agent; if not, the message is `unknown agent id`.
    pub names_unknown_agent: bool,
    /// Whether `agents.create` requires a workspace.
    pub workspace_required: bool,
    /// Whether a parameter error names every missing property; if not, only the first.
    pub names_every_missing: bool,
    /// Whether `chat.send` checks its target before its parameters.
    pub target_first: bool,
    /// Whether `chat.send` starts a run for an unknown agent.
    pub wakes_unknown_agent: bool,
    /// Whether model names are normalised when they are written.
    pub rewrites_models: bool,
    /// Whether a patch that takes values out of an array has to name it in `replacePaths`; if not, the parameter is refused.
    pub guards_arrays: bool,
    /// Whether the gateway restarts after a `config.patch`.
    pub restarts_on_patch: bool,
    /// Whether the id of a deleted agent stays closed until `agents.create`, even if a config write restores the entry.
    pub closes_deleted_ids: bool,
    /// Whether a write to a file that is not valid JSON starts from the applied configuration. If not, the write starts
    /// from an empty document, and the content of the file is lost.
    pub heals_broken_config: bool,
    /// Whether a deletion keeps a workspace that is, contains or is within the workspace of another agent, without a report.
    pub keeps_shared_workspaces: bool,
    /// Whether a write is rejected that makes a config of 512 bytes or more less than half as long.
    pub rejects_size_drops: bool,
    /// The length of the parts of openclaw.json that the simulator does not hold, in bytes.
    pub other_config_bytes: usize,
    /// The time after a write in which a second write undoes the first one without an error.
    pub loses_writes: Option<Duration>,
    /// The number of `config.patch` calls that one client may send in a window.
    pub patch_budget: usize,
    /// The window of `patch_budget`.
    pub patch_window: Duration,
    /// The number of calls in flight at which the gateway reports that it is busy.
    pub queue: usize,
    /// The duration of calls.
    pub latency: Latency,
    /// The delay before a written configuration is applied.
    pub visibility: Visibility,
    /// The time for which a started gateway answers `gateway starting`.
    pub boot_time: Duration,
    /// The duration of an in-process restart.
    pub restart_time: Duration,
    /// The lease of a process that was killed during a reload.
    pub lease: Duration,
    /// The lease of a process that was killed during a deletion, from the next start.
    pub delete_lease: Duration,
    /// The duration of a run.
    pub run_time: Duration,
    /// The delay before a message is in the history. A gateway that is killed earlier loses the message.
    pub store_time: Duration,
    /// The time between two `tick` events.
    pub tick: Duration,
    /// The time between two `health` events.
    pub health: Duration,
    /// Whether the simulator keeps the parameters of calls; if not, [`Call::params`](crate::Call::params) is null.
    pub keeps_params: bool,
}

const FILES_9_6: &[&str] = &["AGENTS.md", "SOUL.md", "IDENTITY.md", "USER.md", "BOOTSTRAP.md", "MEMORY.md"];
const SEEDS_9_6: &[&str] = &["AGENTS.md", "SOUL.md", "IDENTITY.md", "USER.md", "BOOTSTRAP.md"];
const SEEDS_OLD: &[&str] =
    &["AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "USER.md", "HEARTBEAT.md", "BOOTSTRAP.md"];
const FILES_OLD: &[&str] =
    &["AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "USER.md", "HEARTBEAT.md", "BOOTSTRAP.md", "MEMORY.md"];
const HEARTBEAT_9_6: &[&str] = &[
    "every",
    "activeHours",
    "model",
    "session",
    "target",
    "directPolicy",
    "to",
    "accountId",
    "prompt",
    "timeoutSeconds",
    "lightContext",
    "isolatedSession",
];
const HEARTBEAT_OLD: &[&str] = &[
    "every",
    "activeHours",
    "model",
    "session",
    "target",
    "directPolicy",
    "to",
    "accountId",
    "prompt",
    "timeoutSeconds",
    "lightContext",
    "isolatedSession",
    "includeReasoning",
    "ackMaxChars",
    "suppressToolErrorWarnings",
];

impl Profile {
    /// `OpenClaw` 2026.9.6: protocol 4, `agents.entries`, file hashes, 30 patches per minute.
    pub fn v2026_9_6() -> Self {
        Self {
            version: "2026.9.6",
            announced_version: "2026.9.6",
            protocol: 4,
            probe_protocol: 3,
            methods: include_str!("../data/2026.9.6.methods"),
            events: include_str!("../data/2026.9.6.events"),
            roster: RosterShape::Entries,
            token: "t".into(),
            auth_mode: AuthMode::Token,
            home: "/home/openclaw".into(),
            files: FILES_9_6,
            seeds: SEEDS_9_6,
            unlisted_files: &["IDENTITY.md"],
            file_hashes: true,
            heartbeat_keys: HEARTBEAT_9_6,
            defaults_enrol_all: true,
            heartbeat_jobs: true,
            config_events: true,
            guards_arrays: true,
            opaque_hashes: true,
            forbidden: true,
            deviceless_remote: false,
            retries_renew_pairing: true,
            main_session_delete: false,
            label_limit: 512,
            session_limit: Some(100),
            reset_keeps_id: true,
            names_unknown_agent: true,
            workspace_required: false,
            names_every_missing: true,
            target_first: true,
            wakes_unknown_agent: false,
            rewrites_models: true,
            restarts_on_patch: false,
            closes_deleted_ids: true,
            keeps_shared_workspaces: true,
            heals_broken_config: false,
            rejects_size_drops: true,
            other_config_bytes: 2_000,
            loses_writes: None,
            patch_budget: 30,
            patch_window: Duration::from_mins(1),
            queue: 300,
            latency: Arc::new(latency_9_6),
            visibility: Arc::new(visibility_9_6),
            boot_time: Duration::from_secs(2),
            restart_time: Duration::from_millis(3_500),
            lease: Duration::from_mins(5),
            delete_lease: Duration::from_secs(45),
            run_time: Duration::from_secs(4),
            store_time: Duration::from_secs(1),
            tick: Duration::from_secs(30),
            health: Duration::from_mins(1),
            keeps_params: true,
        }
    }

    /// `OpenClaw` 2026.7.1: protocol 4, `agents.list`, 3 patches per minute.
    pub fn v2026_7_1() -> Self {
        Self {
            version: "2026.7.1",
            announced_version: "2026.7.1",
            methods: include_str!("../data/2026.7.1.methods"),
            events: include_str!("../data/2026.7.1.events"),
            roster: RosterShape::List,
            files: FILES_OLD,
            seeds: SEEDS_OLD,
            unlisted_files: &[],
            file_hashes: false,
            heartbeat_keys: HEARTBEAT_OLD,
            heartbeat_jobs: false,
            config_events: false,
            opaque_hashes: false,
            forbidden: false,
            main_session_delete: true,
            reset_keeps_id: false,
            names_unknown_agent: false,
            workspace_required: true,
            names_every_missing: false,
            target_first: false,
            patch_budget: 3,
            visibility: Arc::new(|_| Duration::ZERO),
            lease: Duration::ZERO,
            delete_lease: Duration::ZERO,
            ..Self::v2026_9_6()
        }
    }

    /// `OpenClaw` 2026.5.28: as 2026.7.1, with fewer methods; retries do not renew a pairing request.
    pub fn v2026_5_28() -> Self {
        Self {
            version: "2026.5.28",
            announced_version: "2026.5.28",
            probe_protocol: 4,
            retries_renew_pairing: false,
            methods: include_str!("../data/2026.5.28.methods"),
            events: include_str!("../data/2026.5.28.events"),
            guards_arrays: false,
            ..Self::v2026_7_1()
        }
    }

    /// `OpenClaw` 2026.3.2: protocol 3, restarts after each patch, loses a write if another follows within 1 s.
    pub fn v2026_3_2() -> Self {
        Self {
            version: "2026.3.2",
            announced_version: "dev",
            protocol: 3,
            methods: include_str!("../data/2026.3.2.methods"),
            events: include_str!("../data/2026.3.2.events"),
            defaults_enrol_all: false,
            deviceless_remote: true,
            label_limit: 64,
            session_limit: None,
            names_every_missing: true,
            wakes_unknown_agent: true,
            rewrites_models: false,
            restarts_on_patch: true,
            closes_deleted_ids: false,
            keeps_shared_workspaces: false,
            heals_broken_config: true,
            rejects_size_drops: false,
            loses_writes: Some(Duration::from_secs(1)),
            latency: Arc::new(latency_3_2),
            visibility: Arc::new(|_| Duration::from_millis(550)),
            guards_arrays: false,
            ..Self::v2026_7_1()
        }
    }

    /// Sets the shared token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = token.into();
        self
    }

    /// Sets a shared password instead of a token.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.token = password.into();
        self.auth_mode = AuthMode::Password;
        self
    }

    /// Sets the latency, from the method's name and the number of agents.
    #[must_use]
    pub fn with_latency(mut self, latency: impl Fn(&str, usize) -> Duration + Send + Sync + 'static) -> Self {
        self.latency = Arc::new(latency);
        self
    }

    /// Sets the delay between a write's reply and its effect.
    #[must_use]
    pub fn with_visibility_delay(mut self, delay: Duration) -> Self {
        self.visibility = Arc::new(move |_| delay);
        self
    }

    /// Sets the budget of `config.patch` calls.
    #[must_use]
    pub fn with_patch_budget(mut self, calls: usize, window: Duration) -> Self {
        self.patch_budget = calls;
        self.patch_window = window;
        self
    }

    /// Sets no latency and no visibility delay, for tests that do not depend on time.
    #[must_use]
    pub fn instant(self) -> Self {
        self.with_latency(|_, _| Duration::ZERO).with_visibility_delay(Duration::ZERO)
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Profile").field("version", &self.version).finish_non_exhaustive()
    }
}

fn latency_9_6(method: &str, roster: usize) -> Duration {
    let agents = u64::try_from(roster).unwrap_or(u64::MAX);
    Duration::from_millis(match method {
        "agents.create" => 400 + 3 * agents,
        "agents.update" => 160 + 5 * agents,
        "agents.delete" => 600 + 120 * agents,
        "config.patch" => 300 + 60 * agents,
        "config.set" => 150,
        "agents.files.set" => 12,
        "chat.send" => 250,
        "sessions.patch" | "sessions.reset" | "sessions.delete" => 90,
        "agents.list" => 10 + agents,
        "config.get" => 20,
        _ => 3,
    })
}

fn visibility_9_6(roster: usize) -> Duration {
    let agents = u64::try_from(roster).unwrap_or(u64::MAX);
    Duration::from_millis(agents.saturating_mul(27).saturating_add(250).min(1_900))
}

fn latency_3_2(method: &str, _roster: usize) -> Duration {
    Duration::from_millis(match method {
        "agents.create" => 40,
        "agents.update" | "agents.delete" | "config.patch" => 30,
        _ => 3,
    })
}
