//! The choice of the credential that a connection presents: the shared credential, or a fallback after the gateway refused it.

use secrecy::SecretString;

use super::redaction::Redactor;
use crate::openclaw::model::{Credential, Refusal, RefusalKind};
use crate::openclaw::settings::{Auth, ConnectionSettings, PresentedCredential};

/// The credential of the next connection, and the results of the previous connections.
#[derive(Debug)]
pub(crate) struct CredentialFallback {
    next: Credential,
    shared: Auth,
    device_token: Option<SecretString>,
    previous: Option<Auth>,
    /// The refusal of the shared credential.
    refusal: Option<Refusal>,
}

impl CredentialFallback {
    pub(crate) fn new(settings: &ConnectionSettings) -> Self {
        Self {
            next: Credential::Shared,
            shared: settings.auth.clone(),
            device_token: settings.device_token.clone(),
            previous: settings.previous.clone(),
            refusal: None,
        }
    }

    /// The credential of the next connection.
    pub(crate) fn presented(&self) -> PresentedCredential {
        match (self.next, &self.device_token, &self.previous) {
            (Credential::Device, Some(token), _) => PresentedCredential::Device(token.clone()),
            (Credential::Previous, _, Some(previous)) => PresentedCredential::Shared(previous.clone()),
            (Credential::Shared | Credential::Device | Credential::Previous, _, _) => {
                PresentedCredential::Shared(self.shared.clone())
            }
        }
    }

    /// A redactor of all credentials.
    pub(crate) fn redactor(&self) -> Redactor {
        let shared = [Some(&self.shared), self.previous.as_ref()].into_iter().flatten().map(Auth::secret);
        Redactor::new(shared.chain(&self.device_token))
    }

    /// Records that the gateway accepted the client, and returns the accepted credential. The next connection starts with the
    /// shared credential, which a person may have corrected.
    pub(crate) fn accepted(&mut self, issued: Option<&SecretString>) -> Credential {
        if let Some(issued) = issued {
            self.device_token = Some(issued.clone());
        }
        self.refusal = None;
        std::mem::take(&mut self.next)
    }

    /// Records a refusal. Returns the refusal to report; `None` when the next connection presents another credential at once.
    pub(crate) fn refused(&mut self, refusal: Refusal) -> Option<Refusal> {
        let refused = std::mem::take(&mut self.next);
        if refused == Credential::Device && refusal.kind == RefusalKind::DeviceRejected {
            self.device_token = None;
        }
        // The report names the refusal of the shared credential, which a person can correct.
        let first = self.refusal.take().unwrap_or(refusal);
        match self.next_after(refused, &first.kind) {
            Some(other) => {
                self.next = other;
                self.refusal = Some(first);
                None
            }
            None => Some(first),
        }
    }

    /// The credential after `refused`, given the refusal of the shared credential. The rate limit of wrong credentials blocks
    /// shared credentials and not device tokens (source of 2026.9.6, `docs/gateway-facts.md#refused-connections`).
    fn next_after(&self, refused: Credential, shared: &RefusalKind) -> Option<Credential> {
        let (bad, limited) =
            (*shared == RefusalKind::BadCredentials, matches!(shared, RefusalKind::RateLimited { .. }));
        let device = self.device_token.is_some().then_some(Credential::Device).filter(|_| bad || limited);
        let previous = self.previous.is_some().then_some(Credential::Previous).filter(|_| bad);
        match refused {
            Credential::Shared => device.or(previous),
            Credential::Device => previous,
            Credential::Previous => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::ExposeSecret;

    use super::*;

    fn fallback(device_token: Option<&str>, previous: Option<&str>) -> CredentialFallback {
        CredentialFallback {
            next: Credential::Shared,
            shared: Auth::Token("shared".into()),
            device_token: device_token.map(SecretString::from),
            previous: previous.map(|previous| Auth::Token(previous.into())),
            refusal: None,
        }
    }

    fn presented(fallback: &CredentialFallback) -> String {
        match fallback.presented() {
            PresentedCredential::Shared(Auth::Token(secret) | Auth::Password(secret))
            | PresentedCredential::Device(secret) => secret.expose_secret().to_owned(),
        }
    }

    fn refusal(kind: RefusalKind) -> Refusal {
        Refusal { code: format!("{kind:?}"), message: String::new(), kind }
    }

    #[test]
    fn after_a_refusal_of_the_shared_credential_the_device_token_is_presented() {
        let mut fallback = fallback(Some("device"), Some("previous"));
        assert_eq!(presented(&fallback), "shared", "the shared credential comes first");
        assert_eq!(fallback.refused(refusal(RefusalKind::BadCredentials)), None);
        assert_eq!(presented(&fallback), "device");
        assert_eq!(fallback.accepted(None), Credential::Device);
        assert_eq!(presented(&fallback), "shared", "the next connection starts with the shared credential");
    }

    #[test]
    fn after_a_refusal_of_both_the_previous_credential_is_presented() {
        let mut fallback = fallback(Some("device"), Some("previous"));
        assert_eq!(fallback.refused(refusal(RefusalKind::BadCredentials)), None);
        assert_eq!(fallback.refused(refusal(RefusalKind::DeviceRejected)), None);
        assert_eq!(presented(&fallback), "previous");
        assert_eq!(fallback.accepted(None), Credential::Previous);
        assert_eq!(presented(&fallback), "shared");
    }

    #[test]
    fn under_a_rate_limit_only_the_device_token_is_presented() {
        let limited = refusal(RefusalKind::RateLimited { retry_after: Some(Duration::from_mins(5)) });
        let mut both = fallback(Some("device"), Some("previous"));
        assert_eq!(both.refused(limited.clone()), None);
        assert_eq!(presented(&both), "device");
        assert_eq!(
            both.refused(refusal(RefusalKind::Other)),
            Some(limited.clone()),
            "the wait of the rate limit is reported"
        );
        assert_eq!(fallback(None, Some("previous")).refused(limited.clone()), Some(limited));
    }

    #[test]
    fn without_a_fallback_and_for_other_refusals_the_refusal_is_reported() {
        let bad = refusal(RefusalKind::BadCredentials);
        assert_eq!(fallback(None, None).refused(bad.clone()), Some(bad));
        let other = refusal(RefusalKind::DeviceRejected);
        assert_eq!(fallback(Some("device"), Some("previous")).refused(other.clone()), Some(other));
    }

    #[test]
    fn after_a_refusal_of_all_the_shared_credential_is_reported_and_the_token_is_dropped() {
        let mut fallback = fallback(Some("device"), None);
        let bad = refusal(RefusalKind::BadCredentials);
        assert_eq!(fallback.refused(bad.clone()), None);
        assert_eq!(fallback.refused(refusal(RefusalKind::DeviceRejected)), Some(bad.clone()));
        assert_eq!(fallback.refused(bad.clone()), Some(bad), "the dropped token is not presented again");
    }

    #[test]
    fn an_issued_token_replaces_the_stored_token() {
        let mut fallback = fallback(None, None);
        assert_eq!(fallback.accepted(Some(&"new".into())), Credential::Shared);
        assert_eq!(fallback.refused(refusal(RefusalKind::BadCredentials)), None);
        assert_eq!(presented(&fallback), "new");
    }
}
