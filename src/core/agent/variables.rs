//! The template variables of an agent.

use secrecy::SecretString;

use super::binding::AgentIdentity;
use super::references::References;
use crate::api::agent::{Agent, Role};
use crate::api::keys;
use crate::templates::{AgentVariables, Variables};

/// The directory in the gateway's pod where the token Secrets of agents with `delivery: SecretOnly` are mounted.
const TOKEN_FOLDER: &str = "/var/run/secrets/muster";

/// The variables of an agent. Without a token, `auth_token` is empty.
#[must_use]
pub fn variables(agent: &Agent, references: &References, interval: &str, token: Option<&SecretString>) -> Variables {
    let (gateway, board) = (references.gateway.as_ref(), references.board.as_deref());
    let gateway_uid = gateway.metadata.uid.as_deref().unwrap_or_default();
    let main = AgentIdentity::derive(Role::Main, None, gateway_uid, &gateway.spec.workspace_root);
    let values = AgentVariables {
        id: agent.metadata.uid.clone().unwrap_or_default(),
        name: agent.display_name(),
        session_key: references.names.identity.session_key.clone(),
        workspace_path: references.names.identity.workspace.clone(),
        heartbeat_interval: interval.to_owned(),
        token_file: format!("{TOKEN_FOLDER}/{}/{}", agent.token_secret_name(), keys::TOKEN_KEY),
    };
    let mut variables = Variables::new(agent.spec.role)
        .with_agent(&values)
        .with_gateway(&references.api_url, &gateway.spec.workspace_root, &main.session_key)
        .with_identity(&agent.spec.identity_profile, agent.spec.emoji.as_deref());
    if let Some(board) = board {
        variables = variables.with_board(board);
    }
    if let Some(user) = board.and_then(|board| board.spec.user.as_ref()).or(gateway.spec.user.as_ref()) {
        variables = variables.with_user(user);
    }
    if let Some(token) = token {
        variables = variables.with_token(token);
    }
    variables
}
