//! The conditions of a Board.

use crate::api::agent::Agent;
use crate::api::conditions::{ConditionStatus, ConditionUpdate, find};
use crate::api::{AgentGateway, Board, ConditionType, Reason};
use crate::core::agent::status::is_ready;
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::gateway_of_board;

pub(crate) fn gateway_ready(board: &Board, gateway: Result<&AgentGateway, &ReconcileError>) -> ConditionUpdate {
    let key = gateway_of_board(board);
    match gateway {
        Err(error) => ConditionUpdate::new(ConditionType::GatewayReady, false, error.reason, error.message.clone()),
        Ok(gateway) => {
            let ready = gateway.status.as_ref().and_then(|s| find(&s.conditions, ConditionType::Ready));
            let suspended = if gateway.spec.suspend { ", as last observed: it is suspended" } else { "" };
            match ready {
                Some(c) if c.status == "True" => ConditionUpdate::new(
                    ConditionType::GatewayReady,
                    true,
                    Reason::Connected,
                    format!("AgentGateway {key} is ready{suspended}"),
                ),
                Some(c) => {
                    let message = format!("AgentGateway {key} is not ready: {}", c.message);
                    ConditionUpdate::new(ConditionType::GatewayReady, false, Reason::GatewayNotReady, message)
                }
                None => {
                    let message = format!("AgentGateway {key} has no condition Ready yet");
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

pub(crate) fn lead_ready(lead: Option<&Agent>) -> ConditionUpdate {
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

pub(crate) fn within_quota(agents: usize, limit: usize, over: &[String]) -> ConditionUpdate {
    if over.is_empty() {
        return ConditionUpdate::new(
            ConditionType::WithinQuota,
            true,
            Reason::Reconciled,
            "the number of agents is within spec.maxAgents",
        );
    }
    let message = format!(
        "the board has {agents} agents, and spec.maxAgents allows {limit}; not provisioned: {}",
        over.join(", ")
    );
    ConditionUpdate::new(ConditionType::WithinQuota, false, Reason::OverLimit, message)
}
