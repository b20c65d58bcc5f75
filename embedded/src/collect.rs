//! What the controllers of a cluster do after a write: objects without owners go, and namespaces that are being deleted are emptied.
//!
//! In a cluster this takes a while. Here it is done with the write that causes it.

use serde_json::{Value, json};

use crate::meta;
use crate::objects::{Key, owners, uid};
use crate::request::{DeleteOptions, Propagation};
use crate::resource::NAMESPACES;
use crate::write::{Cause, FOREGROUND, ORPHAN, Writer, set_finalizers};

/// Does what follows from the writes, and what follows from that.
pub(crate) fn settle(writer: &mut Writer<'_>) {
    while let Some(cause) = writer.causes.pop_front() {
        match cause {
            Cause::Changed(key) => {
                if let Some(object) = writer.objects.get(&key).cloned() {
                    after_change(writer, &key, &object);
                }
            }
            Cause::Removed(key, last) => after_removal(writer, &key, &last),
        }
    }
}

/// Follows up a new or changed object.
fn after_change(writer: &mut Writer<'_>, key: &Key, object: &Value) {
    if meta::is_deleting(object) {
        if key.resource == NAMESPACES {
            empty(writer, key);
            return;
        }
        let finalizers = meta::finalizers(object);
        if finalizers.contains(&ORPHAN) {
            for owned in writer.objects.owned_by(uid(object)) {
                disown(writer, &owned, uid(object));
            }
            finish(writer, key, ORPHAN);
        } else if finalizers.contains(&FOREGROUND) {
            let owned = writer.objects.owned_by(uid(object));
            for owned in &owned {
                collect(writer, owned, uid(object), Propagation::Foreground);
            }
            if !is_held_up(writer, object) {
                finish(writer, key, FOREGROUND);
            }
        }
    } else if owners(object).next().is_some() && owners(object).all(|owner| writer.objects.by_uid(owner).is_none()) {
        let _ = writer.delete(key, &with(Propagation::Background));
    }
}

/// Follows up a removed object.
fn after_removal(writer: &mut Writer<'_>, key: &Key, last: &Value) {
    for owned in writer.objects.owned_by(uid(last)) {
        collect(writer, &owned, uid(last), Propagation::Background);
    }
    // An owner may wait for this object.
    let waiting: Vec<(Key, Value)> = owners(last)
        .filter_map(|owner| writer.objects.by_uid(owner))
        .filter(|(_, owner)| meta::finalizers(owner).contains(&FOREGROUND))
        .map(|(key, owner)| (key.clone(), (**owner).clone()))
        .collect();
    for (owner_key, owner) in waiting {
        if !is_held_up(writer, &owner) {
            finish(writer, &owner_key, FOREGROUND);
        }
    }
    let namespace = Key { resource: NAMESPACES, namespace: String::new(), name: key.namespace.clone() };
    if writer.objects.get(&namespace).is_some_and(|found| meta::is_deleting(found)) {
        close(writer, &namespace);
    }
}

fn with(propagation: Propagation) -> DeleteOptions {
    DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() }
}

/// Deletes an object whose owner goes, unless it has another one.
fn collect(writer: &mut Writer<'_>, key: &Key, gone: &str, propagation: Propagation) {
    let Some(object) = writer.objects.get(key).cloned() else { return };
    let has_other = owners(&object).any(|owner| owner != gone && writer.objects.by_uid(owner).is_some());
    if has_other {
        disown(writer, key, gone);
    } else if !meta::is_deleting(&object) {
        // The object was read in this step, so that its deletion is not refused.
        let _ = writer.delete(key, &with(propagation));
    }
}

/// Whether an object that waits for those it owns still has some that block its deletion.
fn is_held_up(writer: &Writer<'_>, owner: &Value) -> bool {
    let blocks = |key: &Key| {
        let object = writer.objects.get(key);
        let references = object.and_then(|object| object["metadata"].get("ownerReferences")?.as_array());
        references.into_iter().flatten().any(|reference| {
            reference["uid"] == uid(owner) && reference.get("blockOwnerDeletion") == Some(&Value::Bool(true))
        })
    };
    writer.objects.owned_by(uid(owner)).iter().any(blocks)
}

/// Removes an owner from an object.
fn disown(writer: &mut Writer<'_>, key: &Key, gone: &str) {
    let Some(object) = writer.objects.get(key) else { return };
    let mut object = (**object).clone();
    let references = object["metadata"].get("ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
    let kept: Vec<Value> = references.into_iter().filter(|reference| reference["uid"] != gone).collect();
    if kept.is_empty() {
        object["metadata"].as_object_mut().and_then(|fields| fields.remove("ownerReferences"));
    } else {
        object["metadata"]["ownerReferences"] = json!(kept);
    }
    writer.store(key, object);
}

/// Removes a finalizer of the garbage collector.
fn finish(writer: &mut Writer<'_>, key: &Key, finalizer: &str) {
    let Some(object) = writer.objects.get(key) else { return };
    let mut object = (**object).clone();
    let kept: Vec<String> =
        meta::finalizers(&object).into_iter().filter(|f| *f != finalizer).map(ToOwned::to_owned).collect();
    set_finalizers(&mut object, &kept);
    writer.store(key, object);
}

/// The kinds with namespaces.
fn namespaced(writer: &Writer<'_>) -> Vec<crate::resource::ResourceId> {
    writer.resources.ids().filter(|(_, resource)| resource.namespaced).map(|(id, _)| id).collect()
}

/// Deletes all objects of a namespace that is being deleted.
fn empty(writer: &mut Writer<'_>, namespace: &Key) {
    for resource in namespaced(writer) {
        let keys: Vec<Key> =
            writer.objects.list(resource, Some(&namespace.name), None).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let _ = writer.delete(&key, &with(Propagation::Background));
        }
    }
    close(writer, namespace);
}

/// Removes a namespace that is being deleted, once it is empty.
fn close(writer: &mut Writer<'_>, namespace: &Key) {
    let kinds = namespaced(writer);
    let is_empty = kinds.iter().all(|kind| writer.objects.list(*kind, Some(&namespace.name), None).next().is_none());
    let Some(last) = writer.objects.get(namespace).filter(|_| is_empty) else { return };
    let mut last = (**last).clone();
    last["spec"]["finalizers"] = json!([]);
    writer.remove(namespace, last);
}
