//! The rules of the flags' values, from the resources and from Kubernetes, so that the API server accepts the manifests. Pure.

use url::Url;

/// The longest name, in characters: the limit of Kubernetes without the suffix `-device` of an AgentGateway's Secret.
const MAX_NAME_CHARS: usize = 253 - "-device".len();

/// Checks the name of a namespace (an RFC 1123 label).
///
/// # Errors
/// The rule for the name.
pub(super) fn namespace(text: &str) -> Result<String, &'static str> {
    if text.len() <= 63 && is_label(text) {
        return Ok(text.to_owned());
    }
    Err("give at most 63 lower-case letters, digits and hyphens, with a letter or a digit at both ends")
}

/// Checks the name of an object (an RFC 1123 subdomain).
///
/// # Errors
/// The rule for the name.
pub(super) fn object(text: &str) -> Result<String, String> {
    if text.len() <= MAX_NAME_CHARS && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "give at most {MAX_NAME_CHARS} lower-case letters, digits, hyphens and dots, with a letter or a digit at both ends and on \
         both sides of each dot"
    ))
}

/// A name from the prefix and the URL of the gateway, so that objects of two gateways have different names.
///
/// # Errors
/// The URL is too long for a name; the error names the flag to use.
pub(super) fn derived(prefix: &str, flag: &str, url: &Url) -> Result<String, String> {
    let address = url.as_str().split_once("://").map_or("", |(_, address)| address).to_ascii_lowercase();
    let plain = address.replace(|c: char| !is_word(c), "-");
    let name = object(format!("{prefix}-{plain}").trim_end_matches('-'));
    name.map_err(|_| format!("--gateway {url}: it is too long to name an object after it; give {flag}"))
}

fn is_word(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    text.starts_with(is_word) && text.ends_with(is_word) && text.chars().all(|c| is_word(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_kubernetes() {
        for name in ["a", "ops-2", "0"] {
            assert!(namespace(name).is_ok() && object(name).is_ok(), "{name}");
        }
        assert!(object("a.b-c").is_ok() && namespace("a.b").is_err());
        let (long, longest) = ("n".repeat(64), "n".repeat(246));
        assert!(namespace(&long).is_err() && object(&long).is_ok() && object(&longest).is_ok());
        for name in ["", "Ops", "a_b", "-a", "a-", "ä", "a..b", ".a", "a.-b", "a b", &format!("{longest}n")] {
            assert!(namespace(name).is_err() && object(name).is_err(), "{name}");
        }
    }

    #[test]
    fn gateways_at_different_addresses_have_different_names() {
        let name = |text: &str| derived("gateway", "--gateway-name", &Url::parse(text).unwrap());
        for (url, expected) in [
            ("wss://gateway.example", "gateway-gateway-example"),
            ("ws://OpenClaw_1.example:18789/", "gateway-openclaw-1-example-18789"),
            ("ws://127.0.0.1:18790", "gateway-127-0-0-1-18790"),
            ("ws://[::1]:18789", "gateway----1--18789"),
            ("wss://gateway.example/Blue/", "gateway-gateway-example-blue"),
        ] {
            assert_eq!(name(url).as_deref(), Ok(expected));
        }
        let long = format!("wss://gateway.example/{}", "p".repeat(250));
        assert!(name(&long).unwrap_err().ends_with("give --gateway-name"));
    }
}
