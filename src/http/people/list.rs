//! Lists of agents, Boards and AgentGateways.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State as FromState};
use serde_json::{Value, json};

use super::authz::{Scope, UserCaller};
use super::lookup::is_called;
use super::query::Query;
use super::state::{Identified, PeopleApi, PeopleState};
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, Board};
use crate::core::gateway_ref::{gateway_key, gateway_of_board};
use crate::http::dto::{BoardItem, Entry, GatewayItem, Item};
use crate::http::error::ApiError;
use crate::state::authz::{Access, Permission, ResourceKind, Verb};
use crate::state::store::Store;
use crate::state::unmanaged;

/// How many items a page has when nothing is said.
const PAGE: usize = 50;
/// Most items that a page may have.
const LONGEST_PAGE: usize = 200;
/// Most items that may be before a page.
const FARTHEST: usize = 2_147_483_647;

/// What a list or a stream is narrowed to: the keys of the Boards and of the AgentGateways that were named.
///
/// Who names one that does not exist gets nothing, which is what it has.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    board: Option<String>,
    gateway: Option<String>,
}

impl Filter {
    pub(crate) fn of(query: &Query) -> Self {
        let word = |name| query.text(name).map(str::to_owned);
        Self { board: word("board_id"), gateway: word("gateway_id") }
    }

    /// Whether an agent is among them, as the cache has its Board and its AgentGateway now. One that is gone may be, when its
    /// Board or AgentGateway is gone too: who does not know it does not mind.
    pub(crate) fn admits<S: Store>(&self, entry: &Entry, store: &S) -> bool {
        if self.board.is_none() && self.gateway.is_none() {
            return true;
        }
        let gone = entry.is_deleted();
        let board = entry.board.as_ref().and_then(|key| store.board(key));
        let named = |word: &String| match &board {
            Some(board) => is_called(board.as_ref(), word),
            None => gone && entry.board.is_some(),
        };
        self.board.as_ref().is_none_or(named)
            && self.gateway.as_ref().is_none_or(|word| {
                let key = board.as_ref().map(|board| gateway_of_board(board)).or_else(|| entry.gateway.clone());
                match key.map(|key| store.gateway(&key)) {
                    Some(Some(gateway)) => is_called(gateway.as_ref(), word),
                    Some(None) | None => gone,
                }
            })
    }
}

fn names_gateway<S: Store>(word: &str, key: &ObjectKey, store: &S) -> bool {
    store.gateway(key).is_some_and(|gateway| is_called(gateway.as_ref(), word))
}

/// `GET /api/v1/agents`
pub(crate) async fn agents<S: Store, A: Access>(
    FromState(people): PeopleState<S, A>,
    Identified(caller): Identified,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let known = ["board_id", "gateway_id", "is_mc_agent", "limit", "offset", "namespace"];
    let query = Query::parse(raw.as_deref(), &known)?;
    let limit = query.number("limit", 1..=LONGEST_PAGE)?.unwrap_or(PAGE);
    let offset = query.number("offset", 0..=FARTHEST)?.unwrap_or(0);
    let declared = query.flag("is_mc_agent")?.unwrap_or(true);
    let (items, total) = if declared {
        people.declared(&caller, &query, (limit, offset)).await?
    } else {
        let all = people.undeclared(&caller, &query).await?;
        let total = all.len();
        (all.into_iter().skip(offset).take(limit).collect(), total)
    };
    Ok(Json(json!({ "items": items, "total": total, "limit": limit, "offset": offset })))
}

impl<S: Store, A: Access> PeopleApi<S, A> {
    /// Where the caller may list objects of a kind.
    pub(crate) async fn listed(
        &self,
        caller: &UserCaller,
        kind: ResourceKind,
        query: &Query,
    ) -> Result<Scope, ApiError> {
        let namespaces = || self.state.store.namespaces();
        self.gate.scope(caller, (Verb::List, kind), query.text("namespace"), namespaces).await
    }

    /// A page of the agents that Agents declare, and how many there are.
    async fn declared(
        &self,
        caller: &UserCaller,
        query: &Query,
        (limit, offset): (usize, usize),
    ) -> Result<(Vec<Item>, usize), ApiError> {
        let store = &self.state.store;
        let scope = self.listed(caller, ResourceKind::Agent, query).await?;
        let wanted = self.places(&Filter::of(query));
        let mut agents = store.agents();
        agents.retain(|agent| {
            let key = ObjectKey::of(&agent.metadata);
            scope.admits(&key.namespace) && wanted.as_ref().is_none_or(|places| places.have(agent, &key))
        });
        agents.sort_by_cached_key(|agent| {
            (agent.metadata.creation_timestamp.as_ref().map(|time| time.0), ObjectKey::of(&agent.metadata))
        });
        let total = agents.len();
        let page = agents.iter().skip(offset).take(limit).map(|agent| Entry::of(agent).complete(store)).collect();
        Ok((page, total))
    }

    /// The agents that gateways have and no Agent declares, of those gateways that the caller may read.
    pub(crate) async fn undeclared(&self, caller: &UserCaller, query: &Query) -> Result<Vec<Item>, ApiError> {
        let store = &self.state.store;
        if let Some(namespace) = query.text("namespace") {
            self.gate.require(caller, Permission::within(Verb::List, ResourceKind::Gateway, namespace)).await?;
        }
        // They have no Board.
        if query.text("board_id").is_some() {
            let namespaces = || store.namespaces();
            self.gate.scope(caller, (Verb::Get, ResourceKind::Gateway), query.text("namespace"), namespaces).await?;
            return Ok(Vec::new());
        }
        let in_namespace = |key: &ObjectKey| query.text("namespace").is_none_or(|namespace| key.namespace == namespace);
        let named = |key: &ObjectKey| query.text("gateway_id").is_none_or(|word| names_gateway(word, key, store));
        let mut all = unmanaged::on_all_gateways(&self.state);
        all.retain(|agent| in_namespace(&agent.gateway) && named(&agent.gateway));
        let mut items = Vec::new();
        let (mut denied, mut allowed) = (BTreeSet::new(), false);
        let keys: BTreeSet<_> = all.iter().map(|agent| agent.gateway.clone()).collect();
        for key in keys {
            if self.gate.may(caller, Permission::with(Verb::Get, ResourceKind::Gateway, &key)).await? {
                allowed = true;
            } else {
                denied.insert(key);
            }
        }
        if !allowed && query.text("namespace").is_none() {
            self.gate.scope(caller, (Verb::Get, ResourceKind::Gateway), None, || store.namespaces()).await?;
        }
        items.extend(all.iter().filter(|a| !denied.contains(&a.gateway)).map(|a| Item::unmanaged(a, store)));
        Ok(items)
    }

    /// The Boards and AgentGateways that a filter names; `None` when it names none.
    fn places(&self, filter: &Filter) -> Option<Places> {
        if filter.board.is_none() && filter.gateway.is_none() {
            return None;
        }
        let store = &self.state.store;
        let gateways: Option<BTreeSet<ObjectKey>> = filter.gateway.as_ref().map(|word| {
            let all = store.gateways();
            all.iter().filter(|g| is_called(g.as_ref(), word)).map(|g| ObjectKey::of(&g.metadata)).collect()
        });
        let on = |board: &Arc<Board>| gateways.as_ref().is_none_or(|keys| keys.contains(&gateway_of_board(board)));
        let called = |board: &Arc<Board>| filter.board.as_ref().is_none_or(|word| is_called(board.as_ref(), word));
        let boards = store.boards();
        let boards = boards.iter().filter(|b| on(b) && called(b)).map(|b| ObjectKey::of(&b.metadata)).collect();
        // An agent without a Board is not on the Board that was named.
        let gateways = gateways.filter(|_| filter.board.is_none()).unwrap_or_default();
        Some(Places { boards, gateways })
    }
}

/// The Boards and AgentGateways that agents are to be of.
struct Places {
    boards: BTreeSet<ObjectKey>,
    gateways: BTreeSet<ObjectKey>,
}

impl Places {
    fn have(&self, agent: &Agent, key: &ObjectKey) -> bool {
        if let Some(board) = &agent.spec.board_ref {
            return self.boards.contains(&ObjectKey::new(&key.namespace, &board.name));
        }
        let gateway = agent.spec.gateway_ref.as_ref().map(|reference| gateway_key(reference, &key.namespace));
        gateway.is_some_and(|gateway| self.gateways.contains(&gateway))
    }
}

/// `GET /api/v1/boards`
pub(crate) async fn boards<S: Store, A: Access>(
    FromState(people): PeopleState<S, A>,
    Identified(caller): Identified,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let query = Query::parse(raw.as_deref(), &["namespace"])?;
    let scope = people.listed(&caller, ResourceKind::Board, &query).await?;
    let store = &people.state.store;
    let mut boards = store.boards();
    boards.retain(|board| scope.admits(&ObjectKey::of(&board.metadata).namespace));
    boards.sort_by_cached_key(|board| ObjectKey::of(&board.metadata));
    let items: Vec<_> = boards.iter().map(|board| BoardItem::of(board, store)).collect();
    Ok(Json(json!({ "items": items })))
}

/// `GET /api/v1/gateways`
pub(crate) async fn gateways<S: Store, A: Access>(
    FromState(people): PeopleState<S, A>,
    Identified(caller): Identified,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let query = Query::parse(raw.as_deref(), &["namespace"])?;
    let scope = people.listed(&caller, ResourceKind::Gateway, &query).await?;
    let mut gateways = people.state.store.gateways();
    gateways.retain(|gateway| scope.admits(&ObjectKey::of(&gateway.metadata).namespace));
    gateways.sort_by_cached_key(|gateway| ObjectKey::of(&gateway.metadata));
    let items: Vec<_> = gateways.iter().map(|gateway| GatewayItem::of(gateway)).collect();
    Ok(Json(json!({ "items": items })))
}
