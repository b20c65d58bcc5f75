//! `muster support-bundle`.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::rig::{AGENTS, BOARDS, GATEWAYS, Rig, SECRETS, agent, board, gateway};

/// The files of an archive by their paths below its folder.
fn unpacked(archive: &Path) -> BTreeMap<String, String> {
    let file = std::fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (path.split_once('/').unwrap().1.to_owned(), text)
    });
    entries.collect()
}

/// Secrets that are in the cluster, each in several places.
const TOKEN: &str = "Gateway-Token/7+\"x\"";
const PASSWORD: &str = "tr0ub4dor&3";
const AGENT_TOKEN: &str = "Zk3_bQ9-xT7wLr2VnY8mPd4sHc6JgA1fEu5Ko0Bi_Ws";
const API_KEY: &str = "plainwordkey";
const EMBEDDED_KEY: &str = "sk-live-0123456789abcdef";
const NOTE: &str = "note-with-key-42abc";
const APPLIED: &str = "applied-hush";
const PERSON: &str = "Ada Lovelace";
/// A secret that is longer than a line of doctor.txt, and one word of it.
const PHRASE: &str =
    "Alpha Bravo Charlie Delta Echo Foxtrot Golf Hotel India Juliett Kilo Lima Mike November Oscar Papa Quebec Romeo";
const WORD: &str = "Juliett";
const DEVICE_KEY: [u8; 32] = [0xC7; 32];

fn secrets() -> Vec<String> {
    let words = [TOKEN, PASSWORD, AGENT_TOKEN, API_KEY, EMBEDDED_KEY, NOTE, APPLIED, PERSON];
    let plain = words.map(str::to_owned);
    let escaped = words.map(|word| json!(word).to_string().trim_matches('"').to_owned());
    let encoded = words.map(|word| STANDARD.encode(word));
    let device = [STANDARD.encode(DEVICE_KEY), URL_SAFE_NO_PAD.encode(DEVICE_KEY)];
    plain.into_iter().chain(escaped).chain(encoded).chain(device).collect()
}

fn deployment() -> Value {
    let env = json!([{ "name": "HTTPS_PROXY", "value": format!("http://me:{PASSWORD}@proxy") }]);
    let container = json!({ "name": "muster", "image": "muster:1", "args": ["run", format!("--x-token={PASSWORD}")], "env": env,
        "ports": [{ "name": "metrics", "containerPort": 8082 }] });
    let metadata = json!({ "name": "muster-0", "namespace": "muster-system", "annotations": { "a": NOTE } });
    json!({ "metadata": metadata, "spec": { "replicas": 2, "containers": [container.clone()],
        "template": { "spec": { "containers": [container] } } },
        "status": { "containerStatuses": [{ "name": "muster", "restartCount": 1 }] } })
}

async fn put_secrets(rig: &Rig) {
    let encode = |text: &str| STANDARD.encode(text);
    for (name, data) in [
        ("gateway", json!({ "token": encode(TOKEN), "user": encode("admin") })),
        ("other", json!({ "word": encode(PASSWORD) })),
        ("gw-device", json!({ "device-key": STANDARD.encode(DEVICE_KEY), "device-id": encode("abcdef0123456789") })),
        ("one-token", json!({ "token": encode(AGENT_TOKEN), "agent-id": encode("uid-of-one-agent") })),
    ] {
        rig.send("POST", SECRETS, json!({ "metadata": { "name": name }, "data": data })).await;
    }
    let templates = json!({ "metadata": { "name": "templates" }, "data": { "SOUL.md": format!("I know {PERSON}, {EMBEDDED_KEY}") } });
    rig.send("POST", "/api/v1/namespaces/fleet/configmaps", templates).await;
}

/// A fleet with secrets everywhere.
async fn fleet() -> Rig {
    let rig = Rig::new().await;
    put_secrets(&rig).await;
    rig.send("POST", GATEWAYS, gateway("gw")).await;
    let mut second = gateway("second");
    second["spec"]["auth"] = json!({ "passwordSecretRef": { "name": "other", "key": "word" } });
    rig.send("POST", GATEWAYS, second).await;
    let mut ops = board("ops");
    ops["spec"]["objective"] = json!(format!("For {PERSON}"));
    ops["spec"]["templates"] = json!({ "configMapRef": { "name": "templates" } });
    rig.send("POST", BOARDS, ops).await;
    let mut one = agent("one");
    one["metadata"]["annotations"] = json!({ "example.com/note": NOTE,
        "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"spec\":\"{APPLIED}\"}}") });
    one["spec"]["config"] = json!({ "tools": { "profile": "minimal" }, "search": { "apiKey": API_KEY },
        "servers": [{ "url": format!("https://me:{PASSWORD}@host/"), "env": [{ "name": "X_TOKEN", "value": EMBEDDED_KEY }] }] });
    one["spec"]["identityProfile"] =
        json!({ "customInstructions": format!("Ask {PERSON}"), "extra": { "team": EMBEDDED_KEY } });
    one["spec"]["files"] = json!([{ "name": "NOTES.md", "template": { "inline": format!("The key is {API_KEY}") } }]);
    rig.send("POST", AGENTS, one).await;
    put_status(&rig).await;
    put_operator(&rig);
    rig
}

/// A status and an event that repeat secrets.
async fn put_status(rig: &Rig) {
    let message = format!(
        "the gateway answers {TOKEN} {PASSWORD} {AGENT_TOKEN} {API_KEY} {EMBEDDED_KEY} {NOTE} \"passphrase\": \"{PHRASE}\""
    );
    let ready = json!({ "type": "Ready", "status": "False", "reason": "GatewayError", "message": message,
        "lastTransitionTime": "2026-03-01T09:30:00Z", "observedGeneration": 1 });
    let status = json!({ "status": { "observedGeneration": 1, "conditions": [ready],
        "lastError": { "code": "X", "message": message, "transient": true },
        "token": { "secretName": "one-token", "sha256": "00" } } });
    rig.send("PATCH", &format!("{AGENTS}/one/status"), status).await;
    let device = json!({ "status": { "deviceSecret": "gw-device" } });
    rig.send("PATCH", &format!("{GATEWAYS}/gw/status"), device).await;
    let uid = rig.get(&format!("{AGENTS}/one")).await["metadata"]["uid"].clone();
    let event = json!({ "metadata": { "name": "one.1" }, "type": "Warning", "reason": "Failed", "action": "Write", "note": message,
        "eventTime": "2026-03-01T09:50:00.000000Z", "reportingController": "muster.dev/muster", "reportingInstance": "m-0",
        "regarding": { "kind": "Agent", "name": "one", "namespace": "fleet", "uid": uid } });
    rig.send("POST", "/apis/events.k8s.io/v1/namespaces/fleet/events", event).await;
}

/// The operator's own objects, which the embedded API does not have.
fn put_operator(rig: &Rig) {
    let place = "/namespaces/muster-system";
    rig.overlay.answer(&format!("/apis/apps/v1{place}/deployments"), json!({ "items": [deployment()] }));
    rig.overlay.answer(&format!("/api/v1{place}/pods"), json!({ "items": [deployment()] }));
    let lease = json!({ "metadata": { "name": "muster" }, "spec": { "holderIdentity": "muster-0" } });
    rig.overlay.answer(&format!("/apis/coordination.k8s.io/v1{place}/leases/muster"), lease);
    let line = json!({ "level": "ERROR", "message": format!("answer {TOKEN}"), "agent": "one", "password": "lower" });
    let log = format!(
        "{line}\nAuthorization: Bearer {AGENT_TOKEN}\nwss://me:{PASSWORD}@host {API_KEY} {EMBEDDED_KEY}\nthe end\n"
    );
    rig.overlay.answer_text(&format!("/api/v1{place}/pods/muster-0/log"), &log);
    rig.overlay.answer_text(&format!("/api/v1{place}/pods/muster-0:8082/proxy/metrics"), "muster_agents 1\n");
    for kind in ["agentgateways", "boards", "agents"] {
        let versions = json!([{ "name": "v1alpha1", "served": true, "storage": true, "schema": {} }]);
        rig.overlay.answer(
            &format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind}.muster.dev"),
            json!({ "metadata": { "name": kind }, "spec": { "versions": versions }, "status": { "storedVersions": ["v1alpha1"] } }),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_bundle_has_everything_and_no_secret() {
    let rig = fleet().await;
    let ran = rig.run("support-bundle -o DIR/b.tar.gz").await;
    assert_eq!((ran.status, ran.out.as_str()), (0, "DIR/b.tar.gz\n"), "{ran:?}");
    assert_eq!(ran.err, "look through the bundle before you share it; README.txt in it says what each file is\n");
    let path = rig.path("b.tar.gz");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpacked(&path);
    for secret in secrets().into_iter().chain([WORD.to_owned()]) {
        let with: Vec<_> = files.iter().filter(|(_, text)| text.contains(&secret)).collect();
        assert!(with.is_empty(), "{secret:?} is in {with:?}");
    }
    for (path, part) in [
        ("README.txt", "  agents.yaml: the agents\n"),
        ("errors.txt", "Everything was read.\n"),
        ("versions.yaml", "kubernetes: v1.36.3"),
        ("agents.yaml", "profile: minimal"),
        ("agents.yaml", "the gateway answers [credential]"),
        ("agentgateways.yaml", "name: second"),
        ("boards.yaml", "objective: \"[removed]\""),
        ("secrets.yaml", "device-key: 32 bytes"),
        ("secrets.yaml", "name: gw-device"),
        ("configmaps.yaml", "SOUL.md: 45 bytes"),
        ("events.yaml", "reason: Failed"),
        ("tree.txt", "└─Agent/one"),
        ("doctor.txt", "  WRONG  Ready"),
        ("definitions.yaml", "storage: true"),
        ("operator/deployments.yaml", "image: muster:1"),
        ("operator/deployments.yaml", "- HTTPS_PROXY"),
        ("operator/lease.yaml", "holderIdentity: muster-0"),
        ("operator/pods.yaml", "restartCount: 1"),
        ("operator/logs/muster-0.log", "the end\n"),
        ("operator/logs/muster-0.previous.log", "the end\n"),
        ("operator/metrics/muster-0.txt", "muster_agents 1\n"),
    ] {
        assert!(
            files.get(path).is_some_and(|text| text.contains(part)),
            "{part:?} is not in {path}: {:?}",
            files.get(path)
        );
    }
    let log = rig.overlay.requests_to("/api/v1/namespaces/muster-system/pods/muster-0/log");
    assert!(
        log[0].contains("container=muster&timestamps=true&previous=false&tailLines=5000&limitBytes=4194304"),
        "{log:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_log_beyond_the_limit_the_newest_lines_stay() {
    let rig = fleet().await;
    let lines = (0..5000).map(|line| format!("line {line} {}\n", "word ".repeat(200)));
    rig.overlay.answer_log("/api/v1/namespaces/muster-system/pods/muster-0/log", &lines.collect::<String>());
    let ran = rig.run("support-bundle -o DIR/b.tar.gz").await;
    assert_eq!(ran.status, 0, "{ran:?}");
    let files = unpacked(&rig.path("b.tar.gz"));
    let log = &files["operator/logs/muster-0.log"];
    assert!(log.lines().last().unwrap().starts_with("line 4999 "), "{:?}", log.lines().last());
    assert!(log.len() > 1024 * 1024, "{}", log.len());
    let errors = &files["errors.txt"];
    let expected = "the log of pod muster-system/muster-0: only its last ";
    assert!(errors.contains(expected) && errors.contains("lines: 5000 have more than 4194304 bytes"), "{errors}");
}

#[tokio::test(start_paused = true)]
async fn gateways_of_other_namespaces_that_cannot_be_read_are_a_line() {
    let rig = fleet().await;
    let mut away = board("away");
    away["spec"]["gatewayRef"] = json!({ "name": "gw", "namespace": "elsewhere" });
    rig.send("POST", BOARDS, away).await;
    rig.overlay.answer_text("/apis/muster.dev/v1alpha1/namespaces/elsewhere/agentgateways/gw", "no JSON");
    let ran = rig.run("support-bundle -o DIR/b.tar.gz").await;
    assert_eq!(ran.status, 0, "{ran:?}");
    let errors = &unpacked(&rig.path("b.tar.gz"))["errors.txt"];
    assert!(errors.contains("agentgateways of other namespaces: the API server did not answer"), "{errors}");
}

#[tokio::test(start_paused = true)]
async fn what_the_user_may_not_read_is_a_line_and_no_failure() {
    let rig = fleet().await;
    rig.overlay
        .forbid(&format!("{SECRETS}/gateway"), "secrets \"gateway\" is forbidden: User \"me\" cannot get resource");
    rig.overlay.forbid(BOARDS, "boards.muster.dev is forbidden: User \"me\" cannot list resource");
    rig.overlay.forbid("/api/v1/namespaces/muster-system/pods", "pods is forbidden: User \"me\" cannot list resource");
    let ran = rig.run("support-bundle -o DIR/b.tgz").await;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.err.starts_with("3 parts could not be read; errors.txt in the bundle has the causes\n"), "{ran:?}");
    let errors = &unpacked(&rig.path("b.tgz"))["errors.txt"];
    for part in [
        "Secret fleet/gateway: secrets \"gateway\" is forbidden",
        "boards: boards.muster.dev is",
        "Pods in muster-system: pods",
    ] {
        assert!(errors.contains(part), "{errors}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_existing_file_is_refused_before_anything_is_read() {
    let rig = fleet().await;
    rig.write("b.tar.gz", "mine");
    let ran = rig.run("support-bundle -o DIR/b.tar.gz").await;
    let expected = "muster: --output DIR/b.tar.gz: it exists, and a bundle replaces nothing; give another name\n";
    assert_eq!((ran.status, ran.err.as_str()), (1, expected));
    assert_eq!(std::fs::read_to_string(rig.path("b.tar.gz")).unwrap(), "mine");
    assert!(rig.overlay.requests_to("/version").is_empty());
    let ran = rig.run("support-bundle -o DIR/nowhere/b.tar.gz").await;
    assert!(ran.status == 1 && ran.err.contains("muster: --output DIR/nowhere/b.tar.gz: No such file"), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_without_the_ending_of_an_archive_is_a_folder() {
    let rig = fleet().await;
    rig.run("support-bundle -A -o DIR/bundle").await;
    assert_eq!(std::fs::metadata(rig.path("bundle")).unwrap().permissions().mode() & 0o777, 0o700);
    let tree = std::fs::read_to_string(rig.path("bundle/tree.txt")).unwrap();
    assert!(tree.contains("Agent/one"), "{tree}");
}
