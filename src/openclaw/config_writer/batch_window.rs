//! How long a config write is kept back for entries that come meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A patch is kept back until no entry has come for the first time, and for the second at most: `kubectl apply` sends a file's
/// objects one after the other (20 to 75 ms each, measured), and a patch costs seconds however few are in it.
const GATHERING: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// How many patches of a minute are kept back only so long on gateways that take three in it (measured on all whose roster is a
/// list), and how long the next one is: whoever came too late for it would wait for the rest of the minute.
const PLENTY: usize = 2;
const LAST_OF_A_MINUTE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
const MINUTE: Duration = Duration::from_mins(1);

/// What tells how long the next patch is kept back.
#[derive(Debug)]
pub(crate) struct BatchWindow {
    arrivals: watch::Receiver<usize>,
    /// When the last patches were sent.
    sent: VecDeque<Instant>,
}

impl BatchWindow {
    /// Until when the patch of entries that were left at these times is kept back. With `few`, the gateway takes only three in a
    /// minute.
    pub(crate) fn until(&self, left: impl Iterator<Item = Instant> + Clone, few: bool) -> Option<Instant> {
        let lately = self.sent.iter().filter(|at| at.elapsed() < MINUTE).count();
        let (quiet, most) = if few && lately >= PLENTY { LAST_OF_A_MINUTE } else { GATHERING };
        let latest = left.clone().min()? + most;
        let until = if *self.arrivals.borrow() > 0 { latest } else { latest.min(left.max()? + quiet) };
        (until > Instant::now()).then_some(until)
    }

    /// A patch is sent now.
    pub(crate) fn send(&mut self) {
        self.sent.push_back(Instant::now());
        self.sent.retain(|at| at.elapsed() < MINUTE);
    }

    /// Waits until somebody else is on the way, or is not any more. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.arrivals.changed().await
    }
}

/// Counts those who are on the way to leave an entry.
#[derive(Debug, Default)]
pub(crate) struct ExpectedEntries(watch::Sender<usize>);

impl ExpectedEntries {
    /// One more, until it is dropped.
    pub(crate) fn one(&self) -> ExpectedEntry {
        self.0.send_modify(|count| *count += 1);
        ExpectedEntry(self.0.clone())
    }

    pub(crate) fn gathering(&self) -> BatchWindow {
        BatchWindow { arrivals: self.0.subscribe(), sent: VecDeque::new() }
    }
}

/// Somebody is on the way to leave an entry: the next config write is kept back for that, a few seconds at most.
#[derive(Debug)]
pub struct ExpectedEntry(watch::Sender<usize>);

impl Drop for ExpectedEntry {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
