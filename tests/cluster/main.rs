//! The operator on a real API server, under the RBAC that it ships, with a real gateway.
//!
//! Every test has a namespace of its own. They share the parts and run one after the other.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test fails by a panic, outside of #[test] functions too, and takes JSON literals by value"
)]

mod adoption;
mod authority;
mod bad_input;
mod deletion;
mod fleet;
mod lifecycle;
mod main_job;
mod manifests;
mod old_versions;
mod outages;
mod people;
mod remote;
mod soul_directory;
mod stack;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use muster_harness::Failure;

use crate::stack::Stack;

type Test = for<'a> fn(&'a mut Stack) -> LocalBoxFuture<'a, Result<(), Failure>>;

/// The parts, started by the first test that needs them.
struct Shared {
    runtime: tokio::runtime::Runtime,
    stack: Option<Stack>,
}

impl Shared {
    fn run(&mut self, test: Test) -> Result<(), Failed> {
        let Self { runtime, stack } = self;
        let outcome = runtime.block_on(async {
            let stack = match stack {
                Some(stack) => stack,
                None => stack.insert(Stack::start().await?),
            };
            AssertUnwindSafe(test(stack)).catch_unwind().await.unwrap_or_else(|panic| Err(said(&*panic).into()))
        });
        outcome.map_err(|error: Failure| {
            // What a failed test leaves behind must not fail the next one.
            let log = stack.take().map(|stack| stack.tail()).unwrap_or_default();
            Failed::from(format!("{error}\n{log}"))
        })
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

macro_rules! tests {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), (|stack| Box::pin($module::$name(stack))) as Test)),+]
    };
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let shared = Arc::new(Mutex::new(Shared { runtime, stack: None }));
    let tests = tests![
        manifests::a_refused_manifest_says_which_field_and_why,
        manifests::every_resource_explains_its_fields,
        manifests::the_shipped_account_may_do_what_it_needs_and_no_more,
        manifests::the_examples_are_valid_as_they_are_shipped,
        main_job::an_agent_is_woken_reads_its_files_and_checks_in,
        main_job::twenty_agents_are_ready_with_few_config_writes_and_a_second_run_writes_nothing,
        main_job::a_changed_agent_board_gateway_and_config_map_reach_the_files,
        main_job::what_is_lost_on_the_gateway_comes_back_with_the_next_resync,
        lifecycle::an_agent_checks_in_with_the_old_token_and_then_with_the_new_one,
        lifecycle::runs_of_the_gateway_are_told_and_a_session_starts_anew,
        lifecycle::a_paused_agent_has_no_heartbeat_on_the_gateway_until_it_is_resumed,
        people::the_documents_commands_work_as_they_stand,
        people::who_may_not_is_refused_with_the_right_that_is_missing,
        people::the_api_is_as_it_is_described,
        adoption::what_is_imported_is_adopted_as_it_is_and_stays_when_the_manifests_go,
        soul_directory::the_soul_for_a_role_comes_over_https_when_that_is_allowed,
        old_versions::the_main_job_is_done_on_2026_3_2,
        old_versions::the_main_job_is_done_on_2026_5_28,
        old_versions::the_main_job_is_done_on_2026_7_1,
        old_versions::thirty_agents_on_2026_7_1_need_no_more_config_writes_than_one_minute_has,
        remote::a_gateway_far_away_is_trusted_by_its_certificate_and_approves_this_device,
        old_versions::an_upgrade_from_2026_7_1_is_noticed_and_files_are_folded,
        bad_input::bad_references_and_templates_end_in_conditions_that_say_what_to_do,
        bad_input::a_wrong_token_and_an_unreachable_gateway_are_told_and_heal,
        bad_input::a_namespace_that_is_not_admitted_is_refused_until_it_is,
        fleet::a_person_watches_agents_come_up_without_a_reload,
        fleet::a_token_that_is_not_accepted_leads_back_to_the_form,
        deletion::an_agent_that_is_deleted_leaves_nothing_behind,
        deletion::a_namespace_goes_with_the_gateway_and_its_secret_in_it,
        deletion::a_gateway_that_goes_first_still_lets_its_agents_go,
        deletion::a_namespace_that_was_restored_from_a_backup_ends,
        deletion::a_gateway_whose_finalizer_was_taken_away_holds_no_namespace,
        deletion::an_agent_with_names_that_are_refused_today_can_still_be_deleted,
        outages::an_operator_that_is_killed_again_and_again_makes_no_second_agent,
        outages::a_gateway_that_is_killed_is_told_and_heals,
        outages::a_gateway_that_freezes_is_noticed_and_heals,
        outages::an_operator_that_is_asked_to_end_ends_by_itself,
    ];
    let trials = tests.map(|(name, test)| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || shared.lock().unwrap_or_else(PoisonError::into_inner).run(test))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    drop(shared);
    conclusion.exit();
}
