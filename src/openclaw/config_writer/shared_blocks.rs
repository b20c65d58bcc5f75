//! The config writer's part in the heartbeats of agents that Muster did not make.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::backoff::doubled;
use crate::openclaw::model::{AgentEntry, HeartbeatClaims, Inventory};

/// How long to wait between two patches of such blocks alone; doubled each time, up to the second. A gateway that takes them
/// and does not keep them is not written to for ever.
const ALONE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(10));

/// What the writer knows of the blocks of others.
#[derive(Debug, Default)]
pub(crate) struct SharedBlocks {
    /// `None` until the writer was told: no block is given to any entry before.
    claims: Option<HeartbeatClaims>,
    /// How many patches of such blocks alone were sent since the claims changed.
    sent: u32,
    not_before: Option<Instant>,
}

impl SharedBlocks {
    /// Takes what Muster has at the gateway, and what it may do there for others.
    pub(crate) fn claim(&mut self, claims: HeartbeatClaims) {
        if self.claims.as_ref() != Some(&claims) {
            *self = Self { claims: Some(claims), ..Self::default() };
        }
    }

    /// Whether an entry may be written now. The first block of an agent that was taken over waits until the record says that the
    /// block is Muster's.
    pub(crate) fn may_go(&self, inventory: &Inventory, entry: &AgentEntry) -> bool {
        let is_recorded = || self.claims.as_ref().is_some_and(|claims| claims.recorded.contains(&entry.id));
        let has_block = || there(inventory, entry).is_some_and(|is| is.get("heartbeat").is_some_and(Value::is_object));
        !entry.keeps_the_rest || has_block() || !gives_block(inventory, entry) || is_recorded()
    }

    /// The blocks of others that go out with these entries, or alone: an empty object, or null for one that is taken away.
    /// `None` while the entries have to wait, since what would be written for others is not recorded yet.
    pub(crate) fn beside(&self, inventory: &Inventory, entries: &[&AgentEntry]) -> Option<BTreeMap<String, Value>> {
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

    /// A patch was sent, with entries or of such blocks alone.
    pub(crate) fn sent(&mut self, alone: bool) {
        if alone {
            self.sent = self.sent.saturating_add(1);
            self.not_before = Some(Instant::now() + doubled(ALONE.0, ALONE.1, self.sent));
        }
    }

    /// When the next patch of such blocks alone may be sent, if that is later.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.not_before.filter(|at| *at > Instant::now())
    }
}

fn there<'a>(inventory: &'a Inventory, entry: &AgentEntry) -> Option<&'a Map<String, Value>> {
    inventory.agents.get(&entry.id).and_then(|row| row.entry.as_ref())
}

/// Whether writing an entry gives it a block.
fn gives_block(inventory: &Inventory, entry: &AgentEntry) -> bool {
    let patch = entry.patch(there(inventory, entry));
    patch.is_some_and(|patch| patch.get("heartbeat").is_some_and(Value::is_object))
}

/// Adds the blocks to the entries of a patch that is keyed by id. A block that the entry's own patch makes comes first.
pub(crate) fn into_entries(entries: &mut Map<String, Value>, blocks: &BTreeMap<String, Value>) {
    for (id, block) in blocks {
        let entry = entries.entry(id.clone()).or_insert_with(|| json!({}));
        put(entry, block);
    }
}

/// The same for a patch that is a list.
pub(crate) fn into_list(list: &mut Vec<Value>, blocks: &BTreeMap<String, Value>) {
    for (id, block) in blocks {
        match list.iter_mut().find(|entry| entry["id"] == **id) {
            Some(entry) => put(entry, block),
            None => list.push(json!({ "id": id, "heartbeat": block })),
        }
    }
}

fn put(entry: &mut Value, block: &Value) {
    if entry.get("heartbeat").is_none() {
        entry["heartbeat"] = block.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openclaw::model::AgentRow;
    use crate::openclaw::model::RosterShape;
    use crate::openclaw::model::inventory::assemble;
    use crate::openclaw::model::roster::{ConfigAnswer, RosterAnswer};
    use crate::openclaw::model::{EntryIdentity, HeartbeatEntry};

    fn inventory(entries: &Value) -> Inventory {
        let config =
            json!({ "resolved": { "agents": { "entries": entries } }, "config": { "agents": { "entries": {} } } });
        let config = ConfigAnswer::read(&config.to_string()).unwrap();
        let mut inventory = assemble(config, &RosterAnswer::default(), &BTreeSet::new(), false);
        assert_eq!(inventory.capabilities.roster, RosterShape::Entries);
        for (id, entry) in entries.as_object().into_iter().flatten() {
            let row = AgentRow { id: id.clone(), entry: entry.as_object().cloned(), ..AgentRow::default() };
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
            keeps_the_rest: false,
            rewritten: Vec::new(),
        }
    }

    fn claims(recorded: &[&str]) -> HeartbeatClaims {
        let recorded = recorded.iter().map(|id| (*id).to_owned()).collect();
        HeartbeatClaims { keep: true, recorded, ..HeartbeatClaims::default() }
    }

    #[test]
    fn no_entry_is_given_a_block_before_it_is_known_and_recorded_who_else_gets_one() {
        let (inventory, entry) = (inventory(&json!({ "main": {} })), entry("mc-1"));
        let mut shared = SharedBlocks::default();
        assert_eq!(shared.beside(&inventory, &[&entry]), None);
        shared.claim(claims(&[]));
        assert_eq!(shared.beside(&inventory, &[&entry]), None);
        shared.claim(claims(&["main"]));
        assert_eq!(shared.beside(&inventory, &[&entry]), Some([("main".to_owned(), json!({}))].into()));
    }

    #[test]
    fn an_agent_that_was_taken_over_waits_until_it_is_recorded_that_its_block_is_musters() {
        let inventory = inventory(&json!({ "main": {}, "nova": { "workspace": "/w" } }));
        let nova = AgentEntry { keeps_the_rest: true, ..entry("nova") };
        let mut shared = SharedBlocks::default();
        shared.claim(claims(&["main"]));
        assert!(!shared.may_go(&inventory, &nova) && shared.may_go(&inventory, &entry("mc-1")));
        shared.claim(HeartbeatClaims { adopted: ["nova".to_owned()].into(), ..claims(&["main", "nova"]) });
        assert!(shared.beside(&inventory, &[&nova]).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn blocks_that_the_gateway_takes_and_does_not_keep_are_sent_at_a_slower_and_slower_pace() {
        let inventory = inventory(&json!({ "main": { "heartbeat": {} } }));
        let mut shared = SharedBlocks::default();
        shared.claim(claims(&["main"]));
        let mut sent = 0;
        for _ in 0..3600 {
            if shared.beside(&inventory, &[]).is_some_and(|blocks| !blocks.is_empty()) {
                shared.sent(true);
                sent += 1;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((5..=15).contains(&sent), "{sent} patches in an hour");
    }

    #[test]
    fn a_block_joins_the_entry_that_is_written_anyway_and_never_replaces_its_own() {
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
