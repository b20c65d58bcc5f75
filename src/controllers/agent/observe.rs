//! Looking at an agent on its gateway.

use jiff::Timestamp;

use crate::api::agent::AgentStatus;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::core::agent::desired::Desired;
use crate::core::agent::file_writes::records;
use crate::core::agent::files;
use crate::core::agent::observed::{Observed, Registration};
use crate::core::error::ReconcileError;
use crate::openclaw::model::Inventory;

/// What the gateway shows of an agent, with the content hashes of those files that cannot be judged without.
///
/// # Errors
/// The request that failed; nothing was changed.
pub(crate) async fn agent(
    link: &GatewayHandle,
    inventory: &Inventory,
    desired: &Desired,
    status: &AgentStatus,
    now: Timestamp,
) -> Result<Observed, ReconcileError> {
    let mut observed = link.observe(inventory, desired, now).await?;
    if observed.registration != Registration::Current {
        return Ok(observed);
    }
    let (id, interval) = (desired.identity.agent_id.as_str(), desired.content_check_interval);
    let all = link.contents_are_due(id, interval);
    let unclear = files::to_read(desired, records(desired, status), &observed.files, all);
    if !unclear.is_empty() {
        link.hashes(id, &unclear, &mut observed).await?;
    }
    if all {
        link.contents_were_read(id);
    }
    Ok(observed)
}
