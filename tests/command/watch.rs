//! `muster get --watch`.

use serde_json::{Value, json};

use crate::rig::{AGENTS, Rig};

#[tokio::test(start_paused = true)]
async fn each_changed_row_is_printed_once() {
    let rig = Rig::new().await;
    rig.agents(&["one"]).await;
    let ended = rig
        .alongside("get agents -w", false, async |out, err| {
            out.until("one    ops     Worker").await;
            // A change that no column shows.
            rig.send("PATCH", &format!("{AGENTS}/one"), json!({ "metadata": { "labels": { "a": "b" } } })).await;
            rig.set_ready("one", "True", "Reconciled", 1).await;
            let shown = out.until("Reconciled").await;
            let expected = "\
NAME   BOARD   ROLE     PHASE   LAST-SEEN   READY   REASON   AGE
one    ops     Worker                                        60m
one    ops     Worker                       True    Reconciled   60m
";
            assert_eq!(shown, expected);
            rig.send("DELETE", &format!("{AGENTS}/one"), json!({})).await;
            err.until("agent.muster.dev/one is deleted\n").await;
        })
        .await;
    assert_eq!(ended, None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lost_its_place_goes_on_with_what_changed() {
    let rig = Rig::new().await;
    rig.agents(&["one", "two", "three"]).await;
    rig.alongside("get agents -w --no-headers", false, async |out, err| {
        let before = out.until("two").await;
        // The watch reads none of these changes before they are forgotten.
        rig.send_at_once("DELETE", &format!("{AGENTS}/three"), json!({}));
        rig.send_at_once("PATCH", &format!("{AGENTS}/two"), json!({ "spec": { "boardRef": { "name": "other" } } }));
        rig.api.compact();
        let after = out.until("other").await;
        let new: Vec<_> = after[before.len()..].lines().collect();
        assert!(new.len() == 1 && new[0].starts_with("two "), "{after}");
        assert_eq!(err.until("three is deleted").await, "agent.muster.dev/three is deleted\n");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_prints_whole_objects_as_json_and_yaml() {
    let rig = Rig::new().await;
    rig.agents(&["one", "two"]).await;
    rig.alongside("get agent one -w -o json", false, async |out, _| {
        let first = out.until("}\n").await;
        let object: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(object["metadata"]["name"], "one");
        rig.set_ready("one", "True", "Reconciled", 1).await;
        out.until("Reconciled").await;
    })
    .await;
    rig.alongside("get agents -w -o yaml", false, async |out, _| {
        out.until("---\napiVersion: muster.dev/v1alpha1\nkind: Agent\n").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_watch_ends_the_command() {
    let rig = Rig::new().await;
    let ran = rig.run("get agents -w -l !!").await;
    assert!(ran.status == 1 && ran.err.starts_with("muster: unable to parse requirement"), "{ran:?}");
}
