//! Decides about each workspace file.

use std::collections::BTreeMap;

use super::desired::{Delivery, Desired, DesiredFile, RenderedText};
use super::observed::ObservedFile;
use crate::api::agent::{DriftPolicy, FilePolicy, FileState, FileStatus};
use crate::api::requests::RequestKind;

/// The size limit for reading a file, in bytes. Muster writes no file above this size.
pub const MAX_READ_BYTES: i64 = 1024 * 1024;

/// The decision about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileDecision {
    /// No action; the file has this state.
    Nothing(FileState),
    /// The content has to be read before a decision.
    Read,
    /// The file is written. A file that is too large to be read is replaced without a check of its content.
    Write {
        /// SHA-256 of the content that is to be replaced, if the content was read.
        expected: Option<String>,
    },
}

/// The effect of the one-shot requests on one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Force {
    /// An `Always` file is written again with any present content.
    pub rewrite: bool,
    /// A file that belongs to the agent is written again.
    pub overwrite: bool,
}

/// The effect of the one-shot requests of an agent on one file.
#[must_use]
pub fn force(desired: &Desired, name: &str) -> Force {
    let due = |kind| desired.requests.due(kind).is_some();
    let bootstrap = name == "BOOTSTRAP.md" && due(RequestKind::Bootstrap);
    Force { rewrite: due(RequestKind::Sync), overwrite: due(RequestKind::Overwrite) || bootstrap }
}

/// Decides about one file from its record in the status and its state on the gateway.
///
/// # Guarantees
/// A file with the recorded size and time, and a record of the wanted hash, is not read. `Once` and `IfMissing` files that exist are
/// never written again without a request. A file that the gateway refuses is left until it is listed again. A file that is too large
/// is not read.
#[must_use]
pub fn decide(
    file: &DesiredFile,
    record: Option<&FileStatus>,
    seen: Option<&ObservedFile>,
    force: Force,
) -> FileDecision {
    match &file.delivery {
        Delivery::Folded { .. } => FileDecision::Nothing(FileState::Folded),
        Delivery::TooLarge { .. } => FileDecision::Nothing(FileState::TooLarge),
        Delivery::Unmanaged => FileDecision::Nothing(FileState::Unmanaged),
        Delivery::Held { .. } if held_record(record, seen).is_some() => FileDecision::Nothing(FileState::Held),
        Delivery::Write { policy, drift, content } | Delivery::Held { policy, drift, content } => match policy {
            FilePolicy::Unmanaged => FileDecision::Nothing(FileState::Unmanaged),
            FilePolicy::Always | FilePolicy::IfMissing | FilePolicy::Once if is_refused(seen) => {
                FileDecision::Nothing(refused_state(*policy, *drift, content, record))
            }
            FilePolicy::Always if force.rewrite => FileDecision::Write { expected: None },
            FilePolicy::Always => decide_always(*drift, content, record, seen),
            FilePolicy::IfMissing | FilePolicy::Once if force.overwrite => decide_overwrite(content, seen),
            FilePolicy::IfMissing => decide_if_missing(content, seen),
            FilePolicy::Once if file.is_adopted => FileDecision::Nothing(FileState::Kept),
            FilePolicy::Once => decide_once(content, record, seen),
        },
    }
}

fn is_refused(seen: Option<&ObservedFile>) -> bool {
    seen.is_some_and(|seen| seen.refused.is_some())
}

/// The state of a file that the gateway refuses. With a drift policy that accepts changes, a file that was written before keeps its
/// state.
fn refused_state(
    policy: FilePolicy,
    drift: DriftPolicy,
    content: &RenderedText,
    record: Option<&FileStatus>,
) -> FileState {
    let was_written = record_of_content(content, record).is_some();
    match (policy, drift) {
        (FilePolicy::Always, DriftPolicy::Ignore) if was_written => FileState::Ignored,
        (FilePolicy::Always, DriftPolicy::Report) if was_written => FileState::Drifted,
        (FilePolicy::Always | FilePolicy::IfMissing | FilePolicy::Once, _) => FileState::Refused,
        (FilePolicy::Unmanaged, _) => FileState::Unmanaged,
    }
}

/// The record of a file, if the wanted content was written before. A difference is then a change by another client.
fn record_of_content<'a>(content: &RenderedText, record: Option<&'a FileStatus>) -> Option<&'a FileStatus> {
    record.filter(|r| has_content(r, content))
}

fn has_content(record: &FileStatus, content: &RenderedText) -> bool {
    record.sha256.as_ref().is_some_and(|known| *known == *content.sha256)
}

/// Reads a file, unless it is too large.
fn read_or(seen: &ObservedFile, too_large: FileDecision) -> FileDecision {
    if is_too_large(seen) { too_large } else { FileDecision::Read }
}

fn is_too_large(seen: &ObservedFile) -> bool {
    seen.size > MAX_READ_BYTES
}

/// The record of a file that was written before and can stay.
fn held_record<'a>(record: Option<&'a FileStatus>, seen: Option<&ObservedFile>) -> Option<&'a FileStatus> {
    let written = |r: &&FileStatus| {
        matches!(r.state, FileState::Synced | FileState::Drifted | FileState::Ignored | FileState::Held)
    };
    record.filter(written).filter(|_| seen.is_some_and(|seen| seen.size > 0))
}

fn decide_always(
    drift: DriftPolicy,
    content: &RenderedText,
    record: Option<&FileStatus>,
    seen: Option<&ObservedFile>,
) -> FileDecision {
    match (drift, record_of_content(content, record)) {
        (DriftPolicy::Ignore, Some(_)) => FileDecision::Nothing(FileState::Ignored),
        (DriftPolicy::Report, Some(record)) => decide_reported(content, record, seen),
        (DriftPolicy::Correct, _) | (_, None) => decide_corrected(content, record, seen),
    }
}

fn decide_reported(content: &RenderedText, record: &FileStatus, seen: Option<&ObservedFile>) -> FileDecision {
    let Some(seen) = seen else {
        return FileDecision::Nothing(FileState::Drifted);
    };
    match &seen.sha256 {
        Some(sha256) if *sha256 == content.sha256 => FileDecision::Nothing(FileState::Synced),
        Some(_) => FileDecision::Nothing(FileState::Drifted),
        None if !matches!(record.state, FileState::Ignored | FileState::Held) && is_unchanged(record, seen) => {
            FileDecision::Nothing(record.state)
        }
        None => read_or(seen, FileDecision::Nothing(FileState::Drifted)),
    }
}

fn decide_corrected(content: &RenderedText, record: Option<&FileStatus>, seen: Option<&ObservedFile>) -> FileDecision {
    let Some(seen) = seen else {
        return FileDecision::Write { expected: None };
    };
    match &seen.sha256 {
        Some(sha256) if *sha256 == content.sha256 => FileDecision::Nothing(FileState::Synced),
        Some(sha256) => FileDecision::Write { expected: Some(sha256.clone()) },
        None if matches_record(content, record, seen) => FileDecision::Nothing(FileState::Synced),
        None => read_or(seen, FileDecision::Write { expected: None }),
    }
}

/// A gateway has no way to remove a file, so that an empty one counts as missing.
fn decide_if_missing(content: &RenderedText, seen: Option<&ObservedFile>) -> FileDecision {
    match seen {
        Some(seen) if seen.size > 0 || content.expose().is_empty() => FileDecision::Nothing(FileState::Kept),
        Some(_) | None => FileDecision::Write { expected: None },
    }
}

fn decide_once(content: &RenderedText, record: Option<&FileStatus>, seen: Option<&ObservedFile>) -> FileDecision {
    let exists = seen.is_some_and(|seen| seen.size > 0);
    let was_written = record.is_some_and(|record| match record.state {
        FileState::Synced | FileState::Kept | FileState::Drifted | FileState::Ignored | FileState::Held => true,
        // The file existed under another policy, or under another name, so that it belongs to the agent now.
        FileState::Unmanaged | FileState::Left | FileState::TooLarge | FileState::Refused | FileState::Folded => exists,
        FileState::Pending => false,
    });
    if was_written {
        return FileDecision::Nothing(FileState::Kept);
    }
    let Some(seen) = seen else {
        return FileDecision::Write { expected: None };
    };
    match &seen.sha256 {
        Some(sha256) if *sha256 == content.sha256 => FileDecision::Nothing(FileState::Kept),
        Some(sha256) => FileDecision::Write { expected: Some(sha256.clone()) },
        // A gateway's own initial file is small, so that a large file belongs to the agent.
        None => read_or(seen, FileDecision::Nothing(FileState::Kept)),
    }
}

fn decide_overwrite(content: &RenderedText, seen: Option<&ObservedFile>) -> FileDecision {
    let Some(seen) = seen else {
        return FileDecision::Write { expected: None };
    };
    match &seen.sha256 {
        Some(sha256) if *sha256 == content.sha256 => FileDecision::Nothing(FileState::Kept),
        Some(sha256) => FileDecision::Write { expected: Some(sha256.clone()) },
        None => read_or(seen, FileDecision::Write { expected: None }),
    }
}

fn matches_record(content: &RenderedText, record: Option<&FileStatus>, seen: &ObservedFile) -> bool {
    record.is_some_and(|r| r.state == FileState::Synced && has_content(r, content) && is_unchanged(r, seen))
}

/// Whether the file has the recorded size and time.
fn is_unchanged(record: &FileStatus, seen: &ObservedFile) -> bool {
    let modified_at = seen.modified_at();
    record.size == Some(seen.size) && modified_at.is_some() && record.modified_at == modified_at
}

/// The record of a file of that name.
#[must_use]
pub fn record<'a>(records: &'a [FileStatus], name: &str) -> Option<&'a FileStatus> {
    records.iter().find(|r| r.name == *name)
}

/// Names of the files whose content has to be read before a decision. With `all`, the names include each `Always` file.
#[must_use]
pub fn to_read(
    desired: &Desired,
    records: &[FileStatus],
    seen: &BTreeMap<String, ObservedFile>,
    all: bool,
) -> Vec<String> {
    let unclear = |f: &&DesiredFile| {
        let seen = seen.get(&f.name);
        match decide(f, record(records, &f.name), seen, force(desired, &f.name)) {
            FileDecision::Read => true,
            FileDecision::Nothing(FileState::Synced | FileState::Drifted) => {
                all && seen.is_some_and(|file| file.sha256.is_none() && !is_too_large(file))
            }
            FileDecision::Nothing(_) | FileDecision::Write { .. } => false,
        }
    };
    let emptied = unwanted(desired, records, seen).filter(|(record, outcome)| {
        *outcome == UnwantedFile::Emptied && seen.get(&*record.name).is_some_and(|file| file.sha256.is_none())
    });
    let wanted = desired.files.iter().flatten().filter(unclear).map(|f| f.name.clone());
    wanted.chain(emptied.map(|(record, _)| record.name.to_string())).collect()
}

/// The records of files that exist and are no longer wanted.
///
/// A gateway has no call to remove a file. Muster empties an unchanged file that it wrote. A changed file, and a file that belongs to
/// the agent, stays.
pub fn unwanted<'a>(
    desired: &'a Desired,
    records: &'a [FileStatus],
    seen: &'a BTreeMap<String, ObservedFile>,
) -> impl Iterator<Item = (&'a FileStatus, UnwantedFile)> {
    let wanted = |name: &str| desired.files.iter().flatten().any(|file| file.name == name);
    let candidates = records.iter().filter(move |r| desired.files.is_some() && !wanted(&r.name));
    candidates.filter_map(|record| {
        let there = seen.get(&*record.name).filter(|file| file.size > 0)?;
        let as_written = match (&there.sha256, &record.sha256) {
            (Some(is), Some(written)) => *written == **is,
            (Some(_), None) | (None, _) => is_unchanged(record, there),
        };
        let ours = matches!(record.state, FileState::Synced | FileState::Held) && as_written;
        Some((record, if ours { UnwantedFile::Emptied } else { UnwantedFile::Left }))
    })
}

/// The outcome for a file that is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnwantedFile {
    /// The file is emptied.
    Emptied,
    /// The file stays unchanged.
    Left,
}

/// The statuses of files that exist and are no longer wanted.
pub fn unwanted_statuses<'a>(
    desired: &'a Desired,
    records: &'a [FileStatus],
    seen: &'a BTreeMap<String, ObservedFile>,
) -> impl Iterator<Item = FileStatus> {
    unwanted(desired, records, seen).map(|(record, outcome)| match outcome {
        UnwantedFile::Emptied => record.clone(),
        UnwantedFile::Left => {
            FileStatus { state: FileState::Left, sha256: None, size: None, modified_at: None, ..record.clone() }
        }
    })
}

/// The status of one file.
#[must_use]
pub fn status(file: &DesiredFile, old: Option<&FileStatus>, seen: Option<&ObservedFile>) -> FileStatus {
    let blank = FileStatus {
        name: file.name.as_str().into(),
        state: FileState::Pending,
        sha256: None,
        into: None,
        size: None,
        modified_at: None,
    };
    match (&file.delivery, decide(file, old, seen, Force::default())) {
        (Delivery::Folded { into }, _) => {
            FileStatus { state: FileState::Folded, into: Some(into.as_str().into()), ..blank }
        }
        (Delivery::Held { .. }, FileDecision::Nothing(_)) if let Some(held) = held_record(old, seen) => {
            FileStatus { state: FileState::Held, ..held.clone() }
        }
        (
            Delivery::Write { content, .. } | Delivery::Held { content, .. },
            FileDecision::Nothing(state @ (FileState::Synced | FileState::Drifted | FileState::Ignored)),
        ) => FileStatus {
            state,
            sha256: Some(content.sha256.as_str().into()),
            size: seen.map(|s| s.size),
            modified_at: seen.and_then(ObservedFile::modified_at),
            ..blank
        },
        (_, FileDecision::Nothing(state)) => FileStatus { state, ..blank },
        (_, FileDecision::Read | FileDecision::Write { .. }) => blank,
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
