//! From a token to its agent, by hash.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;

use crate::api::Agent;
use crate::api::agent::{PreviousToken, TokenStatus};
use crate::reconcile::Key;

/// The hashes of all agents' tokens, those before a rotation included. The tokens themselves are nowhere in it.
///
/// Whether a token that is found here is accepted is for [`standing`] to say.
#[derive(Debug, Default)]
pub struct Tokens {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    agents: HashMap<String, Key>,
    hashes: HashMap<Key, Vec<String>>,
}

impl Tokens {
    /// Takes over the hashes that an Agent's status holds now.
    pub fn update(&self, agent: &Agent, gone: bool) {
        let key = Key::of(&agent.metadata);
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
    pub fn agent(&self, sha256: &str) -> Option<Key> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).agents.get(sha256).cloned()
    }
}

fn hashes(token: &TokenStatus) -> impl Iterator<Item = &str> {
    let previous = token.previous.as_ref().map(|p| p.sha256.as_str());
    [Some(token.sha256.as_str()), previous].into_iter().flatten().filter(|hash| !hash.is_empty())
}

/// How a token stands with the agent that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the agent's token.
    Current {
        /// Whether the agent has not been seen to use it before.
        first: bool,
    },
    /// It was replaced and still works.
    Previous,
    /// It does not work, or does not any more.
    Refused,
}

/// How the token with this SHA-256 stands at `now`.
///
/// `confirmed` is the SHA-256 that the agent was last seen to use for the first time. From then on the previous token is
/// refused, whether or not the status says so yet.
#[must_use]
pub fn standing(token: &TokenStatus, confirmed: Option<&str>, sha256: &str, now: Timestamp) -> Standing {
    let used = token.confirmed_at.is_some() || confirmed.is_some_and(|confirmed| same(confirmed, &token.sha256));
    if same(&token.sha256, sha256) {
        return Standing::Current { first: !used };
    }
    let in_time = |p: &&PreviousToken| p.valid_until.as_ref().is_none_or(|until| now < until.0);
    match token.previous.as_ref().filter(in_time) {
        Some(previous) if !used && same(&previous.sha256, sha256) => Standing::Previous,
        Some(_) | None => Standing::Refused,
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

    fn rotating(valid_until: Option<i64>) -> TokenStatus {
        let valid_until = valid_until.map(|at| Time(Timestamp::from_second(at).unwrap()));
        let previous = Some(PreviousToken { sha256: "old".into(), valid_until });
        TokenStatus { sha256: "new".into(), previous, ..TokenStatus::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn both_tokens_of_a_rotation_are_found_and_neither_when_the_agent_is_gone() {
        let tokens = Tokens::default();
        let mut rotated = agent("a", Some("new"));
        rotated.status.as_mut().unwrap().token = Some(rotating(None));
        tokens.update(&rotated, false);
        assert_eq!(tokens.agent("old"), Some(Key::new("ns", "a")));
        assert_eq!(tokens.agent("new"), Some(Key::new("ns", "a")));
        tokens.update(&rotated, true);
        assert_eq!((tokens.agent("old"), tokens.agent("new")), (None, None));
    }

    #[test]
    fn the_previous_token_works_until_its_time() {
        let token = rotating(Some(10));
        assert_eq!(standing(&token, None, "old", at(9)), Standing::Previous);
        assert_eq!(standing(&token, None, "old", at(10)), Standing::Refused);
        assert_eq!(standing(&rotating(None), None, "old", at(10)), Standing::Previous);
    }

    #[test]
    fn the_previous_token_is_refused_once_the_new_one_was_used() {
        let token = rotating(None);
        assert_eq!(standing(&token, None, "new", at(0)), Standing::Current { first: true });
        assert_eq!(standing(&token, Some("new"), "new", at(0)), Standing::Current { first: false });
        assert_eq!(standing(&token, Some("new"), "old", at(0)), Standing::Refused);
        assert_eq!(
            standing(&token, Some("old"), "old", at(0)),
            Standing::Previous,
            "what was used before says nothing"
        );
        let recorded = TokenStatus { confirmed_at: Some(Time(at(0))), ..token };
        assert_eq!(standing(&recorded, None, "old", at(0)), Standing::Refused);
        assert_eq!(standing(&recorded, None, "other", at(0)), Standing::Refused);
    }

    #[test]
    fn hashes_are_the_same_only_as_a_whole() {
        assert!(same("abc", "abc"));
        assert!(!same("abc", "abd") && !same("abc", "ab") && !same("", "a"));
    }
}
