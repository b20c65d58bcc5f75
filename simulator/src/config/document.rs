//! One state of the configuration file: it never changes, so that its readers share it and its text is written once.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::Value;

use super::roster::{self, IMPLIED_MAIN, MAIN};
use crate::{clock::sha256_hex, profile::RosterShape};

/// A configuration with its agents by id, its JSON text and its digest.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    shape: RosterShape,
    /// Whether the gateway has an agent `main` for which the configuration has no entry.
    implies_main: bool,
    /// The position of each agent in a list. Entries need no positions: they are keyed by id.
    positions: BTreeMap<String, usize>,
    text: OnceLock<String>,
    digest: OnceLock<String>,
}

impl Document {
    /// A configuration of a gateway that began with `main`, which it keeps.
    pub(crate) fn new(value: Value, shape: RosterShape) -> Self {
        let implies_main = match shape {
            RosterShape::Entries => value["agents"]["entries"].get(MAIN).is_none(),
            RosterShape::List => roster::list(&value).is_empty(),
        };
        Self::of(value, shape, implies_main)
    }

    /// A configuration that was written by hand: `main` is implied only while there is no other agent.
    pub(crate) fn by_hand(value: Value, shape: RosterShape) -> Self {
        let implies_main = match shape {
            RosterShape::Entries => roster::written_entries(&value).is_none_or(serde_json::Map::is_empty),
            RosterShape::List => roster::list(&value).is_empty(),
        };
        Self::of(value, shape, implies_main)
    }

    fn of(value: Value, shape: RosterShape, implies_main: bool) -> Self {
        let id = |(position, entry): (usize, &Value)| Some((entry["id"].as_str()?.to_owned(), position));
        let positions = match shape {
            RosterShape::Entries => BTreeMap::new(),
            RosterShape::List => roster::list(&value).iter().enumerate().filter_map(id).collect(),
        };
        Self { value, shape, implies_main, positions, text: OnceLock::new(), digest: OnceLock::new() }
    }

    /// Every agent's entry by id.
    pub(crate) fn agents(&self) -> BTreeMap<&str, &Value> {
        let mut found = roster::entries(&self.value, self.shape);
        if !self.implies_main && self.agent(MAIN).is_none() {
            found.remove(MAIN);
        }
        found
    }

    /// The entry of one agent. The cost does not depend on the other agents.
    pub(crate) fn agent(&self, id: &str) -> Option<&Value> {
        let written = match self.shape {
            RosterShape::Entries => self.value["agents"]["entries"].get(id),
            RosterShape::List => self.positions.get(id).and_then(|position| roster::list(&self.value).get(*position)),
        };
        written.or_else(|| (id == MAIN && self.implies_main).then_some(&*IMPLIED_MAIN))
    }

    /// The number of agents.
    pub(crate) fn agent_count(&self) -> usize {
        let written = match self.shape {
            RosterShape::Entries => roster::written_entries(&self.value).map_or(0, serde_json::Map::len),
            RosterShape::List => self.positions.len(),
        };
        written + usize::from(self.implies_main)
    }

    /// The document as JSON.
    pub(crate) fn text(&self) -> &str {
        self.text.get_or_init(|| self.value.to_string())
    }

    /// The hash of the text.
    pub(crate) fn digest(&self) -> &str {
        self.digest.get_or_init(|| sha256_hex(self.text()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn main_is_implied_by_entries_always_and_by_an_empty_list() {
        for (value, shape, ids) in [
            (json!({}), RosterShape::Entries, vec!["main"]),
            (json!({"agents": {"entries": {"a": {}}}}), RosterShape::Entries, vec!["a", "main"]),
            (json!({"agents": {"list": []}}), RosterShape::List, vec!["main"]),
            (json!({"agents": {"list": [{"id": "a"}]}}), RosterShape::List, vec!["a"]),
        ] {
            let document = Document::new(value, shape);
            assert_eq!(document.agents().into_keys().collect::<Vec<_>>(), ids);
            assert_eq!(document.agent_count(), ids.len());
            assert_eq!(document.agent(MAIN).is_some(), ids.contains(&MAIN));
        }
    }

    #[test]
    fn an_agent_of_a_list_is_found_by_its_id() {
        let list = json!([{"id": "b", "name": "B"}, {"name": "no id"}, {"id": "a", "name": "A"}]);
        let document = Document::new(json!({"agents": {"list": list}}), RosterShape::List);
        assert_eq!(document.agent("a").unwrap()["name"], "A");
        assert!(document.agent("c").is_none());
    }
}
