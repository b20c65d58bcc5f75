use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::core::agent::memory_objects::inventory;
use crate::openclaw::model::{Hello, WriteRefusal};

fn synced(obstacle: Option<ConfigObstacle>, writes: &ConfigWrites) -> ConditionUpdate {
    let state = ConnectionState::Up(Arc::new(Hello::default()));
    config_synced(&state, Some(&Inventory { obstacle, ..inventory(&[]) }), writes)
}

fn obstacle(key: Option<&str>, effect: ObstacleEffect) -> ConfigObstacle {
    ConfigObstacle { key: key.map(str::to_owned), file: Some("/c/a.json5".into()), effect }
}

#[test]
fn a_layout_that_the_gateway_cannot_write_is_named_with_the_key_the_file_and_what_to_do() {
    let writes = ConfigWrites::default();
    for (key, effect, words) in [
        (
            Some("agents"),
            ObstacleEffect::RefusedUnlessSole,
            ["at agents (/c/a.json5)", "agents.entries into openclaw.json"],
        ),
        (
            None,
            ObstacleEffect::RefusedUnlessSole,
            ["at the top of openclaw.json (/c/a.json5)", "in place of the $include"],
        ),
        (
            Some("agents.defaults"),
            ObstacleEffect::RefusesFirst,
            ["at agents.defaults (/c/a.json5)", "move agents.defaults into openclaw.json"],
        ),
        (Some("agents.list"), ObstacleEffect::Refused, ["at agents.list", "move agents.list into openclaw.json"]),
        (None, ObstacleEffect::Replaces, ["replaces each $include", "upgrade the gateway"]),
    ] {
        let condition = synced(Some(obstacle(key, effect)), &writes);
        assert_eq!((condition.status, condition.reason), (ConditionStatus::False, Reason::ConfigNotWritable));
        assert!(words.iter().all(|words| condition.message.contains(words)), "{}", condition.message);
    }
}

#[test]
fn a_failed_write_is_shown_until_a_write_succeeds_and_counts_before_its_consequences() {
    let unwritable = Some(WriteRefusal { code: "EROFS".into(), message: "read-only file system".into() });
    let pending = Arc::new(BTreeSet::from(["a".to_owned()]));
    let condition = synced(None, &ConfigWrites { pending, unwritable, ..ConfigWrites::default() });
    assert_eq!(condition.reason, Reason::ConfigNotWritable);
    assert!(
        condition.message.contains("read-only file system (EROFS); the file or its folder is"),
        "{}",
        condition.message
    );
}

#[test]
fn each_answer_of_a_gateway_that_cannot_write_its_config_has_its_own_next_step() {
    for (answer, words) in [
        ("EBUSY: resource busy or locked, rename 'a' -> 'b'", "mount its folder instead"),
        ("EROFS: read-only file system, open 'a'", "on a volume that is not mounted read-only"),
        ("OpenClaw cannot write to the config directory /c (EACCES)", "the right to write both"),
        ("Error: file lock timeout for /c/openclaw.json: code=file_lock_timeout", "remove openclaw.json.lock"),
        ("OPENCLAW_NIX_MODE=1 treats openclaw.json as immutable", "without OPENCLAW_NIX_MODE"),
        ("Config write would flatten $include-owned config at agents", "the $include that it names"),
    ] {
        let unwritable = Some(WriteRefusal { code: "UNAVAILABLE".into(), message: answer.into() });
        let message = synced(None, &ConfigWrites { unwritable, ..ConfigWrites::default() }).message;
        assert!(message.contains(words), "{message}");
        assert_eq!(message.contains("$include"), answer.contains("$include"), "{message}");
    }
}

#[test]
fn repeated_losses_of_entries_are_reported_and_a_single_one_is_not() {
    let with = |losses| synced(None, &ConfigWrites { losses, ..ConfigWrites::default() });
    assert_eq!(with(1).reason, Reason::Reconciled);
    let repeated = with(3);
    assert_eq!((repeated.status, repeated.reason), (ConditionStatus::True, Reason::ConfigOverwritten));
    assert!(repeated.message.contains("3 times"), "{}", repeated.message);
}
