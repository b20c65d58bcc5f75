//! Entries of Muster that something else removes from the gateway's config.
//!
//! A tool that writes openclaw.json anew, for example at each start of the gateway, removes all of them. Muster writes them again. Only a
//! count over time shows that this happens again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::openclaw::model::HeartbeatClaims;

/// The time without a loss after which the count begins anew.
const FORGET_AFTER: Duration = Duration::from_hours(24);

/// The losses of a gateway.
#[derive(Debug, Default)]
pub(crate) struct EntryLosses {
    /// Muster's agents with an entry in the last config, without those that Muster deletes.
    present: BTreeSet<String>,
    /// Muster's agents.
    ours: BTreeSet<String>,
    /// Muster's agents that are being deleted.
    deleted: BTreeSet<String>,
    count: u32,
    last: Option<Instant>,
}

impl EntryLosses {
    /// Sets Muster's agents. Whoever keeps an agent that Muster only observes may remove its entry. `has_entry` says whether the last config
    /// has an entry of an id.
    pub(crate) fn claim(&mut self, claims: &HeartbeatClaims, has_entry: impl Fn(&str) -> bool) {
        let managed = |id: &&String| !claims.observed.contains(*id);
        self.ours = claims.made.union(&claims.adopted).filter(managed).cloned().collect();
        self.deleted.retain(|id| self.ours.contains(id));
        let is_known = |id: &&String| self.present.contains(*id) || self.is_here(id, &has_entry);
        self.present = self.ours.iter().filter(is_known).cloned().collect();
    }

    fn is_here(&self, id: &str, has_entry: impl Fn(&str) -> bool) -> bool {
        has_entry(id) && !self.deleted.contains(id)
    }

    /// An agent is about to be deleted: its entry is not missed.
    pub(crate) fn forget(&mut self, id: &str) {
        self.present.remove(id);
        self.deleted.insert(id.to_owned());
    }

    /// Compares a config with the config before. `has_entry` says whether the config has an entry of an id.
    pub(crate) fn see(&mut self, has_entry: impl Fn(&str) -> bool, now: Instant) {
        if self.last.is_some_and(|last| now.duration_since(last) >= FORGET_AFTER) {
            (self.count, self.last) = (0, None);
        }
        if self.present.iter().any(|id| !has_entry(id)) {
            self.count = self.count.saturating_add(1);
            self.last = Some(now);
        }
        self.present = self.ours.iter().filter(|id| self.is_here(id, &has_entry)).cloned().collect();
    }

    /// The number of configs in which entries were missing.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses_of(ids: &[&str]) -> EntryLosses {
        let mut losses = EntryLosses::default();
        let claims =
            HeartbeatClaims { made: ids.iter().map(|id| (*id).to_owned()).collect(), ..HeartbeatClaims::default() };
        losses.claim(&claims, |_| false);
        losses
    }

    #[test]
    fn an_entry_that_was_there_before_its_agent_was_known_is_missed_too() {
        let (mut losses, now) = (losses_of(&[]), Instant::now());
        losses.see(|_| true, now);
        let claims = HeartbeatClaims { made: ["a".to_owned()].into(), ..HeartbeatClaims::default() };
        losses.claim(&claims, |_| true);
        losses.see(|_| false, now);
        assert_eq!(losses.count(), 1);
    }

    #[test]
    fn a_config_without_the_entries_of_the_config_before_is_one_loss() {
        let (mut losses, now) = (losses_of(&["a", "b", "new"]), Instant::now());
        for (entries, count) in [(&["a", "b"][..], 0), (&[], 1), (&[], 1), (&["a"], 1), (&["a", "b"], 1), (&["b"], 2)] {
            losses.see(|id| entries.contains(&id), now);
            assert_eq!(losses.count(), count, "{entries:?}");
        }
        losses.see(|id| id == "b", now + FORGET_AFTER);
        assert_eq!(losses.count(), 0);
    }

    #[test]
    fn an_entry_of_an_agent_that_muster_only_observes_is_no_loss() {
        let (mut losses, now) = (losses_of(&["a", "b"]), Instant::now());
        losses.see(|_| true, now);
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let claims = HeartbeatClaims { made: set(&["a"]), adopted: set(&["b"]), ..HeartbeatClaims::default() };
        losses.claim(&HeartbeatClaims { observed: set(&["a", "b"]), ..claims.clone() }, |_| true);
        losses.see(|_| false, now);
        assert_eq!(losses.count(), 0);
        losses.claim(&claims, |_| true);
        losses.see(|_| false, now);
        assert_eq!(losses.count(), 1, "Muster manages them again");
    }

    #[test]
    fn an_entry_that_muster_deletes_is_no_loss() {
        let (mut losses, now) = (losses_of(&["a"]), Instant::now());
        losses.see(|_| true, now);
        losses.forget("a");
        losses.see(|_| true, now);
        losses.see(|_| false, now);
        assert_eq!(losses.count(), 0);
    }
}
