//! Reads and changes an agent's token Secret.
//!
//! A token has 32 random bytes. The controller that writes the Secret creates the token and passes it as an argument, so that no plan
//! holds a token.

use std::fmt;

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
    secret: Option<Secret>,
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
        Self { state: TokenState::Missing, value: None, secret: None }
    }

    /// The token in a Secret of the expected name. `api_url` is the expected URL in the Secret.
    #[must_use]
    pub fn read(secret: Secret, owner: Owner, agent: &Agent, api_url: &str) -> Self {
        let is_own = match owner {
            Owner::This => true,
            Owner::Absent if is_orphaned_token_secret(&secret) => false,
            Owner::Absent | Owner::Other => {
                return Self { state: TokenState::Foreign, value: None, secret: None };
            }
        };
        let value = text(&secret, keys::TOKEN_KEY).filter(|t| !t.is_empty()).map(SecretString::from);
        let state = value.as_ref().map_or(TokenState::Missing, |value| match state(&secret, value, agent, api_url) {
            TokenState::Issued(issued) if !is_own => reclaimed(&secret, issued, agent),
            state => state,
        });
        let value = value.filter(|_| matches!(state, TokenState::Issued(_)));
        Self { state, value, secret: Some(secret) }
    }

    /// The Secret as it was read, if it belongs to the agent.
    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// The Secret after a change. A change that issues a token takes `fresh`.
    #[must_use]
    pub fn changed(&self, change: TokenChange, agent: &Agent, api_url: &str, fresh: FreshToken<'_>) -> SecretWrite {
        let mut secret = self.secret.clone().unwrap_or_else(|| blank(agent));
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
        let mut secret = self.secret.clone()?;
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

/// The state of a token in a Secret that lost its owner. A token of another Agent may be in the files of that Agent, so that the token
/// counts as tampered with.
fn reclaimed(secret: &Secret, issued: IssuedToken, agent: &Agent) -> TokenState {
    if text(secret, keys::AGENT_ID_KEY).as_deref() == Some(uid(agent)) {
        TokenState::Issued(IssuedToken { is_current: false, ..issued })
    } else {
        TokenState::Tampered
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
mod tests {
    use super::*;

    fn agent() -> Agent {
        let mut agent = Agent::default();
        agent.metadata.name = Some("one".into());
        agent.metadata.namespace = Some("fleet".into());
        agent.metadata.uid = Some("u1".into());
        agent
    }

    fn fresh(value: &SecretString) -> FreshToken<'_> {
        FreshToken { value, request: None }
    }

    fn written(write: SecretWrite) -> Secret {
        match write {
            SecretWrite::Create(secret) | SecretWrite::Replace(secret) => secret,
        }
    }

    fn issued(token: &Token) -> &IssuedToken {
        match &token.state {
            TokenState::Issued(issued) => issued,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_issued_token_is_read_back_and_a_rotation_keeps_it_as_the_previous_token() {
        let (agent, url) = (agent(), "http://muster:8080");
        let first = Token::missing().changed(TokenChange::Issue, &agent, url, fresh(&"first".into()));
        assert!(matches!(first, SecretWrite::Create(_)));
        let token = Token::read(written(first), Owner::This, &agent, url);
        assert_eq!((issued(&token).sha256.as_str(), issued(&token).is_current), (sha256_hex("first").as_str(), true));
        let second = token.changed(TokenChange::Rotate, &agent, url, fresh(&"second".into()));
        let token = Token::read(written(second), Owner::This, &agent, url);
        assert_eq!(issued(&token).previous.as_deref(), Some(sha256_hex("first").as_str()));
        let retired = token.changed(TokenChange::Retire, &agent, url, fresh(&"unused".into()));
        let token = Token::read(written(retired), Owner::This, &agent, url);
        assert_eq!(
            (issued(&token).previous.as_deref(), issued(&token).sha256.as_str()),
            (None, sha256_hex("second").as_str())
        );
    }

    #[test]
    fn a_foreign_token_counts_as_tampered_with() {
        let (agent, url) = (agent(), "http://muster:8080");
        let mut secret = written(Token::missing().changed(TokenChange::Issue, &agent, url, fresh(&"first".into())));
        secret.data.get_or_insert_default().insert(keys::TOKEN_KEY.to_owned(), bytes("other"));
        assert_eq!(Token::read(secret.clone(), Owner::This, &agent, url).state, TokenState::Tampered);
        assert_eq!(Token::read(secret, Owner::Other, &agent, url).state, TokenState::Foreign);
    }

    #[test]
    fn a_debug_print_shows_no_token() {
        let secret = written(Token::missing().changed(TokenChange::Issue, &agent(), "u", fresh(&"hidden".into())));
        let token = Token::read(secret, Owner::This, &agent(), "u");
        assert!(
            !format!("{token:?}").contains("hidden") && !format!("{token:?}").contains(&format!("{:?}", b"hidden"))
        );
    }
}
