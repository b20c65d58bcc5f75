//! The objects of the benchmark: namespaces, `AgentGateway`s, Boards and Agents.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use muster::api::Agent;
use muster_harness::{ControlPlane, Failure};
use serde_json::{Value, json};

use crate::simulated::{self, Gateways};

/// The prefix of the namespaces in which the operator works.
pub(crate) const FLEET: &str = "fleet";
/// The prefix of the namespaces in which the bare client works.
pub(crate) const BARE: &str = "bare";
/// The number of namespaces with each prefix.
pub(crate) const NAMESPACES: usize = 4;

/// The namespace of a gateway, and of its agents.
pub(crate) fn namespace(prefix: &str, gateway: usize) -> String {
    format!("{prefix}-{}", gateway % NAMESPACES)
}

/// Agents in one namespace, as JSON.
pub(crate) fn agents(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Agent>(&()))
}

/// The manifest of an Agent. Without a wake and with a rare heartbeat, nothing happens to a Ready agent.
pub(crate) fn agent(name: &str, gateway: usize, wake: bool) -> Value {
    let spec = json!({
        "boardRef": { "name": format!("board-{gateway}") }, "displayName": format!("The {name}"),
        "wake": { "enabled": wake }, "heartbeat": { "interval": "24h" },
    });
    let mut agent = manifest("Agent", name, &spec);
    agent["metadata"]["namespace"] = json!(namespace(FLEET, gateway));
    agent
}

/// Creates the namespaces with a prefix.
pub(crate) async fn create_namespaces(cluster: &ControlPlane, prefix: &str) -> Result<(), Failure> {
    let namespaces: Vec<_> = (0..NAMESPACES)
        .map(|number| {
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace(prefix, number) } })
        })
        .collect();
    apply(cluster, &namespaces).await
}

/// Allows the operator's account to create and to delete Agents, for the bare client. Its requests then cost the API server what the
/// operator's requests cost. The requests of an administrator bypass RBAC and the queues of the API server, and are not audited.
pub(crate) async fn admit_bare_client(cluster: &ControlPlane) -> Result<(), Failure> {
    let (name, group) = ("bare-client", "rbac.authorization.k8s.io");
    let rule = json!({ "apiGroups": ["muster.dev"], "resources": ["agents"], "verbs": ["create", "delete"] });
    let account = json!({ "kind": "ServiceAccount", "namespace": "muster-system", "name": "muster" });
    let api_version = format!("{group}/v1");
    let objects = [
        json!({ "apiVersion": api_version, "kind": "ClusterRole", "metadata": { "name": name }, "rules": [rule] }),
        json!({
            "apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": { "name": name }, "subjects": [account],
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": name },
        }),
    ];
    apply(cluster, &objects).await
}

/// Creates an `AgentGateway` and a Board for each gateway, and waits until they are Ready.
pub(crate) async fn create_gateways(cluster: &ControlPlane, gateways: &Gateways, api_url: &str) -> Result<(), Failure> {
    create_namespaces(cluster, FLEET).await?;
    let mut items = Vec::new();
    for (number, url) in gateways.urls().enumerate() {
        let name = format!("gateway-{number}");
        let token = json!({ "token": simulated::token() });
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": token });
        let spec = json!({
            "url": url, "auth": { "tokenSecretRef": { "name": name, "key": "token" } },
            "workspaceRoot": "~/workspaces", "apiUrl": api_url,
        });
        let board = json!({ "gatewayRef": { "name": name } });
        let mut objects =
            [secret, manifest("AgentGateway", &name, &spec), manifest("Board", &format!("board-{number}"), &board)];
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(namespace(FLEET, number));
        }
        items.extend(objects);
    }
    apply(cluster, &items).await?;
    let wait = ["wait", "--for=condition=Ready", "--timeout=120s", "--all", "-A", "agentgateways,boards"];
    cluster.kubectl.run(&wait).await?;
    Ok(())
}

fn manifest(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

async fn apply(cluster: &ControlPlane, items: &[Value]) -> Result<(), Failure> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    cluster.kubectl.apply(&list.to_string()).await?;
    Ok(())
}
