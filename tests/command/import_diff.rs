//! `muster import --diff`.

use std::sync::Arc;

use clap::Parser;
use muster::command::{self, Comparison};
use muster::import::{ImportOptions, import};
use muster::openclaw::Dial;

use crate::gateway_rig::{GatewayRig, Outcome};

#[derive(Debug, Parser)]
#[command(name = "import")]
struct ImportLine {
    #[command(flatten)]
    options: ImportOptions,
}

fn options(rig: &GatewayRig, line: &str) -> ImportOptions {
    let line = format!("--gateway ws://gateway:18789 --token-file DIR/token {line}");
    ImportLine::parse_from(["import".to_owned()].into_iter().chain(rig.words(&line))).options
}

/// The manifests that an import writes.
async fn imported(rig: &GatewayRig) -> String {
    let options = options(rig, "");
    let mut manifests = String::new();
    rig.run(async |dial: Arc<dyn Dial>, _| {
        manifests = import(&options, dial).await.unwrap().manifests;
        Ok(Comparison::Equal)
    })
    .await;
    manifests
}

async fn diff(rig: &GatewayRig, line: &str) -> Outcome {
    let options = options(rig, &format!("--diff {line}"));
    rig.run(async |dial, streams| command::import_diff(&options, dial, streams).await).await
}

#[tokio::test(start_paused = true)]
async fn an_import_differs_in_nothing_from_its_gateway() {
    let rig = GatewayRig::new();
    rig.write("fleet.yaml", &imported(&rig).await);
    let outcome = diff(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!((&outcome.result, outcome.out.as_str()), (&Ok(Comparison::Equal), "Nothing differs.\n"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn each_difference_has_its_place_and_both_values() {
    let rig = GatewayRig::new();
    let manifests = imported(&rig).await;
    assert!(manifests.contains("agentId: ops") && manifests.contains("model: acme/small"), "{manifests}");
    let edited = manifests
        .replace("model: acme/small", "model: acme/large\n  config: { tools: { key: hush } }")
        .replace("agentId: ops", "agentId: gone")
        .replace("interval: 60m", "interval: 1h");
    rig.write("fleet.yaml", &edited);
    let outcome = diff(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!(outcome.result, Ok(Comparison::Different), "{outcome:?}");
    assert_eq!(
        outcome.out,
        "agent nova: agent.muster.dev/nova (DIR/fleet.yaml, document 3)\n\
         \x20 model: the manifest has \"acme/large\", the gateway has \"acme/small\"\n\
         \x20 config.tools: is not on the gateway\n\
         agent.muster.dev/ops (DIR/fleet.yaml, document 4): the gateway has no agent \"gone\"\n\
         agent ops: no Agent of the files has spec.agentId \"ops\"\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_value_of_the_gateway_that_no_spec_can_express_is_a_difference() {
    let rig = GatewayRig::new();
    rig.gateway.edit_config(|config| config["agents"]["entries"]["nova"]["heartbeat"]["every"] = "1m30s".into());
    rig.write("fleet.yaml", &imported(&rig).await);
    let outcome = diff(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!(outcome.result, Ok(Comparison::Different), "{outcome:?}");
    let expected = "  heartbeat.interval: the manifest has none, the gateway has a value that no spec can express\n";
    assert!(outcome.out.contains(expected), "{}", outcome.out);
}

#[tokio::test(start_paused = true)]
async fn agents_of_other_gateways_and_agents_without_an_id_are_not_compared() {
    let rig = GatewayRig::new();
    let manifests = imported(&rig).await;
    let other =
        manifests.replace("ws://gateway:18789", "ws://elsewhere:18789").replace("model: acme/small", "model: x/y");
    let other = other.replace("gateway-gateway-18789", "elsewhere").replace("imported-gateway-18789", "there");
    let other = other.replace("name: nova", "name: nova-there").replace("name: ops", "name: ops-there");
    let plain = "---\napiVersion: muster.dev/v1alpha1\nkind: Agent\nmetadata: { name: plain }\n\
                 spec: { boardRef: { name: imported-gateway-18789 } }\n";
    rig.write("a.yaml", &format!("{manifests}{plain}"));
    rig.write("b.yaml", &other);
    let outcome = diff(&rig, "-f DIR/a.yaml DIR/b.yaml").await;
    assert_eq!(outcome.result, Ok(Comparison::Equal), "{outcome:?}");
    let note = "DIR/a.yaml, document 5: agent.muster.dev/plain has no spec.agentId and is not compared";
    assert!(outcome.err.contains(note), "{}", outcome.err);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_manifest_a_wrong_token_and_a_missing_gateway_are_failures() {
    let rig = GatewayRig::new();
    let manifests = imported(&rig).await;
    rig.write("fleet.yaml", &manifests.replace("model: acme/small", "modell: acme/small"));
    let outcome = diff(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!(outcome.result, Err("1 document failed".into()), "{outcome:?}");
    assert!(outcome.err.contains("DIR/fleet.yaml, document 3: agent.muster.dev/nova: "), "{}", outcome.err);

    let agents: Vec<_> = manifests.split("---\n").filter(|one| !one.contains("kind: AgentGateway")).collect();
    rig.write("agents.yaml", &agents.join("---\n"));
    let outcome = diff(&rig, "-f DIR/agents.yaml").await;
    assert_eq!(outcome.result, Err("2 documents failed".into()), "{outcome:?}");
    assert!(outcome.err.contains("or --gateway-name gateway-gateway-18789"), "{}", outcome.err);
    let outcome = diff(&rig, "-f DIR/agents.yaml --gateway-name gateway-gateway-18789").await;
    assert_eq!(outcome.result, Ok(Comparison::Equal), "{outcome:?}");

    rig.write("token", "wrong-token");
    let error = diff(&rig, "-f DIR/fleet.yaml").await.result.unwrap_err();
    assert!(error.contains("refused") && error.contains("--token-file"), "{error}");
}
