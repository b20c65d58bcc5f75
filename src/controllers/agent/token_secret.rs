//! Reads and writes an agent's token Secret.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use crate::api::agent::Agent;
use crate::api::keys;
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::core::agent::claim::annotated_id;
use crate::core::agent::desired::Desired;
use crate::core::agent::token::rules::TokenChange;
use crate::core::agent::token::secret::{FreshToken, SecretWrite, Token};
use crate::core::ownership::{Owner, has_finalizer, owner};
use crate::state::State;
use crate::state::store::StoreError;

/// The key of an agent's token Secret.
pub(crate) fn key(agent: &Agent) -> ObjectKey {
    ObjectKey::new(agent.metadata.namespace.as_deref().unwrap_or_default(), agent.token_secret_name())
}

/// Reads the token Secret of an agent.
pub(crate) async fn read(state: &State, agent: &Agent, api_url: &str) -> Result<Token, StoreError> {
    let key = key(agent);
    Ok(match state.store.token_secret(agent, &key).await? {
        None => Token::missing(),
        Some(secret) => {
            let secret = Arc::new(secret);
            state.recent_secrets.insert(key, Arc::clone(&secret));
            token(state, secret, agent, api_url)
        }
    })
}

/// The token Secret of an agent, if it was read or written a moment ago. Else it is read, unless the Agent is new: it has no Secret yet, and
/// one of that name shows itself when the Secret is created.
pub(crate) async fn read_unless_recent(state: &State, agent: &Agent, api_url: &str) -> Result<Token, StoreError> {
    match state.recent_secrets.get(&key(agent)) {
        Some(secret) => Ok(token(state, secret, agent, api_url)),
        None if is_new(agent) => Ok(Token::missing()),
        None => read(state, agent, api_url).await,
    }
}

/// Whether Muster has never written anything for an Agent.
fn is_new(agent: &Agent) -> bool {
    // The CRD gives each Agent a status at its creation.
    let has_record = agent.status.as_ref().is_some_and(|status| status.token.is_some() || status.binding.is_some());
    // A backup has the annotation, and the Secret too.
    !has_record && !has_finalizer(&agent.metadata, keys::AGENT_FINALIZER) && annotated_id(agent).is_none()
}

fn token(state: &State, secret: Arc<Secret>, agent: &Agent, api_url: &str) -> Token {
    let owner = owner(&state.store, &secret.metadata, agent.metadata.uid.as_deref());
    Token::read(secret, owner, agent, api_url)
}

/// Makes one change to the token Secret, as it was read, and returns the token as it is then.
///
/// # Errors
/// The answer of the API server; a Secret that appeared or changed meanwhile is a conflict.
pub(crate) async fn write(
    state: &State,
    agent: &Agent,
    token: &Token,
    desired: &Desired,
    change: TokenChange,
) -> Result<Token, StoreError> {
    let (url, request) = (desired.api_url.as_str(), desired.requests.due(RequestKind::Rotate));
    let fresh = generate()?;
    let key = key(agent);
    // A refused write may have been made for an outdated Secret.
    state.recent_secrets.forget(&key);
    let written = match token.changed(change, agent, url, FreshToken { value: &fresh, request }) {
        SecretWrite::Create(secret) => match state.store.create_secret(&secret).await {
            Err(StoreError::Conflict(message)) => {
                // The next pass sees the Secret that exists.
                read(state, agent, url).await?;
                return Err(StoreError::Conflict(message));
            }
            created => created?,
        },
        SecretWrite::Replace(secret) => state.store.replace_secret(&secret).await?,
    };
    let written = Arc::new(written);
    state.recent_secrets.insert(key, Arc::clone(&written));
    Ok(Token::read(written, Owner::This, agent, url))
}

/// Replaces a token that may stand in files which are out of reach now. The previous token goes with it.
///
/// # Errors
/// As of [`write()`].
pub(crate) async fn renew(state: &State, agent: &Agent) -> Result<(), StoreError> {
    if let Some(secret) = read(state, agent, "").await?.renewed(&generate()?) {
        state.recent_secrets.forget(&key(agent));
        state.store.replace_secret(&secret).await?;
    }
    Ok(())
}

/// A new token: 32 random bytes, URL-safe.
fn generate() -> Result<SecretString, StoreError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| StoreError::Failed(format!("no randomness for a token: {e}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::{AgentStatus, TokenStatus};

    #[test]
    fn an_agent_with_the_default_status_is_new_until_it_is_claimed_or_has_a_token() {
        let mut agent = Agent { status: Some(AgentStatus::default()), ..Agent::default() };
        assert!(is_new(&agent) && is_new(&Agent::default()));
        agent.metadata.finalizers = Some(vec![keys::AGENT_FINALIZER.into()]);
        assert!(!is_new(&agent), "its Secret may have been created before a crash");
        agent.metadata.finalizers = None;
        agent.status.get_or_insert_default().token = Some(TokenStatus::default());
        assert!(!is_new(&agent), "somebody removed the finalizer");
    }
}
