//! One-shot requests for the agents of a gateway, as annotations on an AgentGateway, a Board or Agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as FromState;
use futures::{StreamExt, TryStreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::info;

use super::authz::UserCaller;
use super::lookup::gateways_named;
use super::request::Parameters;
use super::state::{Authenticated, PathId, PeopleApi, PeopleState};
use crate::api::agent::Role;
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::api::{Agent, AgentGateway, Board};
use crate::core::objects::{AgentIndex, BoardIndex, Objects};
use crate::http::dto::ApiTime;
use crate::http::error::ApiError;
use crate::state::authz::{AccessError, Permission, ResourceKind, Verb};

/// The maximum number of concurrent writes for one request.
const CONCURRENT_WRITES: usize = 8;

/// The parameters of a sync.
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "the API defines the parameters")]
pub(crate) struct SyncParameters {
    /// Muster also writes files that it normally keeps.
    #[serde(default)]
    overwrite: bool,
    /// Muster also replaces the tokens.
    #[serde(default)]
    rotate_tokens: bool,
    /// Muster also resets the sessions.
    #[serde(default)]
    reset_sessions: bool,
    /// Muster also writes BOOTSTRAP.md again.
    #[serde(default)]
    force_bootstrap: bool,
    /// Whether the main agent of the gateway is affected.
    #[serde(default = "with_main")]
    include_main: bool,
    /// Only the leads of boards.
    #[serde(default)]
    lead_only: bool,
    /// Only agents of this board: its uid, `namespace/name`, or its name.
    board_id: Option<String>,
}

fn with_main() -> bool {
    true
}

impl SyncParameters {
    /// The kinds of the requests.
    fn kinds(&self) -> Vec<RequestKind> {
        let added = [
            (self.overwrite, RequestKind::Overwrite),
            (self.rotate_tokens, RequestKind::Rotate),
            (self.reset_sessions, RequestKind::ResetSession),
            (self.force_bootstrap, RequestKind::Bootstrap),
        ];
        let added = added.into_iter().filter_map(|(wanted, kind)| wanted.then_some(kind));
        std::iter::once(RequestKind::Sync).chain(added).collect()
    }
}

/// The requests were set.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Sync")]
pub(crate) struct SyncAnswer {
    /// The uid of the AgentGateway.
    gateway_id: Option<String>,
    /// The time of the requests.
    requested_at: ApiTime,
    /// The number of agents that the requests affect.
    agents: usize,
    /// The number of objects without the requests: the caller may not patch them, or they are gone.
    skipped: usize,
    /// The kinds of the requests.
    kinds: Vec<RequestKind>,
}

/// `POST /api/v1/gateways/{id}/templates/sync`
pub(crate) async fn templates(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    PathId(id): PathId,
    Parameters(parameters): Parameters<SyncParameters>,
) -> Result<Json<SyncAnswer>, ApiError> {
    let kinds = parameters.kinds();
    let SyncParameters { lead_only, include_main, board_id, .. } = parameters;
    let candidates = gateways_named(&people.state.store, &id);
    let gateway = people.find_one(&caller, ResourceKind::Gateway, ("gateway", &id), candidates).await?;
    let board = people.board_of_gateway(&caller, &gateway, board_id.as_deref()).await?;
    let agents = people.affected_agents(&gateway, board.as_deref(), lead_only, include_main);
    let targets = match &board {
        None if !lead_only && include_main => vec![(ResourceKind::Gateway, ObjectKey::of(&gateway.metadata))],
        Some(board) if !lead_only => vec![(ResourceKind::Board, ObjectKey::of(&board.metadata))],
        None | Some(_) => agents.iter().map(|agent| (ResourceKind::Agent, ObjectKey::of(&agent.metadata))).collect(),
    };
    let now = people.state.store.now();
    let by_agent = targets.iter().all(|(kind, _)| *kind == ResourceKind::Agent);
    let name = caller.name().to_owned();
    // The task writes all annotations, even if the caller closes the connection or the handler times out.
    let task = tokio::spawn({
        let (people, kinds, now) = (Arc::clone(&people), kinds.clone(), now.to_string());
        async move { people.annotate(&caller, targets, &kinds, &now).await }
    });
    let skipped = task.await.map_err(|e| AccessError::Failed(e.to_string()))??;
    let affected = if by_agent { agents.len() - skipped } else { agents.len() };
    info!(gateway = %ObjectKey::of(&gateway.metadata), by = name, ?kinds, agents = affected, "requested over HTTP");
    Ok(Json(SyncAnswer {
        gateway_id: gateway.metadata.uid.clone(),
        requested_at: ApiTime(now),
        agents: affected,
        skipped,
        kinds,
    }))
}

impl PeopleApi {
    /// The Board of the gateway with the reference `id`; `None` without a reference.
    async fn board_of_gateway(
        &self,
        caller: &UserCaller,
        gateway: &AgentGateway,
        id: Option<&str>,
    ) -> Result<Option<Arc<Board>>, ApiError> {
        let Some(id) = id else { return Ok(None) };
        let key = ObjectKey::of(&gateway.metadata);
        let boards = self.state.store.boards_by(&BoardIndex::Gateway(key));
        self.find_one(caller, ResourceKind::Board, ("board_id", id), boards).await.map(Some)
    }

    /// The Agents that a request affects: Agents in the gateway's namespace, and Agents in other namespaces that are bound to the
    /// gateway. An Agent that the gateway does not admit is not affected.
    fn affected_agents(
        &self,
        gateway: &AgentGateway,
        board: Option<&Board>,
        lead_only: bool,
        include_main: bool,
    ) -> Vec<Arc<Agent>> {
        let store = &self.state.store;
        let gateway = ObjectKey::of(&gateway.metadata);
        let boards = if let Some(board) = board {
            vec![ObjectKey::of(&board.metadata)]
        } else {
            let boards = store.boards_by(&BoardIndex::Gateway(gateway.clone()));
            boards.iter().map(|board| ObjectKey::of(&board.metadata)).collect()
        };
        let on_boards = boards.into_iter().flat_map(|board| store.agents_by(&AgentIndex::Board(board)));
        let on_boards = on_boards.filter(|agent| match agent.spec.role {
            Role::Worker => !lead_only,
            Role::Lead => true,
            Role::Main => false,
        });
        let takes_main = include_main && !lead_only && board.is_none();
        let named = AgentIndex::GatewayRef(gateway.clone());
        let main = if takes_main { store.agents_by(&named) } else { Vec::new() };
        let main = main.into_iter().filter(|agent| agent.spec.role == Role::Main);
        let is_admitted = |agent: &Arc<Agent>| {
            let bound = agent.status.as_ref().and_then(|status| status.gateway.as_ref());
            agent.metadata.namespace.as_deref() == Some(&gateway.namespace) || bound == Some(&gateway)
        };
        on_boards.chain(main).filter(is_admitted).collect()
    }

    /// Writes the annotations with the same time to all targets. Returns the number of skipped targets: a target is skipped if
    /// the caller may not patch it, or if it was deleted.
    ///
    /// # Errors
    /// 403 when the caller may patch no target; the error of Kubernetes for another failed write.
    async fn annotate(
        &self,
        caller: &UserCaller,
        targets: Vec<(ResourceKind, ObjectKey)>,
        kinds: &[RequestKind],
        now: &str,
    ) -> Result<usize, ApiError> {
        let annotations: BTreeMap<_, _> = kinds.iter().map(|kind| (kind.annotation(), now)).collect();
        let patch = json!({ "metadata": { "annotations": annotations } });
        let write = |(kind, key): (ResourceKind, ObjectKey)| {
            let patch = &patch;
            async move {
                let permission = Permission::with(Verb::Patch, kind, &key);
                if !self.authorizer.is_allowed(caller, permission.clone()).await? {
                    return Ok(Some(permission));
                }
                match self.authorizer.access.patch(&caller.token, (kind, &key), patch).await {
                    Ok(_) => Ok(None),
                    Err(AccessError::Refused { code: 404, .. }) => Ok(Some(permission)),
                    Err(error) => Err(ApiError::from(error)),
                }
            }
        };
        let total = targets.len();
        let writes = futures::stream::iter(targets).map(write).buffer_unordered(CONCURRENT_WRITES);
        let skipped: Vec<Permission> = writes.try_filter_map(|skipped| async { Ok(skipped) }).try_collect().await?;
        match skipped.first() {
            Some(permission) if skipped.len() == total => {
                self.authorizer.require(caller, permission.clone()).await.map(|()| total)
            }
            Some(_) | None => Ok(skipped.len()),
        }
    }
}
