//! The cache of one kind: its objects, and an index of them. One task writes the cache, any number of tasks read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::Resource;
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::compact::compact_guarded;
use super::guarded::{Guarded, Unreadable};
use super::keys::Keys;
use super::versions::{is_end, is_later};
use crate::api::object_key::ObjectKey;
use crate::api::watched_namespaces::WatchedNamespaces;
use crate::core::index::Indexed;

/// The cache of one kind. Clones share it.
///
/// kube's reflector has no index, so that each question about other objects would be a look at all of them.
pub struct Cache<K: Indexed> {
    tables: Arc<RwLock<Tables<K>>>,
    lists: watch::Receiver<Lists>,
}

/// The states of the first lists, by namespace. The empty name stands for all namespaces.
type Lists = BTreeMap<String, ListState>;

/// The state of the first list of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListState {
    /// The list has not come yet.
    Pending,
    /// The API server refuses the list of one namespace. The watch asks again.
    Refused,
    /// The cache has the complete list.
    Complete,
}

impl<K: Indexed> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { tables: Arc::clone(&self.tables), lists: self.lists.clone() }
    }
}

impl<K: Indexed> fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("objects", &self.tables().objects.len()).finish_non_exhaustive()
    }
}

/// The writers of a cache did not complete their first lists.
#[derive(Debug, thiserror::Error)]
#[error("a watch ended before it was in sync")]
pub struct NeverSynced;

impl<K: Indexed> Cache<K> {
    fn tables(&self) -> RwLockReadGuard<'_, Tables<K>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A readable object. A write of this operator shows at once, before the watch returns it.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.tables().objects.get(key).cloned()
    }

    /// Shows an object that this operator has written, and finds it under its new index keys: a gateway may answer a write before the watch
    /// shows the binding of the agent.
    pub fn written(&self, object: &Arc<K>) {
        let key = ObjectKey::of(object.meta());
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let is_newer = |known: &Arc<K>| is_later(object.meta(), known.meta()) || is_end(object.meta(), known.meta());
        if tables.objects.get(&key).is_some_and(is_newer) {
            let watched = tables.watched.remove(&key);
            let before = tables.insert(object);
            tables.watched.extend(watched.or(before).map(|watched| (key, watched)));
        }
    }

    /// All readable objects.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.tables().objects.values().cloned().collect()
    }

    /// The readable objects with this index key, in the order of their keys.
    #[must_use]
    pub fn by(&self, index: &K::Index) -> Vec<Arc<K>> {
        let tables = self.tables();
        let keys = tables.index.get(index).into_iter().flat_map(Keys::iter);
        keys.filter_map(|key| tables.objects.get(key).cloned()).collect()
    }

    /// The metadata of the objects that this version cannot decode.
    #[must_use]
    pub fn unreadable(&self) -> Vec<ObjectMeta> {
        self.tables().unreadable.values().map(|object| object.metadata.clone()).collect()
    }

    /// Adds the namespaces of the readable objects to `found`.
    pub fn namespaces(&self, found: &mut BTreeSet<String>) {
        found.extend(self.tables().namespaces.keys().cloned());
    }

    /// Waits until the cache has the first complete list of each watched namespace, without the namespaces whose list the API server
    /// refuses. At least one list is complete.
    ///
    /// # Errors
    /// The writers are gone.
    pub async fn wait_until_synced(&self) -> Result<(), NeverSynced> {
        let synced = |lists: &Lists| {
            lists.values().all(|state| *state != ListState::Pending)
                && lists.values().any(|state| *state == ListState::Complete)
        };
        self.lists.clone().wait_for(synced).await.map(|_| ()).map_err(|_| NeverSynced)
    }

    /// Whether the cache had a complete list of a namespace: what it does not have does not exist.
    #[must_use]
    pub fn is_complete(&self, namespace: &str) -> bool {
        let lists = self.lists.borrow();
        let state = lists.get(ALL_NAMESPACES).or_else(|| lists.get(namespace));
        state.is_some_and(|state| *state == ListState::Complete)
    }
}

struct Tables<K: Indexed> {
    objects: HashMap<Arc<ObjectKey>, Arc<K>>,
    /// The last version from the watch of each object of which this operator has written a later one.
    watched: HashMap<ObjectKey, Arc<K>>,
    index: HashMap<K::Index, Keys>,
    unreadable: BTreeMap<ObjectKey, UnreadableObject<K>>,
    /// The number of readable objects in each namespace.
    namespaces: BTreeMap<String, usize>,
}

/// An object that this version cannot decode.
struct UnreadableObject<K> {
    metadata: ObjectMeta,
    /// The last version that could be decoded, if there was one.
    last: Option<Arc<K>>,
}

impl<K: Indexed> Tables<K> {
    fn new() -> Self {
        Self {
            objects: HashMap::new(),
            watched: HashMap::new(),
            index: HashMap::new(),
            unreadable: BTreeMap::new(),
            namespaces: BTreeMap::new(),
        }
    }

    /// Adds or replaces an object. Returns the object before.
    fn insert(&mut self, object: &Arc<K>) -> Option<Arc<K>> {
        let key = Arc::new(ObjectKey::of(object.meta()));
        self.unreadable.remove(&*key);
        let before = self.remove(&key);
        for index in object.index_keys() {
            let (more, first) = (Arc::clone(&key), || Keys::One(Arc::clone(&key)));
            self.index.entry(index).and_modify(|keys| keys.insert(more)).or_insert_with(first);
        }
        *self.namespaces.entry(key.namespace.clone()).or_default() += 1;
        self.objects.insert(key, Arc::clone(object));
        before
    }

    /// Adds or replaces an object of the watch, unless this operator has written a later version. Returns the version that the watch had
    /// before.
    fn put(&mut self, object: &Arc<K>) -> Option<Arc<K>> {
        let key = ObjectKey::of(object.meta());
        if self.objects.get(&key).is_some_and(|known| is_later(known.meta(), object.meta())) {
            return self.watched.insert(key, Arc::clone(object));
        }
        let watched = self.watched.remove(&key);
        let before = self.insert(object);
        watched.or(before)
    }

    /// Removes a readable object.
    fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        self.watched.remove(key);
        let before = self.objects.remove(key)?;
        for index in before.index_keys() {
            if self.index.get_mut(&index).is_some_and(|keys| keys.remove(key)) {
                self.index.remove(&index);
            }
        }
        if let Some(count) = self.namespaces.get_mut(&key.namespace) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(&key.namespace);
            }
        }
        Some(before)
    }
}

/// A change of the cache.
#[derive(Debug)]
pub enum CacheChange<K> {
    /// An object was listed, created or changed.
    Applied {
        /// The object before; `None` for a new object.
        before: Option<Arc<K>>,
        /// The object.
        now: Arc<K>,
    },
    /// An object was deleted. This is its last readable state.
    Deleted(Arc<K>),
    /// An object was listed, created or changed, and this version cannot decode it.
    Unreadable(Unreadable),
    /// An object that this version cannot decode was deleted.
    UnreadableDeleted {
        /// Its metadata.
        metadata: ObjectMeta,
        /// The last version that could be decoded, if there was one.
        last: Option<Arc<K>>,
    },
}

/// The key of the list of all namespaces.
const ALL_NAMESPACES: &str = "";

/// The only writer of the objects of one namespace, or of all namespaces, in a cache.
pub struct CacheWriter<K: Indexed> {
    tables: Arc<RwLock<Tables<K>>>,
    lists: Arc<watch::Sender<Lists>>,
    /// The namespace; `None` for all namespaces.
    namespace: Option<String>,
    /// The list under way: the keys of all its objects, and the objects that the cache does not have as they are.
    listed: HashSet<ObjectKey>,
    changed: Vec<Guarded<K>>,
}

/// A new cache, and a writer for each watch. One task calls all writers.
#[must_use]
pub fn cache<K: Indexed>(namespaces: &WatchedNamespaces) -> (Cache<K>, Vec<CacheWriter<K>>) {
    let tables = Arc::new(RwLock::new(Tables::new()));
    let watches = namespaces.watches();
    let key = |namespace: &Option<String>| namespace.clone().unwrap_or_else(|| ALL_NAMESPACES.to_owned());
    let (sender, lists) = watch::channel(watches.iter().map(|watch| (key(watch), ListState::Pending)).collect());
    let sender = Arc::new(sender);
    let writer = |namespace| CacheWriter {
        tables: Arc::clone(&tables),
        lists: Arc::clone(&sender),
        namespace,
        listed: HashSet::new(),
        changed: Vec::new(),
    };
    let writers = watches.into_iter().map(writer).collect();
    (Cache { tables, lists }, writers)
}

/// A cache of all namespaces and its only writer.
#[cfg(test)]
pub(crate) fn cache_of_all<K: Indexed>() -> (Cache<K>, CacheWriter<K>) {
    let (cache, mut writers) = cache(&WatchedNamespaces::All);
    (cache, writers.pop().unwrap())
}

impl<K: Indexed> CacheWriter<K> {
    fn tables(&self) -> RwLockWriteGuard<'_, Tables<K>> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies an event of the watch. Returns the changes, which the cache shows already.
    ///
    /// # Guarantees
    /// A list becomes visible as a whole: first the deletions, then the new and changed objects. An object that a list returns as the cache
    /// has it is no change, and is not kept while the list goes on.
    pub fn apply(&mut self, event: Event<Guarded<K>>) -> Vec<CacheChange<K>> {
        match event {
            Event::Apply(object) => self.put(compact_guarded(object)),
            Event::Delete(object) => vec![self.delete(&ObjectKey::of(object.meta()), object)],
            Event::Init => {
                self.listed.clear();
                self.changed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                let key = ObjectKey::of(object.meta());
                if !self.has(&key, object.meta()) {
                    self.changed.push(compact_guarded(object));
                }
                self.listed.insert(key);
                Vec::new()
            }
            Event::InitDone => {
                let mut changes = self.delete_unlisted();
                for object in mem::take(&mut self.changed) {
                    changes.extend(self.put(object));
                }
                self.set_state(ListState::Complete);
                changes
            }
        }
    }

    /// The namespace of the objects; `None` for all namespaces.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Notes that the API server refuses the list or the watch. The other namespaces do not wait for it. An operator that may not list all
    /// namespaces has nothing to do, and is never in sync.
    pub fn refused(&mut self) {
        if self.namespace.is_some() {
            self.set_state(ListState::Refused);
        }
    }

    /// A complete list stays one: the watch brings the changes since then as soon as the API server admits it again.
    fn set_state(&self, state: ListState) {
        let key = self.namespace.as_deref().unwrap_or(ALL_NAMESPACES);
        self.lists.send_if_modified(|lists| {
            let before = lists.get_mut(key).filter(|before| **before != state && **before != ListState::Complete);
            before.map(|before| *before = state).is_some()
        });
    }

    /// Whether this writer writes the objects of a namespace.
    fn writes(&self, key: &ObjectKey) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
    }

    /// Whether the cache has the readable object in this version.
    fn has(&self, key: &ObjectKey, meta: &ObjectMeta) -> bool {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let version = |meta: &ObjectMeta| (meta.uid.clone(), meta.resource_version.clone());
        let watched = tables.watched.get(key).or_else(|| tables.objects.get(key));
        meta.resource_version.is_some() && watched.is_some_and(|object| version(object.meta()) == version(meta))
    }

    fn put(&mut self, object: Guarded<K>) -> Vec<CacheChange<K>> {
        match object.0 {
            Ok(object) => {
                let now = Arc::new(object);
                match self.tables().put(&now) {
                    // Another object with the same name.
                    Some(before) if before.meta().uid != now.meta().uid => {
                        vec![CacheChange::Deleted(before), CacheChange::Applied { before: None, now }]
                    }
                    before => vec![CacheChange::Applied { before, now }],
                }
            }
            Err(unreadable) => {
                let key = ObjectKey::of(&unreadable.metadata);
                let mut tables = self.tables();
                let metadata = unreadable.metadata.clone();
                let known = tables.unreadable.remove(&key).filter(|known| known.metadata.uid == metadata.uid);
                let last = tables.remove(&key).filter(|last| last.meta().uid == metadata.uid);
                let last = last.or_else(|| known.and_then(|known| known.last));
                tables.unreadable.insert(key, UnreadableObject { metadata, last });
                vec![CacheChange::Unreadable(unreadable)]
            }
        }
    }

    fn delete(&mut self, key: &ObjectKey, last: Guarded<K>) -> CacheChange<K> {
        let mut tables = self.tables();
        let readable = tables.remove(key);
        let known = tables.unreadable.remove(key);
        match last.0 {
            Ok(object) => CacheChange::Deleted(Arc::new(object)),
            Err(Unreadable { metadata, .. }) => CacheChange::UnreadableDeleted {
                metadata,
                last: readable.or_else(|| known.and_then(|known| known.last)),
            },
        }
    }

    /// Removes the objects that the complete list does not have.
    fn delete_unlisted(&mut self) -> Vec<CacheChange<K>> {
        let listed = mem::take(&mut self.listed);
        let mut tables = self.tables();
        let is_gone = |key: &ObjectKey| self.writes(key) && !listed.contains(key);
        let gone: Vec<_> = tables.objects.keys().filter(|key| is_gone(key)).cloned().collect();
        let readable = gone.iter().filter_map(|key| tables.remove(key)).map(CacheChange::Deleted).collect::<Vec<_>>();
        let gone: Vec<_> = tables.unreadable.keys().filter(|key| is_gone(key)).cloned().collect();
        let unreadable = gone.iter().filter_map(|key| tables.unreadable.remove(key));
        let deleted = |UnreadableObject { metadata, last }| CacheChange::UnreadableDeleted { metadata, last };
        readable.into_iter().chain(unreadable.map(deleted)).collect()
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
