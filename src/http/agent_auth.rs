//! Authentication of agents by the token of a request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::api::AgentApi;
use super::error::{ApiError, ErrorCode};
use super::origin::RequestOrigin;
use crate::api::conditions::is_true;
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, ConditionType};
use crate::core::agent::token::acceptance::{self, TokenAcceptance};
use crate::core::objects::{AgentIndex, Objects};

/// The agent that sent a request.
///
/// # Guarantees
/// The agent exists and is not being deleted, its token was accepted, and its rate limit is not exceeded. The answer to a
/// request without an accepted token does not depend on the existing agents.
#[derive(Clone, Debug)]
pub struct AgentCaller {
    /// The agent.
    pub agent: Arc<Agent>,
}

impl FromRequestParts<Arc<AgentApi>> for AgentCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<AgentApi>) -> Result<Self, ApiError> {
        let accepted = match authenticate(api, &parts.headers) {
            Ok(accepted) => accepted,
            Err(_) if !api.probes.synced.load(Ordering::Relaxed) => return Err(starting()),
            Err(error) => {
                api.limits.failed_auth(RequestOrigin::of(&parts.extensions).network).map_err(ApiError::too_many)?;
                return Err(error);
            }
        };
        let agent = accepted.agent;
        api.limits.agent(agent.metadata.uid.as_deref().unwrap_or_default()).map_err(ApiError::too_many)?;
        if agent.metadata.deletion_timestamp.is_some() {
            return Err(deleting());
        }
        if let Some(sha256) = accepted.first_use {
            api.state.heartbeats.confirm(&agent, &sha256, api.state.store.now());
            // The receiver is open until the operator stops.
            let _ = api.due.send(ObjectKey::of(&agent.metadata)).await;
        }
        Ok(Self { agent })
    }
}

/// The agent of an accepted token.
struct AcceptedToken {
    agent: Arc<Agent>,
    /// The SHA-256 of the token, if this is the first call with the current token.
    first_use: Option<String>,
}

fn authenticate(api: &AgentApi, headers: &HeaderMap) -> Result<AcceptedToken, ApiError> {
    let unauthorized = |message: &str| ApiError::new(ErrorCode::Unauthorized, message);
    let token = token(headers)
        .ok_or_else(|| unauthorized("send your token in the header X-Agent-Token, or as Authorization: Bearer"))?;
    let unknown =
        || unauthorized("this token is not known; use the one in your files, and read them again if it was replaced");
    let hash = crate::hash::sha256_hex(token);
    let having = api.state.store.agents_by(&AgentIndex::Token(hash.clone())).into_iter();
    let judged = having.map(|agent| (acceptance(api, &agent, &hash), agent));
    let accepted = judged.filter(|(acceptance, _)| *acceptance != TokenAcceptance::Refused);
    // A token Secret that was copied into another namespace gives two Agents one token. One that stays comes first.
    let first = accepted.min_by_key(|(_, agent)| agent.metadata.deletion_timestamp.is_some());
    let (acceptance, agent) = first.ok_or_else(unknown)?;
    let is_first_use = acceptance == TokenAcceptance::Current { first: true };
    Ok(AcceptedToken { agent, first_use: is_first_use.then_some(hash) })
}

/// Whether an Agent accepts the token with this SHA-256 now.
fn acceptance(api: &AgentApi, agent: &Agent, hash: &str) -> TokenAcceptance {
    let Some(issued) = agent.status.as_ref().and_then(|status| status.token.as_ref()) else {
        return TokenAcceptance::Refused;
    };
    let confirmed = api.state.heartbeats.confirmed(agent).map(|(sha256, _)| sha256);
    acceptance::evaluate(issued, confirmed.as_deref(), hash, api.state.store.now())
}

/// The answer to an unknown token before the watches are in sync.
fn starting() -> ApiError {
    let message = "the operator has just started and does not know all agents yet; retry in a few seconds";
    ApiError::new(ErrorCode::Starting, message)
}

fn deleting() -> ApiError {
    let message = "you are being removed; stop working, and do not call again";
    ApiError::new(ErrorCode::Deleting, message)
}

/// Whether the agent is suspended by its spec, or by its Board according to its status. A suspension pauses no agent that Muster only
/// observes.
pub(crate) fn is_paused(agent: &Agent) -> bool {
    let in_status = agent.status.as_ref().is_some_and(|s| is_true(&s.conditions, ConditionType::Paused));
    !agent.is_observer() && (agent.spec.suspend || in_status)
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let agent_token = headers.get("x-agent-token").and_then(|v| v.to_str().ok());
    let bearer = || headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ");
    agent_token.or_else(bearer).map(str::trim).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::Reason;
    use crate::api::agent::ManagementPolicy;
    use crate::api::conditions::{ConditionUpdate, set};

    #[test]
    fn a_suspension_pauses_no_agent_that_muster_only_observes() {
        let agent = |policy: ManagementPolicy, suspend: bool, conditions: bool| {
            let mut agent = Agent::default();
            (agent.spec.management_policy, agent.spec.suspend) = (policy, suspend);
            if conditions {
                let paused = ConditionUpdate::new(ConditionType::Paused, true, Reason::Suspended, "");
                set(&mut agent.status.get_or_insert_default().conditions, &paused, 1, Timestamp::UNIX_EPOCH);
            }
            agent
        };
        for (by_spec, by_status) in [(true, false), (false, true), (true, true)] {
            assert!(is_paused(&agent(ManagementPolicy::Manage, by_spec, by_status)));
            assert!(!is_paused(&agent(ManagementPolicy::Observe, by_spec, by_status)));
        }
        assert!(!is_paused(&agent(ManagementPolicy::Manage, false, false)));
    }

    #[test]
    fn the_token_is_read_from_either_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.insert(header::AUTHORIZATION, "Bearer b".parse().unwrap());
        assert_eq!(token(&headers), Some("b"));
        headers.insert("x-agent-token", "a".parse().unwrap());
        assert_eq!(token(&headers), Some("a"));
    }
}
