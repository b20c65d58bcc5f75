//! Dependencies point one way. This test reads the sources and fails on a forbidden import.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A layer, the other modules of this crate that it may name, and the crates that it must not use.
struct Layer {
    /// Its folder or file below `src`.
    name: &'static str,
    may_name: &'static [&'static str],
    must_not_use: &'static [&'static str],
}

const PURE: &[&str] = &[
    "tokio",
    "kube_runtime",
    "kube::Client",
    "kube::Api",
    "reqwest",
    "getrandom",
    "futures",
    "async",
    "Timestamp::now",
    "Instant::now",
];

/// The model of a gateway may hold an `Instant` from the client's tasks, which tests can pause.
const VALUES: &[&str] = &["kube", "k8s_openapi", "futures", "async", "tokio::sync", "tokio::spawn", "Instant::now"];

const LAYERS: &[Layer] = &[
    Layer { name: "hash", may_name: &[], must_not_use: PURE },
    Layer { name: "backoff", may_name: &[], must_not_use: PURE },
    Layer { name: "address", may_name: &[], must_not_use: &["kube", "k8s_openapi"] },
    Layer { name: "api", may_name: &[], must_not_use: PURE },
    Layer { name: "templates", may_name: &["api"], must_not_use: PURE },
    Layer { name: "openclaw/model", may_name: &["openclaw::limits", "hash"], must_not_use: VALUES },
    Layer { name: "openclaw", may_name: &["address", "backoff", "hash"], must_not_use: &["kube", "k8s_openapi"] },
    Layer { name: "core", may_name: &["api", "templates", "openclaw::model", "hash", "backoff"], must_not_use: PURE },
    Layer { name: "metrics", may_name: &["openclaw"], must_not_use: &["kube", "tokio"] },
    Layer { name: "state", may_name: &["api", "core", "openclaw::model", "backoff"], must_not_use: &["axum"] },
    Layer {
        name: "souls",
        may_name: &["address", "api", "templates", "core", "state", "hash", "backoff"],
        must_not_use: &["axum", "kube::Client", "reqwest"],
    },
    Layer {
        name: "controllers",
        may_name: &["address", "api", "templates", "core", "state", "openclaw", "souls", "metrics", "hash", "backoff"],
        must_not_use: &["axum", "kube::Client"],
    },
    Layer { name: "leadership", may_name: &["api"], must_not_use: &["axum"] },
    Layer {
        name: "http",
        may_name: &["api", "core", "state", "metrics", "hash", "leadership"],
        must_not_use: &["kube::Client"],
    },
    Layer { name: "gateway_connection", may_name: &["core", "openclaw"], must_not_use: &["kube", "axum"] },
    Layer {
        name: "import",
        may_name: &["api", "templates", "core", "gateway_connection", "openclaw", "hash"],
        must_not_use: &["kube::Client", "axum"],
    },
    Layer {
        name: "preview",
        may_name: &["api", "core", "state", "openclaw", "controllers", "gateway_connection", "hash"],
        must_not_use: &["axum", "kube::Client"],
    },
    Layer { name: "standalone", may_name: &["http"], must_not_use: &["minijinja"] },
    Layer { name: "kubeconfig", may_name: &[], must_not_use: &["axum", "tokio"] },
    Layer { name: "export", may_name: &["api", "kubeconfig"], must_not_use: &["axum"] },
    Layer {
        name: "command",
        may_name: &["api", "core", "gateway_connection", "hash", "import", "kubeconfig", "openclaw", "preview"],
        must_not_use: &["axum"],
    },
    Layer {
        name: "app",
        may_name: &[
            "address",
            "api",
            "core",
            "state",
            "openclaw",
            "souls",
            "controllers",
            "http",
            "kubeconfig",
            "leadership",
            "metrics",
            "options",
            "standalone",
        ],
        must_not_use: &[],
    },
    Layer { name: "options", may_name: &["address", "api"], must_not_use: PURE },
    Layer { name: "cli", may_name: &["api", "app", "command", "export", "import", "options"], must_not_use: &[] },
];

/// Modules of `openclaw` that other layers may name without the rest of it.
const PARTS: [&str; 2] = ["openclaw::model", "openclaw::limits"];

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

/// The modules of this crate that `code` names: a name of the root, or one of [`PARTS`].
fn named(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => {
                let items = group.split('}').next().unwrap_or_default();
                names.extend(items.split(',').map(|item| module(item.trim())));
            }
            None => {
                names.insert(module(rest));
            }
        }
    }
    names.remove("");
    names
}

/// The module that a path below the root names.
fn module(path: &str) -> String {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let path: String = path.chars().take_while(|c| word(*c)).collect();
    match PARTS.into_iter().find(|part| path == *part || path.starts_with(&format!("{part}::"))) {
        Some(part) => part.to_owned(),
        None => path.split("::").next().unwrap_or_default().to_owned(),
    }
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The code before the tests beside it.
fn without_tests(code: &str) -> String {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

#[test]
fn a_layer_names_only_the_layers_below_it() {
    let mut forbidden = Vec::new();
    for layer in LAYERS {
        for file in files_of(layer.name) {
            let code = without_comments(&fs::read_to_string(&file).unwrap());
            let own = layer.name.replace('/', "::");
            let within = |name: &str| name == own || name.starts_with(&format!("{own}::"));
            // A layer that may name a folder may name its modules.
            let may = |name: &str| layer.may_name.iter().any(|m| *m == name || name.starts_with(&format!("{m}::")));
            let above = named(&code).into_iter().filter(|name| !within(name) && !may(name));
            forbidden.extend(above.map(|name| format!("{}: names crate::{name}", file.display())));
            let outside_tests = without_tests(&code);
            let used = layer.must_not_use.iter().filter(|path| uses(&outside_tests, path));
            forbidden.extend(used.map(|path| format!("{}: uses {path}", file.display())));
        }
    }
    assert!(forbidden.is_empty(), "forbidden imports:\n{}", forbidden.join("\n"));
}

#[test]
fn every_module_belongs_to_a_layer() {
    let known: BTreeSet<_> = LAYERS.iter().map(|l| l.name.to_owned()).filter(|name| !name.contains('/')).collect();
    let modules: BTreeSet<_> = fs::read_to_string(src().join("lib.rs"))
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned))
        .collect();
    assert_eq!(modules, known);
}

#[test]
fn the_import_reader_recognizes_paths_groups_and_async() {
    let code = "use crate::{api::Agent, core};\nlet x = crate::openclaw::model::ConnectionState::Up;\nasync fn f() { tokio::spawn(g()) }";
    assert_eq!(named(code), ["api", "core", "openclaw::model"].map(str::to_owned).into());
    assert_eq!(named("crate::openclaw::GatewayClient"), ["openclaw".to_owned()].into());
    assert!(uses(code, "tokio") && uses(code, "async") && !uses(code, "kube"));
    assert!(!uses("my_tokio::x(); other::tokio::y()", "tokio"));
}
