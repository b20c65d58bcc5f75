//! The config file in the answer of `config.get`, and whether the gateway can write Muster's entries into it.
//!
//! `$include` moves a part of the config into another file. `parsed` of `config.get` shows the directive, `resolved` the values. Whether a
//! write goes through a directive depends on the version (`docs/gateway-facts.md#config-layouts`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::agents_config::{AgentsConfig, has_directive};
use super::env_refs::escaped_value;
use super::readers::{lax, present};
use super::stored_entry::StoredEntry;
use super::text::clean;

/// The key of a directive.
pub(crate) const INCLUDE: &str = "$include";
/// The parts of the path of an entry.
const ENTRY_DEPTH: usize = 3;

/// A config file, as far as Muster reads it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigFile {
    #[serde(rename = "$include", deserialize_with = "present")]
    include: Option<Box<RawValue>>,
    #[serde(deserialize_with = "lax")]
    pub(crate) agents: Option<AgentsConfig>,
    #[serde(deserialize_with = "lax")]
    gateway: Option<RawGatewayConfig>,
    #[serde(deserialize_with = "lax")]
    cron: Option<RawCron>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCron {
    #[serde(deserialize_with = "lax")]
    enabled: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawGatewayConfig {
    #[serde(deserialize_with = "lax")]
    reload: Option<RawReload>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawReload {
    #[serde(deserialize_with = "lax")]
    mode: Option<String>,
}

/// A directive in `includeProvenance`, which 2026.9.6 answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RawDirective {
    #[serde(deserialize_with = "lax")]
    path: Option<Vec<String>>,
    #[serde(deserialize_with = "lax")]
    kind: Option<String>,
    #[serde(deserialize_with = "lax")]
    has_sibling_overrides: Option<bool>,
    #[serde(deserialize_with = "lax")]
    has_array_ancestor: Option<bool>,
    #[serde(deserialize_with = "lax")]
    target_path: Option<String>,
}

/// Why the gateway cannot write Muster's entries into its config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigObstacle {
    /// The key with the directive; `None` for the whole file.
    pub key: Option<String>,
    /// The included file, if the gateway names it.
    pub file: Option<String>,
    /// What a write would do.
    pub effect: ObstacleEffect,
}

/// The effect of a write through a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObstacleEffect {
    /// The gateway refuses the write. It would accept the directive of one file that owns `agents` or `agents.entries` alone.
    RefusedUnlessSole,
    /// The gateway refuses the first agent. With it, it would write `agents.defaults.systemAgent` into the included file.
    RefusesFirst,
    /// The gateway refuses the write. It writes `agents.list` into openclaw.json alone.
    Refused,
    /// The gateway replaces every directive of the file by the included values.
    Replaces,
}

/// The rule of the gateway for writes through a directive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IncludeRule<'a> {
    /// 2026.3.2: a write replaces every directive.
    Replaced,
    /// Other versions with `agents.list`: a directive at the root, at `agents` or at `agents.list` is not written through.
    Never,
    /// Versions with `agents.entries`: the directives, and whether they own the roster. Without them nothing is known.
    SoleOwner(Option<&'a [RawDirective]>),
    /// The same versions, when no directive owns the roster: the directives, and whether the config has `agents.defaults.systemAgent`.
    NoOwner(&'a [RawDirective], bool),
}

impl ConfigFile {
    /// Whether `cron.enabled` is false.
    pub(crate) fn is_cron_disabled(&self) -> bool {
        self.cron.as_ref().is_some_and(|cron| cron.enabled == Some(false))
    }

    /// Whether `gateway.reload.mode` is `off`: the gateway applies a changed config at its next start.
    pub(crate) fn reload_is_off(&self) -> bool {
        let mode = self.gateway.as_ref().and_then(|gateway| gateway.reload.as_ref()?.mode.as_deref());
        mode == Some("off")
    }

    /// Whether a directive can hold entries that this file does not show.
    pub(crate) fn includes_entries(&self) -> bool {
        let agents = self.agents.as_ref();
        self.include.is_some() || agents.is_some_and(|agents| agents.include.is_some() || agents.includes_entries())
    }

    /// Why the gateway cannot write its roster; `None` if nothing speaks against it. `text` is the file itself.
    pub(crate) fn obstacle(&self, text: &RawValue, rule: IncludeRule<'_>) -> Option<ConfigObstacle> {
        let at = |key: Option<&str>, effect| ConfigObstacle { key: key.map(str::to_owned), file: None, effect };
        match rule {
            IncludeRule::Replaced => has_directive(text).then(|| at(None, ObstacleEffect::Replaces)),
            IncludeRule::Never => {
                let agents = self.agents.as_ref();
                let key = if self.include.is_some() {
                    None
                } else if agents.is_some_and(|agents| agents.include.is_some()) {
                    Some("agents")
                } else if agents.is_some_and(AgentsConfig::includes_list) {
                    Some("agents.list")
                } else {
                    return None;
                };
                Some(at(key, ObstacleEffect::Refused))
            }
            IncludeRule::SoleOwner(directives) => shared_owner(directives?),
            IncludeRule::NoOwner(directives, has_system_agent) => self.refused_first(directives, has_system_agent),
        }
    }

    /// The directive through which the gateway would write when it gets its first entry, or beside which it writes no roster
    /// (`docs/gateway-facts.md#config-layouts`).
    fn refused_first(&self, directives: &[RawDirective], has_system_agent: bool) -> Option<ConfigObstacle> {
        let own = self.agents.as_ref();
        let has_roster = own.is_some_and(AgentsConfig::has_roster);
        // A system agent of the included file does not help a roster in openclaw.json.
        let has_own_system_agent = own.is_some_and(AgentsConfig::has_system_agent);
        let effect = |path: &[String]| match path {
            [] if has_roster => (!has_own_system_agent).then_some(ObstacleEffect::RefusedUnlessSole),
            [] if own.is_none() => (!has_system_agent).then_some(ObstacleEffect::RefusedUnlessSole),
            [agents, defaults] if agents == "agents" && defaults == "defaults" => {
                (!has_roster && !has_system_agent).then_some(ObstacleEffect::RefusesFirst)
            }
            _ => None,
        };
        let obstacle = |directive: &RawDirective| Some(directive.obstacle(effect(directive.path.as_deref()?)?));
        directives.iter().find_map(obstacle)
    }
}

/// The directive that keeps the gateway from a write of its roster: one that owns the roster, or an entry, with others.
fn shared_owner(directives: &[RawDirective]) -> Option<ConfigObstacle> {
    let roster = ["agents", "entries"];
    let owns = |path: &[String]| path.iter().zip(roster).all(|(part, name)| part == name) && path.len() <= ENTRY_DEPTH;
    let mut owners = directives.iter().filter_map(|directive| Some((directive, directive.path.as_deref()?)));
    let (directive, _) = owners.find(|(directive, path)| {
        let within = |other: &RawDirective| {
            other.path.as_deref().is_some_and(|other| other.len() > path.len() && other.starts_with(path))
        };
        let is_sole = directive.kind.as_deref() == Some("single")
            && directive.has_sibling_overrides != Some(true)
            && directive.has_array_ancestor != Some(true)
            && !directives.iter().any(within);
        owns(path) && (path.is_empty() || !is_sole)
    })?;
    Some(directive.obstacle(ObstacleEffect::RefusedUnlessSole))
}

impl RawDirective {
    fn obstacle(&self, effect: ObstacleEffect) -> ConfigObstacle {
        let path = self.path.as_deref().filter(|path| !path.is_empty());
        ConfigObstacle {
            key: path.map(|path| clean(&path.join("."))),
            file: self.target_path.as_deref().map(clean),
            effect,
        }
    }
}

/// The entries of a config: those of the file as they are written there, and those of included files in the form in which they are written.
///
/// `resolved` shows `$${NAME}` as `${NAME}`, and 2026.9.6 adds an entry for an implicit `main`. So the file counts where it shows an entry
/// (`docs/gateway-facts.md#config-layouts`).
pub(crate) fn with_included(
    written: BTreeMap<String, StoredEntry>,
    resolved: BTreeMap<String, StoredEntry>,
) -> BTreeMap<String, StoredEntry> {
    let includes = |entry: &Map<String, Value>| entry.contains_key(INCLUDE) || entry.values().any(is_directive);
    let known: BTreeSet<String> = written
        .iter()
        .filter(|(_, entry)| !(entry.mentions(INCLUDE) && includes(&entry.tree())))
        .map(|(id, _)| id.clone())
        .collect();
    let escaped = |entry: &StoredEntry| -> Map<String, Value> {
        entry.tree().into_iter().map(|(key, value)| (key, escaped_value(&value))).collect()
    };
    let mut entries: BTreeMap<_, _> = resolved
        .into_iter()
        .filter(|(id, _)| !known.contains(id))
        .map(|(id, entry)| (id, StoredEntry::from(&escaped(&entry))))
        .collect();
    entries.extend(written.into_iter().filter(|(id, _)| known.contains(id)));
    entries
}

/// Whether a value is a directive, or has one.
fn is_directive(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key(INCLUDE) || fields.values().any(is_directive),
        Value::Array(items) => items.iter().any(is_directive),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
#[path = "config_file_tests.rs"]
mod tests;
