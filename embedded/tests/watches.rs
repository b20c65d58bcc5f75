//! Watches that lag, lose their place, and come back, as kube's watcher sees them.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic, outside of #[test] functions too")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use muster_embedded::{EmbeddedApi, Resources};
use serde_json::json;

fn api() -> EmbeddedApi {
    EmbeddedApi::in_memory(Resources::new(&[]).unwrap(), Arc::new(Timestamp::now)).unwrap()
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_watch_behind_the_history_is_told_that_it_is_too_old() {
    let api = api();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "default");
    let first = maps.create(&PostParams::default(), &map("one")).await.unwrap();
    maps.create(&PostParams::default(), &map("two")).await.unwrap();
    api.compact();
    let version = first.metadata.resource_version.unwrap();
    let events: Vec<_> = maps.watch(&WatchParams::default(), &version).await.unwrap().try_collect().await.unwrap();
    assert!(matches!(&events[..], [WatchEvent::Error(status)] if status.code == 410), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_the_present_goes_on_after_the_history_is_forgotten() {
    let api = api();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "default");
    let first = maps.create(&PostParams::default(), &map("one")).await.unwrap();
    let version = first.metadata.resource_version.unwrap();
    let mut events = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    api.compact();
    maps.create(&PostParams::default(), &map("two")).await.unwrap();
    let event = events.try_next().await.unwrap();
    assert!(matches!(&event, Some(WatchEvent::Added(map)) if map.metadata.name.as_deref() == Some("two")), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_has_bookmarks_and_ends_in_time() {
    let api = api();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "default");
    let start = tokio::time::Instant::now();
    let params = WatchParams::default().timeout(150);
    let events: Vec<_> = maps.watch(&params, "2").await.unwrap().try_collect().await.unwrap();
    assert!(matches!(&events[..], [WatchEvent::Bookmark(_), WatchEvent::Bookmark(_)]), "{events:?}");
    assert_eq!(start.elapsed(), Duration::from_secs(150));
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_owners_are_gone_from_the_start_is_collected() {
    let api = api();
    let secrets: Api<Secret> = Api::namespaced(api.client(), "default");
    let orphan = json!({ "metadata": { "name": "token", "ownerReferences": [
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "one", "uid": "00000000-0000-4000-8000-000000000000" } ] } });
    secrets.create(&PostParams::default(), &serde_json::from_value(orphan).unwrap()).await.unwrap();
    assert!(secrets.get_opt("token").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn kubes_watcher_sees_every_object_through_a_loss_of_its_place() {
    let api = api();
    let maps: Api<ConfigMap> = Api::all(api.client());
    let mut events = kube::runtime::watcher(maps.clone(), kube::runtime::watcher::Config::default()).boxed();
    let here: Api<ConfigMap> = Api::namespaced(api.client(), "default");
    let mut seen = BTreeSet::new();
    for n in 0..40 {
        here.create(&PostParams::default(), &map(&format!("m{n}"))).await.unwrap();
        if n % 7 == 3 {
            here.delete(&format!("m{}", n - 1), &DeleteParams::default()).await.unwrap();
        }
        if n % 10 == 9 {
            api.compact();
        }
    }
    let expected: BTreeSet<String> =
        here.list(&ListParams::default()).await.unwrap().into_iter().filter_map(|m| m.metadata.name).collect();
    while seen != expected {
        match events.next().await.unwrap() {
            Ok(kube::runtime::watcher::Event::Apply(map) | kube::runtime::watcher::Event::InitApply(map)) => {
                seen.insert(map.metadata.name.unwrap());
            }
            Ok(kube::runtime::watcher::Event::Delete(map)) => drop(seen.remove(&map.metadata.name.unwrap())),
            Ok(kube::runtime::watcher::Event::Init) => seen.clear(),
            Ok(kube::runtime::watcher::Event::InitDone) | Err(_) => {}
        }
    }
}
