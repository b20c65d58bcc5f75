//! The snapshots: all objects as JSON, for the day on which the database is damaged.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use muster_embedded::EmbeddedApi;
use serde_json::Value;
use tracing::info;

use super::files::{StandaloneError, private_file};

/// The file of the last snapshot.
pub(super) const FILE: &str = "snapshot.json";
/// How often a snapshot is written.
pub(super) const INTERVAL: Duration = Duration::from_hours(1);

/// Writes a snapshot in the place of the last one.
pub(super) fn write(dir: &Path, api: &EmbeddedApi) -> Result<(), StandaloneError> {
    private_file(&dir.join(FILE), api.snapshot().to_string().as_bytes())
}

/// When the last snapshot was written.
pub(super) fn time(dir: &Path) -> Option<Timestamp> {
    let written = fs::metadata(dir.join(FILE)).ok()?.modified().ok()?;
    Timestamp::try_from(written).ok()?.round(jiff::Unit::Second).ok()
}

/// Puts the objects of the last snapshot into a new database.
pub(super) fn restore(dir: &Path, api: &EmbeddedApi) -> Result<(), StandaloneError> {
    let file = dir.join(FILE);
    let text = fs::read(&file).map_err(StandaloneError::file(&file))?;
    let unreadable = |error: String| StandaloneError::Credentials(format!("{}: {error}", file.display()));
    let snapshot: Value = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    let objects = api.restore(&snapshot).map_err(unreadable)?;
    info!(objects, file = %file.display(), "the objects of the last snapshot are in place");
    Ok(())
}
