//! The Kubernetes access of the HTTP API for people: authentication, authorization, and writes with a person's token.

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

use super::authz::{AccessError, Permission, RecordedEvent, ResourceKind, User};
use crate::api::object_key::ObjectKey;
use crate::api::{Agent, AgentGateway, Board, keys};

/// The maximum number of open requests for people at the API server.
const MAX_REQUESTS: usize = 16;
/// The maximum number of open reviews of new tokens at the API server.
const MAX_NEW_TOKENS: usize = 4;
/// The maximum number of waiting and open reviews of new tokens. A further review is refused at once.
const MAX_WAITING: usize = 64;
/// How long a request may take, including the wait for a permit.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The maximum number of events that are read for one object.
const MAX_EVENTS: u32 = 500;

/// The Kubernetes access of the HTTP API for people.
///
/// # Guarantees
/// A method with a token uses only this token for its request. Kubernetes therefore decides whether the request is allowed, and its audit log
/// names the person.
///
/// The operator's account is used only for reviews. Requests for people carry no credential of the operator. A token is not
/// kept longer than its request.
#[derive(Clone)]
pub struct KubeAccess {
    operator: Client,
    anonymous: Client,
    requests: Arc<Semaphore>,
    new_tokens: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl std::fmt::Debug for KubeAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeAccess").finish_non_exhaustive()
    }
}

impl KubeAccess {
    /// The API server of `config`. Reviews use the client `operator`; each other request uses the token of a person.
    ///
    /// # Errors
    /// When no client can be created from `config`.
    pub fn new(operator: Client, mut config: Config) -> Result<Self, kube::Error> {
        config.auth_info = kube::config::AuthInfo::default();
        config.headers.clear();
        config.default_retry = false;
        Ok(Self::with(operator, Client::try_from(config)?))
    }

    /// The same with two clients of an API server, of which the second has no credential.
    #[must_use]
    pub fn with(operator: Client, anonymous: Client) -> Self {
        let permits = |n| Arc::new(Semaphore::new(n));
        Self {
            operator,
            anonymous,
            requests: permits(MAX_REQUESTS),
            new_tokens: permits(MAX_NEW_TOKENS),
            waiting: permits(MAX_WAITING),
        }
    }

    /// A client with this token and no other credential.
    fn client_of(&self, token: &SecretString) -> Result<Client, AccessError> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).map_err(|_| {
            AccessError::Refused { code: 401, message: "the token has characters that a token cannot have".into() }
        })?;
        bearer.set_sensitive(true);
        let anonymous = self.anonymous.clone();
        let service = tower::service_fn(move |mut request: http::Request<Body>| {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
            let anonymous = anonymous.clone();
            async move { anonymous.send(request).await }
        });
        Ok(Client::new(service, self.anonymous.default_namespace()))
    }

    /// Waits for a permit, then for the answer.
    async fn send<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, AccessError> {
        with_permit(&self.requests, request).await
    }

    /// Sends a review of a new token. Too many waiting reviews are refused.
    async fn send_for_new_token<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, AccessError> {
        let permit = self.waiting.try_acquire();
        let _permit = permit.map_err(|_| AccessError::Failed(format!("{MAX_WAITING} new tokens already wait")))?;
        with_permit(&self.new_tokens, request).await
    }
}

async fn with_permit<T>(
    permits: &Semaphore,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, AccessError> {
    let answer = async {
        // The semaphore is never closed.
        let _permit = permits.acquire().await.map_err(|e| AccessError::Failed(e.to_string()))?;
        request.await.map_err(access_error)
    };
    let timeout = |_| AccessError::Failed(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()));
    tokio::time::timeout(REQUEST_TIMEOUT, answer).await.map_err(timeout)?
}

fn access_error(error: kube::Error) -> AccessError {
    match error {
        kube::Error::Api(status) => AccessError::Refused { code: status.code, message: status.message },
        other => AccessError::Failed(other.to_string()),
    }
}

/// The resource of a kind for the dynamic client.
fn resource(kind: ResourceKind) -> ApiResource {
    match kind {
        ResourceKind::Agent => ApiResource::erase::<Agent>(&()),
        ResourceKind::Board => ApiResource::erase::<Board>(&()),
        ResourceKind::Gateway => ApiResource::erase::<AgentGateway>(&()),
    }
}

fn recorded_event(event: Event) -> RecordedEvent {
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

impl KubeAccess {
    /// The owner of a token; `None` if Kubernetes does not know the token. `seen_before`: Kubernetes knew the token earlier, and
    /// the request does not wait behind requests for new tokens.
    pub async fn identify(&self, token: &SecretString, seen_before: bool) -> Result<Option<User>, AccessError> {
        let spec = TokenReviewSpec { token: token.expose_secret().to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.operator.clone());
        let params = PostParams::default();
        let request = api.create(&params, &review);
        let review = if seen_before { self.send(request).await? } else { self.send_for_new_token(request).await? };
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

    /// Whether a user has a permission.
    pub async fn allowed(&self, user: &User, permission: &Permission) -> Result<bool, AccessError> {
        let attributes = ResourceAttributes {
            group: Some(keys::GROUP.into()),
            resource: Some(permission.kind.resource().into()),
            verb: Some(permission.verb.as_str().into()),
            namespace: permission.namespace.clone(),
            name: permission.name.clone(),
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
        let api: Api<SubjectAccessReview> = Api::all(self.operator.clone());
        let answer = self.send(api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// Creates an Agent.
    pub async fn create_agent(&self, token: &SecretString, agent: &Agent) -> Result<Agent, AccessError> {
        let api: Api<Agent> = Api::namespaced(self.client_of(token)?, &ObjectKey::of(&agent.metadata).namespace);
        let params = PostParams { field_manager: Some(keys::PEOPLE_FIELD_MANAGER.into()), ..PostParams::default() };
        self.send(api.create(&params, agent)).await
    }

    /// Applies a JSON merge patch to an object and returns the patched object.
    pub async fn patch(
        &self,
        token: &SecretString,
        (kind, key): (ResourceKind, &ObjectKey),
        patch: &Value,
    ) -> Result<Value, AccessError> {
        let resource = resource(kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client_of(token)?, &key.namespace, &resource);
        let params = PatchParams { field_manager: Some(keys::PEOPLE_FIELD_MANAGER.into()), ..PatchParams::default() };
        let object = self.send(api.patch(&key.name, &params, &Patch::Merge(patch))).await?;
        serde_json::to_value(object).map_err(|e| AccessError::Failed(e.to_string()))
    }

    /// Deletes the Agent `key` if it has the uid `uid`.
    pub async fn delete_agent(&self, token: &SecretString, key: &ObjectKey, uid: &str) -> Result<(), AccessError> {
        let api: Api<Agent> = Api::namespaced(self.client_of(token)?, &key.namespace);
        let only = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        let params = DeleteParams::background().preconditions(only);
        self.send(api.delete(&key.name, &params)).await.map(|_| ())
    }

    /// The events in a namespace about the object with the uid `uid`, newest first.
    pub async fn events(
        &self,
        token: &SecretString,
        namespace: &str,
        uid: &str,
    ) -> Result<Vec<RecordedEvent>, AccessError> {
        let api: Api<Event> = Api::namespaced(self.client_of(token)?, namespace);
        let params = ListParams::default().fields(&format!("regarding.uid={uid}")).limit(MAX_EVENTS);
        let mut events: Vec<_> = self.send(api.list(&params)).await?.items.into_iter().map(recorded_event).collect();
        events.sort_by_key(|event| std::cmp::Reverse(event.last_seen));
        Ok(events)
    }
}
