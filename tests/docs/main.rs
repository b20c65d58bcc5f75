//! The documents: their commands do what they show, their manifests are accepted, and their links lead somewhere.
//!
//! The commands run in a shell, with the built `muster` and an operator without a cluster. `tests/cluster/docs.rs` runs the commands that need
//! an API server and kubectl, by the same marks (`page.rs`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside of test functions fail a test by a panic too")]

mod conventions;
mod fixture;
mod links;
mod manifests;
mod marks;
mod page;
mod page_tests;
mod shell;

use crate::fixture::Fixture;
use crate::page::Page;

#[tokio::test(flavor = "multi_thread")]
async fn every_command_block_without_a_mark_does_what_it_shows() {
    let pages = Page::all();
    let pages: Vec<_> = pages.iter().filter(|page| page.blocks().iter().any(marks::is_unmarked)).collect();
    assert!(pages.len() > 3, "{} pages", pages.len());
    let outcomes = futures::future::join_all(pages.iter().map(async |page| {
        let mut fixture = Fixture::new().await;
        fixture.run(page).await.map_err(|error| format!("{}: {error}", page.path))
    }));
    let failures: Vec<_> = outcomes.await.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_something_else_than_shown_fails() {
    let failure = async |block: &str| {
        let text = format!("```console\n{block}```\n");
        let page = Page { path: "page.md".to_owned(), text };
        Fixture::new().await.run(&page).await.unwrap_err()
    };
    let shown = failure("$ muster completion bash\nno such output\n").await;
    assert!(shown.contains("line 1: ") && shown.contains("a line that is not printed: no such output"), "{shown}");
    let status = failure("$ muster render -f missing.yaml\n").await;
    assert!(status.contains("the exit status is not 0") && status.contains("missing.yaml"), "{status}");
    let status = failure("$ muster completion bash\nmuster: an error\n").await;
    assert!(status.contains("the exit status is 0"), "{status}");
}
