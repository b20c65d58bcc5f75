//! The files of the directory: how they are written, and what is said when they cannot be used.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use muster_embedded::OpenError;

/// Why the directory cannot be used. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// A file cannot be read or written.
    #[error("--embedded: {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process uses it.
    #[error("--embedded: {dir} is in use by another muster{process}; stop it, or give another directory")]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process, if it is known: ` (process 7)`.
        process: String,
    },
    /// A newer version wrote it.
    #[error("--embedded: {file}: {error}; run the newer version")]
    Newer {
        /// The database.
        file: PathBuf,
        /// The formats.
        error: OpenError,
    },
    /// The database is damaged.
    #[error("--embedded: {file}: {error}. The file is left as it is. {advice}")]
    Damaged {
        /// The database.
        file: PathBuf,
        /// What is wrong with it.
        error: OpenError,
        /// What can be done.
        advice: String,
    },
    /// The database is gone, and a snapshot of it is there.
    #[error(
        "--embedded: {file} is missing or empty, although there is a snapshot of {time}. To go on with its objects, start once with \
         --embedded-restore; to begin with an empty database, move snapshot.json away"
    )]
    Missing {
        /// The database.
        file: PathBuf,
        /// When the snapshot was written.
        time: jiff::Timestamp,
    },
    /// The database cannot be opened for another reason.
    #[error("--embedded: {file}: {error}")]
    Database {
        /// The database.
        file: PathBuf,
        /// What is wrong.
        error: OpenError,
    },
    /// No key or certificate can be made, or those in the directory cannot be used.
    #[error("--embedded: {0}")]
    Credentials(String),
}

impl StandaloneError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |error| Self::File { path, error }
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn private_file(path: &Path, content: &[u8]) -> Result<(), StandaloneError> {
    let part = path.with_extension("part");
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&part);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(StandaloneError::file(path))
}
