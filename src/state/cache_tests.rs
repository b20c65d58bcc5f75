use serde_json::json;

use super::*;
use crate::api::Board;
use crate::core::objects::BoardIndex;

fn board(name: &str, version: &str, gateway: &str) -> Guarded<Board> {
    let mut board = Board::new(name, serde_json::from_value(json!({ "gatewayRef": { "name": gateway } })).unwrap());
    board.metadata.namespace = Some("fleet".into());
    board.metadata.uid = Some(format!("uid-{name}"));
    board.metadata.resource_version = Some(version.into());
    Guarded(Ok(board))
}

fn unreadable(name: &str) -> Guarded<Board> {
    let metadata = board(name, "1", "gw").meta().clone();
    Guarded(Err(Unreadable { metadata, error: "unknown".into() }))
}

fn describe(change: &CacheChange<Board>) -> String {
    let name = |meta: &ObjectMeta| meta.name.clone().unwrap();
    match change {
        CacheChange::Applied { before: None, now } => format!("new {}", name(&now.metadata)),
        CacheChange::Applied { now, .. } => format!("changed {}", name(&now.metadata)),
        CacheChange::Deleted(board) => format!("deleted {}", name(&board.metadata)),
        CacheChange::Unreadable(unreadable) => format!("unreadable {}", name(&unreadable.metadata)),
        CacheChange::UnreadableDeleted { metadata, .. } => format!("deleted unreadable {}", name(metadata)),
    }
}

fn apply(writer: &mut CacheWriter<Board>, event: Event<Guarded<Board>>) -> Vec<String> {
    writer.apply(event).iter().map(describe).collect()
}

fn list(writer: &mut CacheWriter<Board>, boards: impl IntoIterator<Item = Guarded<Board>>) -> Vec<String> {
    assert!(apply(writer, Event::Init).is_empty());
    for board in boards {
        assert!(apply(writer, Event::InitApply(board)).is_empty());
    }
    apply(writer, Event::InitDone)
}

fn on_gateway(cache: &Cache<Board>, gateway: &str) -> Vec<String> {
    let boards = cache.by(&BoardIndex::Gateway(ObjectKey::new("fleet", gateway)));
    boards.iter().map(|board| board.metadata.name.clone().unwrap()).collect()
}

#[test]
fn a_complete_list_shows_deletions_first_and_no_object_that_is_unchanged() {
    let (cache, mut writer) = cache_of_all();
    let first = [board("a", "1", "gw"), board("b", "1", "gw"), unreadable("odd")];
    assert_eq!(list(&mut writer, first), ["new a", "new b", "unreadable odd"]);
    assert_eq!(apply(&mut writer, Event::Apply(board("c", "2", "gw"))), ["new c"]);
    let second = [board("b", "1", "gw"), board("c", "3", "gw"), board("d", "3", "gw")];
    assert_eq!(list(&mut writer, second), ["deleted a", "deleted unreadable odd", "changed c", "new d"]);
    assert_eq!(on_gateway(&cache, "gw"), ["b", "c", "d"]);
}

#[test]
fn a_changed_or_deleted_object_is_found_under_its_new_keys_alone() {
    let (cache, mut writer) = cache_of_all();
    apply(&mut writer, Event::Apply(board("a", "1", "one")));
    apply(&mut writer, Event::Apply(board("b", "1", "one")));
    assert_eq!(apply(&mut writer, Event::Apply(board("a", "2", "two"))), ["changed a"]);
    assert_eq!((on_gateway(&cache, "one"), on_gateway(&cache, "two")), (vec!["b".into()], vec!["a".into()]));
    assert_eq!(apply(&mut writer, Event::Delete(board("b", "3", "one"))), ["deleted b"]);
    assert!(on_gateway(&cache, "one").is_empty() && cache.get(&ObjectKey::new("fleet", "b")).is_none());
    apply(&mut writer, Event::Delete(board("a", "4", "two")));
    let tables = cache.tables();
    assert!(tables.index.is_empty() && tables.namespaces.is_empty(), "nothing of a deleted object stays");
}

#[test]
fn a_written_object_is_found_under_its_new_keys_and_the_watch_still_reports_the_change() {
    let (cache, mut writer) = cache_of_all();
    apply(&mut writer, Event::Apply(board("a", "1", "one")));
    cache.written(&Arc::new(board("a", "2", "two").0.unwrap()));
    assert_eq!((on_gateway(&cache, "one"), on_gateway(&cache, "two")), (vec![], vec!["a".to_owned()]));
    let changes = writer.apply(Event::Apply(board("a", "2", "two")));
    let [CacheChange::Applied { before: Some(before), now }] = &changes[..] else { panic!("{changes:?}") };
    let gateway = |board: &Board| board.spec.gateway_ref.name.clone();
    assert_eq!((gateway(before), gateway(now)), ("one".to_owned(), "two".to_owned()));
    cache.written(&Arc::new(board("a", "3", "three").0.unwrap()));
    assert_eq!(list(&mut writer, [board("a", "2", "two")]), Vec::<String>::new(), "an older list changes nothing");
    assert_eq!(on_gateway(&cache, "three"), ["a"]);
    assert_eq!(list(&mut writer, [board("a", "3", "three")]), ["changed a"]);
    let tables = cache.tables();
    assert!(tables.watched.is_empty());
}

#[test]
fn a_write_shows_at_once_and_until_the_watch_returns_it() {
    let (cache, mut writer) = cache_of_all();
    let key = ObjectKey::new("fleet", "a");
    let version = |cache: &Cache<Board>| cache.get(&key).and_then(|board| board.metadata.resource_version.clone());
    let written = |version: &str| Arc::new(board("a", version, "gw").0.unwrap());
    cache.written(&written("9"));
    assert_eq!(version(&cache), None, "the watch has not shown it yet, or it was deleted");
    apply(&mut writer, Event::Apply(board("a", "9", "gw")));
    cache.written(&written("8"));
    assert_eq!(version(&cache).as_deref(), Some("9"));
    cache.written(&written("12"));
    assert_eq!(version(&cache).as_deref(), Some("12"));
    apply(&mut writer, Event::Apply(board("a", "10", "gw")));
    assert_eq!(version(&cache).as_deref(), Some("12"), "10 is an earlier version");
    apply(&mut writer, Event::Apply(board("a", "12", "gw")));
    apply(&mut writer, Event::Apply(board("a", "13", "gw")));
    assert_eq!(version(&cache).as_deref(), Some("13"));
    cache.written(&written("14"));
    apply(&mut writer, Event::Delete(board("a", "15", "gw")));
    assert_eq!(version(&cache), None);
}

#[test]
fn an_object_that_becomes_unreadable_is_not_found_and_its_metadata_is_known() {
    let (cache, mut writer) = cache_of_all();
    apply(&mut writer, Event::Apply(board("a", "1", "gw")));
    assert_eq!(apply(&mut writer, Event::Apply(unreadable("a"))), ["unreadable a"]);
    assert!(cache.all().is_empty() && on_gateway(&cache, "gw").is_empty());
    assert_eq!(cache.unreadable().len(), 1);
    apply(&mut writer, Event::Apply(board("a", "2", "gw")));
    assert_eq!((cache.unreadable().len(), on_gateway(&cache, "gw")), (0, vec!["a".into()]));
}

#[test]
fn another_object_of_the_same_name_is_a_deletion_and_a_new_object() {
    let (_, mut writer) = cache_of_all();
    apply(&mut writer, Event::Apply(board("a", "1", "gw")));
    let mut again = board("a", "2", "gw");
    again.meta_mut().uid = Some("another".into());
    assert_eq!(apply(&mut writer, Event::Apply(again)), ["deleted a", "new a"]);
}

fn board_of(namespace: &str, name: &str) -> Guarded<Board> {
    let mut board = board(name, "1", "gw");
    board.meta_mut().namespace = Some(namespace.into());
    board
}

#[test]
fn a_list_of_one_namespace_deletes_nothing_of_another() {
    let (cache, mut writers) = super::cache::<Board>(&"a,b".parse().unwrap());
    let [of_a, of_b] = &mut writers[..] else { panic!("two watches") };
    assert_eq!((of_a.namespace(), of_b.namespace()), (Some("a"), Some("b")));
    // The two lists come at the same time.
    assert!(apply(of_a, Event::Init).is_empty() && apply(of_b, Event::Init).is_empty());
    assert!(apply(of_a, Event::InitApply(board_of("a", "one"))).is_empty());
    assert!(apply(of_b, Event::InitApply(board_of("b", "two"))).is_empty());
    assert_eq!(apply(of_b, Event::InitDone), ["new two"]);
    assert_eq!(apply(of_a, Event::InitDone), ["new one"]);
    let mut odd = unreadable("odd");
    odd.meta_mut().namespace = Some("b".into());
    apply(of_b, Event::Apply(odd));
    assert!(list(of_a, [board_of("a", "one")]).is_empty());
    assert_eq!(list(of_a, []), ["deleted one"]);
    assert!(cache.get(&ObjectKey::new("b", "two")).is_some() && cache.unreadable().len() == 1);
}

#[tokio::test]
async fn a_cache_waits_for_every_namespace_but_not_for_one_that_the_api_server_refuses() {
    let is_synced = async |cache: &Cache<Board>| {
        tokio::time::timeout(std::time::Duration::ZERO, cache.wait_until_synced()).await.is_ok()
    };
    let (cache, mut writers) = super::cache::<Board>(&"a,b".parse().unwrap());
    let [of_a, of_b] = &mut writers[..] else { panic!("two watches") };
    of_b.refused();
    assert!(!is_synced(&cache).await, "nothing is known yet");
    list(of_a, [board_of("a", "one")]);
    assert!(is_synced(&cache).await);
    assert!(cache.is_complete("a") && !cache.is_complete("b") && !cache.is_complete("c"));
    list(of_b, []);
    assert!(cache.is_complete("b"));
    of_b.refused();
    assert!(cache.is_complete("b"), "what was known once stays known until the watch is admitted again");

    let (cache, mut writer) = cache_of_all::<Board>();
    writer.refused();
    assert!(!is_synced(&cache).await, "an operator without its ClusterRole is not ready");
    list(&mut writer, []);
    assert!(is_synced(&cache).await && cache.is_complete("any"));
}

#[test]
fn the_last_readable_state_of_a_deleted_unreadable_object_is_known() {
    let (_, mut writer) = cache_of_all();
    for by_list in [false, true] {
        apply(&mut writer, Event::Apply(board("a", "1", "gw")));
        apply(&mut writer, Event::Apply(unreadable("a")));
        apply(&mut writer, Event::Apply(unreadable("a")));
        let changes = if by_list {
            apply(&mut writer, Event::Init);
            writer.apply(Event::InitDone)
        } else {
            writer.apply(Event::Delete(unreadable("a")))
        };
        let [CacheChange::UnreadableDeleted { last: Some(last), .. }] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!(last.metadata.name.as_deref(), Some("a"));
    }
    apply(&mut writer, Event::Apply(unreadable("never")));
    let changes = writer.apply(Event::Delete(unreadable("never")));
    assert!(matches!(&changes[..], [CacheChange::UnreadableDeleted { last: None, .. }]), "{changes:?}");
}

#[tokio::test]
async fn a_cache_is_in_sync_after_its_first_complete_list() {
    let (cache, mut writer) = cache_of_all();
    apply(&mut writer, Event::Init);
    apply(&mut writer, Event::InitApply(board("a", "1", "gw")));
    assert!(tokio::time::timeout(std::time::Duration::ZERO, cache.wait_until_synced()).await.is_err());
    apply(&mut writer, Event::InitDone);
    cache.wait_until_synced().await.unwrap();
    let (cache, writer) = cache_of_all::<Board>();
    drop(writer);
    assert!(cache.wait_until_synced().await.is_err(), "the watch ended");
}
