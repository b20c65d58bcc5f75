//! How the tests run: which wait for each other, and how many run at one time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Failed, Trial};
use muster_harness::{Failure, TestReport, panic_message};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use crate::table::Table;

/// The number of real gateways that start at one time, or run with one test alone. A start keeps a core busy, and the answers of
/// other gateways would be late. A gateway that several tests share mostly waits after its start and needs no place.
const PLACES: usize = 2;
/// The number of tests on simulators at one time. These tests need the processor alone.
const SIMULATORS: usize = 1;

/// What all tests share.
#[derive(Clone)]
pub(crate) struct Run {
    runtime: Arc<Runtime>,
    places: Arc<Semaphore>,
    simulators: Arc<Semaphore>,
    pub(crate) report: Arc<TestReport>,
    pub(crate) table: Arc<Table>,
}

impl Default for Run {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Self {
            runtime: Arc::new(runtime),
            places: Arc::new(Semaphore::new(PLACES)),
            simulators: Arc::new(Semaphore::new(SIMULATORS)),
            report: Arc::default(),
            table: Arc::default(),
        }
    }
}

impl Run {
    /// A test on a simulator. The simulator's clock advances only while the test waits.
    pub(crate) fn simulated<F>(&self, name: String, test: impl FnOnce() -> F + Send + 'static) -> Trial
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let run = self.clone();
        Trial::test(name.clone(), move || {
            let _place = run.runtime.block_on(run.simulators.acquire())?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
            run.report.run(&name, || runtime.block_on(test())).map_err(Failed::from)
        })
    }

    /// A test with a real gateway of its own.
    pub(crate) fn real<F>(&self, name: String, test: impl FnOnce() -> F + Send + 'static) -> Trial
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let run = self.clone();
        Trial::test(name.clone(), move || {
            let _place = run.runtime.block_on(run.place()).map_err(|error| error.to_string())?;
            run.report.run(&name, || run.runtime.block_on(test())).map_err(Failed::from)
        })
    }

    /// A place for the start of a real gateway.
    ///
    /// # Errors
    /// Never: the places stay open.
    pub(crate) async fn place(&self) -> Result<SemaphorePermit<'_>, Failure> {
        Ok(self.places.acquire().await?)
    }

    /// A test with a gateway that it shares with other tests, one after the other.
    pub(crate) fn sharing<T: Send + 'static>(
        &self,
        name: String,
        shared: &Arc<Mutex<T>>,
        test: impl for<'a> FnOnce(&'a mut T) -> LocalBoxFuture<'a, Result<(), Failure>> + Send + 'static,
    ) -> Trial {
        let (run, shared) = (self.clone(), Arc::clone(shared));
        Trial::test(name.clone(), move || {
            let mut shared = run.runtime.block_on(shared.lock());
            run.report.run(&name, || run.runtime.block_on(test(&mut shared))).map_err(Failed::from)
        })
    }
}

/// Tests of `make test-long`.
///
/// A start of a real gateway costs 10 s to 20 s of a core. The pinned versions do not change, and the simulator passes the same suite for each
/// of them, so that `make test` runs the suite on the oldest and the newest version, and most other subjects on the newest alone. Kills and
/// reload modes run on the simulator.
pub(crate) fn long(trials: impl IntoIterator<Item = Trial>) -> impl Iterator<Item = Trial> {
    trials.into_iter().map(|trial| trial.with_ignored_flag(true))
}

/// Runs a test and turns a panic into a failure.
pub(crate) async fn without_panic(test: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let outcome = AssertUnwindSafe(test).catch_unwind().await;
    outcome.unwrap_or_else(|panic| Err(panic_message(&*panic).into()))
}
