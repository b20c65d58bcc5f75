//! The marks before command blocks.

use std::path::Path;

use crate::fixture::BEFORE;
use crate::page::{Block, Page};

/// What no machine has that runs the tests without real parts.
const OUTSIDE: [&str; 9] = ["kubectl ", "helm ", "docker ", "sudo ", "curl ", "make ", "cargo ", "npm ", "openclaw "];

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
        (None, Some(test)) => missing_test(root, test),
        (None, None) => {
            let outside =
                OUTSIDE.iter().find(|word| block.commands().iter().any(|command| command.line.contains(**word)));
            outside.map(|word| {
                format!("its command {word}needs a mark: <!-- run by: FILE::FUNCTION --> or <!-- not run: REASON -->")
            })
        }
    }
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
    // A macro may make several tests, each by a line with its name. The tests of the page are sentences in JavaScript.
    let forms = [format!("fn {function}("), format!("    {function}: "), format!("test(\"{function}\"")];
    if !forms.iter().any(|form| source.contains(form)) {
        return Some(format!("{file} has no test {function}"));
    }
    let module = file.strip_prefix("tests/cluster/")?.strip_suffix(".rs")?;
    let registered = std::fs::read_to_string(root.join("tests/cluster/main.rs")).unwrap();
    let is_run = registered.contains(&format!(" {module}::{function},"));
    (!is_run).then(|| format!("tests/cluster/main.rs does not run {module}::{function}"))
}

#[test]
fn every_command_block_is_run_by_a_test_or_says_why_not() {
    let (root, pages) = (Path::new(env!("CARGO_MANIFEST_DIR")), Page::all());
    let blocks = command_blocks(&pages);
    assert!(blocks.len() > 60, "{} blocks", blocks.len());
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
    let good = "<!-- run by: tests/docs/marks.rs::a_block_with_a_wrong_mark_is_found -->";
    for (mark, command) in
        [("<!-- not run: it needs a registry -->", "docker push"), (good, "kubectl get pods"), ("", "muster tree")]
    {
        assert_eq!(fault_of(mark, command), None, "{mark}");
    }
    for (mark, words) in [
        ("", "needs a mark"),
        ("<!-- not run: why -->", "three words"),
        ("<!-- not run: tests/nothing.rs does the same -->", "no tests/nothing.rs"),
        ("<!-- run by: tests/docs/marks.rs -->", "write FILE::FUNCTION"),
        ("<!-- run by: tests/docs/nothing.rs::x -->", "no file tests/docs/nothing.rs"),
        ("<!-- run by: tests/docs/marks.rs::nothing -->", "no test nothing"),
        ("<!-- run by: tests/cluster/commands.rs::refusals -->", "does not run commands::refusals"),
        (&format!("{good}\n<!-- not run: it has both marks -->"), "two marks"),
    ] {
        let fault = fault_of(mark, "kubectl get pods").unwrap();
        assert!(fault.contains(words), "{mark}: {fault}");
    }
}
