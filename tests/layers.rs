//! Dependencies point one way. This test reads the sources and fails on a forbidden import.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A layer, the modules of this crate that it may name beside itself, and the crates that it must not.
struct Layer {
    name: &'static str,
    may_name: &'static [&'static str],
    must_not_use: &'static [&'static str],
}

const PURE: &[&str] =
    &["tokio", "kube_runtime", "kube::Client", "kube::Api", "reqwest", "getrandom", "futures", "async"];

const LAYERS: &[Layer] = &[
    Layer { name: "api", may_name: &[], must_not_use: PURE },
    Layer { name: "plan", may_name: &["api"], must_not_use: PURE },
    Layer { name: "render", may_name: &["api"], must_not_use: PURE },
    Layer { name: "gateway", may_name: &[], must_not_use: &["kube", "k8s_openapi"] },
    Layer { name: "directory", may_name: &[], must_not_use: &["kube", "k8s_openapi", "reqwest"] },
    Layer {
        name: "reconcile",
        may_name: &["api", "plan", "render", "gateway", "directory"],
        must_not_use: &["axum", "kube::Client"],
    },
    Layer { name: "metrics", may_name: &["gateway"], must_not_use: &["kube", "tokio"] },
    Layer { name: "cluster", may_name: &["api", "plan", "reconcile", "metrics"], must_not_use: &["axum"] },
    Layer { name: "server", may_name: &["api", "reconcile", "render", "metrics"], must_not_use: &["kube::Client"] },
    Layer {
        name: "run",
        may_name: &["api", "reconcile", "gateway", "directory", "cluster", "server", "metrics"],
        must_not_use: &[],
    },
    Layer {
        name: "import",
        may_name: &["api", "plan", "render", "gateway", "reconcile"],
        must_not_use: &["kube::Client", "axum"],
    },
    Layer { name: "cli", may_name: &["api", "run", "import"], must_not_use: &[] },
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        found.extend(sources(&entry.unwrap().path()));
    }
    found
}

fn files_of(layer: &str) -> Vec<PathBuf> {
    let folder = src().join(layer);
    if folder.is_dir() { sources(&folder) } else { sources(&src().join(format!("{layer}.rs"))) }
}

/// Whether `code` uses `path` as a whole path, and not as a part of a longer word.
fn uses(code: &str, path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + path.len()..];
        let ends = if path == "async" { after.starts_with(' ') } else { after.starts_with("::") };
        !before.is_some_and(|c| word(c) || c == ':' || c == '"') && (ends || path.contains("::"))
    })
}

/// The modules of this crate that `code` names.
fn named(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            for item in group.split('}').next().unwrap_or_default().split(',') {
                names.insert(item.trim().split("::").next().unwrap_or_default().to_owned());
            }
        } else {
            names.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names.remove("");
    names
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_layer_names_only_the_layers_below_it() {
    let mut forbidden = Vec::new();
    for layer in LAYERS {
        for file in files_of(layer.name) {
            let code = without_comments(&fs::read_to_string(&file).unwrap());
            let above = named(&code).into_iter().filter(|n| n != layer.name && !layer.may_name.contains(&n.as_str()));
            forbidden.extend(above.map(|name| format!("{}: names crate::{name}", file.display())));
            let used = layer.must_not_use.iter().filter(|path| uses(&code, path));
            forbidden.extend(used.map(|path| format!("{}: uses {path}", file.display())));
        }
    }
    assert!(forbidden.is_empty(), "forbidden imports:\n{}", forbidden.join("\n"));
}

#[test]
fn every_module_belongs_to_a_layer() {
    let known: BTreeSet<_> = LAYERS.iter().map(|l| l.name.to_owned()).collect();
    let modules: BTreeSet<_> = fs::read_to_string(src().join("lib.rs"))
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned))
        .collect();
    assert_eq!(modules, known);
}

#[test]
fn the_reader_of_imports_sees_paths_groups_and_async() {
    let code = "use crate::{api::Agent, plan};\nlet x = crate::gateway::Link::Up;\nasync fn f() { tokio::spawn(g()) }";
    assert_eq!(named(code), ["api", "gateway", "plan"].map(str::to_owned).into());
    assert!(uses(code, "tokio") && uses(code, "async") && !uses(code, "kube"));
    assert!(!uses("my_tokio::x(); other::tokio::y()", "tokio"));
}
