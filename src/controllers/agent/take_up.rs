//! Takes up an agent again that the annotation of an Agent claims, after a backup or a move.

use std::collections::BTreeSet;

use crate::api::Reason;
use crate::api::agent::Agent;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::core::agent::build::{file_names, secret_only};
use crate::core::agent::claim::{self, ClaimDecision, ClaimInput, FoundAgent};
use crate::core::agent::files::MAX_READ_BYTES;
use crate::core::agent::permissions::may_take_up;
use crate::core::agent::references::References;
use crate::core::agent::token::secret::Token;
use crate::core::error::ReconcileError;
use crate::openclaw::model::Inventory;

/// Settles the claim of an Agent by the agents of its gateway.
///
/// # Errors
/// The claim is refused; the gateway is not settled; or a request to the gateway failed.
pub(super) async fn settle(
    mut references: References,
    agent: &Agent,
    gateway: &GatewayHandle,
    inventory: &Inventory,
) -> Result<References, ReconcileError> {
    if !inventory.settled && references.names.claimed_for.is_some() {
        let text = "the gateway has not applied its own last config yet; its agent is taken up afterwards";
        return Err(ReconcileError::transient(Reason::NotSettled, text));
    }
    let names = &references.names;
    let id = names.identity.agent_id.as_str();
    let found = match inventory.agents.get(id).filter(|row| row.entry.is_some()) {
        Some(row) => Some(FoundAgent {
            workspace: gateway.workspace_path(row).await?,
            is_proven: holds_token(gateway, id, agent, &references.token).await?,
        }),
        None => None,
    };
    let decision = claim::decide(&ClaimInput {
        found: found.as_ref(),
        own_workspace: &names.identity.workspace,
        is_permitted: may_take_up(agent, &references.gateway),
        is_usual_id: names.claimed_for.is_none(),
        has_own_secret: references.token.is_own(),
    });
    let keeps_token = found.as_ref().is_some_and(|found| found.is_proven || secret_only(agent));
    let refused = || claim::unproven(agent, id, &references.gateway_key);
    match decision {
        ClaimDecision::Refuse => return Err(refused()),
        ClaimDecision::TakeUp => references.names.taken_up = true,
        ClaimDecision::Adopt => references = references.adopting(found.map(|f| f.workspace).unwrap_or_default()),
        ClaimDecision::Create | ClaimDecision::Ignore => return Ok(references),
    }
    if keeps_token {
        references.token = references.token.restored();
    }
    Ok(references)
}

/// Whether a file in the workspace of an agent holds the token of the Agent's Secret. The contents are compared and dropped.
async fn holds_token(gateway: &GatewayHandle, id: &str, agent: &Agent, token: &Token) -> Result<bool, ReconcileError> {
    if !token.may_be_proof() {
        return Ok(false);
    }
    let failure = |error| ReconcileError::gateway("to look for the token in its workspace", &error);
    let listed = gateway.client().files_list(id).await.map_err(failure)?;
    let present = listed.iter().filter(|file| !file.missing && file.size <= MAX_READ_BYTES);
    let present: BTreeSet<_> = present.map(|file| file.name.as_str()).collect();
    for name in file_names(agent)?.iter().filter(|name| present.contains(name.as_str())) {
        match gateway.client().file_get(id, name.as_str()).await {
            Ok(Some(file)) if token.stands_in(&file.text) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.is_unsafe_file() => {}
            Err(error) => return Err(failure(error)),
        }
    }
    Ok(false)
}
