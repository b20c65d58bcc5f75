//! `agents` of a gateway's config, its parts unread.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::readers::lax;

/// The shape of the roster in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterShape {
    /// `agents.list[]`, up to 2026.7.
    List,
    /// `agents.entries{}`, from 2026.8.1.
    Entries,
}

/// `agents` of a config.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Agents {
    pub(super) entries: Option<Box<RawValue>>,
    pub(super) list: Option<Box<RawValue>>,
    pub(super) defaults: Option<Box<RawValue>>,
    #[serde(deserialize_with = "lax")]
    pub(super) ownership: Option<String>,
}
