//! `muster get` without `--watch`.

use serde_json::{Value, json};

use crate::rig::{BOARDS, Rig, SECRETS, board};

async fn fleet() -> Rig {
    let rig = Rig::new().await;
    rig.agents(&["one", "two"]).await;
    rig.set_ready("one", "True", "Reconciled", 1).await;
    rig.send(
        "PATCH",
        "/apis/muster.dev/v1alpha1/namespaces/fleet/agents/two",
        json!({ "metadata": { "labels": { "team": "a" } } }),
    )
    .await;
    rig
}

#[tokio::test(start_paused = true)]
async fn a_table_has_the_columns_of_the_definition() {
    let rig = fleet().await;
    let table = "\
NAME   BOARD   ROLE     PHASE   LAST-SEEN   READY   REASON       AGE
one    ops     Worker                       True    Reconciled   60m
two    ops     Worker                                            60m
";
    for line in [
        "get agents",
        "get agent",
        "get agt",
        "get Agents.muster.dev -n fleet",
        "get agents one two",
        "get agent/one agt/two",
    ] {
        assert_eq!(rig.ok(line).await, table, "{line}");
    }
    assert_eq!(
        rig.ok("get agents --no-headers one").await,
        "one   ops   Worker               True   Reconciled   60m\n"
    );
    let wide = rig.ok("get agents -o wide").await;
    assert!(
        wide.starts_with("NAME   BOARD   ROLE     PHASE   AGENT-ID   LAST-SEEN   READY   REASON       AGE\n"),
        "{wide}"
    );
    let everywhere = rig.ok("get agents -A").await;
    assert!(
        everywhere.starts_with("NAMESPACE   NAME   BOARD ") && everywhere.contains("\nfleet       one    ops "),
        "{everywhere}"
    );
}

#[tokio::test(start_paused = true)]
async fn objects_are_selected_by_labels_and_several_kinds_have_a_table_each() {
    let rig = fleet().await;
    assert_eq!(rig.ok("get agents -l team=a -o name").await, "agent.muster.dev/two\n");
    rig.send("POST", BOARDS, board("ops")).await;
    let both = rig.ok("get muster").await;
    let (boards, agents) = both.split_once("\n\n").unwrap();
    assert!(
        boards.starts_with("NAME                   GATEWAY ") && boards.contains("\nboard.muster.dev/ops   gw "),
        "{both}"
    );
    assert!(
        agents.starts_with("NAME                   BOARD ") && agents.contains("\nagent.muster.dev/one   ops "),
        "{both}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_found_is_no_failure_and_a_missing_object_is_one() {
    let rig = fleet().await;
    for (line, expected) in [
        ("get boards", "No resources found in fleet namespace.\n"),
        ("get boards,agentgateways -n other", "No resources found in other namespace.\n"),
        ("get boards -A", "No resources found\n"),
        ("get agents -l team=b", "No resources found in fleet namespace.\n"),
    ] {
        let ran = rig.run(line).await;
        assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (0, "", expected), "{line}");
    }
    let ran = rig.run("get agents one nobody -o name").await;
    assert_eq!((ran.status, ran.out.as_str()), (1, "agent.muster.dev/one\n"));
    assert_eq!(ran.err, "agents.muster.dev \"nobody\" not found\nmuster: 1 object failed\n");
}

#[tokio::test(start_paused = true)]
async fn json_and_yaml_have_the_whole_object_or_a_list() {
    let rig = fleet().await;
    let json: Value = serde_json::from_str(&rig.ok("get agent one -o json").await).unwrap();
    assert_eq!(
        (&json["kind"], &json["apiVersion"], &json["metadata"]["name"]),
        (&json!("Agent"), &json!("muster.dev/v1alpha1"), &json!("one"))
    );
    let yaml: Value = serde_saphyr::from_str(&rig.ok("get agent one -o yaml").await).unwrap();
    assert_eq!(yaml, json);
    let list: Value = serde_json::from_str(&rig.ok("get agents -o json").await).unwrap();
    assert_eq!((&list["kind"], &list["items"][0], list["items"].as_array().unwrap().len()), (&json!("List"), &json, 2));
    let empty: Value = serde_json::from_str(&rig.ok("get boards -o json").await).unwrap();
    assert_eq!(empty["items"], json!([]));
    let missing = rig.run("get agent nobody -o json").await;
    assert_eq!((missing.status, missing.out.as_str()), (1, ""));
    // What is printed can be applied.
    rig.write("all.yaml", &rig.ok("get agents -o yaml").await);
    let applied = rig.ok("apply -f DIR").await;
    assert_eq!(applied, "agent.muster.dev/one configured\nagent.muster.dev/two configured\n");
}

#[tokio::test(start_paused = true)]
async fn the_values_of_secrets_are_shown_only_on_request() {
    let rig = Rig::new().await;
    let secret = json!({ "metadata": { "name": "gw" }, "data": { "token": "aHVzaA==" } });
    rig.send("POST", SECRETS, secret).await;
    assert_eq!(rig.ok("get secrets").await, "NAME   TYPE     DATA   AGE\ngw     Opaque   1      60m\n");
    for line in ["get secrets -o json", "get secret gw -o yaml", "get boards,secrets -o yaml"] {
        let ran = rig.run(line).await;
        assert!(ran.status == 2 && ran.out.is_empty() && ran.err.contains("give --show-secrets"), "{ran:?}");
    }
    assert!(rig.ok("get secret gw -o json --show-secrets").await.contains("\"token\": \"aHVzaA==\""));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_command_line_is_refused() {
    let rig = Rig::new().await;
    for line in [
        "get",
        "get pods",
        "get agents one -A",
        "get agents one -l a=b",
        "get agents,boards -w",
        "get agents one two -w",
        "get agents -o xml",
        "get agents -n a/b",
        "get agents -A -n fleet",
    ] {
        assert_eq!(rig.run(line).await.status, 2, "{line}");
    }
}
