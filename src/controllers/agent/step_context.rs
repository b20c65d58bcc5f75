//! What the Steps of a plan need.

use crate::controllers::Context;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::core::agent::desired::Desired;
use crate::core::agent::references::References;

/// What the Steps need.
#[derive(Debug)]
pub struct StepContext<'a, S> {
    /// The handles.
    pub ctx: &'a Context<S>,
    /// The agent's gateway.
    pub link: &'a GatewayHandle,
    /// What the agent refers to.
    pub references: &'a References,
    /// What it is to be.
    pub desired: &'a Desired,
}
