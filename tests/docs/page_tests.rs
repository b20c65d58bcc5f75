//! The commands and the marks of a page, and the comparison of outputs.

use crate::page::{Block, Command, Page};

fn page(text: &str) -> Page {
    Page { path: "page.md".to_owned(), text: text.to_owned() }
}

#[test]
fn a_mark_belongs_to_the_block_after_it_and_to_no_other() {
    let text = "<!-- not run: a reason -->\n```console\n$ one\n```\n\n   <!-- run by: f.rs::g -->\n   ```sh\n   two\n   ```\n\n<!-- file: a.yaml -->\ntext\n```yaml\na: 1\n```\n";
    let blocks = page(text).blocks();
    assert_eq!(blocks.iter().map(|block| block.line).collect::<Vec<_>>(), [2, 7, 13]);
    assert_eq!((blocks[0].mark("not run"), blocks[0].run_by()), (Some("a reason"), None));
    assert_eq!((blocks[1].run_by(), blocks[1].text.as_str()), (Some("f.rs::g"), "two\n"));
    assert_eq!(blocks[2].file(), None, "a text is between the mark and the block");
}

#[test]
fn a_command_has_its_further_lines_and_its_shown_output() {
    let text = "```console\n$ one \\\n    more\nshown\n$ two |\n  three\n```\n```sh\nfour\nfive\n```\n";
    let commands: Vec<_> = page(text).blocks().iter().flat_map(Block::commands).collect();
    let expected = [("one \\\n    more", "shown\n"), ("two |\n  three", ""), ("four", ""), ("five", "")];
    let seen: Vec<_> = commands.iter().map(|c| (c.line.as_str(), c.shown.as_str())).collect();
    assert_eq!(seen, expected);
}

#[test]
fn shown_output_that_is_not_printed_is_found() {
    let command = |shown: &str| Command { line: String::new(), shown: shown.to_owned() };
    let printed = "NAME   READY  AGE\none    True   5m3s\ntwo    False  2h\nid 3f0c77 at 2026-03-01T09:00:00Z\n";
    for shown in
        ["NAME READY AGE\none True 12s\n", "two  False  1d\n", "NAME\n...\nid 3f0c...\n", "one ...\n", "AGE\none\n", ""]
    {
        assert_eq!(command(shown).missing_line(printed), None, "{shown}");
    }
    for (shown, line) in [
        ("one False 12s\n", "one False 12s"),
        ("two False 1d\none True 1d\n", "one True 1d"),
        ("one True Reconciled\n", "one True Reconciled"),
        ("id 3f1c...\n", "id 3f1c..."),
        ("one 5m3s\n", "one 5m3s"),
    ] {
        assert_eq!(command(shown).missing_line(printed), Some(line), "{shown}");
    }
}

#[test]
fn a_shown_error_says_that_the_command_fails() {
    for (shown, fails) in
        [("muster: 1 check failed\n", true), ("Error from server (Forbidden): x\n", true), ("ok\n", false)]
    {
        assert_eq!(Command { line: String::new(), shown: shown.to_owned() }.fails(), fails, "{shown}");
    }
}
