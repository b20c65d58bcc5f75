//! Values that the charts refuse.

use muster_harness::Binaries;

use crate::{DEFINITIONS, OPERATOR, run};

/// A setting in the form of `--set-json`, and words of the error.
const REFUSED: [(&str, &[&str]); 23] = [
    ("replica=3", &["additional properties 'replica' not allowed"]),
    ("image={\"tags\": \"1\"}", &["/image", "'tags'"]),
    ("image.digest=\"sha256:12\"", &["/image/digest"]),
    ("image.pullPolicy=\"Sometimes\"", &["/image/pullPolicy"]),
    ("image.pullSecrets=[\"registry\"]", &["/image/pullSecrets/0"]),
    ("replicas=\"two\"", &["/replicas", "want integer"]),
    ("replicas=-1", &["/replicas"]),
    ("apiUrl=\"muster.example.com\"", &["/apiUrl"]),
    ("namespaces=\"team-a,team-b\"", &["/namespaces", "want array"]),
    ("namespaces=[\"Team A\"]", &["/namespaces/0"]),
    ("namespaces=[\"team-a\", \"team-a\"]", &["/namespaces"]),
    ("gatewayNetworks=[\"10.0.0.0\"]", &["/gatewayNetworks/0"]),
    ("proxy.url=\"https://proxy:3128\"", &["/proxy/url"]),
    ("ingressProxy.allowHTTPTokens=true", &["/ingressProxy", "'allowHTTPTokens'"]),
    ("tls={\"secret\": \"muster-tls\"}", &["/tls", "'secret'"]),
    ("resources={\"limit\": {\"memory\": \"1Gi\"}}", &["/resources", "'limit'"]),
    ("resources.limits.memory=\"1 GB\"", &["/resources/limits/memory"]),
    ("topologySpreadConstraints=[{\"maxSkew\": 1}]", &["/topologySpreadConstraints/0"]),
    ("extraEnv=[{\"value\": \"1\"}]", &["/extraEnv/0"]),
    ("extraEnv=[{\"name\": \"A\", \"value\": 1}]", &["/extraEnv/0/value", "want string"]),
    ("networkPolicy.apiFrom=[{\"namespace\": \"x\"}]", &["/networkPolicy/apiFrom/0"]),
    ("egress.gatewayPorts=[70000]", &["/egress/gatewayPorts/0"]),
    ("prometheusRules={\"enabled\": true}", &["'prometheusRules'"]),
];

/// The error of a chart with this setting.
fn refusal(chart: &str, setting: &str) -> String {
    let output = run(Binaries::helm().unwrap(), &["template", "muster", chart, "--set-json", setting]);
    assert!(!output.status.success(), "{chart} takes {setting}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn a_value_that_is_misspelt_or_of_another_form_is_refused_and_named() {
    let mut wrong = Vec::new();
    for (setting, words) in REFUSED {
        let error = refusal(OPERATOR, setting);
        let missing: Vec<_> = words.iter().filter(|word| !error.contains(**word)).collect();
        if !missing.is_empty() {
            wrong.push(format!("{setting}: no {missing:?} in {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refusal(DEFINITIONS, "keep=false").contains("'keep'"));
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn an_older_kubernetes_is_refused() {
    for chart in [OPERATOR, DEFINITIONS] {
        let render =
            |version: &str| run(Binaries::helm().unwrap(), &["template", "muster", chart, "--kube-version", version]);
        assert!(render("1.30.0").status.success(), "{chart}");
        let error = String::from_utf8(render("1.29.9").stderr).unwrap();
        assert!(error.contains("kubeVersion") && error.contains("1.30"), "{error}");
    }
}
