//! The requests to the API server. Objects are JSON, so that all fields are kept.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures::AsyncReadExt;
use http::Method;
use kube::Client;
use kube::core::Status;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::resources::ResourceType;
use crate::api::keys;

/// The limit of one request, retries of the client included.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Objects in one answer.
const PAGE: &str = "500";

/// Why a request failed.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The API server refused it.
    Refused(Box<Status>),
    /// There was no answer that could be read.
    Unanswered(String),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) if status.message.is_empty() => {
                write!(f, "the API server answered with status {}", status.code)
            }
            Self::Refused(status) => f.write_str(&status.message),
            Self::Unanswered(cause) => {
                write!(f, "the API server did not answer: {cause}; check --kubeconfig and --context")
            }
        }
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Unanswered(chain(&other)),
        }
    }
}

impl RequestError {
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(status) => Some(status.code),
            Self::Unanswered(_) => None,
        }
    }

    /// The kind of the object that the API server did not find, as the path names it.
    pub(super) fn missing_kind(&self) -> Option<&str> {
        match self {
            Self::Refused(status) if status.code == 404 => status.details.as_ref().map(|details| details.kind.as_str()),
            Self::Refused(_) | Self::Unanswered(_) => None,
        }
    }
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// The place of an object, or of the objects of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectPath<'a> {
    /// The kind.
    pub(super) resource: &'static ResourceType,
    /// The namespace; `None`: all.
    pub(super) namespace: Option<&'a str>,
}

impl ObjectPath<'_> {
    /// One object.
    pub(super) async fn get(self, client: &Client, name: &str) -> Result<Value, RequestError> {
        send(client, Method::GET, &self.resource.path(self.namespace, Some(name)), None).await
    }

    /// The objects that the selectors select.
    pub(super) async fn list(self, client: &Client, labels: Option<&str>) -> Result<Vec<Value>, RequestError> {
        let mut objects = list(client, &self.resource.path(self.namespace, None), &[("labelSelector", labels)]).await?;
        for object in &mut objects {
            self.resource.name_kind(object);
        }
        Ok(objects)
    }

    pub(super) async fn create(self, client: &Client, object: &Value, dry_run: bool) -> Result<Value, RequestError> {
        let path = format!("{}?{}", self.resource.path(self.namespace, None), write_query(dry_run));
        send(client, Method::POST, &path, Some(object)).await
    }

    /// Applies a JSON merge patch.
    pub(super) async fn patch(
        self,
        client: &Client,
        name: &str,
        change: &Value,
        dry_run: bool,
    ) -> Result<Value, RequestError> {
        let path = format!("{}?{}", self.resource.path(self.namespace, Some(name)), write_query(dry_run));
        send(client, Method::PATCH, &path, Some(change)).await
    }

    pub(super) async fn delete(self, client: &Client, name: &str) -> Result<(), RequestError> {
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
        send(client, Method::DELETE, &self.resource.path(self.namespace, Some(name)), Some(&options)).await.map(drop)
    }
}

/// What the API server has at a path.
pub(super) async fn read(client: &Client, path: &str) -> Result<Value, RequestError> {
    send(client, Method::GET, path, None).await
}

/// The first `limit` bytes of a text that the API server has at a path, such as a log.
pub(super) async fn read_text(client: &Client, path: &str, limit: usize) -> Result<String, RequestError> {
    let request = request(Method::GET, path, None)?;
    let bytes = answered(async {
        let body = pin!(client.request_stream(request).await?);
        let mut bytes = Vec::new();
        let mut beginning = body.take(u64::try_from(limit).unwrap_or(u64::MAX));
        beginning.read_to_end(&mut bytes).await.map_err(|error| kube::Error::Service(error.into()))?;
        Ok(bytes)
    });
    Ok(String::from_utf8_lossy(&bytes.await?).into_owned())
}

/// The events that a field selector selects, in a namespace or in all.
pub(super) async fn select_events(
    client: &Client,
    namespace: Option<&str>,
    fields: &str,
) -> Result<Vec<Value>, RequestError> {
    let namespace = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    list(client, &format!("/apis/events.k8s.io/v1{namespace}/events"), &[("fieldSelector", Some(fields))]).await
}

/// The events about an object.
pub(super) async fn events(client: &Client, namespace: &str, uid: &str) -> Result<Vec<Value>, RequestError> {
    select_events(client, Some(namespace), &format!("regarding.uid={uid}")).await
}

fn write_query(dry_run: bool) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("fieldManager", keys::COMMAND_FIELD_MANAGER).append_pair("fieldValidation", "Strict");
    if dry_run {
        query.append_pair("dryRun", "All");
    }
    query.finish()
}

async fn list(client: &Client, path: &str, selectors: &[(&str, Option<&str>)]) -> Result<Vec<Value>, RequestError> {
    let mut objects = Vec::new();
    let mut place = String::new();
    loop {
        let mut query = Serializer::new(String::new());
        query.append_pair("limit", PAGE);
        let given = selectors.iter().filter_map(|(name, value)| Some((name, (*value)?)));
        query.extend_pairs(given);
        if !place.is_empty() {
            query.append_pair("continue", &place);
        }
        let mut page = send(client, Method::GET, &format!("{path}?{}", query.finish()), None).await?;
        if let Value::Array(items) = page["items"].take() {
            objects.extend(items);
        }
        match page["metadata"]["continue"].as_str() {
            None | Some("") => return Ok(objects),
            Some(next) => next.clone_into(&mut place),
        }
    }
}

async fn send(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Value, RequestError> {
    answered(client.request(request(method, path, body)?)).await
}

fn request(method: Method, path: &str, body: Option<&Value>) -> Result<http::Request<Vec<u8>>, RequestError> {
    let content_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = http::Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content_type);
    request.body(body).map_err(|error| RequestError::Unanswered(error.to_string()))
}

/// The answer to a request, within the limit.
async fn answered<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, RequestError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RequestError::Unanswered(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
    }
}
