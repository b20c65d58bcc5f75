//! Objects as JSON and YAML. Pure.

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Value, json};

/// A format for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum DataFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl DataFormat {
    /// A text of one document.
    pub(super) fn text(self, value: &Value) -> String {
        match self {
            Self::Json => {
                let mut bytes = Vec::new();
                let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
                // JSON serializes.
                let _ = value.serialize(&mut serializer);
                String::from_utf8_lossy(&bytes).into_owned() + "\n"
            }
            Self::Yaml => serde_saphyr::to_string(value).unwrap_or_default(),
        }
    }
}

/// An object without who wrote which field, which kubectl leaves out too.
pub(super) fn without_managers(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// Several objects as one list.
pub(super) fn list(items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": items, "metadata": { "resourceVersion": "" } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_printed_as_kubectl_prints_them() {
        let object = without_managers(json!({ "kind": "X", "metadata": { "name": "one", "managedFields": [1] } }));
        assert_eq!(
            DataFormat::Json.text(&object),
            "{\n    \"kind\": \"X\",\n    \"metadata\": {\n        \"name\": \"one\"\n    }\n}\n"
        );
        assert_eq!(DataFormat::Yaml.text(&object), "kind: X\nmetadata:\n  name: one\n");
        assert_eq!(list(&[object])["items"][0]["metadata"]["name"], "one");
    }
}
