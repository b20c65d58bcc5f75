//! The behaviour of gateways that Muster relies on, tested on the real gateway and the simulator, each in four versions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, outside of #[test] functions too")]

mod heartbeats;
mod kills;
mod layouts;
mod mixed_profiles;
mod password;
mod raw_request;
mod reload_modes;
mod run;
mod sessions;
mod subject;
mod suite;
mod table;
mod trash;

use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Trial};
use muster::openclaw::model::{AgentEntry, CallError};
use muster_harness::{Failure, OpenClaw, ScriptedModel};
use muster_simulator::{Profile, Simulator};
use tokio::sync::Mutex;

use crate::run::{Run, long};
use crate::subject::Subject;

type Test = for<'a> fn(&'a Subject) -> LocalBoxFuture<'a, Result<(), Failure>>;

macro_rules! suite {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), (|subject| Box::pin(suite::$name(subject))) as Test)),+]
    };
}

const SUITE: [(&str, Test); 22] = suite![
    an_entry_creates_an_agent_and_the_same_entry_causes_no_second_write,
    a_burst_of_entries_takes_few_config_writes_and_loses_no_entry,
    a_changed_entry_changes_its_own_fields_and_keeps_foreign_fields,
    a_text_with_variable_syntax_is_read_unchanged,
    values_can_leave_an_array_of_an_entry,
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

/// The number of attempts of a test. The report counts each repeat.
const ATTEMPTS: u32 = 3;
/// The time within which the client notices a lost connection after its effect on a request.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of agents that a real gateway gets at its start, by one config write, for the tests that need any agent. Older versions accept
/// three config writes a minute.
const PREPARED_AGENTS: usize = 30;

type Profiles = [(&'static str, fn() -> Profile); 4];
const SIMULATED: Profiles = [
    ("2026.3.2", Profile::v2026_3_2),
    ("2026.5.28", Profile::v2026_5_28),
    ("2026.7.1", Profile::v2026_7_1),
    ("2026.9.6", Profile::v2026_9_6),
];

/// A real gateway, started by the first test that needs it.
struct RealGateway {
    version: &'static str,
    /// Whether the gateway may restart during a test.
    restarts: bool,
    running: Option<(OpenClaw, ScriptedModel)>,
    /// Agents that no test has used, registered at the start.
    prepared: Vec<AgentEntry>,
}

impl RealGateway {
    /// Tests that share a gateway, which gets so many agents at its start.
    fn trials(
        run: &Run,
        (version, restarts): (&'static str, bool),
        agents: usize,
        tests: impl IntoIterator<Item = (&'static str, Test)>,
    ) -> Vec<Trial> {
        let prepared = std::iter::repeat_with(subject::new_entry).take(agents).collect();
        let gateway = Self { version, restarts, running: None, prepared };
        let gateway = Arc::new(Mutex::new(gateway));
        let trial = |(name, test): (&'static str, Test)| {
            let of_run = run.clone();
            run.sharing(format!("OpenClaw {version}: {name}"), &gateway, move |gateway| {
                Box::pin(async move {
                    gateway.passes(&of_run, name, test).await?;
                    of_run.table.record_pass(version, name);
                    Ok(())
                })
            })
        };
        tests.into_iter().map(trial).collect()
    }

    /// Runs a test. A restart can fail it at any point: by an interrupted request, a lost entry, or a run whose end is not
    /// received. On a gateway that may restart, a failure therefore counts only if the connection was not lost. A missed
    /// deadline counts on no gateway, and the last failure counts in any case.
    async fn passes(&mut self, run: &Run, name: &str, test: Test) -> Result<(), Failure> {
        let mut left = ATTEMPTS;
        loop {
            let subject = self.subject(run).await?;
            let mut link = subject.client.connection();
            link.mark_unchanged();
            let outcome = run::without_panic(test(&subject)).await;
            run.table.record_facts(self.version, &subject);
            self.prepared = subject.take_prepared();
            let Err(error) = outcome else { return Ok(()) };
            left -= 1;
            // On a busy machine 2026.7 may miss a deadline after a new agent.
            let late = matches!(error.downcast_ref(), Some(CallError::Deadline(_)));
            let restarted = self.restarts && tokio::time::timeout(DISCONNECT_TIMEOUT, link.changed()).await.is_ok();
            if left == 0 || !(late || restarted) {
                return Err(error);
            }
            run.report.repeated(&format!("OpenClaw {}: {name}", self.version), &error);
        }
    }

    /// A client of the gateway, with the agents that are left.
    async fn subject(&mut self, run: &Run) -> Result<Subject, Failure> {
        if self.running.is_none() {
            let _place = run.place().await?;
            let model = ScriptedModel::start().await?;
            let gateway = OpenClaw::start_version(self.version, model.url()).await?;
            Subject::real_restarting(&gateway, self.version == RESTARTING).await?.register(&self.prepared).await?;
            self.running = Some((gateway, model));
        }
        let (gateway, _) = self.running.as_ref().ok_or("the gateway was not started")?;
        let subject = Subject::real_restarting(gateway, self.version == RESTARTING).await?;
        subject.prepare(std::mem::take(&mut self.prepared));
        Ok(subject)
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    let run = Run::default();
    if let Ok(version) = std::env::var(TRY_VERSION) {
        let version: &str = version.leak();
        let conclusion =
            libtest_mimic::run(&arguments, RealGateway::trials(&run, (version, true), PREPARED_AGENTS, SUITE));
        run.table.print(version, &SUITE.map(|(name, _)| name));
        // The number of repeats is a property of the version.
        let _ = run.report.finish();
        conclusion.exit();
    }
    let mut trials = Vec::new();
    for (version, _) in SIMULATED {
        let of = (version, version == RESTARTING);
        let suite = RealGateway::trials(&run, of, PREPARED_AGENTS, SUITE.into_iter().chain(trash::tests(version)));
        let about_configs = layouts::tests(version).into_iter().chain([heartbeats::SHARING]);
        let about_configs = RealGateway::trials(&run, of, 0, about_configs);
        match version {
            NEWEST => trials.extend(suite.into_iter().chain(about_configs)),
            RESTARTING => trials.extend(suite.into_iter().chain(long(about_configs))),
            _ => trials.extend(long(suite.into_iter().chain(about_configs))),
        }
    }
    trials.extend(kills::trials(&run));
    trials.extend(heartbeats::trials(&run).into_iter().chain(layouts::trials(&run)));
    trials.extend(reload_modes::trials(&run));
    trials.extend(password::trials(&run).into_iter().chain(trash::trials(&run)));
    for (version, profile) in SIMULATED.into_iter().chain(mixed_profiles::PROFILES) {
        for (name, test) in SUITE {
            let test = move || async move {
                let subject = Subject::simulated(Simulator::new(profile().with_token("token"))).await?;
                test(&subject).await
            };
            trials.push(run.simulated(format!("simulator {version}: {name}"), test));
        }
    }
    // Each test has a thread, where it waits for its gateway and for one of the places (`run.rs`).
    arguments.test_threads.get_or_insert(trials.len());
    // Each gateway stops with the last of its tests.
    let conclusion = libtest_mimic::run(&arguments, trials);
    let reported = run.report.finish();
    let compared = run.table.compare(&SIMULATED.map(|(version, _)| version), &SUITE.map(|(name, _)| name));
    if let Err(error) = reported.and(compared) {
        eprintln!("{error}");
        std::process::exit(101);
    }
    conclusion.exit();
}
