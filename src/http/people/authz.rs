//! Who asks, and what they may do: Kubernetes' own answers, remembered for a short time.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use futures::{StreamExt, TryStreamExt};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use tracing::warn;

use crate::http::error::ApiError;
use crate::state::authz::{Access, AccessError, Permission, ResourceKind, User, Verb};

/// How long an answer of Kubernetes is remembered.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Most answers of a kind that are remembered.
const MOST_ANSWERS: usize = 8192;
/// Most namespaces that are asked about at one time for one caller.
const AT_ONCE: usize = 8;

/// Who asks.
#[derive(Clone, Debug)]
pub struct UserCaller {
    /// Their token, with which everything is done that is not a read of the cache.
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

/// The namespaces that somebody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Scope {
    /// Whether it has this namespace.
    #[must_use]
    pub fn admits(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// Answers that are forgotten when they are old, or when there are too many.
#[derive(Debug)]
struct Answers<Q, A>(Mutex<HashMap<Q, (Instant, A)>>);

impl<Q: Hash + Eq, A: Clone> Answers<Q, A> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, question: &Q) -> Option<A> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(question).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, answer)| answer.clone())
    }

    /// Whether there was an answer lately, be it old.
    fn had(&self, question: &Q) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(question)
    }

    fn forget(&self, question: &Q) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(question);
    }

    fn put(&self, question: Q, answer: A) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST_ANSWERS {
            answers.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
            // So that not each of many new answers goes through all of them.
            if answers.len() >= MOST_ANSWERS / 2 {
                answers.clear();
            }
        }
        answers.insert(question, (Instant::now(), answer));
    }
}

/// Asks Kubernetes who somebody is and what they may do.
///
/// # Guarantees
/// An answer is at most 10 seconds old. Answers are kept by the SHA-256 of the token; the token itself is not kept.
/// A failure is no answer, and is not kept. Tokens that are nobody's throw no good ones out of memory.
#[derive(Debug)]
pub struct Authorizer<A> {
    /// The Kubernetes side.
    pub access: A,
    users: Answers<String, Arc<User>>,
    nobody: Answers<String, ()>,
    rights: Answers<(String, Permission), bool>,
    complained: Mutex<Option<Instant>>,
}

impl<A: Access> Authorizer<A> {
    /// A gate that remembers nothing yet.
    #[must_use]
    pub fn new(access: A) -> Self {
        let (users, nobody, rights) = (Answers::new(), Answers::new(), Answers::new());
        Self { access, users, nobody, rights, complained: Mutex::default() }
    }

    /// The owner of the bearer token of a request.
    ///
    /// # Errors
    /// 401 when there is no token or it is nobody's, 503 when Kubernetes does not say.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<UserCaller, ApiError> {
        let unauthorized = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
        let token = bearer(headers).ok_or_else(|| {
            unauthorized("send a Kubernetes token as Authorization: Bearer, for example that of: kubectl create token")
        })?;
        let fingerprint = crate::hash::sha256_hex(token.expose_secret());
        let user = self.user(&token, &fingerprint).await?.ok_or_else(|| {
            unauthorized("Kubernetes does not know this token; it may have expired: make a new one and try again")
        })?;
        Ok(UserCaller { token, fingerprint, user })
    }

    /// Whether the caller's token is still somebody's.
    ///
    /// # Errors
    /// 503 when Kubernetes does not say.
    pub async fn is_known(&self, caller: &UserCaller) -> Result<bool, ApiError> {
        Ok(self.user(&caller.token, &caller.fingerprint).await?.is_some())
    }

    /// Whether the bearer token of a request was somebody's lately.
    pub fn is_familiar(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|token| self.users.had(&crate::hash::sha256_hex(token.expose_secret())))
    }

    async fn user(&self, token: &SecretString, fingerprint: &str) -> Result<Option<Arc<User>>, ApiError> {
        let fingerprint = fingerprint.to_owned();
        if let Some(known) = self.users.get(&fingerprint) {
            return Ok(Some(known));
        }
        if self.nobody.get(&fingerprint).is_some() {
            return Ok(None);
        }
        let familiar = self.users.had(&fingerprint);
        let user = self.access.identify(token, familiar).await.map_err(|e| self.no_review(&e))?.map(Arc::new);
        if let Some(user) = &user {
            self.users.put(fingerprint, Arc::clone(user));
        } else {
            self.users.forget(&fingerprint);
            self.nobody.put(fingerprint, ());
        }
        Ok(user)
    }

    /// Whether the caller has a right.
    ///
    /// # Errors
    /// 503 when Kubernetes does not say.
    pub async fn may(&self, caller: &UserCaller, right: Permission) -> Result<bool, ApiError> {
        let question = (caller.fingerprint.clone(), right);
        if let Some(known) = self.rights.get(&question) {
            return Ok(known);
        }
        let allowed = self.access.allowed(&caller.user, &question.1).await.map_err(|e| self.no_review(&e))?;
        self.rights.put(question, allowed);
        Ok(allowed)
    }

    /// Goes on only when the caller has a right.
    ///
    /// # Errors
    /// 403 that names verb, resource and namespace; 503 when Kubernetes does not say.
    pub async fn require(&self, caller: &UserCaller, right: Permission) -> Result<(), ApiError> {
        if self.may(caller, right.clone()).await? { Ok(()) } else { Err(forbidden(caller, &right)) }
    }

    /// The namespaces in which the caller may do something with all objects of a kind: the one that was asked for, or
    /// those of `candidates`.
    ///
    /// # Errors
    /// 403 when there is none; 503 when Kubernetes does not say.
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
        if self.may(caller, Permission::everywhere(verb, kind)).await? {
            return Ok(Scope::All);
        }
        let asked = futures::stream::iter(candidates()).map(|namespace| async move {
            let may = self.may(caller, Permission::within(verb, kind, &namespace)).await?;
            Ok::<_, ApiError>(may.then_some(namespace))
        });
        let found: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        let found: BTreeSet<_> = found.into_iter().flatten().collect();
        if found.is_empty() {
            Err(forbidden(caller, &Permission::everywhere(verb, kind)))
        } else {
            Ok(Scope::Only(found))
        }
    }
}

impl<A> Authorizer<A> {
    fn no_review(&self, error: &AccessError) -> ApiError {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= REMEMBERED) {
            *complained = Some(Instant::now());
            warn!(%error, "Kubernetes did not say who may do what; told at most every 10 s");
        }
        let message = "Kubernetes did not answer who you are and what you may do; try again in some seconds";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "kubernetes_unavailable", message)
    }
}

fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| SecretString::from(token))
}

/// What somebody is told who lacks a right.
fn forbidden(caller: &UserCaller, right: &Permission) -> ApiError {
    let place = match &right.namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "in any namespace that has some of Muster's resources".to_owned(),
    };
    let (user, verb, resource) = (&caller.user.name, right.verb.as_str(), right.kind.resource());
    let message = format!(
        "{user} may not {verb} {resource}.muster.dev {place}; have a Role with this right bound to it, such as muster-view or muster-edit"
    );
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
}

/// What Kubernetes says to a request in the caller's own name, as this API says it.
pub(crate) fn refused(error: AccessError) -> ApiError {
    match error {
        AccessError::Refused { code, message } => {
            let (status, word) = match code {
                400 | 422 => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
                401 => (StatusCode::UNAUTHORIZED, "unauthorized"),
                403 => (StatusCode::FORBIDDEN, "forbidden"),
                404 => (StatusCode::NOT_FOUND, "not_found"),
                409 => (StatusCode::CONFLICT, "conflict"),
                413 => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "kubernetes_unavailable"),
            };
            ApiError::new(status, word, message)
        }
        AccessError::Failed(error) => {
            warn!(error, "Kubernetes did not answer a request of a person");
            let message = "Kubernetes did not answer in time; look whether it was done before you try again";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "kubernetes_unavailable", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_counts() {
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
    async fn answers_are_forgotten_when_they_are_old_or_too_many() {
        let answers = Answers::new();
        answers.put(0, true);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(answers.get(&0), Some(true));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(answers.get(&0), None);
        for n in 0..100_000 {
            answers.put(n, true);
        }
        assert!(answers.0.lock().unwrap().len() <= MOST_ANSWERS);
    }
}
