//! `muster tree`.

use serde_json::json;

use crate::rig::{AGENTS, BOARDS, GATEWAYS, Rig, board, gateway};

async fn fleet() -> Rig {
    let rig = Rig::new().await;
    rig.send("POST", GATEWAYS, gateway("gw")).await;
    rig.send("POST", BOARDS, board("ops")).await;
    rig.agents(&["one", "two"]).await;
    rig.set_ready("one", "True", "Reconciled", 1).await;
    rig.set_ready("two", "False", "TemplateError", 1).await;
    let main = json!({ "apiVersion": "muster.dev/v1alpha1", "kind": "Agent", "metadata": { "name": "main" },
        "spec": { "role": "Main", "gatewayRef": { "name": "gw" } } });
    rig.send("POST", AGENTS, main).await;
    rig
}

const TREE: &str = "\
NAMESPACE   NAME              READY   REASON          AGE
fleet       AgentGateway/gw                           60m
fleet       ├─Board/ops                               60m
fleet       │ ├─Agent/one   True    Reconciled      60m
fleet       │ └─Agent/two   False   TemplateError   60m
fleet       └─Agent/main                              60m
";

#[tokio::test(start_paused = true)]
async fn gateways_boards_and_agents_are_drawn_with_their_reasons() {
    let rig = fleet().await;
    for line in ["tree", "tree gw", "tree -A", "tree -n fleet gw", "tree gw -A"] {
        let drawn = rig.ok(line).await;
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&drawn), words(TREE), "{line}:\n{drawn}");
    }
    let ran = rig.run("tree nowhere").await;
    assert_eq!((ran.status, ran.err.as_str()), (1, "muster: agentgateways.muster.dev \"nowhere\" not found\n"));
    let ran = rig.run("tree -n other").await;
    assert_eq!((ran.status, ran.err.as_str()), (0, "No resources found in other namespace.\n"));
}

#[tokio::test(start_paused = true)]
async fn objects_without_their_gateway_or_their_board_are_drawn_below_its_name() {
    let rig = Rig::new().await;
    rig.send("POST", "/api/v1/namespaces", json!({ "metadata": { "name": "shared" } })).await;
    let shared = GATEWAYS.replace("/fleet/", "/shared/");
    rig.send("POST", &shared, gateway("hub")).await;
    rig.send("POST", BOARDS, board("lost")).await;
    let mut guest = board("guest");
    guest["spec"]["gatewayRef"] = json!({ "name": "hub", "namespace": "shared" });
    rig.send("POST", BOARDS, guest).await;
    rig.agents(&["one"]).await;
    let drawn = rig.ok("tree").await;
    let names: Vec<_> = drawn.lines().map(|line| line.get(12..).unwrap().split("  ").next().unwrap()).collect();
    let expected = [
        "NAME",
        "AgentGateway/hub",
        "└─Board/guest",
        "AgentGateway/gw (does not exist)",
        "└─Board/lost",
        "Board/ops (does not exist)",
        "└─Agent/one",
    ];
    assert_eq!(names, expected, "{drawn}");
}

#[tokio::test(start_paused = true)]
async fn programs_get_the_tree_as_data_and_a_wide_tree_has_the_messages() {
    let rig = fleet().await;
    let data: serde_json::Value = serde_json::from_str(&rig.ok("tree -o json").await).unwrap();
    let gateway = &data["objects"][0];
    let key = |node: &serde_json::Value| [node["kind"].clone(), node["namespace"].clone(), node["name"].clone()];
    assert_eq!(key(gateway), ["AgentGateway", "fleet", "gw"]);
    let two = &gateway["below"][0]["below"][1];
    let expected = json!({ "kind": "Agent", "namespace": "fleet", "name": "two", "remarks": [], "ready": "False",
        "reason": "TemplateError", "message": "It is False.", "created": "2026-03-01T09:00:00Z", "below": [] });
    assert_eq!(*two, expected);
    assert!(rig.ok("tree -o yaml").await.starts_with("objects:\n"));
    let wide = rig.ok("tree -o wide").await;
    assert!(wide.contains("AGE   MESSAGE\n") && wide.contains("60m   It is False.\n"), "{wide}");
    let ran = rig.run("tree -n other -o json").await;
    assert_eq!((ran.status, ran.out.as_str()), (0, "{\n    \"objects\": []\n}\n"));
}
