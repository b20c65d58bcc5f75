//! How much of a workspace file reaches the model's prompt.
//!
//! OpenClaw cuts a file after `bootstrapMaxChars` UTF-16 units, 20,000 without a setting, and all files together after
//! `bootstrapTotalMaxChars`: 60,000 on 2026.9.6, 150,000 on 2026.3.2. AGENTS.md comes first. Both are set in `agents.defaults`, and on
//! 2026.9.6 also in an agent's entry, which counts first (`docs/gateway-facts.md#prompt-limits`).

use serde::Deserialize;
use serde_json::{Map, Value};

use super::readers::lax;

/// The limit of a file without a setting, in UTF-16 units.
const DEFAULT_FILE: usize = 20_000;
/// The limit of USER.md, which no setting raises, in UTF-16 units.
const USER: usize = 4_000;

/// The settings of a config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptLimits {
    /// `bootstrapMaxChars`.
    pub file: Option<usize>,
    /// `bootstrapTotalMaxChars`.
    pub total: Option<usize>,
}

/// The limit of one file that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLimit {
    /// The number of UTF-16 units.
    pub units: usize,
    /// The setting that gives the limit, or what gives it without a setting.
    pub setting: &'static str,
}

/// `agents.defaults`, as far as it is about prompts.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RawPromptLimits {
    #[serde(deserialize_with = "lax")]
    bootstrap_max_chars: Option<f64>,
    #[serde(deserialize_with = "lax")]
    bootstrap_total_max_chars: Option<f64>,
}

impl From<RawPromptLimits> for PromptLimits {
    fn from(raw: RawPromptLimits) -> Self {
        Self { file: units(raw.bootstrap_max_chars), total: units(raw.bootstrap_total_max_chars) }
    }
}

/// A positive number, as the gateway takes it.
fn units(number: Option<f64>) -> Option<usize> {
    let number = number.filter(|number| number.is_finite() && *number >= 1.0)?.floor().min(1.0e9);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is whole, positive and small"
    )]
    Some(number as usize)
}

impl PromptLimits {
    /// The limit of a file of an agent. `entry` is the agent's entry in the config.
    #[must_use]
    pub fn of_file(self, name: &str, entry: Option<&Map<String, Value>>) -> FileLimit {
        let own = |key: &str| units(entry?.get(key)?.as_f64());
        let of = |own: Option<usize>, default: Option<usize>, own_setting, setting| match (own, default) {
            (Some(units), _) => Some(FileLimit { units, setting: own_setting }),
            (None, Some(units)) => Some(FileLimit { units, setting }),
            (None, None) => None,
        };
        let file = of(
            own("bootstrapMaxChars"),
            self.file,
            "bootstrapMaxChars of the agent's config entry",
            "agents.defaults.bootstrapMaxChars of the gateway's config",
        );
        let total = of(
            own("bootstrapTotalMaxChars"),
            self.total,
            "bootstrapTotalMaxChars of the agent's config entry",
            "agents.defaults.bootstrapTotalMaxChars of the gateway's config",
        );
        let standard = match name {
            "USER.md" => FileLimit { units: USER, setting: "the gateway's limit of USER.md" },
            _ if file.is_some() => FileLimit { units: usize::MAX, setting: "" },
            _ => {
                FileLimit { units: DEFAULT_FILE, setting: "the gateway's default of agents.defaults.bootstrapMaxChars" }
            }
        };
        let given = [file, total].into_iter().flatten();
        given.fold(standard, |least, limit| if limit.units < least.units { limit } else { least })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(defaults: &Value) -> PromptLimits {
        serde_json::from_str::<RawPromptLimits>(&defaults.to_string()).unwrap().into()
    }

    #[test]
    fn the_smallest_limit_in_force_counts_and_names_its_setting() {
        let of = |defaults: Value, name: &str, entry: Value| {
            let limit = limits(&defaults).of_file(name, entry.as_object());
            (limit.units, limit.setting)
        };
        let none = || json!({});
        assert_eq!(of(none(), "AGENTS.md", none()).0, 20_000);
        assert_eq!(of(none(), "USER.md", none()), (4_000, "the gateway's limit of USER.md"));
        let lower = json!({ "bootstrapMaxChars": 8000.9 });
        assert_eq!(
            of(lower, "AGENTS.md", none()),
            (8_000, "agents.defaults.bootstrapMaxChars of the gateway's config")
        );
        let higher = json!({ "bootstrapMaxChars": 50_000 });
        assert_eq!(of(higher.clone(), "AGENTS.md", none()).0, 50_000);
        assert_eq!(of(higher.clone(), "USER.md", none()).0, 4_000);
        let own = json!({ "bootstrapMaxChars": 1_000 });
        assert_eq!(of(higher.clone(), "AGENTS.md", own), (1_000, "bootstrapMaxChars of the agent's config entry"));
        let total = json!({ "bootstrapMaxChars": 50_000, "bootstrapTotalMaxChars": 10_000 });
        assert_eq!(of(total, "AGENTS.md", none()).1, "agents.defaults.bootstrapTotalMaxChars of the gateway's config");
        let own_total = json!({ "bootstrapTotalMaxChars": 500 });
        assert_eq!(of(higher, "AGENTS.md", own_total), (500, "bootstrapTotalMaxChars of the agent's config entry"));
    }

    #[test]
    fn a_setting_that_is_no_positive_number_counts_as_none() {
        for value in [json!(0), json!(-1), json!("9"), json!(null), json!(0.4)] {
            assert_eq!(limits(&json!({ "bootstrapMaxChars": value })).of_file("A.md", None).units, 20_000, "{value}");
        }
    }
}
