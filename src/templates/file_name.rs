//! Names of workspace files.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::api::agent::Role;

/// The name of one file in an agent's workspace.
///
/// Guarantees: one plain name that ends in `.md`, 4 to 64 ASCII letters, digits, `-`, `_` and `.`, starting with a letter,
/// a digit or `_`, and without `..`. So it is never a path, never hidden, and safe in a log, a marker or a map key.
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
    /// How to reach the API, and the heartbeat command.
    pub const TOOLS: Self = Self(Cow::Borrowed("TOOLS.md"));
    /// Who the agent is.
    pub const IDENTITY: Self = Self(Cow::Borrowed("IDENTITY.md"));
    /// How the agent behaves.
    pub const SOUL: Self = Self(Cow::Borrowed("SOUL.md"));
    /// What to do at each heartbeat.
    pub const HEARTBEAT: Self = Self(Cow::Borrowed("HEARTBEAT.md"));
    /// What to do on the first start.
    pub const BOOTSTRAP: Self = Self(Cow::Borrowed("BOOTSTRAP.md"));
    /// The agent's own notes.
    pub const MEMORY: Self = Self(Cow::Borrowed("MEMORY.md"));
    /// Whom the agent works for.
    pub const USER: Self = Self(Cow::Borrowed("USER.md"));
    /// How to work here; files that the gateway refuses are folded into it.
    pub const AGENTS: Self = Self(Cow::Borrowed("AGENTS.md"));
    /// The board, for its lead.
    pub const BOARD: Self = Self(Cow::Borrowed("BOARD.md"));
    /// How a lead decides.
    pub const APPROVALS: Self = Self(Cow::Borrowed("APPROVALS.md"));

    /// Parses a name.
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

    /// The place among all standard files; other names come after them.
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

/// The files that every agent of a kind gets, in the order in which they are written.
pub fn standard_files(kind: Role) -> &'static [FileName] {
    match kind {
        Role::Worker => &WORKER,
        Role::Lead => &LEAD,
        Role::Main => &MAIN,
    }
}

/// How many characters of the file a gateway puts before the model; it cuts what is longer.
pub fn injection_limit(name: &FileName) -> usize {
    if *name == FileName::USER { 4_000 } else { 20_000 }
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
    fn a_path_a_hidden_name_or_an_odd_character_is_refused() {
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
        let has = |kind, name| standard_files(kind).contains(&name);
        assert!(has(Role::Lead, FileName::BOARD) && has(Role::Lead, FileName::APPROVALS));
        assert!(!has(Role::Worker, FileName::BOARD) && !has(Role::Main, FileName::APPROVALS));
        assert!(has(Role::Worker, FileName::BOOTSTRAP) && !has(Role::Main, FileName::BOOTSTRAP));
    }

    #[test]
    fn the_user_file_has_a_limit_of_its_own() {
        assert_eq!(injection_limit(&FileName::USER), 4_000);
        assert_eq!(injection_limit(&FileName::AGENTS), 20_000);
    }

    proptest! {
        #[test]
        fn what_parses_is_never_a_path(name in "\\PC{0,70}") {
            if let Ok(parsed) = FileName::parse(&name) {
                prop_assert!(!parsed.as_str().contains(['/', '\\', '\0']));
                prop_assert!(!parsed.as_str().contains(".."));
            }
        }
    }
}
