//! The heartbeats of agents that Muster did not make.
//!
//! As soon as one entry of a gateway's config has a `heartbeat` block, agents without a block have no heartbeat, and each of
//! Muster's entries has one. An empty block inherits the defaults key by key, so it keeps an agent beating as before.
//! All of this was measured on 2026.3.2, 2026.5.28, 2026.7.1 and 2026.9.6 (2026-11-28, `docs/compatibility.md`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::agents_config::{AgentsConfig, RosterShape};
use super::readers::lax;

/// Most blocks that Muster makes for others at one gateway. They have to be in one config write, and one of 200 entries took
/// 54 s (measured).
pub const MOST_KEPT: usize = 200;
/// The longest id of an agent that a gateway takes.
const LONGEST_ID: usize = 64;
/// The agent that a gateway has without an entry.
const MAIN: &str = "main";

/// A `heartbeat` block in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// It inherits everything.
    Empty,
    /// It sets something.
    Filled,
}

/// Which agents beat while no entry has a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Enrolment {
    /// None: the defaults turn heartbeats off.
    #[default]
    Nobody,
    /// All: the defaults have a block.
    Everybody,
    /// The agent that the defaults name.
    Named(String),
    /// The ambient agent: the first of these, or else the only one that there is.
    Ambient(Vec<String>),
}

/// What a gateway's config says about heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatRule {
    enrolment: Enrolment,
    agents: BTreeSet<String>,
    blocks: BTreeMap<String, Block>,
}

/// What Muster has at a gateway, and what it may do there for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatClaims {
    /// Whether agents of others keep their heartbeats.
    pub keep: bool,
    /// Ids of the agents that Muster made.
    pub made: BTreeSet<String>,
    /// Ids of the agents that Muster took over.
    pub adopted: BTreeSet<String>,
    /// Ids of agents that Muster did not make and whose block counts as Muster's.
    pub recorded: BTreeSet<String>,
}

/// What follows for the agents of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatPlan {
    /// Agents that get an empty block.
    pub add: BTreeSet<String>,
    /// Agents whose empty block is taken away.
    pub remove: BTreeSet<String>,
    /// What the record has to be before anything is written.
    pub record: BTreeSet<String>,
    /// Agents that would beat if Muster had no agent at this gateway, and do not.
    pub stopped: BTreeSet<String>,
}

impl HeartbeatRule {
    /// Reads the rule from `agents` of a config. With `everybody`, a block in the defaults makes all agents beat; on 2026.3.2 it is
    /// for the default agent alone.
    pub(crate) fn read(agents: &AgentsConfig, shape: RosterShape, everybody: bool) -> Result<Self, serde_json::Error> {
        let defaults: Defaults = agents.defaults.as_deref().and_then(read).unwrap_or_default();
        let entries = marks(agents, shape)?;
        let mut ids: BTreeSet<_> = entries.iter().map(|(id, _)| id.clone()).collect();
        if ids.is_empty() {
            ids.insert(MAIN.to_owned());
        }
        let blocks = entries.iter().filter_map(|(id, mark)| Some((id.clone(), block(mark.heartbeat.as_deref()?)?)));
        let blocks = blocks.collect();
        let marked = entries.iter().find(|(_, mark)| mark.default == Some(true)).map(|(id, _)| id.clone());
        let ambient: Vec<String> = match shape {
            RosterShape::List => marked.into_iter().chain(entries.into_iter().map(|(id, _)| id)).collect(),
            RosterShape::Entries => {
                let system = defaults.system_agent.and_then(|system| named(&system.agent_id?));
                system.into_iter().chain(marked).collect()
            }
        };
        Ok(Self { enrolment: enrolment(defaults.heartbeat, ambient, shape, everybody), blocks, agents: ids })
    }

    /// The agents that beat by the gateway's own rule while no entry has a block and these agents are not there.
    fn beating_without(&self, made: &BTreeSet<String>) -> BTreeSet<String> {
        let others = || self.agents.difference(made).cloned();
        let only = |id: &String| others().filter(|other| other == id).collect();
        match &self.enrolment {
            Enrolment::Nobody => BTreeSet::new(),
            Enrolment::Everybody => others().collect(),
            Enrolment::Named(id) => only(id),
            Enrolment::Ambient(candidates) => {
                let first = candidates.iter().find(|id| !made.contains(*id)).cloned();
                let sole = || others().next().filter(|_| others().count() == 1);
                first.or_else(sole).map(|id| only(&id)).unwrap_or_default()
            }
        }
    }

    /// Decides about the agents of others. `giving` are the agents to whose entries Muster is about to give a block.
    ///
    /// # Guarantees
    /// No block is added that is not recorded. Only empty blocks that are recorded are taken away. A block that somebody else
    /// made ends no heartbeat that was kept before, and the last agent of Muster takes none away while such a block is there.
    #[must_use]
    pub fn plan(&self, claims: &HeartbeatClaims, giving: &BTreeSet<String>) -> HeartbeatPlan {
        let HeartbeatClaims { keep, made, adopted, recorded } = claims;
        let made: BTreeSet<_> = giving.difference(adopted).chain(made).cloned().collect();
        let is = |id: &String, block: Option<Block>| self.blocks.get(id).copied() == block;
        let is_ours = |id: &String| recorded.contains(id) && (adopted.contains(id) || is(id, Some(Block::Empty)));
        let somebody_elses = self.blocks.keys().any(|id| !made.contains(id) && !is_ours(id));
        let has_agents = !made.is_empty() || !adopted.is_empty();
        let gives = !giving.is_empty()
            || self.blocks.iter().any(|(id, block)| {
                made.contains(id) || (adopted.contains(id) && is_ours(id) && *block == Block::Filled)
            });
        let beating = if somebody_elses { BTreeSet::new() } else { self.beating_without(&made) };
        let empty = || recorded.iter().filter(|id| is(id, Some(Block::Empty)));
        let wanted: BTreeSet<String> = match (*keep && has_agents, somebody_elses) {
            (false, _) => BTreeSet::new(),
            (true, true) => empty().cloned().collect(),
            (true, false) => at_most(beating.iter().filter(|id| !is(id, Some(Block::Filled))), recorded),
        };
        let leaves = *keep && !has_agents && somebody_elses;
        let remove: BTreeSet<_> = empty().filter(|id| !leaves && !wanted.contains(*id)).cloned().collect();
        let without_block =
            |ids: &BTreeSet<String>| -> BTreeSet<String> { ids.iter().filter(|id| is(id, None)).cloned().collect() };
        let mut record: BTreeSet<_> = recorded.intersection(adopted).cloned().collect();
        record.extend(remove.iter().chain(&wanted).cloned());
        record.extend(without_block(adopted).into_iter().filter(|id| self.agents.contains(id)));
        let stopped = if gives { without_block(&beating) } else { BTreeSet::new() };
        HeartbeatPlan {
            add: if gives { without_block(&wanted) } else { BTreeSet::new() }.intersection(recorded).cloned().collect(),
            stopped: stopped.difference(&wanted).filter(|id| !giving.contains(*id)).cloned().collect(),
            remove,
            record,
        }
    }
}

/// As many as may be kept, those first that are kept already.
fn at_most<'a>(ids: impl Iterator<Item = &'a String>, recorded: &BTreeSet<String>) -> BTreeSet<String> {
    let (kept, new): (Vec<_>, Vec<_>) = ids.filter(|id| id.len() <= LONGEST_ID).partition(|id| recorded.contains(*id));
    kept.into_iter().chain(new).take(MOST_KEPT).cloned().collect()
}

/// Which agents beat by the defaults, or else by themselves.
fn enrolment(block: Option<DefaultBlock>, ambient: Vec<String>, shape: RosterShape, everybody: bool) -> Enrolment {
    let is_set = block.is_some();
    let DefaultBlock { every, agent_id } = block.unwrap_or_default();
    // A time without a digit from 1 to 9 is none, and turns heartbeats off.
    if every.is_some_and(|every| !every.contains(|digit| ('1'..='9').contains(&digit))) {
        return Enrolment::Nobody;
    }
    match agent_id.as_deref().and_then(named).filter(|_| shape == RosterShape::Entries) {
        Some(id) => Enrolment::Named(id),
        None if is_set && everybody => Enrolment::Everybody,
        None => Enrolment::Ambient(ambient),
    }
}

/// `agents.defaults` of a config.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Defaults {
    #[serde(deserialize_with = "lax")]
    heartbeat: Option<DefaultBlock>,
    #[serde(deserialize_with = "lax")]
    system_agent: Option<DefaultBlock>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DefaultBlock {
    #[serde(deserialize_with = "lax")]
    every: Option<String>,
    #[serde(deserialize_with = "lax")]
    agent_id: Option<String>,
}

/// What is read of an agent's entry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Mark {
    #[serde(deserialize_with = "lax")]
    default: Option<bool>,
    heartbeat: Option<Box<RawValue>>,
}

/// The entries by id, those of a list in its order.
fn marks(agents: &AgentsConfig, shape: RosterShape) -> Result<Vec<(String, Mark)>, serde_json::Error> {
    let known = |(id, raw): (String, &RawValue)| Some((id, read(raw)?));
    Ok(agents.roster(shape)?.into_iter().filter_map(known).collect())
}

/// What a `heartbeat` of an entry is.
fn block(raw: &RawValue) -> Option<Block> {
    match raw.get() {
        "null" | "false" => None,
        text if text.starts_with('{') && text[1..].trim_start() == "}" => Some(Block::Empty),
        _ => Some(Block::Filled),
    }
}

fn read<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn named(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
#[path = "shared_heartbeats_tests.rs"]
mod tests;
