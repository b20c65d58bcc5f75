//! One-shot requests for all agents of a gateway, as annotations on what they are made for.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State as FromState};
use serde_json::{Value, json};
use tracing::info;

use super::find::not_found;
use super::gate::{Caller, refused};
use super::query::Query;
use super::{Id, Identified, People, State};
use crate::api::agent::Role;
use crate::api::requests::RequestKind;
use crate::api::{Agent, AgentGateway, Board};
use crate::reconcile::access::{Access, Kind, Right, Verb};
use crate::reconcile::{Key, Store};
use crate::server::error::ApiError;
use crate::server::view::gateway_of;

/// The parameters that ask for more than Sync.
const MORE: [(&str, RequestKind); 4] = [
    ("overwrite", RequestKind::Overwrite),
    ("rotate_tokens", RequestKind::Rotate),
    ("reset_sessions", RequestKind::ResetSession),
    ("force_bootstrap", RequestKind::Bootstrap),
];

/// `POST /api/v1/gateways/{id}/templates/sync`
pub(super) async fn templates<S: Store, A: Access>(
    FromState(people): State<S, A>,
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
    let all = people.world.store.gateways();
    let gateway = people.one(&caller, Kind::Gateway, ("gateway", &id), all).await?;
    let board = people.board_of(&caller, &gateway, query.text("board_id")).await?;
    let agents = people.reached(&gateway, board.as_deref(), lead_only, main);
    let targets = match &board {
        None if !lead_only && main => vec![(Kind::Gateway, Key::of(&gateway.metadata))],
        Some(board) if !lead_only => vec![(Kind::Board, Key::of(&board.metadata))],
        None | Some(_) => agents.iter().map(|agent| (Kind::Agent, Key::of(&agent.metadata))).collect(),
    };
    let now = people.world.store.now().to_string();
    people.annotate(&caller, &targets, &kinds, &now).await?;
    info!(gateway = %Key::of(&gateway.metadata), by = caller.name(), ?kinds, agents = agents.len(), "asked over HTTP");
    Ok(Json(json!({
        "gateway_id": gateway.metadata.uid, "requested_at": now, "agents": agents.len(), "kinds": kinds,
    })))
}

impl<S: Store, A: Access> People<S, A> {
    async fn board_of(
        &self,
        caller: &Caller,
        gateway: &AgentGateway,
        id: Option<&str>,
    ) -> Result<Option<Arc<Board>>, ApiError> {
        let Some(id) = id else { return Ok(None) };
        let key = Key::of(&gateway.metadata);
        let mut all = self.world.store.boards();
        all.retain(|board| gateway_of(board) == key);
        if all.is_empty() {
            return Err(not_found(format!("board_id: the gateway has no board {id:?}")));
        }
        self.one(caller, Kind::Board, ("board_id", id), all).await.map(Some)
    }

    /// The agents that a request reaches.
    fn reached(&self, gateway: &AgentGateway, board: Option<&Board>, lead_only: bool, main: bool) -> Vec<Arc<Agent>> {
        let store = &self.world.store;
        let gateway = Key::of(&gateway.metadata);
        let boards = store.boards();
        let boards = boards.iter().filter(|b| gateway_of(b) == gateway).map(|b| Key::of(&b.metadata));
        let only = board.map(|board| Key::of(&board.metadata));
        let boards: Vec<_> = boards.filter(|key| only.as_ref().is_none_or(|only| only == key)).collect();
        let mut agents = store.agents();
        agents.retain(|agent| {
            let namespace = Key::of(&agent.metadata).namespace;
            let on_board =
                || agent.spec.board_ref.as_ref().is_some_and(|b| boards.contains(&Key::new(&namespace, &b.name)));
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
                            .is_some_and(|g| Key::new(g.namespace.as_ref().unwrap_or(&namespace), &g.name) == gateway)
                }
            }
        });
        agents
    }

    /// Makes the requests, all with one time. Nothing is written unless the caller may write all of it.
    async fn annotate(
        &self,
        caller: &Caller,
        targets: &[(Kind, Key)],
        kinds: &[RequestKind],
        now: &str,
    ) -> Result<(), ApiError> {
        for (kind, key) in targets {
            self.gate.require(caller, Right::with(Verb::Patch, *kind, key)).await?;
        }
        let annotations: BTreeMap<_, _> = kinds.iter().map(|kind| (kind.annotation(), now)).collect();
        let patch = json!({ "metadata": { "annotations": annotations } });
        for (kind, key) in targets {
            self.gate.access.patch(&caller.token, (*kind, key), &patch).await.map_err(refused)?;
        }
        Ok(())
    }
}
