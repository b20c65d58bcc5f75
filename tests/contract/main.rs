//! The behaviour of gateways that Muster relies on, tested on the real gateway and the simulator, each in four versions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, outside of #[test] functions too")]

mod heartbeats;
mod kills;
mod layouts;
mod mixed_profiles;
mod password;
mod raw_request;
mod sessions;
mod subject;
mod suite;
mod table;
mod trash;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use muster::openclaw::model::CallError;
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

const SUITE: [(&str, Test); 21] = suite![
    an_entry_creates_an_agent_and_the_same_entry_causes_no_second_write,
    a_burst_of_entries_takes_few_config_writes_and_loses_no_entry,
    a_changed_entry_changes_its_own_fields_and_keeps_foreign_fields,
    a_text_with_variable_syntax_is_read_unchanged,
    a_model_name_stored_in_another_form_is_accepted_after_one_write,
    an_unlisted_file_is_read_or_identified_by_its_size,
    two_clients_that_write_concurrently_both_succeed,
    changes_of_another_client_are_seen_by_an_event_or_the_next_read,
    an_accepted_file_is_stored_unchanged,
    a_file_name_outside_the_accepted_list_is_refused,
    a_failed_precondition_changes_nothing,
    a_binary_file_is_identified_by_its_bytes_and_can_be_replaced,
    a_link_in_place_of_a_file_is_listed_as_missing_and_neither_read_nor_written,
    a_file_too_large_to_read_is_listed_and_can_be_replaced,
    a_session_keeps_its_label_and_a_message_its_key,
    a_session_is_found_by_its_key_among_many_newer_sessions,
    a_run_is_reported_at_its_start_and_its_end,
    a_reset_session_is_distinguishable_from_the_former_one,
    a_deleted_agent_is_gone_and_a_second_deletion_is_no_error,
    the_workspace_of_a_deleted_agent_is_in_the_trash,
    a_deleted_id_can_be_created_again,
];

/// The version whose gateway the demo runs.
const NEWEST: &str = "2026.9.6";

/// The version that restarts after each config write.
const RESTARTING: &str = "2026.3.2";

/// The variable with a version that no test names. Only this version is then tested. `scripts/try-openclaw` sets it.
const TRY_VERSION: &str = "MUSTER_OPENCLAW_TRY";

/// The number of attempts of a test. One restart interrupts one attempt, and restarts are 30 s apart.
const ATTEMPTS: u32 = 6;
/// The time within which the client notices a lost connection after its effect on a request.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of tests that run at one time, beside the slow tests.
const PARALLEL_TESTS: usize = 2;

type Profiles = [(&'static str, fn() -> Profile); 4];
const SIMULATED: Profiles = [
    ("2026.3.2", Profile::v2026_3_2),
    ("2026.5.28", Profile::v2026_5_28),
    ("2026.7.1", Profile::v2026_7_1),
    ("2026.9.6", Profile::v2026_9_6),
];

/// Runs a test and turns a panic into a failure.
async fn run(test: Test, subject: &Subject) -> Result<(), Failure> {
    let test = AssertUnwindSafe(test(subject)).catch_unwind().await;
    test.unwrap_or_else(|panic| Err(panic_message(&*panic).into()))
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

/// Runs a test on a simulator. The simulator's clock advances only while the test waits.
fn on_simulator(test: Test, profile: fn() -> Profile) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let test = async {
        let subject = Subject::simulated(Simulator::new(profile().with_token("token"))).await?;
        run(test, &subject).await
    };
    runtime.block_on(test).map_err(|error| failed(&error))
}

fn failed(error: &Failure) -> Failed {
    error.to_string().into()
}

/// A real gateway, started by the first test that needs it.
struct RealGateway {
    version: &'static str,
    /// Whether the gateway may restart during a test.
    restarts: bool,
    runtime: Arc<Runtime>,
    gateway: Option<(OpenClaw, ScriptedModel)>,
    table: Arc<Table>,
}

impl RealGateway {
    fn new(version: &'static str, restarts: bool, runtime: &Arc<Runtime>, table: &Arc<Table>) -> Arc<Mutex<Self>> {
        let (runtime, table) = (Arc::clone(runtime), Arc::clone(table));
        Arc::new(Mutex::new(Self { version, restarts, runtime, gateway: None, table }))
    }

    fn trials(real: &Arc<Mutex<Self>>, version: &str) -> Vec<Trial> {
        let trial = |(name, test): (&'static str, Test)| {
            let real = Arc::clone(real);
            Trial::test(format!("OpenClaw {version}: {name}"), move || {
                real.lock().unwrap_or_else(PoisonError::into_inner).run(name, test).map_err(|error| failed(&error))
            })
        };
        SUITE.into_iter().map(trial).collect()
    }

    fn run(&mut self, name: &'static str, test: Test) -> Result<(), Failure> {
        let runtime = Arc::clone(&self.runtime);
        runtime.block_on(self.passes(test))?;
        self.table.record_pass(self.version, name);
        Ok(())
    }

    /// Runs a test. A restart can fail it at any point: by an interrupted request, a lost entry, or a run whose end is not
    /// received. On a gateway that may restart, a failure therefore counts only if the connection was not lost. A missed
    /// deadline counts on no gateway, and the last failure counts in any case.
    async fn passes(&mut self, test: Test) -> Result<(), Failure> {
        let mut left = ATTEMPTS;
        loop {
            let subject = self.subject().await?;
            let mut link = subject.client.connection();
            link.mark_unchanged();
            let outcome = run(test, &subject).await;
            self.table.record_facts(self.version, &subject);
            let Err(error) = outcome else { return Ok(()) };
            left -= 1;
            // On a busy machine 2026.7 may miss a deadline after a new agent.
            let late = matches!(error.downcast_ref(), Some(CallError::Deadline(_)));
            let restarted = self.restarts && tokio::time::timeout(DISCONNECT_TIMEOUT, link.changed()).await.is_ok();
            if left == 0 || !(late || restarted) {
                return Err(error);
            }
            eprintln!("OpenClaw {}: a test is retried: {error}", self.version);
        }
    }

    async fn subject(&mut self) -> Result<Subject, Failure> {
        let (gateway, _) = match &mut self.gateway {
            Some(running) => running,
            none => {
                let model = ScriptedModel::start().await?;
                none.insert((OpenClaw::start_version(self.version, model.url()).await?, model))
            }
        };
        Subject::real(gateway).await
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let runtime = Arc::new(runtime);
    let table = Arc::<Table>::default();
    if let Ok(version) = std::env::var(TRY_VERSION) {
        let version: &str = version.leak();
        let trials = RealGateway::trials(&RealGateway::new(version, true, &runtime, &table), version);
        let conclusion = libtest_mimic::run(&arguments, trials);
        table.print(version, &SUITE.map(|(name, _)| name));
        conclusion.exit();
    }
    // The slow tests begin first and occupy none of the other places.
    let mut trials = kills::slow_trials(&runtime);
    arguments.test_threads.get_or_insert(PARALLEL_TESTS + trials.len());
    for (version, profile) in SIMULATED.into_iter().chain(mixed_profiles::PROFILES) {
        for (name, test) in SUITE {
            trials.push(Trial::test(format!("simulator {version}: {name}"), move || on_simulator(test, profile)));
        }
    }
    for (version, _) in SIMULATED {
        trials
            .extend(RealGateway::trials(&RealGateway::new(version, version == RESTARTING, &runtime, &table), version));
    }
    trials.extend(heartbeats::trials(&runtime).into_iter().chain(layouts::trials(&runtime)));
    trials.extend(password::trials(&runtime).into_iter().chain(trash::trials(&runtime)).chain(kills::trials(&runtime)));
    // Each gateway stops with the last of its tests.
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(error) = table.compare(&SIMULATED.map(|(version, _)| version), &SUITE.map(|(name, _)| name)) {
        eprintln!("{error}");
        std::process::exit(101);
    }
    conclusion.exit();
}
