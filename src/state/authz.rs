//! The arguments, the answers and the errors of the Kubernetes access of people (`kube_authz`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::object_key::ObjectKey;

/// A user in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's id.
    pub uid: Option<String>,
    /// The user's groups.
    pub groups: Vec<String>,
    /// Further attributes from the authenticator.
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

/// A verb of the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read all objects.
    List,
    /// Create an object.
    Create,
    /// Change an object.
    Patch,
    /// Delete an object.
    Delete,
}

impl Verb {
    /// The verb's name in Roles.
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

/// A right in the access control of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// The verb.
    pub verb: Verb,
    /// The kind of the objects.
    pub kind: ResourceKind,
    /// The namespace of the objects; `None` stands for all namespaces.
    pub namespace: Option<String>,
    /// The name of the object; `None` stands for all objects.
    pub name: Option<String>,
}

impl Permission {
    /// The right to use `verb` on all objects of a kind in a namespace.
    #[must_use]
    pub fn within(verb: Verb, kind: ResourceKind, namespace: &str) -> Self {
        Self { verb, kind, namespace: Some(namespace.to_owned()), name: None }
    }

    /// The right to use `verb` on all objects of a kind in the cluster.
    #[must_use]
    pub fn everywhere(verb: Verb, kind: ResourceKind) -> Self {
        Self { verb, kind, namespace: None, name: None }
    }

    /// Whether an object can have these names: Kubernetes allows 63 characters for a namespace and 253 for a name. A caller chooses
    /// them, so that no longer text is kept or sent.
    #[must_use]
    pub fn names_are_possible(&self) -> bool {
        let fits = |name: &Option<String>, most| name.as_ref().is_none_or(|name| name.len() <= most);
        fits(&self.namespace, 63) && fits(&self.name, 253)
    }

    /// The right to use `verb` on one object.
    #[must_use]
    pub fn with(verb: Verb, kind: ResourceKind, key: &ObjectKey) -> Self {
        Self { verb, kind, namespace: Some(key.namespace.clone()), name: Some(key.name.clone()) }
    }
}

/// Why a request to Kubernetes for a person failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Kubernetes refused the request.
    #[error("refused with status {code}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The message of Kubernetes.
        message: String,
    },
    /// Kubernetes did not answer, or its answer is not valid.
    #[error("failed: {0}")]
    Failed(String),
}

/// An event of Kubernetes about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// `Normal` or `Warning`.
    pub kind: String,
    /// The event's reason: one word.
    pub reason: String,
    /// The event's message: a sentence.
    pub message: String,
    /// How often the event occurred.
    pub count: i32,
    /// When the event last occurred.
    pub last_seen: Option<Timestamp>,
}
