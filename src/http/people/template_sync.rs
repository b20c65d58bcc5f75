//! One-shot requests for all agents of a gateway, as annotations on what they are made for.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State as FromState};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tracing::info;

use super::authz::{UserCaller, refused};
use super::lookup::not_found;
use super::query::Query;
use super::state::{Id, Identified, PeopleApi, PeopleState};
use crate::api::agent::Role;
use crate::api::object_key::ObjectKey;
use crate::api::requests::RequestKind;
use crate::api::{Agent, AgentGateway, Board};
use crate::core::gateway_ref::{gateway_key, gateway_of_board};
use crate::http::error::ApiError;
use crate::state::authz::{Access, AccessError, Permission, ResourceKind, Verb};
use crate::state::store::Store;

/// How many objects are written side by side.
const AT_ONCE: usize = 8;
/// The parameters that ask for more than Sync.
const MORE: [(&str, RequestKind); 4] = [
    ("overwrite", RequestKind::Overwrite),
    ("rotate_tokens", RequestKind::Rotate),
    ("reset_sessions", RequestKind::ResetSession),
    ("force_bootstrap", RequestKind::Bootstrap),
];

/// `POST /api/v1/gateways/{id}/templates/sync`
pub(crate) async fn templates<S: Store, A: Access>(
    FromState(people): PeopleState<S, A>,
    Identified(caller): Identified,
    Id(id): Id,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let mut known: Vec<_> = MORE.iter().map(|(name, _)| *name).collect();
    known.extend(["include_main", "lead_only", "board_id"]);
    let query = Query::parse(raw.as_deref(), &known)?;
    let mut kinds = vec![RequestKind::Sync];
    for (name, kind) in MORE {
        if query.flag(name)?.unwrap_or_default() {
            kinds.push(kind);
        }
    }
    let (lead_only, main) = (query.flag("lead_only")?.unwrap_or(false), query.flag("include_main")?.unwrap_or(true));
    let all = people.state.store.gateways();
    let gateway = people.one(&caller, ResourceKind::Gateway, ("gateway", &id), all).await?;
    let board = people.board_of(&caller, &gateway, query.text("board_id")).await?;
    let agents = people.reached(&gateway, board.as_deref(), lead_only, main);
    let targets = match &board {
        None if !lead_only && main => vec![(ResourceKind::Gateway, ObjectKey::of(&gateway.metadata))],
        Some(board) if !lead_only => vec![(ResourceKind::Board, ObjectKey::of(&board.metadata))],
        None | Some(_) => agents.iter().map(|agent| (ResourceKind::Agent, ObjectKey::of(&agent.metadata))).collect(),
    };
    let now = people.state.store.now().to_string();
    let by_agent = targets.iter().all(|(kind, _)| *kind == ResourceKind::Agent);
    let name = caller.name().to_owned();
    // What was begun is done to its end, also when whoever asked goes away or waits no longer.
    let work = tokio::spawn({
        let (people, kinds, now) = (Arc::clone(&people), kinds.clone(), now.clone());
        async move { people.annotate(&caller, targets, &kinds, &now).await }
    });
    let skipped = work.await.map_err(|e| refused(AccessError::Failed(e.to_string())))??;
    let reached = if by_agent { agents.len() - skipped } else { agents.len() };
    info!(gateway = %ObjectKey::of(&gateway.metadata), by = name, ?kinds, agents = reached, "asked over HTTP");
    Ok(Json(json!({
        "gateway_id": gateway.metadata.uid, "requested_at": now, "agents": reached, "skipped": skipped, "kinds": kinds,
    })))
}

impl<S: Store, A: Access> PeopleApi<S, A> {
    async fn board_of(
        &self,
        caller: &UserCaller,
        gateway: &AgentGateway,
        id: Option<&str>,
    ) -> Result<Option<Arc<Board>>, ApiError> {
        let Some(id) = id else { return Ok(None) };
        let key = ObjectKey::of(&gateway.metadata);
        let mut all = self.state.store.boards();
        all.retain(|board| gateway_of_board(board) == key);
        if all.is_empty() {
            return Err(not_found(format!("board_id: the gateway has no board {id:?}")));
        }
        self.one(caller, ResourceKind::Board, ("board_id", id), all).await.map(Some)
    }

    /// The agents that a request reaches: of the gateway's own namespace, and of others as far as they are on it. Whoever
    /// merely names a gateway that does not admit them has no part in it.
    fn reached(&self, gateway: &AgentGateway, board: Option<&Board>, lead_only: bool, main: bool) -> Vec<Arc<Agent>> {
        let store = &self.state.store;
        let gateway = ObjectKey::of(&gateway.metadata);
        let boards = store.boards();
        let boards = boards.iter().filter(|b| gateway_of_board(b) == gateway).map(|b| ObjectKey::of(&b.metadata));
        let only = board.map(|board| ObjectKey::of(&board.metadata));
        let boards: Vec<_> = boards.filter(|key| only.as_ref().is_none_or(|only| only == key)).collect();
        let mut agents = store.agents();
        agents.retain(|agent| {
            let namespace = ObjectKey::of(&agent.metadata).namespace;
            let bound = agent.status.as_ref().and_then(|s| s.gateway.as_ref()).cloned();
            if namespace != gateway.namespace && bound.as_ref() != Some(&gateway) {
                return false;
            }
            let on_board =
                || agent.spec.board_ref.as_ref().is_some_and(|b| boards.contains(&ObjectKey::new(&namespace, &b.name)));
            match agent.spec.role {
                Role::Worker => !lead_only && on_board(),
                Role::Lead => on_board(),
                Role::Main => {
                    main && !lead_only
                        && only.is_none()
                        && agent
                            .spec
                            .gateway_ref
                            .as_ref()
                            .is_some_and(|reference| gateway_key(reference, &namespace) == gateway)
                }
            }
        });
        agents
    }

    /// Makes the requests, all with one time. Those that the caller may not write, and those that are gone meanwhile, are
    /// skipped; how many were.
    ///
    /// # Errors
    /// 403 when the caller may write none of them; what Kubernetes says to the others.
    async fn annotate(
        &self,
        caller: &UserCaller,
        targets: Vec<(ResourceKind, ObjectKey)>,
        kinds: &[RequestKind],
        now: &str,
    ) -> Result<usize, ApiError> {
        let annotations: BTreeMap<_, _> = kinds.iter().map(|kind| (kind.annotation(), now)).collect();
        let patch = json!({ "metadata": { "annotations": annotations } });
        let ask = |(kind, key): (ResourceKind, ObjectKey)| {
            let patch = &patch;
            async move {
                let right = Permission::with(Verb::Patch, kind, &key);
                if !self.gate.may(caller, right.clone()).await? {
                    return Ok(Some(right));
                }
                match self.gate.access.patch(&caller.token, (kind, &key), patch).await {
                    Ok(_) => Ok(None),
                    Err(AccessError::Refused { code: 404, .. }) => Ok(Some(right)),
                    Err(error) => Err(refused(error)),
                }
            }
        };
        let number = targets.len();
        let done = futures::stream::iter(targets).map(ask).buffer_unordered(AT_ONCE);
        let skipped: Vec<Permission> = done.try_filter_map(|skipped| async { Ok(skipped) }).try_collect().await?;
        match skipped.first() {
            Some(right) if skipped.len() == number => self.gate.require(caller, right.clone()).await.map(|()| number),
            Some(_) | None => Ok(skipped.len()),
        }
    }
}
