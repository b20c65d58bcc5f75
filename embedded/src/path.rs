//! The path of a field, as it stands in errors: `spec.files[0].name`.

use serde_json::Value;

/// A path, as its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    text: String,
    /// Where the part begins that was written: a status is checked as an object of its own.
    start: usize,
}

impl Path {
    /// The object itself.
    pub(crate) fn root() -> Self {
        Self::parse("")
    }

    /// A field of the object that is written by itself.
    pub(crate) fn below(field: &str) -> Self {
        Self { text: field.to_owned(), start: field.len() + 1 }
    }

    /// The path of a text.
    pub(crate) fn parse(text: &str) -> Self {
        Self { text: text.to_owned(), start: 0 }
    }

    /// A field of this object.
    pub(crate) fn field(&self, name: &str) -> Self {
        let text = if self.text.is_empty() { name.to_owned() } else { format!("{}.{name}", self.text) };
        Self { text, start: self.start }
    }

    /// An item of this list.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self { text: format!("{}[{index}]", self.text), start: self.start }
    }

    /// The path inside of what was written.
    pub(crate) fn in_body(&self) -> &str {
        self.text.get(self.start..).unwrap_or_default()
    }

    /// The value at this path, if there is one.
    pub(crate) fn find<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        let mut value = object;
        for part in self.text.split('.').filter(|part| !part.is_empty()) {
            let (name, items) = part.split_once('[').map_or((part, None), |(name, items)| (name, Some(items)));
            if !name.is_empty() {
                value = value.get(name)?;
            }
            for item in items.into_iter().flat_map(|items| items.split('[')) {
                let key = item.trim_end_matches(']').trim_matches('"');
                value = key.parse::<usize>().ok().and_then(|index| value.get(index)).or_else(|| value.get(key))?;
            }
        }
        Some(value)
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.text.is_empty() { "<nil>" } else { &self.text })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_fields_items_and_keys() {
        let object = json!({ "spec": { "files": [{ "name": "A" }, { "name": "B" }], "labels": { "x": 1 } } });
        let path = Path::root().field("spec").field("files").item(1).field("name");
        assert_eq!(path.to_string(), "spec.files[1].name");
        assert_eq!(path.find(&object), Some(&json!("B")));
        assert_eq!(Path::parse("spec.labels[\"x\"]").find(&object), Some(&json!(1)));
        assert_eq!(Path::parse("spec.files[2].name").find(&object), None);
        assert_eq!(Path::root().find(&object), Some(&object));
    }
}
