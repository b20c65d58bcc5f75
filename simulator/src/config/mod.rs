//! The configuration: the written document, the applied document, and the replies that show both.

pub(crate) mod arrays;
pub(crate) mod document;
pub(crate) mod env;
pub(crate) mod heartbeats;
pub(crate) mod layout;
pub(crate) mod merge;
pub(crate) mod models;
pub(crate) mod roster;
pub(crate) mod rules;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    clock::{base64url, sha256_hex},
    frames::object_text,
    profile::{Profile, RosterShape},
};
pub(crate) use document::Document;
use layout::ConfigLayout;

/// The written configuration and the applied one.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) document: Arc<Document>,
    pub(crate) applied: Arc<Document>,
    /// While set, the lease of a killed process is held: writes are accepted and not applied.
    pub(crate) unsettled_until: Option<Instant>,
    /// Whether the file is no longer valid JSON. `document` keeps the last written content for a repair.
    pub(crate) broken: bool,
    pub(crate) layout: ConfigLayout,
    last_reply: Option<LastReply>,
}

/// The last reply of `config.get`, and the state that the reply shows.
#[derive(Debug)]
struct LastReply {
    layout: ConfigLayout,
    document: Arc<Document>,
    applied_hash: String,
    profile: Arc<Profile>,
    text: Arc<str>,
}

impl LastReply {
    fn shows(&self, config: &Config, profile: &Arc<Profile>) -> bool {
        self.layout == config.layout
            && Arc::ptr_eq(&self.document, &config.document)
            && Arc::ptr_eq(&self.profile, profile)
            && self.applied_hash == config.applied_hash(profile)
    }
}

/// The gateway's parse error for a file that is not valid JSON.
pub(crate) const PARSE_ERROR: &str = "JSON5 parse failed: SyntaxError: JSON5: invalid end of input at 36:21";

impl Config {
    pub(crate) fn fresh(profile: &Profile) -> Self {
        let value = json!({
            "gateway": {"mode": "local"},
            "agents": {"defaults": {"heartbeat": {"every": "0m"}, "model": {"primary": "scripted/m1"}}},
        });
        let document = Arc::new(Document::new(value, profile.roster));
        Self {
            applied: document.clone(),
            document,
            unsettled_until: None,
            broken: false,
            layout: ConfigLayout::OneFile,
            last_reply: None,
        }
    }

    /// Whether the written configuration is applied.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled_until.is_none() && self.is_applied()
    }

    /// Whether the applied configuration equals the written one.
    pub(crate) fn is_applied(&self) -> bool {
        Arc::ptr_eq(&self.document, &self.applied) || self.document.value == self.applied.value
    }

    /// The hash that a write must name as its base.
    pub(crate) fn hash(&self, profile: &Profile) -> String {
        hash(&self.document, profile, if self.broken { "broken file" } else { "file" })
    }

    fn revision_hash(&self, profile: &Profile) -> String {
        hash(&self.document, profile, "revision")
    }

    /// The hash of the applied configuration. It differs from the revision's hash while the gateway is not settled.
    pub(crate) fn applied_hash(&self, profile: &Profile) -> String {
        let salt = if self.unsettled_until.is_some() { "unsettled" } else { "revision" };
        hash(&self.applied, profile, salt)
    }

    /// The reply of `config.get`, as JSON. The reply is built once per state.
    pub(crate) fn reply(&mut self, profile: &Arc<Profile>) -> Arc<str> {
        if self.broken {
            return self.snapshot_of_broken(profile).to_string().into();
        }
        if let Some(last) = self.last_reply.as_ref().filter(|last| last.shows(self, profile)) {
            return last.text.clone();
        }
        let text: Arc<str> = self.snapshot(profile).into();
        self.last_reply = Some(LastReply {
            layout: self.layout,
            document: self.document.clone(),
            applied_hash: self.applied_hash(profile),
            profile: profile.clone(),
            text: text.clone(),
        });
        text
    }

    fn snapshot(&self, profile: &Profile) -> String {
        let source = with_implied_main(env::expanded(&self.document.value, profile).into_owned(), profile);
        let source_text = source.to_string();
        let runtime_text = with_defaults(source, profile).to_string();
        let mut fields = json!({
            "path": path(profile),
            "exists": true,
            "raw": format!("{:#}", self.document.value),
            "valid": true,
            "hash": self.hash(profile),
            "issues": [],
            "warnings": [],
            "legacyIssues": [],
        });
        let parsed = self.layout.parsed(&self.document.value, profile).map(|parsed| parsed.to_string());
        let parsed = parsed.as_deref().unwrap_or_else(|| self.document.text());
        let mut texts = vec![("parsed", parsed), ("resolved", &source_text), ("config", &runtime_text)];
        if profile.defaults_enrol_all {
            texts.extend([("sourceConfig", source_text.as_str()), ("runtimeConfig", &runtime_text)]);
        }
        if profile.opaque_hashes {
            fields["includedPaths"] = json!([]);
            let (provenance, is_owned) = self.layout.provenance(&self.document.value, profile);
            fields["includeProvenance"] = provenance;
            fields["agentRosterIncludeOwned"] = json!(is_owned);
            fields["bindingsIncludeOwned"] = json!(false);
            fields["configRevisionHash"] = json!(self.revision_hash(profile));
            fields["appliedConfigHash"] = json!(self.applied_hash(profile));
        }
        object_text(&fields, &texts)
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

fn hash(document: &Document, profile: &Profile, salt: &str) -> String {
    let digest = sha256_hex(format!("{salt}:{}", document.digest()));
    if profile.opaque_hashes { format!("hmac-sha256:v1:{}", base64url(&digest.as_bytes()[..32])) } else { digest }
}

fn with_implied_main(mut document: Value, profile: &Profile) -> Value {
    if profile.roster == RosterShape::Entries && document["agents"]["entries"].is_null() {
        document["agents"]["entries"] = json!({roster::MAIN: {}});
    }
    document
}

/// The configuration with the gateway's own defaults. A client must distinguish the defaults from written values.
pub(crate) fn with_defaults(document: Value, profile: &Profile) -> Value {
    let mut config = with_implied_main(document, profile);
    let defaults = json!({
        "maxConcurrent": 8,
        "subagents": {"maxConcurrent": 8, "archiveAfterMinutes": 60},
        "compaction": {"mode": "safeguard"},
    });
    config["agents"]["defaults"] = merge::merged(defaults, config["agents"]["defaults"].take());
    let rest = json!({
        "commands": {"native": "auto", "nativeSkills": "auto", "restart": true},
        "messages": {"ackReactionScope": "group-mentions"},
    });
    merge::merged(rest, config)
}
