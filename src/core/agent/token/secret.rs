//! An agent's token Secret, as it was read.

use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use super::rules::TokenState;

/// An agent's token Secret.
#[derive(Clone, Debug)]
pub struct Token {
    /// What was found.
    pub state: TokenState,
    /// The token, when there is one that Muster put there.
    pub value: Option<SecretString>,
    pub(crate) secret: Option<Secret>,
}

impl Token {
    /// Whether there is a Secret that belongs to the agent.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.secret.is_some()
    }
}
