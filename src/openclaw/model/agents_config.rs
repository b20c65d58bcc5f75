//! The field `agents` of a gateway's config, as raw JSON.

use serde::Deserialize;
use serde::de::Error;
use serde_json::value::RawValue;

use super::prompt_limits::{PromptLimits, RawPromptLimits};
use super::readers::{List, Named, lax, optional, present};
use super::text::{is_clean, word};
use crate::openclaw::limits;

/// The shape of the roster in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterShape {
    /// `agents.list[]`, up to 2026.7 (`docs/gateway-facts.md#version-boundaries`).
    List,
    /// `agents.entries{}`, from 2026.8.1 on (`docs/gateway-facts.md#version-boundaries`).
    Entries,
}

/// The field `agents` of a config.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct AgentsConfig {
    #[serde(rename = "$include", deserialize_with = "present")]
    pub(crate) include: Option<Box<RawValue>>,
    pub(crate) entries: Option<Box<RawValue>>,
    pub(crate) list: Option<Box<RawValue>>,
    pub(crate) defaults: Option<Box<RawValue>>,
    #[serde(deserialize_with = "lax")]
    pub(crate) ownership: Option<String>,
}

/// The id of an item of `agents.list`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawId {
    #[serde(deserialize_with = "word")]
    id: Option<String>,
}

/// `agents.defaults`, as far as it is about models.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawModelDefaults {
    #[serde(deserialize_with = "lax")]
    model: Option<RawModel>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawModel {
    #[serde(deserialize_with = "lax")]
    fallbacks: Option<List<String, { limits::FALLBACKS }>>,
}

/// `agents.defaults`, as far as it is about the agent that the gateway itself uses.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSystemDefaults {
    #[serde(deserialize_with = "present")]
    system_agent: Option<Box<RawValue>>,
}

impl AgentsConfig {
    /// Whether there is a roster. An empty one counts as one.
    pub(crate) fn has_roster(&self) -> bool {
        self.entries.is_some() || self.list.is_some()
    }

    /// Whether `agents.defaults.systemAgent` is there.
    pub(crate) fn has_system_agent(&self) -> bool {
        let raw = self.defaults.as_deref().and_then(|raw| serde_json::from_str::<RawSystemDefaults>(raw.get()).ok());
        raw.is_some_and(|defaults| defaults.system_agent.is_some())
    }

    /// Whether a directive can hold entries of the roster.
    pub(crate) fn includes_entries(&self) -> bool {
        [&self.entries, &self.list].into_iter().flatten().any(|raw| has_directive(raw))
    }

    /// Whether another file holds the list of agents.
    pub(crate) fn includes_list(&self) -> bool {
        self.list.as_ref().is_some_and(|raw| raw.get().starts_with('{') && has_directive(raw))
    }

    /// The limits of prompts in `agents.defaults`.
    pub(crate) fn prompt_limits(&self) -> PromptLimits {
        let raw = self.defaults.as_deref().and_then(|raw| serde_json::from_str::<RawPromptLimits>(raw.get()).ok());
        raw.unwrap_or_default().into()
    }

    /// `agents.defaults.model.fallbacks`. A list that is too long, or has other values than texts, counts as none.
    pub(crate) fn default_fallbacks(&self) -> Vec<String> {
        let defaults =
            self.defaults.as_deref().and_then(|raw| serde_json::from_str::<RawModelDefaults>(raw.get()).ok());
        let fallbacks = defaults.and_then(|defaults| defaults.model?.fallbacks).map(|list| list.0).unwrap_or_default();
        if fallbacks.iter().all(|name| is_clean(name)) { fallbacks } else { Vec::new() }
    }

    /// The agents' entries as raw JSON with their ids; the items of a list in the order of the list.
    ///
    /// # Errors
    /// The roster has more than [`limits::AGENTS`] entries. A shortened roster would show the other agents as absent.
    pub(crate) fn roster(&self, shape: RosterShape) -> Result<Vec<(String, &RawValue)>, serde_json::Error> {
        let raw = match shape {
            RosterShape::Entries => self.entries.as_deref(),
            RosterShape::List => self.list.as_deref(),
        };
        let raw = raw.map_or("", RawValue::get);
        match shape {
            RosterShape::Entries if raw.starts_with('{') => {
                let entries: Named<&RawValue, { limits::AGENTS }> = serde_json::from_str(raw)?;
                Ok(entries.0.into_iter().filter(|(id, _)| is_clean(id)).collect())
            }
            RosterShape::List if raw.starts_with('[') => {
                let list: List<&RawValue, { limits::AGENTS }> = serde_json::from_str(raw)?;
                let mut read = Vec::new();
                for entry in list.0 {
                    if let Some(RawId { id: Some(id) }) = optional(entry).map_err(serde_json::Error::custom)? {
                        read.push((id, entry));
                    }
                }
                Ok(read)
            }
            RosterShape::Entries | RosterShape::List => Ok(Vec::new()),
        }
    }
}

/// Whether there is a directive anywhere in a file. The gateway answers compact JSON, in which this text is a key and nothing else.
pub(crate) fn has_directive(text: &RawValue) -> bool {
    text.get().contains("\"$include\":")
}
