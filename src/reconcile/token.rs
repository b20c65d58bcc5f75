//! An agent's token: 32 random bytes in one Secret.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::ObjectMeta;
use secrecy::{ExposeSecret, SecretString};

use super::ports::{Key, Store, StoreError};
use crate::api::agent::Agent;
use crate::api::keys;
use crate::plan::TokenState;

/// An agent's token Secret.
#[derive(Clone, Debug)]
pub struct Token {
    /// What was found.
    pub state: TokenState,
    /// The token, when there is one.
    pub value: Option<SecretString>,
    secret: Option<Secret>,
}

impl Token {
    /// Whether there is a Secret that belongs to the agent.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.secret.is_some()
    }
}

/// Reads the token Secret of an agent.
pub async fn read<S: Store>(store: &S, agent: &Agent, api_url: &str) -> Result<Token, StoreError> {
    let namespace = agent.metadata.namespace.clone().unwrap_or_default();
    let secret = store.secret(&Key::new(namespace, agent.token_secret_name())).await?;
    let Some(secret) = secret else {
        return Ok(Token { state: TokenState::Missing, value: None, secret: None });
    };
    if !belongs(&secret, agent) {
        return Ok(Token { state: TokenState::Foreign, value: None, secret: None });
    }
    let value = text(&secret, keys::TOKEN_KEY).filter(|t| !t.is_empty()).map(SecretString::from);
    let as_told = text(&secret, keys::AGENT_ID_KEY).as_deref() == Some(uid(agent))
        && text(&secret, keys::API_URL_KEY).as_deref() == Some(api_url);
    let state = match &value {
        Some(token) if as_told => TokenState::Valid(crate::render::sha256_hex(token.expose_secret())),
        Some(_) | None => TokenState::Damaged,
    };
    Ok(Token { state, value, secret: Some(secret) })
}

fn belongs(secret: &Secret, agent: &Agent) -> bool {
    let owners = secret.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|o| Some(o.uid.as_str()) == agent.metadata.uid.as_deref())
}

/// The agent's id in Muster's HTTP API.
fn uid(agent: &Agent) -> &str {
    agent.metadata.uid.as_deref().unwrap_or_default()
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone()).ok()
}

/// Makes the token Secret, or puts right what is damaged in it. A token that is there stays.
///
/// # Errors
/// Whatever the API server answers; a Secret that appeared meanwhile is a conflict.
pub async fn issue<S: Store>(store: &S, agent: &Agent, token: &Token, api_url: &str) -> Result<(), StoreError> {
    let value = match &token.value {
        Some(value) => value.expose_secret().to_owned(),
        None => generate()?,
    };
    let data: BTreeMap<String, ByteString> =
        [(keys::TOKEN_KEY, value.as_str()), (keys::AGENT_ID_KEY, uid(agent)), (keys::API_URL_KEY, api_url)]
            .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
            .into();
    if let Some(old) = &token.secret {
        let merged = old.data.clone().unwrap_or_default().into_iter().chain(data).collect();
        store.replace_secret(&Secret { data: Some(merged), ..old.clone() }).await?;
    } else {
        let metadata = ObjectMeta {
            name: Some(agent.token_secret_name()),
            namespace: agent.metadata.namespace.clone(),
            labels: Some([(keys::MANAGED_BY_LABEL.to_owned(), keys::MANAGED_BY.to_owned())].into()),
            owner_references: Some(agent.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        };
        store.create_secret(&Secret { metadata, data: Some(data), ..Secret::default() }).await?;
    }
    Ok(())
}

/// 32 random bytes, URL-safe.
fn generate() -> Result<String, StoreError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| StoreError::Failed(format!("no randomness for a token: {e}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
