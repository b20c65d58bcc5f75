//! What the charts render, by value.

use std::collections::BTreeMap;

use muster_harness::Binaries;
use serde_json::{Value, json};

use crate::objects::{RECOMMENDED, differences, first, name, normalized, parse, variable};
use crate::{CASES, DEFINITIONS, NAMESPACE, OPERATOR, case, helm, kustomize, output_of, run};

/// The chart of the operator with the values of a case.
pub(crate) fn render_case(name: &str) -> String {
    let values = case(name).join("values.yaml");
    helm(&["template", "muster", OPERATOR, "--namespace", NAMESPACE, "--values", values.to_str().unwrap()])
}

/// The chart of the operator with settings in the form of `--set-json`.
fn render(settings: &[&str]) -> String {
    let mut args = vec!["template", "muster", OPERATOR, "--namespace", NAMESPACE];
    args.extend(settings.iter().flat_map(|setting| ["--set-json", setting]));
    helm(&args)
}

/// The kinds of the objects that only the kustomization of a case has: Helm makes the namespace by `--create-namespace`, the chart has the list
/// of namespaces in the Deployment and no dashboard, and a `PriorityClass` exists before.
fn only_kustomize(case: &str) -> Vec<&'static str> {
    match case {
        "namespaced" => vec!["ConfigMap", "Namespace"],
        "monitoring" => vec!["ConfigMap", "ConfigMap", "Namespace"],
        "priority-class" => vec!["Namespace", "PriorityClass"],
        _ => vec!["Namespace"],
    }
}

/// Replaces the list of namespaces in a ConfigMap by its text, which the chart writes.
fn inline_the_namespaces(objects: &mut BTreeMap<String, Value>) {
    let list = objects
        .iter()
        .find(|(name, _)| name.starts_with("ConfigMap"))
        .map(|(_, map)| map["data"]["namespaces"].clone());
    let deployment = objects.get_mut("Deployment muster-system/muster").unwrap();
    for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap() {
        if variable["name"] == "MUSTER_NAMESPACES" {
            variable["value"] = list.clone().unwrap();
            variable.as_object_mut().unwrap().remove("valueFrom");
        }
    }
}

fn assert_same(what: &str, chart: &BTreeMap<String, Value>, kustomization: &BTreeMap<String, Value>) {
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(chart), names(kustomization), "{what}: the objects of the chart and of the kustomization");
    let found: Vec<_> =
        chart.iter().flat_map(|(name, object)| differences(name, object, &kustomization[name])).collect();
    assert!(found.is_empty(), "{what}: the chart and the kustomization differ:\n{}", found.join("\n"));
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn the_chart_renders_what_the_kustomization_of_each_case_renders() {
    for case_name in CASES {
        let chart = normalized(&render_case(case_name));
        let mut kustomization = normalized(&kustomize(case(case_name).to_str().unwrap()));
        inline_the_namespaces(&mut kustomization);
        let missing = kustomization.iter().filter(|(name, _)| !chart.contains_key(*name));
        let missing: Vec<_> = missing.map(|(_, object)| object["kind"].as_str().unwrap()).collect();
        assert_eq!(missing, only_kustomize(case_name), "{case_name}: only in the kustomization");
        kustomization.retain(|name, _| chart.contains_key(name));
        assert_same(case_name, &chart, &kustomization);
    }
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn the_chart_of_the_definitions_renders_crds() {
    let chart = helm(&["template", "muster-crds", DEFINITIONS, "--namespace", NAMESPACE]);
    assert_same("crds", &normalized(&chart), &normalized(&kustomize("crds")));
    for definition in parse(&chart) {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{}", name(&definition));
    }
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn every_object_and_pod_has_the_recommended_labels() {
    let mut texts = vec![helm(&["template", "muster-crds", DEFINITIONS]), kustomize("crds")];
    for case_name in CASES {
        texts.extend([render_case(case_name), kustomize(case(case_name).to_str().unwrap())]);
    }
    texts.push(render(&["serviceMonitor={\"enabled\": true}", "commonLabels={\"app.kubernetes.io/name\": \"other\"}"]));
    for object in texts.iter().flat_map(|text| parse(text)) {
        for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
            // A ConfigMap in the example is the user's own.
            let Some(labels) = object.pointer(labels).filter(|_| object["kind"] != "ConfigMap") else { continue };
            let missing: Vec<_> = RECOMMENDED.into_iter().filter(|label| labels[label].is_null()).collect();
            assert!(missing.is_empty(), "{}: {missing:?}", name(&object));
            assert_eq!(labels["app.kubernetes.io/part-of"], "muster");
            assert_eq!(labels["app.kubernetes.io/name"], "muster", "{}", name(&object));
        }
        assert!(object["kind"] == "ConfigMap" || object.pointer("/metadata/labels").is_some(), "{}", name(&object));
    }
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn the_charts_have_no_finding_of_lint() {
    let output = run(Binaries::helm().unwrap(), &["lint", "--strict", OPERATOR, DEFINITIONS]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("2 chart(s) linted, 0 chart(s) failed"), "{text}");
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn another_release_in_another_namespace_shares_no_name_with_the_first() {
    let text =
        helm(&["template", "ops", OPERATOR, "--namespace", "agents", "--set-json", "namespaces=[\"one\", \"two\"]"]);
    assert!(!text.contains("muster-system"), "{text}");
    assert!(text.contains("system:serviceaccount:agents:ops-muster'"), "{text}");
    assert_eq!(variable(&text, "MUSTER_API_URL").unwrap(), "http://ops-muster.agents.svc:8080");
    for object in parse(&text) {
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("ops-muster"), "{name}");
    }
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn every_value_about_addresses_and_proxies_is_a_variable_of_the_operator() {
    let text = render(&[
        "apiUrl=\"https://muster.example.com\"",
        "gatewayNetworks=[\"10.0.0.0/8\", \"fd00::/8\"]",
        "allowGatewayPaths=true",
        "proxy={\"url\": \"http://proxy:3128\", \"noProxy\": [\".svc\", \"10.0.0.0/8\"]}",
        "ingressProxy={\"networks\": [\"192.0.2.0/24\"], \"allowHttpTokens\": true}",
        "extraEnv=[{\"name\": \"RUST_LOG\", \"value\": \"debug\"}]",
    ]);
    for (name, value) in [
        ("MUSTER_API_URL", "https://muster.example.com"),
        ("MUSTER_GATEWAY_NETWORKS", "10.0.0.0/8,fd00::/8"),
        ("MUSTER_ALLOW_GATEWAY_PATHS", "true"),
        ("HTTPS_PROXY", "http://proxy:3128"),
        ("NO_PROXY", ".svc,10.0.0.0/8"),
        ("MUSTER_TRUSTED_PROXIES", "192.0.2.0/24"),
        ("MUSTER_ALLOW_HTTP_TOKENS", "true"),
        ("RUST_LOG", "debug"),
    ] {
        assert_eq!(variable(&text, name).as_deref(), Some(value), "{name}");
    }
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn every_value_about_pods_is_in_the_deployment() {
    let digest = "a".repeat(64);
    let text = render(&[
        &format!("image={{\"repository\": \"registry.example.com/muster\", \"digest\": \"sha256:{digest}\"}}"),
        "image.pullSecrets=[{\"name\": \"registry\"}]",
        "replicas=3",
        "priorityClassName=\"muster\"",
        "nodeSelector={\"pool\": \"operators\"}",
        "tolerations=[{\"key\": \"pool\", \"operator\": \"Exists\"}]",
        "affinity={\"podAntiAffinity\": {}}",
        "podAnnotations={\"a\": \"1\"}",
        "podLabels={\"b\": \"2\", \"app.kubernetes.io/name\": \"other\"}",
        "commonLabels={\"team\": \"platform\"}",
        "resources={\"limits\": {\"memory\": \"1Gi\"}}",
    ]);
    let deployment = first(&text, "Deployment");
    let template = "/spec/template";
    for (pointer, value) in [
        ("/spec/containers/0/image", json!(format!("registry.example.com/muster@sha256:{digest}"))),
        ("/spec/imagePullSecrets/0/name", "registry".into()),
        ("/spec/priorityClassName", "muster".into()),
        ("/spec/nodeSelector/pool", "operators".into()),
        ("/spec/tolerations/0/operator", "Exists".into()),
        ("/spec/affinity/podAntiAffinity", json!({})),
        ("/spec/containers/0/resources/limits/memory", "1Gi".into()),
        ("/metadata/annotations/a", "1".into()),
        ("/metadata/labels/b", "2".into()),
        ("/metadata/labels/team", "platform".into()),
        ("/metadata/labels/app.kubernetes.io~1name", "muster".into()),
    ] {
        assert_eq!(deployment.pointer(&format!("{template}{pointer}")), Some(&value), "{pointer}");
    }
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["metadata"]["labels"]["team"]),
        (&3.into(), &"platform".into())
    );
}

/// A setting, and the objects that the chart does not render with it.
const SWITCHED_OFF: [(&str, &[&str]); 6] = [
    ("networkPolicy.enabled=false", &["NetworkPolicy muster-system/muster-ingress"]),
    ("podDisruptionBudget.enabled=false", &["PodDisruptionBudget muster-system/muster"]),
    ("serviceAccount={\"create\": false, \"name\": \"ours\"}", &["ServiceAccount muster-system/muster"]),
    (
        "admissionPolicies.secrets=false",
        &["ValidatingAdmissionPolicy /muster-secrets", "ValidatingAdmissionPolicyBinding /muster-secrets"],
    ),
    (
        "admissionPolicies.protection=false",
        &["ValidatingAdmissionPolicy /muster-protection", "ValidatingAdmissionPolicyBinding /muster-protection"],
    ),
    (
        "people.clusterRoles=false",
        &["ClusterRole /muster-admin", "ClusterRole /muster-edit", "ClusterRole /muster-view"],
    ),
];

#[test]
#[ignore = "needs Helm: make test-long"]
fn a_part_that_is_switched_off_is_left_out_and_nothing_else() {
    let all: Vec<_> = normalized(&render(&[])).into_keys().collect();
    for (setting, names) in SWITCHED_OFF {
        let rendered = normalized(&render(&[setting]));
        let missing: Vec<_> = all.iter().map(String::as_str).filter(|name| !rendered.contains_key(*name)).collect();
        assert_eq!((missing, rendered.len()), (names.to_vec(), all.len() - names.len()), "{setting}");
    }
    let reviews = ["ClusterRole /muster-reviews", "ClusterRoleBinding /muster-reviews"];
    for (granted, count) in [(true, 2), (false, 0)] {
        let text = render(&["namespaces=[\"team-a\"]", &format!("people.reviews={granted}")]);
        assert_eq!(normalized(&text).keys().filter(|name| reviews.contains(&name.as_str())).count(), count);
    }
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn an_account_of_another_name_is_in_every_binding_and_in_the_policy() {
    for (extra, bindings) in [("namespaces=[]", 2), ("namespaces=[\"team-a\", \"team-b\"]", 4)] {
        let text = render(&["serviceAccount={\"create\": false, \"name\": \"ours\"}", extra]);
        assert_eq!(first(&text, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"], "ours");
        assert!(text.contains("'system:serviceaccount:muster-system:ours'"), "{text}");
        let subjects: Vec<_> = parse(&text).into_iter().filter(|object| object["subjects"].is_array()).collect();
        assert_eq!(subjects.len(), bindings);
        for binding in subjects {
            let expected = json!([{ "kind": "ServiceAccount", "name": "ours", "namespace": NAMESPACE }]);
            assert_eq!(binding["subjects"], expected, "{}", name(&binding));
        }
    }
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn the_peers_of_the_network_policies_are_those_of_the_values() {
    let peer = json!({ "namespaceSelector": { "matchLabels": { "a": "b" } } });
    let text = render(&[
        &format!("networkPolicy={{\"apiFrom\": [{peer}], \"metricsFrom\": []}}"),
        &format!(
            "egress={{\"enabled\": true, \"httpsTo\": [{peer}], \"gatewayPorts\": [1, 2], \"gatewayBlocks\": [{{\"cidr\": \"10.0.0.0/8\"}}]}}"
        ),
    ]);
    let policies = normalized(&text);
    let ingress = &policies["NetworkPolicy muster-system/muster-ingress"]["spec"]["ingress"];
    assert_eq!((&ingress[0]["from"], ingress.as_array().unwrap().len()), (&json!([peer]), 2));
    let egress = &policies["NetworkPolicy muster-system/muster-egress"]["spec"]["egress"];
    assert_eq!(egress[1], json!({ "ports": [{ "port": 443 }, { "port": 6443 }], "to": [peer] }));
    let gateways = json!({ "ports": [{ "port": 1 }, { "port": 2 }], "to": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }] });
    assert_eq!(egress[3], gateways);
}

/// Rules in the form of `deploy/components/monitoring`.
const RULES: &str = r#"
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: muster
spec:
  groups:
    - name: muster
      rules:
        - alert: MusterDown
          expr: absent(up{job="muster-metrics"} == 1)
          annotations:
            summary: "{{ $labels.pod }} is down."
            runbook_url: https://docs.example.com/muster/runbook.md#musterdown
"#;

#[test]
#[ignore = "needs Helm: make test-long"]
fn the_alerts_of_a_release_are_about_its_own_service_and_link_to_the_given_docs() {
    let chart = tempfile::tempdir().unwrap();
    let path = chart.path().join("muster");
    output_of("cp".into(), &["-r", OPERATOR, path.to_str().unwrap()]);
    std::fs::create_dir_all(path.join("files")).unwrap();
    std::fs::write(path.join("files/prometheusrule.yaml"), RULES).unwrap();
    let values = "prometheusRule={\"enabled\": true, \"docsUrl\": \"https://ours.example.com\"}";
    let text = helm(&["template", "ops", path.to_str().unwrap(), "--set-json", values]);
    let alert = &first(&text, "PrometheusRule")["spec"]["groups"][0]["rules"][0];
    assert_eq!(alert["expr"], "absent(up{job=\"ops-muster-metrics\"} == 1)");
    assert_eq!(alert["annotations"]["summary"], "{{ $labels.pod }} is down.");
    assert_eq!(alert["annotations"]["runbook_url"], "https://ours.example.com/runbook.md#musterdown");
}

#[test]
#[ignore = "needs Helm: make test-long"]
fn monitoring_is_rendered_when_it_is_asked_for() {
    assert!(!render(&[]).contains("monitoring.coreos.com"));
    let group = "{\"name\": \"ours\", \"rules\": [{\"alert\": \"Down\", \"expr\": \"up == 0\"}]}";
    let text = render(&[
        "serviceMonitor={\"enabled\": true, \"labels\": {\"release\": \"prometheus\"}}",
        &format!("prometheusRule={{\"enabled\": true, \"additionalGroups\": [{group}]}}"),
    ]);
    let (monitor, rule) = (first(&text, "ServiceMonitor"), first(&text, "PrometheusRule"));
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let endpoint = monitor["spec"]["endpoints"][0]["port"].as_str().unwrap();
    let selected = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap().clone();
    let services = parse(&text).into_iter().filter(|object| object["kind"] == "Service");
    let scraped: Vec<_> = services
        .filter(|service| selected.iter().all(|(label, value)| service["metadata"]["labels"][label] == *value))
        .filter(|service| service["spec"]["ports"].as_array().unwrap().iter().any(|port| port["name"] == endpoint))
        .map(|service| name(&service))
        .collect();
    assert_eq!(scraped, ["Service muster-system/muster-metrics"]);
    let groups = rule["spec"]["groups"].as_array().unwrap();
    assert_eq!(groups.last().unwrap()["rules"][0]["alert"], "Down");
}
