//! Everything that a status is derived from.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::blocked::Blocker;
use super::desired::Desired;
use super::label::LabelResult;
use super::observed::Observed;
use super::token::rules::TokenState;
use super::wake::WakeResult;
use crate::api::agent::{AgentStatus, HeartbeatStatus};
use crate::api::requests::RequestKind;

/// Everything that a status is derived from.
#[derive(Clone, Copy, Debug)]
pub struct StatusInput<'a> {
    /// The status so far.
    pub old: &'a AgentStatus,
    /// The generation of the spec.
    pub generation: i64,
    /// What the agent is to be, when that could be said.
    pub desired: Option<&'a Desired>,
    /// What was seen on the gateway, when it could be asked.
    pub observed: Option<&'a Observed>,
    /// The token Secret, when it was read.
    pub token: Option<&'a TokenState>,
    /// Why the agent is not complete.
    pub blocker: Option<&'a Blocker>,
    /// What the agent last reported, when that is newer than the status.
    pub heartbeat: Option<&'a HeartbeatStatus>,
    /// The wake that was sent just now.
    pub woken: Option<&'a WakeResult>,
    /// The label that was sent just now.
    pub labelled: Option<&'a LabelResult>,
    /// The token that the agent was seen to use for the first time, and when.
    pub confirmed: Option<&'a (String, Timestamp)>,
    /// The one-shot requests that were done just now.
    pub fulfilled: &'a BTreeSet<RequestKind>,
    /// Whether a reset of the session is begun.
    pub begins_reset: bool,
    /// The time.
    pub now: Timestamp,
}
