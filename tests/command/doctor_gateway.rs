//! `muster doctor --connect`: the gateway's side over a connection of the command.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use muster::hash::sha256_hex;
use muster_simulator::{Fault, Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{AGENTS, BOARDS, GATEWAYS, Rig, SECRETS, agent, board, gateway};

const TOKEN: &str = "hush-token";
const SOUL: &str = "I am one. My token is secret-of-one.";

fn status() -> Value {
    let ready = json!([{ "type": "Ready", "status": "True", "reason": "Reconciled", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-03-01T09:30:00Z" }]);
    let binding = json!({ "uid": "u", "agentId": "mc-1", "sessionKey": "agent:mc-1:main", "workspace": "/w/mc-1",
        "gateway": { "name": "gw", "namespace": "fleet" } });
    let file = |name: &str, text: &str| json!({ "name": name, "state": "Synced", "sha256": sha256_hex(text), "size": text.len() });
    json!({ "status": { "observedGeneration": 1, "conditions": ready, "agentId": "mc-1", "workspacePath": "/w/mc-1",
        "sessionKey": "agent:mc-1:main", "binding": binding,
        "files": [file("SOUL.md", SOUL), file("IDENTITY.md", "one"), { "name": "TOOLS.md", "state": "Folded" },
            { "name": "BOOTSTRAP.md", "state": "Kept" }] } })
}

/// A fleet whose gateway has the agent as its status says.
async fn fleet() -> (Rig, Simulator) {
    let rig = Rig::new().await;
    rig.send(
        "POST",
        SECRETS,
        json!({ "metadata": { "name": "gateway" }, "data": { "token": STANDARD.encode(TOKEN) } }),
    )
    .await;
    let mut gw = gateway("gw");
    gw["spec"]["url"] = json!("wss://gateway:18789");
    rig.send("POST", GATEWAYS, gw).await;
    rig.send("POST", BOARDS, board("ops")).await;
    let mut one = agent("one");
    one["spec"]["model"] = json!("anthropic/claude");
    rig.send("POST", AGENTS, one).await;
    rig.send("PATCH", &format!("{AGENTS}/one/status"), status()).await;
    let version = json!({ "status": { "conditions": status()["status"]["conditions"], "serverVersion": "2026.9.6" } });
    rig.send("PATCH", &format!("{GATEWAYS}/gw/status"), version).await;
    rig.send(
        "PATCH",
        &format!("{BOARDS}/ops/status"),
        json!({ "status": { "conditions": status()["status"]["conditions"] } }),
    )
    .await;
    let simulator = Simulator::new(Profile::v2026_9_6().with_token(TOKEN));
    let entry =
        json!({ "name": "one", "workspace": "/w/mc-1", "model": "anthropic/claude", "heartbeat": { "every": "5m" } });
    simulator.edit_config(|config| config["agents"] = json!({ "ownership": "explicit", "entries": { "mc-1": entry } }));
    simulator.edit_file("mc-1", "SOUL.md", Some(SOUL));
    simulator.edit_file("mc-1", "IDENTITY.md", Some("one"));
    simulator.begin_run("mc-1");
    simulator.end_run("mc-1");
    rig.gateways.add("gateway", &simulator);
    (rig, simulator)
}

/// The part of the output about the gateway's side.
fn seen(out: &str) -> &str {
    &out[out.find(" at wss://").unwrap_or_else(|| panic!("{out}"))..]
}

#[tokio::test(start_paused = true)]
async fn a_healthy_agent_is_as_its_status_says_and_nothing_is_written() {
    let (rig, simulator) = fleet().await;
    let before = (simulator.config(), simulator.sessions().len(), simulator.workspace("/w/mc-1"));
    let out = rig.ok("doctor agent one --connect").await;
    for part in [
        "AgentGateway fleet/gw at wss://gateway:18789/\n",
        "  ok     Reachable      connected to wss://gateway:18789/\n",
        "  ok     Authenticated  the gateway granted operator.",
        "  ok     Compatible     OpenClaw 2026.9.6, protocol 4\n",
        "  ok     Settled        the gateway has applied its own last config\n",
        "Agent fleet/one at wss://gateway:18789/\n",
        "  ok     roster     the gateway serves mc-1\n",
        "  ok     entry      workspace /w/mc-1, model anthropic/claude, a heartbeat every 5m\n",
        "  ok     files      2 are there, and the hashes of 2 are as Muster wrote them\n",
        "  ok     session    it is there\n",
        "  ok     last run   it began ",
        "  ok     heartbeat  ",
        "\nNothing is wrong.\n",
    ] {
        assert!(out.contains(part), "{part:?} is missing:\n{out}");
    }
    assert!(!out.contains("secret-of-one") && !out.contains(TOKEN), "{out}");
    assert_eq!(simulator.writes(), 0);
    assert_eq!((simulator.config(), simulator.sessions().len(), simulator.workspace("/w/mc-1")), before);
    assert!(!rig.ok("doctor agent one").await.contains(" at wss://"), "no connection without the option");
}

#[tokio::test(start_paused = true)]
async fn what_differs_on_the_gateway_is_named_with_what_to_do() {
    let (rig, simulator) = fleet().await;
    simulator.edit_file("mc-1", "SOUL.md", Some("changed"));
    simulator.edit_file("mc-1", "IDENTITY.md", None);
    simulator.edit_config(|config| config["agents"]["entries"]["mc-1"]["model"] = json!("other/model"));
    let ran = rig.run("doctor agent one --connect").await;
    assert_eq!((ran.status, ran.err.as_str()), (1, "muster: 2 checks failed\n"), "{}", ran.out);
    for part in [
        "WRONG  entry             workspace /w/mc-1, model other/model, a heartbeat every 5m; Muster wants model anthropic/claude\n",
        "note   file SOUL.md      somebody changed it after Muster wrote it\n",
        "WRONG  file IDENTITY.md  the gateway does not have it\n",
        "to do: muster sync agent one: Muster writes it again.\n",
    ] {
        assert!(ran.out.contains(part), "{part:?} is missing:\n{}", ran.out);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_the_gateway_does_not_have_is_reported() {
    let (rig, simulator) = fleet().await;
    simulator.remove_agent("mc-1");
    let ran = rig.run("doctor agent one --connect").await;
    assert_eq!(ran.status, 1);
    assert!(seen(&ran.out).contains("  WRONG  roster  the gateway has no agent mc-1\n"), "{}", ran.out);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_credential_is_reported_as_the_condition_would_be() {
    let (rig, simulator) = fleet().await;
    simulator.change_token("another-token");
    let ran = rig.run("doctor gateway gw --connect").await;
    assert_eq!(ran.status, 1);
    let seen = seen(&ran.out);
    for part in [
        "WRONG  Authenticated  False (BadCredentials): the gateway refused the connection: ",
        "to do: Correct the Secret that `spec.auth` names.\n",
        "ok     Reachable      wss://gateway:18789/ answers\n",
    ] {
        assert!(seen.contains(part), "{part:?} is missing:\n{seen}");
    }
    rig.write("token", "another-token\n");
    let out = rig.ok("doctor gateway gw --connect --token-file DIR/token").await;
    assert!(out.contains("ok     Authenticated"), "{out}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_away_is_reported_with_the_way_through_a_port_forward() {
    let (rig, simulator) = fleet().await;
    simulator.kill();
    let start = tokio::time::Instant::now();
    let ran = rig.run("doctor gateway gw --connect").await;
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "it waits for people, and not for the network");
    assert_eq!(ran.status, 1);
    let seen = seen(&ran.out);
    assert!(
        seen.contains("WRONG  Reachable      False (Unreachable): no connection to wss://gateway:18789/"),
        "{seen}"
    );
    assert!(seen.contains("kubectl port-forward"), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_answer_in_time_is_wrong() {
    let (rig, _) = fleet().await;
    rig.gateways.fall_silent();
    let ran = rig.run("doctor agent one --connect --timeout 1").await;
    assert_eq!(ran.status, 1, "{}", ran.out);
    let seen = seen(&ran.out);
    assert!(seen.contains("the gateway did not answer within 1 s\n"), "{seen}");
    assert!(seen.contains("  wait   agent  not looked at: the gateway was not read\n"), "{seen}");
    assert!(!ran.out.contains("Nothing is wrong"), "{}", ran.out);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_roster_cannot_be_read_is_wrong() {
    let (rig, simulator) = fleet().await;
    let broken = Fault::on("config.get").error("INVALID_REQUEST", "the config is broken", false);
    simulator.inject(broken.lasting(std::time::Duration::from_hours(1)));
    let ran = rig.run("doctor agent one --connect").await;
    assert_eq!(ran.status, 1, "{}", ran.out);
    let seen = seen(&ran.out);
    assert!(seen.contains("WRONG  ") && seen.contains("the config is broken"), "{seen}");
    assert!(seen.contains("  wait   agent  not looked at: the gateway was not read\n"), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn a_credential_goes_in_clear_only_to_a_gateway_of_the_command_line() {
    let (rig, simulator) = fleet().await;
    let clear = json!({ "spec": { "url": "ws://gateway:18789" } });
    rig.send("PATCH", &format!("{GATEWAYS}/gw"), clear).await;
    let ran = rig.run("doctor gateway gw --connect").await;
    assert_eq!((ran.status, simulator.connections()), (1, 0), "{}", ran.out);
    let expected =
        "WRONG  connection  spec.url ws://gateway:18789/ would take the credential over the network in clear\n";
    assert!(ran.out.contains(expected) && ran.out.contains("Run kubectl port-forward"), "{}", ran.out);
    let out = rig.ok("doctor gateway gw --gateway ws://gateway:18789").await;
    assert!(out.contains("ok     Authenticated"), "{out}");
}

#[tokio::test(start_paused = true)]
async fn the_url_of_an_option_replaces_that_of_the_object() {
    let (rig, simulator) = fleet().await;
    rig.gateways.add("127.0.0.1", &simulator);
    let out = rig.ok("doctor agent one --gateway ws://127.0.0.1:1").await;
    assert!(out.contains("Agent fleet/one at ws://127.0.0.1:1/\n"), "{out}");
    let ran = rig.run("doctor agent one --gateway ws://me:hush@127.0.0.1:1").await;
    assert!(ran.status == 1 && !ran.out.contains("hush@"), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_read_the_secret_the_check_names_the_right() {
    let (rig, simulator) = fleet().await;
    rig.overlay
        .forbid(&format!("{SECRETS}/gateway"), "secrets \"gateway\" is forbidden: User \"me\" cannot get resource");
    let ran = rig.run("doctor gateway gw --connect").await;
    let seen = seen(&ran.out);
    assert_eq!(ran.status, 1);
    assert!(
        seen.contains("WRONG  connection  secrets \"gateway\" is forbidden: User \"me\" cannot get resource\n"),
        "{seen}"
    );
    let next_step = "to do: Ask for the right to get Secret gateway in namespace fleet, or give --token-file or";
    assert!(seen.contains(next_step), "{seen}");
    assert_eq!(simulator.connections(), 0);
    rig.write("token", TOKEN);
    let out = rig.ok("doctor gateway gw --connect --token-file DIR/token").await;
    assert!(out.contains("ok     Authenticated"), "{out}");
}

#[tokio::test(start_paused = true)]
async fn a_remote_gateway_is_asked_for_an_approval_while_the_command_waits() {
    let (rig, simulator) = fleet().await;
    rig.gateways.see_the_command_as_remote();
    let script = async |_, err: crate::rig::Screen| {
        err.until("run this where the gateway runs: openclaw devices approve ").await;
        let request = simulator.pairing_requests().remove(0);
        assert!(simulator.approve_pairing(&request));
        err.until("this device is no longer used; run this where the gateway runs: openclaw devices remove ").await;
    };
    assert_eq!(rig.alongside("doctor gateway gw --connect", true, script).await, Some(Ok(())));
    let ran = rig.run("doctor gateway gw --connect --timeout 5").await;
    let seen = seen(&ran.out);
    assert!(ran.status == 1 && seen.contains("WRONG  Paired         False (PairingRequired): "), "{ran:?}");
    assert!(seen.contains("which the gateway has to approve while the command waits\n"), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn without_an_agent_gateway_that_can_be_read_there_is_no_connection() {
    let (rig, simulator) = fleet().await;
    rig.overlay.forbid(
        &format!("{GATEWAYS}/gw"),
        "agentgateways.muster.dev \"gw\" is forbidden: User \"me\" cannot get resource",
    );
    let ran = rig.run("doctor agent one --connect").await;
    let expected = "there is no AgentGateway that could be read, and so no connection\nmuster: 1 check failed\n";
    assert_eq!((ran.status, ran.err.as_str()), (1, expected), "{}", ran.out);
    assert_eq!(simulator.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn options_of_a_connection_without_one_are_refused() {
    let (rig, _) = fleet().await;
    for line in ["doctor agent one --token-file x", "doctor agent one --ca-file x"] {
        let ran = rig.run(line).await;
        assert!(ran.status == 2 && ran.err.contains("add --connect, or --gateway URL"), "{ran:?}");
    }
    let ran = rig.run("doctor agent one --connect --token-file DIR/missing").await;
    assert!(ran.status == 1 && ran.out.contains("--token-file DIR/missing: No such file"), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn programs_get_the_checks_as_data() {
    let (rig, _) = fleet().await;
    let out = rig.ok("doctor agent one --connect -o json").await;
    let data: Value = serde_json::from_str(&out).unwrap();
    let objects = data["objects"].as_array().unwrap();
    let names: Vec<_> = objects.iter().map(|one| (one["kind"].as_str().unwrap(), one["gateway"].as_str())).collect();
    let url = Some("wss://gateway:18789/");
    let expected = [("AgentGateway", None), ("Board", None), ("Agent", None), ("AgentGateway", url), ("Agent", url)];
    assert_eq!(names, expected);
    let ready = json!({ "check": "Ready", "state": "ok", "found": "True (Reconciled)", "means": "", "todo": "" });
    assert_eq!(objects[2]["checks"][0], ready);
    rig.send("PATCH", &format!("{SECRETS}/gateway"), json!({ "data": { "token": null } })).await;
    let ran = rig.run("doctor gateway gw -o yaml").await;
    assert!(ran.status == 1 && ran.out.contains("state: wrong"), "{ran:?}");
}
