//! How long a config write waits for further entries.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long a patch waits after its last entry, and after its first entry at most: `kubectl apply` sends the objects of a file one
/// after the other, 20 to 75 ms apart, and a patch costs seconds whatever its size (`docs/gateway-facts.md#duration-of-config-writes`).
const WINDOW: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// Gateways whose roster is a list take three patches per minute (`docs/gateway-facts.md#rate-limits`). After this many patches within
/// a minute, the next one waits longer: an entry that misses it would wait for the rest of the minute.
const SHORT_WINDOWS: usize = 2;
const LAST_WINDOW: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
const MINUTE: Duration = Duration::from_mins(1);

/// Decides how long the next patch waits for further entries.
#[derive(Debug)]
pub(crate) struct BatchWindow {
    expected: watch::Receiver<usize>,
    /// When the patches of the last minute were sent.
    sent: VecDeque<Instant>,
}

impl BatchWindow {
    /// When the window of a patch ends whose entries were submitted at these times; `None` if it has ended. `few_patches`: the gateway
    /// takes only three patches per minute.
    pub(crate) fn until(&self, submitted: impl Iterator<Item = Instant> + Clone, few_patches: bool) -> Option<Instant> {
        let recent = self.sent.iter().filter(|at| at.elapsed() < MINUTE).count();
        let (quiet, longest) = if few_patches && recent >= SHORT_WINDOWS { LAST_WINDOW } else { WINDOW };
        let latest = submitted.clone().min()? + longest;
        let until = if *self.expected.borrow() > 0 { latest } else { latest.min(submitted.max()? + quiet) };
        (until > Instant::now()).then_some(until)
    }

    /// Records that a patch is sent now.
    pub(crate) fn send(&mut self) {
        self.sent.push_back(Instant::now());
        self.sent.retain(|at| at.elapsed() < MINUTE);
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
        BatchWindow { expected: self.0.subscribe(), sent: VecDeque::new() }
    }
}

/// An entry that will be submitted soon. The next config write waits for it, a few seconds at most.
#[derive(Debug)]
pub struct ExpectedEntry(watch::Sender<usize>);

impl Drop for ExpectedEntry {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
