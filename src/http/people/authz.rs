//! Authentication and authorization of people: reviews by Kubernetes, cached for 10 s.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use futures::{StreamExt, TryStreamExt};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

use crate::http::error::{ApiError, ErrorCode};
use crate::state::authz::{AccessError, Permission, ResourceKind, User, Verb};
use crate::state::kube_authz::KubeAccess;

/// How long a review is cached, and the minimum time between two log lines about failed reviews.
const CACHE_TTL: Duration = Duration::from_secs(10);
/// The maximum number of cached reviews of one type.
const CACHE_CAPACITY: usize = 8192;
/// The maximum number of concurrent reviews for the namespaces of one request.
const CONCURRENT_REVIEWS: usize = 8;
/// The maximum number of concurrent reviews for the namespaces of all requests: half of the open requests at the API server, so that
/// persons without rights in many namespaces do not hold up the others.
const NAMESPACE_REVIEWS: usize = 8;

/// The person that sent a request.
#[derive(Clone, Debug)]
pub struct UserCaller {
    /// The person's token. Every request to Kubernetes for the person uses it.
    pub token: SecretString,
    /// SHA-256 of the token.
    fingerprint: String,
    user: Arc<User>,
}

impl UserCaller {
    /// The user's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.user.name
    }
}

/// The namespaces in which a person has a permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces.
    All,
    /// These namespaces.
    Only(BTreeSet<String>),
}

impl Scope {
    /// Whether the scope contains a namespace.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// A bounded cache of reviews, which expire after [`CACHE_TTL`].
#[derive(Debug)]
struct ReviewCache<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: Hash + Eq, V: Clone> ReviewCache<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        let reviews = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reviews.get(key).filter(|(at, _)| at.elapsed() < CACHE_TTL).map(|(_, value)| value.clone())
    }

    /// A review, expired or not.
    fn latest(&self, key: &K) -> Option<V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(|(_, value)| value.clone())
    }

    fn remove(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn insert(&self, key: K, value: V) {
        let mut reviews = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reviews.len() >= CACHE_CAPACITY {
            reviews.retain(|_, (at, _)| at.elapsed() < CACHE_TTL);
            // Without this, each of many new reviews would scan a full cache.
            if reviews.len() >= CACHE_CAPACITY / 2 {
                reviews.clear();
            }
        }
        reviews.insert(key, (Instant::now(), value));
    }
}

/// Authenticates and authorizes people by reviews of Kubernetes.
///
/// # Guarantees
/// A used review is at most 10 s old. The cache contains the SHA-256 of a token and not the token itself. A failed review is
/// not cached. Unknown tokens do not displace known tokens.
#[derive(Debug)]
pub struct Authorizer {
    /// The access to Kubernetes.
    pub access: KubeAccess,
    users: ReviewCache<String, Arc<User>>,
    unknown_tokens: ReviewCache<String, ()>,
    permissions: ReviewCache<(String, Permission), bool>,
    namespace_reviews: Semaphore,
    warned_at: Mutex<Option<Instant>>,
}

impl Authorizer {
    /// An authorizer with empty caches.
    #[must_use]
    pub fn new(access: KubeAccess) -> Self {
        Self {
            access,
            users: ReviewCache::new(),
            unknown_tokens: ReviewCache::new(),
            permissions: ReviewCache::new(),
            namespace_reviews: Semaphore::new(NAMESPACE_REVIEWS),
            warned_at: Mutex::default(),
        }
    }

    /// The owner of a request's bearer token.
    ///
    /// # Errors
    /// 401 when the token is missing or unknown, 503 when Kubernetes does not answer.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<UserCaller, ApiError> {
        let unauthorized = |message: &str| ApiError::new(ErrorCode::Unauthorized, message);
        let token = bearer(headers).ok_or_else(|| {
            unauthorized(
                "send a token as Authorization: Bearer: in a cluster that of kubectl create token, without a cluster (muster run --embedded DIR) \
                 the content of the file DIR/token",
            )
        })?;
        let fingerprint = crate::hash::sha256_hex(token.expose_secret());
        let user = self.user(&token, &fingerprint).await?.ok_or_else(|| {
            unauthorized(
                "Kubernetes does not know this token; it may have expired; create a new token (kubectl create token) and retry. Without a \
                 cluster (muster run --embedded DIR) the token is the content of the file DIR/token",
            )
        })?;
        Ok(UserCaller { token, fingerprint, user })
    }

    /// Whether Kubernetes still accepts the caller's token.
    ///
    /// # Errors
    /// 503 when Kubernetes does not answer.
    pub async fn is_valid(&self, caller: &UserCaller) -> Result<bool, ApiError> {
        Ok(self.user(&caller.token, &caller.fingerprint).await?.is_some())
    }

    /// The user of an earlier request with the same token. The token may have expired since.
    pub(crate) fn known_user(&self, headers: &HeaderMap) -> Option<Arc<User>> {
        self.users.latest(&crate::hash::sha256_hex(bearer(headers)?.expose_secret()))
    }

    async fn user(&self, token: &SecretString, fingerprint: &str) -> Result<Option<Arc<User>>, ApiError> {
        let fingerprint = fingerprint.to_owned();
        if let Some(known) = self.users.get(&fingerprint) {
            return Ok(Some(known));
        }
        if self.unknown_tokens.get(&fingerprint).is_some() {
            return Ok(None);
        }
        let seen_before = self.users.latest(&fingerprint).is_some();
        let user = self.access.identify(token, seen_before).await.map_err(|e| self.review_failed(&e))?.map(Arc::new);
        if let Some(user) = &user {
            self.users.insert(fingerprint, Arc::clone(user));
        } else {
            self.users.remove(&fingerprint);
            self.unknown_tokens.insert(fingerprint, ());
        }
        Ok(user)
    }

    /// Whether the caller has a permission.
    ///
    /// # Errors
    /// 503 when Kubernetes does not answer.
    pub async fn is_allowed(&self, caller: &UserCaller, permission: Permission) -> Result<bool, ApiError> {
        if !permission.names_are_possible() {
            return Ok(false);
        }
        let key = (caller.fingerprint.clone(), permission);
        if let Some(cached) = self.permissions.get(&key) {
            return Ok(cached);
        }
        let allowed = self.access.allowed(&caller.user, &key.1).await.map_err(|e| self.review_failed(&e))?;
        self.permissions.insert(key, allowed);
        Ok(allowed)
    }

    /// Checks that the caller has a permission.
    ///
    /// # Errors
    /// 403 with the verb, the resource and the namespace; 503 when Kubernetes does not answer.
    pub async fn require(&self, caller: &UserCaller, permission: Permission) -> Result<(), ApiError> {
        if self.is_allowed(caller, permission.clone()).await? { Ok(()) } else { Err(forbidden(caller, &permission)) }
    }

    /// The namespaces in which the caller may use a verb on all objects of a kind: the requested namespace, all namespaces, or
    /// the allowed namespaces of `candidates`.
    ///
    /// # Errors
    /// 403 when no namespace is allowed; 503 when Kubernetes does not answer.
    pub async fn scope(
        &self,
        caller: &UserCaller,
        (verb, kind): (Verb, ResourceKind),
        namespace: Option<&str>,
        candidates: impl FnOnce() -> BTreeSet<String>,
    ) -> Result<Scope, ApiError> {
        if let Some(namespace) = namespace {
            self.require(caller, Permission::within(verb, kind, namespace)).await?;
            return Ok(Scope::Only([namespace.to_owned()].into()));
        }
        if self.is_allowed(caller, Permission::everywhere(verb, kind)).await? {
            return Ok(Scope::All);
        }
        let reviews = futures::stream::iter(candidates()).map(|namespace| async move {
            // The semaphore is never closed.
            let _permit = self.namespace_reviews.acquire().await.ok();
            let allowed = self.is_allowed(caller, Permission::within(verb, kind, &namespace)).await?;
            Ok::<_, ApiError>(allowed.then_some(namespace))
        });
        let allowed: Vec<_> = reviews.buffer_unordered(CONCURRENT_REVIEWS).try_collect().await?;
        let allowed: BTreeSet<_> = allowed.into_iter().flatten().collect();
        if allowed.is_empty() {
            Err(forbidden(caller, &Permission::everywhere(verb, kind)))
        } else {
            Ok(Scope::Only(allowed))
        }
    }

    /// The error of a failed review. The failure is logged at most every 10 s.
    fn review_failed(&self, error: &AccessError) -> ApiError {
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        if warned_at.is_none_or(|at| at.elapsed() >= CACHE_TTL) {
            *warned_at = Some(Instant::now());
            warn!(%error, "failed to review a token or a permission; logged at most every 10 s");
        }
        if matches!(error, AccessError::Refused { code: 403, .. }) {
            let message = "Muster's ServiceAccount may not create tokenreviews and subjectaccessreviews, so that this API and the page \
                           serve nobody; an admin can grant both rights (deploy/components/people)";
            return ApiError::new(ErrorCode::ReviewsNotPermitted, message);
        }
        let message = "Kubernetes did not review your token or your permission; retry in a few seconds";
        ApiError::new(ErrorCode::KubernetesUnavailable, message)
    }
}

fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| SecretString::from(token))
}

/// The smallest shipped `ClusterRole` with a permission (`deploy/base/rbac.yaml`).
fn role(kind: ResourceKind, verb: Verb) -> &'static str {
    match (verb, kind) {
        (Verb::Get | Verb::List, _) => "muster-view",
        (Verb::Create | Verb::Patch | Verb::Delete, ResourceKind::Agent | ResourceKind::Board) => "muster-edit",
        (Verb::Create | Verb::Patch | Verb::Delete, ResourceKind::Gateway) => "muster-admin",
    }
}

/// 403 for a missing permission.
fn forbidden(caller: &UserCaller, permission: &Permission) -> ApiError {
    let place = match &permission.namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "in any namespace that has some of Muster's resources".to_owned(),
    };
    let (user, verb, resource) = (&caller.user.name, permission.verb.as_str(), permission.kind.resource());
    let message = format!(
        "{user} may not {verb} {resource}.muster.dev {place}; bind a Role with this permission to the user, such as {}",
        role(permission.kind, permission.verb)
    );
    ApiError::new(ErrorCode::Forbidden, message)
}

/// The answer to a request that failed in Kubernetes.
impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Refused { code, message } => {
                let code = match code {
                    400 | 422 => ErrorCode::Invalid,
                    401 => ErrorCode::Unauthorized,
                    403 => ErrorCode::Forbidden,
                    404 => ErrorCode::NotFound,
                    409 => ErrorCode::Conflict,
                    413 => ErrorCode::TooLarge,
                    _ => ErrorCode::KubernetesUnavailable,
                };
                Self::new(code, message)
            }
            AccessError::Failed(error) => {
                warn!(error, "a person's request to Kubernetes failed");
                let message = "Kubernetes did not answer in time; check whether the request was done before you retry";
                Self::new(ErrorCode::KubernetesUnavailable, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_names_the_smallest_role_that_has_it() {
        assert_eq!(role(ResourceKind::Gateway, Verb::Get), "muster-view");
        assert_eq!(role(ResourceKind::Agent, Verb::Create), "muster-edit");
        assert_eq!(role(ResourceKind::Gateway, Verb::Patch), "muster-admin");
    }

    #[test]
    fn only_a_bearer_token_is_read() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(|token| token.expose_secret().to_owned())
        };
        assert_eq!(of("Bearer  t "), Some("t".into()));
        assert_eq!(of("bearer t"), Some("t".into()));
        assert_eq!((of("Basic t"), of("Bearer "), of("t")), (None, None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn reviews_expire_and_their_number_is_bounded() {
        let reviews = ReviewCache::new();
        reviews.insert(0, true);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(reviews.get(&0), Some(true));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(reviews.get(&0), None);
        for n in 0..100_000 {
            reviews.insert(n, true);
        }
        assert!(reviews.0.lock().unwrap().len() <= CACHE_CAPACITY);
    }
}
