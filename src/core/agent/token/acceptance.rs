//! The acceptance of an agent's token.

use jiff::Timestamp;

use crate::api::agent::{PreviousToken, TokenStatus};

/// The acceptance of a token by its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAcceptance {
    /// The token is the agent's current token.
    Current {
        /// Whether this call is the first one with the token.
        first: bool,
    },
    /// The token was replaced and is still accepted.
    Previous,
    /// The token is not accepted.
    Refused,
}

/// The acceptance of the token with this SHA-256 at `now`.
///
/// `confirmed` is the SHA-256 of the token that the agent last used for the first time. From that call on, the previous token is
/// refused, even before the status records the call.
#[must_use]
pub fn evaluate(token: &TokenStatus, confirmed: Option<&str>, sha256: &str, now: Timestamp) -> TokenAcceptance {
    let used =
        token.confirmed_at.is_some() || confirmed.is_some_and(|confirmed| constant_time_eq(confirmed, &token.sha256));
    if constant_time_eq(&token.sha256, sha256) {
        return TokenAcceptance::Current { first: !used };
    }
    let in_time = |p: &&PreviousToken| p.valid_until.as_ref().is_none_or(|until| now < until.0);
    match token.previous.as_ref().filter(in_time) {
        Some(previous) if !used && constant_time_eq(&previous.sha256, sha256) => TokenAcceptance::Previous,
        Some(_) | None => TokenAcceptance::Refused,
    }
}

/// Whether two hashes are equal. The comparison takes constant time.
#[must_use]
pub fn constant_time_eq(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |different, (x, y)| different | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn rotating(valid_until: Option<i64>) -> TokenStatus {
        let valid_until = valid_until.map(|at| Time(Timestamp::from_second(at).unwrap()));
        let previous = Some(PreviousToken { sha256: "old".into(), valid_until });
        TokenStatus { sha256: "new".into(), previous, ..TokenStatus::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_previous_token_is_accepted_until_its_expiry() {
        let token = rotating(Some(10));
        assert_eq!(evaluate(&token, None, "old", at(9)), TokenAcceptance::Previous);
        assert_eq!(evaluate(&token, None, "old", at(10)), TokenAcceptance::Refused);
        assert_eq!(evaluate(&rotating(None), None, "old", at(10)), TokenAcceptance::Previous);
    }

    #[test]
    fn the_previous_token_is_refused_once_the_new_one_was_used() {
        let token = rotating(None);
        assert_eq!(evaluate(&token, None, "new", at(0)), TokenAcceptance::Current { first: true });
        assert_eq!(evaluate(&token, Some("new"), "new", at(0)), TokenAcceptance::Current { first: false });
        assert_eq!(evaluate(&token, Some("new"), "old", at(0)), TokenAcceptance::Refused);
        assert_eq!(
            evaluate(&token, Some("old"), "old", at(0)),
            TokenAcceptance::Previous,
            "a confirmation of the previous token does not count"
        );
        let recorded = TokenStatus { confirmed_at: Some(Time(at(0))), ..token };
        assert_eq!(evaluate(&recorded, None, "old", at(0)), TokenAcceptance::Refused);
        assert_eq!(evaluate(&recorded, None, "other", at(0)), TokenAcceptance::Refused);
    }

    #[test]
    fn hashes_are_equal_only_as_a_whole() {
        assert!(constant_time_eq("abc", "abc"));
        assert!(!constant_time_eq("abc", "abd") && !constant_time_eq("abc", "ab") && !constant_time_eq("", "a"));
    }
}
