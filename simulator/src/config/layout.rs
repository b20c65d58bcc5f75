//! The files that the configuration is spread over, and which writes go through a directive.

use serde_json::{Value, json};

use crate::{
    error::RpcError,
    profile::{Profile, RosterShape},
};

/// Where the configuration is on the gateway's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigLayout {
    /// openclaw.json holds everything.
    #[default]
    OneFile,
    /// An included file holds everything.
    IncludedRoot,
    /// An included file holds `agents`.
    IncludedAgents,
    /// An included file holds `agents.entries` or `agents.list`.
    IncludedRoster,
    /// An included file holds `agents.defaults`, without `systemAgent`.
    IncludedDefaults,
    /// openclaw.json is mounted by itself, so that no file can take its place.
    Mounted,
}

/// A write of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigWrite {
    Patch,
    Create,
    Delete,
}

impl ConfigLayout {
    /// The path of the directive.
    fn path(self, profile: &Profile) -> Option<Vec<&'static str>> {
        let roster = match profile.roster {
            RosterShape::Entries => "entries",
            RosterShape::List => "list",
        };
        match self {
            Self::OneFile | Self::Mounted => None,
            Self::IncludedRoot => Some(vec![]),
            Self::IncludedAgents => Some(vec!["agents"]),
            Self::IncludedRoster => Some(vec!["agents", roster]),
            Self::IncludedDefaults => Some(vec!["agents", "defaults"]),
        }
    }

    /// The file before its directives are resolved; `None` for a file without a directive.
    pub(crate) fn parsed(self, document: &Value, profile: &Profile) -> Option<Value> {
        let mut parsed = document.clone();
        let mut at = &mut parsed;
        for key in self.path(profile)? {
            at = &mut at[key];
        }
        *at = json!({"$include": "./included.json5"});
        Some(parsed)
    }

    /// `includeProvenance`, and whether an included file has the roster.
    pub(crate) fn provenance(self, document: &Value, profile: &Profile) -> (Value, bool) {
        let Some(path) = self.path(profile) else { return (json!([]), false) };
        let file = format!("{}/.openclaw/included.json5", profile.home);
        let directive = json!({
            "path": path, "kind": "single", "hasSiblingOverrides": false, "hasArrayAncestor": false, "targetPath": file,
        });
        let agents = &document["agents"];
        let has_roster = !agents["entries"].is_null() || !agents["list"].is_null();
        (json!([directive]), has_roster && self != Self::IncludedDefaults)
    }

    /// Whether a write puts the resolved values into openclaw.json: 2026.3.2 does.
    pub(crate) fn is_replaced(self, profile: &Profile) -> bool {
        !profile.defaults_enrol_all && self.path(profile).is_some()
    }

    /// The refusal of a write.
    pub(crate) fn refusal(self, write: ConfigWrite, profile: &Profile) -> Option<RpcError> {
        let flattened = |place: &str| {
            let code = if profile.roster == RosterShape::Entries { ": code=CONFIG_INCLUDE_OWNERSHIP" } else { "" };
            RpcError::unavailable(format!(
                "Error: Config write would flatten $include-owned config at {place}; edit that include file directly or remove the $include first.{code}"
            ))
        };
        let entries = profile.roster == RosterShape::Entries;
        match self {
            Self::OneFile => None,
            Self::Mounted => Some(RpcError::unavailable(format!(
                "Error: EBUSY: resource busy or locked, rename '{0}/.openclaw/openclaw.json.tmp' -> '{0}/.openclaw/openclaw.json': code=EBUSY",
                profile.home
            ))),
            _ if self.is_replaced(profile) => None,
            Self::IncludedRoot => Some(flattened(if entries { "agents" } else { "<root>" })),
            Self::IncludedDefaults => (write != ConfigWrite::Delete).then(|| flattened("agents.defaults")),
            // A deletion also touches keys outside of the included file.
            Self::IncludedAgents if entries => (write == ConfigWrite::Delete).then(|| flattened("agents")),
            Self::IncludedAgents => (write == ConfigWrite::Patch).then(|| flattened("agents")),
            Self::IncludedRoster if entries => (write == ConfigWrite::Delete).then(|| flattened("agents")),
            Self::IncludedRoster => Some(flattened("agents.list")),
        }
    }
}
