//! Which credential a connection presents: the shared one, or, when the gateway does not take that, the device's own token.

use secrecy::SecretString;

use super::hello::{Refusal, RefusalKind};

/// What a connection presents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// The shared token or password.
    #[default]
    Shared,
    /// The token that the gateway issued for this device.
    Device,
}

/// What the next connection presents, and what was learned from those before.
#[derive(Debug)]
pub(super) struct Login {
    next: Credential,
    device_token: Option<SecretString>,
    /// Why the shared credential was refused.
    refusal: Option<Refusal>,
}

impl Login {
    pub(super) fn new(device_token: Option<SecretString>) -> Self {
        Self { next: Credential::Shared, device_token, refusal: None }
    }

    /// The device's token, when the next connection presents it.
    pub(super) fn device_token(&self) -> Option<&SecretString> {
        self.device_token.as_ref().filter(|_| self.next == Credential::Device)
    }

    /// The gateway let the client in; how it did. The shared credential is tried first again the next time, since somebody may
    /// have put it right.
    pub(super) fn accepted(&mut self, issued: Option<&SecretString>) -> Credential {
        if let Some(issued) = issued {
            self.device_token = Some(issued.clone());
        }
        self.refusal = None;
        std::mem::take(&mut self.next)
    }

    /// The gateway did not let the client in. What that comes to; `None` when the other credential is to be tried at once.
    pub(super) fn refused(&mut self, refusal: Refusal) -> Option<Refusal> {
        match std::mem::take(&mut self.next) {
            Credential::Shared => {
                let other = refusal.kind == RefusalKind::BadCredentials && self.device_token.is_some();
                if other {
                    self.next = Credential::Device;
                    self.refusal = Some(refusal);
                    return None;
                }
                Some(refusal)
            }
            Credential::Device => {
                if refusal.kind == RefusalKind::DeviceRejected {
                    self.device_token = None;
                }
                // What a person can put right is the shared credential.
                Some(self.refusal.take().unwrap_or(refusal))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: RefusalKind) -> Refusal {
        Refusal { code: format!("{kind:?}"), message: String::new(), kind }
    }

    #[test]
    fn a_device_that_has_a_token_presents_it_when_the_shared_credential_is_refused() {
        let mut login = Login::new(Some("device".into()));
        assert!(login.device_token().is_none(), "the shared one comes first");
        assert_eq!(login.refused(refusal(RefusalKind::BadCredentials)), None);
        assert!(login.device_token().is_some());
        assert_eq!(login.accepted(None), Credential::Device);
        assert!(login.device_token().is_none(), "and first again the next time");
    }

    #[test]
    fn without_such_a_token_and_for_other_refusals_there_is_nothing_else_to_try() {
        let bad = refusal(RefusalKind::BadCredentials);
        assert_eq!(Login::new(None).refused(bad.clone()), Some(bad));
        let other = refusal(RefusalKind::DeviceRejected);
        assert_eq!(Login::new(Some("device".into())).refused(other.clone()), Some(other));
    }

    #[test]
    fn when_both_are_refused_the_shared_one_is_told_and_the_tokens_end_is_remembered() {
        let mut login = Login::new(Some("device".into()));
        let bad = refusal(RefusalKind::BadCredentials);
        assert_eq!(login.refused(bad.clone()), None);
        assert_eq!(login.refused(refusal(RefusalKind::DeviceRejected)), Some(bad.clone()));
        assert_eq!(login.refused(bad.clone()), Some(bad), "it is not presented again");
    }

    #[test]
    fn a_token_that_is_issued_replaces_the_one_before() {
        let mut login = Login::new(None);
        assert_eq!(login.accepted(Some(&"new".into())), Credential::Shared);
        assert_eq!(login.refused(refusal(RefusalKind::BadCredentials)), None);
        assert!(login.device_token().is_some());
    }
}
