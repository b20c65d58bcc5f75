//! The directories of souls that are in use, one for each AgentGateway: what is known of them, and who is told of a change.

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

/// The directories that are in use.
pub struct SoulDirectories {
    fetch: Arc<dyn Fetch>,
    changes: mpsc::UnboundedSender<GatewayChange>,
    open: Mutex<HashMap<ObjectKey, Open>>,
}

struct Open {
    shelf: Arc<SoulCache>,
    _worker: AbortOnDropHandle<()>,
}

impl fmt::Debug for SoulDirectories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Souls").finish_non_exhaustive()
    }
}

impl SoulDirectories {
    /// No directory yet. What changes is told to `changes`.
    #[must_use]
    pub fn new(fetch: Arc<dyn Fetch>, changes: mpsc::UnboundedSender<GatewayChange>) -> Self {
        Self { fetch, changes, open: Mutex::default() }
    }

    /// What the directory of an agent's gateway has for its role.
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

    /// What the status of an AgentGateway says about its directory.
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

    /// Closes the directory of a gateway that is gone.
    pub fn close(&self, key: &ObjectKey) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Forgets an agent that is gone.
    pub fn forget(&self, agent: &ObjectKey) {
        for open in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            open.shelf.forget(agent);
        }
    }

    /// The directory of a gateway, as its spec says. One that is not wanted any more is closed.
    fn ensure(&self, key: &ObjectKey, gateway: &AgentGateway) -> Option<Arc<SoulCache>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Ok(settings)) = DirectorySettings::of(gateway) else {
            open.remove(key);
            return None;
        };
        if let Some(open) = open.get(key).filter(|open| *open.shelf.settings() == settings) {
            return Some(Arc::clone(&open.shelf));
        }
        let directory = Arc::new(SoulCache::new(key.clone(), settings, Arc::clone(&self.fetch), self.changes.clone()));
        let worker = AbortOnDropHandle::new(tokio::spawn(SoulCache::run(Arc::clone(&directory))));
        open.insert(key.clone(), Open { shelf: Arc::clone(&directory), _worker: worker });
        Some(directory)
    }
}
