//! Model names that the gateway rewrites when it stores them.

use serde_json::Value;

use super::roster;
use crate::profile::Profile;

/// Normalises the model names: the provider in lower case, retired models as their successors.
pub(crate) fn normalise(document: &mut Value, profile: &Profile) {
    if !profile.rewrites_models {
        return;
    }
    for entry in roster::entries_mut(document, profile.roster) {
        let own = entry.get_mut("model").map(|model| match model {
            Value::Object(named) => named.get_mut("primary"),
            model => Some(model),
        });
        own.flatten().into_iter().for_each(rename);
        entry.get_mut("heartbeat").and_then(|heartbeat| heartbeat.get_mut("model")).into_iter().for_each(rename);
    }
}

fn rename(model: &mut Value) {
    let Some((provider, name)) = model.as_str().map(str::trim).and_then(|text| text.split_once('/')) else { return };
    let name = if name == "gemini-3-pro" { "gemini-3.1-pro-preview" } else { name };
    *model = Value::String(format!("{}/{name}", provider.to_lowercase()));
}
