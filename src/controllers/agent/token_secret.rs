//! An agent's token: 32 random bytes in one Secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use secrecy::{ExposeSecret, SecretString};

use crate::api::agent::Agent;
use crate::api::keys;
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::core::agent::desired::Desired;
use crate::core::agent::token::rules::{Held, TokenChange, TokenState};
use crate::core::agent::token::secret::Token;
use crate::core::ownership::{self, Owner};
use crate::hash::sha256_hex;
use crate::state::store::{Store, StoreError};

/// Reads the token Secret of an agent.
pub async fn read<S: Store>(store: &S, agent: &Agent, api_url: &str) -> Result<Token, StoreError> {
    let namespace = agent.metadata.namespace.clone().unwrap_or_default();
    let Some(secret) = store.secret(&ObjectKey::new(namespace, agent.token_secret_name())).await? else {
        return Ok(Token { state: TokenState::Missing, value: None, secret: None });
    };
    let owned = match ownership::owner(store, &secret.metadata, agent.metadata.uid.as_deref()) {
        Owner::Oneself => true,
        Owner::Nobody if is_lost(&secret) => false,
        Owner::Nobody | Owner::Another => {
            return Ok(Token { state: TokenState::Foreign, value: None, secret: None });
        }
    };
    let value = text(&secret, keys::TOKEN_KEY).filter(|t| !t.is_empty()).map(SecretString::from);
    let state = value.as_ref().map_or(TokenState::Missing, |value| match state(&secret, value, agent, api_url) {
        TokenState::Held(held) if !owned => taken_up(&secret, held, agent),
        state => state,
    });
    let value = value.filter(|_| matches!(state, TokenState::Held(_)));
    Ok(Token { state, value, secret: Some(secret) })
}

/// Whether a token is the one that Muster put there, and what stands beside it.
fn state(secret: &Secret, token: &SecretString, agent: &Agent, api_url: &str) -> TokenState {
    let sha256 = sha256_hex(token.expose_secret());
    let annotation = |key: &str| secret.metadata.annotations.as_ref()?.get(key).cloned();
    if annotation(keys::ISSUED_SHA256).as_ref() != Some(&sha256) {
        return TokenState::Leaked;
    }
    TokenState::Held(Held {
        sha256,
        previous: text(secret, keys::PREVIOUS_TOKEN_KEY).filter(|t| !t.is_empty()).map(|t| sha256_hex(&t)),
        issued_for: annotation(keys::ISSUED_FOR).and_then(|time| time.parse().ok()),
        as_told: text(secret, keys::AGENT_ID_KEY).as_deref() == Some(uid(agent))
            && text(secret, keys::API_URL_KEY).as_deref() == Some(api_url),
    })
}

/// Whether a Secret that nobody owns was a token Secret of Muster's: a backup brings it back without its owner.
fn is_lost(secret: &Secret) -> bool {
    let annotations = secret.metadata.annotations.as_ref();
    ownership::is_marked(&secret.metadata) && annotations.is_some_and(|a| a.contains_key(keys::ISSUED_SHA256))
}

/// What is held of a token whose Secret lost its owner. One that was issued for another Agent may stand in that one's files: it
/// counts as leaked.
fn taken_up(secret: &Secret, held: Held, agent: &Agent) -> TokenState {
    if text(secret, keys::AGENT_ID_KEY).as_deref() == Some(uid(agent)) {
        TokenState::Held(Held { as_told: false, ..held })
    } else {
        TokenState::Leaked
    }
}

/// The agent's id in Muster's HTTP API.
fn uid(agent: &Agent) -> &str {
    agent.metadata.uid.as_deref().unwrap_or_default()
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone()).ok()
}

/// Makes one change to the token Secret, as it was read.
///
/// # Errors
/// Whatever the API server answers; a Secret that appeared or changed meanwhile is a conflict.
pub async fn apply<S: Store>(
    store: &S,
    agent: &Agent,
    token: &Token,
    desired: &Desired,
    change: TokenChange,
) -> Result<(), StoreError> {
    let mut secret = token.secret.clone().unwrap_or_else(|| blank(agent));
    ownership::own(&mut secret.metadata, agent);
    let data = secret.data.get_or_insert_default();
    let old = data.get(keys::TOKEN_KEY).cloned();
    for (key, value) in [(keys::AGENT_ID_KEY, uid(agent)), (keys::API_URL_KEY, desired.api_url.as_str())] {
        data.insert(key.to_owned(), bytes(value));
    }
    match change {
        TokenChange::Issue | TokenChange::Rotate => {
            data.remove(keys::PREVIOUS_TOKEN_KEY);
            if let Some(old) = old.filter(|_| change == TokenChange::Rotate) {
                data.insert(keys::PREVIOUS_TOKEN_KEY.to_owned(), old);
            }
            issue(&mut secret)?;
            let annotations = secret.metadata.annotations.get_or_insert_default();
            if let Some(request) = desired.requests.due(RequestKind::Rotate) {
                annotations.insert(keys::ISSUED_FOR.to_owned(), request.to_string());
            }
        }
        TokenChange::Repair => {}
        TokenChange::Retire => {
            data.remove(keys::PREVIOUS_TOKEN_KEY);
        }
    }
    if token.secret.is_some() {
        store.replace_secret(&secret).await?;
    } else {
        store.create_secret(&secret).await?;
    }
    Ok(())
}

/// Puts another token in the place of one that may stand in files which are out of reach now. There is none before it.
///
/// # Errors
/// As of [`apply`].
pub async fn renew<S: Store>(store: &S, agent: &Agent) -> Result<(), StoreError> {
    let Some(mut secret) = read(store, agent, "").await?.secret else { return Ok(()) };
    let data = secret.data.get_or_insert_default();
    data.remove(keys::PREVIOUS_TOKEN_KEY);
    if data.contains_key(keys::TOKEN_KEY) {
        issue(&mut secret)?;
        store.replace_secret(&secret).await?;
    }
    Ok(())
}

/// Puts a new token into a Secret.
fn issue(secret: &mut Secret) -> Result<(), StoreError> {
    let value = generate()?;
    secret.data.get_or_insert_default().insert(keys::TOKEN_KEY.to_owned(), bytes(&value));
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(keys::ISSUED_SHA256.to_owned(), sha256_hex(&value));
    Ok(())
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

/// A token Secret with nothing in it.
fn blank(agent: &Agent) -> Secret {
    let metadata = ObjectMeta {
        name: Some(agent.token_secret_name()),
        namespace: agent.metadata.namespace.clone(),
        ..ObjectMeta::default()
    };
    Secret { metadata, ..Secret::default() }
}

/// 32 random bytes, URL-safe.
fn generate() -> Result<String, StoreError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| StoreError::Failed(format!("no randomness for a token: {e}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
