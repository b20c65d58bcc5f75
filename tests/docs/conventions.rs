//! The list of conventions, `docs/conventions.md`. `links.rs` looks at the tests that its links name.

use std::path::Path;

use crate::links::links;
use crate::page::Page;

/// How a row begins that has no test.
const REASONS: [&str; 2] = ["Not done: ", "No test: "];

/// The cells of the rows with a number.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let cells = text.lines().map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    cells.filter(|cells| cells[0].parse::<usize>().is_ok()).collect()
}

/// What is wrong with a row.
fn fault(row: &[&str], number: usize) -> Option<String> {
    let [shown, convention, _, test] = row else { return Some(format!("row {number}: {} cells", row.len())) };
    let has_tests =
        |test| links(test).iter().any(|link| Path::new(&link.target).extension().is_some_and(|end| end == "rs"));
    if shown.parse() != Ok(number) {
        return Some(format!("row {number} has the number {shown}"));
    }
    let is_explained = REASONS.iter().any(|reason| test.starts_with(reason)) || has_tests(test);
    (!is_explained).then(|| format!("row {number}, {convention}: name a test, or begin with {REASONS:?}"))
}

#[test]
fn every_convention_has_a_test_or_a_reason() {
    let page = Page::read(Path::new(env!("CARGO_MANIFEST_DIR")), "docs/conventions.md");
    let rows = rows(&page.text);
    assert!(rows.len() >= 80, "{} rows", rows.len());
    let faults: Vec<_> = rows.iter().zip(1..).filter_map(|(row, number)| fault(row, number)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_row_without_a_test_and_without_a_reason_is_found() {
    let text = "| | Convention | Muster | Test |\n| 1 | a | b | [`c`](../tests/c.rs) |\n| 3 | a | b | Not done: why |\n| 3 | a | b | maybe |\n";
    let found: Vec<_> = rows(text).iter().zip(1..).filter_map(|(row, number)| fault(row, number)).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("row 2 has the number 3") && found[1].contains("row 3, a: name a test"), "{found:?}");
}
