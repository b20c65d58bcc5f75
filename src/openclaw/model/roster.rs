//! The answers of `config.get` and `agents.list`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::agent_heartbeat::HeartbeatDefaults;
use super::agents_config::{AgentsConfig, RosterShape};
use super::config_file::{ConfigFile, ConfigObstacle, IncludeRule, RawDirective, with_included};
use super::prompt_limits::PromptLimits;
use super::readers::{List, first, lax, present, short};
use super::shared_heartbeats::HeartbeatRule;
use super::stored_entry::StoredEntry;
use super::text::{clean, word};
use crate::openclaw::limits;

/// The answer of `config.get`.
#[derive(Debug)]
pub(crate) struct ConfigAnswer {
    /// The error of an invalid config file. The gateway then runs with the previous config and shows none
    /// (`docs/gateway-facts.md#invalid-config-file`).
    pub(crate) invalid: Option<String>,
    pub(crate) hash: Option<String>,
    pub(crate) shape: RosterShape,
    /// The agents' entries of the config file, by id.
    pub(crate) entries: StoredEntries,
    /// The estimated memory of the entries, in bytes.
    pub(crate) bytes: usize,
    pub(crate) explicit_ownership: bool,
    pub(crate) heartbeats: HeartbeatRule,
    pub(crate) heartbeat_defaults: HeartbeatDefaults,
    pub(crate) default_fallbacks: Vec<String>,
    pub(crate) prompt_limits: PromptLimits,
    /// Whether the gateway has applied its last config.
    pub(crate) settled: bool,
    /// Why the gateway cannot write its roster, as far as its answer shows.
    pub(crate) obstacle: Option<ConfigObstacle>,
    /// Whether the gateway applies a changed config at its next start alone.
    pub(crate) reload_is_off: bool,
}

/// The answer of `agents.list`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RosterAnswer {
    #[serde(deserialize_with = "word")]
    pub(crate) default_id: Option<String>,
    pub(crate) agents: List<RawRosterAgent, { limits::AGENTS }>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawRosterAgent {
    #[serde(deserialize_with = "word")]
    pub(crate) id: Option<String>,
    #[serde(deserialize_with = "word")]
    pub(crate) workspace: Option<String>,
}

/// The fields of `config.get` that Muster reads.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawConfigAnswer<'a> {
    #[serde(deserialize_with = "lax")]
    valid: Option<bool>,
    #[serde(deserialize_with = "first")]
    issues: Option<Box<RawValue>>,
    #[serde(deserialize_with = "short::<_, { limits::HASH }>")]
    hash: Option<String>,
    /// The file as it is.
    #[serde(borrow)]
    parsed: Option<&'a RawValue>,
    /// The file after `$include`, without the gateway's defaults.
    #[serde(deserialize_with = "lax")]
    resolved: Option<ConfigFile>,
    /// The file after `$include`, with the gateway's defaults.
    #[serde(deserialize_with = "lax")]
    config: Option<ConfigFile>,
    #[serde(deserialize_with = "lax")]
    include_provenance: Option<List<RawDirective, { limits::AGENTS }>>,
    #[serde(deserialize_with = "lax")]
    agent_roster_include_owned: Option<bool>,
    #[serde(deserialize_with = "present")]
    source_config: Option<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    applied_config_hash: Option<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    config_revision_hash: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawIssue {
    #[serde(deserialize_with = "lax")]
    path: Option<String>,
    #[serde(deserialize_with = "lax")]
    message: Option<String>,
}

impl RosterAnswer {
    /// The estimated memory of the answer and of the rows that are made of it, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        const PER_AGENT: usize = 512;
        let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.agents.0.iter().map(|agent| PER_AGENT + 3 * len(&agent.id) + 2 * len(&agent.workspace)).sum()
    }
}

impl ConfigAnswer {
    pub(crate) fn read(text: &str) -> Result<Self, serde_json::Error> {
        let raw: RawConfigAnswer<'_> = serde_json::from_str(text)?;
        let config = raw.config.unwrap_or_default();
        let has_entries = config.agents.as_ref().is_some_and(|agents| agents.entries.is_some());
        let shape = if has_entries { RosterShape::Entries } else { RosterShape::List };
        let file: ConfigFile = raw.parsed.and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or(config);
        let effective = raw.resolved.as_ref().unwrap_or(&file);
        let rule = match (shape, raw.source_config.is_some()) {
            (RosterShape::List, false) => IncludeRule::Replaced,
            (RosterShape::List, true) => IncludeRule::Never,
            (RosterShape::Entries, _) => {
                let directives = raw.include_provenance.as_ref().map(|list| list.0.as_slice());
                match (raw.agent_roster_include_owned, directives) {
                    (Some(true), directives) => IncludeRule::SoleOwner(directives),
                    (Some(false), Some(directives)) => {
                        let agents = effective.agents.as_ref();
                        IncludeRule::NoOwner(directives, agents.is_some_and(AgentsConfig::has_system_agent))
                    }
                    (Some(false), None) | (None, _) => IncludeRule::SoleOwner(None),
                }
            }
        };
        let obstacle = raw.parsed.and_then(|text| file.obstacle(text, rule));
        let reload_is_off = effective.reload_is_off();
        let none = AgentsConfig::default();
        let agents = effective.agents.as_ref().unwrap_or(&none);
        let heartbeats = HeartbeatRule::read(agents, shape, raw.source_config.is_some())?;
        // Versions that have the two fields send both, with null for a config that they cannot read.
        let settled = match (&raw.applied_config_hash, &raw.config_revision_hash) {
            (None, None) => true,
            (Some(applied), Some(revision)) => applied.get() == revision.get() && applied.get().starts_with('"'),
            (Some(_), None) | (None, Some(_)) => false,
        };
        let includes = raw.agent_roster_include_owned != Some(false) && file.includes_entries();
        let (entries, bytes) = entries(&file, raw.resolved.as_ref().filter(|_| includes), shape)?;
        Ok(Self {
            invalid: (raw.valid == Some(false)).then(|| invalid(raw.issues.as_deref())),
            hash: raw.hash,
            shape,
            explicit_ownership: agents.ownership.as_deref() == Some("explicit"),
            entries,
            bytes,
            heartbeats,
            heartbeat_defaults: HeartbeatDefaults::read(agents, effective.is_cron_disabled()),
            default_fallbacks: agents.default_fallbacks(),
            prompt_limits: agents.prompt_limits(),
            settled,
            obstacle,
            reload_is_off,
        })
    }
}

impl<'de> Deserialize<'de> for ConfigAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::read(raw.get()).map_err(D::Error::custom)
    }
}

/// The agents' entries by id.
type StoredEntries = BTreeMap<String, StoredEntry>;

/// The agents' entries by id, and their estimated memory. `resolved` is given when the file does not show all entries.
///
/// # Errors
/// The entries exceed [`limits::ENTRY_TREES`]. A shortened map would show the other agents as absent.
fn entries(
    file: &ConfigFile,
    resolved: Option<&ConfigFile>,
    shape: RosterShape,
) -> Result<(StoredEntries, usize), serde_json::Error> {
    /// The row of an agent, without its texts.
    const PER_AGENT: usize = 512;

    let mut budget = limits::ENTRY_TREES;
    let mut read = |file: &ConfigFile| {
        let mut read = BTreeMap::new();
        // 2026.9.6 reads a file with `agents.list` as entries, and converts the file with its next write.
        let is_list = file.agents.as_ref().is_some_and(|agents| agents.entries.is_none() && agents.list.is_some());
        let written = if is_list { RosterShape::List } else { shape };
        let agents = file.agents.as_ref().map(|agents| agents.roster(written)).transpose()?.unwrap_or_default();
        for (id, entry) in agents.into_iter().filter(|(_, entry)| entry.get().starts_with('{')) {
            budget = budget.checked_sub(cost(entry.get())).ok_or_else(|| {
                serde_json::Error::custom(limits::Exceeded(format!(
                    "the entries of the agents take more than {} MiB of memory",
                    limits::ENTRY_TREES / 1024 / 1024
                )))
            })?;
            let mut entry: Map<String, Value> = serde_json::from_str(entry.get())?;
            if written != shape {
                entry.remove("id");
            }
            read.insert(id, StoredEntry::from(&entry));
        }
        Ok::<_, serde_json::Error>(read)
    };
    let written = read(file)?;
    let entries = match resolved {
        Some(resolved) => with_included(written, read(resolved)?),
        None => written,
    };
    // The row has the id twice, and the workspace beside the entry.
    let bytes = entries.iter().map(|(id, entry)| PER_AGENT + 2 * id.len() + 2 * entry.bytes()).sum();
    Ok((entries, bytes))
}

/// An upper estimate of the memory of the tree of a JSON text, in bytes. The map of an object allocates the memory of eleven
/// fields at once. A string takes the bytes of its text.
fn cost(text: &str) -> usize {
    let (mut in_string, mut escaped) = (false, false);
    let byte = |byte: u8| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ => {}
        }
        match byte {
            b'{' if !in_string => 640,
            b'[' | b',' if !in_string => 64,
            _ => 1,
        }
    };
    text.bytes().map(byte).sum()
}

/// The error of an invalid config file, with the gateway's first issue.
fn invalid(issue: Option<&RawValue>) -> String {
    let raw = issue.map_or("", RawValue::get);
    let issue: RawIssue = serde_json::from_str(raw).unwrap_or_default();
    let message = issue.message.or_else(|| serde_json::from_str(raw).ok());
    let message = message.unwrap_or_else(|| "the gateway gives no reason".to_owned());
    let path = issue.path.filter(|path| !path.is_empty()).map(|path| format!("{path}: ")).unwrap_or_default();
    let issue = clean(&format!("{path}{message}"));
    format!(
        "the gateway's openclaw.json is not valid ({issue}); correct the file where the gateway runs. Until then Muster cannot manage its \
         agents"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: &Value) -> ConfigAnswer {
        ConfigAnswer::read(&config.to_string()).unwrap()
    }

    #[test]
    fn an_invalid_config_file_is_reported_with_its_first_issue() {
        let invalid = |config: Value| read(&config).invalid.unwrap();
        let message =
            invalid(json!({"valid": false, "issues": [{"path": "agents", "message": "Expected\nobject"}, 1]}));
        assert!(message.contains("openclaw.json is not valid (agents: Expected object)"), "{message}");
        assert!(invalid(json!({"valid": false, "issues": ["a word"]})).contains("(a word)"));
        assert!(invalid(json!({"valid": false})).contains("gives no reason"));
        assert_eq!(read(&json!({"valid": true})).invalid, None);
    }

    #[test]
    fn the_default_fallbacks_are_read_from_the_resolved_file_and_anything_strange_counts_as_none() {
        let fallbacks = |model: Value| {
            let agents = json!({ "agents": { "defaults": { "model": model }, "entries": {} } });
            read(&json!({ "config": {}, "parsed": {}, "resolved": agents })).default_fallbacks
        };
        assert_eq!(fallbacks(json!({ "primary": "a/b", "fallbacks": ["c/d", "e/f"] })), ["c/d", "e/f"]);
        for model in [
            json!("a/b"),
            json!({ "primary": "a/b" }),
            json!({ "fallbacks": "x" }),
            json!({ "fallbacks": ["\u{202e}"] }),
        ] {
            assert_eq!(fallbacks(model.clone()), [""; 0], "{model}");
        }
        let many: Vec<_> = (0..=limits::FALLBACKS).map(|n| format!("m/{n}")).collect();
        assert_eq!(fallbacks(json!({ "fallbacks": many })), [""; 0]);
    }

    #[test]
    fn a_list_in_the_file_of_a_gateway_with_entries_is_its_entries() {
        let list = json!({ "agents": { "list": [{ "id": "coder", "name": "Coder" }, { "name": "nobody" }] } });
        let entries = json!({ "agents": { "entries": { "coder": { "name": "Coder" }, "main": {} } } });
        let answer = read(&json!({ "config": entries, "parsed": list, "resolved": entries }));
        assert_eq!(answer.shape, RosterShape::Entries);
        let expected = StoredEntry::from(json!({ "name": "Coder" }).as_object().unwrap());
        assert_eq!(answer.entries, BTreeMap::from([("coder".to_owned(), expected)]));
    }

    #[test]
    fn entries_beyond_the_memory_bound_are_an_error() {
        let bomb = format!("[{}{{}}]", r#"{"":0},"#.repeat(limits::ENTRY_TREES / 640));
        for agents in
            [format!(r#"{{"entries":{{"a":{{"x":{bomb}}}}}}}"#), format!(r#"{{"list":[{{"id":"a","x":{bomb}}}]}}"#)]
        {
            let text = format!(r#"{{"config":{{"agents":{agents}}},"other":{bomb}}}"#);
            assert!(ConfigAnswer::read(&text).unwrap_err().to_string().contains("of memory"));
        }
        let beside = format!(r#"{{"config":{{"agents":{{"list":[{{"id":"a"}}]}},"other":{bomb}}}}}"#);
        assert_eq!(ConfigAnswer::read(&beside).unwrap().entries.len(), 1);
    }

    #[test]
    fn a_string_costs_the_bytes_of_its_text() {
        let prompt = r#"\"{["#.to_owned() + &"{".repeat(8192) + r"\\";
        let entries: Map<String, Value> =
            (0..10).map(|n| (format!("a{n}"), json!({ "heartbeat": { "prompt": prompt } }))).collect();
        assert_eq!(read(&json!({ "config": { "agents": { "entries": entries } } })).entries.len(), 10);
        assert_eq!(cost(r#"{"a\"{":"\\","b":["{"]}"#), cost(r#"{"a\"x":"\\","b":["x"]}"#));
        assert_eq!(cost(r#"["\\",{}]"#), 2 * 64 + 640 + 6);
    }

    #[test]
    fn too_many_entries_are_an_error_whatever_their_ids() {
        for name in ["a", "\\n"] {
            let many: Vec<_> = (0..=limits::AGENTS).map(|n| format!("\"{name}{n}\":{{}}")).collect();
            let many = format!(r#"{{"agents":{{"entries":{{{}}}}}}}"#, many.join(","));
            let few = r#"{"agents":{"entries":{}}}"#;
            for (parsed, resolved) in [(many.as_str(), few), (few, many.as_str())] {
                let text = format!(r#"{{"config":{few},"parsed":{parsed},"resolved":{resolved}}}"#);
                let error = ConfigAnswer::read(&text).map(drop).unwrap_err().to_string();
                assert!(error.contains("more than 10000 keys"), "{error}");
            }
        }
    }
}
