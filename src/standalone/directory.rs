//! The directory of an operator without a cluster.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use muster_embedded::{EmbeddedApi, OpenError};
use tracing::{info, warn};

use super::credentials::AccessFiles;
use super::files::{StandaloneError, private_file};
use super::snapshot;

/// The database.
const DATABASE: &str = "objects.redb";
/// The number of the process that has the database open.
const PID: &str = "pid";

/// An open directory.
pub struct Directory {
    pub(super) path: PathBuf,
    pub(super) api: EmbeddedApi,
    pub(super) credentials: AccessFiles,
}

impl Directory {
    /// Opens a directory, or makes one that only its owner can read. With `restore`, a damaged database is put aside, and the last snapshot
    /// takes its place.
    ///
    /// # Errors
    /// The directory is in use, of a newer version or damaged, or its files cannot be read or written.
    pub fn open(path: &Path, definitions: &[CustomResourceDefinition], restore: bool) -> Result<Self, StandaloneError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StandaloneError::file(path))?;
        let credentials = AccessFiles::load_or_make(path)?;
        let open = || {
            let clock = Arc::new(Timestamp::now);
            EmbeddedApi::in_file(&path.join(DATABASE), definitions, credentials.token(), clock)
        };
        // The database is readable by its owner alone from its first byte on.
        let database = path.join(DATABASE);
        let is_new = std::fs::metadata(&database).map_or(0, |file| file.len()) == 0;
        if is_new
            && let Some(time) = snapshot::time(path)
            && !restore
        {
            return Err(StandaloneError::Missing { file: database, time });
        }
        if is_new {
            private_file(&database, b"")?;
        }
        let api = match open() {
            Ok(api) if is_new && restore => {
                snapshot::restore(path, &api)?;
                api
            }
            Ok(api) => api,
            Err(OpenError::Damaged(_)) if restore => {
                put_aside(path)?;
                let api = open().map_err(|error| refusal(path, error))?;
                snapshot::restore(path, &api)?;
                api
            }
            Err(error) => return Err(refusal(path, error)),
        };
        private_file(&path.join(PID), std::process::id().to_string().as_bytes())?;
        let directory = Self { path: path.to_owned(), api, credentials };
        snapshot::write(&directory.path, &directory.api)?;
        Ok(directory)
    }

    /// Writes a snapshot of all objects every hour. Never ends.
    pub async fn keep_snapshots(path: PathBuf, api: EmbeddedApi) {
        let mut tick = tokio::time::interval(snapshot::INTERVAL);
        loop {
            tick.tick().await;
            if let Err(error) = snapshot::write(&path, &api) {
                warn!(%error, "no snapshot of the objects could be written; the database is not affected");
            }
        }
    }
}

/// The error of a database that cannot be opened.
fn refusal(dir: &Path, error: OpenError) -> StandaloneError {
    let file = dir.join(DATABASE);
    match error {
        OpenError::InUse => {
            let pid = fs::read_to_string(dir.join(PID)).ok().filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()));
            let process = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            StandaloneError::InUse { dir: dir.to_owned(), process }
        }
        OpenError::Newer(_) => StandaloneError::Newer { file, error },
        OpenError::Damaged(_) => {
            let advice = match snapshot::time(dir) {
                Some(time) => format!(
                    "To go on with the objects of {time}, start once with --embedded-restore, which renames the damaged file and \
                     reads {}",
                    snapshot::FILE
                ),
                None => "There is no snapshot; move the file away to begin with an empty database".into(),
            };
            StandaloneError::Damaged { file, error, advice }
        }
        OpenError::File(_) => StandaloneError::Database { file, error },
    }
}

/// Renames a damaged database.
fn put_aside(dir: &Path) -> Result<(), StandaloneError> {
    let file = dir.join(DATABASE);
    let aside = dir.join(format!("{DATABASE}.damaged-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    fs::rename(&file, &aside).map_err(StandaloneError::file(&file))?;
    info!(file = %aside.display(), "the damaged database is kept under this name");
    private_file(&file, b"")
}
