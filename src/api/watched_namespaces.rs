//! The namespaces in which the operator works.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::names::is_namespace;

/// The namespaces in which the operator works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchedNamespaces {
    /// All namespaces.
    #[default]
    All,
    /// These namespaces, at least one.
    Only(BTreeSet<String>),
}

impl WatchedNamespaces {
    /// Whether the operator works in a namespace.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(namespace),
        }
    }

    /// What one watch covers, for each watch of a kind: a namespace, or `None` for all namespaces.
    #[must_use]
    pub fn watches(&self) -> Vec<Option<String>> {
        match self {
            Self::All => vec![None],
            Self::Only(names) => names.iter().cloned().map(Some).collect(),
        }
    }
}

/// Names separated by commas.
impl FromStr for WatchedNamespaces {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        for name in text.split(',') {
            if name.is_empty() {
                return Err("a name is empty; give the names of namespaces, separated by one comma each".to_owned());
            }
            if !is_namespace(name) {
                return Err(format!(
                    "{name:?} is not the name of a namespace: at most 63 lower-case letters, digits and hyphens, with a letter or a \
                     digit at both ends"
                ));
            }
            if !names.insert(name.to_owned()) {
                return Err(format!("{name:?} is named twice"));
            }
        }
        Ok(Self::Only(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_one_text_and_each_has_a_watch_of_its_own() {
        let only: WatchedNamespaces = "team-b,team-a".parse().unwrap();
        assert_eq!(only.watches(), [Some("team-a".to_owned()), Some("team-b".to_owned())]);
        assert!(only.contains("team-a") && !only.contains("team"));
        assert_eq!(WatchedNamespaces::All.watches(), [None]);
    }

    #[test]
    fn an_empty_item_a_wrong_name_and_a_duplicate_are_refused_with_the_name() {
        for (text, words) in [
            ("", "a name is empty"),
            ("a,,b", "a name is empty"),
            ("a,", "a name is empty"),
            ("a, b", "\" b\" is not the name of a namespace"),
            ("Team", "\"Team\" is not the name"),
            ("*", "\"*\" is not the name"),
            ("a,b,a", "\"a\" is named twice"),
        ] {
            let refusal = text.parse::<WatchedNamespaces>().unwrap_err();
            assert!(refusal.contains(words), "{text:?}: {refusal}");
        }
    }
}
