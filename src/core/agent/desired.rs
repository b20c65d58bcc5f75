//! What an agent is to be on its gateway.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::binding::AgentIdentity;
use crate::api::agent::{DriftPolicy, FilePolicy};
use crate::api::object_key::ObjectKey;
use crate::api::soul::SoulStatus;
use crate::core::requests::Requests;
use crate::hash::sha256_hex;
use crate::openclaw::model::AgentEntry;

/// What an agent is to be on its gateway. Made only by `reconcile::desired`, which validates everything.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The uid of the Agent.
    pub uid: String,
    /// The generation of the Agent's spec.
    pub generation: i64,
    /// Its AgentGateway.
    pub gateway: ObjectKey,
    /// Its names there.
    pub identity: AgentIdentity,
    /// Where it comes from.
    pub origin: Origin,
    /// Its entry in the gateway's config.
    pub entry: AgentEntry,
    /// The label of its session.
    pub label: String,
    /// Its workspace files; `None` until there is a token to render them with.
    pub files: Option<Vec<DesiredFile>>,
    /// What is said about the soul for its role.
    pub soul: Option<SoulStatus>,
    /// Name of the Secret that keeps its token.
    pub token_secret: String,
    /// Whether the token is kept out of the files.
    pub secret_only: bool,
    /// When the token is replaced.
    pub rotation: Rotation,
    /// What is asked for, once.
    pub requests: Requests,
    /// Whether a changed spec starts the session anew.
    pub reset_on_update: bool,
    /// The base URL of Muster's HTTP API that it is told.
    pub api_url: String,
    /// How it is woken; `None` when it is not.
    pub wake: Option<Wake>,
    /// Whether it is paused, and by what.
    pub paused: Option<&'static str>,
    /// How often it should be heard of.
    pub heartbeat_interval: Duration,
    /// How often its files are compared although nothing seems to have changed.
    pub resync_interval: Duration,
    /// Since when the agent could be heard of: a silence before that says nothing about it.
    pub heard_since: Timestamp,
    /// How often the contents of all files are compared.
    pub content_check_interval: Duration,
}

/// Where an agent comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its id is derived from the Agent's own uid, so that nobody else can have it.
    Derived,
    /// Its id is derived from its Board or AgentGateway, so that an earlier lead or main agent may have it.
    ParentDerived,
    /// The same, and an agent has been set up under this id before: this one, or an earlier lead or main agent.
    ParentReused,
    /// Its id was chosen by a person, so that somebody else may already use it.
    Chosen,
    /// The gateway had it before the Agent stood for it.
    Adopted,
}

/// When an agent's token is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// The age at which it is.
    pub interval: Option<Duration>,
    /// How long the one before works after the new one was delivered.
    pub grace_period: Duration,
}

/// How an agent is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Whether its answer is delivered to its channel.
    pub deliver: bool,
    /// How long it has to check in.
    pub deadline: Duration,
    /// How often it is woken at most.
    pub max_attempts: i32,
}

/// One workspace file.
#[derive(Clone, Debug)]
pub struct DesiredFile {
    /// Its name.
    pub name: String,
    /// Whether the agent's token stands in it.
    pub carries_token: bool,
    /// Whether its agent was there before Muster knew it, so that what is written once in a life was written.
    pub existed_before: bool,
    /// What is to become of it.
    pub delivery: Delivery,
}

/// What is to become of a workspace file.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// It is written, by this policy.
    Write {
        /// When it is written.
        policy: FilePolicy,
        /// What is done when somebody else changed it.
        drift: DriftPolicy,
        /// What is written.
        content: RenderedText,
    },
    /// What was written before stays: a part of it is not at hand now.
    Held {
        /// When it is written.
        policy: FilePolicy,
        /// What is done when somebody else changed it.
        drift: DriftPolicy,
        /// What is written when nothing was written before.
        content: RenderedText,
    },
    /// It is a section of another file, because the gateway refuses its name.
    Folded {
        /// The other file.
        into: String,
    },
    /// It is longer than the gateway passes on to an agent.
    TooLarge {
        /// Its length in characters.
        characters: usize,
        /// The most that the gateway passes on.
        limit: usize,
    },
    /// It is left alone.
    Unmanaged,
}

/// A rendered file. It may hold the agent's token, so that it is never shown.
#[derive(Clone)]
pub struct RenderedText {
    text: SecretString,
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
    /// A rendered file.
    #[must_use]
    pub fn of(text: String) -> Self {
        let sha256 = sha256_hex(&text);
        Self::new(text, sha256)
    }

    /// A rendered file with its hash.
    #[must_use]
    pub fn new(text: String, sha256: String) -> Self {
        Self { text: text.into(), sha256 }
    }

    /// The text, to be sent to the gateway and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for RenderedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({})", self.sha256)
    }
}
