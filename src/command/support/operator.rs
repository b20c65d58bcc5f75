//! The operator's side of a bundle: its definitions, its Deployment, its Lease, its pods, their logs and metrics.

use serde_json::{Value, json};

use super::contents::{BundleContents, KeptPart, MAX_FILE};
use super::scrub::scrubbed;
use crate::api::{crds, keys};
use crate::command::object::name;
use crate::command::print::list;
use crate::command::requests::{RequestError, read, read_text};
use crate::command::session::Cluster;

/// The labels of the operator's Deployment and its pods.
const SELECTOR: &str = "labelSelector=app.kubernetes.io%2Fname%3Dmuster";
/// The most pods whose logs are read.
const MAX_PODS: usize = 6;
/// The most bytes of a log.
const MAX_LOG: usize = 4 * 1024 * 1024;
/// The name of the operator's container, and of its port for metrics.
const CONTAINER: &str = "muster";
const METRICS_PORT: &str = "metrics";

/// Adds what can be read of the operator in its namespace.
pub(super) async fn add(namespace: &str, log_lines: u32, cluster: &Cluster, contents: &mut BundleContents) {
    add_definitions(cluster, contents).await;
    let deployments =
        read(&cluster.client, &format!("/apis/apps/v1/namespaces/{namespace}/deployments?{SELECTOR}")).await;
    let deployments = contents.read(&format!("Deployments in {namespace}"), deployments);
    add_list("operator/deployments.yaml", "the operator's Deployment", deployments, deployment, contents);
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{}", keys::LEASE);
    let lease = read(&cluster.client, &lease).await;
    if let Some(lease) = contents.read(&format!("the Lease in {namespace}"), lease) {
        let lease = json!({ "name": name(&lease), "spec": lease["spec"] });
        contents.add_value("operator/lease.yaml", "which replica leads", &lease);
    }
    let pods = read(&cluster.client, &format!("/api/v1/namespaces/{namespace}/pods?{SELECTOR}")).await;
    let pods = contents.read(&format!("Pods in {namespace}"), pods);
    let found: Vec<_> = pods.iter().flat_map(items).take(MAX_PODS).cloned().collect();
    add_list("operator/pods.yaml", "the operator's pods", pods, pod, contents);
    for pod in &found {
        add_logs(namespace, pod, log_lines, cluster, contents).await;
        add_metrics(namespace, pod, cluster, contents).await;
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn add_list(path: &str, what: &str, found: Option<Value>, part: fn(&Value) -> Value, contents: &mut BundleContents) {
    let Some(found) = found else { return };
    let items: Vec<_> = items(&found).map(|item| scrubbed(&part(item), contents.mask())).collect();
    if items.is_empty() {
        contents.fail(path, "there is none with the label app.kubernetes.io/name=muster; see --operator-namespace");
    }
    contents.add_scrubbed(path, what, &list(&items));
}

/// The definitions on the cluster: their versions, without the schemas.
async fn add_definitions(cluster: &Cluster, contents: &mut BundleContents) {
    let mut found = Vec::new();
    for (_, definition) in crds::all() {
        let name = definition.metadata.name.unwrap_or_default();
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        let answer = read(&cluster.client, &path).await;
        let Some(definition) = contents.read(&format!("CustomResourceDefinition {name}"), answer) else { continue };
        let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
        let version = |one: &Value| json!({ "name": one["name"], "served": one["served"], "storage": one["storage"] });
        found.push(json!({
            "name": name,
            "created": definition["metadata"]["creationTimestamp"],
            "generation": definition["metadata"]["generation"],
            "versions": versions.map(version).collect::<Vec<_>>(),
            "storedVersions": definition["status"]["storedVersions"],
            "conversion": definition["spec"]["conversion"]["strategy"],
            "conditions": definition["status"]["conditions"],
        }));
    }
    contents.add_value("definitions.yaml", "the versions of the CustomResourceDefinitions", &json!(found));
}

/// What helps of a Deployment. Values of its environment stay out.
fn deployment(object: &Value) -> Value {
    let spec = &object["spec"];
    json!({
        "metadata": metadata(object),
        "replicas": spec["replicas"],
        "strategy": spec["strategy"],
        "containers": containers(&spec["template"]["spec"]),
        "status": object["status"],
    })
}

/// What helps of a pod.
fn pod(object: &Value) -> Value {
    json!({ "metadata": metadata(object), "node": object["spec"]["nodeName"], "containers": containers(&object["spec"]),
        "status": object["status"] })
}

fn metadata(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let fields = ["name", "namespace", "labels", "generation", "creationTimestamp", "deletionTimestamp"];
    fields.iter().filter(|field| !metadata[**field].is_null()).map(|field| (*field, metadata[*field].clone())).collect()
}

fn containers(spec: &Value) -> Vec<Value> {
    let containers = spec["containers"].as_array().into_iter().flatten();
    let parts = |one: &Value| {
        let variables = one["env"].as_array().into_iter().flatten().map(|variable| variable["name"].clone());
        json!({ "name": one["name"], "image": one["image"], "args": one["args"], "ports": one["ports"],
            "resources": one["resources"], "variables": variables.collect::<Vec<_>>() })
    };
    containers.map(parts).collect()
}

/// Adds the end of a pod's log, and of the log before its last restart.
async fn add_logs(namespace: &str, pod: &Value, lines: u32, cluster: &Cluster, contents: &mut BundleContents) {
    let containers =
        || pod["spec"]["containers"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
    let container = containers().find(|one| *one == CONTAINER).or_else(|| containers().next()).unwrap_or(CONTAINER);
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let has_restarted = statuses.filter_map(|one| one["restartCount"].as_i64()).any(|count| count > 0);
    let logs = [(false, "log", "its log")];
    let earlier = has_restarted.then_some((true, "previous.log", "its log before the last restart"));
    for (is_previous, ending, description) in logs.into_iter().chain(earlier) {
        let name = name(pod);
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}&timestamps=true&previous={is_previous}"
        );
        let what = format!("the log of pod {namespace}/{name}");
        let answer = log_end(&path, lines, cluster).await;
        let Some((log, read_lines)) = contents.read(&what, answer) else { continue };
        if read_lines < lines {
            contents.fail(&what, &format!("only its last {read_lines} lines: {lines} have more than {MAX_LOG} bytes"));
        }
        contents.add(&format!("operator/logs/{name}.{ending}"), description, &log, KeptPart::End);
    }
}

/// The last lines of a log, and how many were asked for. The kubelet begins with the oldest of the lines and stops after the bytes, so that an
/// answer of that many bytes may lack the newest lines: fewer lines are asked for then.
async fn log_end(path: &str, lines: u32, cluster: &Cluster) -> Result<(String, u32), RequestError> {
    let mut asked = lines;
    loop {
        let path = format!("{path}&tailLines={asked}&limitBytes={MAX_LOG}");
        let log = read_text(&cluster.client, &path, MAX_LOG).await?;
        if log.len() < MAX_LOG || asked <= 1 {
            return Ok((log, asked));
        }
        let answered = u32::try_from(log.lines().count()).unwrap_or(asked);
        asked = (answered.min(asked) / 2).max(1);
    }
}

/// Adds the metrics of a pod, by the API server's way to it.
async fn add_metrics(namespace: &str, pod: &Value, cluster: &Cluster, contents: &mut BundleContents) {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|one| one["ports"].as_array().into_iter().flatten());
    let Some(port) = ports.find(|port| port["name"] == METRICS_PORT).and_then(|port| port["containerPort"].as_i64())
    else {
        return;
    };
    let name = name(pod);
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics");
    let answer = read_text(&cluster.client, &path, MAX_FILE).await;
    let what = format!("the metrics of pod {namespace}/{name}");
    if let Some(metrics) = contents.read(&what, answer) {
        if metrics.len() >= MAX_FILE {
            contents.fail(&what, &format!("only the first {MAX_FILE} bytes"));
        }
        contents.add(&format!("operator/metrics/{name}.txt"), "its metrics", &metrics, KeptPart::Beginning);
    }
}
