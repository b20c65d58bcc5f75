//! What the built-in templates tell an agent.

use super::*;
use crate::templates::facts::BoardFacts;
use crate::templates::file_name::injection_limit;
use crate::templates::test_support::{HOSTILE, KINDS, file, files, folded, variables};
use crate::templates::variables::Variables;

#[test]
fn every_file_of_every_kind_renders_with_ordinary_missing_and_hostile_values() {
    for kind in KINDS {
        let mut cases = vec![variables(kind, None), Variables::new(kind)];
        cases.extend(HOSTILE.iter().map(|text| variables(kind, Some(text))));
        for variables in cases {
            for (name, text) in files(kind, &variables) {
                assert!(text.starts_with("# "), "{name} has no title");
                assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
                assert!(!text.contains("\n\n\n"), "{name} has holes:\n{text}");
                assert!(text.lines().all(|line| line == line.trim_end()), "{name} has trailing spaces:\n{text}");
            }
        }
    }
}

#[test]
fn each_kind_is_told_what_it_is_and_no_other_kind_is() {
    let agents = |kind| file(kind, &variables(kind, None), &FileName::AGENTS);
    assert!(agents(Role::Worker).contains("Ada, a worker on the board Infrastructure"));
    assert!(agents(Role::Lead).contains("Ada, lead of the board Infrastructure"));
    assert!(agents(Role::Main).contains("Ada, the main agent of this gateway"));
    assert!(agents(Role::Lead).contains("## Leading") && !agents(Role::Worker).contains("## Leading"));
    assert!(!agents(Role::Main).contains("Infrastructure"));
}

#[test]
fn a_worker_and_a_lead_know_objective_and_rules_of_their_board() {
    for (kind, name) in [(Role::Worker, FileName::AGENTS), (Role::Lead, FileName::BOARD)] {
        let text = file(kind, &variables(kind, None), &name);
        for part in ["> Maintain production systems", "> 99.9 % in June", "2027-01-01", "review", "approv"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}

#[test]
fn a_rule_that_does_not_hold_is_not_told() {
    let with = variables(Role::Worker, None);
    let without = with.clone().with_board(&BoardFacts::default());
    let agents = |variables| file(Role::Worker, variables, &FileName::AGENTS);
    for rule in [
        "Only the lead changes the state",
        "is reviewed before",
        "When you ask for review",
        "lead has approved",
        "an approval is open",
    ] {
        assert!(agents(&with).contains(rule) && !agents(&without).contains(rule), "{rule}");
    }
}

#[test]
fn every_identity_value_and_the_soul_of_the_directory_reach_a_file() {
    for name in [
        "identity_role",
        "identity_expertise",
        "identity_tone",
        "identity_communication_style",
        "identity_constraints",
        "identity_working_hours",
        "identity_emoji",
        "identity_autonomy_level",
        "identity_verbosity",
        "identity_output_format",
        "identity_update_cadence",
        "identity_purpose",
        "identity_personality",
        "identity_custom_instructions",
        "directory_role_soul_markdown",
        "user_name",
        "user_preferred_name",
        "user_pronouns",
        "user_timezone",
        "user_notes",
        "user_context",
        "heartbeat_interval",
        "workspace_path",
        "session_key",
    ] {
        let mut variables = variables(Role::Worker, None);
        variables.set(name, "the-needle");
        assert!(files(Role::Worker, &variables).iter().any(|(_, text)| text.contains("the-needle")), "{name}");
    }
}

#[test]
fn the_identity_file_keeps_the_name_where_the_gateway_looks_for_it() {
    for kind in KINDS {
        let identity = file(kind, &variables(kind, None), &FileName::IDENTITY);
        assert_eq!(identity.lines().filter(|line| *line == "- Name: Ada").count(), 1);
    }
}

#[test]
fn every_file_stays_well_under_what_the_gateway_shows_to_the_model() {
    for kind in KINDS {
        for (name, text) in folded(kind, &variables(kind, None)) {
            let limit = if name == FileName::AGENTS { 14_000 } else { injection_limit(&name) / 2 };
            let length = text.chars().count();
            assert!(length < limit, "{kind:?} {name} has {length} characters");
        }
    }
}

#[test]
fn a_template_is_named_by_its_kind_and_exists_only_for_the_files_of_the_kind() {
    assert_eq!(built_in(Role::Lead, &FileName::SOUL).unwrap().name, "built-in lead/SOUL.md");
    assert!(built_in(Role::Worker, &FileName::BOARD).is_none());
    assert!(built_in(Role::Main, &FileName::BOOTSTRAP).is_none());
    assert!(built_in(Role::Worker, &FileName::parse("NOTES.md").unwrap()).is_none());
}
