//! Lookup of objects by the references in requests.

use std::sync::Arc;

use kube::Resource;

use super::authz::UserCaller;
use super::state::PeopleApi;
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board};
use crate::core::objects::{AgentIndex, BoardIndex, GatewayIndex, Objects};
use crate::http::error::{ApiError, ErrorCode};
use crate::state::authz::{Permission, ResourceKind, Verb};

/// Whether `reference` is the uid of an object, its `namespace/name`, or its name.
pub(crate) fn is_referenced<K: Resource<DynamicType = ()>>(object: &K, reference: &str) -> bool {
    let meta = object.meta();
    let name = meta.name.as_deref();
    let is_key = || {
        let key = reference.split_once('/');
        key.is_some_and(|(ns, n)| meta.namespace.as_deref() == Some(ns) && name == Some(n))
    };
    meta.uid.as_deref() == Some(reference) || name == Some(reference) || is_key()
}

/// The Boards that `reference` may mean, by their uid, their `namespace/name` or their name.
pub(crate) fn boards_named<O: Objects>(objects: &O, reference: &str) -> Vec<Arc<Board>> {
    match reference.split_once('/') {
        Some((namespace, name)) => objects.board(&ObjectKey::new(namespace, name)).into_iter().collect(),
        None => objects.boards_by(&BoardIndex::UidOrName(reference.to_owned())),
    }
}

/// The AgentGateways that `reference` may mean, by their uid, their `namespace/name` or their name.
pub(crate) fn gateways_named<O: Objects>(objects: &O, reference: &str) -> Vec<Arc<AgentGateway>> {
    match reference.split_once('/') {
        Some((namespace, name)) => objects.gateway(&ObjectKey::new(namespace, name)).into_iter().collect(),
        None => objects.gateways_by(&GatewayIndex::UidOrName(reference.to_owned())),
    }
}

impl PeopleApi {
    /// The only object of `candidates` that matches `reference` and that the caller may read. `field` is the name of the reference in an
    /// error.
    ///
    /// # Errors
    /// 404 when the caller may not read a matching object, 403 when the caller may read no object of the kind, 400 when several
    /// objects match.
    pub(crate) async fn find_one<K: Resource<DynamicType = ()>>(
        &self,
        caller: &UserCaller,
        kind: ResourceKind,
        (field, reference): (&str, &str),
        candidates: Vec<Arc<K>>,
    ) -> Result<Arc<K>, ApiError> {
        let found: Vec<_> = candidates.into_iter().filter(|object| is_referenced(object.as_ref(), reference)).collect();
        let mut visible = self.permitted(caller, (Verb::Get, kind), &found).await?;
        match (visible.pop(), visible.is_empty()) {
            (Some(object), true) => Ok(object),
            (Some(_), false) => Err(ApiError::bad_request(format!(
                "{field}: several {} match {reference:?}; give the id, or namespace/name",
                kind.resource()
            ))),
            // The answer does not reveal an object that the caller may not read.
            (None, _) => {
                self.authorizer.scope(caller, (Verb::Get, kind), None, || self.state.store.namespaces()).await?;
                Err(ApiError::not_found(format!(
                    "{field}: none of the {} that you may read matches {reference:?}",
                    kind.resource()
                )))
            }
        }
    }

    /// The Agent with this uid or gateway's id, if the caller may use `verb` on it. The Agent that manages the agent comes before Agents that
    /// only observe the agent.
    ///
    /// # Errors
    /// 404 when the caller may read no Agent with this id, 403 when the caller may not use `verb` or may read no Agent at all,
    /// 409 when several Agents have an agent with this id.
    pub(crate) async fn find_agent(&self, caller: &UserCaller, id: &str, verb: Verb) -> Result<Arc<Agent>, ApiError> {
        let found = self.state.store.agents_by(&AgentIndex::Id(id.to_owned()));
        let mut permitted = self.permitted(caller, (verb, ResourceKind::Agent), &found).await?;
        if permitted.iter().filter(|agent| !agent.is_observer()).count() == 1 {
            permitted.retain(|agent| !agent.is_observer());
        }
        match (permitted.pop(), permitted.is_empty()) {
            (Some(agent), true) => Ok(agent),
            (Some(_), false) => {
                let message = format!("several Agents have an agent with the id {id:?}; use the uid of the Agent");
                Err(ApiError::new(ErrorCode::Ambiguous, message))
            }
            (None, _) => Err(self.refusal(caller, id, verb, &found).await?),
        }
    }

    /// The error for a caller that may not use `verb` on any of these agents. The error does not reveal an agent that the caller
    /// may not read.
    async fn refusal(
        &self,
        caller: &UserCaller,
        id: &str,
        verb: Verb,
        found: &[Arc<Agent>],
    ) -> Result<ApiError, ApiError> {
        if let Some(visible) = self.permitted(caller, (Verb::Get, ResourceKind::Agent), found).await?.first() {
            let permission = Permission::with(verb, ResourceKind::Agent, &ObjectKey::of(&visible.metadata));
            self.authorizer.require(caller, permission).await?;
        }
        self.authorizer.scope(caller, (verb, ResourceKind::Agent), None, || self.state.store.namespaces()).await?;
        Ok(no_agent(id))
    }

    /// The objects on which the caller may use a verb.
    async fn permitted<K: Resource<DynamicType = ()>>(
        &self,
        caller: &UserCaller,
        (verb, kind): (Verb, ResourceKind),
        objects: &[Arc<K>],
    ) -> Result<Vec<Arc<K>>, ApiError> {
        let mut permitted = Vec::new();
        for object in objects {
            let permission = Permission::with(verb, kind, &ObjectKey::of(object.meta()));
            if self.authorizer.is_allowed(caller, permission).await? {
                permitted.push(Arc::clone(object));
            }
        }
        Ok(permitted)
    }
}

fn no_agent(id: &str) -> ApiError {
    ApiError::not_found(format!("there is no agent with the id {id:?}; GET /api/v1/agents lists them"))
}
