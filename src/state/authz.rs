//! What the HTTP API for people needs of the Kubernetes side: who somebody is, what they may do, and writes in their
//! own name.

use std::collections::BTreeMap;
use std::future::Future;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;

use crate::api::Agent;
use crate::api::object_key::ObjectKey;

/// A user as Kubernetes knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's id.
    pub uid: Option<String>,
    /// Groups that the user is in.
    pub groups: Vec<String>,
    /// What the authenticator says besides.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// One of Muster's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// `agents`.
    Agent,
    /// `boards`.
    Board,
    /// `agentgateways`.
    Gateway,
}

impl ResourceKind {
    /// The resource's name in URLs and in Roles.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Self::Agent => "agents",
            Self::Board => "boards",
            Self::Gateway => "agentgateways",
        }
    }
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read all objects.
    List,
    /// Make an object.
    Create,
    /// Change an object.
    Patch,
    /// Remove an object.
    Delete,
}

impl Verb {
    /// The verb as Roles have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// A right that somebody has or lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// What is to be done.
    pub verb: Verb,
    /// With what.
    pub kind: ResourceKind,
    /// In which namespace; `None` is all of them.
    pub namespace: Option<String>,
    /// With which object; `None` is all of them.
    pub name: Option<String>,
}

impl Permission {
    /// The right to do something with all objects of a namespace.
    #[must_use]
    pub fn within(verb: Verb, kind: ResourceKind, namespace: &str) -> Self {
        Self { verb, kind, namespace: Some(namespace.to_owned()), name: None }
    }

    /// The right to do something with all objects of the cluster.
    #[must_use]
    pub fn everywhere(verb: Verb, kind: ResourceKind) -> Self {
        Self { verb, kind, namespace: None, name: None }
    }

    /// The right to do something with one object.
    #[must_use]
    pub fn with(verb: Verb, kind: ResourceKind, key: &ObjectKey) -> Self {
        Self { verb, kind, namespace: Some(key.namespace.clone()), name: Some(key.name.clone()) }
    }
}

/// Why Kubernetes did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The request was refused.
    #[error("refused with status {code}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// What Kubernetes says.
        message: String,
    },
    /// There was no answer, or it was no answer to this.
    #[error("failed: {0}")]
    Failed(String),
}

/// Something that was told about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// `Normal` or `Warning`.
    pub kind: String,
    /// Why, in one word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often it was told.
    pub count: i32,
    /// When it was last told.
    pub last_seen: Option<Timestamp>,
}

/// The Kubernetes side as the HTTP API for people sees it.
///
/// # Guarantees
/// What takes a token is done with this token and no other, so that Kubernetes decides whether it may be done and its
/// audit log names the person.
pub trait Access: Send + Sync + 'static {
    /// Whose token this is; `None` when it is nobody's. One that was somebody's before does not stand in line behind those
    /// that are new.
    fn identify(
        &self,
        token: &SecretString,
        familiar: bool,
    ) -> impl Future<Output = Result<Option<User>, AccessError>> + Send;
    /// Whether a user has a right.
    fn allowed(&self, user: &User, right: &Permission) -> impl Future<Output = Result<bool, AccessError>> + Send;
    /// Makes an Agent.
    fn create_agent(
        &self,
        token: &SecretString,
        agent: &Agent,
    ) -> impl Future<Output = Result<Agent, AccessError>> + Send;
    /// Applies a JSON merge patch to an object and gives it back as it is then.
    fn patch(
        &self,
        token: &SecretString,
        object: (ResourceKind, &ObjectKey),
        patch: &Value,
    ) -> impl Future<Output = Result<Value, AccessError>> + Send;
    /// Deletes the Agent of this name if it has this uid.
    fn delete_agent(
        &self,
        token: &SecretString,
        key: &ObjectKey,
        uid: &str,
    ) -> impl Future<Output = Result<(), AccessError>> + Send;
    /// The events of a namespace that are about the object of this uid, newest first.
    fn events(
        &self,
        token: &SecretString,
        namespace: &str,
        uid: &str,
    ) -> impl Future<Output = Result<Vec<RecordedEvent>, AccessError>> + Send;
}
