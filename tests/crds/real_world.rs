//! The tests that `docs/real-world.md` names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_page_about_real_gateways_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/real-world.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Behaviour"));
    let named: BTreeSet<String> = rows.flat_map(tests_of_a_row).collect();
    assert!(named.len() > 10, "{named:?}");
    let mut sources = String::new();
    for folder in ["src", "tests", "simulator/src", "simulator/tests"] {
        collect(&root.join(folder), &mut sources).unwrap();
    }
    // A macro may make several tests, each by a line with its name.
    let forms = |name: &str| [format!("fn {name}("), format!("\"{name}\""), format!("    {name}: ")];
    let is_missing = |name: &&String| !forms(name).iter().any(|form| sources.contains(form.as_str()));
    let missing: Vec<_> = named.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "docs/real-world.md names tests that do not exist: {missing:?}");
}

/// The names in the last cell of a row, without the suite.
fn tests_of_a_row(row: &str) -> Vec<String> {
    let cell = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    let names: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
    assert!(!names.is_empty(), "a row names no test: {row}");
    names.into_iter().map(|name| name.rsplit(": ").next().unwrap_or(name).to_owned()).collect()
}

fn collect(folder: &Path, sources: &mut String) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}
