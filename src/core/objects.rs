//! The cached objects of Kubernetes, and the keys under which the cache finds them.

use std::sync::Arc;

use kube::api::ObjectMeta;

use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board};

/// The cached objects of Kubernetes. A read costs no request, and a lookup by key costs no look at other objects.
pub trait Objects {
    /// One Agent.
    fn agent(&self, key: &ObjectKey) -> Option<Arc<Agent>>;
    /// One Board.
    fn board(&self, key: &ObjectKey) -> Option<Arc<Board>>;
    /// One AgentGateway.
    fn gateway(&self, key: &ObjectKey) -> Option<Arc<AgentGateway>>;
    /// The Agents with this index key, in the order of their keys.
    fn agents_by(&self, index: &AgentIndex) -> Vec<Arc<Agent>>;
    /// The Boards with this index key, in the order of their keys.
    fn boards_by(&self, index: &BoardIndex) -> Vec<Arc<Board>>;
    /// The AgentGateways with this index key, in the order of their keys.
    fn gateways_by(&self, index: &GatewayIndex) -> Vec<Arc<AgentGateway>>;
    /// All Agents, for a list of all of them.
    fn agents(&self) -> Vec<Arc<Agent>>;
    /// All Boards, for a list of all of them.
    fn boards(&self) -> Vec<Arc<Board>>;
    /// All AgentGateways, for a list of all of them.
    fn gateways(&self) -> Vec<Arc<AgentGateway>>;
    /// The metadata of the Agents that exist and that this version cannot decode.
    fn unreadable_agents(&self) -> Vec<ObjectMeta>;
    /// The metadata of the AgentGateways that exist and that this version cannot decode.
    fn unreadable_gateways(&self) -> Vec<ObjectMeta>;

    /// What the operator knows of a namespace. Without `--namespaces` it knows all objects of all namespaces.
    fn coverage(&self, _namespace: &str) -> Coverage {
        Coverage::Complete
    }
}

/// What the operator knows of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All objects: an object that the cache does not have does not exist.
    Complete,
    /// `--namespaces` does not name the namespace.
    NotWatched,
    /// `--namespaces` names the namespace, and the API server refuses to list all of its objects.
    Refused,
}

impl Coverage {
    /// Why the objects of a namespace are unknown, with what to do. `None` if they are known.
    #[must_use]
    pub fn obstacle(self, namespace: &str) -> Option<String> {
        match self {
            Self::Complete => None,
            Self::NotWatched => Some(format!(
                "Muster does not work in namespace {namespace:?}: --namespaces of the operator does not name it; add the namespace there \
                 and grant the operator its Role"
            )),
            Self::Refused => Some(format!(
                "Muster may not read namespace {namespace:?}, which --namespaces of the operator names; grant the operator its Role \
                 there"
            )),
        }
    }
}

/// A key under which the cache finds Agents. `core::index` derives the keys of an Agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentIndex {
    /// The uid of the Agent, or the gateway's id of its agent in the status.
    Id(String),
    /// The Board that `spec.boardRef` names.
    Board(ObjectKey),
    /// The AgentGateway that `spec.gatewayRef` names.
    GatewayRef(ObjectKey),
    /// The AgentGateway that `spec.gatewayRef` names, and the namespace of the Agent.
    GatewayRefFrom(ObjectKey, String),
    /// The AgentGateway of the binding.
    BoundTo(ObjectKey),
    /// The AgentGateway of the binding, if it is in another namespace, and the namespace of the Agent.
    BoundFrom(ObjectKey, String),
    /// The AgentGateway and the agent of the binding.
    BoundAs(ObjectKey, String),
    /// The AgentGateway of the binding, if the workspace has an unusual place or name.
    UnusualFolder(ObjectKey),
    /// The AgentGateway of the agent that the Agent only observes, by its status.
    Observes(ObjectKey),
    /// The id that `spec.agentId` requests, or that the annotation of an Agent without a binding claims.
    RequestsId(String),
    /// A ConfigMap with templates that the Agent itself names.
    ConfigMap(ObjectKey),
    /// The SHA-256 of the current or of the previous token, in hexadecimal. The index finds the Agent of a token. It does not decide whether
    /// the token is accepted.
    Token(String),
    /// A place that another Agent has. The Agent waits for it.
    WaitsFor(Place),
}

/// What only one Agent, or a limited number of Agents, can have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A place on a Board: its lead, or one of `spec.maxAgents`.
    OnBoard(ObjectKey),
    /// The main agent of an AgentGateway.
    MainAgent(ObjectKey),
    /// An id on a gateway.
    AgentId(String),
    /// A place of a namespace on AgentGateways of other namespaces.
    AsGuest(String),
}

/// A key under which the cache finds Boards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BoardIndex {
    /// The uid of the Board, or its name.
    UidOrName(String),
    /// The AgentGateway that `spec.gatewayRef` names.
    Gateway(ObjectKey),
    /// The AgentGateway that `spec.gatewayRef` names, and the namespace of the Board.
    GatewayFrom(ObjectKey, String),
    /// The ConfigMap with templates that the Board names.
    ConfigMap(ObjectKey),
}

/// A key under which the cache finds AgentGateways.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatewayIndex {
    /// The uid of the AgentGateway, or its name.
    UidOrName(String),
    /// The address of `spec.url`.
    Address(String),
    /// The ConfigMap with templates that the AgentGateway names.
    ConfigMap(ObjectKey),
    /// The namespace and the name of a device Secret.
    DeviceSecret(ObjectKey),
}
