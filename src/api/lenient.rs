//! Reads a status that another version of Muster wrote.
//!
//! A status may have a word that this version does not know, for example after a downgrade. Such a word must not make the whole object
//! unreadable: its Agent would be neither reconciled nor removed. A field of the status whose type is an enum, or contains one, is read
//! by a function of this file; the words of conditions are kept (`condition`). The next write of the status replaces the word. The spec is strict: a person wrote it.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

/// A value, or a value of another form.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Known(T),
    Unknown(IgnoredAny),
}

impl<T> Lenient<T> {
    fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// Reads an optional field. An unknown value counts as absent.
pub(super) fn option<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Lenient<T>>::deserialize(deserializer)?.and_then(Lenient::known))
}

/// Reads a required field. An unknown value counts as the default.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Lenient::deserialize(deserializer)?.known().unwrap_or_default())
}

/// Reads a list. Unknown items are left out.
pub(super) fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items = Vec::<Lenient<T>>::deserialize(deserializer)?;
    Ok(items.into_iter().filter_map(Lenient::known).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::{Agent, AgentGateway, Board, crds};

    const STRANGE: &str = "WordOfALaterVersion";

    /// A value of a schema with the required fields alone.
    fn minimal(schema: &Value) -> Value {
        if let Some(words) = schema["enum"].as_array() {
            return words[0].clone();
        }
        match schema["type"].as_str() {
            Some("object") => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                required.map(|name| (name.to_owned(), minimal(&schema["properties"][name]))).collect()
            }
            Some("array") => json!([]),
            Some("integer") => json!(1),
            Some("boolean") => json!(false),
            _ if schema["format"] == "date-time" => json!("2026-01-01T00:00:00Z"),
            _ => json!("text"),
        }
    }

    /// For each enum in a schema, its path, and a minimal value with a strange word at that path.
    fn with_a_strange_word(schema: &Value, path: &str) -> Vec<(String, Value)> {
        if schema["enum"].is_array() {
            return vec![(path.to_owned(), json!(STRANGE))];
        }
        let mut found = Vec::new();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            for (path, value) in with_a_strange_word(field, &format!("{path}.{name}")) {
                let mut object = minimal(schema);
                object[name] = value;
                found.push((path, object));
            }
        }
        if schema["items"].is_object() {
            let items = with_a_strange_word(&schema["items"], &format!("{path}[]")).into_iter();
            found.extend(items.map(|(path, item)| (path, json!([item]))));
        }
        found
    }

    /// For each enum in a part of the three resources, its path, and whether an object with a strange word there is readable.
    fn readable_with_a_strange_word(part: &str) -> Vec<(String, bool)> {
        let mut results = Vec::new();
        for (_, crd) in crds::all() {
            let kind = crd.spec.names.kind;
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            let fields = &schema["openAPIV3Schema"]["properties"];
            for (path, value) in with_a_strange_word(&fields[part], &format!("{kind}.{part}")) {
                let mut object = json!({ "metadata": { "name": "one" }, "spec": minimal(&fields["spec"]) });
                (object["apiVersion"], object["kind"]) = (json!("muster.dev/v1alpha1"), json!(kind));
                object[part] = value;
                let is_readable = match kind.as_str() {
                    "Agent" => serde_json::from_value::<Agent>(object).is_ok(),
                    "Board" => serde_json::from_value::<Board>(object).is_ok(),
                    _ => serde_json::from_value::<AgentGateway>(object).is_ok(),
                };
                results.push((path, is_readable));
            }
        }
        results
    }

    #[test]
    fn an_object_whose_status_has_a_word_of_a_later_version_is_readable() {
        let results = readable_with_a_strange_word("status");
        assert!(results.len() >= 7, "{results:?}");
        let unreadable: Vec<_> = results.iter().filter(|(_, is_readable)| !is_readable).map(|(path, _)| path).collect();
        assert!(unreadable.is_empty(), "{unreadable:?}");
    }

    #[test]
    fn an_object_whose_spec_has_an_unknown_word_is_unreadable() {
        let results = readable_with_a_strange_word("spec");
        assert!(results.len() >= 7, "{results:?}");
        let readable: Vec<_> = results.iter().filter(|(_, is_readable)| *is_readable).map(|(path, _)| path).collect();
        // A type of Kubernetes, which has the operator as a string. The API server checks it.
        assert_eq!(readable, ["AgentGateway.spec.allowedNamespaces.selector.matchExpressions[].operator"]);
    }

    #[test]
    fn an_unknown_word_counts_as_absent_and_the_rest_of_the_status_is_read() {
        let file = |state: &str| json!({ "name": "MEMORY.md", "state": state, "sha256": "aa" });
        let status = json!({
            "observedGeneration": 3,
            "phase": STRANGE,
            "agentId": "one",
            "files": [file(STRANGE)],
            "requests": [
                { "kind": STRANGE, "requestedAt": "2026-01-01T00:00:00Z" },
                { "kind": "Sync", "requestedAt": "2026-01-01T00:00:00Z" },
            ],
        });
        let read: crate::api::AgentStatus = serde_json::from_value(status).unwrap();
        assert_eq!((read.phase, read.agent_id.as_deref(), read.requests.len()), (None, Some("one"), 1));
        let expected = serde_json::from_value(file("Ignored")).unwrap();
        assert_eq!(read.files, [expected], "a record that may be of a written file is kept");
    }
}
