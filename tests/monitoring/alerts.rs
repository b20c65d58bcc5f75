//! The alerts in a real Prometheus: a scrape of a running operator, and series that bring each alert to fire. `scripts/parts prometheus` installs
//! it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use muster_harness::Binaries;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::{rules, text};

/// How long a state may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// Writes the alerts as a file of rules. JSON is YAML.
fn write_rules(folder: &Path) {
    fs::write(folder.join("rules.yaml"), rules().to_string()).unwrap();
}

/// Runs promtool in a folder, with a text at its standard input. Returns what it printed.
async fn promtool(folder: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(Binaries::prometheus().unwrap().join("promtool"));
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {printed}");
    printed
}

/// The body of an answer.
async fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

/// Polls until `find` returns something.
async fn wait_for<T>(what: &str, mut find: impl AsyncFnMut() -> Option<T>) -> T {
    let limit = Instant::now() + LIMIT;
    loop {
        if let Some(found) = find().await {
            return found;
        }
        assert!(Instant::now() < limit, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A running operator without a cluster, and the address of its metrics.
async fn operator(folder: &Path) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["run", "--embedded"]).arg(folder.join("muster"));
    for flag in ["--embedded-addr", "--api-addr", "--probe-addr", "--metrics-addr"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    let mut child = command.env_remove("RUST_LOG").stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = log.next_line().await.unwrap() {
        if let Some((_, rest)) = line.split_once(" metrics=") {
            let address = rest.split(' ').next().unwrap().to_owned();
            // The operator must not wait for a reader of its log.
            tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
            return (child, address);
        }
    }
    panic!("the operator ended before it listened");
}

/// A Prometheus that scrapes an operator, with the alerts, and its address.
fn prometheus(folder: &TempDir, operator: &str) -> (Child, String) {
    write_rules(folder.path());
    let scrape =
        json!({ "job_name": "muster-metrics", "honor_labels": true, "static_configs": [{ "targets": [operator] }] });
    let interval = "1s";
    let config = json!({
        "global": { "scrape_interval": interval, "evaluation_interval": interval },
        "rule_files": ["rules.yaml"], "scrape_configs": [scrape],
    });
    fs::write(folder.path().join("prometheus.yaml"), config.to_string()).unwrap();
    // Prometheus does not say which free port it took.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let child = Command::new(Binaries::prometheus().unwrap().join("prometheus"))
        .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data", &format!("--web.listen-address={address}")])
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    (child.unwrap(), address)
}

#[tokio::test]
#[ignore = "needs Prometheus, which scripts/parts installs: make test-long"]
async fn each_alert_fires_and_is_quiet_while_all_is_well() {
    let folder = tempfile::tempdir().unwrap();
    write_rules(folder.path());
    promtool(folder.path(), &["check", "rules", "rules.yaml"], "").await;
    fs::write(folder.path().join("alerts.yaml"), text("tests/monitoring/alerts.yaml")).unwrap();
    promtool(folder.path(), &["test", "rules", "alerts.yaml"], "").await;
}

#[tokio::test]
#[ignore = "needs Prometheus, which scripts/parts installs: make test-long"]
async fn a_running_operator_is_scraped_and_no_alert_fires() {
    let folder = tempfile::tempdir().unwrap();
    let (_operator, metrics) = operator(folder.path()).await;
    // Prometheus' own check of names, types and help texts.
    let exposed = wait_for("an operator that leads", async || {
        get(&metrics, "/metrics").await.filter(|text| text.contains("leader_election_master_status{name=\"muster\"} 1"))
    })
    .await;
    promtool(folder.path(), &["check", "metrics"], &exposed).await;

    let (_prometheus, server) = prometheus(&folder, &metrics);
    let query = async |path: &str| -> Option<Value> { serde_json::from_str(&get(&server, path).await?).ok() };
    let value = async |metric: &str| {
        let result = query(&format!("/api/v1/query?query={metric}")).await?;
        result["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    wait_for("a scrape", async || value("up").await.filter(|up| up == "1")).await;
    for metric in
        ["leader_election_master_status", "process_start_time_seconds", "controller_runtime_max_concurrent_reconciles"]
    {
        wait_for(metric, async || value(metric).await).await;
    }
    let states = wait_for("an evaluation of all alerts", async || {
        let rules = query("/api/v1/rules").await?["data"]["groups"][0]["rules"].take();
        let states: Vec<_> =
            rules.as_array()?.iter().map(|rule| (rule["name"].clone(), rule["state"].clone())).collect();
        let is_evaluated = |rule: &Value| rule["health"] == "ok";
        rules.as_array()?.iter().all(is_evaluated).then_some(states)
    })
    .await;
    assert_eq!(states.len(), crate::alerts().len());
    assert!(states.iter().all(|(_, state)| state != "firing"), "{states:?}");
}
