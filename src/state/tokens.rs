//! The Agents by the hashes of their tokens.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::api::Agent;
use crate::api::agent::TokenStatus;
use crate::api::object_key::ObjectKey;

/// The hashes of the current and previous tokens of all Agents. The table does not contain the tokens themselves.
///
/// The table finds the Agent of a token. It does not decide whether the token is accepted.
#[derive(Debug, Default)]
pub struct TokenTable {
    index: RwLock<TokenIndex>,
}

/// Agents by hash, and hashes by Agent.
#[derive(Debug, Default)]
struct TokenIndex {
    agents: HashMap<String, ObjectKey>,
    hashes: HashMap<ObjectKey, Vec<String>>,
}

impl TokenTable {
    /// Replaces the hashes of an Agent by the hashes in its status. `deleted`: removes the hashes. An Agent whose admission was revoked
    /// has none.
    pub fn update(&self, agent: &Agent, deleted: bool) {
        let key = ObjectKey::of(&agent.metadata);
        let status = agent.status.as_ref().filter(|status| !deleted && status.revocation.is_none());
        let token = status.and_then(|status| status.token.as_ref());
        let hashes: Vec<String> = token.into_iter().flat_map(hashes).map(str::to_owned).collect();
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for old in index.hashes.remove(&key).unwrap_or_default() {
            if index.agents.get(&old) == Some(&key) {
                index.agents.remove(&old);
            }
        }
        for hash in &hashes {
            index.agents.insert(hash.clone(), key.clone());
        }
        if !hashes.is_empty() {
            index.hashes.insert(key, hashes);
        }
    }

    /// The Agent whose token has this SHA-256. The time of a lookup does not depend on the number of Agents.
    #[must_use]
    pub fn agent(&self, sha256: &str) -> Option<ObjectKey> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).agents.get(sha256).cloned()
    }
}

fn hashes(token: &TokenStatus) -> impl Iterator<Item = &str> {
    let previous = token.previous.as_ref().map(|p| p.sha256.as_str());
    [Some(token.sha256.as_str()), previous].into_iter().flatten().filter(|hash| !hash.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::{PreviousToken, RevocationStatus};
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
    fn the_token_of_a_deleted_agent_is_not_found() {
        let tokens = TokenTable::default();
        tokens.update(&agent("a", Some("h1")), false);
        tokens.update(&agent("a", Some("h1")), true);
        assert_eq!(tokens.agent("h1"), None);
    }

    #[test]
    fn the_token_of_an_agent_is_refused_while_its_admission_is_revoked() {
        let tokens = TokenTable::default();
        let admitted = agent("a", Some("h1"));
        let mut revoked = admitted.clone();
        let since = Time(Timestamp::UNIX_EPOCH);
        let revocation = RevocationStatus { gateway: ObjectKey::new("shared", "gw"), since, removed_at: None };
        revoked.status.as_mut().unwrap().revocation = Some(revocation);
        for (agent, is_found) in [(&admitted, true), (&revoked, false), (&admitted, true)] {
            tokens.update(agent, false);
            assert_eq!(tokens.agent("h1").is_some(), is_found);
        }
    }

    fn rotating(valid_until: Option<i64>) -> TokenStatus {
        let valid_until = valid_until.map(|at| Time(Timestamp::from_second(at).unwrap()));
        let previous = Some(PreviousToken { sha256: "old".into(), valid_until });
        TokenStatus { sha256: "new".into(), previous, ..TokenStatus::default() }
    }

    #[test]
    fn both_tokens_of_a_rotation_are_found_until_the_agent_is_deleted() {
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
