//! Configs of gateways with many agents: the shapes that people publish, written anew without their data.

use serde_json::{Value, json};

/// A config with `agents.list`. Lines that begin with `//` are comments.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    text: &'static str,
}

macro_rules! shapes {
    ($($name:literal)+) => { [$(Shape { name: $name, text: include_str!(concat!($name, ".json5")) }),+] };
}

pub(crate) const SHAPES: [Shape; 11] = shapes![
    "bot_accounts" "coding_crew" "family_sandbox" "heartbeat_defaults" "ministries" "nested_workspaces" "night_shift" "odd_ids"
    "product_team" "tiers_without_main" "work_and_home"
];

impl Shape {
    /// The file of a gateway with `agents.list`, comments included.
    pub(crate) fn list_text(&self) -> String {
        self.text.replacen('{', "{ \"gateway\": { \"mode\": \"local\" },", 1)
    }

    /// The config with `agents.list`.
    pub(crate) fn list(&self) -> Value {
        let text = self.list_text();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        serde_json::from_str(&lines.collect::<Vec<_>>().join("\n")).unwrap()
    }

    /// The same config with `agents.entries`. It has no agent whose id cannot be the key of an entry.
    pub(crate) fn entries(&self) -> Value {
        let mut config = self.list();
        let Some(list) = config["agents"].as_object_mut().and_then(|agents| agents.remove("list")) else {
            return config;
        };
        config["agents"]["ownership"] = json!("explicit");
        for mut entry in list.as_array().cloned().unwrap_or_default() {
            let Some(fields) = entry.as_object_mut() else { continue };
            fields.remove("default");
            let id = fields.remove("id").and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
            if id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')) {
                config["agents"]["entries"][id] = entry;
            }
        }
        config
    }
}
