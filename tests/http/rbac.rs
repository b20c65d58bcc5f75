//! The access control of a cluster, in front of the embedded API: users by token, permissions by list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use muster::state::authz::{AccessError, ResourceKind, Verb};
use muster_embedded::EmbeddedApi;
use serde_json::{Value, json};
use tower::{BoxError, Service};

use crate::answers::{AnswerBody, answer, refused};

/// A permission as a Role grants it: user, verb, kind and namespace (`*` is all).
type RbacRule = (&'static str, Verb, ResourceKind, &'static str);

/// Users and permissions. A request without a token is the operator's, who may do everything. Clones share them.
#[derive(Clone)]
pub(crate) struct Rbac {
    api: EmbeddedApi,
    pub(crate) users: Arc<Mutex<BTreeMap<&'static str, &'static str>>>,
    pub(crate) rules: Arc<Mutex<BTreeSet<RbacRule>>>,
    /// The numbers of token reviews and access reviews.
    pub(crate) review_counts: Arc<Mutex<(usize, usize)>>,
    /// The writes, with their users.
    pub(crate) audit: Arc<Mutex<Vec<String>>>,
    /// Why reviews of tokens fail, if they do.
    pub(crate) failure: Arc<Mutex<Option<AccessError>>>,
    /// Whether reviews of tokens are never answered.
    pub(crate) silent: Arc<Mutex<bool>>,
}

/// What a request does in the access control of Kubernetes.
struct Attributes<'a> {
    verb: &'a str,
    resource: &'a str,
    /// Empty for all namespaces.
    namespace: &'a str,
}

impl<'a> Attributes<'a> {
    /// The attributes of a request for objects of a namespace. A user who may create Agents may read events.
    fn of(method: &Method, path: &'a str) -> Self {
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        let ["apis", _, _, "namespaces", namespace, resource, ..] = *parts.as_slice() else { panic!("{path}") };
        let verb = match (method.as_str(), resource) {
            ("GET", "events") => return Self { verb: "create", resource: "agents", namespace },
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            ("DELETE", _) => "delete",
            _ => panic!("{method} {path}"),
        };
        Self { verb, resource, namespace }
    }
}

impl Rbac {
    pub(crate) fn new(api: EmbeddedApi) -> Self {
        let (users, rules, review_counts) = (Arc::default(), Arc::default(), Arc::default());
        let (audit, failure, silent) = (Arc::default(), Arc::default(), Arc::default());
        Self { api, users, rules, review_counts, audit, failure, silent }
    }

    pub(crate) fn client(&self) -> Client {
        let rbac = self.clone();
        Client::new(tower::service_fn(move |request| rbac.clone().answer(request)), "default")
    }

    pub(crate) fn allow(&self, user: &'static str, verbs: &[Verb], kinds: &[ResourceKind], namespace: &'static str) {
        let mut rules = self.rules.lock().unwrap();
        for verb in verbs {
            rules.extend(kinds.iter().map(|kind| (user, *verb, *kind, namespace)));
        }
    }

    fn allows(&self, user: &str, asked: &Attributes<'_>) -> bool {
        let rules = self.rules.lock().unwrap();
        rules.iter().any(|(name, verb, kind, namespace)| {
            (*name, verb.as_str(), kind.resource()) == (user, asked.verb, asked.resource)
                && (*namespace == "*" || *namespace == asked.namespace)
        })
    }

    fn user(&self, token: &str) -> Option<&'static str> {
        self.users.lock().unwrap().get(token).copied()
    }

    async fn review_token(&self, mut review: Value) -> Result<Response<AnswerBody>, BoxError> {
        self.review_counts.lock().unwrap().0 += 1;
        if *self.silent.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        match self.failure.lock().unwrap().clone() {
            Some(AccessError::Refused { code, message }) => return Ok(refused(code, &message)),
            Some(AccessError::Failed(message)) => return Err(message.into()),
            None => {}
        }
        review["status"] = match self.user(review["spec"]["token"].as_str().unwrap()) {
            Some(user) => json!({ "authenticated": true, "user": { "username": user } }),
            None => json!({ "authenticated": false }),
        };
        Ok(answer(201, &review))
    }

    fn review_access(&self, mut review: Value) -> Response<AnswerBody> {
        self.review_counts.lock().unwrap().1 += 1;
        let asked = |field: &str| review["spec"]["resourceAttributes"][field].as_str().unwrap_or_default();
        let (verb, resource, namespace) = (asked("verb"), asked("resource"), asked("namespace"));
        let user = review["spec"]["user"].as_str().unwrap();
        let allowed = self.allows(user, &Attributes { verb, resource, namespace });
        review["status"] = json!({ "allowed": allowed });
        answer(201, &review)
    }

    /// The refusal of a request with a token, if its user may not make it.
    fn refusal(&self, token: &str, method: &Method, path: &str) -> Option<Response<AnswerBody>> {
        let Some(user) = self.user(token) else { return Some(refused(401, "Unauthorized")) };
        let asked = Attributes::of(method, path);
        if !self.allows(user, &asked) {
            return Some(refused(403, &format!("User {user:?} cannot {} resource {:?}", asked.verb, asked.resource)));
        }
        if method != Method::GET {
            self.audit.lock().unwrap().push(format!("{user} {} {}", asked.verb, asked.resource));
        }
        None
    }

    async fn answer(mut self, request: Request<Body>) -> Result<Response<AnswerBody>, BoxError> {
        let path = request.uri().path();
        if path.ends_with("/tokenreviews") {
            return self.review_token(body(request).await?).await;
        }
        if path.ends_with("/subjectaccessreviews") {
            return Ok(self.review_access(body(request).await?));
        }
        if let Some(bearer) = request.headers().get(header::AUTHORIZATION) {
            let token = bearer.to_str()?.strip_prefix("Bearer ").unwrap_or_default();
            if let Some(refusal) = self.refusal(token, request.method(), path) {
                return Ok(refusal);
            }
        }
        Ok(self.api.call(request).await?)
    }
}

async fn body(request: Request<Body>) -> Result<Value, BoxError> {
    Ok(serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?)
}
