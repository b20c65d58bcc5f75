//! What to do with each workspace file.

use std::collections::BTreeMap;

use super::desired::{Content, Delivery, Desired, DesiredFile};
use super::observed::ObservedFile;
use crate::api::agent::{FilePolicy, FileState, FileStatus};
use crate::api::requests::RequestKind;

/// What follows for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing; this is its state.
    Rest(FileState),
    /// Its content has to be read before anything can be said.
    Read,
    /// It is written; the hash of what is to be replaced, when that was read.
    Write {
        /// SHA-256 of the content that is to be replaced.
        expected: Option<String>,
    },
}

/// How far a one-shot request goes with one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Force {
    /// What is kept as rendered is written again, whatever is there.
    pub rewrite: bool,
    /// What is normally the agent's own is made as rendered again.
    pub overwrite: bool,
}

/// What the one-shot requests of an agent ask for with one file.
#[must_use]
pub fn force(desired: &Desired, name: &str) -> Force {
    let due = |kind| desired.requests.due(kind).is_some();
    let bootstrap = name == "BOOTSTRAP.md" && due(RequestKind::Bootstrap);
    Force { rewrite: due(RequestKind::Sync), overwrite: due(RequestKind::Overwrite) || bootstrap }
}

/// Decides about one file from what was recorded of it and what the gateway shows now.
///
/// # Guarantees
/// A file whose size and time are those recorded with the wanted hash is not read. `Once` and `IfMissing` files that
/// are there are never written again without a request.
#[must_use]
pub fn decide(file: &DesiredFile, record: Option<&FileStatus>, seen: Option<&ObservedFile>, force: Force) -> Decision {
    match &file.delivery {
        Delivery::Folded { .. } => Decision::Rest(FileState::Folded),
        Delivery::TooLarge { .. } => Decision::Rest(FileState::TooLarge),
        Delivery::Unmanaged => Decision::Rest(FileState::Unmanaged),
        Delivery::Write { policy, content } => match policy {
            FilePolicy::Always if force.rewrite => Decision::Write { expected: None },
            FilePolicy::Always => always(content, record, seen),
            FilePolicy::IfMissing | FilePolicy::Once if force.overwrite => overwritten(content, seen),
            FilePolicy::IfMissing => if_missing(content, seen),
            FilePolicy::Once => once(content, record, seen),
            FilePolicy::Unmanaged => Decision::Rest(FileState::Unmanaged),
        },
    }
}

fn always(content: &Content, record: Option<&FileStatus>, seen: Option<&ObservedFile>) -> Decision {
    let Some(seen) = seen else {
        return Decision::Write { expected: None };
    };
    match &seen.sha256 {
        Some(sha256) if *sha256 == content.sha256 => Decision::Rest(FileState::Synced),
        Some(sha256) => Decision::Write { expected: Some(sha256.clone()) },
        None if as_recorded(content, record, seen) => Decision::Rest(FileState::Synced),
        None => Decision::Read,
    }
}

/// A gateway has no way to remove a file, so that an empty one counts as missing.
fn if_missing(content: &Content, seen: Option<&ObservedFile>) -> Decision {
    match seen {
        Some(seen) if seen.size > 0 || content.expose().is_empty() => Decision::Rest(FileState::Kept),
        Some(_) | None => Decision::Write { expected: None },
    }
}

fn once(content: &Content, record: Option<&FileStatus>, seen: Option<&ObservedFile>) -> Decision {
    if record.is_some_and(|r| matches!(r.state, FileState::Synced | FileState::Kept)) {
        return Decision::Rest(FileState::Kept);
    }
    let Some(seen) = seen else {
        return Decision::Write { expected: None };
    };
    match &seen.sha256 {
        Some(sha256) if *sha256 == content.sha256 => Decision::Rest(FileState::Kept),
        Some(sha256) => Decision::Write { expected: Some(sha256.clone()) },
        None => Decision::Read,
    }
}

fn overwritten(content: &Content, seen: Option<&ObservedFile>) -> Decision {
    match seen.map(|seen| &seen.sha256) {
        None => Decision::Write { expected: None },
        Some(None) => Decision::Read,
        Some(Some(sha256)) if *sha256 == content.sha256 => Decision::Rest(FileState::Kept),
        Some(Some(sha256)) => Decision::Write { expected: Some(sha256.clone()) },
    }
}

fn as_recorded(content: &Content, record: Option<&FileStatus>, seen: &ObservedFile) -> bool {
    record.is_some_and(|r| {
        r.sha256.as_deref() == Some(content.sha256.as_str())
            && r.size == Some(seen.size)
            && r.modified_ms == Some(seen.modified_ms)
    })
}

/// The record of a file of that name.
#[must_use]
pub fn record<'a>(records: &'a [FileStatus], name: &str) -> Option<&'a FileStatus> {
    records.iter().find(|r| r.name == name)
}

/// Names of the files whose content has to be read.
#[must_use]
pub fn to_read(desired: &Desired, records: &[FileStatus], seen: &BTreeMap<String, ObservedFile>) -> Vec<String> {
    let unclear = |f: &&DesiredFile| {
        let force = force(desired, &f.name);
        decide(f, record(records, &f.name), seen.get(&f.name), force) == Decision::Read
    };
    desired.files.iter().flatten().filter(unclear).map(|f| f.name.clone()).collect()
}

/// The status of one file.
#[must_use]
pub fn status(file: &DesiredFile, old: Option<&FileStatus>, seen: Option<&ObservedFile>) -> FileStatus {
    let blank = FileStatus {
        name: file.name.clone(),
        state: FileState::Pending,
        sha256: None,
        into: None,
        size: None,
        modified_ms: None,
    };
    match (&file.delivery, decide(file, old, seen, Force::default())) {
        (Delivery::Folded { into }, _) => FileStatus { state: FileState::Folded, into: Some(into.clone()), ..blank },
        (Delivery::Write { content, .. }, Decision::Rest(FileState::Synced)) => FileStatus {
            state: FileState::Synced,
            sha256: Some(content.sha256.clone()),
            size: seen.map(|s| s.size),
            modified_ms: seen.map(|s| s.modified_ms),
            ..blank
        },
        (_, Decision::Rest(state)) => FileStatus { state, ..blank },
        (_, Decision::Read | Decision::Write { .. }) => blank,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(policy: FilePolicy, text: &str) -> DesiredFile {
        let content = Content::new(text.into(), format!("sha-{text}"));
        DesiredFile { name: "X.md".into(), delivery: Delivery::Write { policy, content } }
    }

    fn seen(size: i64, modified_ms: i64, sha256: Option<&str>) -> ObservedFile {
        ObservedFile { size, modified_ms, sha256: sha256.map(str::to_owned) }
    }

    fn synced(text: &str, size: i64, modified_ms: i64) -> FileStatus {
        status(&file(FilePolicy::Always, text), None, Some(&seen(size, modified_ms, Some(&format!("sha-{text}")))))
    }

    #[test]
    fn a_missing_file_is_written_without_a_precondition() {
        for policy in [FilePolicy::Always, FilePolicy::IfMissing, FilePolicy::Once] {
            assert_eq!(
                decide(&file(policy, "a"), None, None, Force::default()),
                Decision::Write { expected: None },
                "{policy:?}"
            );
        }
    }

    #[test]
    fn a_file_as_recorded_is_not_even_read() {
        let record = synced("a", 1, 7);
        let now = seen(1, 7, None);
        assert_eq!(
            decide(&file(FilePolicy::Always, "a"), Some(&record), Some(&now), Force::default()),
            Decision::Rest(FileState::Synced)
        );
    }

    #[test]
    fn another_time_another_size_or_another_wish_makes_it_suspect() {
        let record = synced("a", 1, 7);
        for (wanted, now) in [("a", seen(1, 8, None)), ("a", seen(2, 7, None)), ("b", seen(1, 7, None))] {
            assert_eq!(
                decide(&file(FilePolicy::Always, wanted), Some(&record), Some(&now), Force::default()),
                Decision::Read,
                "{now:?}"
            );
        }
    }

    #[test]
    fn a_differing_file_is_replaced_only_while_it_is_what_was_read() {
        let decision = decide(&file(FilePolicy::Always, "a"), None, Some(&seen(1, 7, Some("sha-b"))), Force::default());
        assert_eq!(decision, Decision::Write { expected: Some("sha-b".into()) });
    }

    #[test]
    fn what_is_kept_if_missing_is_written_again_only_when_it_was_emptied() {
        let memory = file(FilePolicy::IfMissing, "a");
        assert_eq!(decide(&memory, None, Some(&seen(9, 7, None)), Force::default()), Decision::Rest(FileState::Kept));
        assert_eq!(
            decide(&memory, None, Some(&seen(0, 7, None)), Force::default()),
            Decision::Write { expected: None }
        );
    }

    #[test]
    fn what_was_written_once_is_not_written_again_although_the_agent_removed_it() {
        let bootstrap = file(FilePolicy::Once, "a");
        let record = status(&bootstrap, None, Some(&seen(1, 7, Some("sha-a"))));
        assert_eq!(record.state, FileState::Kept);
        assert_eq!(decide(&bootstrap, Some(&record), None, Force::default()), Decision::Rest(FileState::Kept));
    }

    #[test]
    fn a_once_file_that_somebody_else_seeded_is_replaced_the_first_time() {
        let bootstrap = file(FilePolicy::Once, "a");
        assert_eq!(decide(&bootstrap, None, Some(&seen(5, 7, None)), Force::default()), Decision::Read);
        let differs = decide(&bootstrap, None, Some(&seen(5, 7, Some("sha-seed"))), Force::default());
        assert_eq!(differs, Decision::Write { expected: Some("sha-seed".into()) });
    }
}
