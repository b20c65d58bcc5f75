//! What to do with each workspace file.

use std::collections::BTreeMap;

use super::desired::{Content, Delivery, Desired, DesiredFile};
use super::observed::ObservedFile;
use crate::api::agent::{DriftPolicy, FilePolicy, FileState, FileStatus};
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
        Delivery::Held { .. } if let Some(held) = held(record, seen) => Decision::Rest(held.state),
        Delivery::Write { policy, drift, content } | Delivery::Held { policy, drift, content } => match policy {
            FilePolicy::Always if force.rewrite => Decision::Write { expected: None },
            FilePolicy::Always => always(*drift, content, record, seen),
            FilePolicy::IfMissing | FilePolicy::Once if force.overwrite => overwritten(content, seen),
            FilePolicy::IfMissing => if_missing(content, seen),
            FilePolicy::Once if file.had_a_life => Decision::Rest(FileState::Kept),
            FilePolicy::Once => once(content, record, seen),
            FilePolicy::Unmanaged => Decision::Rest(FileState::Unmanaged),
        },
    }
}

/// What was written before and can stay.
fn held<'a>(record: Option<&'a FileStatus>, seen: Option<&ObservedFile>) -> Option<&'a FileStatus> {
    let written = |r: &&FileStatus| matches!(r.state, FileState::Synced | FileState::Drifted | FileState::Ignored);
    record.filter(written).filter(|_| seen.is_some_and(|seen| seen.size > 0))
}

fn always(drift: DriftPolicy, content: &Content, record: Option<&FileStatus>, seen: Option<&ObservedFile>) -> Decision {
    // What was written last is what is wanted now: what differs from it, somebody else did.
    let written = record.filter(|r| r.sha256.as_deref() == Some(content.sha256.as_str()));
    match (drift, written) {
        (DriftPolicy::Ignore, Some(_)) => Decision::Rest(FileState::Ignored),
        (DriftPolicy::Report, Some(record)) => reported(content, record, seen),
        (DriftPolicy::Correct, _) | (_, None) => corrected(content, record, seen),
    }
}

fn reported(content: &Content, record: &FileStatus, seen: Option<&ObservedFile>) -> Decision {
    let Some(seen) = seen else {
        return Decision::Rest(FileState::Drifted);
    };
    match &seen.sha256 {
        Some(sha256) if *sha256 == content.sha256 => Decision::Rest(FileState::Synced),
        Some(_) => Decision::Rest(FileState::Drifted),
        None if record.state != FileState::Ignored && unmoved(record, seen) => Decision::Rest(record.state),
        None => Decision::Read,
    }
}

fn corrected(content: &Content, record: Option<&FileStatus>, seen: Option<&ObservedFile>) -> Decision {
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
        r.state == FileState::Synced && r.sha256.as_deref() == Some(content.sha256.as_str()) && unmoved(r, seen)
    })
}

/// Whether size and time are those that were recorded.
fn unmoved(record: &FileStatus, seen: &ObservedFile) -> bool {
    record.size == Some(seen.size) && record.modified_ms == Some(seen.modified_ms)
}

/// The record of a file of that name.
#[must_use]
pub fn record<'a>(records: &'a [FileStatus], name: &str) -> Option<&'a FileStatus> {
    records.iter().find(|r| r.name == name)
}

/// Names of the files whose content has to be read: of those that cannot be judged without, or, `all`, of each that is
/// kept as rendered.
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
            Decision::Read => true,
            Decision::Rest(FileState::Synced | FileState::Drifted) => {
                all && seen.is_some_and(|file| file.sha256.is_none())
            }
            Decision::Rest(_) | Decision::Write { .. } => false,
        }
    };
    desired.files.iter().flatten().filter(unclear).map(|f| f.name.clone()).collect()
}

/// The records of files that are there although they are no longer wanted. A gateway has no way to remove a file: one that
/// Muster keeps as rendered is emptied, unless somebody has changed it; then, and when it is the agent's own, it is left.
pub fn unwanted<'a>(
    desired: &'a Desired,
    records: &'a [FileStatus],
    seen: &'a BTreeMap<String, ObservedFile>,
) -> impl Iterator<Item = (&'a FileStatus, Unwanted)> {
    let wanted = |name: &str| desired.files.iter().flatten().any(|file| file.name == name);
    let candidates = records.iter().filter(move |r| desired.files.is_some() && !wanted(&r.name));
    candidates.filter_map(|record| {
        let there = seen.get(&record.name).filter(|file| file.size > 0)?;
        let ours = record.state == FileState::Synced && unmoved(record, there);
        Some((record, if ours { Unwanted::Emptied } else { Unwanted::Left }))
    })
}

/// What becomes of a file that is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    /// It is emptied.
    Emptied,
    /// It stays as it is.
    Left,
}

/// The status of the files that are no longer wanted and still there.
pub fn left<'a>(
    desired: &'a Desired,
    records: &'a [FileStatus],
    seen: &'a BTreeMap<String, ObservedFile>,
) -> impl Iterator<Item = FileStatus> {
    unwanted(desired, records, seen).map(|(record, fate)| match fate {
        Unwanted::Emptied => record.clone(),
        Unwanted::Left => {
            FileStatus { state: FileState::Left, sha256: None, size: None, modified_ms: None, ..record.clone() }
        }
    })
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
        (Delivery::Held { .. }, Decision::Rest(_)) if let Some(held) = held(old, seen) => held.clone(),
        (
            Delivery::Write { content, .. } | Delivery::Held { content, .. },
            Decision::Rest(state @ (FileState::Synced | FileState::Drifted | FileState::Ignored)),
        ) => FileStatus {
            state,
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
        drifting(policy, DriftPolicy::Correct, text)
    }

    fn drifting(policy: FilePolicy, drift: DriftPolicy, text: &str) -> DesiredFile {
        let content = Content::new(text.into(), format!("sha-{text}"));
        let delivery = Delivery::Write { policy, drift, content };
        DesiredFile { name: "X.md".into(), carries_token: false, had_a_life: false, delivery }
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
    fn what_is_held_stays_with_its_record_and_is_written_only_when_it_is_gone() {
        let content = Content::new("without".into(), "sha-without".into());
        let delivery = Delivery::Held { policy: FilePolicy::Always, drift: DriftPolicy::Correct, content };
        let held = DesiredFile { name: "X.md".into(), carries_token: false, had_a_life: false, delivery };
        let record = synced("with", 4, 7);
        let sync = Force { rewrite: true, overwrite: true };
        for now in [seen(4, 7, None), seen(5, 8, None)] {
            assert_eq!(decide(&held, Some(&record), Some(&now), sync), Decision::Rest(FileState::Synced));
            assert_eq!(status(&held, Some(&record), Some(&now)), record);
        }
        assert_eq!(decide(&held, Some(&record), None, Force::default()), Decision::Write { expected: None });
        assert_eq!(decide(&held, None, None, Force::default()), Decision::Write { expected: None });
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

    #[test]
    fn what_somebody_else_changed_is_left_and_read_once_where_that_is_only_told() {
        let soul = drifting(FilePolicy::Always, DriftPolicy::Report, "a");
        let record = synced("a", 1, 7);
        let ours = |seen: ObservedFile| decide(&soul, Some(&record), Some(&seen), Force::default());
        assert_eq!(ours(seen(1, 7, None)), Decision::Rest(FileState::Synced));
        assert_eq!(ours(seen(2, 8, None)), Decision::Read);
        assert_eq!(ours(seen(2, 8, Some("sha-b"))), Decision::Rest(FileState::Drifted));
        assert_eq!(decide(&soul, Some(&record), None, Force::default()), Decision::Rest(FileState::Drifted));
        let told = status(&soul, Some(&record), Some(&seen(2, 8, Some("sha-b"))));
        let later = |seen: ObservedFile| decide(&soul, Some(&told), Some(&seen), Force::default());
        assert_eq!(later(seen(2, 8, None)), Decision::Rest(FileState::Drifted));
        assert_eq!(later(seen(3, 9, Some("sha-a"))), Decision::Rest(FileState::Synced));
    }

    #[test]
    fn what_is_ignored_is_written_when_what_is_rendered_changes_and_on_request() {
        let ignored = |text: &str| drifting(FilePolicy::Always, DriftPolicy::Ignore, text);
        let first = decide(&ignored("a"), None, Some(&seen(9, 9, Some("sha-x"))), Force::default());
        assert_eq!(first, Decision::Write { expected: Some("sha-x".into()) });
        let record = status(&ignored("a"), Some(&synced("a", 1, 7)), Some(&seen(1, 7, None)));
        assert_eq!(record.state, FileState::Ignored);
        let now = seen(2, 8, None);
        let decided = |file: &DesiredFile, force| decide(file, Some(&record), Some(&now), force);
        assert_eq!(decided(&ignored("a"), Force::default()), Decision::Rest(FileState::Ignored));
        assert_eq!(decided(&ignored("b"), Force::default()), Decision::Read);
        let asked = Force { rewrite: true, overwrite: false };
        assert_eq!(decided(&ignored("a"), asked), Decision::Write { expected: None });
    }

    #[test]
    fn drift_is_corrected_as_soon_as_that_is_asked_for() {
        let told = status(
            &drifting(FilePolicy::Always, DriftPolicy::Report, "a"),
            Some(&synced("a", 1, 7)),
            Some(&seen(2, 8, Some("sha-b"))),
        );
        let now = seen(2, 8, None);
        assert_eq!(decide(&file(FilePolicy::Always, "a"), Some(&told), Some(&now), Force::default()), Decision::Read);
    }
}
