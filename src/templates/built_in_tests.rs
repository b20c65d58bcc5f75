//! The content of the built-in templates.

use super::*;
use crate::templates::test_support::{HOSTILE, ROLES, file, files, folded, variables};
use crate::templates::variables::{Variables, no_board};

#[test]
fn each_file_of_each_role_renders_with_ordinary_missing_and_hostile_values() {
    for role in ROLES {
        let mut cases = vec![variables(role, None), Variables::new(role)];
        cases.extend(HOSTILE.iter().map(|text| variables(role, Some(text))));
        for variables in cases {
            for (name, text) in files(role, &variables) {
                assert!(text.starts_with("# "), "{name} has no title");
                assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
                assert!(!text.contains("\n\n\n"), "{name} has holes:\n{text}");
                assert!(text.lines().all(|line| line == line.trim_end()), "{name} has trailing spaces:\n{text}");
            }
        }
    }
}

#[test]
fn each_role_has_its_own_text_in_agents_md() {
    let agents = |role| file(role, &variables(role, None), &FileName::AGENTS);
    assert!(agents(Role::Worker).contains("Ada, a worker on the board Infrastructure"));
    assert!(agents(Role::Lead).contains("Ada, lead of the board Infrastructure"));
    assert!(agents(Role::Main).contains("Ada, the main agent of this gateway"));
    assert!(agents(Role::Lead).contains("## Leading") && !agents(Role::Worker).contains("## Leading"));
    assert!(!agents(Role::Main).contains("Infrastructure"));
}

#[test]
fn files_of_workers_and_leads_have_the_boards_objective_and_rules() {
    for (role, name) in [(Role::Worker, FileName::AGENTS), (Role::Lead, FileName::BOARD)] {
        let text = file(role, &variables(role, None), &name);
        for part in ["> Maintain production systems", "> 99.9 % in June", "2027-01-01", "review", "approv"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}

#[test]
fn only_active_rules_are_in_agents_md() {
    let with = variables(Role::Worker, None);
    let without = with.clone().with_board(&no_board());
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
fn each_identity_value_and_the_soul_of_the_directory_are_in_a_file() {
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
fn the_identity_file_has_the_name_in_the_form_that_the_gateway_parses() {
    for role in ROLES {
        let identity = file(role, &variables(role, None), &FileName::IDENTITY);
        assert_eq!(identity.lines().filter(|line| *line == "- Name: Ada").count(), 1);
    }
}

#[test]
fn each_file_is_much_shorter_than_the_gateways_limit_for_the_model() {
    for role in ROLES {
        for (name, text) in folded(role, &variables(role, None)) {
            // A gateway passes on 20,000 characters, and 4,000 of USER.md. What people add has to fit too.
            let limit = match name.as_str() {
                "AGENTS.md" => 14_000,
                "USER.md" => 2_000,
                _ => 10_000,
            };
            let length = text.chars().count();
            assert!(length < limit, "{role:?} {name} has {length} characters");
        }
    }
}

#[test]
fn a_template_is_named_by_its_role_and_exists_only_for_the_files_of_the_role() {
    assert_eq!(built_in(Role::Lead, &FileName::SOUL).unwrap().name, "built-in lead/SOUL.md");
    assert!(built_in(Role::Worker, &FileName::BOARD).is_none());
    assert!(built_in(Role::Main, &FileName::BOOTSTRAP).is_none());
    assert!(built_in(Role::Worker, &FileName::parse("NOTES.md").unwrap()).is_none());
}
