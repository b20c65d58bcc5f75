use super::*;

fn file(policy: FilePolicy, text: &str) -> DesiredFile {
    drifting(policy, DriftPolicy::Correct, text)
}

fn drifting(policy: FilePolicy, drift: DriftPolicy, text: &str) -> DesiredFile {
    let content = RenderedText::new(text.into(), format!("sha-{text}"));
    let delivery = Delivery::Write { policy, drift, content };
    DesiredFile { name: "X.md".into(), carries_token: false, is_adopted: false, delivery }
}

fn seen(size: i64, modified_ms: i64, sha256: Option<&str>) -> ObservedFile {
    ObservedFile { size, modified_ms, sha256: sha256.map(str::to_owned), refused: None }
}

fn synced(text: &str, size: i64, modified_ms: i64) -> FileStatus {
    status(&file(FilePolicy::Always, text), None, Some(&seen(size, modified_ms, Some(&format!("sha-{text}")))))
}

#[test]
fn a_missing_file_is_written_without_a_precondition() {
    for policy in [FilePolicy::Always, FilePolicy::IfMissing, FilePolicy::Once] {
        assert_eq!(
            decide(&file(policy, "a"), None, None, Force::default()),
            FileDecision::Write { expected: None },
            "{policy:?}"
        );
    }
}

#[test]
fn a_held_file_keeps_its_record_and_is_written_only_when_it_is_missing() {
    let content = RenderedText::new("without".into(), "sha-without".into());
    let delivery = Delivery::Held { policy: FilePolicy::Always, drift: DriftPolicy::Correct, content };
    let held = DesiredFile { name: "X.md".into(), carries_token: false, is_adopted: false, delivery };
    let record = synced("with", 4, 7);
    let sync = Force { rewrite: true, overwrite: true };
    for now in [seen(4, 7, None), seen(5, 8, None)] {
        assert_eq!(decide(&held, Some(&record), Some(&now), sync), FileDecision::Nothing(FileState::Held));
        let stays = status(&held, Some(&record), Some(&now));
        assert_eq!(stays, FileStatus { state: FileState::Held, ..record.clone() });
        assert_eq!(status(&held, Some(&stays), Some(&now)), stays);
    }
    assert_eq!(decide(&held, Some(&record), None, Force::default()), FileDecision::Write { expected: None });
    assert_eq!(decide(&held, None, None, Force::default()), FileDecision::Write { expected: None });
}

#[test]
fn a_held_file_is_compared_by_content_once_the_soul_is_available() {
    let held = FileStatus { state: FileState::Held, ..synced("a", 1, 7) };
    for drift in [DriftPolicy::Correct, DriftPolicy::Report] {
        let soul = drifting(FilePolicy::Always, drift, "a");
        let decided = |seen: ObservedFile| decide(&soul, Some(&held), Some(&seen), Force::default());
        assert_eq!(decided(seen(1, 7, None)), FileDecision::Read, "{drift:?}");
        assert_eq!(decided(seen(1, 7, Some("sha-a"))), FileDecision::Nothing(FileState::Synced), "{drift:?}");
    }
}

#[test]
fn a_file_that_matches_its_record_is_not_read() {
    let record = synced("a", 1, 7);
    let now = seen(1, 7, None);
    assert_eq!(
        decide(&file(FilePolicy::Always, "a"), Some(&record), Some(&now), Force::default()),
        FileDecision::Nothing(FileState::Synced)
    );
}

#[test]
fn another_time_size_or_wanted_content_causes_a_read() {
    let record = synced("a", 1, 7);
    for (wanted, now) in [("a", seen(1, 8, None)), ("a", seen(2, 7, None)), ("b", seen(1, 7, None))] {
        assert_eq!(
            decide(&file(FilePolicy::Always, wanted), Some(&record), Some(&now), Force::default()),
            FileDecision::Read,
            "{now:?}"
        );
    }
}

#[test]
fn a_changed_file_is_replaced_with_the_read_content_as_a_precondition() {
    let decision = decide(&file(FilePolicy::Always, "a"), None, Some(&seen(1, 7, Some("sha-b"))), Force::default());
    assert_eq!(decision, FileDecision::Write { expected: Some("sha-b".into()) });
}

#[test]
fn an_if_missing_file_is_written_again_only_when_it_is_empty() {
    let memory = file(FilePolicy::IfMissing, "a");
    assert_eq!(
        decide(&memory, None, Some(&seen(9, 7, None)), Force::default()),
        FileDecision::Nothing(FileState::Kept)
    );
    assert_eq!(
        decide(&memory, None, Some(&seen(0, 7, None)), Force::default()),
        FileDecision::Write { expected: None }
    );
}

#[test]
fn a_once_file_is_not_written_again_after_the_agent_removed_it() {
    let bootstrap = file(FilePolicy::Once, "a");
    let record = status(&bootstrap, None, Some(&seen(1, 7, Some("sha-a"))));
    assert_eq!(record.state, FileState::Kept);
    assert_eq!(decide(&bootstrap, Some(&record), None, Force::default()), FileDecision::Nothing(FileState::Kept));
}

#[test]
fn a_once_file_that_was_unmanaged_before_is_not_overwritten() {
    let bootstrap = file(FilePolicy::Once, "a");
    for state in [FileState::Unmanaged, FileState::Drifted, FileState::Left, FileState::TooLarge] {
        let record = FileStatus { state, ..synced("b", 5, 7) };
        let decided = decide(&bootstrap, Some(&record), Some(&seen(5, 7, Some("sha-b"))), Force::default());
        assert_eq!(decided, FileDecision::Nothing(FileState::Kept), "{state:?}");
    }
    let unmanaged = FileStatus { state: FileState::Unmanaged, ..synced("b", 5, 7) };
    let gone = decide(&bootstrap, Some(&unmanaged), None, Force::default());
    assert_eq!(gone, FileDecision::Write { expected: None });
}

#[test]
fn a_file_with_a_state_of_a_later_version_is_compared_and_not_written_again_if_it_belongs_to_the_agent() {
    let record = FileStatus { state: FileState::default(), ..synced("a", 1, 7) };
    let bootstrap = decide(&file(FilePolicy::Once, "a"), Some(&record), None, Force::default());
    assert_eq!(bootstrap, FileDecision::Nothing(FileState::Kept));
    for drift in [DriftPolicy::Correct, DriftPolicy::Report] {
        let soul = drifting(FilePolicy::Always, drift, "a");
        let decided = decide(&soul, Some(&record), Some(&seen(1, 7, None)), Force::default());
        assert_eq!(decided, FileDecision::Read, "{drift:?}");
    }
}

#[test]
fn a_once_file_that_somebody_else_seeded_is_replaced_the_first_time() {
    let bootstrap = file(FilePolicy::Once, "a");
    assert_eq!(decide(&bootstrap, None, Some(&seen(5, 7, None)), Force::default()), FileDecision::Read);
    let differs = decide(&bootstrap, None, Some(&seen(5, 7, Some("sha-seed"))), Force::default());
    assert_eq!(differs, FileDecision::Write { expected: Some("sha-seed".into()) });
}

#[test]
fn what_somebody_else_changed_is_left_and_read_once_where_that_is_only_told() {
    let soul = drifting(FilePolicy::Always, DriftPolicy::Report, "a");
    let record = synced("a", 1, 7);
    let ours = |seen: ObservedFile| decide(&soul, Some(&record), Some(&seen), Force::default());
    assert_eq!(ours(seen(1, 7, None)), FileDecision::Nothing(FileState::Synced));
    assert_eq!(ours(seen(2, 8, None)), FileDecision::Read);
    assert_eq!(ours(seen(2, 8, Some("sha-b"))), FileDecision::Nothing(FileState::Drifted));
    assert_eq!(decide(&soul, Some(&record), None, Force::default()), FileDecision::Nothing(FileState::Drifted));
    let reported = status(&soul, Some(&record), Some(&seen(2, 8, Some("sha-b"))));
    let later = |seen: ObservedFile| decide(&soul, Some(&reported), Some(&seen), Force::default());
    assert_eq!(later(seen(2, 8, None)), FileDecision::Nothing(FileState::Drifted));
    assert_eq!(later(seen(3, 9, Some("sha-a"))), FileDecision::Nothing(FileState::Synced));
}

#[test]
fn what_is_ignored_is_written_when_what_is_rendered_changes_and_on_request() {
    let ignored = |text: &str| drifting(FilePolicy::Always, DriftPolicy::Ignore, text);
    let first = decide(&ignored("a"), None, Some(&seen(9, 9, Some("sha-x"))), Force::default());
    assert_eq!(first, FileDecision::Write { expected: Some("sha-x".into()) });
    let record = status(&ignored("a"), Some(&synced("a", 1, 7)), Some(&seen(1, 7, None)));
    assert_eq!(record.state, FileState::Ignored);
    let now = seen(2, 8, None);
    let decided = |file: &DesiredFile, force| decide(file, Some(&record), Some(&now), force);
    assert_eq!(decided(&ignored("a"), Force::default()), FileDecision::Nothing(FileState::Ignored));
    assert_eq!(decided(&ignored("b"), Force::default()), FileDecision::Read);
    let sync = Force { rewrite: true, overwrite: false };
    assert_eq!(decided(&ignored("a"), sync), FileDecision::Write { expected: None });
}

#[test]
fn drift_is_corrected_once_the_policy_is_correct() {
    let reported = status(
        &drifting(FilePolicy::Always, DriftPolicy::Report, "a"),
        Some(&synced("a", 1, 7)),
        Some(&seen(2, 8, Some("sha-b"))),
    );
    let now = seen(2, 8, None);
    assert_eq!(
        decide(&file(FilePolicy::Always, "a"), Some(&reported), Some(&now), Force::default()),
        FileDecision::Read
    );
}

const ONE_MIB: i64 = 1024 * 1024;

#[test]
fn a_refused_file_is_left_until_it_is_listed_again() {
    let link = ObservedFile { refused: Some("is a link".into()), ..ObservedFile::default() };
    let overwrite = Force { rewrite: true, overwrite: true };
    for policy in [FilePolicy::Always, FilePolicy::IfMissing, FilePolicy::Once] {
        let file = file(policy, "a");
        for force in [Force::default(), overwrite] {
            let decision = decide(&file, None, Some(&link), force);
            assert_eq!(decision, FileDecision::Nothing(FileState::Refused), "{policy:?}");
        }
        let record = status(&file, Some(&synced("a", 1, 7)), Some(&link));
        assert_eq!((record.state, record.sha256.clone()), (FileState::Refused, None), "{policy:?}");
        let gone = decide(&file, Some(&record), None, Force::default());
        assert_eq!(gone, FileDecision::Write { expected: None }, "{policy:?}");
    }
    let unmanaged = decide(&file(FilePolicy::Unmanaged, "a"), None, Some(&link), Force::default());
    assert_eq!(unmanaged, FileDecision::Nothing(FileState::Unmanaged));
    for (drift, state) in [(DriftPolicy::Report, FileState::Drifted), (DriftPolicy::Ignore, FileState::Ignored)] {
        let soul = drifting(FilePolicy::Always, drift, "a");
        assert_eq!(
            decide(&soul, Some(&synced("a", 1, 7)), Some(&link), Force::default()),
            FileDecision::Nothing(state)
        );
        let never_written = decide(&soul, None, Some(&link), Force::default());
        assert_eq!(never_written, FileDecision::Nothing(FileState::Refused), "{drift:?}");
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read_and_only_an_always_file_replaces_it() {
    let large = seen(ONE_MIB + 1, 7, None);
    let decided = |file: &DesiredFile, record, force| decide(file, record, Some(&large), force);
    let (replaced, record) = (FileDecision::Write { expected: None }, synced("a", 1, 7));
    assert_eq!(decided(&file(FilePolicy::Always, "a"), None, Force::default()), replaced);
    assert_eq!(decided(&file(FilePolicy::Always, "a"), Some(&record), Force::default()), replaced);
    let reported = drifting(FilePolicy::Always, DriftPolicy::Report, "a");
    assert_eq!(decided(&reported, Some(&record), Force::default()), FileDecision::Nothing(FileState::Drifted));
    let overwrite = Force { rewrite: false, overwrite: true };
    for policy in [FilePolicy::IfMissing, FilePolicy::Once] {
        assert_eq!(
            decided(&file(policy, "a"), None, Force::default()),
            FileDecision::Nothing(FileState::Kept),
            "{policy:?}"
        );
        assert_eq!(decided(&file(policy, "a"), None, overwrite), replaced, "{policy:?}");
    }
    let just_small_enough = seen(ONE_MIB, 7, None);
    let read = decide(&file(FilePolicy::Always, "a"), None, Some(&just_small_enough), Force::default());
    assert_eq!(read, FileDecision::Read);
}
