//! The abilities of a template, and the errors beyond them.

use proptest::prelude::*;
use secrecy::SecretString;

use super::*;
use crate::api::agent::Role;

const TOKEN: &str = "tok-5ecret";

fn variables() -> Variables {
    let mut variables = Variables::new(Role::Worker).with_token(&SecretString::from(TOKEN));
    variables.set("agent_name", "Ada");
    variables.set("board_objective", "Keep {{ agent_name }} and {% raw %} as they are");
    variables.set("identity_expertise", "Rust, SQL");
    variables
}

fn rendered(source: &str) -> Result<String, RenderError> {
    render(&Template::given("ConfigMap team/templates key SOUL.md", source), &variables(), &mut Budget::default())
}

fn error(source: &str) -> RenderError {
    rendered(source).expect_err(source)
}

#[test]
fn values_are_inserted_and_never_parsed_as_templates() {
    assert_eq!(
        rendered("{{ agent_name }}: {{ board_objective }}").unwrap(),
        "Ada: Keep {{ agent_name }} and {% raw %} as they are\n"
    );
}

#[test]
fn text_is_not_escaped_whatever_the_name_of_the_template() {
    let mut variables = variables();
    variables.set("agent_name", "<Ada> & 'co'");
    let template = Template::given("x.html", "{{ agent_name }}");
    assert_eq!(render(&template, &variables, &mut Budget::default()).unwrap(), "<Ada> & 'co'\n");
}

#[test]
fn the_output_ends_in_exactly_one_newline_unless_it_is_empty() {
    for (source, expected) in [("a", "a\n"), ("a\n", "a\n"), ("a\n\r\n\n", "a\n"), ("", ""), ("\n\n", "")] {
        assert_eq!(rendered(source).unwrap(), expected, "{source:?}");
    }
}

#[test]
fn choices_loops_and_filters_work() {
    let source = "{% for skill in identity_expertise | split(', ') %}{{ loop.index }}={{ skill | upper }};{% endfor %}\
        {% if is_board_lead == 'true' %}lead{% else %}{{ board_name or 'no board' }}{% endif %}";
    assert_eq!(rendered(source).unwrap(), "1=RUST;2=SQL;no board\n");
}

#[test]
fn each_filter_of_the_error_exists() {
    for filter in FILTERS {
        let source = match filter {
            "replace" => "{{ agent_name | replace('A', 'a') }}".to_owned(),
            "int" => "{{ '7' | int }}".to_owned(),
            "bool" | "safe" | "d" | "default" => format!("{{{{ agent_name | {filter} }}}}"),
            other => format!("{{{{ agent_name | {other} }}}}"),
        };
        assert!(rendered(&source).is_ok(), "{filter}: {:?}", rendered(&source));
    }
}

#[test]
fn an_unknown_variable_is_reported_with_file_line_and_similar_names() {
    let error = error("one\n{{ agent_name }}\n{{ agnet_name }}\n");
    assert_eq!(error.line, Some(3));
    assert_eq!(error.variable.as_deref(), Some("agnet_name"));
    assert_eq!(
        error.to_string(),
        "ConfigMap team/templates key SOUL.md, line 3: unknown variable agnet_name: did you mean agent_name?"
    );
}

#[test]
fn an_unknown_variable_is_found_in_an_unused_branch_and_under_default() {
    for source in [
        "a\n{% if is_board_lead == 'true' %}{{ nobody }}{% endif %}",
        "a\n{{ nobody | default('x') }}",
        "a\n{% if nobody is defined %}{% endif %}",
        "a\n{{ nobody() }}",
    ] {
        let error = error(source);
        assert_eq!((error.line, error.variable.as_deref()), (Some(2), Some("nobody")), "{source}");
    }
}

#[test]
fn the_first_of_two_unknown_variables_is_reported() {
    assert_eq!(error("{{ zzz_one }}\n{{ aaa_two }}").variable.as_deref(), Some("zzz_one"));
}

#[test]
fn a_syntax_error_and_an_unknown_filter_are_reported_with_their_line() {
    let syntax = error("a\n{% if agent_name %}\nb");
    assert!(syntax.line.is_some() && syntax.to_string().contains("syntax error"), "{syntax}");
    let filter = error("a\n{{ agent_name | shout }}");
    assert_eq!(filter.line, Some(2));
    assert!(filter.message.contains("shout") && filter.message.contains("upper"), "{filter}");
}

#[test]
fn a_template_can_access_only_its_variables() {
    for source in [
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{{ range(3) }}",
        "{{ debug() }}",
        "{{ env('HOME') }}",
        "{{ agent_name.upper() }}",
        "{{ agent_name.__class__ }}",
    ] {
        assert!(rendered(source).is_err(), "{source}");
    }
}

#[test]
fn the_token_is_in_no_error() {
    for source in [
        "{{ auth_token | int }}",
        "{{ -auth_token }}",
        "{{ auth_token.x }}",
        "{{ auth_token / 2 }}",
        "{% set t = auth_token %}{{ t | int }}",
        "{{ agent_name | replace(auth_token) }}",
        "{{ auth_token | join(1, 2) }}",
    ] {
        if let Err(error) = rendered(source) {
            assert!(!format!("{error} {error:?}").contains("5ecret"), "{error}");
        }
    }
    assert!(error("{{ auth_token | int }}").to_string().contains("line 1: invalid operation in `int`"));
}

#[test]
fn work_memory_nesting_and_output_are_bounded() {
    let loops = "{% for a in board_objective %}".repeat(12) + "x" + &"{% endfor %}".repeat(12);
    let doubling = "{% set x = agent_name %}".to_owned() + &"{% set x = x ~ x %}".repeat(60) + "{{ x }}";
    let capture = "{% set x %}aa{% endset %}".to_owned() + &"{% set x %}{{ x }}{{ x }}{% endset %}".repeat(60);
    let replaced = "{% set x = agent_name %}".to_owned() + &"{% set x = x | replace('a', x) %}".repeat(60);
    let recursive = "{% for a in agent_name recursive %}{{ loop(agent_name) }}{% endfor %}".to_owned();
    let nested = "{% if agent_name %}".repeat(5_000) + &"{% endif %}".repeat(5_000);
    let long = "{% set x = agent_name %}".to_owned() + &"{% set x = x ~ x %}".repeat(17) + "{{ x }}";
    for source in [loops, doubling, capture, replaced, recursive, nested, long, "x".repeat(200_000)] {
        assert!(rendered(&source).is_err(), "{}", &source[..60]);
    }
    assert!(rendered(&"x".repeat(100_000)).is_ok());
}

#[test]
fn too_many_tags_are_reported_with_the_line() {
    let source = "{{ agent_name }}\n".repeat(template_lint::MAX_TAGS);
    assert!(rendered(&source).is_ok());
    let error = error(&format!("{source}{{{{ agent_name }}}}"));
    assert_eq!(error.line, Some(template_lint::MAX_TAGS + 1));
    assert!(error.to_string().contains("ConfigMap team/templates key SOUL.md"), "{error}");
}

#[test]
fn long_quotes_are_shortened() {
    let name = "x".repeat(100_000);
    for source in [format!("{{{{ {name} }}}}"), format!("{{{{ '{name}' | int }}}}"), format!("{{{{ 1 {name} }}}}")] {
        let error = error(&source);
        assert!(error.to_string().len() < 1_000, "{error}");
    }
}

#[test]
fn the_templates_of_one_agent_have_one_budget_of_work_and_of_source() {
    let busy = "{% for a in identity_expertise %}{% for b in board_objective %}{% for c in identity_expertise %}{{ b }}\
        {% endfor %}{% endfor %}{% endfor %}";
    let long = "x".repeat(MAX_SOURCE_BYTES);
    for source in [busy, long.as_str()] {
        let mut budget = Budget::default();
        let mut next = || render(&Template::given("t", source), &variables(), &mut budget);
        let fit = std::iter::from_fn(|| next().ok()).take(100).count();
        assert!((2..30).contains(&fit), "{fit}");
        let error = next().expect_err("the budget is used up");
        assert!(error.message.contains("together"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_source_panics(source in proptest::collection::vec(prop_oneof![
        "\\PC{0,8}",
        proptest::sample::select(vec![
            "{{", "}}", "{%", "%}", "{#", "#}", "{%-", "-%}", "{{ agent_name }}", "{% if ", "{% endif %}", "{% for a in ",
            "{% endfor %}", "{% set x = ", "{% raw %}", "{% endraw %}", "agent_name", " | ", "split", "join", "int", "~",
            "'", "\"", "\\", "(", ")", ",", ".", "not ", "==", " in ", " is ", "defined", "1", "-", "%", "//", "\n", " ",
        ]).prop_map(str::to_owned),
    ], 0..24).prop_map(|parts| parts.concat())) {
        match rendered(&source) {
            Ok(text) => prop_assert!(text.is_empty() || text.ends_with('\n')),
            Err(error) => prop_assert!(!error.message.is_empty() && !error.to_string().contains(TOKEN)),
        }
    }

    #[test]
    fn plain_text_is_unchanged(text in "[a-zA-Z0-9 .,:#*<>&'\"\n-]{0,200}") {
        let output = rendered(&text).unwrap();
        prop_assert_eq!(output.trim_end_matches('\n'), text.trim_end_matches('\n'));
    }
}
