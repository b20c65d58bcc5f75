//! Looking at an agent on its gateway.

use jiff::Timestamp;

use super::link::Link;
use crate::api::agent::AgentStatus;
use crate::gateway::Inventory;
use crate::plan::agent::records;
use crate::plan::{Desired, Observed, Registration, Trouble, files};

/// What the gateway shows of an agent, with the content hashes of those files that cannot be judged without.
///
/// # Errors
/// The request that failed; nothing was changed.
pub async fn agent(
    link: &Link,
    inventory: &Inventory,
    desired: &Desired,
    status: &AgentStatus,
    now: Timestamp,
) -> Result<Observed, Trouble> {
    let mut observed = link.observe(inventory, desired, now).await?;
    let unclear = files::to_read(desired, records(desired, status), &observed.files);
    if !unclear.is_empty() && observed.registration == Registration::Current {
        link.hashes(&desired.identity.agent_id, &unclear, &mut observed).await?;
    }
    Ok(observed)
}
