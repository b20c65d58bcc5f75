//! Names of workspace files.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::api::agent::Role;

/// The name of one file in an agent's workspace.
///
/// # Guarantees
/// The name ends in `.md`, has 4 to 64 ASCII letters, digits, `-`, `_` and `.`, starts with a letter, a digit or `_`, and does
/// not contain `..`. So the name is not a path and not hidden, and is safe in a log, a marker and a map key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Cow<'static, str>);

/// Why a text is not the name of a workspace file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFileName {
    /// The name has no characters.
    #[error("a file name must not be empty")]
    Empty,
    /// The name has more than 64 bytes.
    #[error("a file name has at most {} bytes", FileName::MAX_BYTES)]
    TooLong,
    /// The name has a character that is not allowed, a leading `.` or `-`, or `..`.
    #[error(
        "{0:?} is not one plain file name: use letters, digits, `-`, `_` and `.`, start with a letter or digit, and leave out `..`"
    )]
    NotPlain(String),
    /// The name does not end in `.md`.
    #[error("{0:?} does not end in .md")]
    NotMarkdown(String),
}

impl FileName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 64;
    /// The API and the heartbeat command.
    pub const TOOLS: Self = Self(Cow::Borrowed("TOOLS.md"));
    /// The agent's identity.
    pub const IDENTITY: Self = Self(Cow::Borrowed("IDENTITY.md"));
    /// The agent's behaviour.
    pub const SOUL: Self = Self(Cow::Borrowed("SOUL.md"));
    /// The steps of each heartbeat.
    pub const HEARTBEAT: Self = Self(Cow::Borrowed("HEARTBEAT.md"));
    /// The steps of the first start.
    pub const BOOTSTRAP: Self = Self(Cow::Borrowed("BOOTSTRAP.md"));
    /// The agent's own notes.
    pub const MEMORY: Self = Self(Cow::Borrowed("MEMORY.md"));
    /// The person for whom the agent works.
    pub const USER: Self = Self(Cow::Borrowed("USER.md"));
    /// The way of working. Files that the gateway refuses become sections of this file.
    pub const AGENTS: Self = Self(Cow::Borrowed("AGENTS.md"));
    /// The board, for its lead.
    pub const BOARD: Self = Self(Cow::Borrowed("BOARD.md"));
    /// The decisions of a lead.
    pub const APPROVALS: Self = Self(Cow::Borrowed("APPROVALS.md"));

    /// Parses a name.
    ///
    /// # Errors
    /// The text is not the name of a workspace file.
    pub fn parse(name: &str) -> Result<Self, InvalidFileName> {
        if name.is_empty() {
            return Err(InvalidFileName::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidFileName::TooLong);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !name.bytes().all(allowed) || name.starts_with(['.', '-']) || name.contains("..") {
            return Err(InvalidFileName::NotPlain(name.to_owned()));
        }
        if name.strip_suffix(".md").is_none() {
            return Err(InvalidFileName::NotMarkdown(name.to_owned()));
        }
        Ok(Self(Cow::Owned(name.to_owned())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without `.md`.
    pub fn stem(&self) -> &str {
        self.0.strip_suffix(".md").unwrap_or(&self.0)
    }

    /// The position among the standard files. Other names come after them.
    pub(crate) fn rank(&self) -> usize {
        standard_files(Role::Lead).iter().position(|standard| standard == self).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for FileName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = InvalidFileName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

const LEAD: [FileName; 10] = [
    FileName::TOOLS,
    FileName::IDENTITY,
    FileName::SOUL,
    FileName::HEARTBEAT,
    FileName::BOOTSTRAP,
    FileName::MEMORY,
    FileName::USER,
    FileName::AGENTS,
    FileName::BOARD,
    FileName::APPROVALS,
];
const WORKER: [FileName; 8] = [
    FileName::TOOLS,
    FileName::IDENTITY,
    FileName::SOUL,
    FileName::HEARTBEAT,
    FileName::BOOTSTRAP,
    FileName::MEMORY,
    FileName::USER,
    FileName::AGENTS,
];
const MAIN: [FileName; 7] = [
    FileName::TOOLS,
    FileName::IDENTITY,
    FileName::SOUL,
    FileName::HEARTBEAT,
    FileName::MEMORY,
    FileName::USER,
    FileName::AGENTS,
];

/// The files of each agent of a role, in the order of the writes.
pub fn standard_files(role: Role) -> &'static [FileName] {
    match role {
        Role::Worker => &WORKER,
        Role::Lead => &LEAD,
        Role::Main => &MAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_markdown_name_is_a_file_name() {
        for name in ["TOOLS.md", "notes-2.md", "a_b.c.md", "_x.md", "7.md"] {
            assert_eq!(FileName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_path_a_hidden_name_and_a_special_character_are_refused() {
        for name in [
            "",
            ".md",
            "..md",
            "../TOOLS.md",
            "a/b.md",
            "a\\b.md",
            "a..md",
            "a\0.md",
            "a\n.md",
            "a b.md",
            "-x.md",
            ".x.md",
            "x.MD",
            "x.txt",
            "x.md/",
            "\u{e9}.md",
            "a-->.md",
        ] {
            assert!(FileName::parse(name).is_err(), "{name:?}");
        }
        let at_the_limit = format!("{}.md", "a".repeat(61));
        assert!(FileName::parse(&at_the_limit).is_ok());
        assert!(FileName::parse(&format!("a{at_the_limit}")).is_err());
    }

    #[test]
    fn every_standard_name_parses_to_itself() {
        for name in standard_files(Role::Lead) {
            assert_eq!(FileName::parse(name.as_str()).as_ref(), Ok(name));
        }
    }

    #[test]
    fn a_lead_has_board_and_approvals_and_a_main_agent_has_no_bootstrap() {
        let has = |role, name| standard_files(role).contains(&name);
        assert!(has(Role::Lead, FileName::BOARD) && has(Role::Lead, FileName::APPROVALS));
        assert!(!has(Role::Worker, FileName::BOARD) && !has(Role::Main, FileName::APPROVALS));
        assert!(has(Role::Worker, FileName::BOOTSTRAP) && !has(Role::Main, FileName::BOOTSTRAP));
    }

    proptest! {
        #[test]
        fn a_parsed_name_is_never_a_path(name in "\\PC{0,70}") {
            if let Ok(parsed) = FileName::parse(&name) {
                prop_assert!(!parsed.as_str().contains(['/', '\\', '\0']));
                prop_assert!(!parsed.as_str().contains(".."));
            }
        }
    }
}
