//! The pace of the changes about runs: an agent whose runs start and end without pause, truly or by the events of a hostile gateway,
//! costs a bounded number of reconciles.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

/// The time in which the changes of an agent are counted.
const WINDOW: Duration = Duration::from_secs(5);
/// Most changes of an agent in a window that are forwarded at once. The others are forwarded as one at the end of the window.
const AT_ONCE: u32 = 4;

/// The changes about runs of one gateway's agents in the current window.
#[derive(Debug, Default)]
pub(crate) struct RunChanges {
    counts: HashMap<String, u32>,
    late: BTreeSet<String>,
    end: Option<Instant>,
}

impl RunChanges {
    /// Counts a change. Returns the agent if its change is forwarded now.
    pub(crate) fn admit(&mut self, agent: String, now: Instant) -> Option<String> {
        if self.end.is_none_or(|end| end <= now) && self.late.is_empty() {
            self.counts.clear();
            self.end = Some(now + WINDOW);
        }
        let count = self.counts.entry(agent.clone()).or_default();
        *count = count.saturating_add(1);
        if *count <= AT_ONCE {
            return Some(agent);
        }
        self.late.insert(agent);
        None
    }

    /// The time of the next late change.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.end.filter(|_| !self.late.is_empty())
    }

    /// Takes a late change whose time has come.
    pub(crate) fn next_due(&mut self) -> Option<String> {
        self.late.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_with_flapping_runs_is_forwarded_a_few_times_a_window_and_the_last_change_is_not_lost() {
        let start = Instant::now();
        let mut changes = RunChanges::default();
        let forwarded = (0..4_000).filter(|n| changes.admit("a".into(), start + Duration::from_millis(*n)).is_some());
        assert_eq!(forwarded.count(), 4);
        assert_eq!(changes.admit("b".into(), start + Duration::from_secs(4)).as_deref(), Some("b"));
        assert_eq!(changes.due(), Some(start + WINDOW));
        assert_eq!((changes.next_due().as_deref(), changes.next_due(), changes.due()), (Some("a"), None, None));
        assert!(changes.admit("a".into(), start + WINDOW).is_some(), "a new window");
    }

    #[test]
    fn runs_with_pauses_are_forwarded_at_once() {
        let start = Instant::now();
        let mut changes = RunChanges::default();
        assert!((0..100).all(|n| changes.admit("a".into(), start + Duration::from_secs(n * 2)).is_some()));
    }
}
