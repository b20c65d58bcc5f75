//! A request for the approval of this device, and the command that approves it.

use std::fmt;

/// A request for approval that waits at the gateway, for five minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairingRequest {
    /// Its id; `None` when the gateway names none, or one that may not stand in a command.
    pub id: Option<PairingRequestId>,
    /// Why it is needed: `not-paired`, `scope-upgrade`, `role-upgrade`.
    pub reason: String,
}

/// The id of such a request: `[A-Za-z0-9_-]{1,64}`, not with a hyphen first. People paste it into a shell, and `openclaw` would
/// take one that begins with a hyphen for an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingRequestId(String);

impl PairingRequestId {
    /// Reads an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let good = (1..=64).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(plain);
        good.then(|| Self(text.to_owned()))
    }

    /// The command that approves the request, to be run where the gateway runs.
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
    /// What a person does where the gateway runs, so that it lets this device in.
    #[must_use]
    pub fn advice(&self, device_id: &str) -> String {
        match &self.id {
            Some(id) => format!("run this where the gateway runs: {}", id.command()),
            None => format!(
                "run this where the gateway runs: openclaw devices list; approve there the request of device {device_id}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_id_stands_in_a_command() {
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
    fn without_an_id_the_list_and_the_device_are_named() {
        let said = PairingRequest::default().advice("d1");
        assert!(said.contains("openclaw devices list") && said.contains("device d1"), "{said}");
    }
}
