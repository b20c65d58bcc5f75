//! No imports between the files of the operator, of the simulator, or of the embedded API, form a cycle. The test reads the imports.
//!
//! A path counts for the file in which its item is defined: a re-exported item belongs to the file that defines it. Tests beside
//! the code do not count.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Module = Vec<String>;

/// The imports of one file.
#[derive(Default)]
struct Imports {
    paths: Vec<Vec<String>>,
    re_exports: Vec<Vec<String>>,
}

/// All files of a crate by module.
struct Crate(BTreeMap<Module, Imports>);

impl Crate {
    fn read(src: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(src, &mut Vec::new(), &mut files);
        Self(files)
    }

    /// The path from the root of the crate; `None` for a path to another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => {
                let ups = path.iter().take_while(|word| *word == "super").count();
                Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat())
            }
            first => {
                let below = [module, &[first.to_owned()]].concat();
                self.0.contains_key(&below).then(|| [module, path].concat())
            }
        }
    }

    /// The file that defines the item of a path.
    fn file_of(&self, path: &[String], depth: usize) -> Module {
        let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length])).unwrap_or_default();
        let (module, rest) = path.split_at(length);
        let Some(item) = rest.first().filter(|_| depth < 8) else { return module.to_vec() };
        let found = self.0[module].re_exports.iter().find(|path| path.last() == Some(item));
        match found.and_then(|path| self.absolute(module, path)) {
            Some(path) => self.file_of(&path, depth + 1),
            None => module.to_vec(),
        }
    }

    fn imports(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let of = |(module, imports): (&Module, &Imports)| {
            let targets = imports.paths.iter().filter_map(|path| Some(self.file_of(&self.absolute(module, path)?, 0)));
            (module.clone(), targets.filter(|target| target != module).collect())
        };
        self.0.iter().map(of).collect()
    }
}

fn collect(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, Imports>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            module.push(name);
            collect(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|ending| ending == "rs") && !name.ends_with("_tests") && name != "main" {
            let is_folder = name == "mod" || name == "lib";
            let own = if is_folder { module.clone() } else { [module.as_slice(), &[name]].concat() };
            files.insert(own, imports(&fs::read_to_string(&path).unwrap(), is_folder));
        }
    }
}

/// The imports of a source. A re-export in a folder's own file is no import of that file.
fn imports(source: &str, is_folder: bool) -> Imports {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join(" ");
    let mut found = Imports::default();
    for statement in code.split(';') {
        let Some((before, tree)) = statement.rsplit_once("use ").filter(|(before, _)| !before.ends_with(is_word))
        else {
            continue;
        };
        if before.trim_end().ends_with("#[cfg(test)]") {
            continue;
        }
        let mut paths = Vec::new();
        flatten(tree.trim(), &mut Vec::new(), &mut paths);
        let is_public = before.trim_end().ends_with("pub") || before.trim_end().ends_with(')');
        if is_public {
            found.re_exports.extend(paths.iter().cloned());
        }
        if !(is_public && is_folder) {
            found.paths.extend(paths);
        }
    }
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root).filter(|(at, _)| !code[..*at].ends_with(is_word)) {
            let path = code[at..].split(|c: char| !is_word(c) && c != ':').next().unwrap_or_default();
            found.paths.push(path.split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths of an import tree.
fn flatten(tree: &str, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let (start, group) = tree.split_once('{').map_or((tree, None), |(start, rest)| (start, rest.rsplit_once('}')));
    let plain = start.split(" as ").next().unwrap_or_default();
    let words: Vec<_> = plain.split("::").map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect();
    let length = prefix.len();
    prefix.extend(words);
    match group {
        None => paths.push(prefix.clone()),
        Some((items, _)) => {
            let (mut depth, mut from) = (0_i32, 0);
            for (at, c) in items.char_indices().chain([(items.len(), ',')]) {
                depth += i32::from(c == '{') - i32::from(c == '}');
                if c == ',' && depth == 0 {
                    let item = items.get(from..at).unwrap_or_default().trim();
                    if !item.is_empty() {
                        flatten(item, prefix, paths);
                    }
                    from = at + 1;
                }
            }
        }
    }
    prefix.truncate(length);
}

/// The imports that are part of a cycle.
fn circles(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let reaches = |start: &Module| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<_> = imports[start].iter().collect();
        while let Some(module) = next.pop() {
            if seen.insert(module) {
                next.extend(imports.get(module).into_iter().flatten());
            }
        }
        seen
    };
    let from_each: BTreeMap<_, _> = imports.keys().map(|module| (module, reaches(module))).collect();
    let in_circle = |from: &Module, to: &Module| {
        from_each[from].contains(to) && from_each.get(to).is_some_and(|r| r.contains(from))
    };
    let arrows = imports.iter().flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)));
    let tied = arrows.filter(|(from, to)| in_circle(from, to));
    tied.map(|(from, to)| format!("{} imports {}", from.join("::"), to.join("::"))).collect()
}

#[test]
fn no_imports_form_a_cycle() {
    for (src, least) in [("src", 100), ("simulator/src", 30), ("embedded/src", 20)] {
        let read = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(src));
        assert!(read.0.len() > least, "{src}: {}", read.0.len());
        let circles = circles(&read.imports());
        assert!(circles.is_empty(), "{src}: these imports form cycles:\n{}", circles.join("\n"));
    }
}

#[test]
fn cycles_are_found_through_groups_re_exports_and_code_paths() {
    let file = |source: &str, is_folder| imports(source, is_folder);
    let name = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    let files = [
        ("a", file("mod b;\nmod c;\npub use b::{Item, Other};", true)),
        ("a::b", file("use super::{c::{self, X}, d};\nuse std::fmt;", false)),
        ("a::c", file("fn f() -> crate::a::Item { todo() } // crate::a::d\n", false)),
        ("a::d", file("use crate::a::c;\n#[cfg(test)]\nmod tests {\n    use super::super::b;\n}", false)),
    ];
    let read = Crate(files.into_iter().map(|(module, imports)| (name(module), imports)).collect());
    let mut found = circles(&read.imports());
    found.sort();
    assert_eq!(found, ["a::b imports a::c", "a::b imports a::d", "a::c imports a::b", "a::d imports a::c"]);
}
