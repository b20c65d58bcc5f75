//! Kills of the operator and of the gateway.

use muster_harness::{Failure, OpenClaw, until};

use crate::stack::{CONDITION_TIMEOUT, Stack, until_settled, unwoken, worker};

/// Waits for the number of agents before the next kill.
async fn until_agents(openclaw: &OpenClaw, what: &str, enough: impl Fn(usize) -> bool) -> Result<(), Failure> {
    until(what, CONDITION_TIMEOUT, async || {
        let agents = openclaw.agents().map_err(|e| e.to_string())?;
        if enough(agents.len()) { Ok(()) } else { Err(format!("{agents:?}")) }
    })
    .await
}

/// On a gateway of its own: after interrupted removals a gateway may not boot again.
pub(crate) async fn repeated_operator_kills_create_no_second_agent(stack: &mut Stack) -> Result<(), Failure> {
    let own = OpenClaw::start(stack.model.url()).await?;
    let fleet = stack.fleet_on("killed", &own).await?;
    let names: Vec<_> = (0..6).map(|n| format!("agent-{n}")).collect();
    let manifests: Vec<_> = names.iter().map(|name| worker(name)).collect();
    fleet.apply(&manifests).await?;
    stack.operator.restart().await?;
    until_agents(&own, "the first agent on the gateway", |n| n >= 1).await?;
    stack.operator.restart().await?;
    until_agents(&own, "all agents on the gateway", |n| n == 6).await?;
    stack.operator.restart().await?;
    fleet.wait("condition=Ready", &["agent/agent-5"]).await?;
    stack.operator.restart().await?;
    fleet.all_ready().await?;
    fleet.wait("condition=CheckedIn", &["agents", "--all"]).await?;
    let mut wanted = Vec::new();
    for name in &names {
        wanted.push(fleet.field(&format!("agent/{name}"), ".status.agentId").await?);
    }
    wanted.sort();
    let mut agents = own.agents()?;
    agents.sort();
    assert_eq!(agents, wanted, "exactly these agents");

    let deleting: Vec<_> = names.iter().map(|name| format!("agent/{name}")).collect();
    let deleting: Vec<_> = deleting.iter().map(String::as_str).collect();
    fleet.run(&[&["delete", "--wait=false"][..], &deleting[..]].concat()).await?;
    for left in [5, 3, 1] {
        until_agents(&own, "agents to go", |n| n <= left).await?;
        stack.operator.restart().await?;
    }
    fleet.run(&["wait", "--for=delete", "--timeout=360s", "agents", "--all"]).await?;
    assert!(own.agents()?.is_empty(), "{:?}", own.agents()?);
    fleet.delete().await
}

pub(crate) async fn a_killed_gateway_is_reported_and_recovers(stack: &mut Stack) -> Result<(), Failure> {
    let mut own = OpenClaw::start(stack.model.url()).await?;
    let fleet = stack.fleet_on("outage", &own).await?;
    fleet.apply(&[unwoken("one")]).await?;
    fleet.all_ready().await?;
    until_settled(&own).await?;
    own.kill();
    fleet.until_reason("agentgateway/gw", "Reachable", "Unreachable").await?;
    fleet.apply(&[unwoken("two")]).await?;
    fleet.until_reason("agent/two", "Ready", "GatewayNotReady").await?;
    fleet.run(&["delete", "agent", "one", "--wait=false"]).await?;
    fleet.until_reason("agent/one", "Ready", "DeletionBlocked").await?;
    own.boot().await?;
    fleet.wait("delete", &["agent/one"]).await?;
    fleet.all_ready().await?;
    assert_eq!(own.agents()?.len(), 1);
    fleet.delete().await
}

pub(crate) async fn a_frozen_gateway_is_noticed_and_recovers(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("frozen").await?;
    fleet.apply(&[unwoken("one")]).await?;
    fleet.all_ready().await?;
    stack.openclaw.freeze();
    // The connection stays open and is silent: requests must not hang for ever.
    fleet.apply(&[unwoken("two")]).await?;
    let noticed = fleet.until_reason("agentgateway/gw", "Reachable", "Unreachable").await;
    stack.openclaw.thaw();
    noticed?;
    fleet.all_ready().await?;
    assert_eq!(stack.agents()?.len(), 2);
    fleet.delete().await
}

pub(crate) async fn a_terminated_operator_exits_gracefully(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("ending").await?;
    fleet.apply(&[unwoken("one")]).await?;
    fleet.all_ready().await?;
    stack.operator.terminate().await?;
    let log = stack.operator.log();
    assert!(log.contains("stopping") && !log.contains("are cut off"), "{log}");
    stack.operator.restart().await?;
    fleet.delete().await
}
