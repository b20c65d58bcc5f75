//! What changed between two reads of a gateway.

use std::collections::BTreeSet;

use crate::openclaw::model::{Capabilities, Inventory};

/// What changed in one read.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Whether all agents have to be checked.
    pub(super) all: bool,
    /// Whether something changed that concerns no single agent.
    pub(super) gateway: bool,
    /// The agents that changed.
    pub(super) agents: BTreeSet<String>,
}

impl Changes {
    /// Adds the differences between two inventories.
    pub(super) fn add_differences(&mut self, old: Option<&Inventory>, new: &Inventory) {
        let Some(old) = old.filter(|old| !concerns_all(old, new)) else {
            self.all = true;
            return;
        };
        self.gateway |= old.heartbeats != new.heartbeats || old.capabilities != new.capabilities;
        let ids = old.agents.keys().chain(new.agents.keys());
        self.agents.extend(ids.filter(|id| old.agents.get(*id) != new.agents.get(*id)).cloned());
    }
}

/// Whether something changed that holds for all agents of the gateway. File hashes do not: the operator reads a file in any case.
fn concerns_all(old: &Inventory, new: &Inventory) -> bool {
    let besides_hashes = |inventory: &Inventory| Capabilities { file_hashes: false, ..inventory.capabilities.clone() };
    old.settled != new.settled
        || besides_hashes(old) != besides_hashes(new)
        || old.obstacle != new.obstacle
        || old.reload_is_off != new.reload_is_off
        || old.prompt_limits != new.prompt_limits
        || old.default_fallbacks != new.default_fallbacks
        || old.heartbeat_defaults != new.heartbeat_defaults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openclaw::model::AgentRow;
    use crate::openclaw::model::inventory::assemble;
    use crate::openclaw::model::roster::{ConfigAnswer, RosterAnswer};

    fn inventory(agents: [(&str, bool); 2], file_hashes: bool) -> Inventory {
        let config = ConfigAnswer::read(&json!({ "resolved": {}, "config": {} }).to_string()).unwrap();
        let mut inventory = assemble(config, &RosterAnswer::default(), &BTreeSet::new(), file_hashes);
        for (id, in_roster) in agents {
            inventory.agents.insert(id.to_owned(), AgentRow { id: id.to_owned(), in_roster, ..AgentRow::default() });
        }
        inventory
    }

    fn changes(old: Option<&Inventory>, new: &Inventory) -> (bool, bool, Vec<String>) {
        let mut changes = Changes::default();
        changes.add_differences(old, new);
        (changes.all, changes.gateway, changes.agents.into_iter().collect())
    }

    #[test]
    fn a_changed_row_concerns_its_agent_and_a_capability_of_files_no_agent() {
        let old = inventory([("one", true), ("two", true)], false);
        assert_eq!(changes(None, &old), (true, false, vec![]), "the first inventory");
        assert_eq!(changes(Some(&old), &old), (false, false, vec![]));
        let without = inventory([("one", false), ("two", true)], false);
        assert_eq!(changes(Some(&old), &without), (false, false, vec!["one".to_owned()]));
        let hashes = inventory([("one", true), ("two", true)], true);
        assert_eq!(changes(Some(&old), &hashes), (false, true, vec![]));
    }
}
