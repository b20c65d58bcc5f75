//! The `heartbeat` blocks that the config writer writes for agents that Muster did not create.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::backoff::doubled;
use crate::openclaw::model::{AgentEntry, HeartbeatClaims, Inventory};

/// The first and the longest wait after a patch with such blocks alone, so that a gateway that does not store them is not written to
/// without end.
const BLOCKS_ALONE_WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(10));

/// The claims, and the state of patches with such blocks alone.
#[derive(Debug, Default)]
pub(crate) struct SharedBlocks {
    /// `None` before the first claim. No entry gets a block before it.
    claims: Option<HeartbeatClaims>,
    /// The number of patches with such blocks alone since the claims changed.
    sent: u32,
    not_before: Option<Instant>,
}

impl SharedBlocks {
    /// Sets the claims: Muster's agents, and the recorded blocks. Returns whether they changed.
    pub(crate) fn claim(&mut self, claims: HeartbeatClaims) -> bool {
        let is_changed = self.claims.as_ref() != Some(&claims);
        if is_changed {
            *self = Self { claims: Some(claims), ..Self::default() };
        }
        is_changed
    }

    /// Whether an entry may be written now. The first block of an adopted agent waits until the block is recorded as Muster's.
    pub(crate) fn may_be_written(&self, inventory: &Inventory, entry: &AgentEntry) -> bool {
        let is_recorded = || self.claims.as_ref().is_some_and(|claims| claims.recorded.contains(&entry.id));
        let has_block =
            || inventory.entry(&entry.id).is_some_and(|stored| stored.get("heartbeat").is_some_and(Value::is_object));
        !entry.keeps_the_rest || has_block() || !gives_block(inventory, entry) || is_recorded()
    }

    /// The blocks for a patch with these entries, or alone: an empty object for a new block, null for one to remove. `None` while the
    /// entries have to wait, because a block is not recorded yet.
    pub(crate) fn blocks_for_patch(
        &self,
        inventory: &Inventory,
        entries: &[&AgentEntry],
    ) -> Option<BTreeMap<String, Value>> {
        let Some(claims) = &self.claims else { return entries.is_empty().then(BTreeMap::new) };
        if entries.is_empty() && self.due().is_some() {
            return Some(BTreeMap::new());
        }
        let giving = entries.iter().filter(|entry| gives_block(inventory, entry));
        let giving: BTreeSet<_> = giving.map(|entry| entry.id.clone()).collect();
        let plan = inventory.heartbeats.plan(claims, &giving);
        if !giving.is_empty() && !plan.record.is_subset(&claims.recorded) {
            return None;
        }
        let add = plan.add.into_iter().map(|id| (id, json!({})));
        Some(add.chain(plan.remove.into_iter().map(|id| (id, Value::Null))).collect())
    }

    /// Records a sent patch. `alone`: it has no entries.
    pub(crate) fn sent(&mut self, alone: bool) {
        if alone {
            self.sent = self.sent.saturating_add(1);
            self.not_before = Some(Instant::now() + doubled(BLOCKS_ALONE_WAIT.0, BLOCKS_ALONE_WAIT.1, self.sent));
        }
    }

    /// The time of the next patch with such blocks alone; `None` if it may be sent now.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.not_before.filter(|at| *at > Instant::now())
    }
}

/// Whether the patch of an entry has a block.
fn gives_block(inventory: &Inventory, entry: &AgentEntry) -> bool {
    let patch = inventory.entry_patch(entry);
    patch.is_some_and(|patch| patch.get("heartbeat").is_some_and(Value::is_object))
}

/// Adds the blocks to a patch with entries by id. The block of an entry's own patch has precedence.
pub(crate) fn into_entries(entries: &mut Map<String, Value>, blocks: &BTreeMap<String, Value>) {
    for (id, block) in blocks {
        let entry = entries.entry(id.clone()).or_insert_with(|| json!({}));
        insert_block(entry, block);
    }
}

/// Adds the blocks to a patch with a list of entries.
pub(crate) fn into_list(list: &mut Vec<Value>, blocks: &BTreeMap<String, Value>) {
    for (id, block) in blocks {
        match list.iter_mut().find(|entry| entry["id"] == **id) {
            Some(entry) => insert_block(entry, block),
            None => list.push(json!({ "id": id, "heartbeat": block })),
        }
    }
}

fn insert_block(entry: &mut Value, block: &Value) {
    if entry.get("heartbeat").is_none() {
        entry["heartbeat"] = block.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openclaw::model::inventory::assemble;
    use crate::openclaw::model::roster::{ConfigAnswer, RosterAnswer};
    use crate::openclaw::model::{AgentRow, RosterShape, StoredEntry};
    use crate::openclaw::model::{EntryIdentity, HeartbeatEntry};

    fn inventory(entries: &Value) -> Inventory {
        let config =
            json!({ "resolved": { "agents": { "entries": entries } }, "config": { "agents": { "entries": {} } } });
        let config = ConfigAnswer::read(&config.to_string()).unwrap();
        let mut inventory = assemble(config, &RosterAnswer::default(), &BTreeSet::new(), false);
        assert_eq!(inventory.capabilities.roster, RosterShape::Entries);
        for (id, entry) in entries.as_object().into_iter().flatten() {
            let row =
                AgentRow { id: id.clone(), entry: entry.as_object().map(StoredEntry::from), ..AgentRow::default() };
            inventory.agents.insert(id.clone(), row);
        }
        inventory
    }

    fn entry(id: &str) -> AgentEntry {
        AgentEntry {
            id: id.into(),
            name: None,
            workspace: "/w".into(),
            model: None,
            identity: EntryIdentity::default(),
            heartbeat: HeartbeatEntry { every: Some("5m".into()), ..HeartbeatEntry::default() },
            ..AgentEntry::default()
        }
    }

    fn claims(recorded: &[&str]) -> HeartbeatClaims {
        let recorded = recorded.iter().map(|id| (*id).to_owned()).collect();
        HeartbeatClaims { keep: true, recorded, ..HeartbeatClaims::default() }
    }

    #[test]
    fn no_entry_gets_a_block_before_the_blocks_of_other_agents_are_recorded() {
        let (inventory, entry) = (inventory(&json!({ "main": {} })), entry("mc-1"));
        let mut shared = SharedBlocks::default();
        assert_eq!(shared.blocks_for_patch(&inventory, &[&entry]), None);
        shared.claim(claims(&[]));
        assert_eq!(shared.blocks_for_patch(&inventory, &[&entry]), None);
        shared.claim(claims(&["main"]));
        assert_eq!(shared.blocks_for_patch(&inventory, &[&entry]), Some([("main".to_owned(), json!({}))].into()));
    }

    #[test]
    fn an_adopted_agent_waits_until_its_block_is_recorded() {
        let inventory = inventory(&json!({ "main": {}, "nova": { "workspace": "/w" } }));
        let nova = AgentEntry { keeps_the_rest: true, ..entry("nova") };
        let mut shared = SharedBlocks::default();
        shared.claim(claims(&["main"]));
        assert!(!shared.may_be_written(&inventory, &nova) && shared.may_be_written(&inventory, &entry("mc-1")));
        shared.claim(HeartbeatClaims { adopted: ["nova".to_owned()].into(), ..claims(&["main", "nova"]) });
        assert!(shared.blocks_for_patch(&inventory, &[&nova]).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn blocks_that_the_gateway_does_not_store_are_sent_with_growing_waits() {
        let inventory = inventory(&json!({ "main": { "heartbeat": {} } }));
        let mut shared = SharedBlocks::default();
        shared.claim(claims(&["main"]));
        let mut sent = 0;
        for _ in 0..3600 {
            if shared.blocks_for_patch(&inventory, &[]).is_some_and(|blocks| !blocks.is_empty()) {
                shared.sent(true);
                sent += 1;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((5..=15).contains(&sent), "{sent} patches in an hour");
    }

    #[test]
    fn a_block_joins_the_entry_of_its_agent_and_replaces_no_block_of_that_entry() {
        let blocks = [("main".to_owned(), json!({})), ("nova".to_owned(), json!({}))].into();
        let mut list = vec![json!({ "id": "main" }), json!({ "id": "nova", "heartbeat": { "every": "5m" } })];
        into_list(&mut list, &blocks);
        let wanted =
            [json!({ "id": "main", "heartbeat": {} }), json!({ "id": "nova", "heartbeat": { "every": "5m" } })];
        assert_eq!(list, wanted);
        let mut entries = json!({ "main": { "name": "Main" } }).as_object().cloned().unwrap();
        into_entries(&mut entries, &blocks);
        assert_eq!(
            Value::Object(entries),
            json!({ "main": { "name": "Main", "heartbeat": {} }, "nova": { "heartbeat": {} } })
        );
    }
}
