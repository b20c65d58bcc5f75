//! Workspace files in the gateway's form.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::readers::{List, lax};
use super::text::word;
use crate::hash::sha256_hex;
use crate::openclaw::limits;

/// Names of workspace files that at least one version may accept. The informer probes each name.
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

/// A row of the gateway's file list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileInfo {
    /// The name.
    pub name: String,
    /// Whether the file does not exist.
    pub missing: bool,
    /// The size, in bytes.
    pub size: i64,
    /// The time of the last change, in milliseconds since 1970 by the gateway's clock.
    pub modified_ms: i64,
}

/// A workspace file with its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileContent {
    /// The file.
    pub info: FileInfo,
    /// The text. The gateway replaces bytes that are not UTF-8.
    pub text: String,
    /// The SHA-256 of the bytes, in hexadecimal, on gateways that return hashes (`docs/gateway-facts.md#version-boundaries`).
    pub hash: Option<String>,
}

/// A workspace file that the gateway's file list leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnlistedFile {
    /// The file does not exist.
    Missing,
    /// The file with its text.
    Read(FileContent),
    /// The file is too long for the gateway to return its text.
    Long(FileInfo),
}

impl FileContent {
    /// The SHA-256 in hexadecimal: of the bytes where the gateway returns it, otherwise of the text. The two differ for a file
    /// that is not UTF-8.
    #[must_use]
    pub fn sha256(&self) -> String {
        self.hash.clone().unwrap_or_else(|| sha256_hex(self.text.as_bytes()))
    }
}

/// The presence of a hash in the answer of a method `agents.files.*`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct FileHashProbe {
    #[serde(deserialize_with = "lax")]
    file: Option<RawHashedFile>,
}

#[derive(Deserialize)]
struct RawHashedFile {
    #[serde(rename = "hash")]
    _hash: IgnoredAny,
}

impl FileHashProbe {
    pub(crate) fn has_hash(&self) -> bool {
        self.file.is_some()
    }
}

/// The names and sizes in the answer of `agents.files.list`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProbedFiles {
    files: List<RawListedFile, { limits::FILES }>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawListedFile {
    #[serde(deserialize_with = "word")]
    name: Option<String>,
    #[serde(deserialize_with = "lax")]
    size: Option<i64>,
}

impl ProbedFiles {
    /// The names of the files of more than `size` bytes.
    pub(crate) fn longer_than(self, size: i64) -> BTreeSet<String> {
        let is_longer = |file: &RawListedFile| file.size.is_some_and(|listed| listed > size);
        self.files.0.into_iter().filter(is_longer).filter_map(|file| file.name).collect()
    }
}
