//! Reads and changes an agent's token Secret.
//!
//! A token has 32 random bytes. The controller that writes the Secret creates the token and passes it as an argument, so that no plan
//! holds a token.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use secrecy::{ExposeSecret, SecretString};

use super::rules::{IssuedToken, TokenChange, TokenState};
use crate::api::agent::Agent;
use crate::api::keys;
use crate::core::ownership::{self, Owner};
use crate::hash::sha256_hex;

/// An agent's token Secret from a read.
#[derive(Clone)]
pub struct Token {
    /// The state of the Secret.
    pub state: TokenState,
    /// The token, if Muster issued it.
    pub value: Option<SecretString>,
    secret: Option<Arc<Secret>>,
    /// The token in a Secret of another Agent that is gone, from a backup for example.
    restored: Option<(SecretString, IssuedToken)>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A new token for a change that issues a token.
#[derive(Clone, Copy)]
pub struct FreshToken<'a> {
    /// The token.
    pub value: &'a SecretString,
    /// The time of the request that the token is issued for.
    pub request: Option<Timestamp>,
}

/// The write of a token Secret.
pub enum SecretWrite {
    /// The Secret does not exist yet.
    Create(Secret),
    /// The Secret replaces the Secret from the read, at its `resourceVersion`.
    Replace(Secret),
}

impl Token {
    /// The token of an agent whose Secret does not exist.
    #[must_use]
    pub fn missing() -> Self {
        Self { state: TokenState::Missing, value: None, secret: None, restored: None }
    }

    /// The token in a Secret of the expected name. `api_url` is the expected URL in the Secret.
    #[must_use]
    pub fn read(secret: impl Into<Arc<Secret>>, owner: Owner, agent: &Agent, api_url: &str) -> Self {
        let secret = secret.into();
        let is_own = match owner {
            Owner::This => true,
            Owner::Absent if is_orphaned_token_secret(&secret) => false,
            Owner::Absent | Owner::Other => {
                return Self { state: TokenState::Foreign, ..Self::missing() };
            }
        };
        let value = text(&secret, keys::TOKEN_KEY).filter(|t| !t.is_empty()).map(SecretString::from);
        let Some(value) = value else { return Self { secret: Some(secret), ..Self::missing() } };
        let is_of_agent = text(&secret, keys::AGENT_ID_KEY).as_deref() == Some(uid(agent));
        let (state, value, restored) = match state(&secret, &value, agent, api_url) {
            TokenState::Issued(issued) if is_own => (TokenState::Issued(issued), Some(value), None),
            TokenState::Issued(issued) => {
                let issued = IssuedToken { is_current: false, ..issued };
                if is_of_agent {
                    (TokenState::Issued(issued), Some(value), None)
                } else {
                    // The token of another Agent may be in the files of that Agent.
                    (TokenState::Tampered, None, Some((value, issued)))
                }
            }
            state => (state, None, None),
        };
        Self { state, value, secret: Some(secret), restored }
    }

    /// The token of an Agent that takes up the agent of a former Agent: the token in the Secret of the former Agent, if there is one.
    #[must_use]
    pub fn restored(mut self) -> Self {
        if let Some((value, issued)) = self.restored.take() {
            self.value = Some(value);
            self.state = TokenState::Issued(issued);
        }
        self
    }

    /// Whether Muster wrote the Secret for this Agent.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.secret.is_some() && self.restored.is_none() && matches!(self.state, TokenState::Issued(_))
    }

    /// Whether a token of the Secret, if it is found in a workspace, proves that the Agent had the agent there. Muster issued the token, and
    /// it has the form of Muster's tokens: nobody can guess it, and no other text in a workspace equals it.
    #[must_use]
    pub fn may_be_proof(&self) -> bool {
        self.proofs().next().is_some()
    }

    /// Whether a token of the Secret stands in a text as a whole word.
    #[must_use]
    pub fn stands_in(&self, text: &str) -> bool {
        let mut words = text.split(|c: char| !is_token_char(c)).filter(|word| word.len() == TOKEN_LENGTH);
        words.any(|word| self.proofs().any(|token| token == word))
    }

    /// The tokens of the Secret that can be a proof. The files have the previous token until the end of a rotation.
    fn proofs(&self) -> impl Iterator<Item = String> {
        let issued = self.value.is_some() || self.restored.is_some();
        let secret = self.secret.as_ref().filter(|_| issued);
        let of = move |key| secret.and_then(|secret| text(secret, key)).filter(|token| has_form_of_token(token));
        [keys::TOKEN_KEY, keys::PREVIOUS_TOKEN_KEY].into_iter().filter_map(of)
    }

    /// The Secret as it was read, if it belongs to the agent.
    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_deref()
    }

    /// The Secret after a change. A change that issues a token takes `fresh`.
    #[must_use]
    pub fn changed(&self, change: TokenChange, agent: &Agent, api_url: &str, fresh: FreshToken<'_>) -> SecretWrite {
        let mut secret = self.secret.as_deref().cloned().unwrap_or_else(|| blank(agent));
        ownership::take_ownership(&mut secret.metadata, agent);
        let data = secret.data.get_or_insert_default();
        let old = data.get(keys::TOKEN_KEY).cloned();
        for (key, value) in [(keys::AGENT_ID_KEY, uid(agent)), (keys::API_URL_KEY, api_url)] {
            data.insert(key.to_owned(), bytes(value));
        }
        match change {
            TokenChange::Issue | TokenChange::Rotate => {
                data.remove(keys::PREVIOUS_TOKEN_KEY);
                if let Some(old) = old.filter(|_| change == TokenChange::Rotate) {
                    data.insert(keys::PREVIOUS_TOKEN_KEY.to_owned(), old);
                }
                issue(&mut secret, fresh.value);
                let annotations = secret.metadata.annotations.get_or_insert_default();
                if let Some(request) = fresh.request {
                    annotations.insert(keys::ISSUED_FOR.to_owned(), request.to_string());
                }
            }
            TokenChange::Repair => {}
            TokenChange::Retire => {
                data.remove(keys::PREVIOUS_TOKEN_KEY);
            }
        }
        if self.secret.is_some() { SecretWrite::Replace(secret) } else { SecretWrite::Create(secret) }
    }

    /// The Secret with another token and without a previous token: the old token may remain in files that Muster cannot reach. `None`
    /// without a token to replace.
    #[must_use]
    pub fn renewed(&self, fresh: &SecretString) -> Option<Secret> {
        let mut secret = self.secret.as_deref().cloned()?;
        let data = secret.data.get_or_insert_default();
        data.remove(keys::PREVIOUS_TOKEN_KEY);
        data.contains_key(keys::TOKEN_KEY).then(|| {
            issue(&mut secret, fresh);
            secret
        })
    }
}

/// Whether Muster issued the token, and the state of the other keys.
fn state(secret: &Secret, token: &SecretString, agent: &Agent, api_url: &str) -> TokenState {
    let sha256 = sha256_hex(token.expose_secret());
    let annotation = |key: &str| secret.metadata.annotations.as_ref()?.get(key).cloned();
    if annotation(keys::ISSUED_SHA256).as_ref() != Some(&sha256) {
        return TokenState::Tampered;
    }
    TokenState::Issued(IssuedToken {
        sha256,
        previous: text(secret, keys::PREVIOUS_TOKEN_KEY).filter(|t| !t.is_empty()).map(|t| sha256_hex(&t)),
        issued_for: annotation(keys::ISSUED_FOR).and_then(|time| time.parse().ok()),
        is_current: text(secret, keys::AGENT_ID_KEY).as_deref() == Some(uid(agent))
            && text(secret, keys::API_URL_KEY).as_deref() == Some(api_url),
    })
}

/// Whether a Secret without an owner is a token Secret of Muster, from a backup for example.
fn is_orphaned_token_secret(secret: &Secret) -> bool {
    let annotations = secret.metadata.annotations.as_ref();
    ownership::has_managed_by_label(&secret.metadata)
        && annotations.is_some_and(|a| a.contains_key(keys::ISSUED_SHA256))
}

/// The length of a token: 32 bytes in base64, without padding.
const TOKEN_LENGTH: usize = 43;
/// The smallest number of different characters of a token. One of 50 million random tokens has fewer. Rulers, names and numbers
/// have fewer.
const MIN_TOKEN_CHARS: usize = 20;

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Whether a text has the form of a random token. A person writes the Secret of a restored Agent, and could choose a text that is known to
/// stand in the workspace of another agent.
#[must_use]
pub fn has_form_of_token(text: &str) -> bool {
    let is_mixed = text.contains(|c: char| c.is_ascii_lowercase()) && text.contains(|c: char| c.is_ascii_uppercase());
    let different: BTreeSet<char> = text.chars().collect();
    text.len() == TOKEN_LENGTH && text.chars().all(is_token_char) && is_mixed && different.len() >= MIN_TOKEN_CHARS
}

/// The agent's id in Muster's HTTP API.
fn uid(agent: &Agent) -> &str {
    agent.metadata.uid.as_deref().unwrap_or_default()
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone()).ok()
}

/// Puts a new token into a Secret.
fn issue(secret: &mut Secret, fresh: &SecretString) {
    let value = fresh.expose_secret();
    secret.data.get_or_insert_default().insert(keys::TOKEN_KEY.to_owned(), bytes(value));
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(keys::ISSUED_SHA256.to_owned(), sha256_hex(value));
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

/// An empty token Secret.
fn blank(agent: &Agent) -> Secret {
    let metadata = ObjectMeta {
        name: Some(agent.token_secret_name()),
        namespace: agent.metadata.namespace.clone(),
        ..ObjectMeta::default()
    };
    Secret { metadata, ..Secret::default() }
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
