//! The keys of the objects under one key of an index.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::object_key::ObjectKey;

/// The keys of the objects under one key of an index, at least one. Most keys of an index have one object, and a set of its own for each of
/// them would take more memory than the index.
#[derive(Debug)]
pub(super) enum Keys {
    /// One object.
    One(Arc<ObjectKey>),
    /// Any number of objects.
    Many(BTreeSet<Arc<ObjectKey>>),
}

impl Keys {
    /// Adds an object.
    pub(super) fn insert(&mut self, key: Arc<ObjectKey>) {
        match self {
            Self::One(known) => *self = Self::Many(BTreeSet::from([Arc::clone(known), key])),
            Self::Many(known) => drop(known.insert(key)),
        }
    }

    /// Removes an object. Returns whether none is left: then the index has to lose its key.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> bool {
        match self {
            Self::One(known) => **known == *key,
            Self::Many(known) => {
                known.remove(key);
                known.is_empty()
            }
        }
    }

    /// The objects in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        let (one, many) = match self {
            Self::One(key) => (Some(key), None),
            Self::Many(keys) => (None, Some(keys)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Arc<ObjectKey> {
        Arc::new(ObjectKey::new("ns", name))
    }

    fn names(keys: &Keys) -> Vec<&str> {
        keys.iter().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn objects_come_in_the_order_of_their_keys_until_none_is_left() {
        let mut keys = Keys::One(key("b"));
        assert_eq!(names(&keys), ["b"]);
        assert!(!keys.remove(&key("a")), "another object");
        for name in ["c", "a", "b"] {
            keys.insert(key(name));
        }
        assert_eq!(names(&keys), ["a", "b", "c"]);
        assert!(!keys.remove(&key("a")) && !keys.remove(&key("c")));
        assert_eq!(names(&keys), ["b"]);
        assert!(keys.remove(&key("b")));
        assert!(Keys::One(key("b")).remove(&key("b")));
    }
}
