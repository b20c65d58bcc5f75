//! An object of a watch, without its `managedFields`, that may not be decodable by this version.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object, or the metadata of an object that this version cannot decode. One such object does not end the watch.
///
/// kube's `DeserializeGuard` does the same by way of a tree of values, which it copies. That takes three times the time, which counts in a
/// list of ten thousand objects. This one reads the text of the object, so it decodes JSON alone.
///
/// `managedFields` are cut out of the text: no code reads them, and decoded they take several times the memory of the rest of the object.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// An object that this version cannot decode.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Why it cannot be decoded.
    pub error: String,
}

/// The part of an object that every version can decode.
#[derive(Deserialize)]
struct MetadataOnly {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        // An object of another shape has no fields to cut out. Decoding it reports its error.
        let text = without_managed_fields(text.get()).map_or_else(|_| text.get().into(), Cow::Owned);
        match serde_json::from_str(&text) {
            Ok(object) => Ok(Self(Ok(object))),
            Err(error) => {
                let MetadataOnly { metadata } = serde_json::from_str(&text).map_err(D::Error::custom)?;
                Ok(Self(Err(Unreadable { metadata, error: error.to_string() })))
            }
        }
    }
}

/// The text of an object without `metadata.managedFields`.
fn without_managed_fields(object: &str) -> serde_json::Result<String> {
    type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;
    let mut object: Fields<'_> = serde_json::from_str(object)?;
    let Some(metadata) = object.get("metadata") else { return serde_json::to_string(&object) };
    let mut metadata: Fields<'_> = serde_json::from_str(metadata.get())?;
    metadata.remove("managedFields");
    let metadata = serde_json::value::to_raw_value(&metadata)?;
    object.insert(Cow::Borrowed("metadata"), &metadata);
    serde_json::to_string(&object)
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Board;

    fn board(name: &str, spec: &Value) -> Value {
        json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "metadata": { "name": name }, "spec": spec })
    }

    fn readable(guarded: &Guarded<Board>) -> (Option<&str>, bool) {
        (guarded.meta().name.as_deref(), guarded.0.is_ok())
    }

    #[test]
    fn one_unreadable_object_ends_neither_a_list_nor_a_watch() {
        let (good, bad) = (board("good", &json!({ "gatewayRef": { "name": "gw" } })), board("bad", &json!([])));
        let list = json!({ "apiVersion": "v1", "kind": "BoardList", "metadata": {}, "items": [good, bad] }).to_string();
        let list: ObjectList<Guarded<Board>> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.items.iter().map(readable).collect::<Vec<_>>(), [(Some("good"), true), (Some("bad"), false)]);
        // The API server writes the type of an event before its object.
        let event = format!(r#"{{"type":"ADDED","object":{bad}}}"#);
        let WatchEvent::Added(guarded) = serde_json::from_str::<WatchEvent<Guarded<Board>>>(&event).unwrap() else {
            panic!("another event")
        };
        assert_eq!(readable(&guarded), (Some("bad"), false));
    }

    #[test]
    fn managed_fields_are_not_decoded() {
        let mut object = board("good", &json!({ "gatewayRef": { "name": "gw" }, "displayName": "a \"b\" \u{1F600}" }));
        object["metadata"]["labels"] = json!({ "managedFields": "a label with this name" });
        let guarded: Guarded<Board> = serde_json::from_value(object.clone()).unwrap();
        // Decoding these would fail.
        object["metadata"]["managedFields"] = json!("no list");
        let stripped: Guarded<Board> = serde_json::from_str(&object.to_string()).unwrap();
        assert_eq!(format!("{stripped:?}"), format!("{guarded:?}"));
        assert!(stripped.0.is_ok());
    }
}
