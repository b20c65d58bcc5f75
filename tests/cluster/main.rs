//! The operator on a real API server, with the shipped RBAC, and a real gateway.
//!
//! Some lanes run the tests side by side. Each lane has a whole stack of its own, on which its tests run one after the other, each in a namespace
//! of its own. A test fails when a secret is in an output (`canary.rs`).

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test fails by a panic, outside of #[test] functions too, and takes JSON literals by value"
)]

mod adoption;
mod authority;
mod backups;
mod bad_input;
mod canary;
mod commands;
mod deletion;
mod docs;
mod export;
mod fleet;
#[path = "../rights/granted.rs"]
mod granted;
mod imports;
mod lifecycle;
mod main_job;
mod manifests;
mod namespaces;
mod old_versions;
mod outages;
#[path = "../docs/page.rs"]
mod page;
mod people;
mod pipeline;
mod policy;
mod protection;
mod remote;
mod replicas;
mod rights;
#[path = "../shapes/mod.rs"]
mod shapes;
#[path = "../docs/shell.rs"]
mod shell;
mod soul_directory;
mod stack;
mod uninstall;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use muster_harness::{Failure, TestReport, panic_message};

use crate::stack::Stack;

type Test = for<'a> fn(&'a mut Stack) -> LocalBoxFuture<'a, Result<(), Failure>>;

/// The number of stacks. The tests mostly wait, and the contract tests run beside them: with a third stack, starts of gateways on two cores take
/// minutes, and tests miss their deadlines.
const LANES: usize = 2;

/// The stacks that run no test at the moment. A test starts a stack if all of them are busy.
struct Lanes {
    runtime: tokio::runtime::Runtime,
    idle: Mutex<Vec<Stack>>,
    report: TestReport,
}

impl Lanes {
    fn run(&self, name: &str, test: Test) -> Result<(), Failed> {
        self.report.run(name, || self.runtime.block_on(self.run_on_a_stack(test))).map_err(Failed::from)
    }

    async fn run_on_a_stack(&self, test: Test) -> Result<(), Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut stack = match idle {
            Some(stack) => stack,
            None => Stack::start().await?,
        };
        let outcome = AssertUnwindSafe(test(&mut stack)).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|panic| Err(panic_message(&*panic).into()));
        let outcome = match (outcome, stack.check_secrets().await) {
            (Err(error), Err(found)) => Err(format!("{error}\n{found}").into()),
            (outcome, checked) => outcome.and(checked),
        };
        match outcome {
            Ok(()) => self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stack),
            // The next test starts with a new stack.
            Err(error) => return Err(format!("{error}\n{}", stack.tail()).into()),
        }
        Ok(())
    }
}

macro_rules! tests {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), (|stack| Box::pin($module::$name(stack))) as Test)),+]
    };
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(LANES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lanes = Arc::new(Lanes { runtime, idle: Mutex::default(), report: TestReport::default() });
    let tests = tests![
        // The longest tests begin first, so that none remains alone at the end.
        old_versions::an_upgrade_from_2026_7_1_is_noticed_and_files_are_folded,
        fleet::the_page_shows_new_agents_without_a_reload,
        docs::every_command_with_this_mark_does_what_it_shows,
        rights::a_whole_life_cycle_uses_every_granted_right_and_no_other,
        namespaces::an_operator_with_roles_works_in_their_namespaces_and_nowhere_else,
        replicas::a_frozen_and_a_terminated_leader_are_replaced_and_no_agent_notices,
        backups::a_lost_cluster_is_restored_with_the_same_agents_and_their_memory,
        remote::a_remote_gateway_is_trusted_by_its_certificate_and_approves_the_device,
        // The other tests by topic. The tests that remove the operator come last.
        canary::planted_secrets_are_found,
        manifests::a_refused_manifest_names_the_field_and_the_cause,
        manifests::every_resource_explains_its_fields,
        manifests::objects_are_selected_by_fields_of_their_spec,
        manifests::the_shipped_account_has_exactly_the_needed_permissions,
        manifests::the_shipped_examples_are_valid,
        manifests::the_shipped_components_are_valid,
        manifests::each_service_has_one_port_and_none_has_the_probes,
        policy::the_operators_account_writes_only_musters_own_secrets,
        protection::another_value_than_true_or_false_is_refused,
        protection::a_protected_object_is_deleted_only_after_its_protection_is_lifted,
        protection::collections_pipelines_and_namespaces_delete_no_protected_object,
        protection::a_protected_agent_keeps_its_agent_when_its_namespace_is_deleted_with_the_gateway,
        protection::a_protected_namespace_and_the_definitions_are_not_deleted,
        main_job::an_agent_is_woken_reads_its_files_and_checks_in,
        main_job::a_changed_agent_board_gateway_and_config_map_reach_the_files,
        main_job::losses_on_the_gateway_are_repaired_by_the_next_resync,
        lifecycle::an_agent_without_a_wake_checks_in_at_its_heartbeat,
        lifecycle::an_agent_checks_in_with_the_old_token_and_then_with_the_new_one,
        lifecycle::runs_are_reported_and_a_session_is_reset,
        lifecycle::a_paused_agent_has_no_heartbeat_on_the_gateway_until_it_is_resumed,
        lifecycle::further_config_keys_reach_the_gateway_and_wait_while_it_is_suspended,
        people::the_documented_commands_work_unchanged,
        people::a_forbidden_user_gets_the_missing_permission,
        people::the_api_matches_its_openapi_document,
        adoption::imported_agents_are_adopted_unchanged_and_stay_after_the_manifests_are_deleted,
        soul_directory::a_soul_is_fetched_over_https_from_an_allowed_private_address,
        bad_input::bad_references_and_templates_end_in_conditions_with_the_remedy,
        bad_input::an_object_that_cannot_be_read_gets_an_event_and_the_others_are_served,
        bad_input::a_wrong_token_and_an_unreachable_gateway_are_reported_and_recover,
        bad_input::a_namespace_is_refused_until_it_is_admitted,
        fleet::a_refused_token_leads_back_to_the_form,
        deletion::a_deleted_agent_leaves_nothing,
        deletion::a_deleted_memory_is_brought_back_from_the_trash,
        deletion::a_namespace_with_a_gateway_and_its_secret_can_be_deleted,
        deletion::agents_can_be_deleted_after_their_gateway,
        deletion::a_restored_namespace_can_be_deleted,
        backups::a_namespace_ends_although_the_gateway_of_another_namespace_is_gone,
        deletion::a_gateway_without_its_finalizer_blocks_no_namespace_deletion,
        deletion::an_agent_with_a_name_refused_today_can_still_be_deleted,
        pipeline::a_pipeline_applies_changes_suspends_and_prunes_a_fleet,
        export::exported_manifests_bring_every_object_back,
        export::what_cannot_be_read_is_named_and_the_exit_status_is_not_0,
        commands::the_commands_work_as_kubectl_does,
        outages::a_terminated_operator_exits_gracefully,
        uninstall::an_operator_that_is_installed_again_continues_with_the_same_agents,
        uninstall::the_documented_commands_leave_nothing,
    ];
    // `make test-long` runs these: versions in between, many gateways, or what the simulator shows too.
    let long = tests![
        outages::repeated_operator_kills_create_no_second_agent,
        deletion::a_refused_and_a_partial_deletion_name_what_is_left_and_their_way_out,
        outages::a_frozen_gateway_is_noticed_and_recovers,
        main_job::twenty_agents_are_ready_with_few_config_writes_and_a_second_run_writes_nothing,
        old_versions::agents_survive_two_upgrades_in_the_middle_of_their_set_up,
        imports::no_byte_changes_on_2026_9_6,
        imports::no_byte_changes_on_2026_7_1,
        old_versions::the_main_job_works_on_2026_3_2,
        old_versions::the_main_job_works_on_2026_5_28,
        old_versions::the_main_job_works_on_2026_7_1,
        old_versions::thirty_agents_on_2026_7_1_fit_the_write_budget_of_one_minute,
        outages::a_killed_gateway_is_reported_and_recovers,
    ];
    let trial = |(name, test): (&'static str, Test)| {
        let lanes = Arc::clone(&lanes);
        Trial::test(name, move || lanes.run(name, test))
    };
    let trials = tests.map(trial).into_iter().chain(long.map(|test| trial(test).with_ignored_flag(true)));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    lanes.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    if let Err(error) = lanes.report.finish() {
        eprintln!("{error}");
        std::process::exit(101);
    }
    conclusion.exit();
}
