//! The built-in templates, which apply where no other template is set.

use super::built_in_texts::BUILT_IN;
use super::engine::Template;
use super::file_name::{FileName, standard_files};
use crate::api::agent::Role;

/// The built-in template of a file for a role; `None` for a file outside [`standard_files`].
pub fn built_in(role: Role, name: &FileName) -> Option<Template<'static>> {
    if !standard_files(role).contains(name) {
        return None;
    }
    let built_in = BUILT_IN.iter().find(|built_in| built_in.file == *name)?;
    let name = match role {
        Role::Worker => built_in.worker,
        Role::Lead => built_in.lead,
        Role::Main => built_in.main,
    };
    Some(Template { name, source: built_in.source, built_in: Some(built_in.file.as_str()) })
}

#[cfg(test)]
#[path = "built_in_tests.rs"]
mod built_in_tests;
