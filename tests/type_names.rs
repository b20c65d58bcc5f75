//! No two types that other files can see have the same name in one crate: a name means one thing. The test reads the sources.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const KINDS: [&str; 5] = ["struct", "enum", "trait", "type", "union"];

/// The name of the visible type that a line declares.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1,
        None => rest,
    };
    let (kind, rest) = rest.trim_start().split_once(' ')?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    KINDS.contains(&kind).then_some(&rest[..end])
}

fn collect(folder: &Path, types: &mut BTreeMap<String, Vec<PathBuf>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, types);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for name in fs::read_to_string(&path).unwrap().lines().filter_map(declared) {
                types.entry(name.to_owned()).or_default().push(path.clone());
            }
        }
    }
}

#[test]
fn no_visible_type_name_stands_twice_in_a_crate() {
    let mut twice = Vec::new();
    for sources in ["src", "simulator/src", "harness/src", "embedded/src"] {
        let mut types = BTreeMap::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(sources), &mut types);
        assert!(types.len() > 10, "{sources} has too few types: {types:?}");
        twice.extend(types.into_iter().filter(|(_, files)| files.len() > 1));
    }
    assert!(twice.is_empty(), "types with the same name: {twice:#?}");
}

#[test]
fn a_declaration_is_recognized_with_its_visibility() {
    assert_eq!(declared("pub struct Agent {"), Some("Agent"));
    assert_eq!(declared("    pub(crate) enum Step<'a> {"), Some("Step"));
    assert_eq!(declared("pub(super) type Rows = Vec<Row>;"), Some("Rows"));
    assert_eq!(declared("pub trait Dial: Send {"), Some("Dial"));
    assert_eq!(declared("struct Private;"), None);
    assert_eq!(declared("    type Rejection = Failure;"), None);
    assert_eq!(declared("pub fn structure(x: u8) {}"), None);
    assert_eq!(declared("pub use crate::api::Agent;"), None);
}
