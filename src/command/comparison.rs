//! The result of a command that compares manifests with a gateway, as its exit status tells it.

use std::process::ExitCode;

use super::session::CommandError;

/// The exit status of a command that found a difference.
const DIFFERENT: u8 = 3;

/// Whether a command found a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Nothing differs, and nothing would be done.
    Equal,
    /// Something differs, or something would be done.
    Different,
}

impl Comparison {
    /// The exit status of the command.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Equal => 0,
            Self::Different => DIFFERENT,
        }
    }
}

impl From<Comparison> for ExitCode {
    fn from(comparison: Comparison) -> Self {
        Self::from(comparison.exit_status())
    }
}

/// The end of a comparison. A failure counts more than a difference: the comparison is incomplete.
pub(super) fn conclude_comparison(failures: usize, what: &str, is_different: bool) -> Result<Comparison, CommandError> {
    super::session::conclude(failures, what)?;
    Ok(if is_different { Comparison::Different } else { Comparison::Equal })
}
