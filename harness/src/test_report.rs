//! What a test program prints beside its results: each failure at once, the slowest tests, and the repeated tests.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::Failure;

/// More repeats in one run are a failure of the run.
const MAX_REPEATS: usize = 3;
/// The number of tests in the list of the slowest.
const SLOWEST: usize = 10;

/// The durations and the repeats of the tests of one program.
#[derive(Debug)]
pub struct TestReport {
    began: Instant,
    durations: Mutex<Vec<(Duration, String)>>,
    repeats: Mutex<Vec<String>>,
}

impl Default for TestReport {
    fn default() -> Self {
        Self { began: Instant::now(), durations: Mutex::default(), repeats: Mutex::default() }
    }
}

impl TestReport {
    /// Runs a test and records its duration. A panic is a failure. A failure is printed at once: a run that is killed later has shown it.
    ///
    /// # Errors
    /// The failure of the test, as text.
    pub fn run(&self, name: &str, test: impl FnOnce() -> Result<(), Failure>) -> Result<(), String> {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|panic| Err(panic_message(&*panic).into()));
        self.durations.lock().unwrap_or_else(PoisonError::into_inner).push((began.elapsed(), name.to_owned()));
        outcome.map_err(|failure| {
            let failure = failure.to_string();
            eprintln!("failed: {name}: {failure}\n");
            failure
        })
    }

    /// Counts and prints a repeat of a test.
    pub fn repeated(&self, name: &str, cause: &dyn Display) {
        eprintln!("repeated: {name}: {cause}");
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }

    /// Prints the slowest tests, the used time and the repeats.
    ///
    /// # Errors
    /// There were more repeats than a run may have.
    pub fn finish(&self) -> Result<(), Failure> {
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{}", summary(&durations, self.began.elapsed(), processor_time()));
        if !repeats.is_empty() {
            println!("{} repeated: {}", repeats.len(), repeats.join(", "));
        }
        check_repeats(&repeats)
    }
}

/// The message of a panic.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

fn check_repeats(repeats: &[String]) -> Result<(), Failure> {
    if repeats.len() <= MAX_REPEATS {
        return Ok(());
    }
    Err(format!("{} tests were repeated; a run may have {MAX_REPEATS} repeats", repeats.len()).into())
}

/// The processor time of this process and of its ended children, in seconds.
fn processor_time() -> [i64; 2] {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].map(|who| {
        let seconds = |time: TimeVal| time.tv_sec();
        getrusage(who).map_or(0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
    })
}

fn summary(durations: &[(Duration, String)], wall: Duration, [own, children]: [i64; 2]) -> String {
    let sum: Duration = durations.iter().map(|(duration, _)| *duration).sum();
    let mut slowest: Vec<_> = durations.iter().collect();
    slowest.sort_by(|a, b| b.cmp(a));
    let lines =
        slowest.iter().take(SLOWEST).map(|(duration, name)| format!("\n{:8.1} s  {name}", duration.as_secs_f64()));
    format!(
        "{} tests took {} s in {} s; processor time: {own} s here, {children} s in ended children; the slowest:{}",
        durations.len(),
        sum.as_secs(),
        wall.as_secs(),
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(seconds: &[u64]) -> Vec<(Duration, String)> {
        seconds.iter().map(|&n| (Duration::from_secs(n), format!("test-{n}"))).collect()
    }

    #[test]
    fn the_summary_has_the_slowest_tests_first() {
        let text = summary(&durations(&[3, 60, 1, 2]), Duration::from_secs(40), [5, 6]);
        let expected = "4 tests took 66 s in 40 s; processor time: 5 s here, 6 s in ended children; the slowest:\
            \n    60.0 s  test-60\n     3.0 s  test-3\n     2.0 s  test-2\n     1.0 s  test-1";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_summary_has_at_most_ten_tests() {
        let text = summary(&durations(&(1..=20).collect::<Vec<_>>()), Duration::ZERO, [0, 0]);
        assert_eq!(text.lines().count(), 11);
        assert!(text.ends_with("11.0 s  test-11"), "{text}");
    }

    #[test]
    fn a_panic_of_a_test_is_its_failure() {
        let report = TestReport::default();
        let failure = report.run("a test", || panic!("no {}", "agent")).unwrap_err();
        assert_eq!(failure, "no agent");
        assert!(report.run("another", || Ok(())).is_ok());
        assert_eq!(report.durations.lock().unwrap().len(), 2);
    }

    #[test]
    fn three_repeats_are_accepted_and_a_fourth_fails_the_run() {
        let report = TestReport::default();
        for _ in 0..3 {
            report.repeated("a test", &"the gateway restarted");
        }
        assert!(report.finish().is_ok());
        report.repeated("a test", &"the gateway restarted");
        let failure = report.finish().unwrap_err().to_string();
        assert!(failure.contains("4 tests were repeated"), "{failure}");
    }
}
