//! The file writes of an agent.

use super::desired::{Delivery, Desired, DesiredFile, RenderedText};
use super::files::{self, FileDecision, UnwantedFile};
use super::observed::Observed;
use super::step::FileWrite;
use crate::api::agent::{AgentStatus, FilePolicy, FileStatus};

/// The files to be written, each with its content. A file that is no longer wanted is emptied.
pub(crate) fn file_writes(desired: &Desired, status: &AgentStatus, observed: &Observed) -> Vec<FileWrite> {
    let files = desired.files.as_deref().unwrap_or_default();
    let records = records(desired, status);
    let write = |file: &DesiredFile| {
        let force = files::force(desired, &file.name);
        let decision = files::decide(file, files::record(records, &file.name), observed.files.get(&file.name), force);
        let (policy, content) = match &file.delivery {
            Delivery::Write { policy, content, .. } | Delivery::Held { policy, content, .. } => (*policy, content),
            Delivery::Folded { .. } | Delivery::TooLarge { .. } | Delivery::Unmanaged => return None,
        };
        let is_agent_owned = matches!(policy, FilePolicy::IfMissing | FilePolicy::Once) && !force.overwrite;
        match decision {
            FileDecision::Write { expected } => Some(FileWrite {
                name: file.name.clone(),
                content: content.clone(),
                expected,
                only_if_missing: is_agent_owned,
            }),
            FileDecision::Nothing(_) | FileDecision::Read => None,
        }
    };
    let emptied = files::unwanted(desired, records, &observed.files)
        .filter(|(_, outcome)| *outcome == UnwantedFile::Emptied)
        .map(|(record, _)| FileWrite {
            name: record.name.to_string(),
            content: RenderedText::of(String::new()),
            expected: record.sha256.as_ref().map(ToString::to_string),
            only_if_missing: false,
        });
    files.iter().filter_map(write).chain(emptied).collect()
}

/// The records of this agent's files in the status. A status of another id has no records.
#[must_use]
pub fn records<'a>(desired: &Desired, status: &'a AgentStatus) -> &'a [FileStatus] {
    let same = status.agent_id.as_deref() == Some(desired.identity.agent_id.as_str())
        && status.gateway.as_ref() == Some(&desired.gateway);
    if same { &status.files } else { &[] }
}
