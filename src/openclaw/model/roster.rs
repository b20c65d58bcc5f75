//! The gateway's answers about its config and its roster, as they are read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::agents_config::{AgentsConfig, RosterShape};
use super::readers::{List, first, lax, present};
use super::shared_heartbeats::HeartbeatRule;
use super::text::{clean, word};
use crate::openclaw::limits;

/// What is read of `config.get`.
#[derive(Debug)]
pub(crate) struct ConfigAnswer {
    /// What is wrong with the config file, when the gateway cannot read it: it goes on with the one before, and shows none.
    pub(crate) invalid: Option<String>,
    pub(crate) hash: Option<String>,
    pub(crate) shape: RosterShape,
    /// The agents' entries as they stand in the file, by id.
    pub(crate) entries: BTreeMap<String, Map<String, Value>>,
    pub(crate) explicit_ownership: bool,
    /// Which agents beat.
    pub(crate) heartbeats: HeartbeatRule,
    /// Whether the gateway has applied its last config.
    pub(crate) settled: bool,
}

/// What is read of `agents.list`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RosterAnswer {
    #[serde(deserialize_with = "word")]
    pub(crate) default_id: Option<String>,
    pub(crate) agents: List<RosterAgent, { limits::AGENTS }>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RosterAgent {
    #[serde(deserialize_with = "word")]
    pub(crate) id: Option<String>,
    #[serde(deserialize_with = "word")]
    pub(crate) workspace: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Fields {
    #[serde(deserialize_with = "lax")]
    valid: Option<bool>,
    #[serde(deserialize_with = "first")]
    issues: Option<Box<RawValue>>,
    #[serde(deserialize_with = "lax")]
    hash: Option<String>,
    /// What stands in the file.
    #[serde(deserialize_with = "lax")]
    parsed: Option<File>,
    /// The file after `$include`, before the gateway's own defaults.
    #[serde(deserialize_with = "lax")]
    resolved: Option<File>,
    /// The same with defaults filled in.
    #[serde(deserialize_with = "lax")]
    config: Option<File>,
    #[serde(deserialize_with = "present")]
    source_config: Option<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    applied_config_hash: Option<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    config_revision_hash: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    #[serde(deserialize_with = "lax")]
    agents: Option<AgentsConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Issue {
    #[serde(deserialize_with = "lax")]
    path: Option<String>,
    #[serde(deserialize_with = "lax")]
    message: Option<String>,
}

impl ConfigAnswer {
    pub(crate) fn read(text: &str) -> Result<Self, serde_json::Error> {
        let fields: Fields = serde_json::from_str(text)?;
        let config = fields.config.and_then(|file| file.agents).unwrap_or_default();
        let shape = if config.entries.is_some() { RosterShape::Entries } else { RosterShape::List };
        let written = fields.parsed.map_or(config, |file| file.agents.unwrap_or_default());
        let resolved = fields.resolved.map(|file| file.agents.unwrap_or_default());
        let heartbeats = resolved.as_ref().unwrap_or(&written);
        let heartbeats = HeartbeatRule::read(heartbeats, shape, fields.source_config.is_some())?;
        // Versions that know the two tell both, and null for a config that they cannot read.
        let settled = match (&fields.applied_config_hash, &fields.config_revision_hash) {
            (None, None) => true,
            (Some(applied), Some(revision)) => applied.get() == revision.get() && applied.get().starts_with('"'),
            (Some(_), None) | (None, Some(_)) => false,
        };
        Ok(Self {
            invalid: (fields.valid == Some(false)).then(|| invalid(fields.issues.as_deref())),
            hash: fields.hash,
            shape,
            explicit_ownership: written.ownership.as_deref() == Some("explicit"),
            entries: entries(&written, shape)?,
            heartbeats,
            settled,
        })
    }
}

impl<'de> Deserialize<'de> for ConfigAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::read(raw.get()).map_err(D::Error::custom)
    }
}

/// The agents' entries by id. They are kept as trees: one that would take too much memory is an error, since an entry that is
/// left out would count as absent.
fn entries(
    agents: &AgentsConfig,
    shape: RosterShape,
) -> Result<BTreeMap<String, Map<String, Value>>, serde_json::Error> {
    let mut left = limits::ENTRIES_COST;
    let mut read = BTreeMap::new();
    for (id, entry) in agents.roster(shape)?.into_iter().filter(|(_, entry)| entry.get().starts_with('{')) {
        left = left.checked_sub(cost(entry.get())).ok_or_else(|| {
            serde_json::Error::custom(format_args!(
                "the entries of its agents take more than {} MiB of memory",
                limits::ENTRIES_COST / 1024 / 1024
            ))
        })?;
        read.insert(id, serde_json::from_str(entry.get())?);
    }
    Ok(read)
}

/// About the memory that the tree of a JSON text takes, in bytes, and rather more: the map of an object takes as much as eleven
/// of its fields at once. A string takes what its text has.
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

/// What is wrong with a config file that the gateway cannot read.
fn invalid(issue: Option<&RawValue>) -> String {
    let raw = issue.map_or("", RawValue::get);
    let issue: Issue = serde_json::from_str(raw).unwrap_or_default();
    let said = issue.message.or_else(|| serde_json::from_str(raw).ok());
    let said = said.unwrap_or_else(|| "no reason was given".to_owned());
    let path = issue.path.filter(|path| !path.is_empty()).map(|path| format!("{path}: ")).unwrap_or_default();
    let flaw = clean(&format!("{path}{said}"));
    format!(
        "the gateway's openclaw.json is not valid ({flaw}); put it right where the gateway runs, until then its agents cannot be looked after"
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
    fn a_config_file_that_is_not_valid_is_told_with_its_first_flaw() {
        let said = |config: Value| read(&config).invalid.unwrap();
        let flawed = said(json!({"valid": false, "issues": [{"path": "agents", "message": "Expected\nobject"}, 1]}));
        assert!(flawed.contains("openclaw.json is not valid (agents: Expected object)"), "{flawed}");
        assert!(said(json!({"valid": false, "issues": ["a word"]})).contains("(a word)"));
        assert!(said(json!({"valid": false})).contains("no reason was given"));
        assert_eq!(read(&json!({"valid": true})).invalid, None);
    }

    #[test]
    fn entries_that_would_take_too_much_memory_are_an_error() {
        let bomb = format!("[{}{{}}]", r#"{"":0},"#.repeat(limits::ENTRIES_COST / 640));
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
    fn what_stands_in_a_string_costs_what_its_text_has() {
        let prompt = r#"\"{["#.to_owned() + &"{".repeat(8192) + r"\\";
        let entries: Map<String, Value> =
            (0..10).map(|n| (format!("a{n}"), json!({ "heartbeat": { "prompt": prompt } }))).collect();
        assert_eq!(read(&json!({ "config": { "agents": { "entries": entries } } })).entries.len(), 10);
        assert_eq!(cost(r#"{"a\"{":"\\","b":["{"]}"#), cost(r#"{"a\"x":"\\","b":["x"]}"#));
        assert_eq!(cost(r#"["\\",{}]"#), 2 * 64 + 640 + 6);
    }

    #[test]
    fn more_entries_than_a_gateway_may_have_are_an_error_whatever_their_names() {
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
