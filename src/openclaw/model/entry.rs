//! An agent's entry in the gateway's config: the desired entry, the actual entry, and the patch between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::env_refs::{escaped, escaped_paths, escaped_value};
use super::rewritten::{Rewritten, value_at, without};

/// The desired entry of an agent. Muster leaves keys alone that have no field here, because they belong to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentEntry {
    /// The agent's id.
    pub id: String,
    /// The display name.
    pub name: Option<String>,
    /// The path of the workspace on the gateway's host.
    pub workspace: String,
    /// The model; `None` selects the gateway's default.
    pub model: Option<EntryModel>,
    /// The identity.
    pub identity: EntryIdentity,
    /// The heartbeat.
    pub heartbeat: HeartbeatEntry,
    /// Whether a field that is `None` keeps its current value. Otherwise the patch removes the value.
    pub keeps_the_rest: bool,
    /// Further values that the entry has to have, each as a whole, by their path: a key, or `identity.` and a key.
    pub passed: BTreeMap<String, Value>,
    /// Paths of values that were passed before and have to go.
    pub retired: BTreeSet<String>,
    /// Values that the gateway is known to store in another form than they are sent.
    pub rewritten: Vec<Rewritten>,
}

/// An agent's model in the config.
///
/// A model is a string, or an object with `primary` and `fallbacks`. On 2026.5.28, 2026.7.1 and 2026.9.6, a string and an object without
/// `fallbacks` mean no fallbacks: the fallbacks of `agents.defaults.model` count only for an agent without a model of its own. On 2026.3.2
/// they count for every agent without `fallbacks` (`docs/gateway-facts.md#models`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryModel {
    /// The name of the model, `provider/model`.
    pub primary: String,
    /// The models that follow when it fails.
    pub fallbacks: EntryFallbacks,
}

/// The fallbacks of an agent's model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryFallbacks {
    /// These.
    Named(Vec<String>),
    /// The fallbacks of the entry. An entry without fallbacks gets these.
    Kept(Vec<String>),
    /// The fallbacks of the entry. An entry without a model gets these.
    KeptWithModel(Vec<String>),
}

impl Default for EntryFallbacks {
    fn default() -> Self {
        Self::Kept(Vec::new())
    }
}

impl EntryModel {
    /// The patch of the key `model`; `None` when the entry needs none.
    fn patch(&self, actual: Option<&Value>) -> Option<Value> {
        let primary = json!(escaped(&self.primary));
        let object = actual.and_then(Value::as_object);
        let has_primary = object.map_or(actual, |object| object.get("primary")) == Some(&primary);
        let stored = object.and_then(|object| object.get("fallbacks"));
        let list = |names: &Vec<String>| names.iter().map(|name| json!(escaped(name))).collect::<Value>();
        let unless = |has_own: bool, defaults| Some(list(defaults)).filter(|_| !has_own && !defaults.is_empty());
        let fallbacks = match &self.fallbacks {
            EntryFallbacks::Named(names) => Some(list(names)),
            EntryFallbacks::Kept(defaults) => unless(stored.is_some(), defaults),
            EntryFallbacks::KeptWithModel(defaults) => unless(actual.is_some(), defaults),
        };
        let fallbacks = fallbacks.filter(|list| stored != Some(list));
        match (has_primary, fallbacks, object) {
            (true, None, _) => None,
            (true, Some(fallbacks), Some(_)) => Some(json!({ "fallbacks": fallbacks })),
            (_, Some(fallbacks), _) => Some(json!({ "primary": primary, "fallbacks": fallbacks })),
            (false, None, Some(_)) => Some(json!({ "primary": primary })),
            (false, None, None) => Some(primary),
        }
    }
}

/// An agent's identity in the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryIdentity {
    /// The name.
    pub name: Option<String>,
    /// The emoji.
    pub emoji: Option<String>,
    /// The picture.
    pub avatar: Option<String>,
}

/// An agent's heartbeat in the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatEntry {
    /// The time between two runs, such as `5m`; `0m` turns heartbeats off.
    pub every: Option<String>,
    /// The channel that gets the text of a run.
    pub target: Option<String>,
    /// The prompt of a run.
    pub prompt: Option<String>,
    /// The model of a run.
    pub model: Option<String>,
    /// The hours in which the gateway runs heartbeats.
    pub active_hours: Option<EntryActiveHours>,
    /// Whether a run gets no workspace files.
    pub light_context: Option<bool>,
    /// Whether each run has a session of its own.
    pub isolated_session: Option<bool>,
}

/// A duration in the form of the gateway's config: minutes or seconds, such as `5m` and `90s`. Zero is `0m`, which turns
/// heartbeats off.
#[must_use]
pub fn config_duration(time: Duration) -> String {
    match time.as_secs() {
        0 => "0m".to_owned(),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// A daily window of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryActiveHours {
    /// The first minute, `HH:MM`.
    pub start: String,
    /// The end, `HH:MM`.
    pub end: String,
    /// The IANA name of the time zone.
    pub timezone: Option<String>,
}

/// The difference between the actual and the desired entry of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// The config has no entry.
    Absent,
    /// The entry differs.
    Outdated,
    /// The entry needs no write.
    Current,
}

impl AgentEntry {
    /// The JSON merge patch (RFC 7386) from `actual` to the desired entry; `None` when the patch would be empty. Values that
    /// the gateway is known to rewrite count as equal.
    pub(crate) fn patch(&self, actual: Option<&Map<String, Value>>) -> Option<Map<String, Value>> {
        let patch = match actual {
            Some(entry) => without(self.differences(actual), entry, &self.rewritten),
            None => self.differences(None),
        };
        (!patch.is_empty()).then_some(patch)
    }

    /// The values in which an entry that the gateway has just stored differs from this entry.
    pub(crate) fn rewrites(&self, stored: &Map<String, Value>) -> Vec<Rewritten> {
        Rewritten::all(&self.differences(Some(stored)), stored)
    }

    /// The keys whose text has a reference to the gateway's environment, such as `heartbeat.prompt`. Muster writes an escape there.
    #[must_use]
    pub fn escaped_keys(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        escaped_paths(&Value::Object(self.differences(None)), "", &mut found);
        found
    }

    /// The merge patch, rewritten values included.
    fn differences(&self, actual: Option<&Map<String, Value>>) -> Map<String, Value> {
        let empty = Map::new();
        let entry = actual.unwrap_or(&empty);
        let rest = if self.keeps_the_rest { Rest::Kept } else { Rest::Removed };
        let mut patch = Map::new();
        put(&mut patch, "name", text(self.name.as_ref()), entry.get("name"), rest);
        match entry.get("workspace").and_then(Value::as_str) {
            Some(workspace) if same_path(&self.workspace, workspace) => {}
            // The gateway has a default workspace for an entry without one.
            None if actual.is_some() && self.keeps_the_rest => {}
            Some(_) | None => {
                patch.insert("workspace".into(), json!(self.workspace));
            }
        }
        match &self.model {
            Some(model) => patch.extend(model.patch(entry.get("model")).map(|model| ("model".to_owned(), model))),
            None => put(&mut patch, "model", None, entry.get("model"), rest),
        }
        let mut identity = self.identity.desired();
        if rest == Rest::Kept && entry.get("identity").is_none_or(|identity| identity.get("name").is_none()) {
            // Without `identity.name` the gateway shows the entry's `name`.
            identity.retain(|(key, _)| *key != "name");
        }
        nested(&mut patch, "identity", identity, entry.get("identity"), rest);
        let heartbeat = entry.get("heartbeat");
        if rest == Rest::Removed {
            remove_foreign(&mut patch, "heartbeat", &self.heartbeat.desired(), heartbeat);
        }
        nested(&mut patch, "heartbeat", self.heartbeat.desired(), heartbeat, rest);
        self.pass(&mut patch, entry);
        patch
    }
}

impl AgentEntry {
    /// Adds the patches of the values that are passed through, and the removal of those that were.
    fn pass(&self, patch: &mut Map<String, Value>, entry: &Map<String, Value>) {
        let desired = self.passed.iter().map(|(path, value)| (path, Some(escaped_value(value))));
        let retired = self.retired.iter().map(|path| (path, None));
        for (path, value) in desired.chain(retired) {
            let actual = value_at(entry, path);
            match path.split_once('.') {
                None => put(patch, path, value, actual, Rest::Removed),
                Some((outer, inner)) => {
                    let mut one = Map::new();
                    put(&mut one, inner, value, actual, Rest::Removed);
                    extend(patch, outer, one);
                }
            }
        }
    }
}

/// The treatment of fields that are `None` in the desired entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Removed,
    Kept,
}

/// A text in the form of the config.
fn text(value: Option<&String>) -> Option<Value> {
    value.map(|value| json!(escaped(value)))
}

/// Whether two paths on the gateway's host are the same. Gateways up to 2026.7 store a path that begins with `~/` in full
/// length (`docs/gateway-facts.md#agents`). Muster does not know the gateway's home directory and compares the part after `~`.
#[must_use]
pub fn same_path(one: &str, other: &str) -> bool {
    let expands_to = |short: &str, full: &str| {
        short
            .strip_prefix('~')
            .is_some_and(|rest| rest.starts_with('/') && full.starts_with('/') && full.ends_with(rest))
    };
    let (one, other) = (one.trim_end_matches('/'), other.trim_end_matches('/'));
    one == other || expands_to(one, other) || expands_to(other, one)
}

/// Adds the patch of one key.
fn put(patch: &mut Map<String, Value>, key: &str, desired: Option<Value>, actual: Option<&Value>, rest: Rest) {
    match desired {
        Some(desired) if actual != Some(&desired) => {
            patch.insert(key.into(), difference(desired, actual));
        }
        None if rest == Rest::Removed && actual.is_some_and(|v| !v.is_null()) => {
            patch.insert(key.into(), Value::Null);
        }
        Some(_) | None => {}
    }
}

/// The patch between two values. A merge patch keeps unnamed keys of an object, so that the patch sets them to null.
fn difference(desired: Value, actual: Option<&Value>) -> Value {
    match (desired, actual) {
        (Value::Object(mut desired), Some(Value::Object(actual))) => {
            for key in actual.keys() {
                desired.entry(key.clone()).or_insert(Value::Null);
            }
            desired.retain(|key, value| actual.get(key) != Some(value));
            Value::Object(desired)
        }
        (desired, _) => desired,
    }
}

/// The desired values of the keys of an object.
type DesiredKeys = Vec<(&'static str, Option<Value>)>;

/// Adds the patches of the keys of an object.
fn nested(patch: &mut Map<String, Value>, key: &str, desired: DesiredKeys, actual: Option<&Value>, rest: Rest) {
    let mut inner = Map::new();
    for (name, value) in desired {
        put(&mut inner, name, value, actual.and_then(|object| object.get(name)), rest);
    }
    extend(patch, key, inner);
}

/// Adds the removal of the keys that Muster does not know.
fn remove_foreign(patch: &mut Map<String, Value>, key: &str, desired: &DesiredKeys, actual: Option<&Value>) {
    let keys = actual.and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let foreign = keys.filter(|k| !desired.iter().any(|(name, _)| name == k));
    extend(patch, key, foreign.map(|key| (key.clone(), Value::Null)).collect());
}

fn extend(patch: &mut Map<String, Value>, key: &str, more: Map<String, Value>) {
    for (name, value) in more {
        let inner = patch.entry(key).or_insert_with(|| json!({}));
        inner[name] = value;
    }
}

impl EntryIdentity {
    fn desired(&self) -> DesiredKeys {
        vec![
            ("name", text(self.name.as_ref())),
            ("emoji", text(self.emoji.as_ref())),
            ("avatar", text(self.avatar.as_ref())),
        ]
    }
}

impl HeartbeatEntry {
    fn desired(&self) -> DesiredKeys {
        let hours = self.active_hours.as_ref().map(|h| {
            let mut hours = json!({ "start": escaped(&h.start), "end": escaped(&h.end) });
            if let Some(timezone) = &h.timezone {
                hours["timezone"] = json!(escaped(timezone));
            }
            hours
        });
        vec![
            ("every", text(self.every.as_ref())),
            ("target", text(self.target.as_ref())),
            ("prompt", text(self.prompt.as_ref())),
            ("model", text(self.model.as_ref())),
            ("activeHours", hours),
            ("lightContext", self.light_context.map(Value::Bool)),
            ("isolatedSession", self.isolated_session.map(Value::Bool)),
        ]
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
