//! From a token to its agent, by hash.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::api::Agent;
use crate::api::agent::TokenStatus;
use crate::api::object_key::ObjectKey;

/// The hashes of all agents' tokens, those before a rotation included. The tokens themselves are nowhere in it.
///
/// Whether a token that is found here is accepted is for [`standing`] to say.
#[derive(Debug, Default)]
pub struct TokenTable {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    agents: HashMap<String, ObjectKey>,
    hashes: HashMap<ObjectKey, Vec<String>>,
}

impl TokenTable {
    /// Takes over the hashes that an Agent's status holds now.
    pub fn update(&self, agent: &Agent, gone: bool) {
        let key = ObjectKey::of(&agent.metadata);
        let token = agent.status.as_ref().and_then(|s| s.token.as_ref()).filter(|_| !gone);
        let hashes: Vec<String> = token.into_iter().flat_map(hashes).map(str::to_owned).collect();
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for old in inner.hashes.remove(&key).unwrap_or_default() {
            if inner.agents.get(&old) == Some(&key) {
                inner.agents.remove(&old);
            }
        }
        for hash in &hashes {
            inner.agents.insert(hash.clone(), key.clone());
        }
        if !hashes.is_empty() {
            inner.hashes.insert(key, hashes);
        }
    }

    /// The Agent whose token has this SHA-256, in constant time of the number of agents.
    #[must_use]
    pub fn agent(&self, sha256: &str) -> Option<ObjectKey> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).agents.get(sha256).cloned()
    }
}

fn hashes(token: &TokenStatus) -> impl Iterator<Item = &str> {
    let previous = token.previous.as_ref().map(|p| p.sha256.as_str());
    [Some(token.sha256.as_str()), previous].into_iter().flatten().filter(|hash| !hash.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::PreviousToken;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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
        let tokens = TokenTable::default();
        tokens.update(&agent("a", Some("h1")), false);
        tokens.update(&agent("a", Some("h2")), false);
        assert_eq!(tokens.agent("h1"), None);
        assert_eq!(tokens.agent("h2"), Some(ObjectKey::new("ns", "a")));
    }

    #[test]
    fn the_token_of_an_agent_that_is_gone_is_not_found() {
        let tokens = TokenTable::default();
        tokens.update(&agent("a", Some("h1")), false);
        tokens.update(&agent("a", Some("h1")), true);
        assert_eq!(tokens.agent("h1"), None);
    }

    fn rotating(valid_until: Option<i64>) -> TokenStatus {
        let valid_until = valid_until.map(|at| Time(Timestamp::from_second(at).unwrap()));
        let previous = Some(PreviousToken { sha256: "old".into(), valid_until });
        TokenStatus { sha256: "new".into(), previous, ..TokenStatus::default() }
    }

    #[test]
    fn both_tokens_of_a_rotation_are_found_and_neither_when_the_agent_is_gone() {
        let tokens = TokenTable::default();
        let mut rotated = agent("a", Some("new"));
        rotated.status.as_mut().unwrap().token = Some(rotating(None));
        tokens.update(&rotated, false);
        assert_eq!(tokens.agent("old"), Some(ObjectKey::new("ns", "a")));
        assert_eq!(tokens.agent("new"), Some(ObjectKey::new("ns", "a")));
        tokens.update(&rotated, true);
        assert_eq!((tokens.agent("old"), tokens.agent("new")), (None, None));
    }
}
