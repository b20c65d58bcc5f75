//! The answers: objects, lists, and refusals.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::objects::{Key, Objects};
use crate::refusal::Refusal;
use crate::request::{ListOptions, Scope};
use crate::resource::{Resource, Resources};
use crate::select::Selector;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
    /// The sentences of the `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn ok(body: Value) -> Self {
        Self { code: 200, body, warnings: Vec::new() }
    }

    pub(crate) fn refused(refusal: &Refusal) -> Self {
        Self { code: refusal.code, body: refusal.status(), warnings: Vec::new() }
    }

    /// The answer to a deletion after which the object is gone.
    pub(crate) fn deleted(resource: &Resource, object: &Value) -> Self {
        let mut details =
            json!({ "name": object["metadata"]["name"], "kind": resource.plural, "uid": object["metadata"]["uid"] });
        if !resource.group.is_empty() {
            details["group"] = json!(resource.group);
        }
        let status =
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
        Self::ok(status)
    }
}

/// The place in a list where the next page begins.
fn page_token(revision: u64, last: &Key) -> String {
    URL_SAFE_NO_PAD.encode(json!([revision, last.namespace, last.name]).to_string())
}

fn read_page_token(text: &str, scope: &Scope) -> Result<(u64, Key), Refusal> {
    let invalid = || Refusal::bad_request("invalid continue token");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    let (revision, namespace, name) = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    Ok((revision, Key { resource: scope.resource, namespace, name }))
}

/// Whether an answer has only the metadata of objects, as the `Accept` header asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Whole,
    Metadata,
}

impl View {
    /// The view that an `Accept` header asks for.
    pub(crate) fn of(accept: &str) -> Self {
        let asks = |words: &str| words.contains("as=PartialObjectMetadata");
        if accept.split(',').next().is_some_and(asks) { Self::Metadata } else { Self::Whole }
    }

    /// An object in this view.
    pub(crate) fn of_object(self, object: &Arc<Value>) -> Arc<Value> {
        match self {
            Self::Whole => Arc::clone(object),
            Self::Metadata => Arc::new(json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]
            })),
        }
    }
}

/// A page of a list.
///
/// # Errors
/// A selector or a continue token that cannot be read, or a page of a list that is too old.
pub(crate) fn list(
    objects: &Objects,
    resources: &Resources,
    scope: &Scope,
    options: &ListOptions,
    view: View,
) -> Result<Value, Refusal> {
    let resource = resources.get(scope.resource);
    let selector = Selector::parse(resource, &options.labels, &options.fields)?;
    let (revision, after) = if options.page.is_empty() {
        (objects.revision(), None)
    } else {
        let (revision, key) = read_page_token(&options.page, scope)?;
        (revision, Some(key))
    };
    // A later page shows the objects as they are now. A list that began before the history did cannot be continued.
    if objects.since(revision).is_err() {
        return Err(Refusal::expired(
            "The provided continue parameter is too old to display a consistent list result.",
        ));
    }
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let mut found =
        objects.list(scope.resource, scope.namespace.as_deref(), after.as_ref()).filter(|(_, o)| selector.matches(o));
    let (mut items, mut last) = (Vec::new(), None);
    for (key, object) in found.by_ref().take(limit) {
        items.push((*view.of_object(object)).clone());
        last = Some(key);
    }
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    let rest = found.count();
    if let Some(last) = last.filter(|_| rest > 0) {
        metadata["continue"] = json!(page_token(revision, last));
        if options.labels.is_empty() && options.fields.is_empty() {
            metadata["remainingItemCount"] = json!(rest);
        }
    }
    let (kind, version) = match view {
        View::Whole => (format!("{}List", resource.kind), resource.api_version()),
        View::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
    };
    if resource.custom().is_none() && view == View::Whole {
        for item in &mut items {
            let fields = item.as_object_mut();
            let Some(fields) = fields else { continue };
            fields.remove("kind");
            fields.remove("apiVersion");
        }
    }
    Ok(json!({ "kind": kind, "apiVersion": version, "metadata": metadata, "items": items }))
}
