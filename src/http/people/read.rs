//! The details of one agent, and its events.

use axum::Json;
use axum::extract::State as FromState;
use schemars::JsonSchema;
use serde::Serialize;

use super::details::{AgentDetail, HeartbeatDetail, StatusDetail, profile};
use super::request::{NoParameters, Parameters};
use super::state::{Authenticated, PathId, PeopleApi, PeopleState};
use crate::api::Agent;
use crate::api::agent::AgentStatus;
use crate::api::object_key::ObjectKey;
use crate::api::profile::IdentityProfile;
use crate::core::agent::binding::Binding;
use crate::core::agent::heartbeat::AgentHeartbeat;
use crate::core::gateway_ref::gateway_of_board;
use crate::core::objects::Objects;
use crate::http::dto::{ApiTime, Entry, Item};
use crate::http::error::{ApiError, ErrorCode};
use crate::state::authz::{RecordedEvent, Verb};

/// The events of an agent, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EventList {
    /// The events.
    items: Vec<EventItem>,
}

/// An event of an agent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Event")]
struct EventItem {
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    kind: String,
    /// The cause as one word, for programs.
    reason: String,
    /// The event as a sentence.
    message: String,
    /// How often the event occurred.
    count: i32,
    /// When the event last occurred.
    last_seen_at: Option<ApiTime>,
}

impl From<RecordedEvent> for EventItem {
    fn from(event: RecordedEvent) -> Self {
        let RecordedEvent { kind, reason, message, count, last_seen } = event;
        Self { kind, reason, message, count, last_seen_at: last_seen.map(ApiTime) }
    }
}

/// `GET /api/v1/agents/{id}`
pub(crate) async fn agent(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    PathId(id): PathId,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Result<Json<AgentDetail>, ApiError> {
    match people.find_agent(&caller, &id, Verb::Get).await {
        Ok(agent) => Ok(Json(people.detail(&agent))),
        Err(error) => {
            // The id may be of an agent without an Agent resource.
            let mut found = people.unmanaged_named(&caller, &id).await.unwrap_or_default();
            let item = found.pop().ok_or(error)?;
            if !found.is_empty() {
                let message = format!(
                    "several gateways have an agent with the id {id:?}; GET /api/v1/agents?is_mc_agent=false&gateway_id=... shows it"
                );
                return Err(ApiError::new(ErrorCode::Ambiguous, message));
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
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Result<Json<EventList>, ApiError> {
    let agent = people.find_agent(&caller, &id, Verb::Get).await?;
    let uid = agent.metadata.uid.as_deref().unwrap_or_default();
    let namespace = ObjectKey::of(&agent.metadata).namespace;
    let events = people.authorizer.access.events(&caller.token, &namespace, uid).await?;
    Ok(Json(EventList { items: events.into_iter().map(EventItem::from).collect() }))
}

impl PeopleApi {
    /// The item of an Agent.
    pub(crate) fn item(&self, agent: &Agent) -> Item {
        Entry::of(agent).resolve(&self.state.store)
    }

    /// The item of an Agent with its details.
    fn detail(&self, agent: &Agent) -> AgentDetail {
        let store = &self.state.store;
        let entry = Entry::of(agent);
        let board = entry.board.as_ref().and_then(|key| store.board(key));
        let gateway = board.as_ref().map(|board| gateway_of_board(board)).or_else(|| entry.gateway.clone());
        let gateway = gateway.and_then(|key| store.gateway(&key));
        let adopted = Binding::of(agent).is_some_and(|binding| binding.adopted);
        let effective = AgentHeartbeat::of(agent, board.as_deref(), gateway.as_deref(), adopted);
        AgentDetail {
            item: entry.resolve(store),
            status: StatusDetail::from(agent.status.as_ref().unwrap_or(&AgentStatus::default())),
            identity_profile: profile(&agent.spec.identity_profile),
            heartbeat_config: HeartbeatDetail::of(&effective).filter(|_| !agent.is_observer()),
        }
    }
}

/// The details of an agent without an Agent resource.
fn unmanaged_detail(item: Item) -> AgentDetail {
    AgentDetail {
        item,
        status: StatusDetail::from(&AgentStatus::default()),
        identity_profile: profile(&IdentityProfile::default()),
        heartbeat_config: None,
    }
}
