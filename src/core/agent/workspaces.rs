//! The workspaces of one gateway: no agent's folder is, contains or is within the folder of another agent.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::admission::creation_order;
use super::binding::{AgentIdentity, Binding};
use super::folder::{Folder, id_of_derived};
use super::references::References;
use crate::api::agent::{Agent, Role};
use crate::api::object_key::ObjectKey;
use crate::api::{AgentGateway, Reason};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::claiming_gateways;
use crate::core::objects::{AgentIndex, Objects};
use crate::openclaw::model::Inventory;

/// Checks that the workspace of an Agent meets no other workspace of its gateway: of another bound Agent, of the main agent of an
/// AgentGateway, or of an agent in `inventory`. A bound Agent gives way only to an older bound Agent.
///
/// # Caveats
/// Until the Agent is bound, the work grows with the number of agents in the inventory, and for an adoption with the number of Agents on
/// the gateway. Afterwards it grows with the number of adopted agents.
///
/// # Errors
/// `WorkspaceTaken`, with the next step.
pub fn check<O: Objects>(
    objects: &O,
    wanted: WantedWorkspace<'_>,
    inventory: Option<&Inventory>,
) -> Result<(), ReconcileError> {
    let search = Search::of(wanted);
    let gateways = claiming_gateways(objects, wanted.gateway);
    if let Some(other) = search.rival(objects, &gateways) {
        let folder = Binding::of(&other).map(|binding| binding.identity.workspace).unwrap_or_default();
        return Err(search.taken(&format!("Agent {}", ObjectKey::of(&other.metadata)), &folder));
    }
    if search.is_bound {
        return Ok(());
    }
    for gateway in gateways.iter().filter_map(|key| objects.gateway(key)) {
        search.leave_main_folder(&gateway)?;
    }
    let rows = inventory.into_iter().flat_map(|inventory| inventory.agents.values());
    for row in rows.filter(|row| row.id != wanted.identity.agent_id) {
        if let Some(folder) = row.workspace.as_deref().filter(|folder| search.meets(folder)) {
            return Err(search.taken(&format!("agent {:?} of the gateway", row.id), folder));
        }
    }
    Ok(())
}

/// The workspace that an Agent is to get.
#[derive(Clone, Copy, Debug)]
pub struct WantedWorkspace<'a> {
    /// The Agent.
    pub agent: &'a Agent,
    /// Its AgentGateway.
    pub gateway: &'a ObjectKey,
    /// The address of its gateway.
    pub address: &'a str,
    /// Its names at the gateway.
    pub identity: &'a AgentIdentity,
    /// Whether the gateway had the agent before this Agent was bound to it, in a folder that is not the usual one of its id.
    pub adopted: bool,
}

impl<'a> WantedWorkspace<'a> {
    /// The workspace of an Agent with these references.
    #[must_use]
    pub fn of(agent: &'a Agent, references: &'a References) -> Self {
        let References { gateway_key: gateway, address, names, .. } = references;
        let adopted = names.adopted && !names.identity.has_usual_folder();
        Self { agent, gateway, address, identity: &names.identity, adopted }
    }
}

/// The search for the owners of folders that a wanted workspace meets.
struct Search<'a> {
    wanted: WantedWorkspace<'a>,
    folder: Folder,
    /// Whether the Agent is bound to this workspace.
    is_bound: bool,
}

impl<'a> Search<'a> {
    fn of(wanted: WantedWorkspace<'a>) -> Self {
        let WantedWorkspace { agent, gateway, address, identity, .. } = wanted;
        let is_same = |b: Binding| b.gateway == *gateway && b.is_at(address) && b.identity == *identity;
        let is_bound = Binding::of(agent).is_some_and(is_same);
        Self { wanted, folder: Folder::parse(&identity.workspace), is_bound }
    }

    fn meets(&self, folder: &str) -> bool {
        self.may_meet(folder) && self.folder.meets(&Folder::parse(folder))
    }

    /// Whether it takes a closer look to see that a folder does not meet this one. A gateway may have thousands of agents, and nearly all
    /// their folders are plain siblings of this one.
    fn may_meet(&self, folder: &str) -> bool {
        let names = self.folder.names();
        let Some(own) = names.last().filter(|_| !self.wanted.adopted && names.len() > 2) else { return true };
        let is_plain = folder.matches('/').count() > 2 && !folder.contains("..") && !folder.contains("${");
        let last = folder.rsplit('/').find(|name| !name.is_empty() && *name != ".");
        !is_plain || folder.contains(own.as_str()) || last.is_none_or(|last| names.iter().any(|name| name == last))
    }

    /// The oldest bound Agent whose folder meets this folder.
    fn rival<O: Objects>(&self, objects: &O, gateways: &[ObjectKey]) -> Option<Arc<Agent>> {
        let found = gateways.iter().flat_map(|key| self.candidates(objects, key));
        let rivals = found.filter(|other| self.is_rival(other));
        rivals.min_by(|one, other| creation_order(one).cmp(&creation_order(other)))
    }

    /// The Agents of an AgentGateway whose folders may meet this folder.
    ///
    /// A usual folder is named after the id of its agent. A usual folder that contains this folder, or equals it, has the name of one of
    /// the directories of this folder. No usual folder is within a derived folder. An adopted agent may have a folder around usual ones.
    fn candidates<O: Objects>(&self, objects: &O, gateway: &ObjectKey) -> Vec<Arc<Agent>> {
        if self.wanted.adopted && !self.is_bound {
            return objects.agents_by(&AgentIndex::BoundTo(gateway.clone()));
        }
        let ids: BTreeSet<_> = self.folder.names().iter().filter_map(|name| id_of_derived(name)).collect();
        let mut found = objects.agents_by(&AgentIndex::UnusualFolder(gateway.clone()));
        for id in ids {
            found.extend(objects.agents_by(&AgentIndex::BoundAs(gateway.clone(), id.to_owned())));
        }
        found
    }

    fn is_rival(&self, other: &Agent) -> bool {
        let binding = other.status.as_ref().and_then(|status| status.binding.as_ref());
        let may_be = binding.is_some_and(|b| self.may_meet(&b.workspace))
            && other.metadata.uid != self.wanted.agent.metadata.uid;
        let Some(binding) = Binding::of(other).filter(|_| may_be) else { return false };
        let is_here = binding.gateway == *self.wanted.gateway || binding.is_at(self.wanted.address);
        let comes_first = !self.is_bound || creation_order(other) < creation_order(self.wanted.agent);
        is_here && comes_first && self.meets(&binding.identity.workspace)
    }

    /// The folder of the main agent belongs to the main agent, also before there is one.
    fn leave_main_folder(&self, gateway: &AgentGateway) -> Result<(), ReconcileError> {
        let key = ObjectKey::of(&gateway.metadata);
        let is_main = self.wanted.agent.spec.role == Role::Main && key == *self.wanted.gateway;
        let uid = gateway.metadata.uid.as_deref().unwrap_or_default();
        let main = AgentIdentity::derive(Role::Main, None, uid, &gateway.spec.workspace_root).workspace;
        if is_main || !self.meets(&main) {
            return Ok(());
        }
        Err(self.taken(&format!("the main agent of AgentGateway {key}"), &main))
    }

    fn taken(&self, owner: &str, folder: &str) -> ReconcileError {
        let workspace = &self.wanted.identity.workspace;
        ReconcileError::permanent(
            Reason::WorkspaceTaken,
            format!(
                "the workspace {workspace:?} of this Agent is, contains or is within the workspace {folder:?} of {owner}; choose another spec.agentId, or another spec.workspaceRoot of AgentGateway {}",
                self.wanted.gateway
            ),
        )
    }
}

#[cfg(test)]
#[path = "workspaces_tests.rs"]
mod tests;
