//! The names that Kubernetes takes, and the ids that no agent of a gateway can have.

/// Pattern of the name of an object: a DNS subdomain.
pub const OBJECT_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Pattern of the name of a namespace: a DNS label.
pub const NAMESPACE_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Pattern of a key of a Secret or a ConfigMap: no path, so neither `.` nor `..`, nor anything that begins with `..`.
pub const KEY_PATTERN: &str = "^([-_a-zA-Z0-9]|\\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$";

/// Most characters of the name of an object, or of a key.
pub const LONGEST: usize = 253;
/// Most characters of the name of a namespace.
pub const LONGEST_NAMESPACE: usize = 63;

/// Ids that no agent can have. A gateway with `agents.entries` drops the first two from a config write, as dangerous keys, and
/// says ok; the last two are its own, and it refuses to create them (measured on 2026.9.6; 2026.3.2, with `agents.list`, takes the
/// first two).
pub const IMPOSSIBLE_IDS: [&str; 4] = ["constructor", "prototype", "openclaw", "crestodian"];

/// Whether an object may have this name.
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    text.len() <= LONGEST && text.split('.').all(is_label)
}

/// Whether a namespace may have this name.
#[must_use]
pub fn is_namespace(text: &str) -> bool {
    text.len() <= LONGEST_NAMESPACE && is_label(text)
}

/// Whether a Secret or a ConfigMap may have this key.
#[must_use]
pub fn is_key(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (1..=LONGEST).contains(&text.len()) && text.chars().all(plain) && text != "." && !text.starts_with("..")
}

fn is_label(text: &str) -> bool {
    let end = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(end) && bytes.last().is_some_and(end) && bytes.iter().all(|c| end(c) || *c == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_no_name_and_no_key() {
        for text in ["", ".", "..", "a/b", "../a", "a..b", "-a", "a-", "A", "a_b", "a%2fb", "a b", "a?b", "é"] {
            assert!(!is_object_name(text) && !is_namespace(text), "{text:?}");
        }
        for text in ["", ".", "..", "...", "..a", "a/b", "a b", "a%", "é"] {
            assert!(!is_key(text), "{text:?}");
        }
    }

    #[test]
    fn what_kubernetes_takes_is_a_name() {
        for text in ["a", "0", "a-b", "a--b.c", &"a".repeat(253)] {
            assert!(is_object_name(text), "{text:?}");
        }
        assert!(!is_object_name(&"a".repeat(254)) && !is_namespace(&"a".repeat(64)) && !is_namespace("a.b"));
        for text in ["token", "a.b", ".a", "SOUL.md", "A_b-c", "_", "-", &"k".repeat(253)] {
            assert!(is_key(text), "{text:?}");
        }
    }
}
