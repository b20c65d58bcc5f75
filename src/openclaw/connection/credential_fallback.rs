//! Which credential a connection presents: the shared one, or, when the gateway does not take that, another that it may take.

use secrecy::SecretString;

use crate::openclaw::model::{Credential, Refusal, RefusalKind};
use crate::openclaw::settings::{Auth, ConnectionSettings, Presented};

/// What the next connection presents, and what was learned from those before.
#[derive(Debug)]
pub(crate) struct CredentialFallback {
    next: Credential,
    shared: Auth,
    device_token: Option<SecretString>,
    former: Option<Auth>,
    /// Why the shared credential was refused.
    refusal: Option<Refusal>,
}

impl CredentialFallback {
    pub(crate) fn new(settings: &ConnectionSettings) -> Self {
        Self {
            next: Credential::Shared,
            shared: settings.auth.clone(),
            device_token: settings.device_token.clone(),
            former: settings.former.clone(),
            refusal: None,
        }
    }

    /// What the next connection presents.
    pub(crate) fn presented(&self) -> Presented {
        match (self.next, &self.device_token, &self.former) {
            (Credential::Device, Some(token), _) => Presented::Device(token.clone()),
            (Credential::Former, _, Some(former)) => Presented::Shared(former.clone()),
            (Credential::Shared | Credential::Device | Credential::Former, _, _) => {
                Presented::Shared(self.shared.clone())
            }
        }
    }

    /// The gateway let the client in; by what. The shared credential is tried first again the next time, since somebody may
    /// have put it right.
    pub(crate) fn accepted(&mut self, issued: Option<&SecretString>) -> Credential {
        if let Some(issued) = issued {
            self.device_token = Some(issued.clone());
        }
        self.refusal = None;
        std::mem::take(&mut self.next)
    }

    /// The gateway did not let the client in. What that comes to; `None` when another credential is to be tried at once.
    pub(crate) fn refused(&mut self, refusal: Refusal) -> Option<Refusal> {
        let tried = std::mem::take(&mut self.next);
        if tried == Credential::Device && refusal.kind == RefusalKind::DeviceRejected {
            self.device_token = None;
        }
        // What a person can put right is the shared credential.
        let first = self.refusal.take().unwrap_or(refusal);
        match self.other(tried, &first.kind) {
            Some(other) => {
                self.next = other;
                self.refusal = Some(first);
                None
            }
            None => Some(first),
        }
    }

    /// What is tried after a credential was refused, where the shared one was refused so. Too many wrong credentials close the
    /// way for shared ones, and not for the tokens of devices (read in the source of 2026.9.6).
    fn other(&self, tried: Credential, why: &RefusalKind) -> Option<Credential> {
        let (bad, limited) = (*why == RefusalKind::BadCredentials, matches!(why, RefusalKind::RateLimited { .. }));
        let device = self.device_token.is_some().then_some(Credential::Device).filter(|_| bad || limited);
        let former = self.former.is_some().then_some(Credential::Former).filter(|_| bad);
        match tried {
            Credential::Shared => device.or(former),
            Credential::Device => former,
            Credential::Former => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::ExposeSecret;

    use super::*;

    fn login(device_token: Option<&str>, former: Option<&str>) -> CredentialFallback {
        CredentialFallback {
            next: Credential::Shared,
            shared: Auth::Token("shared".into()),
            device_token: device_token.map(SecretString::from),
            former: former.map(|former| Auth::Token(former.into())),
            refusal: None,
        }
    }

    fn presented(login: &CredentialFallback) -> String {
        match login.presented() {
            Presented::Shared(Auth::Token(secret) | Auth::Password(secret)) | Presented::Device(secret) => {
                secret.expose_secret().to_owned()
            }
        }
    }

    fn refusal(kind: RefusalKind) -> Refusal {
        Refusal { code: format!("{kind:?}"), message: String::new(), kind }
    }

    #[test]
    fn a_device_that_has_a_token_presents_it_when_the_shared_credential_is_refused() {
        let mut login = login(Some("device"), Some("former"));
        assert_eq!(presented(&login), "shared", "the shared one comes first");
        assert_eq!(login.refused(refusal(RefusalKind::BadCredentials)), None);
        assert_eq!(presented(&login), "device");
        assert_eq!(login.accepted(None), Credential::Device);
        assert_eq!(presented(&login), "shared", "and first again the next time");
    }

    #[test]
    fn what_worked_last_is_presented_when_nothing_else_is_taken() {
        let mut login = login(Some("device"), Some("former"));
        assert_eq!(login.refused(refusal(RefusalKind::BadCredentials)), None);
        assert_eq!(login.refused(refusal(RefusalKind::DeviceRejected)), None);
        assert_eq!(presented(&login), "former");
        assert_eq!(login.accepted(None), Credential::Former);
        assert_eq!(presented(&login), "shared");
    }

    #[test]
    fn where_shared_credentials_are_limited_only_the_devices_token_is_tried() {
        let limited = refusal(RefusalKind::RateLimited { retry_after: Some(Duration::from_mins(5)) });
        let mut both = login(Some("device"), Some("former"));
        assert_eq!(both.refused(limited.clone()), None);
        assert_eq!(presented(&both), "device");
        assert_eq!(
            both.refused(refusal(RefusalKind::Other)),
            Some(limited.clone()),
            "what the gateway asks for is kept to"
        );
        assert_eq!(login(None, Some("former")).refused(limited.clone()), Some(limited));
    }

    #[test]
    fn without_another_credential_and_for_other_refusals_there_is_nothing_else_to_try() {
        let bad = refusal(RefusalKind::BadCredentials);
        assert_eq!(login(None, None).refused(bad.clone()), Some(bad));
        let other = refusal(RefusalKind::DeviceRejected);
        assert_eq!(login(Some("device"), Some("former")).refused(other.clone()), Some(other));
    }

    #[test]
    fn when_all_are_refused_the_shared_one_is_told_and_the_tokens_end_is_remembered() {
        let mut login = login(Some("device"), None);
        let bad = refusal(RefusalKind::BadCredentials);
        assert_eq!(login.refused(bad.clone()), None);
        assert_eq!(login.refused(refusal(RefusalKind::DeviceRejected)), Some(bad.clone()));
        assert_eq!(login.refused(bad.clone()), Some(bad), "it is not presented again");
    }

    #[test]
    fn a_token_that_is_issued_replaces_the_one_before() {
        let mut login = login(None, None);
        assert_eq!(login.accepted(Some(&"new".into())), Credential::Shared);
        assert_eq!(login.refused(refusal(RefusalKind::BadCredentials)), None);
        assert_eq!(presented(&login), "new");
    }
}
