//! Lists of agents, Boards and AgentGateways.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as FromState;
use jiff::Timestamp;
use kube::api::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::authz::{Scope, UserCaller};
use super::lookup::{boards_named, gateways_named, is_referenced};
use super::request::Parameters;
use super::state::{Authenticated, PeopleApi, PeopleState};
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, Board};
use crate::core::gateway::census::Unmanaged;
use crate::core::gateway_ref::{gateway_key, gateway_of_board};
use crate::core::objects::{BoardIndex, Objects};
use crate::http::dto::{BoardItem, Entry, GatewayItem, Item};
use crate::http::error::ApiError;
use crate::state::authz::{Permission, ResourceKind, Verb};
use crate::state::kube_store::KubeStore;
use crate::state::unmanaged;

/// The default number of items on a page.
const DEFAULT_LIMIT: usize = 50;
/// The maximum number of items on a page.
const MAX_LIMIT: usize = 200;
/// The maximum number of items before a page.
const MAX_OFFSET: usize = 2_147_483_647;

/// The filter of a list or a stream: the requested Board and the requested AgentGateway.
///
/// A filter with an object that does not exist yields an empty list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Filter {
    /// Only agents of this board: its uid, `namespace/name`, or its name.
    #[serde(rename = "board_id")]
    board: Option<String>,
    /// Only agents of this AgentGateway: its uid, `namespace/name`, or its name.
    #[serde(rename = "gateway_id")]
    gateway: Option<String>,
}

/// The parameters of the list of agents.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct AgentListParameters {
    #[serde(flatten)]
    filter: Filter,
    /// True: agents with an Agent resource. False: agents on gateways without an Agent resource.
    #[serde(default = "managed")]
    is_mc_agent: bool,
    /// The maximum number of items on the page.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = MAX_LIMIT))]
    limit: usize,
    /// The number of items before the page.
    #[serde(default)]
    #[schemars(range(min = 0, max = MAX_OFFSET))]
    offset: usize,
    /// Only this namespace.
    namespace: Option<String>,
}

fn managed() -> bool {
    true
}

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

/// The parameters of the lists of Boards and of AgentGateways.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct NamespaceParameter {
    /// Only this namespace.
    namespace: Option<String>,
}

/// A page of agents.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AgentList {
    /// The agents of the page, the oldest first.
    items: Vec<Item>,
    /// The number of agents on all pages.
    total: usize,
    /// The maximum number of items on the page.
    limit: usize,
    /// The number of items before the page.
    offset: usize,
}

/// The Boards that the caller may list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BoardList {
    /// The Boards, by namespace and name.
    items: Vec<BoardItem>,
}

/// The AgentGateways that the caller may list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct GatewayList {
    /// The AgentGateways, by namespace and name.
    items: Vec<GatewayItem>,
}

impl Filter {
    /// Whether an agent matches the filter, by its Board and its AgentGateway in the cache. A deleted agent also matches when its
    /// Board or AgentGateway is deleted: a reader that does not know the agent ignores its deletion.
    pub(crate) fn matches(&self, entry: &Entry, store: &KubeStore) -> bool {
        if self.board.is_none() && self.gateway.is_none() {
            return true;
        }
        let deleted = entry.is_deleted();
        let board = entry.board.as_ref().and_then(|key| store.board(key));
        let on_board = |reference: &String| match &board {
            Some(board) => is_referenced(board.as_ref(), reference),
            None => deleted && entry.board.is_some(),
        };
        self.board.as_ref().is_none_or(on_board)
            && self.gateway.as_ref().is_none_or(|reference| {
                let key = board.as_ref().map(|board| gateway_of_board(board)).or_else(|| entry.gateway.clone());
                match key.map(|key| store.gateway(&key)) {
                    Some(Some(gateway)) => is_referenced(gateway.as_ref(), reference),
                    Some(None) | None => deleted,
                }
            })
    }
}

fn references_gateway(reference: &str, key: &ObjectKey, store: &KubeStore) -> bool {
    store.gateway(key).is_some_and(|gateway| is_referenced(gateway.as_ref(), reference))
}

/// `GET /api/v1/agents`
pub(crate) async fn agents(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    Parameters(parameters): Parameters<AgentListParameters>,
) -> Result<Json<AgentList>, ApiError> {
    let AgentListParameters { limit, offset, .. } = parameters;
    let (items, total) = if parameters.is_mc_agent {
        people.managed_page(&caller, &parameters).await?
    } else {
        let all = people.unmanaged(&caller, &parameters).await?;
        let page = all.iter().skip(offset).take(limit);
        (page.map(|agent| Item::unmanaged(agent, &people.state.store)).collect(), all.len())
    };
    Ok(Json(AgentList { items, total, limit, offset }))
}

impl PeopleApi {
    /// The namespaces in which the caller may list objects of a kind: all, or the requested one.
    pub(crate) async fn list_scope(
        &self,
        caller: &UserCaller,
        kind: ResourceKind,
        namespace: Option<&str>,
    ) -> Result<Scope, ApiError> {
        let namespaces = || self.state.store.namespaces();
        let scope = self.authorizer.scope(caller, (Verb::List, kind), namespace, namespaces).await?;
        self.require_known(namespace)?;
        Ok(scope)
    }

    /// Checks that the operator knows the objects of a requested namespace. The right in the namespace is asked for before.
    pub(crate) fn require_known(&self, namespace: Option<&str>) -> Result<(), ApiError> {
        let obstacle = namespace.and_then(|name| self.state.store.coverage(name).obstacle(name));
        obstacle.map_or(Ok(()), |obstacle| Err(ApiError::not_found(format!("namespace: {obstacle}"))))
    }

    /// A page of the agents with an Agent resource, and the total number of these agents.
    async fn managed_page(
        &self,
        caller: &UserCaller,
        parameters: &AgentListParameters,
    ) -> Result<(Vec<Item>, usize), ApiError> {
        let store = &self.state.store;
        let scope = self.list_scope(caller, ResourceKind::Agent, parameters.namespace.as_deref()).await?;
        let filter = self.resolve_filter(&parameters.filter);
        // The list shares the agents of the cache, and only the page is built.
        let mut agents = store.agents();
        agents.retain(|agent| {
            let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
            scope.contains(namespace) && filter.as_ref().is_none_or(|filter| filter.matches(agent, namespace))
        });
        agents.sort_unstable_by(|a, b| creation_order(&a.metadata).cmp(&creation_order(&b.metadata)));
        let total = agents.len();
        let page = agents.iter().skip(parameters.offset).take(parameters.limit);
        let page = page.map(|agent| Entry::of(agent).resolve(store)).collect();
        Ok((page, total))
    }

    /// The agents without an Agent resource on the gateways that the caller may read, by gateway and id.
    async fn unmanaged(
        &self,
        caller: &UserCaller,
        parameters: &AgentListParameters,
    ) -> Result<Vec<Unmanaged>, ApiError> {
        let store = &self.state.store;
        let namespace = parameters.namespace.as_deref();
        if let Some(namespace) = namespace {
            self.authorizer.require(caller, Permission::within(Verb::List, ResourceKind::Gateway, namespace)).await?;
            self.require_known(Some(namespace))?;
        }
        // An agent without an Agent resource has no Board.
        if parameters.filter.board.is_some() {
            self.require_some_gateway(caller, namespace).await?;
            return Ok(Vec::new());
        }
        let mut gateways = unmanaged::known_gateways(&self.state, None);
        gateways.retain(|key| {
            let named = parameters.filter.gateway.as_deref();
            namespace.is_none_or(|namespace| key.namespace == namespace)
                && named.is_none_or(|reference| references_gateway(reference, key, store))
        });
        let readable = self.readable(caller, gateways).await?;
        if readable.is_empty() && namespace.is_none() {
            self.require_some_gateway(caller, None).await?;
        }
        Ok(unmanaged::on_gateways(&self.state, &readable))
    }

    /// The agents without an Agent resource that have this id, on the gateways that the caller may read.
    pub(crate) async fn unmanaged_named(&self, caller: &UserCaller, id: &str) -> Result<Vec<Item>, ApiError> {
        let readable = self.readable(caller, unmanaged::known_gateways(&self.state, Some(id))).await?;
        let found = unmanaged::on_gateways(&self.state, &readable).into_iter().filter(|agent| agent.id == id);
        Ok(found.map(|agent| Item::unmanaged(&agent, &self.state.store)).collect())
    }

    /// The gateways that the caller may read.
    async fn readable(
        &self,
        caller: &UserCaller,
        gateways: BTreeSet<ObjectKey>,
    ) -> Result<BTreeSet<ObjectKey>, ApiError> {
        let mut readable = BTreeSet::new();
        for key in gateways {
            if self.authorizer.is_allowed(caller, Permission::with(Verb::Get, ResourceKind::Gateway, &key)).await? {
                readable.insert(key);
            }
        }
        Ok(readable)
    }

    /// Checks that the caller may read the AgentGateways of a namespace, or of any namespace.
    async fn require_some_gateway(&self, caller: &UserCaller, namespace: Option<&str>) -> Result<(), ApiError> {
        let namespaces = || self.state.store.namespaces();
        self.authorizer.scope(caller, (Verb::Get, ResourceKind::Gateway), namespace, namespaces).await.map(|_| ())
    }

    /// Looks up the objects of a filter; `None` for an empty filter.
    fn resolve_filter(&self, filter: &Filter) -> Option<ResolvedFilter> {
        if filter.board.is_none() && filter.gateway.is_none() {
            return None;
        }
        let store = &self.state.store;
        let gateways: Option<BTreeSet<ObjectKey>> = filter.gateway.as_ref().map(|reference| {
            gateways_named(store, reference).iter().map(|gateway| ObjectKey::of(&gateway.metadata)).collect()
        });
        let on_gateway =
            |board: &Arc<Board>| gateways.as_ref().is_none_or(|keys| keys.contains(&gateway_of_board(board)));
        let boards = match (&filter.board, &gateways) {
            (Some(reference), _) => boards_named(store, reference),
            (None, Some(keys)) => {
                keys.iter().flat_map(|key| store.boards_by(&BoardIndex::Gateway(key.clone()))).collect()
            }
            (None, None) => Vec::new(),
        };
        let boards = boards.iter().filter(|board| on_gateway(board)).map(|b| ObjectKey::of(&b.metadata)).collect();
        // An agent without a Board is not on the requested Board.
        let gateways = gateways.filter(|_| filter.board.is_none()).unwrap_or_default();
        Some(ResolvedFilter { boards, gateways })
    }
}

/// The keys of the Boards and AgentGateways that match a [`Filter`].
struct ResolvedFilter {
    boards: BTreeSet<ObjectKey>,
    gateways: BTreeSet<ObjectKey>,
}

impl ResolvedFilter {
    fn matches(&self, agent: &Agent, namespace: &str) -> bool {
        if let Some(board) = &agent.spec.board_ref {
            return self.boards.contains(&ObjectKey::new(namespace, &board.name));
        }
        let gateway = agent.spec.gateway_ref.as_ref().map(|reference| gateway_key(reference, namespace));
        gateway.is_some_and(|gateway| self.gateways.contains(&gateway))
    }
}

/// The sort key of a list of agents: the oldest first.
fn creation_order(meta: &ObjectMeta) -> (Option<Timestamp>, (Option<&str>, Option<&str>)) {
    (meta.creation_timestamp.as_ref().map(|time| time.0), key_order(meta))
}

/// The sort key of a list of Boards or AgentGateways.
fn key_order(meta: &ObjectMeta) -> (Option<&str>, Option<&str>) {
    (meta.namespace.as_deref(), meta.name.as_deref())
}

/// `GET /api/v1/boards`
pub(crate) async fn boards(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    Parameters(parameters): Parameters<NamespaceParameter>,
) -> Result<Json<BoardList>, ApiError> {
    let scope = people.list_scope(&caller, ResourceKind::Board, parameters.namespace.as_deref()).await?;
    let store = &people.state.store;
    let mut boards = store.boards();
    boards.retain(|board| scope.contains(board.metadata.namespace.as_deref().unwrap_or_default()));
    boards.sort_unstable_by(|a, b| key_order(&a.metadata).cmp(&key_order(&b.metadata)));
    Ok(Json(BoardList { items: boards.iter().map(|board| BoardItem::of(board, store)).collect() }))
}

/// `GET /api/v1/gateways`
pub(crate) async fn gateways(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    Parameters(parameters): Parameters<NamespaceParameter>,
) -> Result<Json<GatewayList>, ApiError> {
    let scope = people.list_scope(&caller, ResourceKind::Gateway, parameters.namespace.as_deref()).await?;
    let mut gateways = people.state.store.gateways();
    gateways.retain(|gateway| scope.contains(gateway.metadata.namespace.as_deref().unwrap_or_default()));
    gateways.sort_unstable_by(|a, b| key_order(&a.metadata).cmp(&key_order(&b.metadata)));
    Ok(Json(GatewayList { items: gateways.iter().map(|gateway| GatewayItem::of(gateway)).collect() }))
}
