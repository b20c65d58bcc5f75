//! What the Steps of a plan need, and what a reconcile carries from one pass to the next.

use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::controllers::Context;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::core::agent::desired::Desired;
use crate::core::agent::templates::{TemplateOrigin, Templates};
use crate::core::agent::token::secret::Token;

/// What the Steps need.
#[derive(Debug)]
pub(crate) struct StepContext<'a, S> {
    /// The handles.
    pub(crate) ctx: &'a Context<S>,
    /// The agent's gateway.
    pub(crate) gateway: &'a GatewayHandle,
    /// The agent's token, as it was read.
    pub(crate) token: &'a Token,
    /// What the agent is to be.
    pub(crate) desired: &'a Desired,
}

/// What a reconcile carries from one pass to the next. No Secret and no ConfigMap is read twice.
pub(crate) struct Work {
    /// The Agent, as it was last read or written.
    pub(crate) agent: Agent,
    /// Whether it came from the API server, or from a write of ours, and not from the cache, which may lag behind.
    pub(crate) is_fresh: bool,
    /// Whether workspace and session were read anew for a request. Once is enough: what the gateway refused since is known.
    pub(crate) is_relisted: bool,
    /// The token Secret, as it was read or written.
    pub(crate) token: Option<CarriedToken>,
    /// The templates of these origins.
    pub(crate) templates: Option<(Vec<TemplateOrigin>, Templates)>,
}

/// A token, and what it was read for.
pub(crate) struct CarriedToken {
    pub(crate) secret: ObjectKey,
    pub(crate) api_url: String,
    pub(crate) token: Token,
}

impl Work {
    pub(crate) fn new(agent: &Agent) -> Self {
        Self { agent: agent.clone(), is_fresh: false, is_relisted: false, token: None, templates: None }
    }
}
