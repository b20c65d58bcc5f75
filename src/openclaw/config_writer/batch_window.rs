//! How long a config write waits for further entries.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::entry_queue::{DueEntries, MAX_ENTRIES};

/// How long a patch waits after its last entry, and after its first entry at most: `kubectl apply` sends the objects of a file one
/// after the other, 20 to 75 ms apart, and a patch costs seconds whatever its size (`docs/gateway-facts.md#duration-of-config-writes`).
const WINDOW: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// Gateways whose roster is a list take three patches per minute (`docs/gateway-facts.md#rate-limits`). After this many patches within
/// a minute, the next one waits longer: an entry that misses it would wait for the rest of the minute.
const SHORT_WINDOWS: usize = 2;
const LAST_WINDOW: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// A gateway is quiet when no patch was sent for this time. Its first patch waits for announced entries alone.
const QUIET: Duration = Duration::from_secs(10);
/// The longest wait of the first patch of a quiet gateway for announced entries.
const LONGEST_QUIET_WAIT: Duration = Duration::from_secs(1);
/// The other gateways take 30 patches per minute. After this many patches within a minute, the next patches are [`PACE`] apart unless
/// they are full, so that small patches use up 29 per minute at most: 8, and 21 in 60 s.
const UNPACED_PATCHES: usize = 8;
const PACE: Duration = Duration::from_secs(3);
const MINUTE: Duration = Duration::from_mins(1);

/// Decides how long the next patch waits for further entries.
#[derive(Debug)]
pub(crate) struct BatchWindow {
    expected: watch::Receiver<usize>,
    /// When the patches of the last minute were sent.
    sent: Arc<VecDeque<Instant>>,
}

impl BatchWindow {
    /// When the window of a patch with these entries ends; `None` if it has ended. `few_patches`: the gateway takes only three
    /// patches per minute.
    pub(crate) fn until(&self, due: &DueEntries, few_patches: bool, now: Instant) -> Option<Instant> {
        let until = if few_patches { self.until_with_few_patches(due, now) } else { self.until_with_many(due, now) };
        (due.count < MAX_ENTRIES && until > now).then_some(until)
    }

    fn until_with_few_patches(&self, due: &DueEntries, now: Instant) -> Instant {
        let (quiet, longest) = if self.recent(now) >= SHORT_WINDOWS { LAST_WINDOW } else { WINDOW };
        let (first, last) = due.submitted;
        if self.expects_entries() { first + longest } else { (first + longest).min(last + quiet) }
    }

    fn until_with_many(&self, due: &DueEntries, now: Instant) -> Instant {
        let (first, last) = due.submitted;
        let before = self.sent.back().copied();
        let is_quiet = before.is_none_or(|before| before + QUIET <= now);
        let gathered = match (is_quiet, self.expects_entries()) {
            (true, false) => now,
            (true, true) => (first + LONGEST_QUIET_WAIT).min(last + WINDOW.0),
            (false, _) => (first + WINDOW.1).min(last + WINDOW.0),
        };
        let paced = before.filter(|_| self.recent(now) >= UNPACED_PATCHES).map_or(now, |before| before + PACE);
        gathered.max(paced)
    }

    /// The number of patches within the last minute.
    fn recent(&self, now: Instant) -> usize {
        self.sent.iter().filter(|at| **at + MINUTE > now).count()
    }

    fn expects_entries(&self) -> bool {
        *self.expected.borrow() > 0
    }

    /// Records that a patch is sent now.
    pub(crate) fn send(&mut self) {
        let sent = Arc::make_mut(&mut self.sent);
        sent.push_back(Instant::now());
        sent.retain(|at| at.elapsed() < MINUTE);
    }

    /// When the patches of the last minute were sent.
    pub(crate) fn sent(&self) -> Arc<VecDeque<Instant>> {
        Arc::clone(&self.sent)
    }

    /// Waits for a change in the number of expected entries. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.expected.changed().await
    }
}

/// Counts the entries that will be submitted soon.
#[derive(Debug, Default)]
pub(crate) struct ExpectedEntries(watch::Sender<usize>);

impl ExpectedEntries {
    /// Counts one more entry until the returned value is dropped.
    pub(crate) fn expect(&self) -> ExpectedEntry {
        self.0.send_modify(|count| *count += 1);
        ExpectedEntry(self.0.clone())
    }

    pub(crate) fn window(&self) -> BatchWindow {
        BatchWindow { expected: self.0.subscribe(), sent: Arc::default() }
    }
}

/// An entry that will be submitted soon. The next config write waits for it: for a moment where the gateway takes many writes, for a
/// few seconds at most where it takes few.
#[derive(Debug)]
pub struct ExpectedEntry(watch::Sender<usize>);

impl Drop for ExpectedEntry {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
