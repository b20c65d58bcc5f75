//! The heartbeat of an agent by the config of its gateway: the block of its entry over `agents.defaults.heartbeat`, key by key
//! (`docs/gateway-facts.md#heartbeats`).

use serde::Deserialize;
use serde_json::{Map, Value};

use super::agents_config::AgentsConfig;
use super::readers::lax;
use super::text::is_clean;

/// The longest text of a setting that is kept, in bytes.
const MAX_TEXT: usize = 128;

/// The settings of a config that hold for the heartbeats of all agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatDefaults {
    /// `agents.defaults.heartbeat`.
    block: RawHeartbeat,
    /// `agents.defaults.userTimezone`.
    user_timezone: Option<String>,
    /// Whether `cron.enabled` is false.
    pub cron_disabled: bool,
}

/// The heartbeat of one agent by the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredHeartbeat {
    /// The daily window; `None` without one, or if it lacks a start or an end.
    pub active_hours: Option<ConfiguredHours>,
    /// Whether heartbeat runs get no workspace files.
    pub light_context: bool,
    /// The target of the answers of heartbeat runs.
    pub target: Option<String>,
}

/// A daily window in the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredHours {
    /// The first minute.
    pub start: String,
    /// The end.
    pub end: String,
    /// The name of the time zone; `None` for the zone of the gateway's host.
    pub timezone: Option<String>,
}

/// `heartbeat` of an entry or of the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawHeartbeat {
    #[serde(deserialize_with = "lax")]
    active_hours: Option<RawHours>,
    #[serde(deserialize_with = "lax")]
    light_context: Option<bool>,
    #[serde(deserialize_with = "lax")]
    isolated_session: Option<bool>,
    #[serde(deserialize_with = "lax")]
    target: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct RawHours {
    #[serde(deserialize_with = "lax")]
    start: Option<String>,
    #[serde(deserialize_with = "lax")]
    end: Option<String>,
    #[serde(deserialize_with = "lax")]
    timezone: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawDefaults {
    #[serde(deserialize_with = "lax")]
    heartbeat: Option<RawHeartbeat>,
    #[serde(deserialize_with = "lax")]
    user_timezone: Option<String>,
}

impl HeartbeatDefaults {
    /// Reads the settings of a config.
    pub(crate) fn read(agents: &AgentsConfig, cron_disabled: bool) -> Self {
        let defaults = agents.defaults.as_deref().and_then(|raw| serde_json::from_str(raw.get()).ok());
        let RawDefaults { heartbeat, user_timezone } = defaults.unwrap_or_default();
        Self { block: heartbeat.unwrap_or_default().bounded(), user_timezone: kept(user_timezone), cron_disabled }
    }

    /// Whether the defaults keep workspace files from heartbeat runs.
    #[must_use]
    pub fn light_context(&self) -> bool {
        self.block.light_context == Some(true)
    }

    /// Whether the defaults give each heartbeat run a session of its own.
    #[must_use]
    pub fn isolated_session(&self) -> bool {
        self.block.isolated_session == Some(true)
    }

    /// The heartbeat of an agent with this entry.
    #[must_use]
    pub fn of(&self, entry: Option<&Map<String, Value>>) -> ConfiguredHeartbeat {
        let own =
            entry.and_then(|entry| serde_json::from_str::<RawHeartbeat>(&entry.get("heartbeat")?.to_string()).ok());
        let own = own.unwrap_or_default().bounded();
        let hours = own.active_hours.or_else(|| self.block.active_hours.clone());
        ConfiguredHeartbeat {
            active_hours: hours.and_then(|hours| {
                Some(ConfiguredHours { start: hours.start?, end: hours.end?, timezone: self.zone(hours.timezone) })
            }),
            light_context: own.light_context.or(self.block.light_context) == Some(true),
            target: own.target.or_else(|| self.block.target.clone()),
        }
    }

    /// The zone of a window. Without a zone, and with `user`, it is `agents.defaults.userTimezone`. `local` is the zone of the
    /// gateway's host, as is a missing `userTimezone`.
    fn zone(&self, given: Option<String>) -> Option<String> {
        match given.as_deref() {
            None | Some("" | "user") => self.user_timezone.clone(),
            Some("local") => None,
            Some(_) => given,
        }
    }
}

impl RawHeartbeat {
    /// The block with texts that can be kept and shown.
    fn bounded(self) -> Self {
        let hours = self.active_hours.map(|hours| RawHours {
            start: kept(hours.start),
            end: kept(hours.end),
            timezone: kept(hours.timezone),
        });
        Self { active_hours: hours, target: kept(self.target), ..self }
    }
}

/// A trimmed text, if it is short and has no control or format characters.
fn kept(text: Option<String>) -> Option<String> {
    let text = text?.trim().to_owned();
    (text.len() <= MAX_TEXT && is_clean(&text)).then_some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn defaults(defaults: &Value) -> HeartbeatDefaults {
        let agents: AgentsConfig = serde_json::from_str(&json!({ "defaults": defaults }).to_string()).unwrap();
        HeartbeatDefaults::read(&agents, false)
    }

    fn of(defaults: &HeartbeatDefaults, heartbeat: &Value) -> ConfiguredHeartbeat {
        defaults.of(json!({ "heartbeat": heartbeat }).as_object())
    }

    fn hours(start: &str, timezone: Option<&str>) -> ConfiguredHours {
        ConfiguredHours { start: start.into(), end: "22:00".into(), timezone: timezone.map(str::to_owned) }
    }

    #[test]
    fn a_block_inherits_the_defaults_key_by_key_and_replaces_a_window_as_a_whole() {
        let defaults = defaults(&json!({ "heartbeat": {
            "activeHours": { "start": "08:00", "end": "22:00", "timezone": "Europe/Berlin" },
            "lightContext": true, "target": "last",
        } }));
        let inherited = of(&defaults, &json!({ "every": "5m" }));
        assert_eq!(inherited.active_hours, Some(hours("08:00", Some("Europe/Berlin"))));
        assert!(inherited.light_context && inherited.target.as_deref() == Some("last"));
        let own =
            json!({ "activeHours": { "start": "09:00", "end": "22:00" }, "lightContext": false, "target": "none" });
        let own = of(&defaults, &own);
        assert_eq!(
            own.active_hours,
            Some(hours("09:00", None)),
            "the zone of the defaults does not hold for another window"
        );
        assert!(!own.light_context && own.target.as_deref() == Some("none"));
        assert_eq!(defaults.of(None).active_hours, inherited.active_hours);
    }

    #[test]
    fn a_window_without_a_zone_is_in_the_zone_of_the_user_and_local_is_the_zone_of_the_host() {
        let known = defaults(&json!({ "userTimezone": " Asia/Tokyo " }));
        let zone = |defaults: &HeartbeatDefaults, timezone: Value| {
            of(defaults, &json!({ "activeHours": { "start": "08:00", "end": "22:00", "timezone": timezone } }))
                .active_hours
                .unwrap()
                .timezone
        };
        for timezone in [Value::Null, json!(""), json!("user")] {
            assert_eq!(zone(&known, timezone).as_deref(), Some("Asia/Tokyo"));
        }
        assert_eq!(zone(&known, json!("local")), None);
        assert_eq!(zone(&known, json!("UTC")).as_deref(), Some("UTC"));
        assert_eq!(zone(&defaults(&json!({})), json!("user")), None);
    }

    #[test]
    fn strange_values_count_as_missing() {
        let strange = json!({ "heartbeat": { "activeHours": 1, "target": "a\u{202e}b", "lightContext": "yes" } });
        let strange = defaults(&strange);
        assert_eq!(of(&strange, &json!([])), ConfiguredHeartbeat::default());
        assert_eq!(of(&strange, &json!({ "activeHours": { "start": "08:00" } })), ConfiguredHeartbeat::default());
        let long = json!({ "target": "x".repeat(MAX_TEXT + 1) });
        assert_eq!(of(&strange, &long), ConfiguredHeartbeat::default());
    }
}
