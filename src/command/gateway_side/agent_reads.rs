//! What a gateway answers about one agent. Only reads.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::target::AgentTarget;
use crate::api::agent_status::{FileState, FileStatus};
use crate::openclaw::GatewayClient;
use crate::openclaw::model::{CallError, HeartbeatJobs, Inventory, SessionInfo, UnlistedFile};

/// How long the jobs of the heartbeats may take after the roster.
const JOBS_TIMEOUT: Duration = Duration::from_secs(15);

/// A workspace file on the gateway, beside the record in the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SeenFile {
    Same,
    Differs,
    Missing,
    Unreadable(String),
}

/// The answers about an agent.
#[derive(Debug)]
pub(super) struct AgentAnswers {
    /// The files that the status records, by name; or why the list cannot be read.
    pub(super) files: Result<BTreeMap<String, SeenFile>, String>,
    /// The session, if the status names one.
    pub(super) session: Option<Result<Option<SessionInfo>, String>>,
    /// The heartbeat jobs; `None` if they were not read in time.
    pub(super) jobs: Option<HeartbeatJobs>,
    /// When these answers were read.
    pub(super) read_at: Instant,
}

/// Reads what the gateway has of an agent. `None` if its roster does not show the agent.
pub(super) async fn read(client: &GatewayClient, target: &AgentTarget, inventory: &Inventory) -> Option<AgentAnswers> {
    let id = target.id().filter(|id| inventory.agents.get(*id).is_some_and(|row| row.in_roster))?;
    let status = target.agent.status.as_ref();
    let files = files(client, id, status.map(|status| status.files.as_slice()).unwrap_or_default()).await;
    let session = match status.and_then(|status| status.session_key.as_deref()).filter(|key| !key.is_empty()) {
        Some(key) => Some(client.session(key).await.map_err(|error| error.to_string())),
        None => None,
    };
    let mut jobs = client.heartbeat_jobs();
    let known = tokio::time::timeout(JOBS_TIMEOUT, jobs.wait_for(Option::is_some)).await;
    let jobs = known.ok().and_then(Result::ok).and_then(|jobs| jobs.as_deref().cloned());
    let files = files.map_err(|error| error.to_string());
    Some(AgentAnswers { files, session, jobs, read_at: Instant::now() })
}

/// Whether the status says that the gateway has the file.
pub(super) fn is_recorded(file: &FileStatus) -> bool {
    match file.state {
        FileState::Synced | FileState::Drifted | FileState::Ignored | FileState::Held => true,
        // The agent may have removed what belongs to it: BOOTSTRAP.md is read once.
        FileState::Pending
        | FileState::Kept
        | FileState::Left
        | FileState::Folded
        | FileState::TooLarge
        | FileState::Refused
        | FileState::Unmanaged => false,
    }
}

async fn files(
    client: &GatewayClient,
    id: &str,
    recorded: &[FileStatus],
) -> Result<BTreeMap<String, SeenFile>, CallError> {
    let listed = client.files_list(id).await?;
    let mut found = BTreeMap::new();
    for file in recorded.iter().filter(|file| is_recorded(file)) {
        let is_compared = file.state == FileState::Synced;
        let seen = match listed.iter().find(|one| file.name == one.name) {
            Some(one) if one.missing => SeenFile::Missing,
            Some(_) if is_compared => content(client, id, file).await,
            Some(_) => SeenFile::Same,
            // 2026.9.6 leaves out IDENTITY.md (`docs/gateway-facts.md#workspace-files`).
            None => unlisted(client, id, file, is_compared).await,
        };
        found.insert(file.name.to_string(), seen);
    }
    Ok(found)
}

async fn content(client: &GatewayClient, id: &str, file: &FileStatus) -> SeenFile {
    match client.file_get(id, &file.name).await {
        Ok(Some(content)) => compared(&content.sha256(), file),
        Ok(None) => SeenFile::Missing,
        Err(error) => SeenFile::Unreadable(error.to_string()),
    }
}

async fn unlisted(client: &GatewayClient, id: &str, file: &FileStatus, is_compared: bool) -> SeenFile {
    match client.unlisted_file(id, &file.name).await {
        Ok(UnlistedFile::Read(content)) if is_compared => compared(&content.sha256(), file),
        Ok(UnlistedFile::Read(_) | UnlistedFile::Long(_)) => SeenFile::Same,
        Ok(UnlistedFile::Missing) => SeenFile::Missing,
        Err(error) => SeenFile::Unreadable(error.to_string()),
    }
}

fn compared(sha256: &str, file: &FileStatus) -> SeenFile {
    if file.sha256.as_ref().is_none_or(|known| *known == *sha256) { SeenFile::Same } else { SeenFile::Differs }
}
