//! The files that a new agent finds in its folder. Pure.

use std::collections::BTreeMap;

use super::desired::{Desired, Origin};
use super::file_writes::records;
use super::observed::ObservedFile;
use crate::api::agent::AgentStatus;
use crate::core::event::Event;

/// A file that no gateway puts into the folder of a new agent (`docs/gateway-facts.md#agents`).
const MEMORY: &str = "MEMORY.md";

/// The event about a folder that an earlier agent left, before the first file of this agent is written. An adopted agent, and one that
/// is taken up, has its own files.
#[must_use]
pub fn event(desired: &Desired, status: &AgentStatus, seen: &BTreeMap<String, ObservedFile>) -> Option<Event> {
    let is_new = match desired.origin {
        Origin::Adopted | Origin::TakenUp => false,
        Origin::Chosen | Origin::Claimed | Origin::Derived | Origin::ParentDerived | Origin::ParentReused => {
            records(desired, status).is_empty()
        }
    };
    let memory = seen.get(MEMORY).filter(|file| is_new && file.size > 0)?;
    let message = format!(
        "agent {} goes on in the folder {}, in which an earlier agent left {MEMORY} ({} bytes); to begin anew, move the folder away on the gateway's host",
        desired.identity.agent_id, desired.identity.workspace, memory.size
    );
    Some(Event { warning: false, reason: "FolderFound".into(), action: "Reconcile", message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::fixtures;

    fn seen(size: i64) -> BTreeMap<String, ObservedFile> {
        [(MEMORY.to_owned(), ObservedFile { size, ..ObservedFile::default() })].into()
    }

    #[test]
    fn only_the_memory_of_another_agent_is_reported() {
        let desired = fixtures::applied().desired_now();
        let new = AgentStatus::default();
        let found = event(&desired, &new, &seen(9)).unwrap();
        assert!(found.message.contains(&desired.identity.workspace) && !found.warning, "{found:?}");
        assert_eq!(event(&desired, &new, &seen(0)), None);
        assert_eq!(event(&desired, &new, &BTreeMap::new()), None);
        for origin in [Origin::Adopted, Origin::TakenUp] {
            assert_eq!(event(&Desired { origin, ..desired.clone() }, &new, &seen(9)), None, "{origin:?}");
        }
        let set_up = fixtures::applied().bound().with_token().registered().provisioned();
        assert_eq!(event(&set_up.desired_now(), &set_up.status, &seen(9)), None, "its own file");
    }
}
