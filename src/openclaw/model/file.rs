//! Workspace files as the gateway shows them.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::readers::lax;
use crate::hash::sha256_hex;

/// Names of workspace files that some version accepts.
pub const WORKSPACE_FILES: [&str; 10] = [
    "AGENTS.md",
    "SOUL.md",
    "TOOLS.md",
    "IDENTITY.md",
    "USER.md",
    "HEARTBEAT.md",
    "BOOTSTRAP.md",
    "MEMORY.md",
    "BOARD.md",
    "APPROVALS.md",
];

/// A workspace file as the gateway lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name.
    pub name: String,
    /// Whether it is not there.
    pub missing: bool,
    /// Its size in bytes.
    pub size: i64,
    /// Time of its last change, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// A workspace file with its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileContent {
    /// The file.
    pub info: FileInfo,
    /// Its text; what is not UTF-8 is replaced in it.
    pub text: String,
    /// The SHA-256 of its bytes, where the gateway gives it.
    pub hash: Option<String>,
}

/// A workspace file that the list leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnlistedFile {
    /// It is not there.
    Missing,
    /// It was read.
    Read(FileContent),
    /// It is too long to be read.
    Long(FileInfo),
}

impl FileContent {
    /// The SHA-256 of its bytes: the gateway's own word, or else that of the text, which differs for what is not UTF-8.
    #[must_use]
    pub fn sha256(&self) -> String {
        self.hash.clone().unwrap_or_else(|| sha256_hex(self.text.as_bytes()))
    }
}

/// An answer about a workspace file: newer gateways hash it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct OfFile {
    #[serde(deserialize_with = "lax")]
    file: Option<Hashed>,
}

#[derive(Deserialize)]
struct Hashed {
    #[serde(rename = "hash")]
    _hash: IgnoredAny,
}

impl OfFile {
    pub(crate) fn tells_hash(&self) -> bool {
        self.file.is_some()
    }
}
