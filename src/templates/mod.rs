//! Templates and workspace files: values in, text out.
//!
//! This layer knows the names of workspace files, the variables of templates, the built-in templates in `templates/`, and the
//! API types that give the variables their values. It does not know the Kubernetes client, the OpenClaw client or the source of
//! a template. Pure: no I/O, no clock, no randomness. A template reads only its variables.

mod built_in;
mod built_in_texts;
mod engine;
mod error;
mod file_name;
mod filters;
mod fold;
mod template_lint;
mod variables;
mod verbatim;

pub use built_in::built_in;
pub use engine::{Budget, MAX_OUTPUT_BYTES, Template, render};
pub use error::RenderError;
pub use file_name::{FileName, InvalidFileName, standard_files};
pub use fold::{fold, untrusted};
pub use variables::{AgentVariables, SoulText, Variables};
pub use verbatim::verbatim;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod test_support;
