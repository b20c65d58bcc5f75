//! The names that Kubernetes accepts, and the agent ids that gateways do not accept.

/// Pattern of the name of an object: a DNS subdomain.
pub const OBJECT_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Pattern of the name of a namespace: a DNS label.
pub const NAMESPACE_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Pattern of a key of a Secret or a ConfigMap. A key is no path: it is not `.` and does not begin with `..`.
pub const KEY_PATTERN: &str = "^([-_a-zA-Z0-9]|\\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$";

/// The maximum length of the name of an object, or of a key, in characters.
pub const MAX_NAME_LENGTH: usize = 253;
/// The maximum length of the name of a namespace, in characters.
pub const MAX_NAMESPACE_LENGTH: usize = 63;

/// Agent ids that gateways do not accept. A gateway with `agents.entries` drops the first two ids from a config write and
/// reports success. The gateway reserves the last two ids and refuses to create them. Measured on 2026.9.6; 2026.3.2, with
/// `agents.list`, accepts the first two ids.
pub const UNSUPPORTED_AGENT_IDS: [&str; 4] = ["constructor", "prototype", "openclaw", "crestodian"];

/// Whether Kubernetes accepts `text` as the name of an object.
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    text.len() <= MAX_NAME_LENGTH && text.split('.').all(is_label)
}

/// Whether Kubernetes accepts `text` as the name of a namespace.
#[must_use]
pub fn is_namespace(text: &str) -> bool {
    text.len() <= MAX_NAMESPACE_LENGTH && is_label(text)
}

/// Whether Kubernetes accepts `text` as a key of a Secret or a ConfigMap.
#[must_use]
pub fn is_key(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (1..=MAX_NAME_LENGTH).contains(&text.len()) && text.chars().all(plain) && text != "." && !text.starts_with("..")
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
    fn a_path_is_neither_a_name_nor_a_key() {
        for text in ["", ".", "..", "a/b", "../a", "a..b", "-a", "a-", "A", "a_b", "a%2fb", "a b", "a?b", "é"] {
            assert!(!is_object_name(text) && !is_namespace(text), "{text:?}");
        }
        for text in ["", ".", "..", "...", "..a", "a/b", "a b", "a%", "é"] {
            assert!(!is_key(text), "{text:?}");
        }
    }

    #[test]
    fn names_and_keys_that_kubernetes_accepts_are_valid() {
        for text in ["a", "0", "a-b", "a--b.c", &"a".repeat(253)] {
            assert!(is_object_name(text), "{text:?}");
        }
        assert!(!is_object_name(&"a".repeat(254)) && !is_namespace(&"a".repeat(64)) && !is_namespace("a.b"));
        for text in ["token", "a.b", ".a", "SOUL.md", "A_b-c", "_", "-", &"k".repeat(253)] {
            assert!(is_key(text), "{text:?}");
        }
    }
}
