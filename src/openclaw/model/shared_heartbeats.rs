//! The heartbeats of agents that Muster did not create.
//!
//! As soon as one entry of a gateway's config has a `heartbeat` block, agents without a block have no heartbeat. Each of
//! Muster's entries has a block. An empty block inherits the defaults key by key and keeps the heartbeat of its agent as
//! before. These facts hold on 2026.3.2, 2026.5.28, 2026.7.1 and 2026.9.6 (`docs/gateway-facts.md#heartbeats`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::agents_config::{AgentsConfig, RosterShape};
use super::readers::lax;

/// Most blocks that Muster writes for agents of others on one gateway. One config write must hold all of them, and a write of
/// 200 entries takes 54 s (2026.9.6, `docs/gateway-facts.md#duration-of-config-writes`).
pub const MAX_KEPT_HEARTBEATS: usize = 200;
/// The longest agent id that a gateway accepts, in bytes.
const MAX_ID_BYTES: usize = 64;
/// The implicit agent of a gateway without entries.
const MAIN: &str = "main";

/// A `heartbeat` block in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeartbeatBlock {
    /// `{}`: the block inherits all defaults.
    Empty,
    /// The block sets at least one key.
    Filled,
}

/// The agents that have a heartbeat while no entry has a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Enrolment {
    /// No agent: the defaults turn heartbeats off.
    #[default]
    NoAgent,
    /// All agents: the defaults have a block.
    AllAgents,
    /// The agent that the defaults name.
    Named(String),
    /// The ambient agent: the first of these candidates, or else the only agent of the gateway.
    Ambient(Vec<String>),
}

/// The heartbeats of a gateway's config: the agents, their blocks, and the agents with a heartbeat without blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatRule {
    enrolment: Enrolment,
    agents: BTreeSet<String>,
    blocks: BTreeMap<String, HeartbeatBlock>,
}

/// Muster's agents on a gateway, and the permission to write blocks for the other agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatClaims {
    /// Whether Muster keeps the heartbeats of the other agents.
    pub keep: bool,
    /// Ids of the agents that Muster created.
    pub made: BTreeSet<String>,
    /// Ids of the agents that Muster adopted.
    pub adopted: BTreeSet<String>,
    /// Ids among them of the agents that Muster only observes by now: somebody else keeps their entries.
    pub observed: BTreeSet<String>,
    /// Ids of the agents that Muster did not create and whose block is recorded as Muster's.
    pub recorded: BTreeSet<String>,
}

/// The changes for the agents that Muster did not create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatPlan {
    /// Agents that get an empty block.
    pub add: BTreeSet<String>,
    /// Agents that lose their empty block.
    pub remove: BTreeSet<String>,
    /// The ids that must be recorded before a write.
    pub record: BTreeSet<String>,
    /// Agents that have no heartbeat because of Muster's agents.
    pub stopped: BTreeSet<String>,
}

impl HeartbeatRule {
    /// Reads the rule from `agents` of a config.
    ///
    /// `defaults_enrol_all` says whether a block in the defaults gives all agents a heartbeat. On 2026.3.2 only the default
    /// agent has a heartbeat by that block (`docs/gateway-facts.md#heartbeats`).
    pub(crate) fn read(
        agents: &AgentsConfig,
        shape: RosterShape,
        defaults_enrol_all: bool,
    ) -> Result<Self, serde_json::Error> {
        let defaults: RawDefaults = agents.defaults.as_deref().and_then(read).unwrap_or_default();
        let entries = entries(agents, shape)?;
        let mut ids: BTreeSet<_> = entries.iter().map(|(id, _)| id.clone()).collect();
        if ids.is_empty() {
            ids.insert(MAIN.to_owned());
        }
        let blocks = entries.iter().filter_map(|(id, entry)| Some((id.clone(), block(entry.heartbeat.as_deref()?)?)));
        let blocks = blocks.collect();
        let default = entries.iter().find(|(_, entry)| entry.default == Some(true)).map(|(id, _)| id.clone());
        let ambient: Vec<String> = match shape {
            RosterShape::List => default.into_iter().chain(entries.into_iter().map(|(id, _)| id)).collect(),
            RosterShape::Entries => {
                let system = defaults.system_agent.and_then(|system| trimmed(&system.agent_id?));
                system.into_iter().chain(default).collect()
            }
        };
        Ok(Self { enrolment: enrolment(defaults.heartbeat, ambient, shape, defaults_enrol_all), blocks, agents: ids })
    }

    /// The agents that have a heartbeat by the gateway's rule if no entry has a block and these agents do not exist.
    fn enrolled_without(&self, made: &BTreeSet<String>) -> BTreeSet<String> {
        let others = || self.agents.difference(made).cloned();
        let only = |id: &String| others().filter(|other| other == id).collect();
        match &self.enrolment {
            Enrolment::NoAgent => BTreeSet::new(),
            Enrolment::AllAgents => others().collect(),
            Enrolment::Named(id) => only(id),
            Enrolment::Ambient(candidates) => {
                let first = candidates.iter().find(|id| !made.contains(*id)).cloned();
                let sole = || others().next().filter(|_| others().count() == 1);
                first.or_else(sole).map(|id| only(&id)).unwrap_or_default()
            }
        }
    }

    /// Plans the blocks of the agents that Muster did not create. `giving` are the agents whose entries get a block in the next
    /// write.
    ///
    /// # Guarantees
    /// The plan adds only recorded blocks, and removes only recorded empty blocks. A foreign block ends no heartbeat that
    /// Muster kept before, and while a foreign block exists, the removal of Muster's last agent removes no block.
    #[must_use]
    pub fn plan(&self, claims: &HeartbeatClaims, giving: &BTreeSet<String>) -> HeartbeatPlan {
        let HeartbeatClaims { keep, made, adopted, recorded, .. } = claims;
        let made: BTreeSet<_> = giving.difference(adopted).chain(made).cloned().collect();
        let has = |id: &String, block: Option<HeartbeatBlock>| self.blocks.get(id).copied() == block;
        let is_ours =
            |id: &String| recorded.contains(id) && (adopted.contains(id) || has(id, Some(HeartbeatBlock::Empty)));
        let has_foreign = self.blocks.keys().any(|id| !made.contains(id) && !is_ours(id));
        let has_agents = !made.is_empty() || !adopted.is_empty();
        let gives = !giving.is_empty()
            || self.blocks.iter().any(|(id, block)| {
                made.contains(id) || (adopted.contains(id) && is_ours(id) && *block == HeartbeatBlock::Filled)
            });
        let enrolled = if has_foreign { BTreeSet::new() } else { self.enrolled_without(&made) };
        let empty = || recorded.iter().filter(|id| has(id, Some(HeartbeatBlock::Empty)));
        let kept: BTreeSet<String> = match (*keep && has_agents, has_foreign) {
            (false, _) => BTreeSet::new(),
            (true, true) => empty().cloned().collect(),
            (true, false) => at_most(enrolled.iter().filter(|id| !has(id, Some(HeartbeatBlock::Filled))), recorded),
        };
        let leaves = *keep && !has_agents && has_foreign;
        let remove: BTreeSet<_> = empty().filter(|id| !leaves && !kept.contains(*id)).cloned().collect();
        let without_block =
            |ids: &BTreeSet<String>| -> BTreeSet<String> { ids.iter().filter(|id| has(id, None)).cloned().collect() };
        let mut record: BTreeSet<_> = recorded.intersection(adopted).cloned().collect();
        record.extend(remove.iter().chain(&kept).cloned());
        record.extend(without_block(adopted).into_iter().filter(|id| self.agents.contains(id)));
        let stopped = if gives { without_block(&enrolled) } else { BTreeSet::new() };
        HeartbeatPlan {
            add: if gives { without_block(&kept) } else { BTreeSet::new() }.intersection(recorded).cloned().collect(),
            stopped: stopped.difference(&kept).filter(|id| !giving.contains(*id)).cloned().collect(),
            remove,
            record,
        }
    }
}

/// At most [`MAX_KEPT_HEARTBEATS`] ids, recorded ids first.
fn at_most<'a>(ids: impl Iterator<Item = &'a String>, recorded: &BTreeSet<String>) -> BTreeSet<String> {
    let (kept, new): (Vec<_>, Vec<_>) =
        ids.filter(|id| id.len() <= MAX_ID_BYTES).partition(|id| recorded.contains(*id));
    kept.into_iter().chain(new).take(MAX_KEPT_HEARTBEATS).cloned().collect()
}

/// The agents with a heartbeat by the defaults, or else the ambient agent.
fn enrolment(
    block: Option<RawDefaultBlock>,
    ambient: Vec<String>,
    shape: RosterShape,
    defaults_enrol_all: bool,
) -> Enrolment {
    let is_set = block.is_some();
    let RawDefaultBlock { every, agent_id } = block.unwrap_or_default();
    // An interval without a digit from 1 to 9, such as `0m`, turns heartbeats off.
    if every.is_some_and(|every| !every.contains(|digit| ('1'..='9').contains(&digit))) {
        return Enrolment::NoAgent;
    }
    match agent_id.as_deref().and_then(trimmed).filter(|_| shape == RosterShape::Entries) {
        Some(id) => Enrolment::Named(id),
        None if is_set && defaults_enrol_all => Enrolment::AllAgents,
        None => Enrolment::Ambient(ambient),
    }
}

/// `agents.defaults` of a config.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawDefaults {
    #[serde(deserialize_with = "lax")]
    heartbeat: Option<RawDefaultBlock>,
    #[serde(deserialize_with = "lax")]
    system_agent: Option<RawDefaultBlock>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawDefaultBlock {
    #[serde(deserialize_with = "lax")]
    every: Option<String>,
    #[serde(deserialize_with = "lax")]
    agent_id: Option<String>,
}

/// The fields of an agent's entry that decide about heartbeats.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawEntryMarks {
    #[serde(deserialize_with = "lax")]
    default: Option<bool>,
    heartbeat: Option<Box<RawValue>>,
}

/// The entries with their ids; the items of a list in the order of the list.
fn entries(agents: &AgentsConfig, shape: RosterShape) -> Result<Vec<(String, RawEntryMarks)>, serde_json::Error> {
    let known = |(id, raw): (String, &RawValue)| Some((id, read(raw)?));
    Ok(agents.roster(shape)?.into_iter().filter_map(known).collect())
}

/// The block in the field `heartbeat` of an entry.
fn block(raw: &RawValue) -> Option<HeartbeatBlock> {
    match raw.get() {
        "null" | "false" => None,
        text if text.starts_with('{') && text[1..].trim_start() == "}" => Some(HeartbeatBlock::Empty),
        _ => Some(HeartbeatBlock::Filled),
    }
}

fn read<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn trimmed(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
#[path = "shared_heartbeats_tests.rs"]
mod tests;
