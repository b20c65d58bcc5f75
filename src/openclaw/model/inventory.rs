//! The inventory of a gateway: its agents, from its config and its roster.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::agent_heartbeat::{ConfiguredHeartbeat, HeartbeatDefaults};
use super::agents_config::RosterShape;
use super::config_file::ConfigObstacle;
use super::entry::{AgentEntry, EntryState, same_path};
use super::prompt_limits::PromptLimits;
use super::rewritten::Rewritten;
use super::roster::{ConfigAnswer, RosterAnswer};
use super::shared_heartbeats::HeartbeatRule;
use super::stored_entry::StoredEntry;
use super::text::is_clean;

/// The agents and the capabilities of a gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// The capabilities of the gateway.
    pub capabilities: Capabilities,
    /// The agents by id.
    pub agents: BTreeMap<String, AgentRow>,
    /// The hash of the config, which a config write sends as its base.
    pub config_hash: String,
    /// Whether the config has `agents.ownership: "explicit"`, which 2026.9.6 requires (`docs/gateway-facts.md#config-writes`).
    pub explicit_ownership: bool,
    /// The heartbeat rule of the config.
    pub heartbeats: HeartbeatRule,
    /// The settings that hold for the heartbeats of all agents.
    pub heartbeat_defaults: HeartbeatDefaults,
    /// `agents.defaults.model.fallbacks`: the fallbacks of an agent without a model of its own.
    pub default_fallbacks: Vec<String>,
    /// The limits of prompts in the config.
    pub prompt_limits: PromptLimits,
    /// Whether the gateway has applied its last config; always `true` on versions that do not report this.
    pub settled: bool,
    /// Why the gateway cannot write its roster, as far as its config shows.
    pub obstacle: Option<ConfigObstacle>,
    /// Whether the gateway applies a changed config at its next start alone, by `gateway.reload.mode: "off"`.
    pub reload_is_off: bool,
}

/// The cause of repeated failures to read the roster and the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFailure {
    /// The gateway's most specific code, or a code of Muster.
    pub code: String,
    /// The gateway's message, or the text of the error.
    pub message: String,
    /// Whether a retry may succeed with the same version of the gateway.
    pub transient: bool,
}

/// An agent of a gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentRow {
    /// The agent's id.
    pub id: String,
    /// The path of the workspace, from the config or else from the roster.
    pub workspace: Option<String>,
    /// The entry in the config.
    pub entry: Option<StoredEntry>,
    /// Whether the roster shows the agent. The gateway serves the agents of its roster.
    pub in_roster: bool,
}

/// The capabilities of a gateway, detected by reads alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The shape of the roster.
    pub roster: RosterShape,
    /// The names of the workspace files that the gateway accepts.
    pub accepted_files: BTreeSet<String>,
    /// Whether the gateway returns file hashes and accepts a hash as a precondition.
    pub file_hashes: bool,
    /// Whether `sessions.delete` deletes an agent's main session.
    pub main_session_delete: bool,
}

impl Inventory {
    /// Whether roster and config name the same agents. The gateway's own `main` needs no entry.
    pub(crate) fn agrees(&self) -> bool {
        self.agents.values().all(|row| row.in_roster == row.entry.is_some() || row.id == "main")
    }

    /// The ids of the agents in the roster.
    pub(crate) fn served(&self) -> BTreeSet<String> {
        self.agents.values().filter(|row| row.in_roster).map(|row| row.id.clone()).collect()
    }

    /// Whether the gateway can lose one of two config writes within a second, which versions with `agents.list` may do
    /// (`docs/gateway-facts.md#lost-writes`).
    #[must_use]
    pub fn loses_writes(&self) -> bool {
        self.capabilities.roster == RosterShape::List
    }

    /// How many config writes the gateway accepts within 60 s (`docs/gateway-facts.md#rate-limits`).
    #[must_use]
    pub fn config_writes_per_minute(&self) -> usize {
        match self.capabilities.roster {
            RosterShape::List => 3,
            RosterShape::Entries => 30,
        }
    }

    /// Whether the gateway can lose the escape of `$${NAME}` in an entry when it deletes another agent, as versions with `agents.list` do
    /// (`docs/gateway-facts.md#config-values`).
    #[must_use]
    pub fn loses_escapes(&self) -> bool {
        self.capabilities.roster == RosterShape::List
    }

    /// The heartbeat of an agent by the config.
    #[must_use]
    pub fn heartbeat(&self, id: &str) -> ConfiguredHeartbeat {
        self.heartbeat_defaults.of(self.entry(id).as_ref())
    }

    /// Whether a write to the config can be sent. A gateway that applies its config at its next start alone stays unsettled until then
    /// and stores further writes; any other unsettled gateway may drop them (`docs/gateway-facts.md#kills`).
    #[must_use]
    pub fn stores_writes(&self) -> bool {
        self.settled || self.reload_is_off
    }

    /// Whether only a restart of the gateway applies its last config. Versions without hashes show that by their roster alone.
    #[must_use]
    pub fn awaits_restart(&self) -> bool {
        self.reload_is_off && !(self.settled && self.agrees())
    }

    /// The entry of this id in the config, as a tree.
    #[must_use]
    pub fn entry(&self, id: &str) -> Option<Map<String, Value>> {
        self.agents.get(id).and_then(|row| row.entry.as_ref()).map(StoredEntry::tree)
    }

    /// Whether the config has an entry of this id.
    #[must_use]
    pub fn has_entry(&self, id: &str) -> bool {
        self.agents.get(id).is_some_and(|row| row.entry.is_some())
    }

    /// The values in which an agent's stored entry differs from the desired entry. Each of them is a known rewrite when
    /// [`Self::entry_state`] is [`EntryState::Current`].
    #[must_use]
    pub fn rewrites(&self, desired: &AgentEntry) -> Vec<Rewritten> {
        self.entry(&desired.id).map(|entry| desired.rewrites(&entry)).unwrap_or_default()
    }

    /// The merge patch that the config writer would send for an entry; `None` without a difference.
    #[must_use]
    pub fn entry_patch(&self, desired: &AgentEntry) -> Option<Map<String, Value>> {
        desired.patch(self.entry(&desired.id).as_ref())
    }

    /// The state of an agent's entry, by the rule of the config writer.
    #[must_use]
    pub fn entry_state(&self, desired: &AgentEntry) -> EntryState {
        let entry = self.entry(&desired.id);
        match (&entry, desired.patch(entry.as_ref())) {
            (None, _) => EntryState::Absent,
            (Some(_), Some(_)) => EntryState::Outdated,
            (Some(_), None) => EntryState::Current,
        }
    }
}

/// Builds the inventory from the config and the roster.
pub(crate) fn assemble(
    config: ConfigAnswer,
    roster: &RosterAnswer,
    accepted_files: &BTreeSet<String>,
    file_hashes: bool,
) -> Inventory {
    let shape = config.shape;
    let mut agents: BTreeMap<String, AgentRow> = BTreeMap::new();
    for (id, entry) in config.entries {
        let workspace = entry.texts().workspace.filter(|path| is_clean(path));
        agents.insert(id.clone(), AgentRow { id, workspace, entry: Some(entry), in_roster: false });
    }
    for agent in &roster.agents.0 {
        let Some(id) = &agent.id else { continue };
        let row = agents.entry(id.clone()).or_insert_with(|| AgentRow { id: id.clone(), ..AgentRow::default() });
        let served_from = agent.workspace.as_deref();
        // Until the config is applied, the gateway writes the files of a moved agent into the old workspace.
        let moves = row.workspace.as_deref().zip(served_from).is_some_and(|(new, old)| !same_path(new, old));
        row.in_roster = config.settled || !moves;
        if row.workspace.is_none() {
            row.workspace = served_from.map(str::to_owned);
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
        heartbeat_defaults: config.heartbeat_defaults,
        default_fallbacks: config.default_fallbacks,
        prompt_limits: config.prompt_limits,
        settled: config.settled,
        obstacle: config.obstacle,
        reload_is_off: config.reload_is_off,
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

    /// A config of 2026.9 that the gateway has not applied.
    fn unsettled_config() -> Value {
        json!({
            "parsed": {"agents": {"ownership": "explicit", "entries": {"mc-1": {"name": "A", "workspace": "~/w"}}}},
            "config": {"agents": {"entries": {"mc-1": {"name": "A", "workspace": "~/w"}, "main": {}}}},
            "hash": "h", "appliedConfigHash": "x", "configRevisionHash": "y"
        })
    }

    #[test]
    fn the_config_file_and_the_roster_are_joined_by_id() {
        let roster = json!({"agents": [{"id": "main", "workspace": "/m"}, {"id": "mc-1", "workspace": "/home/o/w"}]});
        let inventory = assemble(&unsettled_config(), &roster, &BTreeSet::new(), true);
        assert_eq!(inventory.agents["mc-1"].workspace.as_deref(), Some("~/w"));
        assert!(inventory.agents["mc-1"].in_roster && inventory.agents["main"].in_roster);
        assert!(inventory.agents["main"].entry.is_none());
        assert_eq!(inventory.capabilities.roster, RosterShape::Entries);
        assert!(inventory.explicit_ownership && !inventory.settled);
    }

    #[test]
    fn a_moved_agent_is_not_served_before_the_config_is_applied() {
        let roster = json!({"agents": [{"id": "mc-1", "workspace": "/home/o/before"}]});
        assert!(!assemble(&unsettled_config(), &roster, &BTreeSet::new(), true).agents["mc-1"].in_roster);
        let mut applied = unsettled_config();
        applied["appliedConfigHash"] = json!("y");
        assert!(
            assemble(&applied, &roster, &BTreeSet::new(), true).agents["mc-1"].in_roster,
            "the forms of a path may differ"
        );
    }

    #[test]
    fn an_entry_without_a_row_in_the_roster_is_not_served() {
        let inventory = assemble(&unsettled_config(), &json!({"agents": []}), &BTreeSet::new(), true);
        assert!(!inventory.agents["mc-1"].in_roster);
    }

    #[test]
    fn an_older_gateway_has_a_list_and_counts_as_settled() {
        let config = json!({"parsed": {"agents": {"list": [{"id": "a", "workspace": "/w"}]}}, "config": {"agents": {"list": []}}, "hash": "h"});
        let inventory = assemble(&config, &json!({"agents": []}), &BTreeSet::new(), false);
        assert_eq!(inventory.capabilities.roster, RosterShape::List);
        assert!(inventory.settled && inventory.agents.contains_key("a"));
    }

    #[test]
    fn a_gateway_that_reports_its_hashes_is_settled_when_both_are_equal_strings() {
        let with = |applied: Value, revision: Value| {
            let config = json!({"config": {}, "appliedConfigHash": applied, "configRevisionHash": revision});
            assemble(&config, &json!({}), &BTreeSet::new(), true).settled
        };
        assert!(with(json!("x"), json!("x")));
        assert!(!with(json!("x"), json!("y")) && !with(json!("x"), Value::Null) && !with(Value::Null, Value::Null));
    }
}
