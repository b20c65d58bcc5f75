//! A text that many objects have.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text. Equal texts share their memory: the conditions of thousands of healthy Agents have the same messages.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedText(Arc<str>);

/// One table for the process: no result depends on it, and its lock is held for a lookup alone.
static TEXTS: LazyLock<Mutex<Texts>> = LazyLock::new(|| Mutex::new(Texts::default()));

/// The texts in use, and some that were in use.
#[derive(Default)]
struct Texts {
    known: HashSet<Arc<str>>,
    /// The number of texts that were in use at the last look at all of them.
    used: usize,
}

impl Texts {
    /// The number of new texts between two looks at all of them, at least. A look visits at most twice as many texts as came since the last one.
    const FEW: usize = 1024;
    /// The length of the texts that are shared, at most, in bytes. Longer ones are about one object.
    const MAX_BYTES: usize = 256;

    fn share(&mut self, text: &str) -> Arc<str> {
        if text.len() > Self::MAX_BYTES {
            return Arc::from(text);
        }
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        if self.known.len() >= 2 * self.used + Self::FEW {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.used = self.known.len();
            self.known.shrink_to(2 * self.used + Self::FEW);
        }
        let text = Arc::from(text);
        self.known.insert(Arc::clone(&text));
        text
    }
}

impl SharedText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SharedText {
    fn from(text: &str) -> Self {
        Self(TEXTS.lock().unwrap_or_else(PoisonError::into_inner).share(text))
    }
}

impl Default for SharedText {
    fn default() -> Self {
        Self::from("")
    }
}

impl Deref for SharedText {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for SharedText {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for SharedText {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for SharedText {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl fmt::Display for SharedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for SharedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for SharedText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for SharedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_their_memory() {
        let (one, other) = (SharedText::from("the agent is registered"), SharedText::from("the agent is registered"));
        assert!(Arc::ptr_eq(&one.0, &other.0));
        assert_ne!(one, SharedText::from("the agent is not registered"));
        assert_eq!(serde_json::to_string(&one).unwrap(), "\"the agent is registered\"");
    }

    #[test]
    fn texts_that_no_object_has_any_longer_are_forgotten() {
        let mut texts = Texts::default();
        let kept: Vec<_> = (0..Texts::FEW).map(|number| texts.share(&format!("kept {number}"))).collect();
        for number in 0..100 * Texts::FEW {
            texts.share(&format!("passing {number}"));
        }
        assert!(texts.known.len() <= 2 * kept.len() + Texts::FEW, "{}", texts.known.len());
        assert!(kept.iter().all(|text| texts.known.contains(text)));
        let (known, long) = (texts.known.len(), "x".repeat(Texts::MAX_BYTES + 1));
        assert_eq!((&*texts.share(&long), texts.known.len()), (long.as_str(), known), "a long text is not kept");
    }
}
