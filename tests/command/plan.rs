//! `muster plan`: its options and its failures. `tests/controllers/plans.rs` compares plans with the operator.

use clap::Parser;
use muster::command::{self, Comparison, PlanOptions};
use muster::openclaw::Trust;
use serde_json::{Value, json};

use crate::gateway_rig::{GatewayRig, Outcome, TOKEN};
use crate::rig::{agent, board, gateway as plain_gateway};

#[derive(Debug, Parser)]
#[command(name = "plan")]
struct PlanLine {
    #[command(flatten)]
    options: PlanOptions,
}

/// An AgentGateway with TLS.
fn gateway(name: &str) -> Value {
    let mut gateway = plain_gateway(name);
    gateway["spec"]["url"] = json!("wss://gateway:18789");
    gateway
}

fn secret() -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "gateway" }, "stringData": { "token": TOKEN } })
}

/// An Agent that adopts an agent and changes nothing.
fn adopting(name: &str) -> Value {
    let files = ["TOOLS", "IDENTITY", "SOUL", "HEARTBEAT", "BOOTSTRAP", "MEMORY", "USER", "AGENTS"];
    let files: Vec<_> =
        files.iter().map(|name| json!({ "name": format!("{name}.md"), "policy": "Unmanaged" })).collect();
    let mut agent = agent(name);
    agent["spec"] = json!({ "boardRef": { "name": "ops" }, "agentId": name, "adoptionPolicy": "IfExists",
        "deletionPolicy": "Orphan", "wake": { "enabled": false }, "files": files });
    agent
}

async fn plan(rig: &GatewayRig, line: &str) -> Outcome {
    let options = PlanLine::parse_from(["plan".to_owned()].into_iter().chain(rig.words(line))).options;
    rig.run(async |dial, streams| command::plan(&options, dial, None, streams).await).await
}

#[tokio::test(start_paused = true)]
async fn manifests_that_change_nothing_on_the_gateway_have_nothing_to_do() {
    let rig = GatewayRig::new();
    rig.manifests("fleet.yaml", &[secret(), gateway("gw"), board("ops"), adopting("nova")]);
    let outcome = plan(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!((&outcome.result, outcome.err.as_str()), (&Ok(Comparison::Equal), ""), "{outcome:?}");
    let expected = "AgentGateway default/gw at wss://gateway:18789/\n\nAgent default/nova: agent nova, adopted\n";
    assert!(outcome.out.starts_with(expected), "{}", outcome.out);
    for expected in [
        "  nothing to do on the gateway\n",
        "Not managed by these files, and left alone: main, ops\n",
        "1 without a change",
    ] {
        assert!(outcome.out.contains(expected), "{expected}\n{}", outcome.out);
    }
}

#[tokio::test(start_paused = true)]
async fn the_credential_comes_from_a_file_too_and_the_output_is_json_or_yaml() {
    let rig = GatewayRig::new();
    let mut changed = adopting("nova");
    changed["spec"]["model"] = json!("acme/large");
    changed["spec"]["config"] = json!({ "tools": { "key": "hush" } });
    rig.manifests("fleet.yaml", &[gateway("gw"), board("ops"), changed]);
    let options = "-f DIR/fleet.yaml --gateway ws://gateway:18789 --token-file DIR/token";
    let outcome = plan(&rig, &format!("{options} -o json")).await;
    assert_eq!(outcome.result, Ok(Comparison::Different), "{outcome:?}");
    let data: Value = serde_json::from_str(&outcome.out).unwrap();
    let values = ["model: \"acme/small\" -> \"acme/large\"", "tools.key: set"];
    let change = json!({ "step": "submit_entry", "text": "change the config entry", "values": values });
    assert_eq!(data["agents"][0]["changes"], json!([change]));
    assert_eq!(Comparison::Different.exit_status(), 3);
    assert!(!outcome.out.contains("hush"));
    let yaml = plan(&rig, &format!("{options} -o yaml")).await.out;
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), data);
}

#[tokio::test(start_paused = true)]
async fn without_a_credential_the_error_names_every_way_to_give_one() {
    let rig = GatewayRig::new();
    rig.manifests("fleet.yaml", &[gateway("gw"), board("ops"), adopting("nova")]);
    let error = plan(&rig, "-f DIR/fleet.yaml").await.result.unwrap_err();
    for expected in
        ["Secret default/gateway, which spec.auth.tokenSecretRef names, is in none", "--gateway URL with --token-file"]
    {
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_of_the_options_goes_to_no_address_of_the_files() {
    let rig = GatewayRig::new();
    let mut theirs = gateway("gw");
    theirs["spec"]["tls"] = json!({ "insecureSkipVerify": true });
    rig.manifests("fleet.yaml", &[secret(), theirs, board("ops"), adopting("nova")]);
    for option in ["--token-file", "--password-file"] {
        let error = plan(&rig, &format!("-f DIR/fleet.yaml {option} DIR/token")).await.result.unwrap_err();
        assert!(error.starts_with(&format!("{option} is for the gateway of --gateway")), "{error}");
        assert!(error.contains("add --gateway URL"), "{error}");
    }
    assert!(rig.dialed.lock().unwrap().is_empty(), "there was no connection");
    let outcome = plan(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!(outcome.result, Ok(Comparison::Equal), "the Secret of the files: {outcome:?}");
    let outcome = plan(&rig, "-f DIR/fleet.yaml --gateway wss://tunnel --token-file DIR/token").await;
    assert_eq!(outcome.result, Ok(Comparison::Equal), "{outcome:?}");
    let expected = [("gateway".to_owned(), Trust::Unchecked), ("tunnel".to_owned(), Trust::Platform)];
    assert_eq!(*rig.dialed.lock().unwrap(), expected, "spec.tls of the files is for spec.url alone");
}

#[tokio::test(start_paused = true)]
async fn a_credential_goes_in_clear_only_to_a_gateway_of_the_command_line() {
    let rig = GatewayRig::new();
    rig.manifests("fleet.yaml", &[secret(), plain_gateway("gw"), board("ops"), adopting("nova")]);
    let error = plan(&rig, "-f DIR/fleet.yaml").await.result.unwrap_err();
    for expected in ["spec.url of AgentGateway default/gw: ws://gateway:18789/ would take", "run kubectl port-forward"]
    {
        assert!(error.contains(expected), "{error}");
    }
    assert!(rig.dialed.lock().unwrap().is_empty(), "there was no connection");
    let outcome = plan(&rig, "-f DIR/fleet.yaml --gateway ws://gateway:18789").await;
    assert_eq!(outcome.result, Ok(Comparison::Equal), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_token_and_a_gateway_that_is_away_are_failures() {
    let rig = GatewayRig::new();
    rig.manifests("fleet.yaml", &[gateway("gw"), board("ops"), adopting("nova")]);
    rig.write("wrong", "wrong-token");
    let outcome = plan(&rig, "-f DIR/fleet.yaml --gateway ws://gateway:18789 --token-file DIR/wrong").await;
    let error = outcome.result.unwrap_err();
    assert!(error.contains("ws://gateway:18789/ refused") && error.contains("--token-file"), "{error}");
    assert_eq!(outcome.out, "");
    let away = plan(&rig, "-f DIR/fleet.yaml --token-file DIR/token --gateway ws://nowhere --timeout 5").await;
    let error = away.result.unwrap_err();
    assert!(error.contains("ws://nowhere/: there was no answer within 5 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_manifest_fails_and_the_others_are_planned() {
    let rig = GatewayRig::new();
    let mut typo = adopting("ops");
    typo["spec"]["modell"] = json!("x");
    let mut lost = adopting("lost");
    lost["spec"]["boardRef"]["name"] = json!("nowhere");
    let mut broken = adopting("ops");
    broken["metadata"]["name"] = json!("broken");
    broken["spec"]["files"] = json!([{ "name": "SOUL.md", "template": { "inline": "{{ agent_nam }}" } }]);
    rig.manifests("fleet.yaml", &[secret(), gateway("gw"), board("ops"), adopting("nova"), typo, lost, broken]);
    let outcome = plan(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!(outcome.result, Err("3 objects failed".into()), "{outcome:?}");
    for expected in [
        "DIR/fleet.yaml, document 5: agent.muster.dev/ops: ",
        "modell",
        "DIR/fleet.yaml, document 6: agent.muster.dev/lost: Board default/nowhere, which spec.boardRef names, is in none of the files",
    ] {
        assert!(outcome.err.contains(expected), "{expected}\n{}", outcome.err);
    }
    assert!(outcome.out.contains("Agent default/nova: agent nova, adopted\n"), "{}", outcome.out);
    assert!(
        outcome.out.contains("Agent default/broken\n  BLOCKED TemplateError: SOUL.md was not rendered: "),
        "{}",
        outcome.out
    );
    let not_managed = "Not managed by these files, and left alone: main\n";
    assert!(outcome.out.contains(not_managed), "the files declare ops: {}", outcome.out);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_being_deleted_is_a_change() {
    let rig = GatewayRig::new();
    let mut nova = adopting("nova");
    nova["metadata"]["uid"] = json!("u-1");
    nova["metadata"]["deletionTimestamp"] = json!("2026-03-01T09:00:00Z");
    nova["metadata"]["finalizers"] = json!(["muster.dev/cleanup"]);
    nova["status"] = json!({ "agentId": "nova", "binding": { "uid": "u-1", "agentId": "nova",
        "sessionKey": "agent:nova:main", "workspace": "/srv/nova", "gateway": { "name": "gw", "namespace": "default" } } });
    rig.manifests("kept.yaml", &[secret(), gateway("gw"), board("ops"), nova.clone()]);
    let outcome = plan(&rig, "-f DIR/kept.yaml").await;
    assert_eq!(outcome.result, Ok(Comparison::Equal), "deletionPolicy Orphan: {outcome:?}");
    nova["spec"]["deletionPolicy"] = json!("Delete");
    rig.manifests("fleet.yaml", &[secret(), gateway("gw"), board("ops"), nova]);
    let outcome = plan(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!(outcome.result, Ok(Comparison::Different), "{outcome:?}");
    for expected in [
        "Agent default/nova: agent nova, being deleted\n  delete agent nova, because the Agent is being deleted\n",
        "Not managed by these files, and left alone: main, ops\n",
        "1 to change, 0 without a change, 0 blocked\n",
    ] {
        assert!(outcome.out.contains(expected), "{expected}\n{}", outcome.out);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_a_manifest_forges_no_line() {
    let rig = GatewayRig::new();
    let mut nova = adopting("nova");
    nova["spec"]["config"] = json!({ "tools": { "a\nAgent default/x: agent x, adopted": 1 } });
    rig.manifests("fleet.yaml", &[secret(), gateway("gw"), board("ops"), nova]);
    let outcome = plan(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!(outcome.result, Ok(Comparison::Different), "{outcome:?}");
    assert!(!outcome.out.contains("\nAgent default/x"), "{}", outcome.out);
    assert!(outcome.out.contains(r#"    tools."a\nAgent default/x: agent x, adopted": set"#), "{}", outcome.out);
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_gateway_is_in_no_file_is_a_failure() {
    let rig = GatewayRig::new();
    let mut elsewhere = board("elsewhere");
    elsewhere["spec"]["gatewayRef"]["name"] = json!("other");
    let mut lost = adopting("ops");
    lost["spec"]["boardRef"]["name"] = json!("elsewhere");
    rig.manifests("fleet.yaml", &[secret(), gateway("gw"), board("ops"), adopting("nova"), elsewhere, lost]);
    let outcome = plan(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!(outcome.result, Err("1 object failed".into()), "{outcome:?}");
    let expected =
        "agent.muster.dev/ops: AgentGateway default/other is in none of the files; give the file that has it";
    assert!(outcome.err.contains(expected), "{}", outcome.err);
    rig.manifests("none.yaml", &[board("ops"), adopting("nova")]);
    let error = plan(&rig, "-f DIR/none.yaml").await.result.unwrap_err();
    assert_eq!(error, "there is no AgentGateway in the files; give the file that has it");
}

#[tokio::test(start_paused = true)]
async fn of_several_gateways_one_is_chosen() {
    let rig = GatewayRig::new();
    let mut other = gateway("other");
    other["spec"]["url"] = json!("wss://elsewhere:18789");
    let mut board_there = board("there");
    board_there["spec"]["gatewayRef"]["name"] = json!("other");
    let mut there = adopting("ops");
    there["spec"]["boardRef"]["name"] = json!("there");
    rig.manifests("fleet.yaml", &[secret(), gateway("gw"), other, board("ops"), board_there, adopting("nova"), there]);
    let error = plan(&rig, "-f DIR/fleet.yaml").await.result.unwrap_err();
    assert!(error.contains("choose one with --agent-gateway: default/gw, default/other"), "{error}");
    let error = plan(&rig, "-f DIR/fleet.yaml --agent-gateway third").await.result.unwrap_err();
    assert!(error.starts_with("--agent-gateway third: AgentGateway default/third is in none of the files"), "{error}");
    let outcome = plan(&rig, "-f DIR/fleet.yaml --agent-gateway gw").await;
    assert_eq!(outcome.result, Ok(Comparison::Equal), "{outcome:?}");
    assert!(outcome.err.contains("1 Agents of other AgentGateways are not planned"), "{}", outcome.err);
    assert!(!outcome.out.contains("Agent default/ops"), "{}", outcome.out);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_only_observed_has_nothing_to_do_or_is_missing() {
    let rig = GatewayRig::new();
    let observing = |name: &str| {
        let mut agent = agent(name);
        agent["spec"] = json!({ "boardRef": { "name": "ops" }, "agentId": name, "managementPolicy": "Observe" });
        agent
    };
    rig.manifests("fleet.yaml", &[secret(), gateway("gw"), board("ops"), observing("nova")]);
    let outcome = plan(&rig, "-f DIR/fleet.yaml").await;
    assert_eq!(outcome.result, Ok(Comparison::Equal), "{outcome:?}");
    let expected = "Agent default/nova: agent nova, only observed\n  nothing to do on the gateway\n";
    assert!(outcome.out.contains(expected), "{}", outcome.out);
    assert!(outcome.out.contains("Not managed by these files, and left alone: main, ops\n"), "{}", outcome.out);

    rig.manifests("missing.yaml", &[secret(), gateway("gw"), board("ops"), observing("vega")]);
    let outcome = plan(&rig, "-f DIR/missing.yaml").await;
    assert!(outcome.result.is_err() && outcome.out.contains("BLOCKED AgentMissing: "), "{outcome:?}");
}
