//! An agent's entry in the gateway's config: what it should be, what it is, and the patch between the two.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::env_refs::escaped;
use super::rewritten::{Rewritten, without};

/// What an agent's entry should be. Keys that have no field here belong to others and are left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEntry {
    /// The agent's id.
    pub id: String,
    /// Its name as people read it.
    pub name: Option<String>,
    /// Its workspace.
    pub workspace: String,
    /// Its model; the gateway's default without one.
    pub model: Option<String>,
    /// Its identity.
    pub identity: EntryIdentity,
    /// Its heartbeat.
    pub heartbeat: HeartbeatEntry,
    /// Whether what is `None` here stays as it is, and is not to be absent.
    pub keeps_the_rest: bool,
    /// Values that the gateway is known to store otherwise than they are sent.
    pub rewritten: Vec<Rewritten>,
}

/// An agent's identity in the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryIdentity {
    /// Name.
    pub name: Option<String>,
    /// Emoji.
    pub emoji: Option<String>,
    /// Picture.
    pub avatar: Option<String>,
}

/// An agent's heartbeat in the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatEntry {
    /// Time between two runs, `5m`; `0m` turns them off.
    pub every: Option<String>,
    /// Where the text of a run is delivered.
    pub target: Option<String>,
    /// The prompt of a run.
    pub prompt: Option<String>,
    /// The model of a run.
    pub model: Option<String>,
    /// The hours in which there are runs.
    pub active_hours: Option<EntryActiveHours>,
}

/// A length of time as Muster writes it into the gateway's config; `0m` turns heartbeats off.
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
    /// `HH:MM`.
    pub start: String,
    /// `HH:MM`.
    pub end: String,
    /// IANA name of the time zone.
    pub timezone: Option<String>,
}

/// An agent's entry, compared with what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// There is none.
    Absent,
    /// It differs.
    Outdated,
    /// There is nothing to write.
    Current,
}

impl AgentEntry {
    /// The JSON merge patch (RFC 7386) that makes `is` what it should be; `None` when there is nothing to change. What the
    /// gateway is known to store otherwise counts as what it should be.
    pub(crate) fn patch(&self, is: Option<&Map<String, Value>>) -> Option<Map<String, Value>> {
        let patch = match is {
            Some(there) => without(self.differences(is), there, &self.rewritten),
            None => self.differences(is),
        };
        (!patch.is_empty()).then_some(patch)
    }

    /// The values in which an entry that the gateway has just taken differs from this one.
    pub(crate) fn rewrites(&self, there: &Map<String, Value>) -> Vec<Rewritten> {
        Rewritten::all(&self.differences(Some(there)), there)
    }

    /// The merge patch, with nothing taken as equal that is not.
    fn differences(&self, is: Option<&Map<String, Value>>) -> Map<String, Value> {
        let empty = Map::new();
        let there = is.unwrap_or(&empty);
        let rest = if self.keeps_the_rest { Rest::Kept } else { Rest::Removed };
        let mut patch = Map::new();
        put(&mut patch, "name", text(self.name.as_ref()), there.get("name"), rest);
        match there.get("workspace").and_then(Value::as_str) {
            Some(is) if same_path(&self.workspace, is) => {}
            // The gateway has a place for an agent whose entry names none.
            None if is.is_some() && self.keeps_the_rest => {}
            Some(_) | None => {
                patch.insert("workspace".into(), json!(self.workspace));
            }
        }
        // A model may also stand as an object with a primary one.
        let model = there.get("model").map(|m| m.get("primary").unwrap_or(m));
        put(&mut patch, "model", text(self.model.as_ref()), model, rest);
        let mut identity = self.identity.wanted();
        if rest == Rest::Kept && there.get("identity").is_none_or(|is| is.get("name").is_none()) {
            // The gateway goes by the entry's own name then.
            identity.retain(|(key, _)| *key != "name");
        }
        nested(&mut patch, "identity", identity, there.get("identity"), rest);
        let heartbeat = there.get("heartbeat");
        if rest == Rest::Removed {
            remove_foreign(&mut patch, "heartbeat", &self.heartbeat.wanted(), heartbeat);
        }
        nested(&mut patch, "heartbeat", self.heartbeat.wanted(), heartbeat, rest);
        patch
    }
}

/// What becomes of what an entry has and is not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Removed,
    Kept,
}

/// A text as it stands in the config.
fn text(value: Option<&String>) -> Option<Value> {
    value.map(|value| json!(escaped(value)))
}

/// Whether two paths on the gateway's host are the same. Gateways up to 2026.7 write a path that begins with `~/` out in
/// full (measured); nobody else knows their home.
#[must_use]
pub fn same_path(one: &str, other: &str) -> bool {
    let in_full = |short: &str, full: &str| {
        short
            .strip_prefix('~')
            .is_some_and(|rest| rest.starts_with('/') && full.starts_with('/') && full.ends_with(rest))
    };
    let (one, other) = (one.trim_end_matches('/'), other.trim_end_matches('/'));
    one == other || in_full(one, other) || in_full(other, one)
}

/// Adds what makes one key what it should be.
fn put(patch: &mut Map<String, Value>, key: &str, want: Option<Value>, is: Option<&Value>, rest: Rest) {
    match want {
        Some(want) if is != Some(&want) => {
            patch.insert(key.into(), difference(want, is));
        }
        None if rest == Rest::Removed && is.is_some_and(|v| !v.is_null()) => {
            patch.insert(key.into(), Value::Null);
        }
        Some(_) | None => {}
    }
}

/// What makes one value another one: a merge patch keeps the keys of an object that it does not name.
fn difference(want: Value, is: Option<&Value>) -> Value {
    match (want, is) {
        (Value::Object(mut want), Some(Value::Object(is))) => {
            for key in is.keys() {
                want.entry(key.clone()).or_insert(Value::Null);
            }
            want.retain(|key, value| is.get(key) != Some(value));
            Value::Object(want)
        }
        (want, _) => want,
    }
}

/// What the keys of an object should be.
type Wanted = Vec<(&'static str, Option<Value>)>;

/// Adds what makes the named keys of an object what they should be.
fn nested(patch: &mut Map<String, Value>, key: &str, want: Wanted, is: Option<&Value>, rest: Rest) {
    let mut inner = Map::new();
    for (name, value) in want {
        put(&mut inner, name, value, is.and_then(|is| is.get(name)), rest);
    }
    extend(patch, key, inner);
}

/// Removes the keys of an object that are not named.
fn remove_foreign(patch: &mut Map<String, Value>, key: &str, want: &Wanted, is: Option<&Value>) {
    let keys = is.and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let foreign = keys.filter(|k| !want.iter().any(|(name, _)| name == k));
    extend(patch, key, foreign.map(|key| (key.clone(), Value::Null)).collect());
}

fn extend(patch: &mut Map<String, Value>, key: &str, more: Map<String, Value>) {
    for (name, value) in more {
        let inner = patch.entry(key).or_insert_with(|| json!({}));
        inner[name] = value;
    }
}

impl EntryIdentity {
    fn wanted(&self) -> Wanted {
        vec![
            ("name", text(self.name.as_ref())),
            ("emoji", text(self.emoji.as_ref())),
            ("avatar", text(self.avatar.as_ref())),
        ]
    }
}

impl HeartbeatEntry {
    fn wanted(&self) -> Wanted {
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
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> AgentEntry {
        AgentEntry {
            id: "mc-1".into(),
            name: Some("Ops".into()),
            workspace: "/w/mc-1".into(),
            model: None,
            identity: EntryIdentity { name: Some("Ops".into()), ..EntryIdentity::default() },
            heartbeat: HeartbeatEntry {
                every: Some("5m".into()),
                target: Some("none".into()),
                ..HeartbeatEntry::default()
            },
            keeps_the_rest: false,
            rewritten: Vec::new(),
        }
    }

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn an_absent_entry_is_written_whole() {
        let patch = entry().patch(None).unwrap();
        let whole = json!({"name": "Ops", "workspace": "/w/mc-1", "identity": {"name": "Ops"}, "heartbeat": {"every": "5m", "target": "none"}});
        assert_eq!(Value::Object(patch), whole);
    }

    #[test]
    fn the_gateways_environment_is_never_taken_for_a_part_of_the_spec() {
        let leak = Some("x ${OPENCLAW_GATEWAY_TOKEN}".to_owned());
        let identity = EntryIdentity { name: leak.clone(), emoji: leak.clone(), avatar: leak.clone() };
        let hours = EntryActiveHours { start: "${S}".into(), end: "${E}".into(), timezone: Some("${Z}".into()) };
        let heartbeat = HeartbeatEntry {
            target: leak.clone(),
            prompt: leak.clone(),
            model: leak.clone(),
            active_hours: Some(hours),
            ..HeartbeatEntry::default()
        };
        let patch = AgentEntry { name: leak.clone(), model: leak, identity, heartbeat, ..entry() }.patch(None).unwrap();
        let written = Value::Object(patch).to_string();
        assert_eq!(written.matches("${").count(), 11);
        assert_eq!(written.matches("$${").count(), 11, "{written}");
    }

    #[test]
    fn an_entry_that_was_written_before_references_were_escaped_is_put_right() {
        let want = AgentEntry { name: Some("${A}".into()), ..entry() };
        let is = |name: &str| {
            object(&json!({"name": name, "workspace": "/w/mc-1", "identity": {"name": "Ops"},
            "heartbeat": {"every": "5m", "target": "none"}}))
        };
        assert_eq!(want.patch(Some(&is("${A}"))), Some(object(&json!({"name": "$${A}"}))));
        assert_eq!(want.patch(Some(&is("$${A}"))), None);
    }

    #[test]
    fn an_entry_as_it_should_be_needs_no_patch_whatever_else_stands_in_it() {
        let is = object(&json!({"name": "Ops", "workspace": "/w/mc-1", "agentDir": "/x", "tools": {"allow": ["exec"]},
            "identity": {"name": "Ops", "theme": "dark"}, "heartbeat": {"every": "5m", "target": "none"}}));
        assert_eq!(entry().patch(Some(&is)), None);
    }

    #[test]
    fn only_what_differs_is_patched_and_what_we_no_longer_want_is_removed() {
        let is = object(&json!({"name": "Ops", "workspace": "/w/mc-1", "model": {"primary": "a/b"},
            "identity": {"name": "Ops", "emoji": "x"}, "heartbeat": {"every": "1m", "target": "none", "prompt": "old"}}));
        let patch = entry().patch(Some(&is)).unwrap();
        assert_eq!(
            Value::Object(patch),
            json!({"model": null, "identity": {"emoji": null}, "heartbeat": {"every": "5m", "prompt": null}})
        );
    }

    #[test]
    fn a_time_zone_that_is_no_longer_wanted_is_taken_out_of_the_active_hours() {
        let hours = EntryActiveHours { start: "08:00".into(), end: "18:00".into(), timezone: None };
        let heartbeat = HeartbeatEntry { active_hours: Some(hours), ..entry().heartbeat };
        let want = AgentEntry { heartbeat, ..entry() };
        let is = |hours: Value| {
            object(&json!({"name": "Ops", "workspace": "/w/mc-1", "identity": {"name": "Ops"},
                "heartbeat": {"every": "5m", "target": "none", "activeHours": hours}}))
        };
        let patch = want.patch(Some(&is(json!({"start": "09:00", "end": "18:00", "timezone": "Europe/Berlin"}))));
        let named = json!({"heartbeat": {"activeHours": {"start": "08:00", "timezone": null}}});
        assert_eq!(patch.map(Value::Object), Some(named));
        assert_eq!(want.patch(Some(&is(json!({"start": "08:00", "end": "18:00"})))), None);
    }

    #[test]
    fn an_entry_that_keeps_the_rest_is_changed_only_where_something_else_is_named() {
        let nothing = AgentEntry {
            name: None,
            identity: EntryIdentity::default(),
            heartbeat: HeartbeatEntry::default(),
            keeps_the_rest: true,
            ..entry()
        };
        let is = object(&json!({"name": "Old", "model": "a/b", "identity": {"emoji": "x"},
            "heartbeat": {"every": "1m", "includeReasoning": true}}));
        assert_eq!(nothing.patch(Some(&is)), None);
        let moved = object(&json!({"workspace": "/elsewhere"}));
        assert_eq!(nothing.patch(Some(&moved)), Some(object(&json!({"workspace": "/w/mc-1"}))));
        let heartbeat = HeartbeatEntry { every: Some("5m".into()), ..HeartbeatEntry::default() };
        let named = AgentEntry { name: Some("Ops".into()), heartbeat, ..nothing };
        let patch = named.patch(Some(&is)).unwrap();
        assert_eq!(Value::Object(patch), json!({"name": "Ops", "heartbeat": {"every": "5m"}}));
    }

    #[test]
    fn a_model_is_the_same_as_a_string_and_as_an_object() {
        let want = AgentEntry { model: Some("a/b".into()), ..entry() };
        for model in [json!("a/b"), json!({"primary": "a/b"})] {
            let mut is = object(
                &json!({"name": "Ops", "workspace": "/w/mc-1", "identity": {"name": "Ops"}, "heartbeat": {"every": "5m", "target": "none"}}),
            );
            is.insert("model".into(), model);
            assert_eq!(want.patch(Some(&is)), None);
        }
    }

    #[test]
    fn a_path_below_the_home_is_known_again_when_it_is_written_out() {
        assert!(same_path("~/w/a", "/home/o/w/a") && same_path("/home/o/w/a", "~/w/a") && same_path("/w", "/w"));
        assert!(!same_path("~/w/a", "/home/o/w/b") && !same_path("~/w/a", "~/w/b") && !same_path("/w/a", "/x/w/a"));
        assert!(same_path("/w/a/", "/w/a") && same_path("~/w/", "/home/o/w"));
        assert!(!same_path("~x/a", "/home/x/a"), "somebody else's home");
    }
}
