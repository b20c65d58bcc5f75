//! The configuration: the written document, the applied document, and the replies that show both.

pub(crate) mod env;
pub(crate) mod heartbeats;
pub(crate) mod merge;
pub(crate) mod models;
pub(crate) mod roster;
pub(crate) mod rules;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    clock::{base64url, sha256_hex},
    profile::{Profile, RosterShape},
};

/// The written configuration and the applied one.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) document: Value,
    pub(crate) applied: Value,
    /// While set, the lease of a killed process is held: writes are accepted and not applied.
    pub(crate) unsettled_until: Option<Instant>,
    /// Whether the file is no longer valid JSON. `document` keeps the last written content for a repair.
    pub(crate) broken: bool,
}

/// The gateway's parse error for a file that is not valid JSON.
pub(crate) const PARSE_ERROR: &str = "JSON5 parse failed: SyntaxError: JSON5: invalid end of input at 36:21";

impl Config {
    pub(crate) fn fresh() -> Self {
        let document = json!({
            "gateway": {"mode": "local"},
            "agents": {"defaults": {"heartbeat": {"every": "0m"}, "model": {"primary": "scripted/m1"}}},
        });
        Self { applied: document.clone(), document, unsettled_until: None, broken: false }
    }

    /// Whether the written configuration is applied.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled_until.is_none() && self.document == self.applied
    }

    /// The hash that a write must name as its base.
    pub(crate) fn hash(&self, profile: &Profile) -> String {
        hash(&self.document, profile, if self.broken { "broken file" } else { "file" })
    }

    pub(crate) fn revision_hash(&self, profile: &Profile) -> String {
        hash(&self.document, profile, "revision")
    }

    /// The hash of the applied configuration. It differs from the revision's hash while the gateway is not settled.
    pub(crate) fn applied_hash(&self, profile: &Profile) -> String {
        let salt = if self.unsettled_until.is_some() { "unsettled" } else { "revision" };
        hash(&self.applied, profile, salt)
    }

    /// The reply of `config.get`.
    pub(crate) fn snapshot(&self, profile: &Profile) -> Value {
        if self.broken {
            return self.snapshot_of_broken(profile);
        }
        let source = with_implied_main(&env::expanded(self.document.clone(), profile), profile);
        let runtime = with_defaults(&source, profile);
        let mut snapshot = json!({
            "path": path(profile),
            "exists": true,
            "raw": format!("{:#}", self.document),
            "parsed": self.document,
            "resolved": source,
            "valid": true,
            "config": runtime,
            "hash": self.hash(profile),
            "issues": [],
            "warnings": [],
            "legacyIssues": [],
        });
        if profile.defaults_enrol_all {
            snapshot["sourceConfig"] = source;
            snapshot["runtimeConfig"] = runtime;
        }
        if profile.opaque_hashes {
            snapshot["includedPaths"] = json!([]);
            snapshot["includeProvenance"] = json!([]);
            snapshot["agentRosterIncludeOwned"] = json!(false);
            snapshot["bindingsIncludeOwned"] = json!(false);
            snapshot["configRevisionHash"] = json!(self.revision_hash(profile));
            snapshot["appliedConfigHash"] = json!(self.applied_hash(profile));
        }
        snapshot
    }

    /// The reply of `config.get` while the file is not valid JSON: a success with an empty configuration.
    fn snapshot_of_broken(&self, profile: &Profile) -> Value {
        let mut snapshot = json!({
            "path": path(profile),
            "exists": true,
            "raw": null,
            "parsed": null,
            "resolved": {},
            "valid": false,
            "config": {},
            "hash": self.hash(profile),
            "issues": [{"path": "", "message": PARSE_ERROR}],
            "warnings": [],
            "legacyIssues": [],
        });
        if profile.defaults_enrol_all {
            snapshot["sourceConfig"] = json!({});
            snapshot["runtimeConfig"] = json!({});
        }
        if profile.opaque_hashes {
            snapshot["includedPaths"] = json!([]);
            snapshot["configRevisionHash"] = Value::Null;
            snapshot["appliedConfigHash"] = json!(self.applied_hash(profile));
        }
        snapshot
    }
}

/// The path of the configuration file, as the gateway shows it.
pub(crate) fn path(profile: &Profile) -> String {
    format!("{}/.openclaw/openclaw.json", profile.home)
}

/// The workspace of an agent whose entry has none.
pub(crate) fn default_workspace(profile: &Profile, id: &str) -> String {
    if id == roster::MAIN {
        format!("{}/.openclaw/workspace", profile.home)
    } else {
        format!("{}/.openclaw/workspace-{id}", profile.home)
    }
}

fn hash(document: &Value, profile: &Profile, salt: &str) -> String {
    let digest = sha256_hex(format!("{salt}:{document}"));
    if profile.opaque_hashes { format!("hmac-sha256:v1:{}", base64url(&digest.as_bytes()[..32])) } else { digest }
}

fn with_implied_main(document: &Value, profile: &Profile) -> Value {
    let mut source = document.clone();
    if profile.roster == RosterShape::Entries && source["agents"]["entries"].is_null() {
        source["agents"]["entries"] = json!({roster::MAIN: {}});
    }
    source
}

/// The configuration with the gateway's own defaults. A client must distinguish the defaults from written values.
pub(crate) fn with_defaults(document: &Value, profile: &Profile) -> Value {
    let mut config = with_implied_main(document, profile);
    let defaults = json!({
        "maxConcurrent": 8,
        "subagents": {"maxConcurrent": 8, "archiveAfterMinutes": 60},
        "compaction": {"mode": "safeguard"},
    });
    config["agents"]["defaults"] = merge::merged(&defaults, &config["agents"]["defaults"]);
    let rest = json!({
        "commands": {"native": "auto", "nativeSkills": "auto", "restart": true},
        "messages": {"ackReactionScope": "group-mentions"},
    });
    merge::merged(&rest, &config)
}
