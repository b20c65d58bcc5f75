//! The reconcile of a Board: it counts its agents and says how they are.

use std::sync::Arc;
use std::time::Duration;

use super::agent::dereference::gateway;
use super::agent::templates::TemplatesError;
use super::status_writer::status_not_written;
use crate::api::agent::{Agent, Role};
use crate::api::conditions::{ConditionStatus, ConditionUpdate, find, is_true, set};
use crate::api::{AgentGateway, Board, BoardStatus, ConditionType, Reason};
use crate::controllers::{Context, Requeue};
use crate::core::agent::admission::creation_order;
use crate::core::agent::binding::Binding;
use crate::core::gateway_ref::gateway_key;
use crate::core::request_progress::progress;
use crate::core::requests::RequestTimes;
use crate::state::store::Store;

/// How often a Board is looked at although nothing told that its agents changed: one that moves away does not.
const RESYNC: Duration = Duration::from_mins(10);
/// The most names that a status lists.
const MOST_NAMES: usize = 50;

/// Writes the status of a Board, when it changed.
pub async fn reconcile<S: Store>(ctx: &Context<S>, board: &Board) -> Requeue {
    if board.metadata.deletion_timestamp.is_some() {
        return Requeue::on_change();
    }
    let namespace = board.metadata.namespace.clone().unwrap_or_default();
    let gateway = match gateway(&ctx.state.store, &board.spec.gateway_ref, &namespace).await {
        Ok(gateway) => Ok(gateway),
        Err(TemplatesError::Reconcile(trouble)) => Err((trouble.reason, trouble.message)),
        Err(TemplatesError::Store(_)) => return Requeue::retry(),
    };
    let agents = agents(&ctx.state.store, board);
    let old = board.status.clone().unwrap_or_default();
    let new = status(board, &agents, gateway.as_ref().map(AsRef::as_ref), &old, ctx.state.store.now());
    if new == old && board.status.is_some() {
        return Requeue::after(RESYNC);
    }
    match ctx.state.store.replace_board_status(board, &new).await {
        Ok(_) => Requeue::after(RESYNC),
        Err(error) => {
            status_not_written("Board", &board.metadata, &error);
            Requeue::retry()
        }
    }
}

/// The Agents of a board, the oldest first.
fn agents<S: Store>(store: &S, board: &Board) -> Vec<Arc<Agent>> {
    let name = board.metadata.name.as_deref();
    let mut agents = store.agents();
    agents.retain(|a| {
        a.metadata.namespace == board.metadata.namespace && a.spec.board_ref.as_ref().map(|r| r.name.as_str()) == name
    });
    agents.sort_by_key(|a| creation_order(a));
    agents
}

fn is_ready(agent: &Agent) -> bool {
    agent.status.as_ref().is_some_and(|s| is_true(&s.conditions, ConditionType::Ready))
}

/// The derived id under which a gateway has an agent, or may have one that is just being removed: the next lead, or main agent, has
/// it again.
pub(crate) fn inherited_id(agent: &Agent) -> Option<String> {
    let binding = Binding::of(agent).filter(|_| agent.spec.agent_id.is_none())?;
    let status = agent.status.as_ref()?;
    let same = (status.agent_id.as_ref(), status.gateway.as_ref())
        == (Some(&binding.identity.agent_id), Some(&binding.gateway));
    let registered = same && is_true(&status.conditions, ConditionType::Registered);
    (registered || agent.metadata.deletion_timestamp.is_some()).then_some(binding.identity.agent_id)
}

fn status(
    board: &Board,
    agents: &[Arc<Agent>],
    gateway: Result<&AgentGateway, &(Reason, String)>,
    old: &BoardStatus,
    now: jiff::Timestamp,
) -> BoardStatus {
    let generation = board.metadata.generation.unwrap_or_default();
    let limit = board.spec.max_agents.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let name = |a: &Arc<Agent>| a.metadata.name.clone().unwrap_or_default();
    let lead = agents.iter().find(|a| a.spec.role == Role::Lead);
    let ready = agents.iter().filter(|a| is_ready(a)).count();
    let asked = RequestTimes::read(board.metadata.annotations.as_ref(), now);
    let mut new = BoardStatus {
        observed_generation: generation,
        lead: lead.map(name),
        lead_agent_id: lead.and_then(|lead| inherited_id(lead)).or_else(|| old.lead_agent_id.clone()),
        agents: i32::try_from(agents.len()).unwrap_or(i32::MAX),
        ready_agents: i32::try_from(ready).unwrap_or(i32::MAX),
        over_limit: agents.iter().skip(limit).take(MOST_NAMES).map(name).collect(),
        last_sync: progress(&asked, agents).or_else(|| old.last_sync.clone()),
        invalid_requests: asked.invalid,
        conditions: old.conditions.clone(),
    };
    let gateway_ready = gateway_ready(board, gateway);
    let lead_ready = lead_ready(lead.map(AsRef::as_ref));
    let quota = within_quota(agents.len(), limit, &new.over_limit);
    let first_flaw = [&gateway_ready, &quota].into_iter().find(|v| v.status != ConditionStatus::True);
    let verdict = match first_flaw {
        Some(flaw) => ConditionUpdate::new(ConditionType::Ready, flaw.status, flaw.reason, flaw.message.clone()),
        None => ConditionUpdate::new(
            ConditionType::Ready,
            true,
            Reason::Reconciled,
            format!("{ready} of {} agents are ready", agents.len()),
        ),
    };
    for verdict in [gateway_ready, lead_ready, quota, verdict] {
        set(&mut new.conditions, &verdict, generation, now);
    }
    new
}

fn gateway_ready(board: &Board, gateway: Result<&AgentGateway, &(Reason, String)>) -> ConditionUpdate {
    let namespace = board.metadata.namespace.as_deref().unwrap_or_default();
    let key = gateway_key(&board.spec.gateway_ref, namespace);
    match gateway {
        Err((reason, message)) => ConditionUpdate::new(ConditionType::GatewayReady, false, *reason, message.clone()),
        Ok(gateway) => {
            let ready = gateway.status.as_ref().and_then(|s| find(&s.conditions, ConditionType::Ready));
            match ready {
                Some(c) if c.status == "True" => ConditionUpdate::new(
                    ConditionType::GatewayReady,
                    true,
                    Reason::Connected,
                    format!("AgentGateway {key} is ready"),
                ),
                Some(c) => {
                    let message = format!("AgentGateway {key} is not ready: {}", c.message);
                    ConditionUpdate::new(ConditionType::GatewayReady, false, Reason::GatewayNotReady, message)
                }
                None => {
                    let message = format!("AgentGateway {key} has not been looked at yet");
                    ConditionUpdate::new(
                        ConditionType::GatewayReady,
                        ConditionStatus::Unknown,
                        Reason::GatewayNotReady,
                        message,
                    )
                }
            }
        }
    }
}

fn lead_ready(lead: Option<&Agent>) -> ConditionUpdate {
    match lead {
        None => ConditionUpdate::new(
            ConditionType::LeadReady,
            false,
            Reason::NoLead,
            "no Agent with role Lead refers to this board",
        ),
        Some(lead) => {
            let name = lead.metadata.name.as_deref().unwrap_or_default();
            if is_ready(lead) {
                ConditionUpdate::new(
                    ConditionType::LeadReady,
                    true,
                    Reason::Reconciled,
                    format!("the lead {name:?} is ready"),
                )
            } else {
                let message = format!("the lead {name:?} is not ready; see the conditions of that Agent");
                ConditionUpdate::new(ConditionType::LeadReady, false, Reason::LeadNotReady, message)
            }
        }
    }
}

fn within_quota(agents: usize, limit: usize, over: &[String]) -> ConditionUpdate {
    if over.is_empty() {
        return ConditionUpdate::new(
            ConditionType::WithinQuota,
            true,
            Reason::Reconciled,
            "the board has no more agents than it may have",
        );
    }
    let message = format!("the board may have {limit} agents and has {agents}; not provisioned: {}", over.join(", "));
    ConditionUpdate::new(ConditionType::WithinQuota, false, Reason::OverLimit, message)
}
