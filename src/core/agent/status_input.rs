//! The input of an agent's status.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::blocked::Blocker;
use super::desired::Desired;
use super::label::LabelResult;
use super::observed::Observed;
use super::observer::ObserverInput;
use super::token::rules::TokenState;
use super::wake::WakeResult;
use crate::api::agent::{AgentStatus, HeartbeatStatus, RevocationStatus};
use crate::api::requests::RequestKind;

/// The input of an agent's status.
#[derive(Clone, Copy, Debug)]
pub struct StatusInput<'a> {
    /// The status so far.
    pub old: &'a AgentStatus,
    /// The generation of the spec.
    pub generation: i64,
    /// The desired state, if it could be built.
    pub desired: Option<&'a Desired>,
    /// The observed state on the gateway, if the gateway was reachable.
    pub observed: Option<&'a Observed>,
    /// The agent of an Agent that only observes.
    pub observer: Option<ObserverInput<'a>>,
    /// The token Secret, if it was read.
    pub token: Option<&'a TokenState>,
    /// The reason for an incomplete agent.
    pub blocker: Option<&'a Blocker>,
    /// The last report of the agent, if it is newer than the status.
    pub heartbeat: Option<&'a HeartbeatStatus>,
    /// The wake of this pass.
    pub woken: Option<&'a WakeResult>,
    /// The label of this pass.
    pub labelled: Option<&'a LabelResult>,
    /// The SHA-256 of the token that the agent last used for the first time, and the time of that call.
    pub confirmed: Option<&'a (String, Timestamp)>,
    /// The one-shot requests that this pass fulfilled.
    pub fulfilled: &'a BTreeSet<RequestKind>,
    /// Whether this pass begins a reset of the session.
    pub begins_reset: bool,
    /// The admission that the AgentGateway took back.
    pub revocation: Option<&'a RevocationStatus>,
    /// The time.
    pub now: Timestamp,
}
