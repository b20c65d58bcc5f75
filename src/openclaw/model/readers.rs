//! Readers of fields whose content the gateway controls.
//!
//! A JSON tree takes up to 100 times the memory of its text. So no payload becomes a tree: the type of a reader names the
//! fields that Muster uses, and serde skips the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::openclaw::limits::Exceeded;

/// A list of at most `N` items. A longer list is an error, because its items may take far more memory than their text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct List<T, const N: usize>(pub(crate) Vec<T>);

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Items<T, N> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {N} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
                let mut read = Vec::new();
                while let Some(item) = items.next_element()? {
                    if read.len() == N {
                        return Err(A::Error::custom(Exceeded(format!("a list has more than {N} items"))));
                    }
                    read.push(item);
                }
                Ok(read)
            }
        }
        deserializer.deserialize_seq(Items::<T, N>(PhantomData)).map(Self)
    }
}

/// An object of at most `N` keys. A larger object is an error, because its values may take far more memory than their text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named<T, const N: usize>(pub(crate) BTreeMap<String, T>);

impl<T, const N: usize> Default for Named<T, N> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Named<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Values<T, N> {
            type Value = BTreeMap<String, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {N} keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<BTreeMap<String, T>, A::Error> {
                let mut read = BTreeMap::new();
                while let Some(name) = values.next_key()? {
                    if read.len() == N {
                        return Err(A::Error::custom(Exceeded(format!("an object has more than {N} keys"))));
                    }
                    read.insert(name, values.next_value()?);
                }
                Ok(read)
            }
        }
        deserializer.deserialize_map(Values::<T, N>(PhantomData)).map(Self)
    }
}

/// Reads a field; `None` for a value of another type.
pub(crate) fn lax<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// Reads a text of at most `N` bytes; `None` for a value of another type. A longer text is an error, because the client keeps it.
pub(crate) fn short<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = lax(deserializer)?;
    match text {
        Some(text) if text.len() > N => Err(D::Error::custom(Exceeded(format!("a text has more than {N} bytes")))),
        text => Ok(text),
    }
}

/// Reads a value; `None` when it does not have the form of `T`.
///
/// # Errors
/// The bound that the value exceeds.
pub(crate) fn optional<T: DeserializeOwned>(value: &RawValue) -> Result<Option<T>, Exceeded> {
    match serde_json::from_str(value.get()) {
        Ok(read) => Ok(Some(read)),
        Err(error) => Exceeded::of(&error).map_or(Ok(None), Err),
    }
}

/// Reads a field as raw JSON. `null` counts as present.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Reads the strings of a list of at most `N` items; `None` for a value of another type.
pub(crate) fn words<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<Option<BTreeSet<String>>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    if !raw.get().starts_with('[') {
        return Ok(None);
    }
    let items: List<&RawValue, N> = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
    Ok(Some(items.0.iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect()))
}

/// Reads the first item of a list and skips the others; `None` for a value of another type.
pub(crate) fn first<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct First<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<T>, A::Error> {
            let first = items.next_element()?;
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::Deserializer::from_str(raw.get()).deserialize_seq(First(PhantomData)).ok().flatten())
}

/// A value as raw JSON, for tests.
#[cfg(test)]
pub(crate) fn raw(value: &serde_json::Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Sample {
        #[serde(deserialize_with = "lax")]
        word: Option<String>,
        #[serde(deserialize_with = "present")]
        raw: Option<Box<RawValue>>,
        #[serde(deserialize_with = "words::<_, 2>")]
        words: Option<BTreeSet<String>>,
        #[serde(deserialize_with = "first")]
        first: Option<String>,
        list: List<u8, 2>,
        named: Named<u8, 2>,
        #[serde(deserialize_with = "short::<_, 4>")]
        short: Option<String>,
    }

    fn read(text: &str) -> Result<Sample, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_field_of_another_type_counts_as_absent() {
        let other = read(r#"{"word": [1], "words": {}, "first": "x", "more": {"": [0]}}"#).unwrap();
        assert_eq!((other.word, other.words, other.first, other.list), (None, None, None, List(vec![])));
        assert!(other.raw.is_none() && read(r#"{"raw": null}"#).unwrap().raw.is_some());
        let given = read(r#"{"word": "a", "words": ["b", 1], "first": ["c", {}], "list": [1, 2]}"#).unwrap();
        assert_eq!((given.word.as_deref(), given.first.as_deref()), (Some("a"), Some("c")));
        assert_eq!((given.words, given.list), (Some(["b".to_owned()].into()), List(vec![1, 2])));
    }

    #[test]
    fn too_many_keys_are_an_error_that_names_the_bound() {
        let named = read(r#"{"named": {"a": 1, "b": 2}}"#).unwrap().named;
        assert_eq!(named.0, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
        let error = read(r#"{"named": {"a": 1, "b": 2, "c": "not read"}}"#).unwrap_err();
        assert!(error.to_string().contains("more than 2 keys"), "{error}");
    }

    #[test]
    fn too_many_items_are_an_error_that_names_the_bound() {
        for long in [r#"{"list": [1, 2, 3]}"#, r#"{"words": ["a", "b", "c"]}"#] {
            assert!(read(long).unwrap_err().to_string().contains("more than 2 items"), "{long}");
        }
    }

    #[test]
    fn an_exceeded_bound_is_told_from_other_errors() {
        let exceeded = |text: &str| Exceeded::of(&read(text).unwrap_err()).map(|bound| bound.0);
        assert!(exceeded(r#"{"short": "12345"}"#).unwrap().starts_with("a text has more than 4 bytes"));
        assert_eq!(read(r#"{"short": "1234"}"#).unwrap().short.as_deref(), Some("1234"));
        assert_eq!(exceeded(r#"{"list": "a bound of Muster was met: "}"#), None, "the word of a gateway");
        let deep = format!(r#"{{"list": [{}"#, "[".repeat(1000));
        assert_eq!(exceeded(&deep), None, "a wrong type at the first level");
        let nested = serde_json::from_str::<serde_json::Value>(&"[".repeat(1000)).unwrap_err();
        assert!(Exceeded::of(&nested).is_some());
    }
}
