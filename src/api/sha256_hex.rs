//! A hash in a status.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A SHA-256, shown as 64 lower-case hexadecimal digits. It keeps the 32 bytes of the hash and no text: the cache has thousands of Agents with eight
/// files each.
///
/// A text of another form, which somebody wrote into a status, stays as it is. It equals no hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Sha256Hex(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// The bytes of the hash.
    Hash([u8; 32]),
    /// A text of another form.
    Other(Box<str>),
}

/// The bytes of 64 lower-case hexadecimal digits.
fn parse(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

impl From<&str> for Sha256Hex {
    fn from(text: &str) -> Self {
        Self(parse(text).map_or_else(|| Form::Other(text.into()), Form::Hash))
    }
}

impl PartialEq<str> for Sha256Hex {
    fn eq(&self, other: &str) -> bool {
        match &self.0 {
            Form::Hash(bytes) => parse(other).is_some_and(|other| other == *bytes),
            Form::Other(text) => **text == *other,
        }
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Hash(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Form::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl Serialize for Sha256Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The SHA-256 of `abc`.
    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_hash_and_a_text_of_another_form_are_written_as_they_were_read() {
        let (short, other) = (&HASH[..63], HASH.replace('d', "e"));
        let (upper, long) = (HASH.to_uppercase(), format!("{HASH}0"));
        for (text, is_hash) in [(HASH, true), (short, false), (&upper, false), (&long, false), ("", false)] {
            let read: Sha256Hex = serde_json::from_value(json!(text)).unwrap();
            assert_eq!(matches!(read.0, Form::Hash(_)), is_hash, "{text}");
            assert_eq!(serde_json::to_value(&read).unwrap(), json!(text));
            assert!(read == *text && read != *other, "{text}");
        }
    }
}
