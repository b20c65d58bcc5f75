//! A pairing request: the gateway's request that a person approves this device.

use std::fmt;

/// A pairing request that waits at the gateway, for 5 minutes (`docs/gateway-facts.md#devices-and-pairing`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairingRequest {
    /// The id; `None` when the gateway names no id, or an id that is not safe in a command.
    pub id: Option<PairingRequestId>,
    /// The gateway's reason: `not-paired`, `scope-upgrade` or `role-upgrade`.
    pub reason: String,
}

/// The id of a pairing request: `[A-Za-z0-9_-]{1,64}` without a hyphen at the start. People paste the id into a shell, and
/// `openclaw` would read a leading hyphen as an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingRequestId(String);

impl PairingRequestId {
    /// Parses an id; `None` for a text that is not safe in a command.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_safe = (1..=64).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(plain);
        is_safe.then(|| Self(text.to_owned()))
    }

    /// The command that approves the request on the gateway's host.
    #[must_use]
    pub fn command(&self) -> String {
        format!("openclaw devices approve {self}")
    }
}

impl fmt::Display for PairingRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PairingRequest {
    /// The instruction for a person who approves this device on the gateway's host.
    #[must_use]
    pub fn advice(&self, device_id: &str) -> String {
        match &self.id {
            Some(id) => format!("run this where the gateway runs: {}", id.command()),
            None => format!(
                "run this where the gateway runs: openclaw devices list; then approve the request of device {device_id}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_safe_id_is_part_of_a_command() {
        let long = "a".repeat(65);
        for bad in ["", "3f0c9d1e; touch pwned #", "--latest", "-", "a b", "a\n", "$(id)", "`id`", "ä", "a.b", &long] {
            assert_eq!(PairingRequestId::parse(bad), None, "{bad}");
        }
        for good in ["r1", "3f0c9d1e-6a1b-4c3d-8e2f-0123456789ab", "A_b-9", &long[1..]] {
            let id = PairingRequestId::parse(good).unwrap();
            assert_eq!(id.command(), format!("openclaw devices approve {good}"));
        }
    }

    #[test]
    fn without_an_id_the_advice_names_the_list_and_the_device() {
        let advice = PairingRequest::default().advice("d1");
        assert!(advice.contains("openclaw devices list") && advice.contains("device d1"), "{advice}");
    }
}
