//! The text of `muster describe`. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::object::{name, namespace};
use super::print::DataFormat;
use super::table::{TableLayout, plain, wrapped};
use super::{age, columns};
use crate::api::keys;

/// The longest line, if its words allow it.
const WIDTH: usize = 110;
/// The least width of a text beside a table.
const MIN_TEXT_WIDTH: usize = 40;

/// Everything about an object.
pub(super) fn describe(object: &Value, events: &[Value], now: Timestamp) -> String {
    let object = shown(object);
    let mut text = heading(&object, now);
    let fields = object.as_object().into_iter().flatten();
    let sections = fields.filter(|(field, value)| value.is_object() && *field != "metadata");
    for (field, value) in sections {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("conditions");
        }
        text.push_str(&section(field, &value));
    }
    text.push_str(&conditions(&object, now));
    text.push_str(&event_table(events, now));
    text
}

/// An object without the values of a Secret and without the copy of its manifest.
fn shown(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] == "Secret" {
        let data = object.get_mut("data").and_then(Value::as_object_mut);
        for (_, value) in data.into_iter().flatten() {
            let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
            *value = json!(format!("{} bytes", bytes.len()));
        }
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(keys::LAST_APPLIED);
    }
    object
}

fn heading(object: &Value, now: Timestamp) -> String {
    let metadata = &object["metadata"];
    let since = |field: &str| {
        let moment = metadata[field].as_str()?;
        Some(format!("{moment} ({} ago)", age::of(moment, now)))
    };
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        ("Name", name(object).to_owned()),
        ("Namespace", namespace(object).to_owned()),
        ("Kind", format!("{} ({})", word(&object["kind"]), word(&object["apiVersion"]))),
        ("Labels", pairs(&metadata["labels"])),
        ("Annotations", pairs(&metadata["annotations"])),
        ("Created", since("creationTimestamp").unwrap_or_default()),
    ];
    if let Some(deleted) = since("deletionTimestamp") {
        let finalizers = metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
        lines.push(("Deleted", deleted));
        lines.push(("Waits for", finalizers.collect::<Vec<_>>().join("\n")));
    }
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let owners = owners.map(|owner| format!("{}/{}", word(&owner["kind"]), word(&owner["name"])));
    lines.push(("Owners", owners.collect::<Vec<_>>().join("\n")));
    let fields = object.as_object().into_iter().flatten();
    let scalars =
        fields.filter(|(field, value)| !value.is_object() && !["apiVersion", "kind"].contains(&field.as_str()));
    let scalars: Vec<_> = scalars.map(|(field, value)| (title(field), columns::plain_text(value))).collect();
    lines.extend(scalars.iter().map(|(field, value)| (field.as_str(), value.clone())));
    lines.retain(|(_, value)| !value.is_empty());
    let rows: Vec<_> = lines.into_iter().map(|(field, value)| (vec![format!("{field}:")], value)).collect();
    beside(&rows)
}

fn pairs(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", columns::plain_text(value))).collect::<Vec<_>>().join("\n")
}

/// The name of a field as a heading.
fn title(field: &str) -> String {
    let mut chars = field.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// A field as YAML, which can be copied to a manifest.
fn section(field: &str, value: &Value) -> String {
    if value.as_object().is_some_and(Map::is_empty) {
        return String::new();
    }
    let yaml = DataFormat::Yaml.text(value);
    let lines = yaml.lines().map(|line| format!("  {}", plain(line)).trim_end().to_owned() + "\n");
    format!("{}:\n{}", title(field), lines.collect::<String>())
}

fn conditions(object: &Value, now: Timestamp) -> String {
    let Some(found) = object["status"]["conditions"].as_array().filter(|all| !all.is_empty()) else {
        return String::new();
    };
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut rows = vec![(["Type", "Status", "Reason", "Age"].map(heading_cell).to_vec(), "MESSAGE".to_owned())];
    rows.extend(found.iter().map(|one| {
        let since = one["lastTransitionTime"].as_str().map(|moment| age::of(moment, now));
        let cells = [word(&one["type"]), word(&one["status"]), word(&one["reason"]), since.unwrap_or_default()];
        (cells.map(|cell| format!("  {cell}")).to_vec(), word(&one["message"]))
    }));
    format!("Conditions:\n{}", beside(&trimmed(rows)))
}

fn event_table(events: &[Value], now: Timestamp) -> String {
    if events.is_empty() {
        return "Events: none\n".to_owned();
    }
    let mut events: Vec<_> = events.iter().collect();
    events.sort_by_key(|event| last_seen(event));
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut rows = vec![(["Age", "Type", "Reason", "Count"].map(heading_cell).to_vec(), "NOTE".to_owned())];
    rows.extend(events.into_iter().map(|event| {
        let age = last_seen(event).map(|moment| age::text(now.duration_since(moment).as_secs()));
        let count = event["series"]["count"].as_i64().or(event["deprecatedCount"].as_i64()).unwrap_or(1).max(1);
        let cells = [age.unwrap_or_default(), word(&event["type"]), word(&event["reason"]), count.to_string()];
        (cells.map(|cell| format!("  {cell}")).to_vec(), word(&event["note"]))
    }));
    format!("Events:\n{}", beside(&trimmed(rows)))
}

fn heading_cell(word: &str) -> String {
    format!("  {}", word.to_uppercase())
}

/// Rows in which only the first cell is indented.
fn trimmed(mut rows: Vec<(Vec<String>, String)>) -> Vec<(Vec<String>, String)> {
    for cell in rows.iter_mut().flat_map(|(cells, _)| cells.iter_mut().skip(1)) {
        *cell = cell.trim_start().to_owned();
    }
    rows
}

/// When an event was last seen.
fn last_seen(event: &Value) -> Option<Timestamp> {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["deprecatedLastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    times.into_iter().find_map(|time| time.as_str()?.parse().ok())
}

/// Rows of a table, each with a text beside it that may have several lines.
fn beside(rows: &[(Vec<String>, String)]) -> String {
    // An empty last cell: the cells before it are padded.
    let with_end = |cells: &Vec<String>| [cells.as_slice(), &[String::new()]].concat();
    let table: Vec<_> = rows.iter().map(|(cells, _)| with_end(cells)).collect();
    let table = TableLayout::default().lines(&table);
    let indent = table.lines().next().map_or(0, |line| line.chars().count());
    let width = WIDTH.saturating_sub(indent).max(MIN_TEXT_WIDTH);
    let lines = table.lines().zip(rows).map(|(line, (_, text))| {
        let text = wrapped(text, &" ".repeat(indent), width);
        let text = text.get(indent..).unwrap_or("\n");
        format!("{}\n", format!("{line}{text}").trim_end())
    });
    lines.collect()
}

#[cfg(test)]
#[path = "describe_text_tests.rs"]
mod tests;
