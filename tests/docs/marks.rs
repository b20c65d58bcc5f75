//! The marks before command blocks.

use std::path::Path;

use crate::fixture::BEFORE;
use crate::page::{Block, Page};

/// What no machine has that runs the tests without real parts.
const OUTSIDE: [&str; 9] = ["kubectl ", "helm ", "docker ", "sudo ", "curl ", "make ", "cargo ", "npm ", "openclaw "];

/// The folder of the tests on a real API server.
const CLUSTER: &str = "tests/cluster/";
/// The test that reads the blocks as this program does.
const DOCUMENTS: &str = "tests/cluster/docs.rs";

/// The command blocks of all documents, with their pages.
fn command_blocks(pages: &[Page]) -> Vec<(&Page, Block)> {
    let blocks = pages.iter().flat_map(|page| page.blocks().into_iter().map(move |block| (page, block)));
    blocks.filter(|(_, block)| block.is_of_commands()).collect()
}

/// Whether this test program runs the block.
pub(crate) fn is_unmarked(block: &Block) -> bool {
    block.is_of_commands() && block.mark("not run").is_none() && block.run_by().is_none()
}

/// What is wrong with the marks of a block.
fn fault(root: &Path, block: &Block) -> Option<String> {
    match (block.mark("not run"), block.run_by()) {
        (Some(_), Some(_)) => Some("it has two marks".to_owned()),
        (Some(reason), None) if reason.split_whitespace().count() < 3 => {
            Some(format!("a reason of three words or more is missing: {reason}"))
        }
        (Some(reason), None) => missing_file(root, reason),
        (None, Some(test)) if test.starts_with("tests/docs/") => {
            Some(format!("{test} runs the blocks without a mark; remove the mark"))
        }
        (None, Some(test)) => missing_test(root, test).or_else(|| other_commands(root, block, test)),
        (None, None) => {
            let outside =
                OUTSIDE.iter().find(|word| block.commands().iter().any(|command| command.line.contains(**word)));
            outside.map(|word| {
                format!("its command {word}needs a mark: <!-- run by: FILE::FUNCTION --> or <!-- not run: REASON -->")
            })
        }
    }
}

/// Why the test of a mark cannot run the block: its file does not name the subcommand of the first command.
fn other_commands(root: &Path, block: &Block, test: &str) -> Option<String> {
    let commands = block.commands();
    let mut words = commands.first()?.line.split_whitespace();
    let program = words.next().filter(|program| ["muster", "helm"].contains(program))?;
    let (subcommand, file) = (words.next()?, test.split("::").next()?);
    let source = std::fs::read_to_string(root.join(file)).unwrap();
    let is_named = file == DOCUMENTS || source.contains(subcommand);
    (!is_named).then(|| format!("{file} does not name {program} {subcommand}"))
}

/// Why a file or a folder of tests that a reason names is not there.
fn missing_file(root: &Path, reason: &str) -> Option<String> {
    let named = reason.split_whitespace().filter(|word| word.starts_with("tests/"));
    let missing = named.map(|name| name.trim_end_matches([',', ';', '.'])).find(|name| !root.join(name).exists());
    missing.map(|name| format!("there is no {name}"))
}

/// Why there is no test of this name, `FILE::FUNCTION`.
pub(crate) fn missing_test(root: &Path, test: &str) -> Option<String> {
    let Some((file, function)) = test.split_once("::") else { return Some(format!("{test}: write FILE::FUNCTION")) };
    let Ok(source) = std::fs::read_to_string(root.join(file)) else { return Some(format!("there is no file {file}")) };
    // The tests of this program have no attributes: they are in a list.
    let Some(module) = file.strip_prefix(CLUSTER).and_then(|name| name.strip_suffix(".rs")) else {
        return (!has_test(&source, function)).then(|| format!("{file} has no test {function}"));
    };
    let list = std::fs::read_to_string(root.join(CLUSTER).join("main.rs")).unwrap();
    let name = format!("{module}::{function}");
    let is_run = list.lines().any(|line| line.trim().trim_end_matches(',') == name);
    match (source.contains(&format!("fn {function}(")), is_run) {
        (false, _) => Some(format!("{file} has no test {function}")),
        (true, false) => Some(format!("tests/cluster/main.rs does not run {name}")),
        (true, true) => None,
    }
}

/// Whether a source has a test of this name: a function with an attribute, a line of a macro that makes tests, or a sentence in JavaScript.
fn has_test(source: &str, function: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let is_attribute = |line: &&str| line.starts_with("#[test") || line.starts_with("#[tokio::test");
    lines.iter().enumerate().any(|(index, line)| {
        let name = line.trim_start_matches("pub(crate) ").trim_start_matches("async ").strip_prefix("fn ");
        let is_function =
            name.is_some_and(|rest| rest.strip_prefix(function).is_some_and(|rest| rest.starts_with('(')));
        let attributes = lines[..index].iter().rev().take_while(|above| above.starts_with("#["));
        (is_function && attributes.into_iter().any(&is_attribute))
            || line.strip_prefix("test(\"").is_some_and(|rest| rest.starts_with(&format!("{function}\"")))
            // A macro may make several tests, each by a line with its name.
            || (source.contains("macro_rules!") && line.starts_with(&format!("{function}: ")))
    })
}

#[test]
fn every_command_block_is_run_by_a_test_or_says_why_not() {
    let (root, pages) = (Path::new(env!("CARGO_MANIFEST_DIR")), Page::all());
    let blocks = command_blocks(&pages);
    assert!(blocks.len() > 60, "{} blocks", blocks.len());
    for page in &pages {
        let others = page.blocks().into_iter().filter(|block| !block.is_of_commands());
        let hidden =
            others.filter(|block| block.text.lines().any(|line| line.starts_with("$ "))).map(|block| block.line);
        let hidden: Vec<usize> = hidden.collect();
        assert!(hidden.is_empty(), "{}: {hidden:?}: a block with commands has the language console", page.path);
    }
    let fault = |(page, block): &(&Page, Block)| {
        fault(root, block).map(|fault| format!("{}:{}: {fault}", page.path, block.line))
    };
    let faults: Vec<_> = blocks.iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The files that the commands of a block name by `-f` or `-k`.
fn named_files(block: &Block) -> Vec<String> {
    let lines: Vec<_> = block.commands().into_iter().map(|command| command.line).collect();
    let words: Vec<_> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
    let named = words.windows(2).filter(|pair| ["-f", "-k"].contains(&pair[0]));
    named.map(|pair| pair[1].trim_matches('`').to_owned()).filter(|name| name != "-").collect()
}

/// The cluster test prepares no file that a command names: the page shows the file, or the checkout has it.
#[test]
fn every_file_that_the_cluster_test_needs_is_on_the_page_or_in_the_checkout() {
    let (root, pages) = (Path::new(env!("CARGO_MANIFEST_DIR")), Page::all());
    let mut found = 0;
    let mut missing = Vec::new();
    for (page, block) in command_blocks(&pages) {
        if !block.run_by().is_some_and(|test| test.starts_with("tests/cluster/docs.rs::")) {
            continue;
        }
        let shown: Vec<_> = page.blocks().iter().filter_map(|block| block.file().map(str::to_owned)).collect();
        for name in named_files(&block) {
            found += 1;
            if !shown.contains(&name) && !root.join(&name).exists() {
                missing.push(format!("{}:{}: {name}", page.path, block.line));
            }
        }
    }
    assert!(found > 5, "{found} files");
    assert!(missing.is_empty(), "no block before has the mark <!-- file: NAME -->: {missing:?}");
}

#[test]
fn every_preparation_belongs_to_a_command_of_its_page() {
    let pages = Page::all();
    let blocks = command_blocks(&pages);
    for before in BEFORE {
        let is_used = |(page, block): &(&Page, Block)| {
            is_unmarked(block) && block.commands().iter().any(|command| before.is_before(page, command))
        };
        assert!(blocks.iter().any(is_used), "{}: no command begins with {}", before.page, before.command);
    }
}

#[test]
fn a_block_with_a_wrong_mark_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fault_of = |mark: &str, command: &str| {
        let text = format!("{mark}\n```console\n$ {command}\n```\n");
        let page = Page { path: "page.md".to_owned(), text };
        fault(root, &page.blocks()[0])
    };
    let good = "<!-- run by: tests/cluster/deletion.rs::a_deleted_agent_leaves_nothing -->";
    for (mark, command) in
        [("<!-- not run: it needs a registry -->", "docker push"), (good, "kubectl get pods"), ("", "muster tree")]
    {
        assert_eq!(fault_of(mark, command), None, "{mark}");
    }
    for (mark, words) in [
        ("", "needs a mark"),
        ("<!-- not run: why -->", "three words"),
        ("<!-- not run: tests/nothing.rs does the same -->", "no tests/nothing.rs"),
        ("<!-- run by: tests/circles.rs -->", "write FILE::FUNCTION"),
        ("<!-- run by: tests/nothing.rs::x -->", "no file tests/nothing.rs"),
        ("<!-- run by: tests/circles.rs::nothing -->", "no test nothing"),
        ("<!-- run by: tests/command/rig.rs::agent -->", "no test agent"),
        ("<!-- run by: tests/docs/marks.rs::a_block_with_a_wrong_mark_is_found -->", "runs the blocks without a mark"),
        ("<!-- run by: tests/cluster/commands.rs::refusals -->", "does not run commands::refusals"),
        (&format!("{good}\n<!-- not run: it has both marks -->"), "two marks"),
    ] {
        let fault = fault_of(mark, "kubectl get pods").unwrap();
        assert!(fault.contains(words), "{mark}: {fault}");
    }
    let other = "<!-- run by: tests/layers.rs::a_layer_names_only_the_layers_below_it -->";
    let fault = fault_of(other, "muster rotate agent one").unwrap();
    assert_eq!(fault, "tests/layers.rs does not name muster rotate");
}
