//! The template engine: Jinja with variables, filters and tests alone.
//!
//! Any user with write access to a `ConfigMap` can write a template. So a template has no loader, no statement that names
//! another template and no functions, and has limits for its source, its nesting, its work and its output. The work includes
//! memory: the engine charges for each byte that a template produces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, filters, tests};

use super::built_in_texts::built_in_sources;
use super::error::{RenderError, beginning, similar_names};
use super::template_lint::Tag;
use super::variables::{AUTH_TOKEN, Variables};
use crate::templates::{filters as text_filters, template_lint};

/// The largest output of a template, in bytes. A gateway shows at most 20,000 characters of a file to its model.
pub const MAX_OUTPUT_BYTES: usize = 256 * 1024;

/// The largest template, in bytes.
const MAX_SOURCE_BYTES: usize = 128 * 1024;
/// The work of one template. A unit pays for an instruction or for 64 bytes, so that the limit is 6.4 MB of data.
const TEMPLATE_FUEL: u64 = 100_000;
/// The work of all templates of an agent.
const AGENT_FUEL: u64 = 2 * TEMPLATE_FUEL;
/// The source of all templates of an agent, in bytes.
const AGENT_SOURCE_BYTES: usize = 8 * MAX_SOURCE_BYTES;
const MAX_RECURSION: usize = 64;
/// The names of all filters, for the error about an unknown filter.
const FILTERS: [&str; 23] = [
    "bool",
    "capitalize",
    "d",
    "default",
    "e",
    "escape",
    "first",
    "int",
    "join",
    "last",
    "length",
    "line",
    "lines",
    "lower",
    "quote",
    "replace",
    "safe",
    "shell",
    "split",
    "string",
    "title",
    "trim",
    "upper",
];

/// A template and its source.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    /// The origin for errors, such as `ConfigMap team/templates key SOUL.md` or `built-in worker/SOUL.md`.
    pub name: &'a str,
    /// The text.
    pub source: &'a str,
    /// The file of a built-in template; `None` for a template of a user.
    pub built_in: Option<&'static str>,
}

impl<'a> Template<'a> {
    /// A template of a user.
    #[must_use]
    pub fn given(name: &'a str, source: &'a str) -> Self {
        Self { name, source, built_in: None }
    }
}

/// The remaining work and source of the templates of one agent. The budget bounds the cost of a reconcile.
#[derive(Debug)]
pub struct Budget {
    fuel: u64,
    source: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { fuel: AGENT_FUEL, source: AGENT_SOURCE_BYTES }
    }
}

/// Renders a template, and charges `budget` for its source and its work.
///
/// # Guarantees
/// - The engine never parses values as templates.
/// - The output is empty or ends in exactly one newline, and has at most [`MAX_OUTPUT_BYTES`].
/// - An error never contains the token.
/// - The time is proportional to the source and to the charged work.
///
/// # Errors
/// The template violates a rule or a limit, or uses a variable that is not in `variables`, also in an unused branch and under
/// `default`.
pub fn render(template: &Template<'_>, variables: &Variables, budget: &mut Budget) -> Result<String, RenderError> {
    let failed =
        |line, message: String| RenderError { template: template.name.to_owned(), line, variable: None, message };
    if template.source.len() > MAX_SOURCE_BYTES {
        let message = format!("the template has more than {} KiB; shorten it", MAX_SOURCE_BYTES / 1024);
        return Err(failed(None, message));
    }
    budget.source = budget.source.checked_sub(template.source.len()).ok_or_else(|| {
        let message = format!(
            "the templates of this agent have more than {} KiB together; shorten them",
            AGENT_SOURCE_BYTES / 1024
        );
        failed(None, message)
    })?;
    if let Some(file) = template.built_in {
        return render_built_in(file, template, variables, budget);
    }
    let tags = template_lint::tags(template.source).and_then(|tags| template_lint::check(&tags).map(|()| tags));
    let tags = tags.map_err(|refused| failed(Some(refused.line), refused.message))?;

    let environment = environment(budget.fuel.min(TEMPLATE_FUEL));
    let compiled = environment
        .template_from_str(template.source)
        .map_err(|error| failed(error.line(), explain(&error, template.source, true)))?;
    let used = compiled.undeclared_variables(false);
    if let Some(error) = unknown_variable(template, &tags, variables, &used) {
        return Err(error);
    }

    run(&compiled, template, variables, !used.contains(AUTH_TOKEN), budget)
}

/// The built-in templates, by file. They are compiled once; a test renders each for each role.
static BUILT_IN: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment(TEMPLATE_FUEL);
    for (file, source) in built_in_sources() {
        // A built-in template that cannot be compiled is compiled again, and reported, at each use.
        let _ = environment.add_template(file, source);
    }
    environment
});

fn render_built_in(
    file: &str,
    template: &Template<'_>,
    variables: &Variables,
    budget: &mut Budget,
) -> Result<String, RenderError> {
    let compiled = BUILT_IN.get_template(file);
    let compiled = compiled.map_err(|error| RenderError {
        template: template.name.to_owned(),
        line: error.line(),
        variable: None,
        message: explain(&error, template.source, false),
    })?;
    run(&compiled, template, variables, false, budget)
}

/// Renders a compiled template, and charges `budget` for its work.
fn run(
    compiled: &minijinja::Template<'_, '_>,
    template: &Template<'_>,
    variables: &Variables,
    may_show_values: bool,
    budget: &mut Budget,
) -> Result<String, RenderError> {
    let failed =
        |line, message: String| RenderError { template: template.name.to_owned(), line, variable: None, message };
    let context: BTreeMap<&str, Value> = variables.exposed().map(|(name, value)| (name, Value::from(value))).collect();
    let rendered = compiled
        .render_captured(Value::from(context))
        .map_err(|error| failed(error.line(), explain(&error, template.source, may_show_values)))?;
    let used_up = rendered.state().fuel_levels().map_or(0, |(consumed, _)| consumed);
    budget.fuel = budget.fuel.saturating_sub(used_up);
    let text = rendered.into_output();
    if text.len() > MAX_OUTPUT_BYTES {
        let message = format!("the result has more than {} KiB; shorten the template", MAX_OUTPUT_BYTES / 1024);
        return Err(failed(None, message));
    }
    Ok(with_one_newline(text))
}

fn environment(fuel: u64) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_fuel(Some(fuel));
    environment.set_debug(true);
    add_filters(&mut environment);
    add_tests(&mut environment);
    environment
}

/// Adds the filters of texts, and of the lists of texts that `for` iterates over.
fn add_filters(environment: &mut Environment<'static>) {
    environment.add_filter("line", |value: String| text_filters::line(&value));
    environment.add_filter("quote", |value: String| text_filters::quote(&value));
    environment.add_filter("shell", |value: String| text_filters::shell(&value));
    environment.add_filter("bool", filters::bool);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("d", filters::default);
    environment.add_filter("default", filters::default);
    environment.add_filter("e", filters::escape);
    environment.add_filter("escape", filters::escape);
    environment.add_filter("first", filters::first);
    environment.add_filter("int", filters::int);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lines", filters::lines);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("safe", filters::safe);
    environment.add_filter("split", filters::split);
    environment.add_filter("string", filters::string);
    environment.add_filter("title", filters::title);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
}

fn add_tests(environment: &mut Environment<'static>) {
    environment.add_test("defined", tests::is_defined);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("eq", tests::is_eq);
    environment.add_test("in", tests::is_in);
    environment.add_test("ne", tests::is_ne);
    environment.add_test("none", tests::is_none);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("undefined", tests::is_undefined);
}

/// The first unknown variable of the template, if it has one.
fn unknown_variable<'a>(
    template: &Template<'_>,
    tags: &[Tag],
    variables: &Variables,
    used: impl IntoIterator<Item = &'a String>,
) -> Option<RenderError> {
    let known: BTreeSet<&str> = variables.names().collect();
    let unknown: BTreeSet<&str> = used.into_iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
    let (line, variable) = match template_lint::first_use(tags, &unknown) {
        Some((line, name)) => (Some(line), name),
        None => (None, *unknown.first()?),
    };
    let near = similar_names(variable, variables.names());
    let advice = if near.is_empty() {
        "remove it, or give it a value with `set`; names begin with agent_, board_, identity_ or user_".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    Some(RenderError {
        template: template.name.to_owned(),
        line,
        variable: Some(variable.to_owned()),
        message: format!("unknown variable {}: {advice}", beginning(variable)),
    })
}

/// The engine's error for a person. The details may contain values, and are left out when a value may be the token.
fn explain(error: &Error, source: &str, may_show_values: bool) -> String {
    let code = error.range().and_then(|range| source.get(range)).map(str::trim).filter(|code| !code.is_empty());
    let location = code.map(|code| format!(" in `{}`", text_filters::line(&beginning(code)))).unwrap_or_default();
    let detail =
        error.detail().filter(|_| may_show_values).map(|detail| format!(": {}", beginning(detail))).unwrap_or_default();
    match error.kind() {
        ErrorKind::OutOfFuel => {
            "the template does too much work, or the agent's templates do together; make their loops shorter".to_owned()
        }
        ErrorKind::UnknownFilter => format!("unknown filter{location}; the filters are {}", FILTERS.join(", ")),
        ErrorKind::SyntaxError => format!("syntax error{location}{detail}"),
        kind => format!("{kind}{location}{detail}"),
    }
}

fn with_one_newline(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod engine_tests;
