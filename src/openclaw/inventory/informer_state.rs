//! What the informer knows between two reads.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::job_reader::JOBS_A_PAGE;
use crate::openclaw::bucket::Bucket;
use crate::openclaw::connection::answer_reporter::AnswerReporter;
use crate::openclaw::kept_memory::{KeptShare, shared_memory};
use crate::openclaw::limits;
use crate::openclaw::model::roster::RosterAnswer;

/// The delay of the read after a hint at a change. 2026.9.3 shows the previous config for up to 1 s after a change
/// (`docs/gateway-facts.md#roster-visibility`).
const HINT_DELAY: Duration = Duration::from_secs(1);

/// The shortest time between two reads of the heartbeat jobs on one connection, for each 200 jobs: a page of `cron.list`.
const JOBS_INTERVAL: Duration = Duration::from_secs(1);
/// The wait before a failed read of the jobs is repeated.
const JOBS_RETRY: Duration = Duration::from_secs(10);

/// The state of the informer between two reads.
#[derive(Default)]
pub(super) struct InformerState {
    /// The connection.
    pub(super) link: Option<InformedLink>,
    /// The reads that events may cause at once.
    pub(super) event_reads: EventReads,
    /// Whether all agents have to be checked after the next read, because events were lost.
    pub(super) check_all: bool,
    /// The workspace files that the gateway accepts.
    pub(super) accepted: Option<BTreeSet<String>>,
    /// Whether the subscription to session events succeeded or failed permanently.
    pub(super) subscribed: bool,
    /// The callers of a resync that wait for the next read.
    pub(super) waiting: Vec<oneshot::Sender<bool>>,
    pub(super) next_read: Option<Instant>,
    /// The time of a read after a hint. An earlier read may not show the change yet.
    pub(super) hinted: Option<Instant>,
    /// The agents in the gateway's last `health` event.
    pub(super) healthy: Option<BTreeSet<String>>,
    /// The number of failed reads in a row, and the time of the first of them.
    pub(super) failed: Option<(u32, Instant)>,
    /// The last roster with the hash of its config, while no event reports a change.
    pub(super) roster: Option<(Option<String>, RosterAnswer)>,
    /// The time of the last read of the heartbeat jobs.
    pub(super) jobs_read_at: Option<Instant>,
    /// The shortest time from that read to the next one.
    jobs_interval: Duration,
    /// Whether the heartbeat jobs may have changed since.
    pub(super) jobs_changed: bool,
    /// The number of reads in a row in which roster and config named different agents.
    pub(super) mismatches: u32,
}

impl InformerState {
    /// Schedules a read after `chat.metadata.changed`. 2026.9 sends this event after each config change, and also at other
    /// times. 2026.9.3 and 2026.9.4 send no other event for about half of the changes (`docs/gateway-facts.md#config-changes`).
    /// The read fetches the roster only if the config changed.
    pub(super) fn hint(&mut self, now: Instant) {
        self.hinted = Some(now + HINT_DELAY);
        self.next_read = self.next_read.min(self.hinted).or(self.hinted);
    }

    /// Schedules the next read after a read at `now`: after `wait`, or earlier at a hinted time.
    pub(super) fn schedule(&mut self, now: Instant, wait: Duration) {
        self.hinted = self.hinted.filter(|at| *at > now);
        self.next_read = Some(self.hinted.map_or(now + wait, |at| at.min(now + wait)));
    }

    /// Whether the heartbeat jobs have to be read, after a read of roster and config. Schedules a read for jobs that were just read.
    pub(super) fn jobs_are_due(&mut self, now: Instant, resync: Duration) -> bool {
        let wait = if self.jobs_changed { self.jobs_interval.min(resync) } else { resync };
        let due = self.jobs_read_at.map(|at| at + wait).filter(|due| now < *due);
        if let Some(due) = due.filter(|_| self.jobs_changed) {
            self.schedule_jobs(due);
        }
        due.is_none()
    }

    /// Records a read of this many jobs; `None` for a failed read that is to be repeated.
    pub(super) fn jobs_were_read(&mut self, jobs: Option<usize>, now: Instant) {
        let pages = |jobs: usize| u32::try_from(jobs / JOBS_A_PAGE).unwrap_or(u32::MAX).saturating_add(1);
        self.jobs_interval = jobs.map_or(JOBS_RETRY, |jobs| JOBS_INTERVAL.saturating_mul(pages(jobs)));
        (self.jobs_read_at, self.jobs_changed) = (Some(now), jobs.is_none());
        if jobs.is_none() {
            self.schedule_jobs(now + self.jobs_interval);
        }
    }

    /// Schedules a read of the jobs.
    fn schedule_jobs(&mut self, due: Instant) {
        self.hinted = Some(self.hinted.map_or(due, |hinted| hinted.min(due)));
        self.next_read = self.next_read.min(self.hinted).or(self.hinted);
    }

    /// Records the agents of a `health` event. Returns whether they differ from the previous event and from the inventory. The
    /// `health` event may permanently name other agents than the roster, so that a difference from the inventory alone is no
    /// change.
    pub(super) fn health_changed(&mut self, named: BTreeSet<String>, served: Option<&BTreeSet<String>>) -> bool {
        let before = self.healthy.replace(named);
        before.is_some() && before != self.healthy && served.is_some_and(|served| Some(served) != self.healthy.as_ref())
    }

    /// Resets the state for a new connection. Its first read answers the waiting callers.
    pub(super) fn connected(&mut self, link: InformedLink) {
        *self = Self { link: Some(link), waiting: std::mem::take(&mut self.waiting), ..Self::default() };
        self.read_now();
    }

    /// Schedules an immediate read of roster and config.
    pub(super) fn read_now(&mut self) {
        self.next_read = Some(Instant::now());
        (self.roster, self.jobs_changed) = (None, true);
    }

    /// Schedules a read of roster and config after an event: at once, or after too many such reads a little later. Returns whether
    /// the read comes at once.
    pub(super) fn read_after_event(&mut self, now: Instant) -> bool {
        if self.event_reads.0.take(1, now) {
            self.read_now();
            return true;
        }
        let at = now + self.event_reads.0.wait(now);
        self.next_read = Some(self.next_read.map_or(at, |next| next.min(at)));
        (self.roster, self.jobs_changed) = (None, true);
        false
    }
}

/// The bound of the reads that events cause.
pub(super) struct EventReads(Bucket);

impl Default for EventReads {
    fn default() -> Self {
        Self(Bucket::new(limits::EVENT_READS))
    }
}

/// The connection of the informer, and the memory that the informer keeps for it.
pub(super) struct InformedLink {
    pub(super) reporter: AnswerReporter,
    kept: KeptShare,
    /// The estimated memory of the inventory, in bytes.
    pub(super) inventory: usize,
    /// The estimated memory of the heartbeat jobs, in bytes.
    pub(super) jobs: usize,
    /// The estimated memory of the last `health` event, in bytes.
    pub(super) health: usize,
}

impl InformedLink {
    pub(super) fn new(reporter: AnswerReporter) -> Self {
        Self { kept: shared_memory().share(reporter.clone()), reporter, inventory: 0, jobs: 0, health: 0 }
    }

    /// Updates the share of the memory. The connection ends when the share is too large.
    pub(super) fn keeps(&self, activity: usize) {
        self.kept.set(self.inventory + self.jobs + self.health + activity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openclaw::connection::redaction::Redactor;

    fn link() -> InformedLink {
        InformedLink::new(AnswerReporter::new(Redactor::default()).0)
    }

    #[test]
    fn a_resync_request_before_the_event_of_its_connection_is_answered_by_that_connection() {
        let (done, mut wait) = oneshot::channel();
        let mut state = InformerState { mismatches: 3, waiting: vec![done], ..InformerState::default() };
        state.connected(link());
        assert_eq!(wait.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!((state.waiting.len(), state.mismatches, state.next_read.is_some()), (1, 0, true));
    }

    #[test]
    fn changed_jobs_are_read_at_their_interval_and_unchanged_ones_at_the_resync() {
        let (now, resync) = (Instant::now(), Duration::from_mins(10));
        let mut state = InformerState::default();
        assert!(state.jobs_are_due(now, resync), "the first read");
        state.jobs_were_read(Some(450), now);
        assert!(!state.jobs_are_due(now + Duration::from_mins(9), resync) && state.next_read.is_none());
        assert!(state.jobs_are_due(now + resync, resync));
        state.jobs_changed = true;
        assert!(!state.jobs_are_due(now + Duration::from_secs(1), resync));
        assert_eq!(state.next_read, Some(now + JOBS_INTERVAL * 3), "three pages");
        assert!(state.jobs_are_due(now + JOBS_INTERVAL * 3, resync));
        let mut failed = InformerState::default();
        failed.jobs_were_read(None, now);
        assert_eq!(failed.next_read, Some(now + JOBS_RETRY));
        assert!(failed.jobs_are_due(now + JOBS_RETRY, resync));
    }

    #[test]
    fn a_hint_schedules_one_more_read_after_its_delay() {
        let (now, resync) = (Instant::now(), Duration::from_mins(10));
        let after = |state: &InformerState| state.next_read.unwrap() - now;
        let mut state = InformerState { next_read: Some(now + resync), ..InformerState::default() };
        state.hint(now);
        assert_eq!(after(&state), HINT_DELAY);
        state.schedule(now, resync);
        assert_eq!(after(&state), HINT_DELAY, "the read may have been too early");
        state.schedule(now + HINT_DELAY, resync);
        assert_eq!(after(&state), HINT_DELAY + resync);
    }

    #[test]
    fn a_missing_agent_in_the_health_event_causes_one_read() {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let served = set(&["main", "mc-1"]);
        let mut state = InformerState::default();
        assert!(!state.health_changed(set(&["main", "mc-1"]), Some(&served)), "equal to the inventory");
        assert!(state.health_changed(set(&["main"]), Some(&served)), "an agent is missing");
        assert!(!state.health_changed(set(&["main"]), Some(&served)), "the same event again");
        assert!(!state.health_changed(set(&["main", "mc-1"]), Some(&served)), "equal to the inventory again");
        assert!(!state.health_changed(set(&[]), None));
    }

    #[test]
    fn events_without_end_cause_a_bounded_number_of_reads() {
        let start = Instant::now();
        let mut state = InformerState::default();
        let mut at_once = 0;
        for n in 0..10_000 {
            at_once += u64::from(state.read_after_event(start + Duration::from_millis(n)));
        }
        assert!(at_once <= limits::EVENT_READS.burst + 2, "{at_once} reads in 10 s");
        assert!(state.next_read.is_some(), "the last event is read too");
    }
}
