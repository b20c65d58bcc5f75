//! The texts of the built-in templates.

use super::file_name::FileName;

/// One template for all roles, with a name for each role.
pub(super) struct BuiltIn {
    pub(super) file: FileName,
    pub(super) worker: &'static str,
    pub(super) lead: &'static str,
    pub(super) main: &'static str,
    pub(super) source: &'static str,
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

pub(super) static BUILT_IN: [BuiltIn; 10] = [
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

/// The files and the texts.
pub(super) fn built_in_sources() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN.iter().map(|built_in| (built_in.file.as_str(), built_in.source))
}
