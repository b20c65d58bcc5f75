//! The manifests of the documents are accepted.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fixture::Fixture;
use crate::page::Page;

const GROUP: &str = "apiVersion: muster.dev/";

/// The manifests of Muster's kinds in the blocks of the pages, each with its place.
fn manifests(pages: &[Page]) -> Vec<(String, String)> {
    let blocks = pages.iter().flat_map(|page| page.blocks().into_iter().map(|block| (page.path.clone(), block)));
    let parts = blocks.flat_map(|(path, block)| {
        let place = format!("{path}:{}", block.line);
        let documents = block.text.split("---\n").map(str::to_owned).collect::<Vec<_>>();
        documents.into_iter().map(move |document| (place.clone(), document))
    });
    parts.filter(|(_, document)| document.lines().any(|line| line.starts_with(GROUP))).collect()
}

fn namespace(manifest: &str) -> Option<String> {
    let manifest: Value = serde_saphyr::from_str(manifest).ok()?;
    manifest["metadata"]["namespace"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manifest_of_the_documents_is_accepted() {
    let manifests = manifests(&Page::all());
    assert!(manifests.len() > 10, "{} manifests", manifests.len());
    let namespaces: BTreeSet<_> = manifests.iter().filter_map(|(_, manifest)| namespace(manifest)).collect();
    let mut fixture = Fixture::new().await;
    fixture.connect().await.unwrap();
    for name in namespaces {
        let manifest = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n");
        fixture.apply(&manifest, "").await.unwrap();
    }
    let mut faults = Vec::new();
    for (place, manifest) in manifests {
        let outcome = fixture.apply(&manifest, "--dry-run").await;
        faults.extend(outcome.err().map(|error| format!("{place}: {error}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_a_wrong_field_is_refused() {
    let text = "```yaml\napiVersion: muster.dev/v1alpha1\nkind: Board\nmetadata:\n  name: ops\nspec:\n  gatewayref: {name: gw}\n```\n";
    let page = Page { path: "page.md".to_owned(), text: text.to_owned() };
    let (_, manifest) = manifests(&[page]).remove(0);
    let mut fixture = Fixture::new().await;
    fixture.connect().await.unwrap();
    let refused = fixture.apply(&manifest, "--dry-run").await.unwrap_err();
    assert!(refused.contains("gatewayref"), "{refused}");
}
