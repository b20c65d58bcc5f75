//! `muster annotate`.

use serde_json::json;

use crate::rig::{AGENTS, Rig};

#[tokio::test(start_paused = true)]
async fn annotations_are_set_changed_and_removed() {
    let rig = Rig::new().await;
    rig.agents(&["one", "two"]).await;
    let annotations = async |name: &str| rig.get(&format!("{AGENTS}/{name}")).await["metadata"]["annotations"].clone();
    let done = rig.ok("annotate agents one two muster.dev/sync-requested-at=2026-03-01T10:00:00Z note=a=b").await;
    assert_eq!(done, "agent.muster.dev/one annotated\nagent.muster.dev/two annotated\n");
    let expected = json!({ "muster.dev/sync-requested-at": "2026-03-01T10:00:00Z", "note": "a=b" });
    assert_eq!((annotations("one").await, annotations("two").await), (expected.clone(), expected));

    let refused = rig.run("annotate agent/one note=c").await;
    assert_eq!(refused.status, 1);
    assert!(
        refused.err.starts_with("agent.muster.dev/one: the annotation note has the value \"a=b\" already"),
        "{refused:?}"
    );
    rig.ok("annotate agent/one note=a=b").await;
    rig.ok("annotate --overwrite agent/one note=c muster.dev/sync-requested-at-").await;
    assert_eq!(annotations("one").await, json!({ "note": "c" }));
}

#[tokio::test(start_paused = true)]
async fn options_may_stand_between_the_objects_and_the_annotations() {
    let rig = Rig::new().await;
    rig.agents(&["one"]).await;
    for line in [
        "agent one -n fleet muster.dev/rotate-requested-at=2026-03-01T10:00:00Z",
        "-n fleet agent one a=b",
        "agent one -n fleet a=b",
        "agent/one -n fleet a=b",
        "agent/one a=b",
    ] {
        assert_eq!(rig.ok(&format!("annotate {line}")).await, "agent.muster.dev/one annotated\n", "{line}");
    }
    let annotations = rig.get(&format!("{AGENTS}/one")).await["metadata"]["annotations"].clone();
    assert_eq!(annotations, json!({ "muster.dev/rotate-requested-at": "2026-03-01T10:00:00Z", "a": "b" }));
}

#[tokio::test(start_paused = true)]
async fn a_missing_object_and_a_wrong_command_line_are_refused() {
    let rig = Rig::new().await;
    let ran = rig.run("annotate agent nobody a=b").await;
    assert!(ran.status == 1 && ran.err.contains("agents.muster.dev \"nobody\" not found"), "{ran:?}");
    rig.agents(&["one"]).await;
    let ran = rig.run("annotate agent one Bad/Key/=b").await;
    assert!(ran.status == 1 && ran.err.contains("metadata.annotations"), "{ran:?}");
    for line in [
        "annotate agents a=b",
        "annotate agents one",
        "annotate agents one =b",
        "annotate agents one a=b a-",
        "annotate agents",
    ] {
        assert_eq!(rig.run(line).await.status, 2, "{line}");
    }
}
