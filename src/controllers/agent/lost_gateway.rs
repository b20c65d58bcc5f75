//! Releases an Agent from an AgentGateway that is deleted or being deleted.

use super::work::Work;
use super::{cleanup, removal};
use crate::controllers::Context;
use crate::core::agent::binding::Binding;
use crate::core::agent::cleanup::Presence;
use crate::core::agent::conclude::PassEnd;
use crate::core::agent::protection;
use crate::core::gateway_ref::resolved_gateway;
use crate::core::objects::Objects;

/// Removes the agent of a binding to an AgentGateway that is deleted or being deleted. The agent of a protected Agent stays while the
/// AgentGateway is being deleted.
///
/// # Errors
/// The end of the pass: the binding was released, or could not be.
pub(super) async fn release(ctx: &Context, work: &mut Work) -> Result<(), PassEnd> {
    let is_lost = |binding: &Binding| match removal::presence(&ctx.state.store, binding) {
        Presence::Absent | Presence::Terminating { .. } => true,
        // An AgentGateway that the operator may not see can still be there.
        Presence::Present | Presence::Unknown => false,
    };
    let Some(binding) = Binding::of(&work.agent).filter(is_lost) else { return Ok(()) };
    if ctx.state.store.gateway(&binding.gateway).is_some() {
        let goes_to = resolved_gateway(&ctx.state.store, &work.agent);
        protection::obstacle(&work.agent, &binding, goes_to.as_ref()).map_or(Ok(()), Err)?;
    }
    work.agent = Box::pin(cleanup::release(ctx, &work.agent, &binding)).await?;
    work.token = None;
    Err(PassEnd::Released)
}
