//! The binding of an Agent resource to one agent of one gateway.

use kube::api::ObjectMeta;

use super::folder::{DERIVED, Folder, id_of_derived};
use crate::api::agent::{Agent, BindingStatus, DeletionPolicy, Role};
use crate::api::object_key::ObjectKey;

/// The names of an agent at its gateway. All names are derived, and no name derives from a display name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The gateway's id of the agent.
    pub agent_id: String,
    /// Key of the agent's main session.
    pub session_key: String,
    /// The agent's workspace on the gateway's host.
    pub workspace: String,
}

impl AgentIdentity {
    /// Derives the names of an agent.
    ///
    /// `anchor_uid` is the uid of the object that the role belongs to: the Agent of a Worker, the Board of a Lead, the AgentGateway of
    /// a Main agent.
    #[must_use]
    pub fn derive(role: Role, agent_id: Option<&str>, anchor_uid: &str, workspace_root: &str) -> Self {
        let derived = match role {
            Role::Worker => format!("mc-{anchor_uid}"),
            Role::Lead => format!("lead-{anchor_uid}"),
            Role::Main => format!("mc-gateway-{anchor_uid}"),
        };
        let folder = match (role, agent_id) {
            (_, Some(id)) => format!("{DERIVED}{id}"),
            (Role::Main, None) => format!("{DERIVED}gateway-{anchor_uid}"),
            (Role::Worker | Role::Lead, None) => format!("{DERIVED}{derived}"),
        };
        let agent_id = agent_id.map_or(derived, str::to_owned);
        Self {
            session_key: format!("agent:{agent_id}:main"),
            workspace: format!("{}/{folder}", workspace_root.trim_end_matches('/')),
            agent_id,
        }
    }

    /// These names for an Agent of a gateway with this home namespace. In another namespace, the name of the folder ends with the namespace
    /// of the Agent: an id can be chosen again, and its agent never gets a folder that another namespace left.
    #[must_use]
    pub fn of_namespace(mut self, agent: &ObjectMeta, home: Option<&str>) -> Self {
        if let Some(namespace) = agent.namespace.as_deref().filter(|namespace| Some(*namespace) != home) {
            self.workspace.push('.');
            self.workspace.push_str(namespace);
        }
        self
    }

    /// Whether the folder of the workspace is named after the agent's id, and is not within a folder that Muster derives.
    #[must_use]
    pub fn has_usual_folder(&self) -> bool {
        let folder = Folder::parse(&self.workspace);
        let is_named_by_id = |name: &String| id_of_derived(name) == Some(self.agent_id.as_str());
        !folder.is_below_derived() && folder.names().last().is_some_and(is_named_by_id)
    }
}

/// The record, in the Agent's status, of the gateway and the names of its agent.
///
/// # Guarantees
/// The binding is written before the first change on the gateway and removed after the last one is undone. So a crash in between
/// leaves a trace, and the removal needs neither a valid spec nor a Board. The binding is in the status and not in an annotation,
/// because the binding decides which agent is removed: a user with the right to write Agents must not be able to write the binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The uid of the Agent that wrote it.
    pub uid: String,
    /// The AgentGateway.
    pub gateway: ObjectKey,
    /// The address of the gateway at that time. Empty in a binding of an older version of Muster.
    pub address: String,
    /// The agent's names at the gateway.
    pub identity: AgentIdentity,
    /// Whether the gateway had the agent before the Agent was bound.
    pub adopted: bool,
    /// The last known deletion policy. `None` in a binding of an older version of Muster.
    pub deletion_policy: Option<DeletionPolicy>,
    /// Whether the gateway had the agent, and a proof showed that it is the Agent's own.
    pub taken_up: bool,
    /// The uid that the id would derive from, if the annotation of the Agent gave another id.
    pub claimed_for: Option<String>,
}

impl Binding {
    /// The binding of an Agent. A binding that was copied from another Agent does not count.
    #[must_use]
    pub fn of(agent: &Agent) -> Option<Self> {
        let status = agent.status.as_ref()?.binding.clone()?;
        let BindingStatus { uid, gateway, address, agent_id, session_key, workspace, .. } = status;
        let identity = AgentIdentity { agent_id, session_key, workspace };
        (Some(uid.as_str()) == agent.metadata.uid.as_deref()).then_some(Self {
            uid,
            gateway,
            address,
            identity,
            adopted: status.adopted,
            taken_up: status.taken_up,
            claimed_for: status.claimed_for,
            deletion_policy: status.deletion_policy,
        })
    }

    /// Whether both name the same agent of the same gateway. The workspaces may differ.
    #[must_use]
    pub fn is_same_agent(&self, other: &Self) -> bool {
        (&self.uid, &self.gateway, &self.identity.agent_id) == (&other.uid, &other.gateway, &other.identity.agent_id)
    }

    /// Whether the binding was made at this address, as far as it is recorded.
    #[must_use]
    pub fn is_at(&self, address: &str) -> bool {
        self.address.is_empty() || self.address == address
    }

    /// Whether the binding names this AgentGateway, and was made at its present address. At another address, the agent of the same id may
    /// belong to somebody else.
    #[must_use]
    pub fn is_made_for(&self, gateway: &ObjectKey, address: &str) -> bool {
        self.gateway == *gateway && self.is_at(address)
    }

    /// Whether the folder of the workspace is not just named after the agent's id, or may be within the folder of another agent.
    #[must_use]
    pub fn has_unusual_folder(&self) -> bool {
        self.adopted || !self.identity.has_usual_folder()
    }

    /// The binding in the form of the status.
    #[must_use]
    pub fn to_status(&self) -> BindingStatus {
        let AgentIdentity { agent_id, session_key, workspace } = self.identity.clone();
        let Self { uid, gateway, address, adopted, deletion_policy, taken_up, claimed_for, .. } = self.clone();
        BindingStatus {
            uid,
            gateway,
            address,
            agent_id,
            session_key,
            workspace,
            adopted,
            deletion_policy,
            taken_up,
            claimed_for,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::AgentStatus;

    #[test]
    fn names_follow_the_role_and_the_uid() {
        let worker = AgentIdentity::derive(Role::Worker, None, "u1", "/data/");
        assert_eq!(worker.agent_id, "mc-u1");
        assert_eq!(worker.session_key, "agent:mc-u1:main");
        assert_eq!(worker.workspace, "/data/workspace-mc-u1");
        let lead = AgentIdentity::derive(Role::Lead, None, "b1", "~");
        assert_eq!((lead.agent_id.as_str(), lead.workspace.as_str()), ("lead-b1", "~/workspace-lead-b1"));
        let main = AgentIdentity::derive(Role::Main, None, "g1", "/");
        assert_eq!((main.agent_id.as_str(), main.workspace.as_str()), ("mc-gateway-g1", "/workspace-gateway-g1"));
    }

    #[test]
    fn a_given_agent_id_replaces_the_derived_one_everywhere() {
        let identity = AgentIdentity::derive(Role::Worker, Some("ops"), "u1", "/data");
        assert_eq!(identity.agent_id, "ops");
        assert_eq!(identity.session_key, "agent:ops:main");
        assert_eq!(identity.workspace, "/data/workspace-ops");
    }

    #[test]
    fn the_folder_of_an_agent_of_another_namespace_is_named_after_the_namespace_too() {
        let meta = |namespace: &str| ObjectMeta { namespace: Some(namespace.into()), ..ObjectMeta::default() };
        let identity = |namespace: &str| {
            let identity = AgentIdentity::derive(Role::Worker, Some("ops"), "u1", "/data");
            identity.of_namespace(&meta(namespace), Some("fleet"))
        };
        assert_eq!(identity("fleet").workspace, "/data/workspace-ops");
        assert_eq!(identity("team-a").workspace, "/data/workspace-ops.team-a");
        for namespace in ["fleet", "team-a"] {
            assert!(identity(namespace).has_usual_folder() && identity(namespace).agent_id == "ops", "{namespace}");
        }
    }

    #[test]
    fn a_binding_copied_from_another_object_does_not_count() {
        let binding = Binding {
            uid: "u1".into(),
            gateway: ObjectKey { namespace: "ns".into(), name: "gw".into() },
            address: "ws://gw:80".into(),
            identity: AgentIdentity::derive(Role::Worker, None, "u1", "/data"),
            adopted: false,
            deletion_policy: Some(DeletionPolicy::RetainFiles),
            taken_up: false,
            claimed_for: None,
        };
        let mut agent = Agent::default();
        agent.metadata.uid = Some("u1".into());
        agent.status = Some(AgentStatus { binding: Some(binding.to_status()), ..AgentStatus::default() });
        assert_eq!(Binding::of(&agent), Some(binding));
        agent.metadata.uid = Some("u2".into());
        assert_eq!(Binding::of(&agent), None);
    }
}
