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
mod template_lint;
mod variables;

pub use built_in::built_in;
pub use engine::{Budget, MAX_OUTPUT_BYTES, Template, render};
pub use error::RenderError;
pub use facts::{AgentFacts, BoardFacts, BoardRules, GatewayFacts, IdentityFacts, SoulText, UserFacts};
pub use file_name::{FileName, InvalidFileName, injection_limit, standard_files};
pub use fold::{fold, untrusted};
pub use variables::Variables;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod test_support;
