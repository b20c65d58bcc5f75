//! The input and the output of a method.

use std::sync::Arc;

use serde_json::Value;

use crate::{error::RpcError, world::connections::Client};

/// The client of a call.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) connection_id: u64,
    pub(crate) client: Client,
}

/// The reply of a method and its follow-up.
#[derive(Debug)]
pub(crate) struct MethodOutput {
    /// The payload as JSON.
    pub(crate) payload: Arc<str>,
    pub(crate) follow_up: FollowUp,
}

impl MethodOutput {
    pub(crate) fn new(payload: &Value, follow_up: FollowUp) -> Self {
        Self { payload: payload.to_string().into(), follow_up }
    }
}

/// The steps after the execution of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// Only the reply.
    None,
    /// The write is applied, then the reply is sent.
    ApplyBeforeReply,
    /// The reply is sent; the write is applied later.
    ApplyAfterReply,
    /// The reply is sent, and the run starts.
    StartRun(String),
    /// The reply is sent, and the connections of the device are closed.
    CloseDevice(String),
}

/// The output of a method without a follow-up.
#[expect(clippy::needless_pass_by_value, reason = "the caller has no further use of the payload")]
pub(crate) fn reply(payload: Value) -> Result<MethodOutput, RpcError> {
    reply_text(payload.to_string().into())
}

/// As [`reply`], with a payload that is JSON text already.
#[expect(clippy::unnecessary_wraps, reason = "it ends methods, which return results")]
pub(crate) fn reply_text(payload: Arc<str>) -> Result<MethodOutput, RpcError> {
    Ok(MethodOutput { payload, follow_up: FollowUp::None })
}

/// A string parameter; empty if it is absent. The schema checks required parameters.
pub(crate) fn text<'a>(params: &'a Value, name: &str) -> &'a str {
    params[name].as_str().unwrap_or_default()
}

/// The error for an agent that is not in the applied configuration.
pub(crate) fn not_found(id: &str) -> RpcError {
    RpcError::invalid(format!("agent \"{id}\" not found"))
}
