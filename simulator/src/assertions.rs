//! Assertions of tests: the state of the gateway, and the calls that it received.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value;

use crate::{
    Simulator,
    config::heartbeats,
    world::{
        ProcessState,
        records::{Call, Chat},
        roster_id, sessions,
        workspaces::File,
    },
};

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The agent that the session key names.
    pub agent: String,
    /// The session's id.
    pub id: String,
    /// The label.
    pub label: Option<String>,
    /// Whether a run of the agent is active in the session.
    pub running: bool,
    /// The role and the text of each message.
    pub messages: Vec<(String, String)>,
}

/// Objects that a correct client does not leave behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Sessions of agents that are not in the configuration.
    pub sessions: BTreeSet<String>,
    /// Workspaces with files that belong to no agent of the configuration.
    pub workspaces: BTreeSet<String>,
    /// Workspaces that belong to more than one agent.
    pub shared_workspaces: BTreeSet<String>,
    /// Agents that were created more than once.
    pub created_again: BTreeSet<String>,
}

impl Orphans {
    /// Whether there are no orphans.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Assertions about the gateway.
impl Simulator {
    /// Every agent in the written configuration, by id, with its entry; `main` is always among them.
    pub fn agents(&self) -> BTreeMap<String, Value> {
        let agents = self.gateway.world().config.document.clone();
        agents.agents().into_iter().map(|(id, entry)| (id.to_owned(), entry.clone())).collect()
    }

    /// Every agent with an enabled heartbeat, by id, with the interval in milliseconds.
    pub fn heartbeat_intervals(&self) -> BTreeMap<String, u64> {
        let world = self.gateway.world();
        let applied = &world.config.applied.value;
        let enrolled = heartbeats::enrolled(applied, &world.profile);
        let interval = |(id, entry): (&str, Cow<'_, Value>)| {
            let every_ms = heartbeats::every_ms(applied, &entry).filter(|_| enrolled.contains(id));
            Some((id.to_owned(), every_ms?))
        };
        world.applied_agents().into_iter().filter_map(interval).collect()
    }

    /// Every agent in the applied configuration, by id, with its entry.
    pub fn applied_agents(&self) -> BTreeMap<String, Value> {
        let world = self.gateway.world();
        world.applied_agents().into_iter().map(|(id, entry)| (id.to_owned(), entry.into_owned())).collect()
    }

    /// The written configuration.
    pub fn config(&self) -> Value {
        self.gateway.world().config.document.value.clone()
    }

    /// Whether the gateway restarts some time after a `config.patch`.
    pub fn restarts_on_patch(&self) -> bool {
        self.gateway.world().profile.restarts_on_patch
    }

    /// Whether the written configuration is applied.
    pub fn is_settled(&self) -> bool {
        let mut world = self.gateway.world();
        world.end_expired_lease();
        world.config.is_settled()
    }

    /// The content of a file in the workspace of an agent.
    pub fn file(&self, agent: &str, name: &str) -> Option<String> {
        let world = self.gateway.world();
        world.workspaces.file(&world.written_workspace(agent)?, name).map(File::text)
    }

    /// The files in a workspace, by name.
    pub fn workspace(&self, path: &str) -> BTreeMap<String, String> {
        let world = self.gateway.world();
        let files = world.workspaces.by_path.get(path).into_iter().flat_map(|workspace| &workspace.files);
        files.map(|(name, file)| (name.clone(), file.text())).collect()
    }

    /// A file of the workspace that was last moved from this path to the trash.
    pub fn trashed_file(&self, path: &str, name: &str) -> Option<String> {
        let world = self.gateway.world();
        world.workspaces.trashed.get(path)?.files.get(name).map(File::text)
    }

    /// Every session by its key.
    pub fn sessions(&self) -> BTreeMap<String, Session> {
        let world = self.gateway.world();
        world.sessions.by_key.iter().map(|(key, session)| (key.clone(), public_session(key, session))).collect()
    }

    /// Every message that was sent to an agent.
    pub fn chats(&self) -> Vec<Chat> {
        self.gateway.world().chats.chats.clone()
    }

    /// The runs that a message steered, once per message: the run skipped its tool calls that had not begun.
    pub fn steered(&self) -> Vec<String> {
        self.gateway.world().steered.clone()
    }

    /// Every call so far, handshakes included.
    pub fn calls(&self) -> Vec<Call> {
        self.gateway.world().calls.all()
    }

    /// The number of calls of a method.
    pub fn count(&self, method: &str) -> usize {
        self.gateway.world().calls.count(method)
    }

    /// The number of calls of writing methods that were executed or refused. Calls that a fault stopped before do not
    /// count.
    pub fn writes(&self) -> usize {
        self.gateway.world().calls.writes()
    }

    /// The number of connected clients.
    pub fn connections(&self) -> usize {
        self.gateway.world().connections.client_count()
    }

    /// Whether the process runs; a process that starts or drains runs.
    pub fn is_running(&self) -> bool {
        !matches!(self.gateway.process_state(), ProcessState::Stopped | ProcessState::HostLost)
    }

    /// The highest number of calls in flight at one time.
    pub fn max_in_flight(&self) -> usize {
        self.gateway.world().max_in_flight
    }

    /// The number of faults that have not happened yet.
    pub fn faults_left(&self) -> usize {
        self.gateway.world().faults.left()
    }

    /// The orphans. Objects of agents that were deleted without their files do not count.
    pub fn orphans(&self) -> Orphans {
        let world = self.gateway.world();
        let agents = world.config.document.agents();
        let known = |id: &str| agents.contains_key(id) || world.retained.contains(id);
        let mut used: BTreeMap<String, usize> = BTreeMap::new();
        for (id, entry) in &agents {
            *used.entry(world.workspace_of(id, entry)).or_default() += 1;
        }
        let kept = !world.retained.is_empty();
        Orphans {
            sessions: world.sessions.by_key.keys().filter(|key| !known(roster_id(key))).cloned().collect(),
            workspaces: world
                .workspaces
                .by_path
                .iter()
                .filter(|(path, workspace)| !kept && !workspace.files.is_empty() && !used.contains_key(*path))
                .map(|(path, _)| path.clone())
                .collect(),
            shared_workspaces: used.iter().filter(|(_, agents)| **agents > 1).map(|(path, _)| path.clone()).collect(),
            created_again: world
                .create_counts
                .iter()
                .filter(|(_, times)| **times > 1)
                .map(|(id, _)| id.clone())
                .collect(),
        }
    }
}

fn public_session(key: &str, session: &sessions::StoredSession) -> Session {
    let text = |message: &Value| {
        let content = &message["content"];
        content.as_str().or_else(|| content[0]["text"].as_str()).unwrap_or_default().to_owned()
    };
    let said = |message: &Value| (message["role"].as_str().unwrap_or_default().to_owned(), text(message));
    Session {
        agent: roster_id(key).to_owned(),
        id: session.id.clone(),
        label: session.label.clone(),
        running: session.run.is_some(),
        messages: session.messages.iter().map(said).collect(),
    }
}
