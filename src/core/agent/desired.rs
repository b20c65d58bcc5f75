//! The desired state of an agent on its gateway.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::binding::AgentIdentity;
use crate::api::agent::{DeletionPolicy, DriftPolicy, FilePolicy};
use crate::api::object_key::ObjectKey;
use crate::api::soul::SoulStatus;
use crate::core::requests::Requests;
use crate::hash::sha256_hex;
use crate::openclaw::model::{AgentEntry, FileLimit};

/// The desired state of an agent on its gateway. Only `build::build` creates a value, after it validated everything.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The uid of the Agent.
    pub uid: String,
    /// The generation of the Agent's spec.
    pub generation: i64,
    /// Its AgentGateway.
    pub gateway: ObjectKey,
    /// The address of its gateway.
    pub address: String,
    /// Its names at the gateway.
    pub identity: AgentIdentity,
    /// The origin of its id.
    pub origin: Origin,
    /// What Muster removes when the Agent is deleted.
    pub deletion_policy: DeletionPolicy,
    /// The uid that the id would derive from, if a claim gave another id.
    pub claimed_for: Option<String>,
    /// Whether its workspace is elsewhere than `spec.workspaceRoot` says for new agents.
    pub keeps_folder: bool,
    /// Its entry in the gateway's config.
    pub entry: AgentEntry,
    /// The label of its session.
    pub label: String,
    /// Its workspace files; `None` until there is a token for the templates.
    pub files: Option<Vec<DesiredFile>>,
    /// The status of the soul for its role.
    pub soul: Option<SoulStatus>,
    /// Name of the Secret that holds its token.
    pub token_secret: String,
    /// Whether only the Secret holds the token, and no file does.
    pub secret_only: bool,
    /// The rotation of the token.
    pub rotation: Rotation,
    /// The one-shot requests.
    pub requests: Requests,
    /// Whether a changed spec resets the session.
    pub reset_on_update: bool,
    /// The base URL of Muster's HTTP API for the agent.
    pub api_url: String,
    /// The settings of wakes; `None` without wakes.
    pub wake: Option<Wake>,
    /// The field that suspends the agent and the given reason, if it is suspended.
    pub paused: Option<String>,
    /// The expected time between two of its heartbeats; zero expects none.
    pub heartbeat_interval: Duration,
    /// The time between two comparisons of its files without a sign of a change.
    pub resync_interval: Duration,
    /// The time from which a silence of the agent counts.
    pub silence_counts_from: Timestamp,
    /// The time between two comparisons of the contents of all files.
    pub content_check_interval: Duration,
}

/// The origin of an agent's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The id derives from the Agent's own uid, so that no other agent can have it.
    Derived,
    /// The id derives from the uid of its Board or AgentGateway, so that an earlier lead or main agent may have it.
    ParentDerived,
    /// The id derives from the uid of its Board or AgentGateway, and an agent was set up under this id before.
    ParentReused,
    /// A user chose the id in the spec, so that another agent may already have it.
    Chosen,
    /// The annotation of the Agent claims the id, and the gateway had no such agent.
    Claimed,
    /// The annotation of the Agent claims the id, and a proof showed that the agent is the Agent's own.
    TakenUp,
    /// The gateway had the agent before the Agent was bound to it.
    Adopted,
}

/// The rotation of an agent's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// The age at which the token is replaced.
    pub interval: Option<Duration>,
    /// The time for which the previous token is accepted after the delivery of the new token.
    pub grace_period: Duration,
}

/// The settings of an agent's wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Whether the agent's answer is delivered to its channel.
    pub deliver: bool,
    /// The time in which the agent has to check in.
    pub deadline: Duration,
    /// The largest number of wakes.
    pub max_attempts: i32,
}

/// One workspace file.
#[derive(Clone, Debug)]
pub struct DesiredFile {
    /// Its name.
    pub name: String,
    /// Whether the file holds the agent's token.
    pub carries_token: bool,
    /// Whether the agent existed before it was adopted or taken up, so that a `Once` file counts as written.
    pub is_adopted: bool,
    /// The delivery of the file.
    pub delivery: Delivery,
}

/// The delivery of a workspace file.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The file is written by this policy.
    Write {
        /// The policy of the file.
        policy: FilePolicy,
        /// The policy for a change by another client.
        drift: DriftPolicy,
        /// The content to be written.
        content: RenderedText,
    },
    /// The written content stays, because a part of the new content is unavailable now.
    Held {
        /// The policy of the file.
        policy: FilePolicy,
        /// The policy for a change by another client.
        drift: DriftPolicy,
        /// The content to be written if no content was written before.
        content: RenderedText,
    },
    /// The file becomes a section of another file, because the gateway refuses its name.
    Folded {
        /// The other file.
        into: String,
    },
    /// The file is longer than the gateway passes on to an agent.
    TooLarge {
        /// Its length in UTF-16 units, as the gateway counts.
        units: usize,
        /// The limit of the gateway.
        limit: FileLimit,
    },
    /// Muster does not touch the file.
    Unmanaged,
}

/// The text of a rendered file. The text may hold the agent's token, so that `Debug` shows only the hash.
#[derive(Clone)]
pub struct RenderedText {
    /// Shared by the plan and the Step that writes it.
    text: Arc<SecretString>,
    /// SHA-256 of the text, in hexadecimal.
    pub sha256: String,
}

impl PartialEq for RenderedText {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl Eq for RenderedText {}

impl RenderedText {
    /// The rendered text of a file.
    #[must_use]
    pub fn of(text: String) -> Self {
        let sha256 = sha256_hex(&text);
        Self::new(text, sha256)
    }

    /// The rendered text of a file with its hash.
    #[must_use]
    pub fn new(text: String, sha256: String) -> Self {
        Self { text: Arc::new(text.into()), sha256 }
    }

    /// The text, for the gateway only.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for RenderedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RenderedText({})", self.sha256)
    }
}
