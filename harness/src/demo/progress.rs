//! The lines of the demo: what is done, and what it waits for.

use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Time between two lines about what the demo waits for. A terminal shows them in one place.
const ON_A_TERMINAL: Duration = Duration::from_secs(1);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// The demo's clock and its standard output.
pub(crate) struct Progress {
    started: Instant,
    /// The seconds that `scripts/demo` took before.
    before: u64,
    is_terminal: bool,
}

impl Progress {
    /// A clock that began so many seconds ago.
    pub(crate) fn since(before: u64) -> Self {
        Self { started: Instant::now(), before, is_terminal: std::io::stdout().is_terminal() }
    }

    fn seconds(&self) -> u64 {
        self.before + self.started.elapsed().as_secs()
    }

    /// Prints a step that is done.
    pub(crate) fn step(&self, what: &str) {
        self.clear();
        println!("{:>4}s  {what}", self.seconds());
    }

    /// Awaits `work`, and shows meanwhile what the demo waits for.
    pub(crate) async fn during<T>(&self, waits_for: impl Fn() -> String, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut ticks = tokio::time::interval(if self.is_terminal { ON_A_TERMINAL } else { ELSEWHERE });
        // The first tick comes at once.
        ticks.tick().await;
        loop {
            tokio::select! {
                biased;
                result = &mut work => {
                    self.clear();
                    return result;
                }
                _ = ticks.tick() => self.show(&waits_for()),
            }
        }
    }

    fn show(&self, waits_for: &str) {
        if !self.is_terminal {
            return self.step(&format!("… {waits_for}"));
        }
        self.clear();
        print!("{:>4}s  … {waits_for}", self.seconds());
        // A line that is not shown is replaced within a second.
        let _ = std::io::stdout().flush();
    }

    /// Removes the line about what the demo waits for.
    fn clear(&self) {
        if self.is_terminal {
            print!("\r\x1b[K");
        }
    }
}
