//! When an agent's token is issued, replaced and retired.
//!
//! A token lives in its Secret first, then in the status (from then on it is accepted), then in the files. The one before
//! it is accepted until the agent has used the new one, or until the grace period has passed since the new one was
//! delivered; then it is dropped from the status, and from the Secret last.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::agent::{PreviousToken, TokenStatus};
use crate::api::requests::RequestKind;
use crate::core::agent::desired::Desired;

/// An agent's token Secret as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// There is no such Secret, or no token in it.
    Missing,
    /// A Secret of that name belongs to somebody else.
    Foreign,
    /// The token in it is not the one that Muster put there.
    Tampered,
    /// It holds a token that Muster put there.
    Issued(IssuedToken),
}

/// A token Secret that holds a token of Muster's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuedToken {
    /// SHA-256 of the token.
    pub sha256: String,
    /// SHA-256 of the token before it, while that is kept.
    pub previous: Option<String>,
    /// The request that the token was issued for.
    pub issued_for: Option<Timestamp>,
    /// Whether the other keys say what they should.
    pub is_current: bool,
}

/// What is to be done to the token Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// A new token, and none before it: there was none, or it is not to be trusted.
    Issue,
    /// A new token; the one that is there becomes the one before.
    Rotate,
    /// The same token; the other keys are put right.
    Repair,
    /// The token before is dropped.
    Retire,
}

/// What a rule goes by.
struct RuleInput<'a> {
    desired: &'a Desired,
    state: &'a TokenState,
    status: Option<&'a TokenStatus>,
    now: Timestamp,
}

type Rule = fn(&RuleInput<'_>) -> Option<TokenChange>;

/// The first rule that applies decides.
const CHAIN: &[Rule] = &[missing, tampered, outdated, requested, expired, retired];

/// What is to be done to the token Secret now.
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

    /// The Secret's token, once the status knows it, and when no rotation is under way.
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

/// One rotation is ended before the next is begun: an agent that has not heard of the last one would be locked out.
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

/// When the token is to be replaced for its age.
fn expires(desired: &Desired, status: Option<&TokenStatus>) -> Option<Timestamp> {
    let issued = status?.issued_at.as_ref()?.0;
    issued.saturating_add(desired.rotation.interval?).ok()
}

/// When something is to be done about the token next, if nothing else happens.
#[must_use]
pub fn due(desired: &Desired, status: Option<&TokenStatus>) -> Option<Timestamp> {
    let ends = status.and_then(|s| s.previous.as_ref()?.valid_until.as_ref().map(|t| t.0));
    ends.or_else(|| expires(desired, status))
}

/// Whether the status knows the token that is in the Secret. Until then nobody is given it: it would not be accepted.
#[must_use]
pub fn is_recorded(state: &TokenState, status: Option<&TokenStatus>) -> bool {
    match state {
        TokenState::Issued(issued) => status.is_some_and(|s| s.sha256 == issued.sha256),
        TokenState::Missing | TokenState::Foreign | TokenState::Tampered => false,
    }
}

/// The status of a token that is no longer accepted, nor is the one before it.
#[must_use]
pub fn revoked(old: &TokenStatus) -> TokenStatus {
    TokenStatus { secret_name: old.secret_name.clone(), revision: old.revision, ..TokenStatus::default() }
}

/// What the status says of the token.
#[derive(Clone, Copy, Debug)]
pub struct TokenStatusInput<'a> {
    /// The token Secret.
    pub state: &'a TokenState,
    /// What the status said so far.
    pub old: Option<&'a TokenStatus>,
    /// The token that the agent was seen to use for the first time, and when.
    pub confirmed: Option<&'a (String, Timestamp)>,
    /// Whether the agent has been given the token that is in the Secret.
    pub delivered: bool,
    /// The time.
    pub now: Timestamp,
}

impl TokenStatusInput<'_> {
    /// What the status is to say of the token.
    ///
    /// # Guarantees
    /// A token that is gone from its Secret, or was replaced there by hand, is not accepted any more. The one before the
    /// current one stays accepted while nobody has been given the current one.
    #[must_use]
    pub fn status(&self, desired: &Desired) -> Option<TokenStatus> {
        let secret_name = desired.token_secret.clone();
        let old = self.old.cloned().unwrap_or_default();
        match self.state {
            // Another Secret is named; until the new one holds a token the agent has no other.
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

    /// Whether the spec names another Secret than that of a token which works.
    fn names_other_secret(&self, desired: &Desired) -> bool {
        self.old.is_some_and(|old| old.secret_name != desired.token_secret && !old.sha256.is_empty())
    }

    /// A token that the status knew before: confirmed, delivered, and in time without the one before it.
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
