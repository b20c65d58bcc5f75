//! The picture of the fleet page in the README: `scripts/fleet-picture`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use muster_harness::Browser;
use muster_simulator::{Profile, Simulator};
use serde_json::json;

use crate::process::Standalone;

/// The silence of an agent counts after two minutes.
const LIMIT: Duration = Duration::from_mins(5);
const WIDTH: u32 = 1280;

/// What agents report at the beginning, and just before the picture is taken.
const EARLY: [(&str, &str, &str); 3] =
    [("incident-responder", "active", "INC-77"), ("database-engineer", "idle", ""), ("website-lead", "idle", "")];
const LATE: [(&str, &str, &str); 4] = [
    ("infra-lead", "active", "OPS-212"),
    ("devops-engineer", "active", "OPS-219"),
    ("support-lead", "idle", ""),
    ("triage", "active", "SUP-1043"),
];

/// Each row of the picture, in the order of the page.
const ROWS: [(&str, &str); 10] = [
    ("support-lead", "Idle"),
    ("triage", "Active"),
    ("translator", "Ready"),
    ("infra-lead", "Active"),
    ("database-engineer", "Idle"),
    ("devops-engineer", "Active"),
    ("incident-responder", "Offline"),
    ("website-lead", "Idle"),
    ("content-editor", "Paused"),
    ("release-writer", "Failed"),
];

const SHOWN_ROWS: &str = "[...document.querySelectorAll('.row')].map((row) => [row.querySelector('.sub').textContent.replace('fleet/', ''), row.querySelector('.badge').textContent]).sort()";

/// Runs a command of `muster`, with a text at its standard input.
fn muster(operator: &Standalone, arguments: &[&str], input: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(arguments).arg("--kubeconfig").arg(operator.dir().join("kubeconfig")).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "muster {arguments:?}");
}

/// The agents check in, as their heartbeat commands do.
async fn check_in(operator: &Standalone, client: &kube::Client, reports: &[(&str, &str, &str)]) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "fleet");
    for (name, status, task) in reports {
        let secret = secrets.get(&format!("{name}-token")).await.unwrap();
        let token = String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap();
        let body = json!({ "status": status, "current_task_id": task });
        assert_eq!(operator.check_in(&token, &body.to_string()).await, 200, "{name}");
    }
}

fn wait_for(operator: &Standalone, condition: &str, agents: &[(&str, &str, &str)]) {
    let names: Vec<_> = agents.iter().map(|(name, _, _)| *name).collect();
    let condition = format!("--for=condition={condition}");
    muster(operator, &[&["wait", "agent", "-n", "fleet", &condition, "--timeout=5m"], &names[..]].concat(), "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes and writes docs/images/fleet.png: scripts/fleet-picture"]
async fn the_picture_of_the_readme_shows_a_fleet() {
    let [production, staging] = [(); 2].map(|()| Simulator::new(Profile::v2026_9_6().with_token("secret-token")));
    let production = production.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let staging = staging.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let operator = Standalone::start().await;
    let client = operator.client().await;
    let fleet = include_str!("picture.yaml").replace("ws://PRODUCTION", &format!("ws://{}", production.addr()));
    muster(&operator, &["apply", "-f", "-"], &fleet.replace("ws://STAGING", &format!("ws://{}", staging.addr())));
    wait_for(&operator, "Ready", &[&EARLY[..], &LATE].concat());
    check_in(&operator, &client, &EARLY).await;
    wait_for(&operator, "CheckedIn", &EARLY);
    wait_for(&operator, "CheckedIn=False", &EARLY[..1]);
    check_in(&operator, &client, &LATE).await;
    take(&operator, &Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images/fleet.png")).await;
}

async fn take(operator: &Standalone, file: &Path) {
    let mut browser = Browser::start().await.unwrap();
    browser.resize(WIDTH, 800).await.unwrap();
    browser.navigate(&operator.api_url()).await.unwrap();
    let token = std::fs::read_to_string(operator.dir().join("token")).unwrap();
    browser.until("!document.getElementById('sign-in').hidden", LIMIT).await.unwrap();
    let sign_in = format!(
        "document.getElementById('token').value = {}; document.getElementById('sign-in-form').requestSubmit()",
        json!(token.trim())
    );
    browser.evaluate(&sign_in).await.unwrap();
    let mut rows = ROWS;
    rows.sort_unstable();
    let expected = json!(json!(rows).to_string());
    browser.until(&format!("JSON.stringify({SHOWN_ROWS}) === {expected}"), LIMIT).await.unwrap();
    let shown = browser.evaluate("document.documentElement.outerHTML").await.unwrap();
    assert!(!shown.to_string().contains(token.trim()), "the token is in the page");
    // With a margin as at the sides of the page.
    let bottom = "Math.ceil(document.getElementById('groups').getBoundingClientRect().bottom) + 20";
    let height = browser.evaluate(bottom).await.unwrap().as_u64().unwrap();
    browser.resize(WIDTH, u32::try_from(height).unwrap()).await.unwrap();
    browser.screenshot(file).await.unwrap();
}
