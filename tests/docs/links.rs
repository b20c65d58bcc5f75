//! The links of the documents.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::marks::missing_test;
use crate::page::{Page, is_markdown};

/// A link of a document.
#[derive(Debug, PartialEq)]
pub(crate) struct Link {
    line: usize,
    pub(crate) text: String,
    pub(crate) target: String,
}

/// The lines outside of fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_inside ^= is_fence;
        (!is_inside && !is_fence).then_some((index + 1, line))
    })
}

/// The links of a text, `[text](target)`. A text may go on from the line before.
pub(crate) fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut before = String::new();
    for (line, words) in prose(text) {
        let joined = format!("{before}{words}");
        let mut parts = joined.split("](");
        let mut text = parts.next().unwrap_or_default().to_owned();
        let mut ticks = text.matches('`').count();
        for part in parts {
            // Within backticks there is code and no link.
            let is_code = ticks % 2 == 1;
            ticks += part.matches('`').count();
            if is_code {
                part.clone_into(&mut text);
                continue;
            }
            let Some((target, rest)) = part.split_once(')') else { break };
            let text = std::mem::replace(&mut text, rest.to_owned());
            let text = text.rsplit('[').next().unwrap_or_default().to_owned();
            links.push(Link { line, text, target: target.to_owned() });
        }
        // An opened text without its end.
        before = text
            .rsplit_once('[')
            .filter(|(_, open)| !open.contains(']'))
            .map(|(_, open)| format!("[{open} "))
            .unwrap_or_default();
    }
    links
}

/// The anchors of a document: those that GitHub makes of its headings, and `<a id="...">`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let marks = line.split("<a id=\"").skip(1);
        anchors.extend(marks.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()));
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>();
        let anchor = kept.replace(' ', "-");
        let repeated = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(repeated).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

/// Why a link of a document in this folder leads nowhere.
fn broken(root: &Path, page: &Page, link: &Link) -> Option<String> {
    if link.target.starts_with("https://") || link.target.starts_with("http://") {
        return None;
    }
    let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
    let here = Path::new(&page.path);
    let path = if file.is_empty() { here.to_owned() } else { here.parent()?.join(file) };
    let path = path.components().fold(PathBuf::new(), |path, part| match part.as_os_str().to_str() {
        Some("..") => path.parent().map(Path::to_owned).unwrap_or_default(),
        _ => path.join(part),
    });
    let name = path.to_str().unwrap_or_default();
    if !root.join(&path).exists() {
        return Some(format!("there is no {name}"));
    }
    if !anchor.is_empty()
        && is_markdown(name)
        && !anchors(&std::fs::read_to_string(root.join(&path)).ok()?).contains(anchor)
    {
        return Some(format!("{name} has no heading #{anchor}"));
    }
    // A link to a source whose text is a name in backticks is about a test.
    let function = link.text.strip_prefix('`').and_then(|text| text.strip_suffix('`'))?;
    let is_source = [".rs", ".mjs"].iter().any(|end| name.ends_with(end));
    if is_source && !function.contains('/') { missing_test(root, &format!("{name}::{function}")) } else { None }
}

#[test]
fn every_link_and_anchor_of_the_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Page::all();
    let others = ["CHANGELOG.md", "deploy/charts/muster/README.md", "deploy/charts/muster-crds/README.md"];
    pages.extend(others.map(|path| Page::read(root, path)));
    let (mut count, mut faults) = (0, Vec::new());
    for page in &pages {
        for link in links(&page.text) {
            count += 1;
            let fault = broken(root, page, &link);
            faults.extend(fault.map(|fault| format!("{}:{}: {}: {fault}", page.path, link.line, link.target)));
        }
    }
    assert!(count > 200, "{count} links");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_document_is_in_the_index() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let index = links(&Page::read(root, "docs/README.md").text);
    let named: BTreeSet<_> = index.iter().map(|link| format!("docs/{}", link.target)).collect();
    let missing: Vec<_> = Page::all()
        .into_iter()
        .map(|page| page.path)
        .filter(|path| path.starts_with("docs/") && path != "docs/README.md" && !named.contains(path))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = Page { path: "docs/page.md".to_owned(), text: String::new() };
    let fault = |text: &str| {
        let links = links(text);
        assert_eq!(links.len(), 1, "{text}: {links:?}");
        broken(root, &page, &links[0])
    };
    for good in [
        "[a](https://example.com/x)",
        "[a\nb](../README.md#licence)",
        "![picture](images/fleet.png)",
        "[`a_link_that_leads_nowhere_is_found`](../tests/docs/links.rs)",
        "[`tests/docs/links.rs`](../tests/docs/links.rs)",
        "```\n[x](nowhere)\n```\n[folder](../deploy)",
        "`[a-z]([a-z-]*)` in [folder](../deploy)",
    ] {
        assert_eq!(fault(good), None, "{good}");
    }
    for (bad, words) in [
        ("[a](nowhere.md)", "no docs/nowhere.md"),
        ("[a](../README.md#nowhere)", "README.md has no heading #nowhere"),
        ("[`nothing`](../tests/docs/links.rs)", "has no test nothing"),
    ] {
        let fault = fault(bad).unwrap_or_default();
        assert!(fault.contains(words), "{bad}: {fault}");
    }
}

#[test]
fn an_anchor_is_the_heading_in_small_letters_without_marks() {
    let text = "# The `muster` command\n\n```\n# no heading\n```\n## What, and why?\n## Twice\n## Twice\n#no\n<a id=\"mark\"></a>\n";
    let expected = ["mark", "the-muster-command", "twice", "twice-1", "what-and-why"];
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), expected);
}
