//! The columns of tables, as the API server fills them. Pure.

use jiff::Timestamp;
use jsonpath_rust::JsonPath;
use serde_json::{Value, json};

use super::age;

/// Where a cell comes from.
#[derive(Clone, Debug)]
pub(super) enum CellSource {
    /// A `JSONPath`.
    Path(String),
    /// The number of keys of a Secret or a ConfigMap.
    KeyCount,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub(super) struct PrinterColumn {
    /// The heading.
    pub(super) header: String,
    /// Where the cells come from.
    pub(super) source: CellSource,
    /// Whether the cells are times, which are shown as ages.
    pub(super) is_date: bool,
    /// Whether only `-o wide` shows the column.
    pub(super) is_wide: bool,
}

impl PrinterColumn {
    fn new(header: &str, source: CellSource, is_date: bool) -> Self {
        Self { header: header.to_uppercase(), source, is_date, is_wide: false }
    }

    pub(super) fn text(header: &str, path: &str) -> Self {
        Self::new(header, CellSource::Path(format!("${path}")), false)
    }

    pub(super) fn data() -> Self {
        Self::new("Data", CellSource::KeyCount, false)
    }

    pub(super) fn age() -> Self {
        Self::new("Age", CellSource::Path("$.metadata.creationTimestamp".into()), true)
    }

    /// The value of an object in this column.
    pub(super) fn value(&self, object: &Value) -> Value {
        match &self.source {
            CellSource::Path(path) => {
                let found = object.query(path).unwrap_or_default();
                found.first().map_or(Value::Null, |value| (*value).clone())
            }
            CellSource::KeyCount => {
                let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
                json!(count("data") + count("binaryData"))
            }
        }
    }

    /// The text of a value in this column.
    pub(super) fn cell(&self, value: &Value, now: Timestamp) -> String {
        match value {
            Value::String(text) if self.is_date => age::of(text, now),
            other => plain_text(other),
        }
    }
}

/// A value without quotes. Nothing for a value that is not there.
pub(super) fn plain_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::resources;

    #[test]
    fn the_columns_of_the_definitions_show_an_object() {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let agent = json!({
            "metadata": { "name": "one", "creationTimestamp": "2026-03-01T09:00:00Z" },
            "spec": { "boardRef": { "name": "ops" }, "role": "Worker" },
            "status": { "phase": "Active", "agentId": "one", "conditions": [
                { "type": "CheckedIn", "status": "False", "reason": "Silent" },
                { "type": "Ready", "status": "True", "reason": "Reconciled" },
            ] },
        });
        let columns = &resources::named("agents").unwrap()[0].columns;
        let row: Vec<_> =
            columns.iter().map(|c| (c.header.as_str(), c.cell(&c.value(&agent), now), c.is_wide)).collect();
        let expected = [
            ("BOARD", "ops", false),
            ("ROLE", "Worker", false),
            ("PHASE", "Active", false),
            ("AGENT-ID", "one", true),
            ("LAST-SEEN", "", false),
            ("READY", "True", false),
            ("REASON", "Reconciled", false),
            ("AGE", "60m", false),
        ];
        assert_eq!(row, expected.map(|(header, cell, wide)| (header, cell.to_owned(), wide)));
    }

    #[test]
    fn numbers_and_the_keys_of_a_secret_are_shown_and_its_values_are_not() {
        let columns = &resources::named("secrets").unwrap()[0].columns;
        let secret = json!({ "type": "Opaque", "data": { "a": "aHVzaA==", "b": "" } });
        let row: Vec<_> = columns.iter().map(|c| c.cell(&c.value(&secret), Timestamp::UNIX_EPOCH)).collect();
        assert_eq!(row, ["Opaque", "2", ""]);
        let board = json!({ "status": { "agents": 3 } });
        let columns = &resources::named("boards").unwrap()[0].columns;
        assert_eq!(columns[2].cell(&columns[2].value(&board), Timestamp::UNIX_EPOCH), "3");
    }
}
