//! The halving of a batch with a faulty entry: entries that failed together are sent in halves, until the faulty entry is alone.

use std::collections::{BTreeMap, BTreeSet};

/// The groups of separated entries. Only entries of one group are sent together.
#[derive(Debug, Default)]
pub(crate) struct Halving {
    /// The group of each separated entry. All other entries are in group 0.
    groups: BTreeMap<String, u32>,
    /// Whether the gateway itself may be the cause.
    is_provisional: bool,
}

impl Halving {
    /// Separates entries that the gateway refused together: the first half becomes a group of its own.
    pub(crate) fn halve(&mut self, ids: &[String]) {
        let highest = self.groups.values().copied().max().unwrap_or_default();
        for id in ids.iter().take(ids.len() / 2) {
            self.groups.insert(id.clone(), highest + 1);
        }
    }

    /// Separates entries whose write failed, until a write succeeds.
    pub(crate) fn halve_provisionally(&mut self, ids: &[String]) {
        self.is_provisional = true;
        self.halve(ids);
    }

    /// Ends a provisional separation after a successful write.
    pub(crate) fn rejoin(&mut self) {
        if std::mem::take(&mut self.is_provisional) {
            self.groups.clear();
        }
    }

    /// Removes an entry that was removed or replaced.
    pub(crate) fn forget(&mut self, id: &str) {
        self.groups.remove(id);
    }

    /// The group of an entry.
    pub(crate) fn group(&self, id: &str) -> u32 {
        self.groups.get(id).copied().unwrap_or_default()
    }

    /// The groups in the order in which they are sent: the smallest halves first.
    pub(crate) fn groups(&self) -> impl Iterator<Item = u32> {
        let groups: BTreeSet<u32> = self.groups.values().copied().chain([0]).collect();
        groups.into_iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of the first group that has any.
    fn next_group(halving: &Halving, ids: &[String]) -> Vec<String> {
        let of = |group| ids.iter().filter(|id| halving.group(id) == group).cloned().collect::<Vec<_>>();
        halving.groups().map(of).find(|group| !group.is_empty()).unwrap_or_default()
    }

    /// The groups that go out until each entry was sent, when a group is refused as long as it has `bad` and others in it.
    fn sent(count: usize, bad: &str) -> Vec<usize> {
        let mut waiting: Vec<String> = (0..count).map(|n| format!("mc-{n:02}")).collect();
        let (mut halving, mut sizes) = (Halving::default(), Vec::new());
        while !waiting.is_empty() {
            let group = next_group(&halving, &waiting);
            sizes.push(group.len());
            if group.len() > 1 && group.iter().any(|id| id == bad) {
                halving.halve(&group);
            } else {
                waiting.retain(|id| !group.contains(id));
            }
        }
        sizes
    }

    #[test]
    fn one_entry_at_fault_costs_a_logarithm_of_writes() {
        for bad in ["mc-00", "mc-31", "mc-63"] {
            let sizes = sent(64, bad);
            assert!(sizes.len() <= 13, "{bad}: {sizes:?}");
            assert!(sizes.contains(&1), "{bad} is alone in the end: {sizes:?}");
        }
    }

    #[test]
    fn entries_that_were_parted_provisionally_go_out_together_after_a_write() {
        let ids = ["a", "b", "c"].map(str::to_owned);
        let mut halving = Halving::default();
        halving.halve_provisionally(&ids);
        assert_eq!(next_group(&halving, &ids).len(), 1);
        halving.rejoin();
        assert_eq!(next_group(&halving, &ids).len(), 3);
        halving.halve(&ids);
        halving.rejoin();
        assert_eq!(next_group(&halving, &ids).len(), 1, "what the gateway refused stays apart");
    }
}
