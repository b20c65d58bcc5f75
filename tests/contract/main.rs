//! What Muster relies on in a gateway, asked of the real one and of the simulator in each of its versions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, outside of #[test] functions too")]

mod ask;
mod heartbeats;
mod kills;
mod mixed;
mod password;
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

const SUITE: [(&str, Test); 19] = suite![
    an_entry_makes_an_agent_and_the_same_entry_makes_no_second_write,
    a_burst_of_entries_takes_few_config_writes_and_loses_none,
    a_changed_entry_changes_what_it_names_and_leaves_what_others_added,
    a_text_that_looks_like_a_variable_is_read_as_it_was_written,
    a_model_name_that_the_gateway_stores_otherwise_is_accepted_after_one_write,
    a_file_that_the_list_may_leave_out_is_read_or_known_by_its_size,
    two_clients_that_write_at_the_same_moment_both_get_through,
    what_another_client_does_is_seen_when_the_gateway_tells_or_is_read_again,
    a_file_that_is_accepted_is_kept_as_it_was_written,
    a_file_name_that_is_not_accepted_is_refused,
    a_precondition_that_does_not_hold_changes_nothing,
    a_file_that_is_no_text_is_known_by_its_bytes_and_can_be_replaced,
    a_link_in_the_place_of_a_file_is_listed_as_missing_and_neither_read_nor_written,
    a_file_that_is_too_large_to_be_read_is_listed_and_can_be_replaced,
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

/// A version that no test names; then nothing else is tested. `scripts/try-openclaw` sets it.
const TRY: &str = "MUSTER_OPENCLAW_TRY";

/// How often a test is begun. One restart cuts off one attempt, and they come 30 s apart.
const ATTEMPTS: u32 = 6;
/// So long after what it does to a request the loss of the connection is seen at the latest.
const MOMENT: Duration = Duration::from_secs(2);

/// How many tests go on at one time, beside those that wait.
const PLACES: usize = 2;

type Profiles = [(&'static str, fn() -> Profile); 4];
const SIMULATED: Profiles = [
    ("2026.3.2", Profile::v2026_3_2),
    ("2026.5.28", Profile::v2026_5_28),
    ("2026.7.1", Profile::v2026_7_1),
    ("2026.9.6", Profile::v2026_9_6),
];

/// Runs a test, whose panic is a failure like another.
async fn run(test: Test, subject: &Subject) -> Result<(), Failure> {
    let test = AssertUnwindSafe(test(subject)).catch_unwind().await;
    test.unwrap_or_else(|panic| Err(said(&*panic).into()))
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

/// A simulator's clock stands still while nobody waits.
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
struct Real {
    version: &'static str,
    /// Whether it may restart while a test goes on.
    restarts: bool,
    runtime: Arc<Runtime>,
    gateway: Option<(OpenClaw, ScriptedModel)>,
    table: Arc<Table>,
}

impl Real {
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
        self.table.pass(self.version, name);
        Ok(())
    }

    /// Runs a test. A restart can fail it anywhere: by a request that is cut off, by an entry that is lost, by a run whose end
    /// nobody hears. So on a gateway that restarts, or may, a failure counts only if the connection stood all the while. A
    /// missed deadline counts on none, and the last failure counts in any case.
    async fn passes(&mut self, test: Test) -> Result<(), Failure> {
        let mut left = ATTEMPTS;
        loop {
            let subject = self.subject().await?;
            let mut link = subject.client.connection();
            link.mark_unchanged();
            let outcome = run(test, &subject).await;
            self.table.see(self.version, &subject);
            let Err(error) = outcome else { return Ok(()) };
            left -= 1;
            // One of 2026.7 may be at work for so long after a new agent that a busy machine makes it miss a deadline.
            let late = matches!(error.downcast_ref(), Some(CallError::Deadline(_)));
            let restarted = self.restarts && tokio::time::timeout(MOMENT, link.changed()).await.is_ok();
            if left == 0 || !(late || restarted) {
                return Err(error);
            }
            eprintln!("OpenClaw {}: a test begins anew: {error}", self.version);
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
    if let Ok(version) = std::env::var(TRY) {
        let version: &str = version.leak();
        let trials = Real::trials(&Real::new(version, true, &runtime, &table), version);
        let conclusion = libtest_mimic::run(&arguments, trials);
        table.print(version, &SUITE.map(|(name, _)| name));
        conclusion.exit();
    }
    // Those that wait for minutes begin first and take no place from the others.
    let mut trials = kills::waiting(&runtime);
    arguments.test_threads.get_or_insert(PLACES + trials.len());
    for (version, profile) in SIMULATED.into_iter().chain(mixed::PROFILES) {
        for (name, test) in SUITE {
            trials.push(Trial::test(format!("simulator {version}: {name}"), move || on_simulator(test, profile)));
        }
    }
    for (version, _) in SIMULATED {
        trials.extend(Real::trials(&Real::new(version, version == RESTARTS, &runtime, &table), version));
    }
    trials.extend(heartbeats::trials(&runtime));
    trials.extend(password::trials(&runtime).into_iter().chain(trash::trials(&runtime)).chain(kills::trials(&runtime)));
    // Each gateway ends with the last of its tests.
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(error) = table.compare(&SIMULATED.map(|(version, _)| version), &SUITE.map(|(name, _)| name)) {
        eprintln!("{error}");
        std::process::exit(101);
    }
    conclusion.exit();
}
