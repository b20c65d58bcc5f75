//! An operator with Roles in two namespaces instead of a `ClusterRole`, on a control plane of its own.

use std::ffi::OsStr;
use std::path::Path;

use muster_harness::{ControlPlane, Failure, Operator, until};
use serde_json::{Value, json};

use crate::granted::{FOR_PEOPLE, IN_A_NAMESPACE, granted};
use crate::rights::uses_exactly;
use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, board, manifest};

fn board_on(name: &str, namespace: &str) -> Value {
    manifest("Board", name, json!({ "gatewayRef": { "name": "gw", "namespace": namespace } }))
}

/// An unwoken agent of a board, whose soul is in the `ConfigMap` `souls`.
fn agent_on(name: &str, board: &str) -> Value {
    let template = json!({ "configMapKeyRef": { "name": "souls", "key": "one" } });
    let files = json!([{ "name": "SOUL.md", "template": template }]);
    manifest("Agent", name, json!({ "boardRef": { "name": board }, "files": files, "wake": { "enabled": false } }))
}

/// The gateway `gw`, the board `ops` and the agent `one`, in a new namespace.
async fn set_up(stack: &Stack, fleet: &Fleet, gateway: &Value) -> Result<(), Failure> {
    fleet.secret("gw", stack.openclaw.token()).await?;
    fleet.config_map("souls", json!({ "one": "You are one." })).await?;
    fleet.apply(&[gateway.clone(), board("ops"), agent_on("one", "ops")]).await
}

/// The agents that a person with the right to read in a namespace sees, as `namespace/name`.
async fn seen_by_a_reader(cluster: &ControlPlane, operator: &Operator, fleet: &Fleet) -> Result<Vec<String>, Failure> {
    fleet.run(&["create", "serviceaccount", "reader"]).await?;
    let account = format!("--serviceaccount={}:reader", fleet.namespace);
    fleet.run(&["create", "rolebinding", "reader", "--clusterrole=muster-view", &account]).await?;
    let token = fleet.account_token("reader").await?;
    let (status, body) = operator.addresses().get("/api/v1/agents", &token).await?;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body)?;
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    let items = body["items"].as_array().into_iter().flatten();
    // A namespace that is not watched is named, to those who may read there.
    let third = format!("/api/v1/agents?namespace={THIRD}");
    let (status, _) = operator.addresses().get(&third, &token).await?;
    assert_eq!(status, 403, "a reader of another namespace");
    let (status, body) = operator.addresses().get(&third, cluster.admin_token()).await?;
    assert!(status == 404 && body.contains("--namespaces"), "{status}: {body}");
    Ok(items.map(|item| format!("{}/{}", text(item, "namespace"), text(item, "resource_name"))).collect())
}

/// The namespace in which the operator has no rights.
const THIRD: &str = "third";

pub(crate) async fn an_operator_with_roles_works_in_their_namespaces_and_nowhere_else(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let cluster = ControlPlane::start().await?;
    let a = stack.namespace_of(&cluster, "team-a").await?;
    let b = stack.namespace_of(&cluster, "team-b").await?;
    let third = stack.namespace_of(&cluster, THIRD).await?;
    cluster.install("deploy/examples/namespaced").await?;
    let names = cluster.kubectl.run(&["get", "configmaps", "-n", "muster-system", "-o", NAMES_PATH]).await?;
    let environment = [("MUSTER_NAMESPACES", OsStr::new(names.trim()))];
    let mut operator = Operator::start_with(Path::new(env!("CARGO_BIN_EXE_muster")), &cluster, &environment).await?;

    let mut gateway = stack.gateway();
    gateway["spec"]["apiUrl"] = json!(operator.api_url());
    let mut shared = gateway.clone();
    let selector = json!({ "matchLabels": { "kubernetes.io/metadata.name": "team-a" } });
    shared["spec"]["allowedNamespaces"] = json!({ "from": "Selector", "selector": selector });
    set_up(stack, &a, &gateway).await?;
    set_up(stack, &b, &shared).await?;
    set_up(stack, &third, &gateway).await?;
    // A guest, whose admission needs the labels of its namespace, and one on a gateway that the operator does not see.
    a.apply(&[board_on("in-b", "team-b"), agent_on("guest", "in-b")]).await?;
    a.apply(&[board_on("in-third", THIRD), agent_on("stray", "in-third")]).await?;
    a.wait("condition=Ready", &["agent/one", "agent/guest"]).await?;
    b.wait("condition=Ready", &["agent/one"]).await?;
    let message = a.until_reason("agent/stray", "Ready", "NamespaceNotWatched").await?;
    assert!(message.contains(THIRD) && message.contains("--namespaces"), "{message}");

    // The watch of ConfigMaps. An event that comes twice is patched.
    for (soul, condition) in
        [("other", "condition=Ready=false"), ("one", "condition=Ready"), ("other", "condition=Ready=false")]
    {
        b.run(&["delete", "configmap", "souls"]).await?;
        b.config_map("souls", json!({ soul: "You are one." })).await?;
        b.wait(condition, &["agent/one"]).await?;
    }
    for object in ["agentgateway/gw", "board/ops", "agent/one"] {
        let touched =
            third.field(object, ".status.conditions").await? + &third.field(object, ".metadata.finalizers").await?;
        assert_eq!(touched, "", "{object}");
    }
    let seen = seen_by_a_reader(&cluster, &operator, &a).await?;
    assert_eq!(seen, ["team-a/one", "team-a/guest", "team-a/stray"]);
    remove_in_order(&b).await?;
    uses_exactly(&cluster, &granted(IN_A_NAMESPACE) | &granted(FOR_PEOPLE)).await?;

    // The namespace is gone, and its Role with it.
    operator.restart().await?;
    a.apply(&[agent_on("two", "ops")]).await?;
    a.wait("condition=Ready", &["agent/two"]).await?;
    until("the log to say what to do", CONDITION_TIMEOUT, async || {
        let log = operator.log();
        let is_named = |line: &str| line.contains("team-b") && line.contains("take the namespace out of --namespaces");
        if log.lines().any(is_named) { Ok(()) } else { Err(log) }
    })
    .await?;
    a_namespace_deleted_in_one_go_needs_the_rights_once_more(&cluster, &a).await
}

/// Deletes a namespace as the documentation says: Kubernetes deletes the Role of a namespace with the first objects, so that Muster could not
/// remove its agents any more.
async fn remove_in_order(fleet: &Fleet) -> Result<(), Failure> {
    for kind in ["agents", "agentgateways"] {
        fleet.run(&["delete", kind, "--all", "--timeout=2m"]).await?;
    }
    fleet.run(&["delete", "namespace", &fleet.namespace, "--timeout=2m"]).await?;
    Ok(())
}

/// The documented way out for a namespace that was deleted with its agents.
async fn a_namespace_deleted_in_one_go_needs_the_rights_once_more(
    cluster: &ControlPlane,
    fleet: &Fleet,
) -> Result<(), Failure> {
    fleet.run(&["delete", "namespace", &fleet.namespace, "--wait=false"]).await?;
    fleet.wait("delete", &["rolebinding/muster"]).await?;
    cluster.kubectl.run(&["apply", "-f", "deploy/base/rbac.yaml"]).await?;
    fleet.wait("delete", &[&format!("namespace/{}", fleet.namespace)]).await
}

/// The list of namespaces in the `ConfigMap` of the kustomization.
const NAMES_PATH: &str = "jsonpath={.items[*].data.namespaces}";
