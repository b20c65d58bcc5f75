//! One gateway as the reconcilers see it: the only place, beside [`super::gateways`], that speaks the gateway
//! client's words.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::gateways::{Changed, Concerns, STARTING};
use super::ports::Key;
use crate::api::Reason;
use crate::api::agent::GatewayKey;
use crate::gateway::{self, AgentEntry, CallError, EntryIdentity, EntryState, Gateway, HeartbeatEntry, Inventory};
use crate::plan::{Desired, Entry, Observed, ObservedFile, Registration, Trouble};

/// One gateway as the reconcilers see it.
pub struct Link {
    /// Its AgentGateway.
    pub key: GatewayKey,
    gateway: Gateway,
    opened: Instant,
    slots: Arc<Semaphore>,
    waiting: Mutex<BTreeSet<Key>>,
    views: Mutex<HashMap<String, View>>,
    resync: Duration,
    changes: mpsc::UnboundedSender<Changed>,
}

/// What was last seen of an agent's workspace and session, which change without any event.
#[derive(Clone, Debug)]
struct View {
    at: Instant,
    files: BTreeMap<String, ObservedFile>,
    label: Option<String>,
}

/// A reconcile's place at a gateway. When it is given back, the next agent that waits for one is told.
pub struct Slot<'a> {
    link: &'a Link,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        let next = self.link.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
        if let Some(agent) = next {
            self.link.tell(Concerns::Agent(agent));
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What became of one file that was to be written.
pub type Written = Result<(String, ObservedFile), (String, CallError)>;

impl Link {
    pub(super) fn new(
        key: GatewayKey,
        gateway: Gateway,
        slots: usize,
        resync: Duration,
        changes: mpsc::UnboundedSender<Changed>,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(slots));
        Self {
            key,
            gateway,
            opened: Instant::now(),
            slots,
            waiting: Mutex::default(),
            views: Mutex::default(),
            resync,
            changes,
        }
    }

    /// The client of this gateway.
    #[must_use]
    pub fn client(&self) -> &Gateway {
        &self.gateway
    }

    fn tell(&self, concerns: Concerns) {
        // The receiver ends only when the operator does.
        let _ = self.changes.send(Changed { gateway: self.key.clone(), concerns });
    }

    /// A place for one reconcile, or `None` when the gateway has all that it may have; the Agent is told then.
    pub fn slot(&self, agent: &Key) -> Option<Slot<'_>> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(Slot { link: self, permit: Some(permit) });
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.clone());
        // A place may have been given back between the two lines above.
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(agent);
        Some(Slot { link: self, permit: Some(permit) })
    }

    /// Whether the first connection, or the first reading of the roster, is under way since a short time.
    pub(super) fn is_starting(&self) -> bool {
        let under_way = match &*self.gateway.link().borrow() {
            gateway::Link::Connecting => true,
            gateway::Link::Up(_) => self.gateway.inventory().borrow().is_none(),
            gateway::Link::Refused(_) | gateway::Link::Down { .. } => false,
        };
        under_way && self.opened.elapsed() < STARTING
    }

    /// What the gateway has, or why it cannot be asked.
    pub fn inventory(&self) -> Result<Arc<Inventory>, Trouble> {
        let up = match &*self.gateway.link().borrow() {
            gateway::Link::Up(_) => Ok(()),
            gateway::Link::Connecting => Err("the connection is being made".to_owned()),
            gateway::Link::Refused(refusal) => Err(format!("it refused the connection: {}", refusal.message)),
            gateway::Link::Down { error, .. } => Err(format!("it cannot be reached: {error}")),
        };
        let not_ready = |why: String| {
            let message = format!("gateway {} is not ready: {why}; see its conditions", self.key);
            Trouble::transient(Reason::GatewayNotReady, message)
        };
        up.map_err(not_ready)?;
        self.gateway.inventory().borrow().clone().ok_or_else(|| not_ready("its roster is being read".into()))
    }

    /// What the gateway shows of an agent. Workspace and session are asked for when they were not looked at within
    /// the resync interval.
    pub async fn observe(&self, inventory: &Inventory, desired: &Desired) -> Result<Observed, Trouble> {
        let id = desired.identity.agent_id.as_str();
        let mut observed = Observed { settled: inventory.settled, ..self.registration(inventory, desired) };
        if observed.registration != Registration::Current {
            // What comes back under this id has a workspace and a session of its own.
            self.forget(id);
            return Ok(observed);
        }
        let view = match self.view(id) {
            Some(view) => view,
            None => self
                .look(id, &desired.identity.session_key)
                .await
                .map_err(|e| trouble("to look at its workspace", &e))?,
        };
        observed.files = view.files;
        observed.label = view.label;
        Ok(observed)
    }

    fn registration(&self, inventory: &Inventory, desired: &Desired) -> Observed {
        let id = desired.identity.agent_id.as_str();
        let visible = inventory.agents.get(id).is_some_and(|row| row.in_roster);
        let registration = match inventory.entry_state(&entry(id, &desired.entry)) {
            EntryState::Absent => Registration::Absent,
            EntryState::Outdated => Registration::Outdated,
            EntryState::Current if visible => Registration::Current,
            EntryState::Current => Registration::Invisible,
        };
        let writes = self.gateway.writes();
        let writes = writes.borrow();
        let over_budget = writes.budget_until.is_some_and(|until| until > Instant::now());
        Observed {
            registration,
            waiting: writes.pending.contains(id),
            refused: writes.refused.get(id).map(|r| (r.code.clone(), r.message.clone())),
            over_budget,
            ..Observed::default()
        }
    }

    fn view(&self, id: &str) -> Option<View> {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.get(id).filter(|view| view.at.elapsed() < self.resync).cloned()
    }

    async fn look(&self, id: &str, session_key: &str) -> Result<View, CallError> {
        let (files, session) = futures::try_join!(self.gateway.files_list(id), self.gateway.session(session_key))?;
        let present = files.into_iter().filter(|f| !f.missing);
        let files = present.map(|f| (f.name.clone(), observed_file(&f))).collect();
        let view = View { at: Instant::now(), files, label: session.and_then(|s| s.label) };
        self.keep(id, view.clone());
        Ok(view)
    }

    fn keep(&self, id: &str, view: View) {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), view);
    }

    /// Forgets what was seen of an agent, so that it is looked at again.
    pub fn forget(&self, id: &str) {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Reads the content hashes of files.
    pub async fn hashes(&self, id: &str, names: &[String], observed: &mut Observed) -> Result<(), Trouble> {
        let reads = names.iter().map(|name| async move { Ok((name.clone(), self.gateway.file_get(id, name).await?)) });
        let contents = try_join_all(reads).await.map_err(|e: CallError| trouble("to read its workspace files", &e))?;
        for (name, content) in contents {
            match content {
                Some(content) => observed.files.insert(name, content_seen(&content)),
                None => observed.files.remove(&name),
            };
        }
        self.update(id, observed);
        Ok(())
    }

    /// Takes over what an own write has changed.
    fn update(&self, id: &str, observed: &Observed) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get_mut(id) {
            view.files.clone_from(&observed.files);
            view.label.clone_from(&observed.label);
        }
    }

    /// Leaves an agent's entry for the next config write.
    pub fn submit(&self, desired: &Desired) {
        self.gateway.submit(entry(&desired.identity.agent_id, &desired.entry));
    }

    /// Writes files side by side, and says of each what became of it.
    pub async fn write(
        &self,
        id: &str,
        files: &[(String, String, Option<String>)],
        observed: &mut Observed,
    ) -> Vec<Written> {
        let write = |(name, text, expected): &(String, String, Option<String>)| {
            let (name, text, expected) = (name.clone(), text.clone(), expected.clone());
            async move {
                match self.gateway.file_set(id, &name, &text, expected.as_deref()).await {
                    Ok(info) => Ok((
                        name,
                        ObservedFile { sha256: Some(crate::render::sha256_hex(&text)), ..observed_file(&info) },
                    )),
                    Err(error) => Err((name, error)),
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

    /// Puts a label on a session.
    ///
    /// A gateway that cannot may have had an agent of this id before; then the id is opened again.
    pub async fn label(&self, desired: &Desired, observed: &mut Observed) -> Result<(), CallError> {
        let identity = &desired.identity;
        match self.gateway.session_label(&identity.session_key, &desired.label).await {
            Err(error) if error.is_unavailable() => {
                self.gateway.agent_create(&identity.agent_id, &identity.workspace).await?;
                self.gateway.session_label(&identity.session_key, &desired.label).await?;
            }
            labelled => labelled?,
        }
        observed.label = Some(desired.label.clone());
        self.update(&desired.identity.agent_id, observed);
        Ok(())
    }
}

/// What a failed request means for the agent.
#[must_use]
pub fn trouble(doing: &str, error: &CallError) -> Trouble {
    let text = format!("a request to the gateway {doing} failed: {} ({})", error.message(), error.code());
    let kind = if error.is_transient() { Trouble::transient } else { Trouble::permanent };
    kind(Reason::GatewayError, text).with_code(error.code())
}

fn observed_file(info: &gateway::FileInfo) -> ObservedFile {
    ObservedFile { size: info.size, modified_ms: info.modified_ms, sha256: None }
}

fn content_seen(content: &gateway::FileContent) -> ObservedFile {
    ObservedFile { sha256: Some(crate::render::sha256_hex(&content.text)), ..observed_file(&content.info) }
}

fn entry(id: &str, entry: &Entry) -> AgentEntry {
    let heartbeat = &entry.heartbeat;
    AgentEntry {
        id: id.to_owned(),
        name: entry.name.clone(),
        workspace: entry.workspace.clone(),
        model: entry.model.clone(),
        identity: EntryIdentity {
            name: Some(entry.name.clone()),
            emoji: entry.emoji.clone(),
            avatar: entry.avatar.clone(),
        },
        heartbeat: HeartbeatEntry {
            every: every(heartbeat.every),
            target: heartbeat.target.clone(),
            prompt: heartbeat.prompt.clone(),
            model: heartbeat.model.clone(),
            active_hours: heartbeat.active_hours.clone().map(|(start, end, timezone)| gateway::ActiveHours {
                start,
                end,
                timezone,
            }),
        },
    }
}

/// A length of time as the gateway's config writes it; `0m` turns heartbeats off.
fn every(time: Duration) -> String {
    match time.as_secs() {
        0 => "0m".to_owned(),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}
