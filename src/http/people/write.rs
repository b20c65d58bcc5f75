//! What people write. It is written to Kubernetes with their own token; the controllers do the rest.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State as FromState};
use axum::http::StatusCode;
use kube::api::ObjectMeta;
use serde_json::{Map, Value, json};
use tracing::info;

use super::authz::{UserCaller, refused};
use super::body::{BodyFields, without_nulls};
use super::lookup::is_called;
use super::query::{Query, bad};
use super::state::{Id, Identified, PeopleApi, PeopleState};
use crate::api::agent::{AgentSpec, Role};
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::api::shared::{GatewayRef, LocalRef};
use crate::api::{Agent, Board};
use crate::core::gateway_ref::gateway_of_board;
use crate::http::dto::{Entry, Item};
use crate::http::error::ApiError;
use crate::state::authz::{Access, Permission, ResourceKind, Verb};
use crate::state::store::Store;

/// How long an answer waits for the cache to have what was created.
const SHOWN: Duration = Duration::from_secs(2);

/// `POST /api/v1/agents`
pub(crate) async fn create<S: Store, A: Access>(
    FromState(people): PeopleState<S, A>,
    Identified(caller): Identified,
    RawQuery(raw): RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Item>), ApiError> {
    Query::parse(raw.as_deref(), &[])?;
    let fields = BodyFields::read(body)?;
    let name = fields.slug()?;
    let place = people.place(&caller, &fields).await?;
    let spec = without_nulls(Value::Object(fields.spec));
    let mut spec: AgentSpec = serde_json::from_value(spec).map_err(|e| bad(format!("the body: {e}")))?;
    (spec.role, spec.board_ref, spec.gateway_ref) = (place.role, place.board, place.gateway);
    let metadata = ObjectMeta { namespace: Some(place.namespace), name: Some(name), ..ObjectMeta::default() };
    let agent = Agent { metadata, spec, status: None };
    let key = ObjectKey::of(&agent.metadata);
    people.gate.require(&caller, Permission::within(Verb::Create, ResourceKind::Agent, &key.namespace)).await?;
    let made = people.gate.access.create_agent(&caller.token, &agent).await.map_err(refused)?;
    info!(agent = %key, by = caller.name(), "created over HTTP");
    people.shown(&made).await;
    Ok((StatusCode::CREATED, Json(people.item(&made))))
}

/// `PATCH /api/v1/agents/{id}`
pub(crate) async fn patch<S: Store, A: Access>(
    FromState(people): PeopleState<S, A>,
    Identified(caller): Identified,
    Id(id): Id,
    RawQuery(raw): RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Item>, ApiError> {
    let query = Query::parse(raw.as_deref(), &["force"])?;
    let force = query.flag("force")?.unwrap_or_default();
    let mut fields = BodyFields::read(body)?;
    let agent = people.agent(&caller, &id, Verb::Patch).await?;
    people.moved(&caller, &agent, &mut fields).await?;
    let mut patch = Map::new();
    if !fields.spec.is_empty() {
        patch.insert("spec".into(), Value::Object(fields.spec));
    }
    let mut metadata = Map::new();
    if force {
        let now = people.state.store.now().to_string();
        metadata.insert("annotations".into(), json!({ RequestKind::Sync.annotation(): now }));
    }
    if patch.is_empty() && metadata.is_empty() {
        return Ok(Json(people.item(&agent)));
    }
    // Not the next one of this name.
    metadata.insert("uid".into(), json!(agent.metadata.uid));
    patch.insert("metadata".into(), Value::Object(metadata));
    let key = ObjectKey::of(&agent.metadata);
    let object = (ResourceKind::Agent, &key);
    let now = people.gate.access.patch(&caller.token, object, &Value::Object(patch)).await.map_err(refused)?;
    info!(agent = %key, by = caller.name(), force, "changed over HTTP");
    let now: Agent = serde_json::from_value(now).unwrap_or_else(|_| Agent::clone(&agent));
    Ok(Json(people.item(&now)))
}

/// `DELETE /api/v1/agents/{id}`
pub(crate) async fn delete<S: Store, A: Access>(
    FromState(people): PeopleState<S, A>,
    Identified(caller): Identified,
    Id(id): Id,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    Query::parse(raw.as_deref(), &[])?;
    let agent = people.agent(&caller, &id, Verb::Delete).await?;
    let key = ObjectKey::of(&agent.metadata);
    let uid = agent.metadata.uid.as_deref().unwrap_or_default();
    people.gate.access.delete_agent(&caller.token, &key, uid).await.map_err(refused)?;
    info!(agent = %key, by = caller.name(), "deleted over HTTP");
    Ok(Json(json!({ "ok": true })))
}

/// Where a new agent belongs.
struct Place {
    role: Role,
    namespace: String,
    board: Option<LocalRef>,
    gateway: Option<GatewayRef>,
}

/// 422 with a sentence.
fn unprocessable(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
}

impl<S: Store, A: Access> PeopleApi<S, A> {
    /// Where an agent belongs by its `board_id`, `gateway_id` and `is_board_lead`.
    async fn place(&self, caller: &UserCaller, fields: &BodyFields) -> Result<Place, ApiError> {
        let lead = fields.lead.unwrap_or_default();
        let Some(board_id) = &fields.board else {
            let missing = || bad("board_id: give the board of a worker or lead, or the gateway_id of a main agent");
            let gateway_id = fields.gateway.as_ref().ok_or_else(missing)?;
            if lead {
                return Err(bad("is_board_lead: an agent without a board_id leads no board"));
            }
            return self.main_of(caller, gateway_id, fields.namespace.as_deref()).await;
        };
        let board = self.board(caller, board_id).await?;
        self.is_same_gateway(fields, &board)?;
        let ObjectKey { namespace, name } = ObjectKey::of(&board.metadata);
        if fields.namespace.as_ref().is_some_and(|given| *given != namespace) {
            return Err(bad(format!("namespace: the agents of this board are in its own namespace, {namespace}")));
        }
        let role = if lead { Role::Lead } else { Role::Worker };
        Ok(Place { role, namespace, board: Some(LocalRef { name }), gateway: None })
    }

    async fn main_of(&self, caller: &UserCaller, id: &str, namespace: Option<&str>) -> Result<Place, ApiError> {
        let all = self.state.store.gateways();
        let gateway = self.one(caller, ResourceKind::Gateway, ("gateway_id", id), all).await?;
        let ObjectKey { namespace: home, name } = ObjectKey::of(&gateway.metadata);
        let namespace = namespace.map_or_else(|| home.clone(), str::to_owned);
        let elsewhere = (namespace != home).then_some(home);
        let gateway = Some(GatewayRef { name, namespace: elsewhere });
        Ok(Place { role: Role::Main, namespace, board: None, gateway })
    }

    async fn board(&self, caller: &UserCaller, id: &str) -> Result<Arc<Board>, ApiError> {
        self.one(caller, ResourceKind::Board, ("board_id", id), self.state.store.boards()).await
    }

    /// A `gateway_id` beside a board is the board's.
    fn is_same_gateway(&self, fields: &BodyFields, board: &Board) -> Result<(), ApiError> {
        let Some(id) = &fields.gateway else { return Ok(()) };
        let gateway = self.state.store.gateway(&gateway_of_board(board));
        if gateway.is_some_and(|gateway| is_called(gateway.as_ref(), id)) {
            return Ok(());
        }
        Err(unprocessable("gateway_id: the board is on another gateway; leave it out, the board says where"))
    }

    /// Takes over what a change says about where the agent belongs: another board, and nothing else.
    async fn moved(&self, caller: &UserCaller, agent: &Agent, fields: &mut BodyFields) -> Result<(), ApiError> {
        let key = ObjectKey::of(&agent.metadata);
        let same = |given: &Option<String>, is: &String| given.as_ref().is_none_or(|given| given == is);
        if !same(&fields.namespace, &key.namespace) || !same(&fields.resource_name, &key.name) {
            return Err(unprocessable("namespace, resource_name: they cannot be changed; make another agent"));
        }
        if fields.lead.is_some_and(|lead| lead != (agent.spec.role == Role::Lead)) {
            return Err(unprocessable("is_board_lead: it cannot be changed; delete the agent and make another one"));
        }
        if fields.no_board && agent.spec.role != Role::Main {
            return Err(unprocessable("board_id: it cannot be removed; give another board of this namespace"));
        }
        if let Some(id) = &fields.board {
            if agent.spec.role == Role::Main {
                return Err(unprocessable("board_id: the main agent of a gateway has no board"));
            }
            let board = self.board(caller, id).await?;
            let ObjectKey { namespace, name } = ObjectKey::of(&board.metadata);
            if namespace != key.namespace {
                return Err(unprocessable("board_id: the board is in another namespace; make another agent there"));
            }
            self.is_same_gateway(fields, &board)?;
            fields.spec.insert("boardRef".into(), json!({ "name": name }));
        } else if let Some(id) = &fields.gateway {
            let entry = Entry::of(agent);
            let board = entry.board.as_ref().and_then(|key| self.state.store.board(key));
            let gateway = board.map(|board| gateway_of_board(&board)).or(entry.gateway);
            let gateway = gateway.and_then(|key| self.state.store.gateway(&key));
            if !gateway.is_some_and(|gateway| is_called(gateway.as_ref(), id)) {
                return Err(unprocessable("gateway_id: it cannot be changed; make another agent"));
            }
        }
        Ok(())
    }

    /// Waits until the cache has what was just created, so that the id in the answer is found by the next request.
    async fn shown(&self, agent: &Agent) {
        let key = ObjectKey::of(&agent.metadata);
        let mut changes = self.feed.changes();
        let known = || self.state.store.agent(&key).is_some_and(|seen| seen.metadata.uid == agent.metadata.uid);
        let wait = async { while !known() && changes.changed().await.is_ok() {} };
        // An answer that comes before the cache has it is true all the same.
        let _ = tokio::time::timeout(SHOWN, wait).await;
    }
}
