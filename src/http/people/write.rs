//! Writes of agents. A handler writes to Kubernetes with the caller's token, and the controllers reconcile the object.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kube::api::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tracing::info;

use super::authz::UserCaller;
use super::lookup::{boards_named, gateways_named, is_referenced};
use super::request::{AgentCreate, AgentUpdate, Given, JsonBody, NoParameters, Parameters, without_nulls};
use super::state::{Authenticated, PathId, PeopleApi, PeopleState};
use crate::api::agent::{AgentSpec, Role};
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::api::shared::{GatewayRef, LocalRef};
use crate::api::{Agent, Board};
use crate::core::gateway_ref::gateway_of_board;
use crate::core::objects::Objects;
use crate::http::dto::{Entry, Item};
use crate::http::error::ApiError;
use crate::http::openapi::operation::{Content, DescribedOutput, Operation, Success, schema_of};
use crate::state::authz::{Permission, ResourceKind, Verb};

/// How long an answer waits until the cache contains a created Agent.
const CACHE_TIMEOUT: Duration = Duration::from_secs(2);

/// The answer with a created agent.
pub(crate) struct Created(Item);

impl IntoResponse for Created {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

impl DescribedOutput for Created {
    fn describe(operation: &mut Operation) {
        operation.success = Some(Success { status: StatusCode::CREATED, content: Content::Json(schema_of::<Item>) });
    }
}

/// The parameters of a change.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct UpdateParameters {
    /// Muster also reads and writes everything of the agent again.
    #[serde(default)]
    force: bool,
}

/// Muster removes the agent.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AgentRemoval {
    /// Always true.
    #[schemars(extend("const" = true))]
    ok: bool,
}

/// `POST /api/v1/agents`
pub(crate) async fn create(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    JsonBody(AgentCreate(fields)): JsonBody<AgentCreate>,
) -> Result<Created, ApiError> {
    let spec = fields.spec()?;
    let name = fields.object_name()?;
    // The right to create is asked for before the references are looked up.
    let namespaces = || people.state.store.namespaces();
    let create = (Verb::Create, ResourceKind::Agent);
    people.authorizer.scope(&caller, create, fields.namespace.as_deref(), namespaces).await?;
    let placement = people.placement(&caller, &fields).await?;
    let spec = without_nulls(Value::Object(spec));
    let mut spec: AgentSpec =
        serde_json::from_value(spec).map_err(|e| ApiError::bad_request(format!("the body: {e}")))?;
    (spec.role, spec.board_ref, spec.gateway_ref) = (placement.role, placement.board, placement.gateway);
    spec.files = fields.files(&[]).unwrap_or_default();
    let metadata = ObjectMeta { namespace: Some(placement.namespace), name: Some(name), ..ObjectMeta::default() };
    let agent = Agent { metadata, spec, status: None };
    let key = ObjectKey::of(&agent.metadata);
    people.authorizer.require(&caller, Permission::within(Verb::Create, ResourceKind::Agent, &key.namespace)).await?;
    people.require_known(Some(&key.namespace))?;
    let created = people.authorizer.access.create_agent(&caller.token, &agent).await?;
    info!(agent = %key, by = caller.name(), "created over HTTP");
    people.wait_until_cached(&created).await;
    Ok(Created(people.item(&created)))
}

/// `PATCH /api/v1/agents/{id}`
pub(crate) async fn patch(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    PathId(id): PathId,
    Parameters(UpdateParameters { force }): Parameters<UpdateParameters>,
    JsonBody(fields): JsonBody<AgentUpdate>,
) -> Result<Json<Item>, ApiError> {
    let mut spec = fields.spec()?;
    let agent = people.find_agent(&caller, &id, Verb::Patch).await?;
    if let Some(board) = people.new_board(&caller, &agent, &fields).await? {
        spec.insert("boardRef".into(), json!(board));
    }
    let (mut patch, mut metadata) = (Map::new(), Map::new());
    if let Some(files) = fields.files(&agent.spec.files) {
        spec.insert("files".into(), json!(files));
        // The list replaces the whole list: a change that this answer does not know must not be lost.
        metadata.insert("resourceVersion".into(), json!(agent.metadata.resource_version));
    }
    if !spec.is_empty() {
        patch.insert("spec".into(), Value::Object(spec));
    }
    if force {
        let now = people.state.store.now().to_string();
        metadata.insert("annotations".into(), json!({ RequestKind::Sync.annotation(): now }));
    }
    if patch.is_empty() && metadata.is_empty() {
        return Ok(Json(people.item(&agent)));
    }
    // The uid prevents a patch of a new Agent with the same name.
    metadata.insert("uid".into(), json!(agent.metadata.uid));
    patch.insert("metadata".into(), Value::Object(metadata));
    let key = ObjectKey::of(&agent.metadata);
    let object = (ResourceKind::Agent, &key);
    let patched = people.authorizer.access.patch(&caller.token, object, &Value::Object(patch)).await?;
    info!(agent = %key, by = caller.name(), force, "changed over HTTP");
    let patched: Agent = serde_json::from_value(patched).unwrap_or_else(|_| Agent::clone(&agent));
    Ok(Json(people.item(&patched)))
}

/// `DELETE /api/v1/agents/{id}`
pub(crate) async fn delete(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    PathId(id): PathId,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Result<Json<AgentRemoval>, ApiError> {
    let agent = people.find_agent(&caller, &id, Verb::Delete).await?;
    let key = ObjectKey::of(&agent.metadata);
    let uid = agent.metadata.uid.as_deref().unwrap_or_default();
    people.authorizer.access.delete_agent(&caller.token, &key, uid).await?;
    info!(agent = %key, by = caller.name(), "deleted over HTTP");
    Ok(Json(AgentRemoval { ok: true }))
}

/// The role, the namespace and the references of a new Agent.
struct Placement {
    role: Role,
    namespace: String,
    board: Option<LocalRef>,
    gateway: Option<GatewayRef>,
}

impl PeopleApi {
    /// The placement of a new Agent by `board_id`, `gateway_id` and `is_board_lead`.
    async fn placement(&self, caller: &UserCaller, fields: &AgentUpdate) -> Result<Placement, ApiError> {
        let lead = fields.is_board_lead.unwrap_or_default();
        let Some(board_id) = fields.board_id.value() else {
            let missing = || {
                ApiError::bad_request("board_id: give the board of a worker or lead, or the gateway_id of a main agent")
            };
            let gateway_id = fields.gateway_id.as_ref().ok_or_else(missing)?;
            if lead {
                return Err(ApiError::bad_request("is_board_lead: an agent without a board_id leads no board"));
            }
            return self.main_placement(caller, gateway_id, fields.namespace.as_deref()).await;
        };
        let board = self.board(caller, board_id).await?;
        self.require_gateway_of_board(fields, &board)?;
        let ObjectKey { namespace, name } = ObjectKey::of(&board.metadata);
        if fields.namespace.as_ref().is_some_and(|given| *given != namespace) {
            return Err(ApiError::bad_request(format!(
                "namespace: the agents of this board are in its own namespace, {namespace}"
            )));
        }
        let role = if lead { Role::Lead } else { Role::Worker };
        Ok(Placement { role, namespace, board: Some(LocalRef { name }), gateway: None })
    }

    async fn main_placement(
        &self,
        caller: &UserCaller,
        id: &str,
        namespace: Option<&str>,
    ) -> Result<Placement, ApiError> {
        let candidates = gateways_named(&self.state.store, id);
        let gateway = self.find_one(caller, ResourceKind::Gateway, ("gateway_id", id), candidates).await?;
        let ObjectKey { namespace: of_gateway, name } = ObjectKey::of(&gateway.metadata);
        let namespace = namespace.map_or_else(|| of_gateway.clone(), str::to_owned);
        let other_namespace = (namespace != of_gateway).then_some(of_gateway);
        let gateway = Some(GatewayRef { name, namespace: other_namespace });
        Ok(Placement { role: Role::Main, namespace, board: None, gateway })
    }

    async fn board(&self, caller: &UserCaller, id: &str) -> Result<Arc<Board>, ApiError> {
        let candidates = boards_named(&self.state.store, id);
        self.find_one(caller, ResourceKind::Board, ("board_id", id), candidates).await
    }

    /// Checks that a `gateway_id` is the AgentGateway of the Board.
    fn require_gateway_of_board(&self, fields: &AgentUpdate, board: &Board) -> Result<(), ApiError> {
        let Some(id) = &fields.gateway_id else { return Ok(()) };
        let gateway = self.state.store.gateway(&gateway_of_board(board));
        if gateway.is_some_and(|gateway| is_referenced(gateway.as_ref(), id)) {
            return Ok(());
        }
        Err(ApiError::unprocessable("gateway_id: the board is on another gateway; leave gateway_id out"))
    }

    /// Checks the placement in a change of an Agent. Returns the new Board, which alone can be changed.
    async fn new_board(
        &self,
        caller: &UserCaller,
        agent: &Agent,
        fields: &AgentUpdate,
    ) -> Result<Option<LocalRef>, ApiError> {
        let key = ObjectKey::of(&agent.metadata);
        let is_same = |given: &Option<String>, current: &String| given.as_ref().is_none_or(|given| given == current);
        if !is_same(&fields.namespace, &key.namespace) || !is_same(&fields.resource_name, &key.name) {
            return Err(ApiError::unprocessable(
                "namespace, resource_name: they cannot be changed; create another agent",
            ));
        }
        if fields.is_board_lead.is_some_and(|lead| lead != (agent.spec.role == Role::Lead)) {
            return Err(ApiError::unprocessable(
                "is_board_lead: it cannot be changed; delete the agent and create another agent",
            ));
        }
        if fields.board_id == Given::Null && agent.spec.role != Role::Main {
            return Err(ApiError::unprocessable(
                "board_id: it cannot be removed; give another board of this namespace",
            ));
        }
        if let Some(id) = fields.board_id.value() {
            if agent.spec.role == Role::Main {
                return Err(ApiError::unprocessable("board_id: the main agent of a gateway has no board"));
            }
            let board = self.board(caller, id).await?;
            let ObjectKey { namespace, name } = ObjectKey::of(&board.metadata);
            if namespace != key.namespace {
                return Err(ApiError::unprocessable(
                    "board_id: the board is in another namespace; create another agent there",
                ));
            }
            self.require_gateway_of_board(fields, &board)?;
            return Ok(Some(LocalRef { name }));
        }
        if let Some(id) = &fields.gateway_id {
            let entry = Entry::of(agent);
            let board = entry.board.as_ref().and_then(|key| self.state.store.board(key));
            let gateway = board.map(|board| gateway_of_board(&board)).or(entry.gateway);
            let gateway = gateway.and_then(|key| self.state.store.gateway(&key));
            if !gateway.is_some_and(|gateway| is_referenced(gateway.as_ref(), id)) {
                return Err(ApiError::unprocessable("gateway_id: it cannot be changed; create another agent"));
            }
        }
        Ok(None)
    }

    /// Waits until the cache contains a created Agent, so that the next request finds the id in the answer.
    async fn wait_until_cached(&self, agent: &Agent) {
        let key = ObjectKey::of(&agent.metadata);
        let mut changes = self.change_feed.subscribe();
        let is_cached = || self.state.store.agent(&key).is_some_and(|cached| cached.metadata.uid == agent.metadata.uid);
        let wait = async { while !is_cached() && changes.changed().await.is_ok() {} };
        // After a timeout the answer is still correct.
        let _ = tokio::time::timeout(CACHE_TIMEOUT, wait).await;
    }
}
