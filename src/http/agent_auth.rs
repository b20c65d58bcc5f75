//! Who calls: from a request to the agent whose token it carries.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use super::api::AgentApi;
use super::error::ApiError;
use crate::api::conditions::is_true;
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, ConditionType};
use crate::core::agent::token::acceptance::{TokenAcceptance, standing};
use crate::state::store::Store;

/// The agent that made a request.
///
/// # Guarantees
/// It is there, it is not being deleted, its token was accepted, and it does not call too often. Whoever has no accepted token
/// gets the same answer whatever agents there are.
#[derive(Clone, Debug)]
pub struct AgentCaller {
    /// The agent.
    pub agent: Arc<Agent>,
}

impl<S: Store> FromRequestParts<Arc<AgentApi<S>>> for AgentCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<AgentApi<S>>) -> Result<Self, ApiError> {
        let known = match authenticate(api, &parts.headers) {
            Ok(known) => known,
            Err(_) if !api.probes.synced.load(Ordering::Relaxed) => return Err(starting()),
            Err(refused) => {
                api.limits.stranger(address(parts)).map_err(ApiError::too_many)?;
                return Err(refused);
            }
        };
        let agent = known.agent;
        api.limits.agent(agent.metadata.uid.as_deref().unwrap_or_default()).map_err(ApiError::too_many)?;
        if agent.metadata.deletion_timestamp.is_some() {
            return Err(deleting());
        }
        if let Some(sha256) = known.first_use {
            api.state.heartbeats.confirm(&agent, &sha256, api.state.store.now());
            // The receiver ends only when the operator does.
            let _ = api.due.send(ObjectKey::of(&agent.metadata)).await;
        }
        Ok(Self { agent })
    }
}

/// Who has an accepted token.
struct Known {
    agent: Arc<Agent>,
    /// The SHA-256 of the token, when it is the current one and was not used before.
    first_use: Option<String>,
}

fn authenticate<S: Store>(api: &AgentApi<S>, headers: &HeaderMap) -> Result<Known, ApiError> {
    let unauthorized = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
    let token = token(headers)
        .ok_or_else(|| unauthorized("send your token in the header X-Agent-Token, or as Authorization: Bearer"))?;
    let unknown =
        || unauthorized("this token is not known; use the one in your files, and read them again if it was replaced");
    let hash = crate::hash::sha256_hex(token);
    let key = api.tokens.agent(&hash).ok_or_else(unknown)?;
    let agent = api.state.store.agent(&key).ok_or_else(unknown)?;
    let issued = agent.status.as_ref().and_then(|s| s.token.as_ref()).ok_or_else(unknown)?;
    let confirmed = api.state.heartbeats.confirmed(&agent).map(|(sha256, _)| sha256);
    match standing(issued, confirmed.as_deref(), &hash, api.state.store.now()) {
        TokenAcceptance::Current { first } => Ok(Known { agent, first_use: first.then_some(hash) }),
        TokenAcceptance::Previous => Ok(Known { agent, first_use: None }),
        TokenAcceptance::Refused => Err(unknown()),
    }
}

/// Nobody is refused while not all agents are known.
fn starting() -> ApiError {
    let message = "the operator has just started and does not know all agents yet; call again in some seconds";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "starting", message)
}

fn deleting() -> ApiError {
    let message = "you are being removed; stop working, and do not call again";
    ApiError::new(StatusCode::CONFLICT, "deleting", message)
}

/// Whether an agent is suspended, by itself or by its board as far as that is known.
pub(crate) fn paused(agent: &Agent) -> bool {
    let told = agent.status.as_ref().is_some_and(|s| is_true(&s.conditions, ConditionType::Paused));
    agent.spec.suspend || told
}

/// Where a request comes from; one address for all when the listener does not tell.
pub(crate) fn address(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip())
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let own = headers.get("x-agent-token").and_then(|v| v.to_str().ok());
    let bearer = || headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ");
    own.or_else(bearer).map(str::trim).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_from_either_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.insert(header::AUTHORIZATION, "Bearer b".parse().unwrap());
        assert_eq!(token(&headers), Some("b"));
        headers.insert("x-agent-token", "a".parse().unwrap());
        assert_eq!(token(&headers), Some("a"));
    }
}
