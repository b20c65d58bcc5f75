//! From a token to its agent, by hash.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::api::Agent;
use crate::reconcile::Key;

/// The hashes of all agents' tokens. The tokens themselves are nowhere in it.
#[derive(Debug, Default)]
pub struct Tokens {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    agents: HashMap<String, Key>,
    hashes: HashMap<Key, String>,
}

impl Tokens {
    /// Takes over the hash that an Agent's status holds now.
    pub fn update(&self, agent: &Agent, gone: bool) {
        let key = Key::of(&agent.metadata);
        let hash = agent.status.as_ref().and_then(|s| s.token.as_ref()).map(|t| t.sha256.clone());
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = inner.hashes.remove(&key)
            && inner.agents.get(&old) == Some(&key)
        {
            inner.agents.remove(&old);
        }
        if let Some(hash) = hash.filter(|_| !gone) {
            inner.agents.insert(hash.clone(), key.clone());
            inner.hashes.insert(key, hash);
        }
    }

    /// The Agent whose token has this SHA-256, in constant time of the number of agents.
    #[must_use]
    pub fn agent(&self, sha256: &str) -> Option<Key> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).agents.get(sha256).cloned()
    }
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |different, (x, y)| different | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::TokenStatus;

    fn agent(name: &str, sha256: Option<&str>) -> Agent {
        let mut agent = Agent::default();
        agent.metadata.name = Some(name.into());
        agent.metadata.namespace = Some("ns".into());
        let token = sha256.map(|s| TokenStatus { secret_name: "s".into(), sha256: s.into(), ..TokenStatus::default() });
        agent.status = Some(crate::api::AgentStatus { token, ..Default::default() });
        agent
    }

    #[test]
    fn a_replaced_token_is_no_longer_found() {
        let tokens = Tokens::default();
        tokens.update(&agent("a", Some("h1")), false);
        tokens.update(&agent("a", Some("h2")), false);
        assert_eq!(tokens.agent("h1"), None);
        assert_eq!(tokens.agent("h2"), Some(Key::new("ns", "a")));
    }

    #[test]
    fn the_token_of_an_agent_that_is_gone_is_not_found() {
        let tokens = Tokens::default();
        tokens.update(&agent("a", Some("h1")), false);
        tokens.update(&agent("a", Some("h1")), true);
        assert_eq!(tokens.agent("h1"), None);
    }

    #[test]
    fn hashes_are_the_same_only_as_a_whole() {
        assert!(same("abc", "abc"));
        assert!(!same("abc", "abd") && !same("abc", "ab") && !same("", "a"));
    }
}
