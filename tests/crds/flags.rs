//! The page of all flags of `muster run`, `docs/flags.md`, which `MUSTER_WRITE_CRDS=1 cargo test --test crds` writes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::{Arg, Args, Command};
use muster::options::RunOptions;

use crate::reference::one_line;

const INTRO: &str = "# Flags and variables

Generated from the command by `make crds`; `muster run --help` shows the same texts. [operations.md](operations.md) explains how the flags work
together, and [command.md](command.md) has the commands for people.

A flag counts before its variable, and a variable before the default. A wrong value ends the start with an error that names the flag.
";

const OTHERS: &str = "
## Other variables

| Variable | Meaning |
|---|---|
| `KUBECONFIG` | The kubeconfig, unless `--kubeconfig` names another one. |
| `RUST_LOG` | The whole filter of the log, such as `info,muster=debug`. It counts instead of `--log-level`. |
";

fn options() -> Command {
    RunOptions::augment_args(Command::new("run"))
}

/// The flag with its value.
fn flag(argument: &Arg) -> String {
    let names = argument.get_value_names().filter(|_| argument.get_action().takes_values()).unwrap_or_default();
    let words =
        [argument.get_long().unwrap_or_default()].into_iter().chain(names.iter().map(clap::builder::Str::as_str));
    format!("`--{}`", words.collect::<Vec<_>>().join(" "))
}

fn default(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return "off".into();
    }
    let values = argument.get_default_values().iter().filter(|_| !argument.is_hide_default_value_set());
    let values: Vec<_> = values.map(|value| format!("`{}`", value.display())).collect();
    if values.is_empty() { "none, or as the text says".into() } else { values.join(", ") }
}

/// What the flag means, with the words that it takes.
fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    // clap leaves out the last full stop.
    let mut text = one_line(help.trim_end_matches('.')) + ".";
    let words = argument.get_possible_values();
    if argument.get_action().takes_values() && !words.is_empty() {
        let words: Vec<_> = words.iter().map(|word| format!("`{}`", word.get_name())).collect();
        let _ = write!(text, " One of {}.", words.join(", "));
    }
    text
}

fn page() -> String {
    let mut text = format!("{INTRO}\n| Flag | Variable | Default | Meaning |\n|---|---|---|---|\n");
    for argument in options().get_arguments() {
        let variable = argument.get_env().map(|name| format!("`{}`", name.display()));
        let (variable, default) = (variable.unwrap_or_else(|| "none".into()), default(argument));
        let _ = writeln!(text, "| {} | {variable} | {default} | {} |", flag(argument), meaning(argument));
    }
    text + OTHERS
}

#[test]
fn the_page_of_the_flags_matches_the_command() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/flags.md");
    let text = page();
    if std::env::var_os("MUSTER_WRITE_CRDS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "docs/flags.md does not match src/options.rs: run `make crds`");
}

#[test]
fn the_table_of_operations_names_every_flag_and_variable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let table = fs::read_to_string(path).unwrap();
    let missing: BTreeSet<_> = options()
        .get_arguments()
        .flat_map(|argument| {
            let variable = argument.get_env().map(|name| name.display().to_string());
            [argument.get_long().map(|name| format!("`--{name}")), variable.map(|name| format!("| `{name}` |"))]
        })
        .flatten()
        .filter(|name| !table.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/operations.md does not name {missing:?}");
}
