//! Who somebody is and what they may do, asked of a real API server, and writes with their own token.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::client::Body;
use kube::core::ApiResource;
use kube::{Client, Config};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::authz::{Access, AccessError, Permission, RecordedEvent, ResourceKind, User};
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board, keys};

/// Most requests for people that the API server has open at one time.
const MOST_REQUESTS: usize = 16;
/// The same for the tokens of people who were not seen before.
const MOST_NEWCOMERS: usize = 4;
/// Most of those that wait for their turn; further ones are refused at once.
const MOST_WAITING: usize = 64;
/// How long a request may wait for its turn and for its answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// Most events that are read of one object.
const MOST_EVENTS: u32 = 500;

/// A real API server.
///
/// # Guarantees
/// The operator's own account is used for reviews alone. Connections for people carry no credential of the operator,
/// and no token is kept beyond the request that brought it.
#[derive(Clone)]
pub struct KubeAccess {
    own: Client,
    bare: Client,
    requests: Arc<Semaphore>,
    newcomers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl std::fmt::Debug for KubeAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeAccess").finish_non_exhaustive()
    }
}

impl KubeAccess {
    /// The API server of `config`: reviews through `own`, everything else with the token that it is for.
    ///
    /// # Errors
    /// When no client can be made of `config`.
    pub fn new(own: Client, mut config: Config) -> Result<Self, kube::Error> {
        config.auth_info = kube::config::AuthInfo::default();
        config.headers.clear();
        config.default_retry = false;
        let bare = Client::try_from(config)?;
        let of = |n| Arc::new(Semaphore::new(n));
        Ok(Self { own, bare, requests: of(MOST_REQUESTS), newcomers: of(MOST_NEWCOMERS), waiting: of(MOST_WAITING) })
    }

    /// A client that is nobody but the owner of this token.
    fn as_owner(&self, token: &SecretString) -> Result<Client, AccessError> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).map_err(|_| {
            AccessError::Refused { code: 401, message: "the token has characters that no token has".into() }
        })?;
        bearer.set_sensitive(true);
        let bare = self.bare.clone();
        let service = tower::service_fn(move |mut request: http::Request<Body>| {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
            let bare = bare.clone();
            async move { bare.send(request).await }
        });
        Ok(Client::new(service, self.bare.default_namespace()))
    }

    /// Waits for its turn, then for the answer. No more requests wait than there are connections.
    async fn ask<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, AccessError> {
        in_turn(&self.requests, request).await
    }

    /// The same for somebody who was not seen before.
    async fn ask_for_newcomer<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, AccessError> {
        let place = self.waiting.try_acquire();
        let _place = place.map_err(|_| AccessError::Failed(format!("{MOST_WAITING} new tokens wait already")))?;
        in_turn(&self.newcomers, request).await
    }
}

async fn in_turn<T>(
    turns: &Semaphore,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, AccessError> {
    let answer = async {
        // The semaphore is never closed.
        let _turn = turns.acquire().await.map_err(|e| AccessError::Failed(e.to_string()))?;
        request.await.map_err(access_error)
    };
    let late = |_| AccessError::Failed(format!("no answer within {} s", DEADLINE.as_secs()));
    tokio::time::timeout(DEADLINE, answer).await.map_err(late)?
}

fn access_error(error: kube::Error) -> AccessError {
    match error {
        kube::Error::Api(status) => AccessError::Refused { code: status.code, message: status.message },
        other => AccessError::Failed(other.to_string()),
    }
}

/// The kind as the dynamic client wants it.
fn resource(kind: ResourceKind) -> ApiResource {
    match kind {
        ResourceKind::Agent => ApiResource::erase::<Agent>(&()),
        ResourceKind::Board => ApiResource::erase::<Board>(&()),
        ResourceKind::Gateway => ApiResource::erase::<AgentGateway>(&()),
    }
}

fn told(event: Event) -> RecordedEvent {
    let series = event.series.as_ref();
    let micro = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime| time.0;
    let last = series.map(|s| micro(&s.last_observed_time));
    let last = last.or(event.deprecated_last_timestamp.map(|t| t.0)).or(event.event_time.as_ref().map(micro));
    RecordedEvent {
        kind: event.type_.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        message: event.note.unwrap_or_default(),
        count: series.map(|s| s.count).or(event.deprecated_count).unwrap_or(1).max(1),
        last_seen: last.or(event.metadata.creation_timestamp.map(|t| t.0)),
    }
}

impl Access for KubeAccess {
    async fn identify(&self, token: &SecretString, familiar: bool) -> Result<Option<User>, AccessError> {
        let spec = TokenReviewSpec { token: token.expose_secret().to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.own.clone());
        let params = PostParams::default();
        let asked = api.create(&params, &review);
        let review = if familiar { self.ask(asked).await? } else { self.ask_for_newcomer(asked).await? };
        let status = review.status.unwrap_or_default();
        let authenticated = status.authenticated.unwrap_or_default();
        let Some(user) = status.user.filter(|_| authenticated) else { return Ok(None) };
        Ok(Some(User {
            name: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        }))
    }

    async fn allowed(&self, user: &User, right: &Permission) -> Result<bool, AccessError> {
        let attributes = ResourceAttributes {
            group: Some(keys::GROUP.into()),
            resource: Some(right.kind.resource().into()),
            verb: Some(right.verb.as_str().into()),
            namespace: right.namespace.clone(),
            name: right.name.clone(),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.own.clone());
        let answer = self.ask(api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn create_agent(&self, token: &SecretString, agent: &Agent) -> Result<Agent, AccessError> {
        let api: Api<Agent> = Api::namespaced(self.as_owner(token)?, &ObjectKey::of(&agent.metadata).namespace);
        let params = PostParams { field_manager: Some(keys::PEOPLE_FIELD_MANAGER.into()), ..PostParams::default() };
        self.ask(api.create(&params, agent)).await
    }

    async fn patch(
        &self,
        token: &SecretString,
        (kind, key): (ResourceKind, &ObjectKey),
        patch: &Value,
    ) -> Result<Value, AccessError> {
        let resource = resource(kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.as_owner(token)?, &key.namespace, &resource);
        let params = PatchParams { field_manager: Some(keys::PEOPLE_FIELD_MANAGER.into()), ..PatchParams::default() };
        let object = self.ask(api.patch(&key.name, &params, &Patch::Merge(patch))).await?;
        serde_json::to_value(object).map_err(|e| AccessError::Failed(e.to_string()))
    }

    async fn delete_agent(&self, token: &SecretString, key: &ObjectKey, uid: &str) -> Result<(), AccessError> {
        let api: Api<Agent> = Api::namespaced(self.as_owner(token)?, &key.namespace);
        let only = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        let params = DeleteParams::background().preconditions(only);
        self.ask(api.delete(&key.name, &params)).await.map(|_| ())
    }

    async fn events(
        &self,
        token: &SecretString,
        namespace: &str,
        uid: &str,
    ) -> Result<Vec<RecordedEvent>, AccessError> {
        let api: Api<Event> = Api::namespaced(self.as_owner(token)?, namespace);
        let params = ListParams::default().fields(&format!("regarding.uid={uid}")).limit(MOST_EVENTS);
        let mut events: Vec<_> = self.ask(api.list(&params)).await?.items.into_iter().map(told).collect();
        events.sort_by_key(|event| std::cmp::Reverse(event.last_seen));
        Ok(events)
    }
}
