//! Field types that more than one resource uses.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::names::{KEY_PATTERN, NAMESPACE_PATTERN, OBJECT_PATTERN};
use super::text::{NOT_ONE_LINE, ONE_LINE};

/// A duration as `metav1.Duration` takes it: `90s`, `5m`, `1h30m`, `1.5h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Interval(kube::core::Duration);

/// The maximum length of a duration's text.
const MAX_INTERVAL_CHARS: usize = 32;
/// The most digits before a point or a unit. More could be a duration that no program can hold.
const MAX_INTERVAL_DIGITS: usize = 7;

impl Interval {
    /// An interval of whole seconds.
    #[must_use]
    pub fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds).into())
    }

    /// The duration.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0.into()
    }
}

/// A duration as a spec would have it: in hours and minutes, or in seconds.
#[must_use]
pub fn duration_text(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, _) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (hours, 0, 0) => format!("{hours}h"),
        (hours, minutes, 0) => format!("{hours}h{minutes}m"),
        _ => format!("{seconds}s"),
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is no duration such as 90s, 5m, 1h30m or 1.5h");
        let longest = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or_default();
        let fraction = text.split('.').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let is_plain = text.starts_with(|c: char| c.is_ascii_digit()) && fraction == text.contains('.');
        if text.len() > MAX_INTERVAL_CHARS || longest > MAX_INTERVAL_DIGITS || !is_plain {
            return Err(invalid());
        }
        text.parse().map(Self).map_err(|_| invalid())
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Interval {
    fn schema_name() -> Cow<'static, str> {
        "Interval".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^(0|([0-9]{1,7}(\\.[0-9]{1,7})?(ns|us|µs|ms|s|m|h))+)$";
        json_schema!({ "type": "string", "maxLength": MAX_INTERVAL_CHARS, "pattern": pattern })
    }
}

/// A reference to an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_PATTERN))]
    pub name: String,
}

/// A reference to an AgentGateway in the same or another namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GatewayRef {
    /// Name of the AgentGateway.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_PATTERN))]
    pub name: String,
    /// Namespace of the AgentGateway. An AgentGateway in another namespace must admit this object's namespace in
    /// `spec.allowedNamespaces`. Default: this object's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE_PATTERN))]
    pub namespace: Option<String>,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_PATTERN))]
    pub name: String,
    /// The key in the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY_PATTERN))]
    pub key: String,
}

/// One key of a ConfigMap in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_PATTERN))]
    pub name: String,
    /// The key in the ConfigMap's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY_PATTERN))]
    pub key: String,
}

/// The maximum length of a template in a spec, in characters.
pub const MAX_TEMPLATE_CHARS: u32 = 32_768;

/// A Jinja template: inline text, or a key of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.inline) != has(self.configMapKeyRef)").message("give either inline or configMapKeyRef"))]
pub struct TemplateSource {
    /// The text of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_TEMPLATE_CHARS))]
    pub inline: Option<String>,
    /// The ConfigMap key with the text of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

/// The source of templates that replace the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplatesRef {
    /// A ConfigMap with file names such as `SOUL.md` as keys and Jinja templates as values. The template of a missing key comes
    /// from the next level. The levels are Agent, Board, AgentGateway, built-in templates.
    pub config_map_ref: LocalRef,
}

/// The person for whom an agent works, as USER.md describes the person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserProfile {
    /// The person's full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub name: Option<String>,
    /// The name by which the agent addresses the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub preferred_name: Option<String>,
    /// The person's pronouns, such as `she/her`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pronouns: Option<String>,
    /// The IANA name of the person's time zone, such as `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub timezone: Option<String>,
    /// Notes about the person for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub notes: Option<String>,
    /// The person's background: the company, the project, the way of working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub context: Option<String>,
}

/// Settings of the gateway's heartbeat: the gateway runs the agent at an interval without a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// Whether the gateway runs heartbeats for the agent. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The time between two heartbeats, 1m to 24h. An agent counts as offline when it has not called Muster's API for two
    /// intervals and has no run in progress. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1m') && duration(self) <= duration('24h')",
        "message": "the interval must be between 1m and 24h"
    }]))]
    pub interval: Option<Interval>,
    /// The destination of a heartbeat run's answer: `none`, `last`, or the name of a channel. Default: `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": ONE_LINE, "message": NOT_ONE_LINE }]))]
    pub target: Option<String>,
    /// The prompt of a heartbeat run. Default: a prompt that asks for the check-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub prompt: Option<String>,
    /// The model of heartbeat runs, as `provider/model`. Default: the agent's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": ONE_LINE, "message": NOT_ONE_LINE }]))]
    pub model: Option<String>,
    /// The daily window in which heartbeats run. Outside of it an agent does not become offline and is not woken. Default: the window of
    /// the gateway's `agents.defaults.heartbeat`, or the whole day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_hours: Option<ActiveHours>,
}

/// A daily window of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveHours {
    /// Start of the window, `HH:MM`.
    #[schemars(length(max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub start: String,
    /// End of the window, `HH:MM` up to `24:00`.
    #[schemars(length(max = 5), regex(pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub end: String,
    /// The IANA name of the time zone. Default: the gateway's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub timezone: Option<String>,
}

/// The default of `observedGeneration`, before the first reconcile.
#[must_use]
pub(super) fn never_observed() -> i64 {
    -1
}

/// The default of a field that is `true` when left out.
#[must_use]
pub(super) fn on() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_kubernetes_reads_it() {
        for (text, seconds) in
            [("90s", 90.0), ("5m", 300.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("250ms", 0.25), ("0", 0.0)]
        {
            let duration = text.parse::<Interval>().unwrap().get();
            assert!((duration.as_secs_f64() - seconds).abs() < 1e-9, "{text}: {duration:?}");
        }
    }

    #[test]
    fn a_text_that_is_no_duration_is_an_error_that_names_it() {
        let huge = format!("{}h", "9".repeat(31));
        for text in ["", "5", "m", "-5m", "+5m", "5 m", "5d", "1.h", ".5h", "1..5h", "5m5", "99999999999999h", &huge] {
            let error = text.parse::<Interval>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_written_duration_is_read_again() {
        for text in ["90s", "1.5h", "250ms", "7us", "0"] {
            let before: Interval = text.parse().unwrap();
            let written = serde_json::to_string(&before).unwrap();
            assert_eq!(serde_json::from_str::<Interval>(&written).unwrap(), before, "{written}");
        }
    }
}
