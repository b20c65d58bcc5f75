//! The objects that `muster doctor` looked at, with their checks. Pure.

use serde_json::{Value, json};

use super::checks::{self, Check};
use super::object::{name, namespace};

/// An object that was looked at.
pub(super) struct Examined {
    /// The object; only its kind, namespace and name if it cannot be read.
    pub(super) object: Value,
    /// The gateway that was looked at over a connection; `None` for what the API server shows.
    gateway: Option<String>,
    pub(super) checks: Vec<Check>,
}

impl Examined {
    pub(super) fn new(object: Value, gateway: Option<String>, checks: Vec<Check>) -> Self {
        Self { object, gateway, checks }
    }

    fn label(&self) -> String {
        let kind = self.object["kind"].as_str().unwrap_or_default();
        let place = self.gateway.as_deref().map(|url| format!(" at {url}")).unwrap_or_default();
        format!("{kind} {}/{}{place}", namespace(&self.object), name(&self.object))
    }

    /// The object and its checks, for programs.
    pub(super) fn data(&self) -> Value {
        json!({ "kind": self.object["kind"], "namespace": namespace(&self.object), "name": name(&self.object),
            "gateway": self.gateway, "checks": checks::data(&self.checks) })
    }
}

/// The objects and their checks, as text.
pub(super) fn text(examined: &[Examined]) -> String {
    let texts: Vec<_> = examined.iter().map(|one| checks::text(&one.label(), &one.checks)).collect();
    texts.join("\n")
}

/// Whether an object was looked at.
pub(super) fn is_among(object: &Value, examined: &[Examined]) -> bool {
    let key = |object: &Value| (object["kind"].clone(), namespace(object).to_owned(), name(object).to_owned());
    examined.iter().any(|one| key(&one.object) == key(object))
}
