//! Whose a token is, and what its user may do. There is one person, who may do everything.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::request::Review;

/// The name of the one person.
const ADMIN: &str = "admin";

/// Whether a token is the administrator's.
pub(crate) fn is_admin(admin: Option<&SecretString>, token: &str) -> bool {
    let Some(admin) = admin else { return false };
    let (admin, token) = (admin.expose_secret().as_bytes(), token.as_bytes());
    // Every byte is compared, so that the time tells nothing about them.
    admin.len() == token.len() && admin.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// The answer to a review.
pub(crate) fn answer(review: Review, mut question: Value, admin: Option<&SecretString>) -> Answer {
    let asked = |field: &str| question["spec"].get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    question["status"] = match review {
        Review::Token if is_admin(admin, &asked("token")) => {
            json!({ "authenticated": true, "user": { "username": ADMIN, "groups": ["system:masters", "system:authenticated"] } })
        }
        Review::Token => json!({ "user": {}, "error": "the token is not the administrator's" }),
        Review::Access if asked("user") == ADMIN => {
            json!({ "allowed": true, "reason": "the administrator may do everything" })
        }
        Review::Access => json!({ "allowed": false, "reason": "only the administrator has rights" }),
    };
    Answer { code: 201, body: question, warnings: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_administrators() {
        let admin = SecretString::from("secret");
        assert!(is_admin(Some(&admin), "secret"));
        for other in ["", "secre", "secret2", "secreT"] {
            assert!(!is_admin(Some(&admin), other), "{other}");
        }
        assert!(!is_admin(None, ""));
    }
}
