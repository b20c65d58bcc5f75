//! From what people call an object to the object.

use std::sync::Arc;

use axum::http::StatusCode;
use kube::Resource;

use super::authz::UserCaller;
use super::query::bad;
use super::state::PeopleApi;
use crate::api::Agent;
use crate::api::object_key::ObjectKey;
use crate::http::dto::has_id;
use crate::http::error::ApiError;
use crate::state::authz::{Access, Permission, ResourceKind, Verb};
use crate::state::store::Store;

/// Whether an object is the one that is called so: its uid, `namespace/name`, or its name.
pub(crate) fn is_called<K: Resource<DynamicType = ()>>(object: &K, word: &str) -> bool {
    let meta = object.meta();
    let name = meta.name.as_deref();
    let full = || word.split_once('/').is_some_and(|(ns, n)| meta.namespace.as_deref() == Some(ns) && name == Some(n));
    meta.uid.as_deref() == Some(word) || name == Some(word) || full()
}

/// 404 with a sentence.
pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

impl<S: Store, A: Access> PeopleApi<S, A> {
    /// The one object that is called `word` and that the caller may read. `what` is how an error calls it.
    ///
    /// # Errors
    /// 404 when there is none that the caller may read, 403 when they may read none at all, 400 when there are several.
    pub(crate) async fn one<K: Resource<DynamicType = ()>>(
        &self,
        caller: &UserCaller,
        kind: ResourceKind,
        (what, word): (&str, &str),
        all: Vec<Arc<K>>,
    ) -> Result<Arc<K>, ApiError> {
        let found: Vec<_> = all.into_iter().filter(|object| is_called(object.as_ref(), word)).collect();
        let mut seen = self.with_right(caller, (Verb::Get, kind), &found).await?;
        match (seen.pop(), seen.is_empty()) {
            (Some(one), true) => Ok(one),
            (Some(_), false) => Err(bad(format!(
                "{what}: several {} are called {word:?}; give the id, or namespace/name",
                kind.resource()
            ))),
            // What somebody may not see, they are not told of either.
            (None, _) => {
                self.gate.scope(caller, (Verb::Get, kind), None, || self.state.store.namespaces()).await?;
                Err(not_found(format!("{what}: there is no {word:?} among the {} that you may read", kind.resource())))
            }
        }
    }

    /// The Agent of this id, its uid or the gateway's id of it, if the caller may do this with it.
    ///
    /// # Errors
    /// 404 when there is none that the caller may read, 403 when they may not do this with it or read none at all, 409
    /// when several have this id on different gateways.
    pub(crate) async fn agent(&self, caller: &UserCaller, id: &str, verb: Verb) -> Result<Arc<Agent>, ApiError> {
        let mut found = self.state.store.agents();
        found.retain(|agent| has_id(agent, id));
        let mut seen = self.with_right(caller, (verb, ResourceKind::Agent), &found).await?;
        match (seen.pop(), seen.is_empty()) {
            (Some(one), true) => Ok(one),
            (Some(_), false) => {
                let message = format!("agents on several gateways have the id {id:?}; use the uid of the Agent");
                Err(ApiError::new(StatusCode::CONFLICT, "ambiguous", message))
            }
            (None, _) => Err(self.refusal(caller, id, verb, &found).await?),
        }
    }

    /// What somebody is told who may not do this with any of these agents. What they may not see, they are not told of.
    async fn refusal(
        &self,
        caller: &UserCaller,
        id: &str,
        verb: Verb,
        found: &[Arc<Agent>],
    ) -> Result<ApiError, ApiError> {
        if let Some(visible) = self.with_right(caller, (Verb::Get, ResourceKind::Agent), found).await?.first() {
            self.gate
                .require(caller, Permission::with(verb, ResourceKind::Agent, &ObjectKey::of(&visible.metadata)))
                .await?;
        }
        self.gate.scope(caller, (verb, ResourceKind::Agent), None, || self.state.store.namespaces()).await?;
        Ok(no_agent(id))
    }

    async fn with_right<K: Resource<DynamicType = ()>>(
        &self,
        caller: &UserCaller,
        (verb, kind): (Verb, ResourceKind),
        objects: &[Arc<K>],
    ) -> Result<Vec<Arc<K>>, ApiError> {
        let mut seen = Vec::new();
        for object in objects {
            let right = Permission::with(verb, kind, &ObjectKey::of(object.meta()));
            if self.gate.may(caller, right).await? {
                seen.push(Arc::clone(object));
            }
        }
        Ok(seen)
    }
}

fn no_agent(id: &str) -> ApiError {
    not_found(format!("there is no agent with the id {id:?}; GET /api/v1/agents lists them"))
}
