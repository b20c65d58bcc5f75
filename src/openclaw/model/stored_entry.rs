//! An agent's entry as the gateway's config has it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::readers::lax;

/// An agent's entry as the gateway's config has it. It is kept as text: the trees of thousands of entries would take five times the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry(Box<str>);

impl StoredEntry {
    /// The keys and values of the entry.
    #[must_use]
    pub fn tree(&self) -> Map<String, Value> {
        // The text was written from a tree.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The texts that are read of all agents. This makes no tree.
    pub(crate) fn texts(&self) -> EntryTexts {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Whether the entry has this key, or these words in a text, at any depth. This makes no tree.
    pub(crate) fn mentions(&self, key: &str) -> bool {
        self.0.contains(key)
    }

    /// The length of the text, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Texts of an entry. A value of another type counts as absent.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct EntryTexts {
    /// The display name.
    #[serde(deserialize_with = "lax")]
    pub(crate) name: Option<String>,
    /// The path of the workspace.
    #[serde(deserialize_with = "lax")]
    pub(crate) workspace: Option<String>,
}

impl From<&Map<String, Value>> for StoredEntry {
    fn from(tree: &Map<String, Value>) -> Self {
        // A tree with text keys and finite numbers always has a text.
        Self(serde_json::to_string(tree).unwrap_or_default().into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_has_the_values_that_it_was_made_of() {
        let tree = json!({ "name": "Ä \"b\"\n", "heartbeat": { "every": "5m" }, "list": [1, -2.5, null, true, {}], "": u64::MAX });
        let tree = tree.as_object().unwrap();
        let entry = StoredEntry::from(tree);
        assert_eq!(entry.tree(), *tree);
        assert_eq!(entry, StoredEntry::from(&entry.tree()));
    }

    #[test]
    fn the_texts_of_an_entry_are_those_of_its_tree_and_other_values_count_as_absent() {
        let texts = |tree: Value| StoredEntry::from(tree.as_object().unwrap()).texts();
        let all = texts(json!({ "name": "Ä\"", "workspace": "/w", "identity": { "name": "other" } }));
        assert_eq!((all.name.as_deref(), all.workspace.as_deref()), (Some("Ä\""), Some("/w")));
        assert_eq!(texts(json!({ "name": 1, "workspace": ["/w"] })), EntryTexts::default());
        assert_eq!(texts(json!({})), EntryTexts::default());
    }

    #[test]
    fn an_entry_as_deep_as_a_reader_accepts_stays_as_it_is() {
        let depth = 126;
        let text = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let tree: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(StoredEntry::from(&tree).tree(), tree);
    }
}
