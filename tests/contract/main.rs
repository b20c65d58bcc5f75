//! What Muster relies on in a gateway, asked of the real one and of the simulator in each of its versions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, outside of #[test] functions too")]

mod kills;
mod subject;
mod suite;
mod table;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use muster::gateway::CallError;
use muster_harness::{Failure, OpenClaw, ScriptedModel};
use muster_simulator::{Profile, Simulator};
use tokio::runtime::Runtime;

use crate::subject::Subject;
use crate::table::Table;

type Test = for<'a> fn(&'a Subject) -> LocalBoxFuture<'a, Result<(), Failure>>;

macro_rules! suite {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), (|subject| Box::pin(suite::$name(subject))) as Test)),+]
    };
}

const SUITE: [(&str, Test); 13] = suite![
    an_entry_makes_an_agent_and_the_same_entry_makes_no_second_write,
    a_burst_of_entries_takes_few_config_writes_and_loses_none,
    a_changed_entry_changes_what_it_names_and_leaves_what_others_added,
    two_clients_that_write_at_the_same_moment_both_get_through,
    what_another_client_does_is_seen_when_the_gateway_tells_or_is_read_again,
    a_file_that_is_accepted_is_kept_as_it_was_written,
    a_file_name_that_is_not_accepted_is_refused,
    a_precondition_that_does_not_hold_changes_nothing,
    a_session_carries_its_label_and_a_message_its_key,
    a_run_is_heard_of_while_it_goes_on_and_when_it_ends,
    a_session_that_is_reset_can_be_told_from_the_one_before,
    an_agent_that_is_deleted_is_gone_and_deleting_it_again_is_no_error,
    an_id_that_was_deleted_can_be_created_again,
];

/// The version whose gateway the demo runs.
const NEWEST: &str = "2026.9.6";

/// The version that restarts after each config write.
const RESTARTS: &str = "2026.3.2";

type Profiles = [(&'static str, fn() -> Profile); 4];
const SIMULATED: Profiles = [
    ("2026.3.2", Profile::v2026_3_2),
    ("2026.5.28", Profile::v2026_5_28),
    ("2026.7.1", Profile::v2026_7_1),
    ("2026.9.6", Profile::v2026_9_6),
];

fn run(
    runtime: &Runtime,
    test: Test,
    subject: impl AsyncFnOnce() -> Result<Subject, Failure>,
    look: impl FnOnce(&Subject),
) -> Result<(), Failure> {
    runtime.block_on(async {
        let subject = subject().await?;
        let test = AssertUnwindSafe(test(&subject)).catch_unwind().await;
        look(&subject);
        test.unwrap_or_else(|panic| Err(said(&*panic).into()))
    })
}

/// Whether a request failed because the gateway was restarting.
fn cut_off(error: &Failure) -> bool {
    let error = error.downcast_ref::<CallError>();
    error.is_some_and(|error| {
        matches!(error, CallError::Interrupted | CallError::NotConnected) || error.is_unavailable()
    })
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

/// A simulator's clock stands still while nobody waits.
fn on_simulator(test: Test, profile: fn() -> Profile) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    run(&runtime, test, async || Subject::simulated(Simulator::new(profile().with_token("token"))).await, |_| {})
        .map_err(|error| Failed::from(error.to_string()))
}

/// A real gateway, started by the first test that needs it.
struct Real {
    version: &'static str,
    runtime: Arc<Runtime>,
    gateway: Option<(OpenClaw, ScriptedModel)>,
    table: Arc<Table>,
}

impl Real {
    /// A gateway that restarts after each config write cuts off what is under way; the test is then begun anew.
    fn run(&mut self, test: Test) -> Result<(), Failed> {
        let mut left = if self.version == RESTARTS { 5 } else { 0 };
        loop {
            match self.attempt(test) {
                Err(error) if left > 0 && cut_off(&error) => left -= 1,
                outcome => return outcome.map_err(|error| Failed::from(error.to_string())),
            }
        }
    }

    fn attempt(&mut self, test: Test) -> Result<(), Failure> {
        let Self { version, runtime, gateway, table } = self;
        let subject = async || {
            if gateway.is_none() {
                let model = ScriptedModel::start().await?;
                let started = match *version {
                    NEWEST => OpenClaw::start(model.url()).await?,
                    era => OpenClaw::start_era(era, model.url()).await?,
                };
                *gateway = Some((started, model));
            }
            Subject::real(&gateway.as_ref().unwrap().0).await
        };
        run(runtime, test, subject, |subject| table.see(version, subject))
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let runtime = Arc::new(runtime);
    let table = Arc::<Table>::default();
    let mut trials = Vec::new();
    for (version, profile) in SIMULATED {
        let real = Arc::new(Mutex::new(Real {
            version,
            runtime: Arc::clone(&runtime),
            gateway: None,
            table: Arc::clone(&table),
        }));
        for (name, test) in SUITE {
            trials.push(Trial::test(format!("simulator {version}: {name}"), move || on_simulator(test, profile)));
            let (real, table) = (Arc::clone(&real), Arc::clone(&table));
            trials.push(Trial::test(format!("OpenClaw {version}: {name}"), move || {
                real.lock().unwrap_or_else(PoisonError::into_inner).run(test).inspect(|()| table.pass(version, name))
            }));
        }
    }
    trials.extend(kills::trials(&runtime));
    // Each gateway ends with the last of its tests.
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(error) = table.compare(&SIMULATED.map(|(version, _)| version), &SUITE.map(|(name, _)| name)) {
        eprintln!("{error}");
        std::process::exit(101);
    }
    conclusion.exit();
}
