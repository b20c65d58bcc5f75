//! The details of one agent, without its secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State as FromState};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::request::{PROFILE_FIELDS, Query};
use super::state::{Authenticated, PathId, PeopleApi, PeopleState};
use crate::api::Agent;
use crate::api::agent::AgentStatus;
use crate::api::object_key::ObjectKey;
use crate::api::profile::IdentityProfile;
use crate::api::requests::RequestStatus;
use crate::core::agent::binding::Binding;
use crate::core::agent::heartbeat::AgentHeartbeat;
use crate::core::gateway_ref::gateway_of_board;
use crate::core::objects::Objects;
use crate::http::dto::{Entry, Item};
use crate::http::error::ApiError;
use crate::state::authz::Verb;

/// `GET /api/v1/agents/{id}`
pub(crate) async fn agent(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    PathId(id): PathId,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    Query::parse(raw.as_deref(), &[])?;
    match people.find_agent(&caller, &id, Verb::Get).await {
        Ok(agent) => Ok(Json(people.detail(&agent))),
        Err(error) => {
            // The id may be of an agent without an Agent resource.
            let found = people.unmanaged_named(&caller, &id).await.unwrap_or_default();
            let item = found.first().ok_or(error)?;
            if found.len() > 1 {
                let message = format!(
                    "several gateways have an agent with the id {id:?}; GET /api/v1/agents?is_mc_agent=false&gateway_id=... shows it"
                );
                return Err(ApiError::new(StatusCode::CONFLICT, "ambiguous", message));
            }
            Ok(Json(unmanaged_detail(item)))
        }
    }
}

/// `GET /api/v1/agents/{id}/events`
pub(crate) async fn events(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    PathId(id): PathId,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    Query::parse(raw.as_deref(), &[])?;
    let agent = people.find_agent(&caller, &id, Verb::Get).await?;
    let uid = agent.metadata.uid.as_deref().unwrap_or_default();
    let namespace = ObjectKey::of(&agent.metadata).namespace;
    let events = people.authorizer.access.events(&caller.token, &namespace, uid).await?;
    let items = events.into_iter().map(|event| {
        json!({
            "type": event.kind, "reason": event.reason, "message": event.message, "count": event.count,
            "last_seen_at": event.last_seen.map(|t| t.to_string()),
        })
    });
    Ok(Json(json!({ "items": items.collect::<Vec<_>>() })))
}

impl PeopleApi {
    /// The item of an Agent.
    pub(crate) fn item(&self, agent: &Agent) -> Item {
        Entry::of(agent).resolve(&self.state.store)
    }

    /// The item of an Agent with its details.
    fn detail(&self, agent: &Agent) -> Value {
        let store = &self.state.store;
        let entry = Entry::of(agent);
        let board = entry.board.as_ref().and_then(|key| store.board(key));
        let gateway = board.as_ref().map(|board| gateway_of_board(board)).or_else(|| entry.gateway.clone());
        let gateway = gateway.and_then(|key| store.gateway(&key));
        let status = agent.status.clone().unwrap_or_default();
        let mut details = status_details(&status);
        details.insert("identity_profile".into(), profile(&agent.spec.identity_profile));
        let adopted = Binding::of(agent).is_some_and(|binding| binding.adopted);
        let effective = AgentHeartbeat::of(agent, board.as_deref(), gateway.as_deref(), adopted);
        let shown = if agent.is_observer() { Value::Null } else { heartbeat(&effective) };
        details.insert("heartbeat_config".into(), shown);
        merge(&entry.resolve(store), details)
    }
}

/// The fields of an item and of its details in one object.
fn merge(item: &Item, details: Map<String, Value>) -> Value {
    let mut merged = serde_json::to_value(item).unwrap_or_default();
    if let Some(object) = merged.as_object_mut() {
        object.extend(details);
    }
    merged
}

/// The details of an agent without an Agent resource.
fn unmanaged_detail(item: &Item) -> Value {
    let mut details = status_details(&AgentStatus::default());
    details.insert("identity_profile".into(), profile(&IdentityProfile::default()));
    details.insert("heartbeat_config".into(), Value::Null);
    merge(item, details)
}

/// The details from an agent's status, without hashes of tokens.
fn status_details(status: &AgentStatus) -> Map<String, Value> {
    let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.as_ref().map(|time| time.0.to_string())
    };
    let conditions = status.conditions.iter().map(|c| {
        json!({
            "type": c.type_, "status": c.status, "reason": c.reason, "message": c.message,
            "last_transition_time": c.last_transition_time.0.to_string(),
        })
    });
    let files = status.files.iter();
    let files = files.map(|f| json!({ "name": f.name, "state": f.state, "into": f.into, "size": f.size }));
    let token = status.token.as_ref().map(
        |t| json!({ "revision": t.revision, "issued_at": time(&t.issued_at), "confirmed_at": time(&t.confirmed_at) }),
    );
    let wake = status.wake.as_ref().map(
        |w| json!({ "attempts": w.attempts, "last_sent_at": time(&w.last_sent_at), "deadline": time(&w.deadline) }),
    );
    let request = |r: &RequestStatus| json!({ "kind": r.kind, "requested_at": r.requested_at.0.to_string(), "handled_at": time(&r.handled_at) });
    let all = json!({
        "conditions": conditions.collect::<Vec<_>>(),
        "files": files.collect::<Vec<_>>(),
        "token": token,
        "wake": wake,
        "requests": status.requests.iter().map(request).collect::<Vec<_>>(),
        "last_error": status.last_error,
        "workspace_path": status.workspace_path,
    });
    all.as_object().cloned().unwrap_or_default()
}

/// A profile with the field names of the API. The values of `extra` are fields of the same object.
fn profile(profile: &IdentityProfile) -> Value {
    let mut spec = serde_json::to_value(profile).unwrap_or_default();
    let extra = spec.get_mut("extra").map(Value::take).unwrap_or_default();
    let extra = extra.as_object().cloned().unwrap_or_default();
    let known = PROFILE_FIELDS.iter().filter_map(|(name, spec_field)| {
        let value = spec.get_mut(*spec_field)?.take();
        Some(((*name).to_owned(), value))
    });
    let known: BTreeMap<String, Value> = known.collect();
    Value::Object(extra.into_iter().chain(known).collect())
}

/// The heartbeat as the gateway has it. `null` for an adopted agent whose spec leaves the heartbeat to the gateway.
fn heartbeat(heartbeat: &AgentHeartbeat) -> Value {
    let shown =
        |every: Duration| json!({ "enabled": !every.is_zero(), "intervalSeconds": heartbeat.interval.as_secs() });
    heartbeat.every.map_or(Value::Null, shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::TokenStatus;

    #[test]
    fn the_details_contain_no_hash_of_a_token() {
        let token = TokenStatus { sha256: "abc123".into(), revision: 2, ..TokenStatus::default() };
        let status = AgentStatus { token: Some(token), ..AgentStatus::default() };
        let details = Value::Object(status_details(&status)).to_string();
        assert!(details.contains("\"revision\":2") && !details.contains("abc123"), "{details}");
    }

    #[test]
    fn a_profile_is_returned_as_it_was_sent() {
        let sent = json!({ "role": "SRE", "working_hours": "9-5", "expertise": ["Go"], "team": "infra" });
        let spec: IdentityProfile = serde_json::from_value(
            json!({ "role": "SRE", "workingHours": "9-5", "expertise": ["Go"], "extra": { "team": "infra" } }),
        )
        .unwrap();
        assert_eq!(profile(&spec), sent);
    }
}
