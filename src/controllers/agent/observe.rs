//! Observes an agent on its gateway: the registration by the inventory, workspace and session by requests.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::agent::AgentStatus;
use crate::controllers::gateway_handle::GatewayHandle;
use crate::controllers::workspace_cache::{CachedWorkspace, EventEpoch, UNLISTED};
use crate::core::agent::activity::observed_activity;
use crate::core::agent::desired::Desired;
use crate::core::agent::file_writes::records;
use crate::core::agent::files;
use crate::core::agent::heartbeat_state::ObservedHeartbeat;
use crate::core::agent::liveness::Liveness;
use crate::core::agent::observed::{Observed, ObservedActivity, ObservedFile, ObservedSession, Registration};
use crate::core::agent::observer::{ObserverTarget, SeenAgent};
use crate::core::error::ReconcileError;
use crate::openclaw::model::{CallError, GatewayClock, Inventory, UnlistedFile};

/// The observed state of an agent, with the content hashes of the files whose size and time do not suffice.
///
/// # Errors
/// The request that failed.
pub(crate) async fn agent(
    gateway: &GatewayHandle,
    inventory: &Inventory,
    desired: &Desired,
    status: &AgentStatus,
    now: Timestamp,
) -> Result<Observed, ReconcileError> {
    let mut observed = gateway.observe(inventory, desired, now).await?;
    if observed.registration != Registration::Current {
        return Ok(observed);
    }
    let (id, interval) = (desired.identity.agent_id.as_str(), desired.content_check_interval);
    let all = gateway.cache.is_content_check_due(id, interval);
    let unclear = files::to_read(desired, records(desired, status), &observed.files, all);
    if !unclear.is_empty() {
        gateway.read_hashes(id, &unclear, &mut observed).await?;
    }
    if all {
        gateway.cache.record_content_check(id);
    }
    Ok(observed)
}

/// The agent of an observer, without its files and contents. The session is read while the gateway's events show no run of the agent.
///
/// # Errors
/// The request that failed.
pub(super) async fn seen(
    gateway: &GatewayHandle,
    inventory: &Inventory,
    target: &ObserverTarget,
    now: Timestamp,
) -> Result<SeenAgent, ReconcileError> {
    let id = target.identity.agent_id.as_str();
    let Some(row) = inventory.agents.get(id) else { return Ok(SeenAgent::default()) };
    let seen = SeenAgent {
        is_served: row.in_roster,
        is_configured: row.entry.is_some(),
        workspace: row.workspace.clone(),
        heartbeat: gateway.observe_heartbeat(inventory, id, now),
        activity: ObservedActivity::default(),
    };
    if !seen.is_served {
        return Ok(seen);
    }
    // The path may change with the gateway's config, so that a path of an earlier look does not count.
    let workspace = gateway.workspace_path(row).await?;
    let events = gateway.client().activity().borrow().of(id).cloned();
    let session = if events.as_ref().is_some_and(|events| events.run().is_some()) {
        None
    } else {
        let session = gateway.client().session(&target.identity.session_key).await;
        session.map_err(|error| ReconcileError::gateway("to look at its session", &error))?
    };
    let clock = gateway.client().activity().borrow().clock.or(session.as_ref().and_then(|session| session.clock));
    let activity = observed_activity(events.as_ref(), session.as_ref(), |ms| our_time(clock, ms, now));
    Ok(SeenAgent { workspace: Some(workspace), activity, ..seen })
}

impl GatewayHandle {
    /// Observes an agent. The files are listed again after the resync interval. The session is read again after a reconnect and after
    /// an event about it.
    ///
    /// # Errors
    /// The request that failed.
    async fn observe(
        &self,
        inventory: &Inventory,
        desired: &Desired,
        now: Timestamp,
    ) -> Result<Observed, ReconcileError> {
        let id = desired.identity.agent_id.as_str();
        let mut observed = self.observe_registration(inventory, desired);
        let files = desired.files.as_deref().unwrap_or_default();
        let heartbeat = self.observe_heartbeat(inventory, id, now);
        observed.heartbeat = heartbeat.with_files(inventory.capabilities.roster, files);
        if observed.registration != Registration::Current {
            self.cache.forget_unregistered(id, observed.registration == Registration::Absent);
            return Ok(observed);
        }
        let workspace = self.workspace(id, &desired.identity.session_key).await;
        let workspace = workspace.map_err(|error| ReconcileError::gateway("to look at its workspace", &error))?;
        let activity = self.client.activity();
        let activity = activity.borrow();
        observed.connected_at = activity.connected.and_then(|since| now.checked_sub(since.elapsed()).ok());
        let session = workspace.session.as_ref();
        let clock = activity.clock.or(session.and_then(|session| session.clock));
        observed.activity = observed_activity(activity.of(id), session, |ms| our_time(clock, ms, now));
        observed.session = session.map(ObservedSession::from);
        observed.files = workspace.files;
        Ok(observed)
    }

    fn observe_registration(&self, inventory: &Inventory, desired: &Desired) -> Observed {
        let id = desired.identity.agent_id.as_str();
        let writes = self.client.config_writes();
        let writes = writes.borrow();
        let observed = Observed::of_registration(inventory, &writes, desired);
        let is_queued = writes.pending.contains(id) || writes.refused.contains_key(id);
        if observed.registration == Registration::Current && is_queued {
            // The queued entry was submitted for an earlier spec.
            self.client.withdraw(id);
        }
        let now = Instant::now();
        let over_budget = writes.budget_until.is_some_and(|until| until > now);
        let creation_in = writes.creation_at.filter(|at| *at > now).map(|at| at - now);
        Observed { over_budget, creation_in, ..observed }
    }

    fn observe_heartbeat(&self, inventory: &Inventory, id: &str, now: Timestamp) -> ObservedHeartbeat {
        let (jobs, activity) = (self.client.heartbeat_jobs(), self.client.activity());
        let (jobs, activity) = (jobs.borrow(), activity.borrow());
        ObservedHeartbeat::of(id, inventory, jobs.as_deref(), activity.of(id), |ms| our_time(activity.clock, ms, now))
    }

    /// The workspace and the session of an agent: from the cache as far as it is valid, the rest by requests.
    async fn workspace(&self, id: &str, session_key: &str) -> Result<CachedWorkspace, CallError> {
        let epoch = self.event_epoch(id);
        let activity = self.client.activity().borrow().of(id).cloned();
        let (cached, was_absent) = self.cache.get(id, epoch);
        let cached = cached.as_ref();
        let with_files = cached.filter(|cached| self.cache.has_valid_files(cached));
        let with_session = cached.filter(|cached| cached.has_valid_session(session_key, epoch, activity.as_ref()));
        if let (Some(cached), Some(_)) = (with_files, with_session) {
            return Ok(cached.clone());
        }
        let now = Instant::now();
        let list = async {
            match with_files {
                Some(cached) => Ok((cached.files_at, cached.unlisted_at, cached.files.clone())),
                None => self.list_files(id, cached).await.map(|(read_at, files)| (now, read_at.unwrap_or(now), files)),
            }
        };
        let read = async {
            match with_session {
                Some(cached) => Ok(cached.session.clone()),
                None if was_absent => Ok(None),
                None => self.client.session(session_key).await,
            }
        };
        let ((files_at, unlisted_at, files), session) = futures::try_join!(list, read)?;
        let workspace = CachedWorkspace { files_at, unlisted_at, files, session, epoch };
        self.cache.insert(id, &workspace);
        Ok(workspace)
    }

    /// Whether an agent runs at this moment by the events of the gateway.
    pub(crate) fn runs_now(&self, id: &str, now: Timestamp) -> bool {
        let activity = self.client.activity();
        let activity = activity.borrow();
        let runs = observed_activity(activity.of(id), None, |ms| our_time(activity.clock, ms, now));
        let observed = Observed { activity: runs, ..Observed::default() };
        Liveness::of(None, &AgentStatus::default(), Some(&observed)).running_until(now).is_some()
    }

    fn event_epoch(&self, id: &str) -> EventEpoch {
        let activity = self.client.activity();
        let activity = activity.borrow();
        let changes = activity.of(id).map_or(0, |activity| activity.session_changes);
        EventEpoch { losses: activity.epoch, changes }
    }

    /// Lists an agent's files. A file that the list leaves out is taken from the `cached` workspace, so that a listing is one request.
    /// The comparison of contents reads the file. Returns the time of that earlier read with the files.
    async fn list_files(
        &self,
        id: &str,
        cached: Option<&CachedWorkspace>,
    ) -> Result<(Option<Instant>, BTreeMap<String, ObservedFile>), CallError> {
        let listed = self.client.files_list(id).await?;
        let leaves_out = !listed.iter().any(|file| file.name == UNLISTED);
        let present = listed.into_iter().filter(|file| !file.missing);
        let mut files: BTreeMap<_, _> = present.map(|file| (file.name.clone(), ObservedFile::from(&file))).collect();
        let mut read_at = None;
        if leaves_out {
            let cached = cached.map(|cached| (cached.unlisted_at, cached.files.get(UNLISTED)));
            let unlisted = match cached.filter(|(_, file)| file.is_none_or(|file| file.refused.is_none())) {
                Some((at, file)) => {
                    read_at = Some(at);
                    file.map(|file| ObservedFile { sha256: None, ..file.clone() })
                }
                None => match self.client.unlisted_file(id, UNLISTED).await {
                    Ok(UnlistedFile::Missing) => None,
                    Ok(UnlistedFile::Read(content)) => Some(ObservedFile::from(&content)),
                    Ok(UnlistedFile::Long(info)) => Some(ObservedFile::from(&info)),
                    Err(error) => Some(ObservedFile::refused(error)?),
                },
            };
            files.extend(unlisted.map(|file| (UNLISTED.to_owned(), file)));
        }
        Ok((read_at, files))
    }

    /// Reads a file, with the hash of its content; `None` for a missing file.
    async fn read_file(&self, id: &str, name: &str) -> Result<Option<ObservedFile>, CallError> {
        match self.client.file_get(id, name).await {
            Ok(content) => Ok(content.as_ref().map(ObservedFile::from)),
            Err(error) => ObservedFile::refused(error).map(Some),
        }
    }

    /// Reads the content hashes of files.
    ///
    /// # Errors
    /// The request that failed.
    async fn read_hashes(&self, id: &str, names: &[String], observed: &mut Observed) -> Result<(), ReconcileError> {
        let reads = names.iter().map(|name| async move { Ok((name.clone(), self.read_file(id, name).await?)) });
        let files = try_join_all(reads).await;
        let failure = |error: CallError| ReconcileError::gateway("to read its workspace files", &error);
        for (name, file) in files.map_err(failure)? {
            match file {
                Some(file) => observed.files.insert(name, file),
                None => observed.files.remove(&name),
            };
        }
        self.cache.set_files(id, &observed.files);
        Ok(())
    }
}

/// The time by our clock of milliseconds since 1970 by the gateway's clock. Without knowledge of that clock it is now.
fn our_time(clock: Option<GatewayClock>, ms: i64, now: Timestamp) -> Timestamp {
    let age = clock.map_or(Duration::ZERO, |clock| clock.age(ms, Instant::now()));
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}
