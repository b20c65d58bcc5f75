//! The observed behaviour of the real gateways, as the table of `docs/compatibility.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use muster::openclaw::model::{ConnectionState, RosterShape, WORKSPACE_FILES};
use muster_harness::Failure;

use crate::subject::Subject;

/// With the value `write`, the table is written into the document instead of compared with it.
const WRITE_VARIABLE: &str = "MUSTER_COMPATIBILITY";
const BEGIN: &str = "<!-- printed by the contract tests -->\n";
const END: &str = "<!-- end -->\n";

/// The observed properties of a gateway.
#[derive(Clone, Debug, Default)]
struct Facts {
    announced: String,
    protocol: u32,
    roster: &'static str,
    accepted: BTreeSet<String>,
    file_hashes: bool,
    main_session_delete: bool,
}

/// The results of the finished tests.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    facts: BTreeMap<&'static str, Facts>,
    passed: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

impl Table {
    /// Records the properties of a gateway of this version.
    pub(crate) fn record_facts(&self, version: &'static str, subject: &Subject) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = rows.facts.entry(version).or_default();
        if let ConnectionState::Up(hello) = &*subject.client.connection().borrow() {
            facts.announced.clone_from(&hello.server_version);
            facts.protocol = hello.protocol;
        }
        if let Some(inventory) = subject.client.inventory().borrow().as_ref() {
            let capabilities = &inventory.capabilities;
            facts.roster = match capabilities.roster {
                RosterShape::List => "list",
                RosterShape::Entries => "entries",
            };
            facts.accepted.clone_from(&capabilities.accepted_files);
            facts.file_hashes |= capabilities.file_hashes;
            facts.main_session_delete = capabilities.main_session_delete;
        }
    }

    /// Records that a test has passed on a gateway of this version.
    pub(crate) fn record_pass(&self, version: &'static str, test: &'static str) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.passed.entry(test).or_default().insert(version);
    }

    /// Prints the column of one version.
    pub(crate) fn print(&self, version: &'static str, tests: &[&'static str]) {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        println!("\n{}", rows.table(&[version], tests));
    }

    /// Compares the columns of those `versions` on which every one of `tests` has passed with the document: a partial run says nothing about
    /// the others. The table is written only with all columns.
    ///
    /// # Errors
    /// A column differs from the document, or the document has no place for the table.
    pub(crate) fn compare(&self, versions: &[&'static str], tests: &[&'static str]) -> Result<(), Failure> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_passed = |version: &&str| {
            tests.iter().all(|test| rows.passed.get(test).is_some_and(|passed| passed.contains(*version)))
        };
        let seen: Vec<_> = versions.iter().copied().filter(has_passed).collect();
        if seen.is_empty() {
            return Ok(());
        }
        let table = rows.table(&seen, tests);
        println!("\n{table}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
        let document = std::fs::read_to_string(&path)?;
        let place = || {
            let (head, rest) = document.split_once(BEGIN)?;
            let (old, tail) = rest.split_once(END)?;
            Some((head, old, tail))
        };
        let (head, old, tail) = place().ok_or("docs/compatibility.md has no place for the table")?;
        if std::env::var(WRITE_VARIABLE).is_ok_and(|value| value == "write") {
            if seen != versions {
                return Err(format!(
                    "the table is written after a run with --include-ignored that passes on {versions:?}"
                )
                .into());
            }
            std::fs::write(&path, format!("{head}{BEGIN}{table}{END}{tail}"))?;
            return Ok(());
        }
        let is_same = if seen == versions { old == table } else { columns(old, &seen)? == table };
        if !is_same {
            return Err(format!(
                "docs/compatibility.md does not have the columns above; write it with {WRITE_VARIABLE}=write and --include-ignored"
            )
            .into());
        }
        Ok(())
    }
}

impl Rows {
    fn table(&self, versions: &[&'static str], tests: &[&'static str]) -> String {
        let mut text = String::new();
        let mut row = |name: &str, cell: &dyn Fn(&str) -> String| {
            let cells: Vec<_> = versions.iter().map(|version| cell(version)).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        };
        row("OpenClaw", &str::to_owned);
        row("---", &|_| "---".to_owned());
        let of = |version: &str| self.facts.get(version).cloned().unwrap_or_default();
        row("announced version", &|v| of(v).announced);
        row("protocol", &|v| of(v).protocol.to_string());
        row("roster in the config", &|v| of(v).roster.to_owned());
        row("accepted workspace files, of ten", &|v| of(v).accepted.len().to_string());
        row("files folded into AGENTS.md", &|v| folded(&of(v).accepted));
        row("file hashes, also as a precondition", &|v| yes_no(of(v).file_hashes));
        row("separate deletion of a main session", &|v| yes_no(of(v).main_session_delete));
        for test in tests {
            let passed = self.passed.get(test).cloned().unwrap_or_default();
            row(&test.replace('_', " "), &|version| if passed.contains(version) { "passed" } else { "" }.to_owned());
        }
        text
    }
}

/// The columns of these versions of a table.
fn columns(table: &str, versions: &[&str]) -> Result<String, Failure> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let head = cells(table.lines().next().unwrap_or_default());
    let place = |version: &&str| {
        let missing = || {
            format!(
                "docs/compatibility.md has no column {version}; write it with {WRITE_VARIABLE}=write and --include-ignored"
            )
        };
        head.iter().position(|cell| cell == version).ok_or_else(missing)
    };
    let places = versions.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let mut text = String::new();
    for line in table.lines() {
        let cells = cells(line);
        let chosen = [1].iter().chain(&places).map(|&place| cells.get(place).map_or("", String::as_str));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} |", chosen.collect::<Vec<_>>().join(" | "));
    }
    Ok(text)
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn folded(accepted: &BTreeSet<String>) -> String {
    let others: Vec<_> = WORKSPACE_FILES
        .iter()
        .filter(|name| !accepted.contains(**name))
        .map(|name| name.trim_end_matches(".md"))
        .collect();
    others.join(", ")
}
