//! Manifests that adopt the agents of a gateway. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::agent::Role;
use crate::api::names::UNSUPPORTED_AGENT_IDS;
use crate::api::shared::Interval;
use crate::api::text::one_line;
use crate::core::agent::binding::AgentIdentity;
use crate::core::agent::folder::Folder;
use crate::openclaw::model::entry::config_duration;
use crate::openclaw::model::{
    AgentEntry, AgentRow, EntryActiveHours, EntryModel, EntryState, Inventory, has_format_characters, literal,
};
use crate::templates;

/// The longest interval in a spec, in characters.
const MAX_INTERVAL_CHARS: usize = 16;

/// The names of the objects.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The namespace of all objects; `None` leaves the namespace to `kubectl apply`.
    pub(super) namespace: Option<String>,
    /// The name of the AgentGateway.
    pub(super) gateway: String,
    /// The name of the Board of the agents.
    pub(super) board: String,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ImportedAgents {
    /// The Agent manifests, in the order of the agents' ids.
    pub(super) manifests: Vec<Value>,
    /// The ConfigMaps with the texts of the agents' files.
    pub(super) config_maps: Vec<Value>,
    /// Sentences about agents and settings without a manifest.
    pub(super) notes: Vec<String>,
    /// By agent, the fields of its spec for which the gateway has a value that no spec can express.
    pub(super) left_out: BTreeMap<String, BTreeSet<&'static str>>,
}

/// Builds an Agent manifest for each agent of a gateway.
///
/// # Guarantees
/// Each field of a manifest equals the gateway's config, so that `kubectl apply` changes nothing there. A setting that the
/// resource cannot express is left out and stays as it is. The API server accepts each manifest.
#[must_use]
pub(super) fn agents(inventory: &Inventory, names: &Names) -> ImportedAgents {
    let mut imported = ImportedAgents::default();
    let mut taken = BTreeSet::new();
    for row in inventory.agents.values() {
        let id = &row.id;
        match &row.entry {
            _ if id == "main" => {
                imported.notes.push("main: the gateway's own agent is never adopted".to_owned());
            }
            Some(_) if let Some(listed) = listed_as(inventory, row) => imported.notes.push(format!(
                "{id}: left out, because the gateway lists its config entry {id:?} as {listed:?}; rename the entry to {listed:?} in the \
                 gateway's config, then import again"
            )),
            Some(_) if let Some(other) = shares_folder(inventory, row) => {
                imported.notes.push(format!(
                    "{id}: left out, because its workspace is, contains or is within the workspace of {}, and Muster keeps the folders \
                     of its agents apart; give one of the two another workspace to adopt it",
                    other.id
                ));
            }
            Some(entry) if is_adoptable(id) => {
                if is_derived(id) {
                    imported.notes.push(format!(
                        "{id}: Muster may have made this agent (Mission Control's agents have such ids too); leave its manifest out if \
                         an Agent already owns it, or the new Agent gets the reason AgentIdTaken"
                    ));
                }
                let name = object_name(id, &mut taken);
                let (notes, left_out) = (&mut imported.notes, imported.left_out.entry(id.clone()).or_default());
                let entry = entry.tree();
                let spec = SpecBuilder { inventory, row, entry: &entry, spec: Map::new(), notes, left_out }.build(names);
                imported.manifests.push(manifest("Agent", &name, names, &Value::Object(spec)));
            }
            Some(_) => imported.notes.push(format!("{id}: left out, because spec.agentId cannot be {id:?}")),
            // The note is under the id of its entry.
            None if inventory.agents.values().any(|other| listed_as(inventory, other) == Some(id)) => {}
            None => imported.notes.push(format!("{id}: left out, because the gateway's config has no entry for it")),
        }
    }
    imported
}

/// A manifest of a Muster resource.
#[must_use]
pub(super) fn manifest(kind: &str, name: &str, names: &Names, spec: &Value) -> Value {
    let mut metadata = json!({ "name": name });
    if let Some(namespace) = &names.namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
}

/// Whether Muster could have derived the id from the uid of an object, so that an Agent may already own it.
fn is_derived(id: &str) -> bool {
    let hexadecimal = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_uid = |text: &str| text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(hexadecimal);
    let uid = id.len().checked_sub(36).and_then(|at| id.get(at..)).filter(|text| is_uid(text));
    let roles = [Role::Worker, Role::Lead, Role::Main];
    uid.is_some_and(|uid| roles.iter().any(|role| AgentIdentity::derive(*role, None, uid, "").agent_id == id))
}

/// Another agent whose folder is, contains or is within the folder of this agent. An Agent that adopts such an agent gets the reason
/// `WorkspaceTaken`.
fn shares_folder<'a>(inventory: &'a Inventory, row: &AgentRow) -> Option<&'a AgentRow> {
    let folder = Folder::parse(row.workspace.as_deref()?);
    let meets = |path: &str| folder.meets(&Folder::parse(path));
    let mut others = inventory.agents.values().filter(|other| other.id != row.id);
    others.find(|other| other.workspace.as_deref().is_some_and(meets))
}

/// The id under which the gateway lists an entry whose own id it changes (`docs/gateway-facts.md#agents`).
fn listed_as<'a>(inventory: &'a Inventory, row: &AgentRow) -> Option<&'a str> {
    let listed = inventory.agents.get(&normalised(&row.id)).filter(|listed| listed.id != "main")?;
    let is_one_agent = row.entry.is_some() && !row.in_roster && listed.entry.is_none();
    is_one_agent.then_some(listed.id.as_str())
}

/// The form of an id in the gateway's roster: lower case, with a hyphen in the place of other characters.
fn normalised(id: &str) -> String {
    let lower = id.trim().to_lowercase();
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if lower.starts_with(|c: char| is_word(c) && !matches!(c, '-' | '_')) && lower.chars().all(is_word) {
        return lower;
    }
    let parts: Vec<_> = lower.split(|c| !is_word(c)).filter(|part| !part.is_empty()).collect();
    parts.join("-").trim_matches('-').to_owned()
}

/// Whether `spec.agentId` accepts the id.
fn is_adoptable(id: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    id.len() <= 64
        && id.starts_with(word)
        && id.chars().all(|c| word(c) || c == '-' || c == '_')
        && !UNSUPPORTED_AGENT_IDS.contains(&id)
}

/// The name of the object for an id: the id in the form of Kubernetes, with a number if the name is taken.
fn object_name(id: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = id.replace('_', "-");
    let plain = plain.trim_end_matches('-');
    let numbered = (2..).map(|number| format!("{plain}-{number}"));
    let free = std::iter::once(plain.to_owned()).chain(numbered).find(|name| !taken.contains(name));
    let name = free.unwrap_or_default();
    taken.insert(name.clone());
    name
}

/// Builds the spec of one Agent.
struct SpecBuilder<'a> {
    inventory: &'a Inventory,
    row: &'a AgentRow,
    entry: &'a Map<String, Value>,
    spec: Map<String, Value>,
    notes: &'a mut Vec<String>,
    left_out: &'a mut BTreeSet<&'static str>,
}

impl SpecBuilder<'_> {
    fn build(mut self, names: &Names) -> Map<String, Value> {
        let files = templates::standard_files(Role::Worker).iter();
        let files: Vec<_> = files.map(|name| json!({ "name": name.as_str(), "policy": "Unmanaged" })).collect();
        let fixed = [
            ("agentId", json!(self.row.id)),
            ("adoptionPolicy", json!("IfExists")),
            ("boardRef", json!({ "name": names.board })),
            ("deletionPolicy", json!("Orphan")),
            ("wake", json!({ "enabled": false })),
            ("files", json!(files)),
        ];
        self.spec.extend(fixed.map(|(key, value)| (key.to_owned(), value)));
        self.text("displayName", "name", 128, |entry, text| {
            entry.identity.name = Some(text.clone());
            entry.name = Some(text);
        });
        self.text("model", "model", 256, |entry, text| {
            entry.model = Some(EntryModel { primary: text, ..EntryModel::default() });
        });
        self.text("emoji", "identity.emoji", 16, |entry, text| entry.identity.emoji = Some(text));
        self.text("avatar", "identity.avatar", 512, |entry, text| entry.identity.avatar = Some(text));
        self.heartbeat();
        self.spec
    }

    /// The value at a path of the entry.
    fn at(&self, path: &str) -> Option<&Value> {
        let mut value = self.entry.get(path.split('.').next()?)?;
        for key in path.split('.').skip(1) {
            value = value.get(key)?;
        }
        // A model is a string, or an object with a `primary` model.
        Some(value.get("primary").filter(|_| path.ends_with("model")).unwrap_or(value)).filter(|v| !v.is_null())
    }

    /// Copies a text of the entry to a field of the spec, if the field accepts the text and the desired entry stays equal. A
    /// text with format characters is left out, because YAML does not escape them.
    fn text(&mut self, field: &'static str, path: &str, max_chars: usize, set: impl Fn(&mut AgentEntry, String)) {
        let Some(value) = self.at(path) else { return };
        let fits = |text: &String| {
            let is_plain = field == "heartbeat.prompt" || one_line(text).as_deref() == Some(text);
            is_plain && (1..=max_chars).contains(&text.chars().count()) && !has_format_characters(text)
        };
        let text = value.as_str().and_then(literal).filter(fits);
        match text.filter(|text| self.changes_nothing(|entry| set(entry, text.clone()))) {
            Some(text) => self.put(field, json!(text)),
            None => self.leave_out(field, path),
        }
    }

    fn heartbeat(&mut self) {
        if let Some(text) = self.at("heartbeat.every").and_then(Value::as_str).map(str::to_owned) {
            // The API server refuses a longer text, and the parser fails on a very long duration.
            let fits = text.len() <= MAX_INTERVAL_CHARS;
            let interval: Option<Interval> = fits.then(|| serde_json::from_value(json!(text)).ok()).flatten();
            match interval.map(Interval::get) {
                Some(time) if time.is_zero() && config_duration(time) == text => {
                    self.put("heartbeat.enabled", json!(false));
                }
                Some(time) if (60..=86_400).contains(&time.as_secs()) && config_duration(time) == text => {
                    self.put("heartbeat.interval", json!(text));
                }
                Some(_) | None => self.leave_out("heartbeat.interval", "heartbeat.every"),
            }
        }
        self.text("heartbeat.target", "heartbeat.target", 128, |entry, text| entry.heartbeat.target = Some(text));
        self.text("heartbeat.prompt", "heartbeat.prompt", 8192, |entry, text| entry.heartbeat.prompt = Some(text));
        self.text("heartbeat.model", "heartbeat.model", 256, |entry, text| entry.heartbeat.model = Some(text));
        if let Some(hours) = self.at("heartbeat.activeHours") {
            match self.active_hours(&hours.clone()) {
                Some(hours) => self.put("heartbeat.activeHours", hours),
                None => self.leave_out("heartbeat.activeHours", "heartbeat.activeHours"),
            }
        }
    }

    fn active_hours(&self, hours: &Value) -> Option<Value> {
        let text = |key: &str| hours[key].as_str().map(str::to_owned);
        let (start, end, timezone) = (text("start")?, text("end")?, text("timezone"));
        let is_zone = timezone.as_ref().is_none_or(|name| (1..=64).contains(&name.chars().count()));
        if !is_zone || !is_time(&start) || !(is_time(&end) || end == "24:00") {
            return None;
        }
        let read = EntryActiveHours { start, end, timezone };
        let is_current = self.changes_nothing(|entry| entry.heartbeat.active_hours = Some(read.clone()));
        is_current.then(|| hours.clone())
    }

    /// Whether a desired entry with this field alone needs no write.
    fn changes_nothing(&self, set: impl FnOnce(&mut AgentEntry)) -> bool {
        let mut entry = AgentEntry {
            id: self.row.id.clone(),
            name: None,
            workspace: self.row.workspace.clone().unwrap_or_default(),
            keeps_the_rest: true,
            ..AgentEntry::default()
        };
        set(&mut entry);
        self.inventory.entry_state(&entry) == EntryState::Current
    }

    fn put(&mut self, field: &str, value: Value) {
        match field.split_once('.') {
            Some((outer, inner)) => self.spec.entry(outer).or_insert_with(|| json!({}))[inner] = value,
            None => {
                self.spec.insert(field.to_owned(), value);
            }
        }
    }

    fn leave_out(&mut self, field: &'static str, path: &str) {
        let id = &self.row.id;
        self.left_out.insert(field);
        self.notes.push(format!("{id}: {path} is not in its manifest, and stays as it is on the gateway"));
    }
}

/// Whether a text is a time of day, `HH:MM`.
fn is_time(text: &str) -> bool {
    let is_number = |text: &str, max: u8| {
        text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u8>().is_ok_and(|n| n <= max)
    };
    text.split_once(':').is_some_and(|(hour, minute)| is_number(hour, 23) && is_number(minute, 59))
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
