//! The rules to issue, rotate and retire an agent's token.
//!
//! A token is written to its Secret first, then to the status, then to the files. The token is accepted once the status records it.
//! The previous token is accepted until the agent has used the new token, or until the grace period after the delivery of the new token
//! has passed. Then the previous token is removed from the status, and from the Secret last.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::agent::{PreviousToken, TokenStatus};
use crate::api::requests::RequestKind;
use crate::core::agent::desired::Desired;

/// The observed state of an agent's token Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// The Secret does not exist, or holds no token.
    Missing,
    /// A Secret of that name belongs to another owner.
    Foreign,
    /// The Secret holds a token that Muster did not issue.
    Tampered,
    /// The Secret holds a token that Muster issued.
    Issued(IssuedToken),
}

/// The content of a token Secret with a token that Muster issued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuedToken {
    /// SHA-256 of the token.
    pub sha256: String,
    /// SHA-256 of the previous token, while the Secret keeps it.
    pub previous: Option<String>,
    /// The request that the token was issued for.
    pub issued_for: Option<Timestamp>,
    /// Whether the other keys of the Secret are current.
    pub is_current: bool,
}

/// The change of the token Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// A new token without a previous token, because there was no token, or the token is not trusted.
    Issue,
    /// A new token. The present token becomes the previous token.
    Rotate,
    /// The same token. The other keys are corrected.
    Repair,
    /// The previous token is removed.
    Retire,
}

/// The input of a rule.
struct RuleInput<'a> {
    desired: &'a Desired,
    state: &'a TokenState,
    status: Option<&'a TokenStatus>,
    now: Timestamp,
}

type Rule = fn(&RuleInput<'_>) -> Option<TokenChange>;

/// The first rule that applies decides.
const CHAIN: &[Rule] = &[missing, tampered, outdated, requested, expired, retired];

/// The change of the token Secret that is due now.
#[must_use]
pub fn change(
    desired: &Desired,
    state: &TokenState,
    status: Option<&TokenStatus>,
    now: Timestamp,
) -> Option<TokenChange> {
    let input = RuleInput { desired, state, status, now };
    CHAIN.iter().find_map(|rule| rule(&input))
}

impl<'a> RuleInput<'a> {
    fn issued(&self) -> Option<&'a IssuedToken> {
        match self.state {
            TokenState::Issued(issued) => Some(issued),
            TokenState::Missing | TokenState::Foreign | TokenState::Tampered => None,
        }
    }

    /// The Secret's token, if the status records it and no rotation is under way.
    fn at_rest(&self) -> Option<(&'a IssuedToken, &'a TokenStatus)> {
        let status = self.status?;
        let issued = self.issued().filter(|issued| issued.sha256 == status.sha256)?;
        status.previous.is_none().then_some((issued, status))
    }
}

fn missing(input: &RuleInput<'_>) -> Option<TokenChange> {
    (*input.state == TokenState::Missing).then_some(TokenChange::Issue)
}

fn tampered(input: &RuleInput<'_>) -> Option<TokenChange> {
    (*input.state == TokenState::Tampered).then_some(TokenChange::Issue)
}

fn outdated(input: &RuleInput<'_>) -> Option<TokenChange> {
    (!input.issued()?.is_current).then_some(TokenChange::Repair)
}

/// One rotation ends before the next rotation begins: an agent without the last token would lose access.
fn requested(input: &RuleInput<'_>) -> Option<TokenChange> {
    let (issued, _) = input.at_rest()?;
    let asked = input.desired.requests.due(RequestKind::Rotate)?;
    (issued.issued_for < Some(asked)).then_some(TokenChange::Rotate)
}

fn expired(input: &RuleInput<'_>) -> Option<TokenChange> {
    input.at_rest()?;
    (expires(input.desired, input.status)? <= input.now).then_some(TokenChange::Rotate)
}

fn retired(input: &RuleInput<'_>) -> Option<TokenChange> {
    let (issued, _) = input.at_rest()?;
    issued.previous.is_some().then_some(TokenChange::Retire)
}

/// The time at which the age of the token requires a rotation.
fn expires(desired: &Desired, status: Option<&TokenStatus>) -> Option<Timestamp> {
    let issued = status?.issued_at.as_ref()?.0;
    issued.saturating_add(desired.rotation.interval?).ok()
}

/// The time of the next change of the token, without other triggers.
#[must_use]
pub fn due(desired: &Desired, status: Option<&TokenStatus>) -> Option<Timestamp> {
    let ends = status.and_then(|s| s.previous.as_ref()?.valid_until.as_ref().map(|t| t.0));
    ends.or_else(|| expires(desired, status))
}

/// Whether the status records the token in the Secret. Until then the agent does not get the token, because it is not accepted yet.
#[must_use]
pub fn is_recorded(state: &TokenState, status: Option<&TokenStatus>) -> bool {
    match state {
        TokenState::Issued(issued) => status.is_some_and(|s| s.sha256 == issued.sha256),
        TokenState::Missing | TokenState::Foreign | TokenState::Tampered => false,
    }
}

/// The status of a revoked token. Neither the token nor the previous token is accepted.
#[must_use]
pub fn revoked(old: &TokenStatus) -> TokenStatus {
    TokenStatus { secret_name: old.secret_name.clone(), revision: old.revision, ..TokenStatus::default() }
}

/// The input of the status of the token.
#[derive(Clone, Copy, Debug)]
pub struct TokenStatusInput<'a> {
    /// The token Secret.
    pub state: &'a TokenState,
    /// The status so far.
    pub old: Option<&'a TokenStatus>,
    /// The SHA-256 of the token that the agent last used for the first time, and the time of that call.
    pub confirmed: Option<&'a (String, Timestamp)>,
    /// Whether the agent has the token in the Secret.
    pub delivered: bool,
    /// The time.
    pub now: Timestamp,
}

impl TokenStatusInput<'_> {
    /// The status of the token.
    ///
    /// # Guarantees
    /// A token that was removed from its Secret, or was replaced there by hand, is no longer accepted. The previous token stays
    /// accepted until the agent has the current token.
    #[must_use]
    pub fn status(&self, desired: &Desired) -> Option<TokenStatus> {
        let secret_name = desired.token_secret.clone();
        let old = self.old.cloned().unwrap_or_default();
        match self.state {
            // The spec names another Secret. Until the new Secret holds a token, the agent has only the old token.
            TokenState::Missing if self.names_other_secret(desired) => self.old.cloned(),
            TokenState::Foreign | TokenState::Missing | TokenState::Tampered => {
                self.old.map(|old| TokenStatus { secret_name, ..revoked(old) })
            }
            TokenState::Issued(issued) if issued.sha256 == old.sha256 => {
                Some(self.updated(TokenStatus { secret_name, ..old }, desired))
            }
            TokenState::Issued(issued) => {
                let moved = self.names_other_secret(desired).then(|| old.sha256.clone());
                let previous = issued.previous.clone().filter(|sha256| *sha256 == old.sha256).or(moved);
                Some(TokenStatus {
                    secret_name,
                    sha256: issued.sha256.clone(),
                    revision: old.revision + 1,
                    issued_at: Some(Time(self.now)),
                    confirmed_at: None,
                    previous: previous.map(|sha256| PreviousToken { sha256, valid_until: None }),
                })
            }
        }
    }

    /// Whether the spec names another Secret than the Secret of the accepted token.
    fn names_other_secret(&self, desired: &Desired) -> bool {
        self.old.is_some_and(|old| old.secret_name != desired.token_secret && !old.sha256.is_empty())
    }

    /// The status of a token that is already recorded, with its confirmation and the expiry of the previous token.
    fn updated(&self, mut token: TokenStatus, desired: &Desired) -> TokenStatus {
        if token.confirmed_at.is_none()
            && let Some((_, at)) = self.confirmed.filter(|(sha256, _)| *sha256 == token.sha256)
        {
            token.confirmed_at = Some(Time(*at));
        }
        let grace = desired.rotation.grace_period;
        if let Some(previous) = &mut token.previous
            && previous.valid_until.is_none()
            && self.delivered
        {
            previous.valid_until = Some(Time(self.now.saturating_add(grace).unwrap_or(Timestamp::MAX)));
        }
        let over = |p: &PreviousToken| p.valid_until.as_ref().is_some_and(|until| until.0 <= self.now);
        let confirmed = token.confirmed_at.is_some();
        token.previous = token.previous.filter(|previous| !confirmed && !over(previous));
        token
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
