//! Reads the objects of an installation from the API server.

use std::time::Duration;

use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Resource};
use serde_json::Value;

use super::manifest::{ExportedKind, NeededSecret};
use crate::api::{Agent, AgentGateway, Board};
use k8s_openapi::api::core::v1::{Namespace, Secret};

/// The limit of one request, retries of the client included.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Objects in one answer.
const PAGE: u32 = 500;

/// The objects of a kind, as JSON: all fields are kept. Without a namespace, the objects of all namespaces.
///
/// # Errors
/// The API server's refusal.
pub(super) async fn objects(
    client: &Client,
    kind: ExportedKind,
    namespace: Option<&str>,
) -> Result<Vec<Value>, String> {
    let path = match kind {
        ExportedKind::AgentGateway => AgentGateway::url_path(&(), namespace),
        ExportedKind::Board => Board::url_path(&(), namespace),
        ExportedKind::Agent => Agent::url_path(&(), namespace),
    };
    let mut objects = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let request = Request::new(&path).list(&page).map_err(|e| e.to_string())?;
        let mut list: Value = send(client.request(request)).await.map_err(|e| explain(&e))?;
        if let Value::Array(items) = list["items"].take() {
            objects.extend(items);
        }
        match list["metadata"]["continue"].as_str() {
            None | Some("") => return Ok(objects),
            Some(token) => page = page.continue_token(token),
        }
    }
}

/// A Secret as JSON; `None` if it does not exist.
///
/// # Errors
/// The API server's refusal.
pub(super) async fn secret(client: &Client, needed: &NeededSecret) -> Result<Option<Value>, String> {
    let path = Secret::url_path(&(), Some(&needed.namespace));
    let request = Request::new(&path).get(&needed.name, &kube::api::GetParams::default());
    match send(client.request(request.map_err(|e| e.to_string())?)).await {
        Ok(secret) => Ok(Some(secret)),
        Err(ReadError::Kube(kube::Error::Api(status))) if status.is_not_found() => Ok(None),
        Err(error) => Err(explain(&error)),
    }
}

/// Whether a namespace exists; `None` if the API server does not say.
pub(super) async fn namespace_exists(client: &Client, name: &str) -> Option<bool> {
    let request = Request::new(Namespace::url_path(&(), None)).get(name, &kube::api::GetParams::default());
    match send(client.request(request.ok()?)).await {
        Ok(_) => Some(true),
        Err(ReadError::Kube(kube::Error::Api(status))) if status.is_not_found() => Some(false),
        Err(_) => None,
    }
}

/// Why the API server did not answer a request.
enum ReadError {
    Kube(kube::Error),
    Late,
}

async fn send(request: impl Future<Output = Result<Value, kube::Error>>) -> Result<Value, ReadError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(ReadError::Kube),
        Err(_) => Err(ReadError::Late),
    }
}

fn explain(error: &ReadError) -> String {
    match error {
        ReadError::Kube(kube::Error::Api(status)) if !status.message.is_empty() => status.message.clone(),
        ReadError::Kube(error) => error.to_string(),
        ReadError::Late => format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()),
    }
}
