//! The status of a Board, derived from its Agents and its AgentGateway.

use std::sync::Arc;

use super::conditions::{gateway_ready, lead_ready, within_quota};
use crate::api::agent::{Agent, Role};
use crate::api::conditions::{ConditionStatus, ConditionUpdate, set};
use crate::api::text::with_reason;
use crate::api::{AgentGateway, Board, BoardStatus, ConditionType, Reason};
use crate::core::agent::status::{is_ready, parent_derived_id};
use crate::core::error::ReconcileError;
use crate::core::gateway_ref::gateway_of_board;
use crate::core::kstatus::{ProgressInput, set_progress};
use crate::core::request_progress::progress;
use crate::core::requests::{RequestTimes, handled_reconcile};

/// The largest number of names that a status lists.
const MAX_NAMES: usize = 50;

/// The status of a Board. `agents` are its Agents, the oldest first.
#[must_use]
pub fn status(
    board: &Board,
    agents: &[Arc<Agent>],
    gateway: Result<&AgentGateway, &ReconcileError>,
    now: jiff::Timestamp,
) -> BoardStatus {
    let old = board.status.clone().unwrap_or_default();
    let generation = board.metadata.generation.unwrap_or_default();
    let limit = board.spec.max_agents.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let name = |a: &Arc<Agent>| a.metadata.name.clone().unwrap_or_default();
    let lead = agents.iter().find(|a| a.spec.role == Role::Lead);
    let ready = agents.iter().filter(|a| is_ready(a)).count();
    let requests = RequestTimes::read(board.metadata.annotations.as_ref(), now);
    let mut new = BoardStatus {
        observed_generation: generation,
        last_handled_reconcile_at: handled_reconcile(&board.metadata, old.last_handled_reconcile_at.as_ref()),
        lead: lead.map(name),
        lead_agent_id: lead
            .and_then(|lead| parent_derived_id(lead, board.metadata.uid.as_deref()))
            .or_else(|| old.lead_agent_id.clone()),
        agents: i32::try_from(agents.len()).unwrap_or(i32::MAX),
        ready_agents: i32::try_from(ready).unwrap_or(i32::MAX),
        over_limit: agents.iter().skip(limit).take(MAX_NAMES).map(name).collect(),
        last_sync: progress(&requests, agents).or_else(|| old.last_sync.clone()),
        invalid_requests: requests.invalid,
        conditions: old.conditions.clone(),
    };
    let gateway_ready = gateway_ready(board, gateway);
    let lead_ready = lead_ready(lead.map(AsRef::as_ref));
    let quota = within_quota(agents.len(), limit, &new.over_limit);
    let first_flaw = [&gateway_ready, &quota].into_iter().find(|v| v.status != ConditionStatus::True);
    let ready_condition = match first_flaw {
        Some(flaw) => ConditionUpdate::new(ConditionType::Ready, flaw.status, flaw.reason, flaw.message.clone()),
        None => ConditionUpdate::new(
            ConditionType::Ready,
            true,
            Reason::Reconciled,
            ready_message(board, gateway.ok(), ready, agents.len()),
        ),
    };
    for condition in [&gateway_ready, &lead_ready, &quota, &ready_condition] {
        set(&mut new.conditions, condition, generation, now);
    }
    let progress = ProgressInput {
        ready: &ready_condition,
        error: None,
        reconciling: None,
        is_suspended: gateway.is_ok_and(|gateway| gateway.spec.suspend),
        generation,
        now,
    };
    set_progress(&mut new.conditions, &progress);
    new
}

/// How many agents are ready, and what suspends them.
fn ready_message(board: &Board, gateway: Option<&AgentGateway>, ready: usize, all: usize) -> String {
    let mut parts = vec![format!("{ready} of {all} agents are ready")];
    if let Some(gateway) = gateway.filter(|gateway| gateway.spec.suspend) {
        let sentence = format!("AgentGateway {} is suspended", gateway_of_board(board));
        parts.push(with_reason(&sentence, gateway.spec.suspend_reason.as_deref()));
    }
    if board.spec.suspend {
        parts.push(with_reason("spec.suspend is true", board.spec.suspend_reason.as_deref()));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::conditions::find;

    fn status_with(gateway: Result<&AgentGateway, &ReconcileError>, old: &BoardStatus) -> BoardStatus {
        let spec = json!({ "gatewayRef": { "name": "main" } });
        let mut board = Board::new("ops", serde_json::from_value(spec).unwrap());
        board.status = Some(old.clone());
        status(&board, &[], gateway, jiff::Timestamp::from_second(5).unwrap())
    }

    fn present(status: &BoardStatus) -> [Option<&str>; 2] {
        [ConditionType::Stalled, ConditionType::Reconciling]
            .map(|kind| find(&status.conditions, kind).map(|condition| condition.reason.as_str()))
    }

    #[test]
    fn a_board_says_what_suspends_its_agents_and_why() {
        let spec = json!({ "gatewayRef": { "name": "main" }, "suspend": true, "suspendReason": "budget" });
        let board = Board::new("ops", serde_json::from_value(spec).unwrap());
        let spec = json!({ "url": "wss://gw", "auth": {}, "workspaceRoot": "~/w", "suspend": true, "suspendReason": "upgrade" });
        let gateway = AgentGateway::new("main", serde_json::from_value(spec).unwrap());
        assert_eq!(
            ready_message(&board, Some(&gateway), 1, 2),
            "1 of 2 agents are ready; AgentGateway /main is suspended (upgrade); spec.suspend is true (budget)"
        );
    }

    #[test]
    fn a_board_without_its_gateway_is_stalled_and_a_board_whose_gateway_connects_reconciles() {
        let missing = ReconcileError::permanent(Reason::GatewayNotFound, "AgentGateway fleet/main does not exist");
        let stalled = status_with(Err(&missing), &BoardStatus::default());
        assert_eq!(present(&stalled), [Some("GatewayNotFound"), None]);
        assert_eq!(status_with(Err(&missing), &stalled), stalled, "an unchanged Board causes no write");
        let spec = json!({
            "url": "ws://gateway:18789", "auth": { "tokenSecretRef": { "name": "gateway", "key": "token" } },
            "workspaceRoot": "~/agents", "apiUrl": "http://muster:8080",
        });
        let mut gateway = AgentGateway::new("main", serde_json::from_value(spec).unwrap());
        let reconciling = status_with(Ok(&gateway), &stalled);
        assert_eq!(present(&reconciling), [None, Some("GatewayNotReady")]);
        let ready = ConditionUpdate::new(ConditionType::Ready, true, Reason::Connected, "connected");
        set(&mut gateway.status.get_or_insert_default().conditions, &ready, 1, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(present(&status_with(Ok(&gateway), &reconciling)), [None, None]);
    }
}
