//! What a gateway has, as its config and its roster say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::agents_config::RosterShape;
use super::entry::{AgentEntry, EntryState, same_path};
use super::rewritten::Rewritten;
use super::roster::{ConfigAnswer, RosterAnswer};
use super::shared_heartbeats::HeartbeatRule;
use super::text::is_clean;

/// What a gateway has.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// What the gateway can do.
    pub capabilities: Capabilities,
    /// Its agents by id.
    pub agents: BTreeMap<String, AgentRow>,
    /// The hash by which a config write says what it is based on.
    pub config_hash: String,
    /// Whether the config says that entries own their agents, which 2026.9.6 asks for.
    pub explicit_ownership: bool,
    /// What its config says about heartbeats.
    pub heartbeats: HeartbeatRule,
    /// Whether the gateway has applied its last config. Always so on versions that do not tell.
    pub settled: bool,
}

/// Why roster and config cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFailure {
    /// The gateway's code, or a word of ours.
    pub code: String,
    /// What it said.
    pub message: String,
    /// Whether it may pass although nobody changes the gateway's version.
    pub transient: bool,
}

/// One agent of a gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentRow {
    /// Its id.
    pub id: String,
    /// Its workspace, as the roster or else the config says.
    pub workspace: Option<String>,
    /// Its entry in the config.
    pub entry: Option<Map<String, Value>>,
    /// Whether the roster shows it: then the gateway serves it.
    pub in_roster: bool,
}

/// What a gateway can do, found out by reading only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The shape of the roster.
    pub roster: RosterShape,
    /// The workspace files that it accepts.
    pub accepted_files: BTreeSet<String>,
    /// Whether it hashes files and takes a hash as a precondition.
    pub file_hashes: bool,
    /// Whether it deletes an agent's main session by itself.
    pub main_session_delete: bool,
}

impl Inventory {
    /// Whether the roster shows the agents that the config has. Its own `main` needs no entry.
    pub(crate) fn agrees(&self) -> bool {
        self.agents.values().all(|row| row.in_roster == row.entry.is_some() || row.id == "main")
    }

    /// The agents that the roster shows.
    pub(crate) fn served(&self) -> BTreeSet<String> {
        self.agents.values().filter(|row| row.in_roster).map(|row| row.id.clone()).collect()
    }

    /// Whether one of two config writes in a second can be lost, as on gateways with a roster that is a list.
    #[must_use]
    pub fn loses_writes(&self) -> bool {
        self.capabilities.roster == RosterShape::List
    }

    /// The entry of this id in the config.
    pub(crate) fn entry(&self, id: &str) -> Option<&Map<String, Value>> {
        self.agents.get(id).and_then(|row| row.entry.as_ref())
    }

    /// The values in which an agent's entry differs from what was sent. All of them are known when the entry is as it should be.
    #[must_use]
    pub fn rewrites(&self, want: &AgentEntry) -> Vec<Rewritten> {
        let entry = self.entry(&want.id);
        entry.map(|there| want.rewrites(there)).unwrap_or_default()
    }

    /// An agent's entry, compared with what it should be; by the same rule as the config writer's.
    #[must_use]
    pub fn entry_state(&self, want: &AgentEntry) -> EntryState {
        let entry = self.entry(&want.id);
        match (entry, want.patch(entry)) {
            (None, _) => EntryState::Absent,
            (Some(_), Some(_)) => EntryState::Outdated,
            (Some(_), None) => EntryState::Current,
        }
    }
}

/// Joins the roster and the config.
pub(crate) fn assemble(
    config: ConfigAnswer,
    roster: &RosterAnswer,
    accepted_files: &BTreeSet<String>,
    file_hashes: bool,
) -> Inventory {
    let shape = config.shape;
    let mut agents: BTreeMap<String, AgentRow> = BTreeMap::new();
    for (id, entry) in config.entries {
        let workspace = entry.get("workspace").and_then(Value::as_str).filter(|path| is_clean(path)).map(str::to_owned);
        agents.insert(id.clone(), AgentRow { id, workspace, entry: Some(entry), in_roster: false });
    }
    for shown in &roster.agents.0 {
        let Some(id) = &shown.id else { continue };
        let row = agents.entry(id.clone()).or_insert_with(|| AgentRow { id: id.clone(), ..AgentRow::default() });
        let shown_in = shown.workspace.as_deref();
        // An entry with another workspace than the roster shows is on its way: files would go to the old one.
        let moves = row.workspace.as_deref().zip(shown_in).is_some_and(|(new, old)| !same_path(new, old));
        row.in_roster = config.settled || !moves;
        if row.workspace.is_none() {
            row.workspace = shown_in.map(str::to_owned);
        }
    }
    Inventory {
        capabilities: Capabilities {
            roster: shape,
            accepted_files: accepted_files.clone(),
            file_hashes,
            main_session_delete: shape == RosterShape::List,
        },
        agents,
        config_hash: config.hash.unwrap_or_default(),
        explicit_ownership: config.explicit_ownership,
        heartbeats: config.heartbeats,
        settled: config.settled,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assemble(config: &Value, roster: &Value, accepted_files: &BTreeSet<String>, file_hashes: bool) -> Inventory {
        let config = ConfigAnswer::read(&config.to_string()).unwrap();
        super::assemble(config, &serde_json::from_str(&roster.to_string()).unwrap(), accepted_files, file_hashes)
    }

    fn nine() -> Value {
        json!({
            "parsed": {"agents": {"ownership": "explicit", "entries": {"mc-1": {"name": "A", "workspace": "~/w"}}}},
            "config": {"agents": {"entries": {"mc-1": {"name": "A", "workspace": "~/w"}, "main": {}}}},
            "hash": "h", "appliedConfigHash": "x", "configRevisionHash": "y"
        })
    }

    #[test]
    fn the_config_as_written_and_the_roster_are_joined_by_id() {
        let roster = json!({"agents": [{"id": "main", "workspace": "/m"}, {"id": "mc-1", "workspace": "/home/o/w"}]});
        let inventory = assemble(&nine(), &roster, &BTreeSet::new(), true);
        assert_eq!(inventory.agents["mc-1"].workspace.as_deref(), Some("~/w"));
        assert!(inventory.agents["mc-1"].in_roster && inventory.agents["main"].in_roster);
        assert!(inventory.agents["main"].entry.is_none());
        assert_eq!(inventory.capabilities.roster, RosterShape::Entries);
        assert!(inventory.explicit_ownership && !inventory.settled);
    }

    #[test]
    fn an_agent_that_moves_is_not_served_from_its_new_workspace_before_the_config_is_applied() {
        let roster = json!({"agents": [{"id": "mc-1", "workspace": "/home/o/before"}]});
        assert!(!assemble(&nine(), &roster, &BTreeSet::new(), true).agents["mc-1"].in_roster);
        let mut applied = nine();
        applied["appliedConfigHash"] = json!("y");
        assert!(
            assemble(&applied, &roster, &BTreeSet::new(), true).agents["mc-1"].in_roster,
            "paths may be written otherwise"
        );
    }

    #[test]
    fn an_entry_that_the_roster_does_not_show_yet_is_known_as_such() {
        let inventory = assemble(&nine(), &json!({"agents": []}), &BTreeSet::new(), true);
        assert!(!inventory.agents["mc-1"].in_roster);
    }

    #[test]
    fn older_gateways_keep_a_list_and_do_not_tell_whether_they_are_settled() {
        let config = json!({"parsed": {"agents": {"list": [{"id": "a", "workspace": "/w"}]}}, "config": {"agents": {"list": []}}, "hash": "h"});
        let inventory = assemble(&config, &json!({"agents": []}), &BTreeSet::new(), false);
        assert_eq!(inventory.capabilities.roster, RosterShape::List);
        assert!(inventory.settled && inventory.agents.contains_key("a"));
    }

    #[test]
    fn a_gateway_that_tells_its_hashes_is_settled_only_when_both_are_there_and_the_same() {
        let with = |applied: Value, revision: Value| {
            let config = json!({"config": {}, "appliedConfigHash": applied, "configRevisionHash": revision});
            assemble(&config, &json!({}), &BTreeSet::new(), true).settled
        };
        assert!(with(json!("x"), json!("x")));
        assert!(!with(json!("x"), json!("y")) && !with(json!("x"), Value::Null) && !with(Value::Null, Value::Null));
    }
}
