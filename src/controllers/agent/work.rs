//! The context of the Steps, and the state of a reconcile.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::controllers::Context;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::core::agent::desired::Desired;
use crate::core::agent::templates::ConfigMapContent;
use crate::core::agent::token::secret::Token;

/// The context of the Steps.
#[derive(Debug)]
pub(crate) struct StepContext<'a> {
    /// The handles.
    pub(crate) ctx: &'a Context,
    /// The agent's gateway.
    pub(crate) gateway: &'a GatewayHandle,
    /// The token Secret that the plan was made for.
    pub(crate) token: &'a Token,
    /// The desired state.
    pub(crate) desired: &'a Desired,
    /// When the pass began.
    pub(crate) began: Instant,
}

/// The state that a reconcile carries from one pass to the next. No Secret and no ConfigMap is read twice.
pub(crate) struct Work {
    /// The Agent from the cache, or after the last write.
    pub(crate) agent: Arc<Agent>,
    /// Whether the API server had the Agent in this reconcile. The cache may lag behind.
    pub(crate) is_confirmed: bool,
    /// The AgentGateway that admits the namespace of the Agent, as this pass has seen.
    pub(crate) admitted_by: Option<ObjectKey>,
    /// Whether workspace and session were read again for a request. Once is enough.
    pub(crate) is_relisted: bool,
    /// The token Secret after the last read or write.
    pub(crate) token: Option<CarriedToken>,
    /// The ConfigMaps that were read.
    pub(crate) config_maps: BTreeMap<ObjectKey, ConfigMapContent>,
}

/// A token, and the Secret and API URL that it was read with.
pub(crate) struct CarriedToken {
    pub(crate) secret: ObjectKey,
    pub(crate) api_url: String,
    pub(crate) token: Token,
}

impl Work {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self {
            agent,
            is_confirmed: false,
            admitted_by: None,
            is_relisted: false,
            token: None,
            config_maps: BTreeMap::new(),
        }
    }
}
