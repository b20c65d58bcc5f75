//! What every method is given, and what it gives.

use serde_json::Value;

use crate::{error::RpcError, world::connections::Client};

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) connection_id: u64,
    pub(crate) client: Client,
}

/// What a method has output, and what is still to follow.
#[derive(Debug)]
pub(crate) struct MethodOutput {
    pub(crate) payload: Value,
    pub(crate) follow_up: FollowUp,
}

/// What follows the execution of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// The reply.
    None,
    /// The write is applied, then the reply.
    ApplyBeforeReply,
    /// The reply, and some time later the write is applied.
    ApplyAfterReply,
    /// The reply, and the run starts.
    StartRun(String),
    /// The reply, and the connections of the device are closed.
    CloseDevice(String),
}

/// A call that is answered and output with.
#[expect(clippy::unnecessary_wraps, reason = "it ends methods, which return results")]
pub(crate) fn reply(payload: Value) -> Result<MethodOutput, RpcError> {
    Ok(MethodOutput { payload, follow_up: FollowUp::None })
}

/// A string parameter; the schema has made sure of it where it is required.
pub(crate) fn text<'a>(params: &'a Value, name: &str) -> &'a str {
    params[name].as_str().unwrap_or_default()
}

/// The refusal of an agent that the gateway does not work with.
pub(crate) fn not_found(id: &str) -> RpcError {
    RpcError::invalid(format!("agent \"{id}\" not found"))
}
