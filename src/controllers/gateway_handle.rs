//! One gateway as the reconcilers see it: the only place, beside [`crate::controllers::gateway_pool`], that speaks the gateway
//! client's words.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::workspace_cache::{
    CachedWorkspace, ContentCheck, SessionVersion, content_seen, observed_file, observed_session, refused_file,
};
use crate::api::Reason;
use crate::api::object_key::ObjectKey;
use crate::core::agent::cleanup::BOOTS_WITHIN;
use crate::core::agent::desired::Desired;
use crate::core::agent::observed::{Observed, ObservedFile};
use crate::core::error::ReconcileError;
use crate::openclaw::model::{self, CallError, Inventory};
use crate::openclaw::{ExpectedEntry, GatewayClient};
use crate::state::changes::{ChangeScope, GatewayChange, STARTING};

/// One gateway as the reconcilers see it.
pub struct GatewayHandle {
    /// Its AgentGateway.
    pub key: ObjectKey,
    pub(crate) gateway: GatewayClient,
    opened: Instant,
    slots: Permits,
    /// Those of removals, which wait for one another and would hold all the others.
    removals: Permits,
    /// How many that have a place may not be Ready yet.
    early: AtomicUsize,
    pub(crate) views: Mutex<HashMap<String, CachedWorkspace>>,
    /// Agents that the gateway did not have when it was last asked: they have no session.
    pub(crate) unborn: Mutex<BTreeSet<String>>,
    /// When the contents of an agent's files are compared next.
    pub(crate) checks: Mutex<HashMap<String, ContentCheck>>,
    pub(crate) resync: Duration,
    changes: mpsc::UnboundedSender<GatewayChange>,
}

/// An Agent that found no place at its gateway is told when one is free. Should the one that was told before it be gone
/// by then, and tell nobody, it looks by itself after this.
pub(crate) const WITHOUT_A_PLACE: Duration = Duration::from_secs(30);

/// Removals of one gateway that are under way at a time: one is made, and the next one is ready.
const REMOVALS: usize = 2;

/// So many places at a gateway, and who waits for one: of those who are new, the gateway's next config write is to know.
struct Permits {
    free: Arc<Semaphore>,
    waiting: Mutex<BTreeMap<ObjectKey, Option<ExpectedEntry>>>,
}

impl Permits {
    fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Option<ExpectedEntry>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, or `None` when all are taken; the Agent is told when one is given back.
    fn take(&self, agent: &ObjectKey, arrival: Option<ExpectedEntry>) -> Option<Permit> {
        // One that waits may come by itself before it is told. A place that is given back meanwhile is offered to it, or is free.
        self.waiting().insert(agent.clone(), arrival);
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        let arrival = self.waiting().remove(agent).flatten();
        Some(Permit { _permit: permit, _arrival: arrival })
    }
}

/// A place, held.
struct Permit {
    _permit: OwnedSemaphorePermit,
    _arrival: Option<ExpectedEntry>,
}

/// A reconcile's place at a gateway. When it is given back, the next agent that waits for one is told.
pub struct AgentPermit {
    link: Arc<GatewayHandle>,
    place: Option<Permit>,
    /// Whether its agent may not be Ready yet.
    early: AtomicBool,
}

/// A removal's place at a gateway. When it is given back, the next removal that waits for one is told.
pub struct DeletePermit {
    link: Arc<GatewayHandle>,
    place: Option<Permit>,
}

impl Drop for DeletePermit {
    fn drop(&mut self) {
        drop(self.place.take());
        self.link.tell_next(&self.link.removals);
    }
}

impl AgentPermit {
    /// Whether the place is at this gateway, over this connection.
    pub fn is_at(&self, link: &Arc<GatewayHandle>) -> bool {
        Arc::ptr_eq(&self.link, link)
    }

    /// The agent is Ready: nobody has to wait for it.
    pub fn ready(&self) {
        if self.early.swap(false, Ordering::Relaxed) {
            self.link.early.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AgentPermit {
    fn drop(&mut self) {
        self.ready();
        drop(self.place.take());
        self.link.tell_next(&self.link.slots);
    }
}

impl fmt::Debug for GatewayHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What became of one file that was to be written.
pub type FileWriteResult = Result<(String, ObservedFile), (String, CallError)>;

impl GatewayHandle {
    pub(crate) fn new(
        key: ObjectKey,
        gateway: GatewayClient,
        slots: usize,
        resync: Duration,
        changes: mpsc::UnboundedSender<GatewayChange>,
    ) -> Self {
        Self {
            key,
            gateway,
            opened: Instant::now(),
            slots: Permits::new(slots),
            removals: Permits::new(REMOVALS),
            early: AtomicUsize::new(0),
            views: Mutex::default(),
            unborn: Mutex::default(),
            checks: Mutex::default(),
            resync,
            changes,
        }
    }

    /// The client of this gateway.
    #[must_use]
    pub fn client(&self) -> &GatewayClient {
        &self.gateway
    }

    fn tell(&self, concerns: ChangeScope) {
        // The receiver ends only when the operator does.
        let _ = self.changes.send(GatewayChange { gateway: self.key.clone(), concerns });
    }

    fn tell_next(&self, places: &Permits) {
        let next = places.waiting().pop_first();
        if let Some((agent, _)) = next {
            self.tell(ChangeScope::Agent(agent));
        }
    }

    /// A place for one reconcile, or `None` when the gateway has all that it may have; the Agent is told then.
    ///
    /// For one that is `new`, the gateway's next config write is kept back for a moment.
    pub fn slot(self: &Arc<Self>, agent: &ObjectKey, new: bool) -> Option<AgentPermit> {
        let place = self.slots.take(agent, new.then(|| self.gateway.expect_entry()))?;
        self.early.fetch_add(1, Ordering::Relaxed);
        Some(AgentPermit { link: Arc::clone(self), place: Some(place), early: AtomicBool::new(true) })
    }

    /// A place for one removal, or `None` while others are under way; the Agent is told then.
    pub fn removal_slot(self: &Arc<Self>, agent: &ObjectKey) -> Option<DeletePermit> {
        let place = self.removals.take(agent, None)?;
        Some(DeletePermit { link: Arc::clone(self), place: Some(place) })
    }

    /// Whether other agents that may not be Ready yet are at work here, or wait for a place.
    pub fn is_crowded_beside(&self, slot: &AgentPermit) -> bool {
        let own = usize::from(slot.early.load(Ordering::Relaxed));
        self.early.load(Ordering::Relaxed) > own || !self.slots.waiting().is_empty()
    }

    /// Whether the gateway is away since so short a time that it may only have been restarted.
    pub(crate) fn is_briefly_away(&self) -> bool {
        match &*self.gateway.connection().borrow() {
            model::ConnectionState::Down { since, .. } => since.elapsed() < STARTING,
            model::ConnectionState::Up(_) => {
                let runs = self.gateway.activity();
                let connected = runs.borrow().connected;
                let reading = self.gateway.inventory().borrow().is_none();
                reading && connected.is_some_and(|since| since.elapsed() < STARTING)
            }
            model::ConnectionState::Connecting | model::ConnectionState::Refused(_) => false,
        }
    }

    /// How long there has been no connection to the gateway; `None` while there is one, or it is refused.
    pub(crate) fn away_for(&self) -> Option<Duration> {
        match &*self.gateway.connection().borrow() {
            model::ConnectionState::Down { since, .. } => Some(since.elapsed()),
            model::ConnectionState::Up(_) | model::ConnectionState::Connecting | model::ConnectionState::Refused(_) => {
                None
            }
        }
    }

    /// When there is more to be said of a gateway that is away: it should have booted by then.
    pub(crate) fn advice_due(&self) -> Option<Duration> {
        self.away_for().and_then(|away| BOOTS_WITHIN.checked_sub(away))
    }

    /// Whether the first connection, or the first reading of the roster, is under way since a short time.
    pub(crate) fn is_starting(&self) -> bool {
        let under_way = match &*self.gateway.connection().borrow() {
            model::ConnectionState::Connecting => true,
            model::ConnectionState::Up(_) => self.gateway.inventory().borrow().is_none(),
            model::ConnectionState::Refused(_) | model::ConnectionState::Down { .. } => false,
        };
        under_way && self.opened.elapsed() < STARTING
    }

    /// What the gateway has, or why it cannot be asked.
    pub fn inventory(&self) -> Result<Arc<Inventory>, ReconcileError> {
        let up = match &*self.gateway.connection().borrow() {
            model::ConnectionState::Up(_) => Ok(()),
            model::ConnectionState::Connecting => Err("the connection is being made".to_owned()),
            model::ConnectionState::Refused(refusal) => Err(format!("it refused the connection: {}", refusal.message)),
            model::ConnectionState::Down { error, .. } => Err(format!("there is no connection: {error}")),
        };
        let not_ready = |why: String| {
            let message = format!("gateway {} is not ready: {why}; see its conditions", self.key);
            ReconcileError::transient(Reason::GatewayNotReady, message)
        };
        up.map_err(not_ready)?;
        let why = || match &*self.gateway.read_failure().borrow() {
            Some(unread) => format!("its config and roster cannot be read: {}", unread.message),
            None => "its roster is being read".to_owned(),
        };
        self.gateway.inventory().borrow().clone().ok_or_else(|| not_ready(why()))
    }

    /// Leaves an agent's entry for the next config write.
    pub fn submit(&self, desired: &Desired) {
        self.gateway.submit(desired.entry.clone());
    }

    /// Writes files side by side, and says of each what became of it. One in whose place stands what the gateway does not
    /// touch is no failure: it is seen as refused.
    pub async fn write(
        &self,
        id: &str,
        files: &[(String, String, Option<String>)],
        observed: &mut Observed,
    ) -> Vec<FileWriteResult> {
        let write = |(name, text, expected): &(String, String, Option<String>)| {
            let (name, text, expected) = (name.clone(), text.clone(), expected.clone());
            async move {
                match self.gateway.file_set(id, &name, &text, expected.as_deref()).await {
                    Ok(info) => Ok((
                        name,
                        ObservedFile { sha256: Some(crate::hash::sha256_hex(&text)), ..observed_file(&info) },
                    )),
                    Err(error) => refused_file(error).map(|file| (name.clone(), file)).map_err(|error| (name, error)),
                }
            }
        };
        let written = join_all(files.iter().map(write)).await;
        for (name, file) in written.iter().filter_map(|w| w.as_ref().ok()) {
            observed.files.insert(name.clone(), file.clone());
        }
        if written.iter().any(Result::is_err) {
            self.forget(id);
        } else {
            self.update(id, observed);
        }
        written
    }

    /// Reads a file that was missing, or empty, when the workspace was last listed: its agent may have made it since. Gives the
    /// precondition of a write, or `None` when there is something by now.
    ///
    /// # Errors
    /// The request that failed.
    pub async fn still_missing(
        &self,
        id: &str,
        name: &str,
        observed: &mut Observed,
    ) -> Result<Option<Option<String>>, ReconcileError> {
        let file = match self.gateway.file_get(id, name).await {
            Ok(None) => return Ok(Some(None)),
            Ok(Some(file)) if file.info.size == 0 => return Ok(Some(Some(file.sha256()))),
            Ok(Some(file)) => content_seen(&file),
            Err(error) => refused_file(error).map_err(|e| trouble(&format!("to read {name}"), &e))?,
        };
        observed.files.insert(name.to_owned(), file);
        self.update(id, observed);
        Ok(None)
    }

    /// Puts a label on a session. Gives the label that the gateway stored.
    ///
    /// A gateway that cannot may have had an agent of this id before; then the id is opened again.
    pub async fn label(
        &self,
        desired: &Desired,
        label: &str,
        observed: &mut Observed,
    ) -> Result<Option<String>, CallError> {
        let identity = &desired.identity;
        let session = match self.gateway.session_label(&identity.session_key, label).await {
            Err(error) if error.is_unavailable() => {
                self.gateway.agent_create(&identity.agent_id, &identity.workspace).await?;
                self.gateway.session_label(&identity.session_key, label).await?
            }
            labelled => labelled?,
        };
        observed.session = Some(observed_session(&session));
        let stored = session.label.clone();
        self.labelled(&identity.agent_id, session);
        Ok(stored)
    }

    /// Starts a session anew, unless that was done since it had this mark.
    pub async fn reset(&self, desired: &Desired, mark: &str) -> Result<(), CallError> {
        let key = &desired.identity.session_key;
        let done = match self.gateway.session(key).await? {
            Some(session) if SessionVersion::of(&session).id != SessionVersion::parse(mark).id => true,
            Some(_) => {
                let history = self.gateway.chat_history(key).await?;
                history.iter().any(|m| m.marks_reset && m.written_ms > SessionVersion::parse(mark).updated_ms)
            }
            None => false,
        };
        if !done {
            self.gateway.session_reset(key, mark).await?;
        }
        self.forget(&desired.identity.agent_id);
        Ok(())
    }
}

/// What a failed request means for the agent.
#[must_use]
pub fn trouble(doing: &str, error: &CallError) -> ReconcileError {
    let text = format!("a request to the gateway {doing} failed: {} ({})", error.message(), error.code());
    let kind = if error.is_transient() { ReconcileError::transient } else { ReconcileError::permanent };
    let reason = match error {
        CallError::Repeated { .. } => Reason::RepeatedWrite,
        _ => Reason::GatewayError,
    };
    kind(reason, text).with_code(error.code())
}
