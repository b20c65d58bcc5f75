//! The stored objects, their history, and the indexes that the garbage collector needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::resource::ResourceId;

/// The number of changes that a watch can be behind.
const HISTORY: usize = 8192;

/// The place of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) resource: ResourceId,
    /// Empty for an object without a namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What a change did.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Added,
    /// The object was another one before.
    Modified(Arc<Value>),
    /// The object was this before it was removed.
    Deleted(Arc<Value>),
}

/// A change of an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) deed: Deed,
    /// The object after the change, or at its end.
    pub(crate) object: Arc<Value>,
}

/// The stored objects.
///
/// # Guarantees
/// Each write has a revision of its own, greater than all before.
#[derive(Debug)]
pub(crate) struct Objects {
    revision: u64,
    table: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// The revision of the last change that is no longer in the history.
    forgotten: u64,
    /// The uids of all objects.
    uids: BTreeMap<String, Key>,
    /// The objects that name an owner, by its uid.
    owned: BTreeMap<String, BTreeSet<Key>>,
}

/// The uids of the owners of an object.
pub(crate) fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let references = object["metadata"].get("ownerReferences").and_then(Value::as_array);
    references.into_iter().flatten().filter_map(|reference| reference.get("uid").and_then(Value::as_str))
}

/// The uid of an object.
pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"].get("uid").and_then(Value::as_str).unwrap_or_default()
}

impl Objects {
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            table: BTreeMap::new(),
            history: VecDeque::new(),
            forgotten: 0,
            uids: BTreeMap::new(),
            owned: BTreeMap::new(),
        }
    }

    /// The objects of a database, at its revision.
    pub(crate) fn restored(revision: u64, objects: Vec<(Key, Value)>) -> Self {
        let mut restored = Self { revision, forgotten: revision, ..Self::new() };
        for (key, object) in objects {
            restored.insert(&key, &Arc::new(object));
        }
        restored
    }

    /// All objects.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.table.iter()
    }

    /// The revision of the last write.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.table.get(key)
    }

    /// The object with a uid.
    pub(crate) fn by_uid(&self, uid: &str) -> Option<(&Key, &Arc<Value>)> {
        let key = self.uids.get(uid)?;
        Some((key, self.table.get(key)?))
    }

    /// The objects that name an owner.
    pub(crate) fn owned_by(&self, uid: &str) -> Vec<Key> {
        self.owned.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The objects of a kind, in one namespace or in all, in order, from behind a place on.
    pub(crate) fn list<'a>(
        &'a self,
        resource: ResourceId,
        namespace: Option<&'a str>,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> + use<'a> {
        let first = Key { resource, namespace: namespace.unwrap_or_default().to_owned(), name: String::new() };
        let start = after.filter(|after| **after > first).cloned();
        let from = start.map_or(std::ops::Bound::Included(first), std::ops::Bound::Excluded);
        let is_here = move |key: &Key| key.resource == resource && namespace.is_none_or(|n| key.namespace == n);
        self.table.range((from, std::ops::Bound::Unbounded)).take_while(move |(key, _)| is_here(key))
    }

    /// Stores an object. Returns the object with its new version.
    pub(crate) fn put(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(object);
        let before = self.insert(key, &object);
        self.record(key, before.map_or(Deed::Added, Deed::Modified), Arc::clone(&object));
        object
    }

    /// Puts an object into the table and the indexes. Returns the one before.
    fn insert(&mut self, key: &Key, object: &Arc<Value>) -> Option<Arc<Value>> {
        let before = self.table.insert(key.clone(), Arc::clone(object));
        if let Some(before) = &before {
            self.unlink(key, before);
        }
        self.uids.insert(uid(object).to_owned(), key.clone());
        for owner in owners(object) {
            self.owned.entry(owner.to_owned()).or_default().insert(key.clone());
        }
        before
    }

    /// Takes back all changes after a revision, which nobody has seen.
    pub(crate) fn undo(&mut self, revision: u64) {
        while let Some(change) = self.history.pop_back_if(|change| change.revision > revision) {
            match change.deed {
                Deed::Added => {
                    self.table.remove(&change.key);
                    self.unlink(&change.key, &change.object);
                }
                Deed::Modified(before) | Deed::Deleted(before) => drop(self.insert(&change.key, &before)),
            }
        }
        self.revision = revision;
    }

    /// Removes an object. `last` is its state at the end.
    pub(crate) fn remove(&mut self, key: &Key, mut last: Value) -> Arc<Value> {
        self.revision += 1;
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let last = Arc::new(last);
        if let Some(before) = self.table.remove(key) {
            self.unlink(key, &before);
            self.record(key, Deed::Deleted(before), Arc::clone(&last));
        }
        last
    }

    fn unlink(&mut self, key: &Key, object: &Value) {
        self.uids.remove(uid(object));
        for owner in owners(object) {
            if let Some(owned) = self.owned.get_mut(owner) {
                owned.remove(key);
                if owned.is_empty() {
                    self.owned.remove(owner);
                }
            }
        }
    }

    fn record(&mut self, key: &Key, deed: Deed, object: Arc<Value>) {
        self.history.push_back(Change { revision: self.revision, key: key.clone(), deed, object });
    }

    /// Forgets the oldest changes, down to the length of the history.
    pub(crate) fn trim(&mut self) {
        while self.history.len() > HISTORY {
            self.forgotten = self.history.pop_front().map_or(self.forgotten, |change| change.revision);
        }
    }

    /// Forgets the history, as etcd's compaction does.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.forgotten = self.revision;
    }

    /// The changes after a revision.
    ///
    /// # Errors
    /// The history does not reach back so far. The error is the oldest revision from which it does.
    pub(crate) fn since(&self, revision: u64) -> Result<impl Iterator<Item = &Change>, u64> {
        if revision < self.forgotten {
            return Err(self.forgotten);
        }
        let from = self.history.partition_point(|change| change.revision <= revision);
        Ok(self.history.range(from..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { resource: ResourceId(2), namespace: "default".into(), name: name.into() }
    }

    fn object(name: &str, owner: &str) -> Value {
        json!({ "metadata": { "name": name, "uid": format!("uid-{name}"), "ownerReferences": [{ "uid": owner }] } })
    }

    #[test]
    fn changes_that_are_taken_back_leave_no_trace() {
        let mut objects = Objects::new();
        objects.put(&key("changed"), object("changed", "a"));
        objects.put(&key("removed"), object("removed", "a"));
        let (revision, before) = (objects.revision(), objects.table.clone());
        let (uids, owned, history) = (objects.uids.clone(), objects.owned.clone(), objects.history.len());

        objects.put(&key("changed"), object("changed", "b"));
        objects.put(&key("new"), object("new", "b"));
        objects.remove(&key("removed"), object("removed", "a"));
        objects.remove(&key("new"), object("new", "b"));
        objects.undo(revision);

        assert_eq!((objects.revision(), &objects.table), (revision, &before));
        assert_eq!((objects.uids, objects.owned, objects.history.len()), (uids, owned, history));
    }
}
