//! Templates and workspace files: values in, text out.
//!
//! This layer knows the names of the files of a workspace, the variables that a template may use and the built-in
//! templates in `templates/`. It knows nothing of Kubernetes, of the gateway or of where a template came from, and it is
//! pure: no I/O, no clock, no randomness. A template can read only the variables that it is given.

mod built_in;
mod engine;
mod error;
mod facts;
mod file_name;
mod filters;
mod fold;
mod source;
mod variables;

pub use built_in::built_in;
pub use engine::{Budget, MAX_OUTPUT_BYTES, Template, render};
pub use error::RenderError;
pub use facts::{AgentFacts, BoardFacts, BoardRules, GatewayFacts, IdentityFacts, RoleSoul, UserFacts};
pub use file_name::{FileName, InvalidFileName, injection_limit, standard_files};
pub use fold::{fold, untrusted};
pub use variables::Variables;

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// What an agent is on its gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Works on a board.
    Worker,
    /// Leads a board.
    Lead,
    /// Looks after the gateway as a whole.
    Main,
}

/// The SHA-256 of `text` as lower-case hexadecimal digits.
pub fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod test_support;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_text_is_its_sha256_in_lower_case_hex() {
        assert_eq!(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
