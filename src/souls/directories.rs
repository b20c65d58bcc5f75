//! The soul directories in use, at most one per AgentGateway: their caches and the reports of their changes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::fetch::Fetch;
use super::soul_cache::{DirectorySettings, SoulCache};
use crate::api::AgentGateway;
use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::api::soul::SoulDirectoryStatus;
use crate::core::agent::soul_files::RoleSoul;
use crate::state::changes::GatewayChange;

/// The soul directories in use.
pub struct SoulDirectories {
    fetch: Arc<dyn Fetch>,
    changes: mpsc::UnboundedSender<GatewayChange>,
    open: Mutex<HashMap<ObjectKey, OpenDirectory>>,
}

/// The cache of a directory and its worker task.
struct OpenDirectory {
    cache: Arc<SoulCache>,
    _worker: AbortOnDropHandle<()>,
}

impl fmt::Debug for SoulDirectories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoulDirectories").finish_non_exhaustive()
    }
}

impl SoulDirectories {
    /// No directories. Later changes are sent to `changes`.
    #[must_use]
    pub fn new(fetch: Arc<dyn Fetch>, changes: mpsc::UnboundedSender<GatewayChange>) -> Self {
        Self { fetch, changes, open: Mutex::default() }
    }

    /// The soul for an agent's role in the directory of its gateway.
    ///
    /// # Guarantees
    /// It waits only while the directory is asked for the first time, and then a few seconds at most.
    pub async fn of(&self, agent: &Agent, key: &ObjectKey, gateway: &AgentGateway) -> RoleSoul {
        let Some(directory) = self.ensure(key, gateway) else { return RoleSoul::Off };
        let agent_key = ObjectKey::of(&agent.metadata);
        match agent.spec.identity_profile.role.as_deref().map(str::trim) {
            None | Some("") => {
                directory.forget(&agent_key);
                RoleSoul::Off
            }
            Some(role) => directory.ask(agent_key, role).await,
        }
    }

    /// The directory in the status of an AgentGateway.
    #[must_use]
    pub fn status(
        &self,
        gateway: &AgentGateway,
        old: Option<&SoulDirectoryStatus>,
        now: Timestamp,
    ) -> Option<SoulDirectoryStatus> {
        if let Some(Err(error)) = DirectorySettings::of(gateway) {
            let url = gateway.spec.soul_directory.as_ref().map(|directory| directory.url.clone()).unwrap_or_default();
            return Some(SoulDirectoryStatus { url, error: Some(error), ..SoulDirectoryStatus::default() });
        }
        let directory = self.ensure(&ObjectKey::of(&gateway.metadata), gateway)?;
        let url = directory.settings().url();
        let old = old.filter(|old| old.url == url);
        let Some(report) = directory.report() else { return old.cloned() };
        let known = old.filter(|old| report.list_sha256.is_none() || old.list_sha256 == report.list_sha256);
        let mut new = known.cloned().unwrap_or_else(|| SoulDirectoryStatus {
            url: url.to_owned(),
            souls: report.souls,
            fetched_at: report.list_sha256.is_some().then_some(Time(now)),
            list_sha256: report.list_sha256,
            error: None,
        });
        new.error = report.error;
        Some(new)
    }

    /// Closes the directory of a deleted gateway.
    pub fn close(&self, key: &ObjectKey) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Removes the role of a deleted agent.
    pub fn forget(&self, agent: &ObjectKey) {
        for open in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            open.cache.forget(agent);
        }
    }

    /// Opens the directory in the spec of a gateway, or closes the directory that the spec no longer has.
    fn ensure(&self, key: &ObjectKey, gateway: &AgentGateway) -> Option<Arc<SoulCache>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Ok(settings)) = DirectorySettings::of(gateway) else {
            open.remove(key);
            return None;
        };
        if let Some(open) = open.get(key).filter(|open| *open.cache.settings() == settings) {
            return Some(Arc::clone(&open.cache));
        }
        let directory = Arc::new(SoulCache::new(key.clone(), settings, Arc::clone(&self.fetch), self.changes.clone()));
        let worker = AbortOnDropHandle::new(tokio::spawn(SoulCache::run(Arc::clone(&directory))));
        open.insert(key.clone(), OpenDirectory { cache: Arc::clone(&directory), _worker: worker });
        Some(directory)
    }
}
