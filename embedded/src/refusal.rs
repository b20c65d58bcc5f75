//! Refused requests: the `Status` that kube-apiserver answers with.

use serde_json::{Value, json};

use crate::field_error::FieldError;
use crate::resource::Resource;
use crate::text::quoted;

/// A refused request, with the code, the reason and the details of kube-apiserver.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The HTTP status code.
    pub(crate) code: u16,
    /// The reason, a word of `metav1.StatusReason`.
    pub(crate) reason: &'static str,
    /// A sentence for a person.
    pub(crate) message: String,
    /// The object and the causes.
    pub(crate) details: Option<Value>,
}

/// The name of an object in a message: `boards.muster.dev "ops"`.
fn named(resource: &Resource, name: &str) -> String {
    format!("{} {}", resource.qualified(&resource.plural), quoted(name))
}

/// The object in the details.
fn about(resource: &Resource, kind: &str, name: &str) -> Value {
    let mut details = json!({});
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    details["kind"] = json!(kind);
    details
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> Self {
        refusal.message
    }
}

impl Refusal {
    fn of(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// The object does not exist.
    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} not found", named(resource, name));
        Self { details: Some(about(resource, &resource.plural, name)), ..Self::of(404, "NotFound", message) }
    }

    /// An object of this name exists.
    pub(crate) fn already_exists(resource: &Resource, name: &str, is_deleting: bool) -> Self {
        let state = if is_deleting { "object is being deleted: " } else { "" };
        let message = format!("{state}{} already exists", named(resource, name));
        Self { details: Some(about(resource, &resource.plural, name)), ..Self::of(409, "AlreadyExists", message) }
    }

    /// The object is not the one that was read.
    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {why}", named(resource, name));
        Self { details: Some(about(resource, &resource.plural, name)), ..Self::of(409, "Conflict", message) }
    }

    /// The object is not the one that a deletion is meant for.
    pub(crate) fn precondition(resource: &Resource, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {}: {why}", resource.qualified(&resource.kind), quoted(name));
        Self { details: Some(about(resource, &resource.kind, name)), ..Self::of(409, "Conflict", message) }
    }

    /// The account, or the state of the namespace, does not allow the request.
    pub(crate) fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} is forbidden: {why}", named(resource, name));
        Self { details: Some(about(resource, &resource.plural, name)), ..Self::of(403, "Forbidden", message) }
    }

    /// The namespace is being deleted.
    pub(crate) fn terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut refusal = Self::forbidden(resource, name, &why);
        let cause = json!({
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        });
        if let Some(details) = &mut refusal.details {
            details["causes"] = json!([cause]);
        }
        refusal
    }

    /// The object breaks rules.
    pub(crate) fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_as(resource, &resource.kind, name, errors)
    }

    /// The update breaks rules. Its answer names the resource, where others name the kind.
    pub(crate) fn invalid_update(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_as(resource, &resource.plural, name, errors)
    }

    /// An object of another kind at the path of this one.
    pub(crate) fn other_kind(resource: &Resource, kind: &str, name: &str) -> Self {
        let error = FieldError::invalid("kind", kind, format!("must be {}", resource.kind));
        Self::invalid_as(resource, kind, name, &[error])
    }

    fn invalid_as(resource: &Resource, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let all = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {} is invalid: {all}", resource.qualified(kind), quoted(name));
        let mut details = about(resource, kind, name);
        details["causes"] = errors.iter().map(FieldError::cause).collect();
        Self { details: Some(details), ..Self::of(422, "Invalid", message) }
    }

    /// The patch does not fit the object.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::of(422, "Invalid", message)
    }

    /// The request cannot be read.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::of(400, "BadRequest", message)
    }

    /// The resource does not know this method.
    pub(crate) fn method_not_allowed(resource: &Resource, verb: &str) -> Self {
        let message =
            format!("{verb} is not supported on resources of kind \"{}\"", resource.qualified(&resource.plural));
        let details = Some(about(resource, &resource.plural, ""));
        Self { details, ..Self::of(405, "MethodNotAllowed", message) }
    }

    /// The resource does not know patches of this type.
    pub(crate) fn unsupported_patch(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::of(415, "UnsupportedMediaType", message)
    }

    /// The body is larger than a request may be.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::of(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// The history does not reach back to this version.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::of(410, "Expired", message)
    }

    /// A refusal that the API server gives no reason for.
    pub(crate) fn unnamed(message: impl Into<String>) -> Self {
        Self::of(500, "", message)
    }

    /// The operator's own fault.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::of(500, "InternalError", message)
    }

    /// The credential is missing or wrong.
    pub(crate) fn unauthorized() -> Self {
        Self::of(401, "Unauthorized", "Unauthorized")
    }

    /// The `Status` of this answer.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}
