//! How much of the workspace files reaches the model's prompt.
//!
//! OpenClaw cuts a file after `bootstrapMaxChars` UTF-16 units, 20,000 without a setting, and all files together, in the order of
//! [`PROMPT_ORDER`], after `bootstrapTotalMaxChars`, 60,000 without a setting (150,000 on 2026.3.2, which no read tells apart). Both are set in `agents.defaults`, and on
//! 2026.9.6 also in an agent's entry, which counts first (`docs/gateway-facts.md#prompt-limits`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::readers::lax;

/// The limit of a file without a setting, in UTF-16 units.
const DEFAULT_FILE: usize = 20_000;
/// The limit of all files together without a setting, in UTF-16 units.
const DEFAULT_TOTAL: usize = 60_000;
/// The limit of USER.md, which no setting raises, in UTF-16 units.
const USER: usize = 4_000;
/// The gateway passes on no further file when fewer UTF-16 units are left.
const LEAST_REST: usize = 64;
/// The files of the prompt, in the order in which the gateway passes them on. 2026.9.6 has no TOOLS.md and no HEARTBEAT.md.
const PROMPT_ORDER: [&str; 8] =
    ["AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "USER.md", "HEARTBEAT.md", "BOOTSTRAP.md", "MEMORY.md"];

/// The position of a file in the prompt. Files that are not in the prompt come last.
#[must_use]
pub fn prompt_position(name: &str) -> usize {
    PROMPT_ORDER.iter().position(|known| *known == name).unwrap_or(usize::MAX)
}

/// The settings of a config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptLimits {
    /// `bootstrapMaxChars`.
    pub file: Option<usize>,
    /// `bootstrapTotalMaxChars`.
    pub total: Option<usize>,
}

/// The limit of one file that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimit {
    /// The number of UTF-16 units.
    pub units: usize,
    /// The setting that gives the limit, or what gives it without a setting.
    pub setting: &'static str,
    /// The limit is what the files before this one leave of the setting.
    pub is_rest: bool,
}

impl FileLimit {
    /// A limit that other files do not change.
    #[must_use]
    pub fn of(units: usize, setting: &'static str) -> Self {
        Self { units, setting, is_rest: false }
    }
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
    /// The limits of an agent's files. `lengths` are the UTF-16 units of the files that Muster writes, blanks at the end aside; `entry` is
    /// the agent's entry in the config.
    ///
    /// Files that Muster does not write take a part of the prompt too, which is not counted here.
    #[must_use]
    pub fn of_files<'a>(
        self,
        lengths: &BTreeMap<&'a str, usize>,
        entry: Option<&Map<String, Value>>,
    ) -> BTreeMap<&'a str, FileLimit> {
        let total = self.total(entry);
        let mut rest = total.units;
        let mut limits: BTreeMap<_, _> = lengths.keys().map(|name| (*name, self.of_single_file(name, entry))).collect();
        for name in PROMPT_ORDER {
            let (Some(length), Some(limit)) = (lengths.get(name), limits.get_mut(name)) else { continue };
            let taken = (*length).min(limit.units).min(rest);
            if rest < limit.units {
                *limit = FileLimit { units: rest, is_rest: rest < total.units, ..total };
            }
            rest -= taken;
            if rest < LEAST_REST {
                rest = 0;
            }
        }
        limits
    }

    /// The limit of all files together.
    fn total(self, entry: Option<&Map<String, Value>>) -> FileLimit {
        let own = own(entry, "bootstrapTotalMaxChars")
            .map(|units| FileLimit::of(units, "bootstrapTotalMaxChars of the agent's config entry"));
        let given = self
            .total
            .map(|units| FileLimit::of(units, "agents.defaults.bootstrapTotalMaxChars of the gateway's config"));
        let standard = FileLimit::of(DEFAULT_TOTAL, "the gateway's default of agents.defaults.bootstrapTotalMaxChars");
        own.or(given).unwrap_or(standard)
    }

    /// The limit of a file without regard to other files.
    fn of_single_file(self, name: &str, entry: Option<&Map<String, Value>>) -> FileLimit {
        let own = own(entry, "bootstrapMaxChars")
            .map(|units| FileLimit::of(units, "bootstrapMaxChars of the agent's config entry"));
        let given =
            self.file.map(|units| FileLimit::of(units, "agents.defaults.bootstrapMaxChars of the gateway's config"));
        let standard = FileLimit::of(DEFAULT_FILE, "the gateway's default of agents.defaults.bootstrapMaxChars");
        let limit = own.or(given).unwrap_or(standard);
        if name == "USER.md" && limit.units > USER {
            return FileLimit::of(USER, "the gateway's limit of USER.md");
        }
        limit
    }
}

/// A setting of an agent's own entry.
fn own(entry: Option<&Map<String, Value>>, key: &str) -> Option<usize> {
    units(entry?.get(key)?.as_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(defaults: &Value) -> PromptLimits {
        serde_json::from_str::<RawPromptLimits>(&defaults.to_string()).unwrap().into()
    }

    fn of(defaults: &Value, name: &str, entry: &Value) -> (usize, &'static str) {
        let lengths = BTreeMap::from([(name, 1)]);
        let limit = limits(defaults).of_files(&lengths, entry.as_object())[name];
        (limit.units, limit.setting)
    }

    #[test]
    fn the_smallest_limit_in_force_counts_and_names_its_setting() {
        let none = json!({});
        let defaults_file = "agents.defaults.bootstrapMaxChars of the gateway's config";
        let defaults_total = "agents.defaults.bootstrapTotalMaxChars of the gateway's config";
        assert_eq!(of(&none, "AGENTS.md", &none).0, 20_000);
        assert_eq!(of(&none, "USER.md", &none), (4_000, "the gateway's limit of USER.md"));
        assert_eq!(of(&json!({ "bootstrapMaxChars": 8000.9 }), "AGENTS.md", &none), (8_000, defaults_file));
        let higher = json!({ "bootstrapMaxChars": 50_000 });
        assert_eq!(of(&higher, "AGENTS.md", &none).0, 50_000);
        assert_eq!(of(&higher, "USER.md", &none).0, 4_000);
        let own = json!({ "bootstrapMaxChars": 1_000 });
        assert_eq!(of(&higher, "AGENTS.md", &own), (1_000, "bootstrapMaxChars of the agent's config entry"));
        let total = json!({ "bootstrapMaxChars": 50_000, "bootstrapTotalMaxChars": 10_000 });
        assert_eq!(of(&total, "AGENTS.md", &none), (10_000, defaults_total));
        let own_total = json!({ "bootstrapTotalMaxChars": 500 });
        assert_eq!(of(&higher, "AGENTS.md", &own_total), (500, "bootstrapTotalMaxChars of the agent's config entry"));
        let very_high = json!({ "bootstrapMaxChars": 100_000 });
        assert_eq!(
            of(&very_high, "AGENTS.md", &none),
            (60_000, "the gateway's default of agents.defaults.bootstrapTotalMaxChars")
        );
    }

    #[test]
    fn a_file_gets_what_the_files_before_it_leave_of_the_total() {
        let lengths = BTreeMap::from([("MEMORY.md", 10), ("IDENTITY.md", 300), ("SOUL.md", 600), ("AGENTS.md", 500)]);
        let of = |total: usize| {
            let limits = limits(&json!({ "bootstrapTotalMaxChars": total }));
            let limits = limits.of_files(&lengths, None);
            ["AGENTS.md", "SOUL.md", "IDENTITY.md", "MEMORY.md"].map(|name| (limits[name].units, limits[name].is_rest))
        };
        assert_eq!(of(30_000), [(20_000, false), (20_000, false), (20_000, false), (20_000, false)]);
        assert_eq!(of(1_500), [(1_500, false), (1_000, true), (400, true), (100, true)]);
        assert_eq!(
            of(1_200),
            [(1_200, false), (700, true), (100, true), (0, true)],
            "a file that is cut takes the rest"
        );
        assert_eq!(of(1_140), [(1_140, false), (640, true), (0, true), (0, true)], "the gateway drops so short a rest");
    }

    #[test]
    fn a_file_that_is_too_long_takes_its_own_limit_of_the_total() {
        let lengths = BTreeMap::from([("AGENTS.md", 90_000), ("SOUL.md", 35_000), ("USER.md", 1)]);
        let rest = |file| PromptLimits { file, total: None }.of_files(&lengths, None)["USER.md"].units;
        assert_eq!(rest(None), 4_000, "twice 20,000 of 60,000");
        assert_eq!(rest(Some(28_000)), 4_000);
        assert_eq!(rest(Some(29_000)), 2_000);
        assert_eq!(rest(Some(100_000)), 0);
    }

    #[test]
    fn a_setting_that_is_no_positive_number_counts_as_none() {
        for value in [json!(0), json!(-1), json!("9"), json!(null), json!(0.4)] {
            assert_eq!(of(&json!({ "bootstrapMaxChars": value }), "AGENTS.md", &json!({})).0, 20_000, "{value}");
        }
    }
}
