//! The monitoring of `deploy/components/monitoring`: its alerts, its dashboard and its documents agree with one another and with the operator.
//! `alerts.rs` runs them in a real Prometheus, in `make test-long`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers outside of test functions fail a test by a panic too")]

mod alerts;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use muster::api::{Reason, crds};
use serde_json::Value;

/// A file of the checkout.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn component(file: &str) -> Value {
    serde_saphyr::from_str(&text(&format!("deploy/components/monitoring/{file}"))).unwrap()
}

/// The alerts.
pub(crate) fn rules() -> Value {
    component("prometheusrule.yaml")["spec"].take()
}

/// The values of the items of a list.
fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn alerts() -> Vec<Value> {
    list(&rules()["groups"]).iter().flat_map(|group| list(&group["rules"]).clone()).collect()
}

fn names(alerts: &[Value]) -> BTreeSet<String> {
    alerts.iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_alert_has_a_section_in_the_runbook_and_a_link_to_it() {
    let runbook = text("docs/runbook.md");
    let sections: BTreeSet<_> =
        runbook.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    let alerts = alerts();
    assert_eq!(names(&alerts), sections);
    for alert in &alerts {
        let anchor = format!("/runbook.md#{}", alert["alert"].as_str().unwrap().to_lowercase());
        let annotations = &alert["annotations"];
        assert!(annotations["runbook_url"].as_str().unwrap().ends_with(&anchor), "{alert}");
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{alert}");
        assert!(matches!(alert["labels"]["severity"].as_str(), Some("critical" | "warning")), "{alert}");
    }
    for part in ["**Meaning.**", "**Impact.**", "**Find the cause.**", "**What to do.**"] {
        assert_eq!(runbook.matches(part).count(), sections.len(), "{part}");
    }
}

/// The names of metrics in an expression.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let prefixes = ["muster_", "controller_runtime_", "workqueue_", "rest_client_", "leader_election_", "process_"];
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_ask_only_for_metrics_of_the_operator_that_prometheus_scraped() {
    let documented = text("docs/metrics.md");
    let dashboard: Value = serde_json::from_str(&text("deploy/components/monitoring/dashboard.json")).unwrap();
    let targets = list(&dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"]).clone());
    let shown: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(shown.len() > 10);
    let alerts = alerts();
    let alerted = alerts.iter().map(|alert| alert["expr"].as_str().unwrap().to_owned());
    for expression in alerted.chain(shown) {
        for metric in metrics_in(&expression) {
            let name = metric.strip_suffix("_bucket").unwrap_or(&metric);
            assert!(
                documented.contains(&format!("| `{name}` |")),
                "{metric} is no metric of docs/metrics.md: {expression}"
            );
        }
        // Another operator of the cluster may have a controller of the same name.
        let (all, own) = (metrics_in(&expression).len(), expression.matches("job=\"muster-metrics\"").count());
        assert!(own > 0 && own >= all, "an unlimited metric: {expression}");
    }
}

#[test]
fn the_scrape_configuration_finds_the_service_of_the_metrics() {
    let monitor = component("servicemonitor.yaml");
    let (selector, endpoint) = (&monitor["spec"]["selector"]["matchLabels"], &monitor["spec"]["endpoints"][0]);
    let services = text("deploy/base/service.yaml");
    let services = services.split("\n---\n").map(|service| serde_saphyr::from_str::<Value>(service).unwrap());
    let scraped: Vec<_> = services
        .filter(|service| service["metadata"]["labels"]["app.kubernetes.io/name"] == selector["app.kubernetes.io/name"])
        .filter(|service| list(&service["spec"]["ports"]).iter().any(|port| port["name"] == endpoint["port"]))
        .collect();
    let names: Vec<_> = scraped.iter().map(|service| service["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["muster-metrics"], "the name of the job in the alerts");
    assert_eq!(monitor["metadata"]["namespace"], scraped[0]["metadata"]["namespace"]);
    assert_eq!(endpoint["honorLabels"], true, "the namespace of a gateway is the one of its AgentGateway");
}

#[test]
fn kube_state_metrics_reads_fields_that_the_resources_have() {
    let definitions = crds::all();
    let config = component("kube-state-metrics.yaml");
    let resources = list(&config["spec"]["resources"]);
    let kinds: BTreeSet<_> = resources.iter().map(|one| one["groupVersionKind"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Agent", "AgentGateway", "Board"].into());
    for resource in resources {
        let kind = &resource["groupVersionKind"];
        let definition =
            definitions.iter().map(|(_, crd)| &crd.spec).find(|spec| kind["kind"] == *spec.names.kind).unwrap();
        assert_eq!(
            (&kind["group"], &kind["version"]),
            (&definition.group.clone().into(), &definition.versions[0].name.clone().into())
        );
        let schema = serde_json::to_value(&definition.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap();
        let field = |path: &Value| {
            list(path).iter().fold(schema.clone(), |schema, name| schema["properties"][name.as_str().unwrap()].clone())
        };
        for metric in list(&resource["metrics"]) {
            let each = &metric["each"];
            let info = each["info"]["labelsFromPath"].as_object().into_iter().flat_map(serde_json::Map::values);
            for path in info {
                assert!(field(path).is_object(), "{}: {path}", kind["kind"]);
            }
            if each["stateSet"].is_object() {
                assert!(field(&each["stateSet"]["path"]).is_object(), "{}: {}", kind["kind"], each["stateSet"]["path"]);
            }
            if metric["name"] == "phase" {
                assert_eq!(each["stateSet"]["list"], field(&each["stateSet"]["path"])["enum"]);
            }
        }
    }
}

#[test]
fn each_reason_has_one_address_in_the_document_about_troubles() {
    let troubleshooting = text("docs/troubleshooting.md");
    let anchor = |reason: &Reason| format!("<a id=\"reason-{}\"></a>`{reason}`", reason.as_str().to_lowercase());
    let without: Vec<_> =
        Reason::ALL.iter().filter(|reason| troubleshooting.matches(&anchor(reason)).count() != 1).collect();
    assert!(without.is_empty(), "{without:?}");
    assert_eq!(
        troubleshooting.matches("<a id=\"reason-").count(),
        Reason::ALL.len(),
        "an address of an unknown reason"
    );
}

#[test]
fn the_test_of_the_alerts_brings_each_one_to_fire() {
    let cases: Value = serde_saphyr::from_str(&text("tests/monitoring/alerts.yaml")).unwrap();
    let tested = list(&cases["tests"]).iter().flat_map(|case| list(&case["alert_rule_test"]).clone());
    let (fired, quiet): (Vec<_>, Vec<_>) = tested.partition(|test| !list(&test["exp_alerts"]).is_empty());
    let of = |tests: &[Value]| -> BTreeSet<_> {
        tests.iter().map(|test| test["alertname"].as_str().unwrap().to_owned()).collect()
    };
    let all = names(&alerts());
    assert_eq!(of(&fired), all, "alerts that fire");
    assert_eq!(of(&quiet), all, "alerts that do not fire while all is well");
}
