//! The built-in templates, which apply where no other template is set.

use super::engine::Template;
use super::file_name::{FileName, standard_files};
use crate::api::agent::Role;

/// One template for all roles, with a name for each role.
struct BuiltIn {
    file: FileName,
    worker: &'static str,
    lead: &'static str,
    main: &'static str,
    source: &'static str,
}

macro_rules! built_in {
    ($constant:ident, $file:literal) => {
        BuiltIn {
            file: FileName::$constant,
            worker: concat!("built-in worker/", $file),
            lead: concat!("built-in lead/", $file),
            main: concat!("built-in main/", $file),
            source: include_str!(concat!("../../templates/", $file, ".j2")),
        }
    };
}

static BUILT_IN: [BuiltIn; 10] = [
    built_in!(TOOLS, "TOOLS.md"),
    built_in!(IDENTITY, "IDENTITY.md"),
    built_in!(SOUL, "SOUL.md"),
    built_in!(HEARTBEAT, "HEARTBEAT.md"),
    built_in!(BOOTSTRAP, "BOOTSTRAP.md"),
    built_in!(MEMORY, "MEMORY.md"),
    built_in!(USER, "USER.md"),
    built_in!(AGENTS, "AGENTS.md"),
    built_in!(BOARD, "BOARD.md"),
    built_in!(APPROVALS, "APPROVALS.md"),
];

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
    Some(Template { name, source: built_in.source })
}

#[cfg(test)]
#[path = "built_in_tests.rs"]
mod built_in_tests;
