//! What an agent refers to: its board, its gateway, its templates, its token.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::ConditionType;
use crate::api::agent::Agent;
use crate::api::allowed_namespaces::NamespacesFrom;
use crate::api::conditions::is_true;
use crate::api::object_key::ObjectKey;
use crate::api::shared::GatewayRef;
use crate::api::{AgentGateway, Board, Reason};
use crate::controllers::Context;
use crate::controllers::agent::token_secret;
use crate::controllers::agent::work::{CarriedToken, Work};
use crate::core::agent::admission::check_role_and_quota;
use crate::core::agent::permissions;
use crate::core::agent::references::References;
use crate::core::agent::resolved_names::resolve;
use crate::core::agent::templates::origins;
use crate::core::agent::token::secret::Token;
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::{address, admits_labels, api_url, gateway_key};
use crate::core::names;
use crate::core::objects::Objects;
use crate::core::requests::Requests;
use crate::state::kube_store::KubeStore;
use crate::state::store::{Denial, StoreError};

/// The Board and the AgentGateway of an Agent.
pub(super) struct AgentParents {
    /// Its Board; a Main agent has none.
    pub(super) board: Option<Arc<Board>>,
    /// Its AgentGateway.
    pub(super) gateway: Arc<AgentGateway>,
    /// The key of the AgentGateway.
    pub(super) gateway_key: ObjectKey,
}

impl AgentParents {
    /// The parents of an Agent, if they admit the Agent.
    ///
    /// # Errors
    /// The reference that does not hold, with what to do, or a request to Kubernetes that failed.
    pub(super) async fn of(ctx: &Context, work: &Work) -> Result<Self, ReconcileError> {
        let (store, agent) = (&ctx.state.store, &work.agent);
        names::of_agent(agent)?;
        let namespace = agent.metadata.namespace.clone().unwrap_or_default();
        let board = board(store, agent, &namespace)?;
        board.as_deref().map_or(Ok(()), names::of_board)?;
        let reference = match (&board, &agent.spec.gateway_ref) {
            (Some(board), _) => &board.spec.gateway_ref,
            (None, Some(reference)) => reference,
            (None, None) => return Err(ReconcileError::permanent(Reason::InvalidSpec, "spec.gatewayRef is missing")),
        };
        let gateway = gateway(store, reference, &namespace, work.admitted_by.as_ref()).await?;
        let gateway_key = gateway_key(reference, &namespace);
        permissions::check(store, agent, &gateway, &gateway_key)?;
        check_role_and_quota(store, agent, board.as_deref(), &gateway_key)?;
        Ok(Self { board, gateway, gateway_key })
    }

    /// The one-shot requests to an Agent.
    pub(super) fn requests(&self, agent: &Agent, now: jiff::Timestamp) -> Requests {
        Requests::of(agent, self.board.as_deref(), &self.gateway, now)
    }
}

/// Reads what an Agent refers to. What an earlier pass has read of the token and the templates is not read again.
///
/// # Errors
/// The reference that does not hold, with what to do, or a request to Kubernetes that failed.
pub(super) async fn read(ctx: &Context, work: &mut Work) -> Result<References, ReconcileError> {
    let (store, agent) = (&ctx.state.store, Arc::clone(&work.agent));
    let parents = AgentParents::of(ctx, work).await?;
    let requests = parents.requests(&agent, store.now());
    let AgentParents { board, gateway, gateway_key } = parents;
    let address = address(&gateway.spec.url);
    let names = resolve(store, &agent, board.as_deref(), &gateway)?;
    let origins = origins(&agent, board.as_deref(), Some(&*gateway));
    let templates = super::templates::read(store, &origins, &mut work.config_maps).await?;
    let api_url = api_url(&gateway, ctx.served_api.default_url.as_deref())?.to_owned();
    let token = token(ctx, work, &api_url).await?;
    let soul = ctx.souls.of(&agent, &gateway_key, &gateway).await;
    let silence_counts_from = silence_counts_from(ctx, &agent);
    Ok(References {
        board,
        gateway,
        gateway_key,
        address,
        api_url,
        names,
        templates,
        token,
        requests,
        soul,
        silence_counts_from,
    })
}

async fn token(ctx: &Context, work: &mut Work, api_url: &str) -> Result<Token, ReconcileError> {
    let secret = token_secret::key(&work.agent);
    if let Some(carried) = &work.token
        && carried.secret == secret
        && carried.api_url == api_url
    {
        return Ok(carried.token.clone());
    }
    let token = token_secret::read_unless_recent(&ctx.state, &work.agent, api_url).await?;
    work.token = Some(CarriedToken { secret, api_url: api_url.to_owned(), token: token.clone() });
    Ok(token)
}

/// The time from which a silence of the agent counts. For an agent that had checked in it is the start of this operator, which received
/// no calls before. For another agent there is no bound, so that a restart does not make it CheckedIn.
fn silence_counts_from(ctx: &Context, agent: &Agent) -> jiff::Timestamp {
    let started = ctx.state.heartbeats.listening_since(ctx.state.store.now());
    let checked_in = agent.status.as_ref().is_some_and(|s| is_true(&s.conditions, ConditionType::CheckedIn));
    if checked_in { started } else { jiff::Timestamp::MIN }
}

fn board(store: &KubeStore, agent: &Agent, namespace: &str) -> Result<Option<Arc<Board>>, ReconcileError> {
    let Some(reference) = &agent.spec.board_ref else { return Ok(None) };
    let name = &reference.name;
    let found = store.board(&ObjectKey::new(namespace, name));
    found.map(Some).ok_or_else(|| {
        let message = format!("Board {name:?}, which spec.boardRef names, does not exist in namespace {namespace:?}; create it or change spec.boardRef");
        ReconcileError::permanent(Reason::BoardNotFound, message)
    })
}

/// The gateway that a reference means, if it admits this namespace and is not being deleted. `admitted_by`: an AgentGateway that is known
/// to admit the namespace.
pub(crate) async fn gateway(
    store: &KubeStore,
    reference: &GatewayRef,
    namespace: &str,
    admitted_by: Option<&ObjectKey>,
) -> Result<Arc<AgentGateway>, ReconcileError> {
    let key = gateway_key(reference, namespace);
    let found = store.gateway(&key).ok_or_else(|| unknown_gateway(store, &key))?;
    if found.metadata.deletion_timestamp.is_some() {
        let message = format!("AgentGateway {key} is being deleted");
        return Err(ReconcileError::permanent(Reason::GatewayNotFound, message));
    }
    if admitted_by == Some(&key) {
        return Ok(found);
    }
    let message = match admits(store, &found, &key, namespace).await {
        Ok(true) => return Ok(found),
        Ok(false) => format!(
            "AgentGateway {key} does not admit namespace {namespace:?}; allow it in that gateway's spec.allowedNamespaces"
        ),
        // A selector of labels that nobody can read admits nothing.
        Err(StoreError::Denied { denial: Denial::Rights, .. }) => format!(
            "AgentGateway {key} admits namespaces by their labels, and Muster's ServiceAccount has no right to get namespace \
             {namespace:?}; grant the right in that namespace"
        ),
        Err(error) => return Err(error.into()),
    };
    Err(ReconcileError::permanent(Reason::NotAdmitted, message))
}

/// The error for an AgentGateway that is not in the cache.
fn unknown_gateway(store: &KubeStore, key: &ObjectKey) -> ReconcileError {
    let obstacle = store.coverage(&key.namespace).obstacle(&key.namespace);
    let missing = || {
        let message = format!("AgentGateway {key} does not exist; create it or change the gatewayRef that names it");
        ReconcileError::permanent(Reason::GatewayNotFound, message)
    };
    obstacle.map_or_else(missing, |obstacle| {
        let message = format!("AgentGateway {key} is not known: {obstacle}");
        ReconcileError::permanent(Reason::NamespaceNotWatched, message)
    })
}

/// Whether an AgentGateway admits a namespace.
///
/// # Errors
/// The labels of the namespace could not be read.
pub(crate) async fn admits(
    store: &KubeStore,
    gateway: &AgentGateway,
    key: &ObjectKey,
    namespace: &str,
) -> Result<bool, StoreError> {
    if key.namespace == namespace {
        return Ok(true);
    }
    let Some(allowed) = &gateway.spec.allowed_namespaces else { return Ok(false) };
    let labels = match allowed.from {
        NamespacesFrom::Selector => {
            let found = store.namespace(namespace).await?;
            found.and_then(|namespace| namespace.labels).unwrap_or_default()
        }
        NamespacesFrom::Same | NamespacesFrom::All => BTreeMap::new(),
    };
    Ok(admits_labels(gateway, &labels))
}
