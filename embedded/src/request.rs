//! A request, read from its method, path, query and body.

use http::Method;
use http::request::Parts;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use crate::objects::Key;
use crate::part::Part;
use crate::refusal::Refusal;
use crate::resource::{ResourceId, Resources};

/// What a request asks for.
#[derive(Debug)]
pub(crate) enum Call {
    /// `GET /version`.
    Version,
    /// `GET /livez` and `GET /readyz`.
    Health,
    Get(Key),
    /// A review of a token or of a right.
    Review(Review),
    List(Scope, ListOptions),
    Watch(Scope, WatchOptions),
    Create(Scope, WriteOptions),
    Replace(Key, Part, WriteOptions),
    Patch(Key, Part, PatchType, WriteOptions),
    Delete(Key, DeleteOptions),
}

/// A question that is answered and not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// Whose token is this?
    Token,
    /// May a user do this?
    Access,
}

/// The objects of a kind in a namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) resource: ResourceId,
    pub(crate) namespace: Option<String>,
}

/// How a list is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub(crate) labels: String,
    pub(crate) fields: String,
    /// The most objects of a page. 0: all.
    pub(crate) limit: usize,
    pub(crate) page: String,
    pub(crate) version: String,
}

/// How a watch is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchOptions {
    pub(crate) labels: String,
    pub(crate) fields: String,
    pub(crate) version: String,
    pub(crate) bookmarks: bool,
    /// After how many seconds the watch ends.
    pub(crate) timeout: Option<u64>,
    /// Whether the watch begins with the objects that there are, and a bookmark.
    pub(crate) initial_events: bool,
}

/// What a write does with unknown fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// How a write is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
}

/// What becomes of the objects that a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// How a deletion is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) dry_run: bool,
}

/// The type of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
}

/// A patch.
#[derive(Debug)]
pub(crate) enum ObjectPatch {
    Json(json_patch::Patch),
    Merge(Value),
}

/// An answer to a path that no kind has.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The path is none of the API's.
    NoSuchPath,
    Refused(Refusal),
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The parameters of a query.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(parts: &Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }
}

impl Call {
    /// Reads a request without its body.
    ///
    /// # Errors
    /// The path or the method is none of the API's.
    pub(crate) fn parse(parts: &Parts, resources: &Resources) -> Result<Self, Unread> {
        let path = parts.uri.path();
        match path {
            "/version" | "/version/" => return Ok(Self::Version),
            "/livez" | "/readyz" | "/healthz" => return Ok(Self::Health),
            "/apis/authentication.k8s.io/v1/tokenreviews" if parts.method == Method::POST => {
                return Ok(Self::Review(Review::Token));
            }
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" if parts.method == Method::POST => {
                return Ok(Self::Review(Review::Access));
            }
            _ => {}
        }
        let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        let (group, version, rest) = match words.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(Unread::NoSuchPath),
        };
        if !resources.has_group(group, version) {
            return Err(Unread::NoSuchPath);
        }
        // The handler of the definitions answers paths that it does not know by a text.
        let unknown = || if resources.is_custom(group) { Unread::NoSuchPath } else { no_such_resource().into() };
        let find = |plural: &str| resources.find(group, version, plural).ok_or_else(unknown);
        let (resource, namespace, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] if find(plural).is_ok() => {
                (find(plural)?, Some(*namespace), rest)
            }
            [plural, rest @ ..] => (find(plural)?, None, rest),
            [] => return Err(Unread::NoSuchPath),
        };
        let query = Query::of(parts);
        let namespaced = resources.get(resource).namespaced;
        let key = |name: &str| Key { resource, namespace: namespace.unwrap_or_default().into(), name: name.into() };
        let scope = Scope { resource, namespace: namespace.map(ToOwned::to_owned) };
        let call = match rest {
            [] if parts.method == Method::POST && namespaced != namespace.is_some() => return Err(unknown()),
            [] => Self::of_kind(&parts.method, scope, resources, &query)?,
            [name] if namespaced == namespace.is_some() => {
                Self::of_object(parts, key(name), Part::Main, resources, &query)?
            }
            [name, "status"] if resources.get(resource).has_status() && namespace.is_some() => {
                Self::of_object(parts, key(name), Part::Status, resources, &query)?
            }
            _ => return Err(unknown()),
        };
        Ok(call)
    }

    fn of_kind(method: &Method, scope: Scope, resources: &Resources, query: &Query) -> Result<Self, Refusal> {
        let (labels, fields) = (query.get("labelSelector").to_owned(), query.get("fieldSelector").to_owned());
        let version = query.get("resourceVersion").to_owned();
        match *method {
            Method::GET if query.flag("watch") => {
                let timeout = query.get("timeoutSeconds").parse().ok().filter(|seconds| *seconds > 0);
                let bookmarks = query.flag("allowWatchBookmarks");
                let initial_events = query.flag("sendInitialEvents");
                Ok(Self::Watch(scope, WatchOptions { labels, fields, version, bookmarks, timeout, initial_events }))
            }
            Method::GET => {
                let limit = query.get("limit").parse().unwrap_or_default();
                Ok(Self::List(
                    scope,
                    ListOptions { labels, fields, limit, page: query.get("continue").into(), version },
                ))
            }
            Method::POST => Ok(Self::Create(scope, write_options(query)?)),
            _ => Err(Refusal::method_not_allowed(resources.get(scope.resource), verb(method))),
        }
    }

    fn of_object(parts: &Parts, key: Key, part: Part, resources: &Resources, query: &Query) -> Result<Self, Refusal> {
        match parts.method {
            Method::GET => Ok(Self::Get(key)),
            Method::PUT => Ok(Self::Replace(key, part, write_options(query)?)),
            Method::PATCH => Ok(Self::Patch(key, part, PatchType::of(parts)?, write_options(query)?)),
            Method::DELETE if part == Part::Main => {
                let propagation = propagation(query.get("propagationPolicy"))?;
                let dry_run = write_options(query)?.dry_run;
                Ok(Self::Delete(key, DeleteOptions { propagation, dry_run, ..DeleteOptions::default() }))
            }
            _ => Err(Refusal::method_not_allowed(resources.get(key.resource), verb(&parts.method))),
        }
    }
}

/// A method in the words of messages.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

fn no_such_resource() -> Refusal {
    Refusal {
        code: 404,
        reason: "NotFound",
        message: "the server could not find the requested resource".into(),
        details: Some(serde_json::json!({})),
    }
}

fn write_options(query: &Query) -> Result<WriteOptions, Refusal> {
    let field_validation = match query.get("fieldValidation") {
        "" | "Warn" => FieldValidation::Warn,
        "Strict" => FieldValidation::Strict,
        "Ignore" => FieldValidation::Ignore,
        other => {
            let message = format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
            );
            return Err(Refusal::unprocessable(message));
        }
    };
    Ok(WriteOptions { dry_run: query.get("dryRun") == "All", field_validation })
}

fn propagation(text: &str) -> Result<Option<Propagation>, Refusal> {
    match text {
        "" => Ok(None),
        "Background" => Ok(Some(Propagation::Background)),
        "Foreground" => Ok(Some(Propagation::Foreground)),
        "Orphan" => Ok(Some(Propagation::Orphan)),
        other => Err(Refusal::unprocessable(format!("propagationPolicy: Unsupported value: {other:?}"))),
    }
}

impl PatchType {
    fn of(parts: &Parts) -> Result<Self, Refusal> {
        let header = parts.headers.get(http::header::CONTENT_TYPE);
        let text = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
        match text.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            _ => Err(Refusal::unsupported_patch(&["application/json-patch+json", "application/merge-patch+json"])),
        }
    }

    /// Reads the body of a patch.
    ///
    /// # Errors
    /// The body is no patch.
    pub(crate) fn read(self, body: &[u8]) -> Result<ObjectPatch, Refusal> {
        let unreadable = |error: serde_json::Error| Refusal::bad_request(format!("error decoding patch: {error}"));
        match self {
            Self::Json => Ok(ObjectPatch::Json(serde_json::from_slice(body).map_err(unreadable)?)),
            Self::Merge => {
                let fields: serde_json::Map<String, Value> = serde_json::from_slice(body).map_err(unreadable)?;
                Ok(ObjectPatch::Merge(Value::Object(fields)))
            }
        }
    }
}

impl ObjectPatch {
    /// Applies the patch.
    ///
    /// # Errors
    /// A test of the patch failed, or a path is not there.
    pub(crate) fn apply(&self, object: &mut Value) -> Result<(), Refusal> {
        match self {
            Self::Json(patch) => json_patch::patch(object, patch)
                .map_err(|error| Refusal::unprocessable(format!("the patch does not fit the object: {error}"))),
            Self::Merge(patch) => {
                json_patch::merge(object, patch);
                Ok(())
            }
        }
    }
}

/// The body of a deletion.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteBody {
    preconditions: Option<Preconditions>,
    propagation_policy: Option<String>,
    dry_run: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl DeleteOptions {
    /// The options of the query, and those of the body.
    ///
    /// # Errors
    /// The body is not `DeleteOptions`.
    pub(crate) fn with_body(mut self, body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(self);
        }
        let body: DeleteBody =
            serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("DeleteOptions: {error}")))?;
        let preconditions = body.preconditions.unwrap_or_default();
        self.uid = preconditions.uid;
        self.resource_version = preconditions.resource_version;
        self.propagation = propagation(body.propagation_policy.as_deref().unwrap_or_default())?.or(self.propagation);
        self.dry_run |= !body.dry_run.is_empty();
        Ok(self)
    }
}
