//! What the operator would do for the Agents of manifests on a gateway. The requests to the gateway only read.
//!
//! Dereference, build and plan are the functions of the operator (`core::agent`), and the observation is that of its controller. Nothing
//! applies the plan.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::mpsc;

use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::controllers::agent::{adoption, observe};
use crate::controllers::gateway_handle::GatewayHandle;
use crate::core::agent::blocked::gateway_suspended;
use crate::core::agent::build::build;
use crate::core::agent::desired::Desired;
use crate::core::agent::observed::Observed;
use crate::core::agent::offline_objects::OfflineObjects;
use crate::core::agent::preview::{AgentPreview, observed_id, preview, references};
use crate::core::agent::token::rules::TokenState;
use crate::core::agent::token::secret::has_form_of_token;
use crate::core::agent::workspaces::{self, WantedWorkspace};
use crate::core::error::ReconcileError;
use crate::gateway_connection::OpenGateway;
use crate::hash::sha256_hex;
use crate::openclaw::model::{AgentEntry, Inventory};

/// The files that may hold the token of an agent.
const TOKEN_FILES: [&str; 2] = ["AGENTS.md", "TOOLS.md"];
/// The places of reconciles of the handle, none of which is used.
const PLACES: usize = 1;

/// A gateway that is compared with manifests.
pub struct PreviewedGateway {
    handle: Arc<GatewayHandle>,
    inventory: Arc<Inventory>,
}

impl fmt::Debug for PreviewedGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreviewedGateway").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// What would be done for one Agent.
#[derive(Clone, Debug)]
pub enum Preview {
    /// For an Agent with `spec.managementPolicy: Observe`: nothing.
    Observed {
        /// The id of the agent that it shows.
        agent_id: String,
    },
    /// For an Agent that Muster manages.
    Managed(Box<PreviewedAgent>),
}

/// The preview of an Agent that Muster manages.
#[derive(Clone, Debug)]
pub struct PreviewedAgent {
    /// Its desired state.
    pub desired: Desired,
    /// What would be done.
    pub preview: AgentPreview,
}

impl PreviewedGateway {
    /// The gateway of an AgentGateway.
    #[must_use]
    pub fn new(key: ObjectKey, gateway: OpenGateway, resync: std::time::Duration) -> Self {
        let OpenGateway { client, inventory } = gateway;
        // Nobody reconciles at the changes.
        let (changes, _) = mpsc::unbounded_channel();
        Self { handle: Arc::new(GatewayHandle::new(key, client, PLACES, resync, changes)), inventory }
    }

    /// The roster and the config of the gateway.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// What the operator would do for an Agent of this gateway.
    ///
    /// # Errors
    /// The Agent, or an object that it refers to, is not valid; or a request to the gateway failed.
    pub async fn agent(
        &self,
        objects: &OfflineObjects,
        agent: &Agent,
        now: Timestamp,
    ) -> Result<Preview, ReconcileError> {
        if agent.is_observer() {
            return Ok(Preview::Observed { agent_id: observed_id(objects, agent)? });
        }
        let mut references = references(objects, agent, now)?;
        if let TokenState::Issued(issued) = &references.token.state
            && let Some(token) = self.token_of(agent, &issued.sha256).await
        {
            references.token.value = Some(token);
        }
        let references = adoption::settle(references, agent, Some((&self.handle, &self.inventory))).await?;
        workspaces::check(objects, WantedWorkspace::of(agent, &references), Some(&self.inventory))?;
        let desired = build(agent, &references, Some(&self.inventory))?;
        gateway_suspended(&references.gateway).map_or(Ok(()), Err)?;
        let observed = self.observe(&desired, agent, now).await?;
        let preview = preview(agent, &desired, &references.token.state, observed, now);
        Ok(Preview::Managed(Box::new(PreviewedAgent { desired, preview })))
    }

    /// The token of an agent that Muster manages, as its files have it. It has the hash that the status records.
    async fn token_of(&self, agent: &Agent, sha256: &str) -> Option<SecretString> {
        let id = agent.status.as_ref()?.agent_id.as_deref()?;
        let accepted = &self.inventory.capabilities.accepted_files;
        for name in TOKEN_FILES.into_iter().filter(|name| accepted.contains(*name)) {
            // Without the file the comparison shows a difference, as it does in the operator.
            let Ok(Some(file)) = self.handle.client().file_get(id, name).await else { continue };
            let mut words = file.text.split_whitespace().filter(|word| has_form_of_token(word));
            if let Some(token) = words.find(|word| sha256_hex(word) == sha256) {
                return Some(token.into());
            }
        }
        None
    }

    /// Observes an agent. The operator looks at the files of an agent whose entry is current. Here the entry may become current later, so that
    /// the files are looked at with an entry that asks for nothing.
    async fn observe(&self, desired: &Desired, agent: &Agent, now: Timestamp) -> Result<Observed, ReconcileError> {
        let entry = AgentEntry {
            id: desired.entry.id.clone(),
            workspace: desired.entry.workspace.clone(),
            keeps_the_rest: true,
            ..AgentEntry::default()
        };
        let present = Desired { entry, ..desired.clone() };
        let status = agent.status.clone().unwrap_or_default();
        let observed = observe::agent(&self.handle, &self.inventory, &present, &status, now).await?;
        let writes = self.handle.client().config_writes();
        let wanted = Observed::of_registration(&self.inventory, &writes.borrow(), desired);
        Ok(Observed {
            registration: wanted.registration,
            conflict: wanted.conflict,
            rewritten: wanted.rewritten,
            ..observed
        })
    }
}
