//! Two replicas of the operator with the shipped RBAC, on a control plane of their own.

use std::ffi::OsStr;
use std::path::Path;

use muster_harness::{ControlPlane, Failure, Operator, until};
use serde_json::json;

use crate::granted::{EVERYWHERE, FOR_ELECTION, granted};
use crate::rights::used_without_refusal;
use crate::stack::{CONDITION_TIMEOUT, Stack, board, unwoken, worker};

/// A replica of this name, as the shipped Deployment starts it.
async fn replica(cluster: &ControlPlane, name: &'static str) -> Result<Operator, Failure> {
    let environment = [
        ("MUSTER_LEADER_ELECT", OsStr::new("true")),
        ("POD_NAMESPACE", OsStr::new("muster-system")),
        ("POD_IP", OsStr::new("127.0.0.1")),
        ("POD_NAME", OsStr::new(name)),
    ];
    Operator::start_with(Path::new(env!("CARGO_BIN_EXE_muster")), cluster, &environment).await
}

/// Waits until this replica holds the Lease.
async fn until_leading(cluster: &ControlPlane, name: &str) -> Result<(), Failure> {
    let holder = ["get", "lease", "muster", "-n", "muster-system", "-o", "jsonpath={.spec.holderIdentity}"];
    until(&format!("{name} to lead"), CONDITION_TIMEOUT, async || {
        let held = cluster.kubectl.run(&holder).await.map_err(|e| e.to_string())?;
        if held.starts_with(name) { Ok(()) } else { Err(held) }
    })
    .await
}

pub(crate) async fn a_frozen_and_a_terminated_leader_are_replaced_and_no_agent_notices(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let cluster = ControlPlane::start().await?;
    cluster.install("deploy").await?;
    let fleet = stack.namespace_of(&cluster, "replicas").await?;
    let mut first = replica(&cluster, "first").await?;
    until_leading(&cluster, "first").await?;
    let mut second = replica(&cluster, "second").await?;

    // The agents call the replica that does not lead.
    let mut gateway = stack.gateway();
    gateway["spec"]["apiUrl"] = json!(second.api_url());
    fleet.secret("gw", stack.openclaw.token()).await?;
    fleet.apply(&[gateway, board("ops"), worker("one")]).await?;
    fleet.wait("condition=Ready", &["agent/one"]).await?;
    fleet.wait("condition=CheckedIn", &["agent/one"]).await?;
    assert!(second.log().contains("another replica may lead"), "{}", second.log());

    first.freeze();
    until_leading(&cluster, "second").await?;
    fleet.apply(&[unwoken("two")]).await?;
    fleet.wait("condition=Ready", &["agent/two"]).await?;
    assert!(!first.thaw_and_end().await?, "a replica without its Lease ends with an error");
    assert!(first.log().contains("this replica lost the Lease"), "{}", first.log());

    first.restart().await?;
    second.terminate().await?;
    assert!(second.log().contains("the Lease is released"), "{}", second.log());
    until_leading(&cluster, "first").await?;
    fleet.apply(&[unwoken("three")]).await?;
    fleet.wait("condition=Ready", &["agent/three", "agent/two", "agent/one"]).await?;
    let used = used_without_refusal(&cluster)?;
    let allowed = &granted(EVERYWHERE) | &granted(FOR_ELECTION);
    assert!(used.is_subset(&allowed) && granted(FOR_ELECTION).is_subset(&used), "{used:?}");
    let mut ids = Vec::new();
    for agent in ["agent/one", "agent/two", "agent/three"] {
        ids.push(fleet.field(agent, ".status.agentId").await?);
    }
    fleet.delete().await?;
    let left = stack.agents()?;
    assert!(!ids.iter().any(|id| left.contains(id)), "{ids:?} of {left:?}; the leader's log:\n{}", first.log());
    first.terminate().await
}
