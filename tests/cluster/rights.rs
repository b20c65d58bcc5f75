//! The requests of the operator's account, as the API server records them, are the granted rights.

use std::collections::BTreeSet;

use muster_harness::{ControlPlane, Failure, until};
use serde_json::{Value, json};

use crate::granted::{EVERYWHERE, granted, right};
use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, manifest, worker};

/// The rights that admission asks for, not a request: owner references with `blockOwnerDeletion`.
const ASKED_BY_ADMISSION: [&str; 2] =
    ["update agents/finalizers.muster.dev", "update agentgateways/finalizers.muster.dev"];

/// The rights that the operator used, and the requests for which it had no right.
fn used(cluster: &ControlPlane) -> Result<(BTreeSet<String>, Vec<Value>), Failure> {
    let (mut used, mut forbidden) = (BTreeSet::new(), Vec::new());
    for request in cluster.operator_requests()? {
        let text = |path: &str| request.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let resource = match text("/objectRef/subresource") {
            "" => text("/objectRef/resource").to_owned(),
            part => format!("{}/{part}", text("/objectRef/resource")),
        };
        if text("/annotations/authorization.k8s.io~1decision") == "forbid" {
            forbidden.push(request.clone());
        } else if !resource.is_empty() {
            used.insert(right(text("/verb"), &resource, text("/objectRef/apiGroup")));
        }
    }
    Ok((used, forbidden))
}

/// Calls the API for people with the token of an account.
async fn call_as_a_person(stack: &Stack, fleet: &Fleet) -> Result<(), Failure> {
    fleet.run(&["create", "serviceaccount", "person"]).await?;
    let token = fleet.account_token("person").await?;
    let (status, body) = stack.operator.addresses().get("/api/v1/agents", &token).await?;
    // The account has no right to list Agents: the operator has asked for it.
    if status == 403 { Ok(()) } else { Err(format!("status {status}: {body}").into()) }
}

pub(crate) async fn a_whole_life_cycle_uses_every_granted_right_and_no_other(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("rights").await?;
    let guests = stack.namespace("rights-guests").await?;
    let mut gateway = stack.gateway();
    let selector = json!({ "matchLabels": { "kubernetes.io/metadata.name": "rights-guests" } });
    gateway["spec"]["allowedNamespaces"] = json!({ "from": "Selector", "selector": selector });
    fleet.apply(&[gateway]).await?;
    let board = manifest("Board", "ops", json!({ "gatewayRef": { "name": "gw", "namespace": "rights" } }));
    guests.apply(&[board, worker("guest")]).await?;

    fleet.config_map("souls", json!({ "one": "You are one." })).await?;
    let with_soul = |map: &str| {
        let template = json!({ "configMapKeyRef": { "name": map, "key": "one" } });
        manifest(
            "Agent",
            "one",
            json!({ "boardRef": { "name": "ops" }, "files": [{ "name": "SOUL.md", "template": template }] }),
        )
    };
    // An event that comes twice is patched.
    for map in ["souls", "missing", "souls"] {
        fleet.apply(&[with_soul(map)]).await?;
        if map == "souls" {
            fleet.wait("condition=Ready", &["agent/one"]).await?;
        } else {
            fleet.wait("condition=Ready=false", &["agent/one"]).await?;
        }
    }
    fleet.all_ready().await?;
    guests.wait("condition=Ready", &["agent/guest"]).await?;
    call_as_a_person(stack, &fleet).await?;
    guests.delete().await?;
    fleet.delete().await?;

    uses_exactly(&stack.cluster, granted(EVERYWHERE)).await
}

/// Waits until the operator has used each of these rights, and checks that it used no other one and had each right that it wanted.
pub(crate) async fn uses_exactly(cluster: &ControlPlane, mut wanted: BTreeSet<String>) -> Result<(), Failure> {
    wanted.retain(|right| !ASKED_BY_ADMISSION.contains(&right.as_str()));
    until("every granted right to be used", CONDITION_TIMEOUT, async || {
        let (used, _) = used(cluster).map_err(|e| e.to_string())?;
        let unused: Vec<_> = wanted.difference(&used).collect();
        if unused.is_empty() { Ok(()) } else { Err(format!("unused: {unused:?}")) }
    })
    .await?;
    assert_eq!(used_without_refusal(cluster)?, wanted);
    Ok(())
}

/// The rights that the operator used. It had each right that it wanted.
pub(crate) fn used_without_refusal(cluster: &ControlPlane) -> Result<BTreeSet<String>, Failure> {
    let (used, forbidden) = used(cluster)?;
    assert!(forbidden.is_empty(), "not granted: {forbidden:?}");
    Ok(used)
}
