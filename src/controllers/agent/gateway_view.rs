//! What a gateway shows of one agent: roster and entry from the inventory, workspace and session by asking.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;
use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::agent::{AgentStatus, RewrittenField};
use crate::controllers::gateway_handle::GatewayHandle;
use crate::controllers::workspace_cache::{
    CachedWorkspace, ContentCheck, EventEpoch, content_seen, observed_file, observed_session, refused_file,
};
use crate::core::agent::desired::Desired;
use crate::core::agent::liveness::Liveness;
use crate::core::agent::observed::{
    Observed, ObservedActivity, ObservedFile, ObservedRun, OwnershipConflict, Registration,
};
use crate::core::error::ReconcileError;
use crate::openclaw::model::{
    self, AgentRow, CallError, EntryState, GatewayClock, Inventory, Run, SessionInfo, UnlistedFile,
};

/// The file that the list of 2026.9.6 leaves out.
const UNLISTED: &str = "IDENTITY.md";

/// How long what was listed is as good as seen now.
const JUST_NOW: Duration = Duration::from_secs(2);

impl GatewayHandle {
    /// What the gateway shows of an agent. The workspace is asked for when it was not looked at within the resync interval,
    /// the session when the connection was made anew, or the gateway told that it changed.
    pub async fn observe(
        &self,
        inventory: &Inventory,
        desired: &Desired,
        now: Timestamp,
    ) -> Result<Observed, ReconcileError> {
        let id = desired.identity.agent_id.as_str();
        let mut observed = Observed { settled: inventory.settled, ..self.registration(inventory, desired) };
        if observed.registration != Registration::Current {
            // What comes back under this id has a workspace and a session of its own.
            self.forget(id);
            if observed.registration == Registration::Absent {
                self.unborn.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
            }
            self.checks.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
            return Ok(observed);
        }
        let session_key = &desired.identity.session_key;
        let view =
            self.look(id, session_key).await.map_err(|e| ReconcileError::gateway("to look at its workspace", &e))?;
        let runs = self.gateway.activity();
        let runs = runs.borrow();
        observed.connected_at = runs.connected.and_then(|since| now.checked_sub(since.elapsed()).ok());
        observed.activity = activity(runs.of(id), view.session.as_ref(), (runs.clock, now));
        observed.files = view.files;
        observed.session = view.session.as_ref().map(observed_session);
        Ok(observed)
    }

    fn registration(&self, inventory: &Inventory, desired: &Desired) -> Observed {
        let id = desired.identity.agent_id.as_str();
        let row = inventory.agents.get(id);
        let visible = row.is_some_and(|row| row.in_roster);
        let writes = self.gateway.config_writes();
        let writes = writes.borrow();
        let mut want = desired.entry.clone();
        want.rewritten.extend(writes.rewritten.get(id).into_iter().flatten().cloned());
        let registration = match inventory.entry_state(&want) {
            EntryState::Absent => Registration::Absent,
            EntryState::Outdated => Registration::Outdated,
            EntryState::Current if visible => Registration::Current,
            EntryState::Current => Registration::Invisible,
        };
        if registration == Registration::Current && (writes.pending.contains(id) || writes.refused.contains_key(id)) {
            // Another entry was asked for before, and is not any more.
            self.gateway.withdraw(id);
        }
        let over_budget = writes.budget_until.is_some_and(|until| until > Instant::now());
        Observed {
            registration,
            conflict: row.and_then(|row| conflict(row, desired)),
            refused: writes.refused.get(id).map(|r| (r.code.clone(), r.message.clone())),
            delayed: writes.delayed.get(id).map(|r| (r.code.clone(), r.message.clone())),
            rewritten: inventory.rewrites(&want).into_iter().map(RewrittenField::from).collect(),
            over_budget,
            ..Observed::default()
        }
    }

    /// What is known of an agent's workspace and session, as far as it still holds; the rest is asked for.
    async fn look(&self, id: &str, session_key: &str) -> Result<CachedWorkspace, CallError> {
        let heard = self.heard(id);
        let activity = self.gateway.activity().borrow().of(id).cloned();
        let labelled = activity.as_ref().and_then(|activity| activity.labelled.clone());
        let unborn = self.unborn.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let known = self.views.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let known = known.filter(|view| view.heard.epoch == heard.epoch);
        let files = known.as_ref().filter(|view| view.files_at.elapsed() < self.resync);
        let holds = |view: &&CachedWorkspace| {
            let missed = labelled.as_ref().is_some_and(|told| told.key == session_key && !view.shows(told));
            let run = view.session.as_ref().and_then(|session| session.run.as_ref());
            // The end of a run that was not heard to begin may not be heard either.
            let unheard = run.is_some_and(|run| is_unheard(run, activity.as_ref()));
            view.heard == heard && !missed && !unheard
        };
        let session = known.as_ref().filter(holds);
        if let (Some(view), Some(_)) = (files, session) {
            return Ok(view.clone());
        }
        let now = Instant::now();
        let list = async {
            match files {
                Some(view) => Ok((view.files_at, view.files.clone())),
                None => self.files(id, known.as_ref()).await.map(|files| (now, files)),
            }
        };
        let read = async {
            match session {
                Some(view) => Ok(view.session.clone()),
                None if unborn => Ok(None),
                None => self.gateway.session(session_key).await,
            }
        };
        let ((files_at, files), session) = futures::try_join!(list, read)?;
        let view = CachedWorkspace { files_at, files, session, heard };
        self.keep(id, view.clone());
        Ok(view)
    }

    /// Whether an agent runs at this moment, by what was heard.
    pub(crate) fn runs_now(&self, id: &str, now: Timestamp) -> bool {
        let runs = self.gateway.activity();
        let runs = runs.borrow();
        let activity = Observed { activity: activity(runs.of(id), None, (runs.clock, now)), ..Observed::default() };
        Liveness::of(None, &AgentStatus::default(), Some(&activity)).running_until(now).is_some()
    }

    /// How much was heard of an agent's session. A gateway that tells of none has it read once for each connection.
    fn heard(&self, id: &str) -> EventEpoch {
        let runs = self.gateway.activity();
        let runs = runs.borrow();
        let changes = runs.of(id).map_or(0, |activity| activity.session_changes);
        EventEpoch { epoch: runs.epoch, changes }
    }

    /// Lists an agent's files. What the list leaves out is taken as it was `before`, so that a look is one request; the
    /// comparison of contents reads it.
    async fn files(
        &self,
        id: &str,
        before: Option<&CachedWorkspace>,
    ) -> Result<BTreeMap<String, ObservedFile>, CallError> {
        let listed = self.gateway.files_list(id).await?;
        let left_out = !listed.iter().any(|file| file.name == UNLISTED);
        let present = listed.into_iter().filter(|file| !file.missing);
        let mut files: BTreeMap<_, _> = present.map(|file| (file.name.clone(), observed_file(&file))).collect();
        if left_out {
            let before = before.map(|view| view.files.get(UNLISTED)).filter(|file| !file.is_some_and(is_refused));
            let unlisted = match before {
                Some(file) => file.map(|file| ObservedFile { sha256: None, ..file.clone() }),
                None => match self.gateway.unlisted_file(id, UNLISTED).await {
                    Ok(UnlistedFile::Missing) => None,
                    Ok(UnlistedFile::Read(content)) => Some(content_seen(&content)),
                    Ok(UnlistedFile::Long(info)) => Some(observed_file(&info)),
                    Err(error) => Some(refused_file(error)?),
                },
            };
            files.extend(unlisted.map(|file| (UNLISTED.to_owned(), file)));
        }
        Ok(files)
    }

    /// A file with the hash of its content, or that the gateway refuses it; `None` when it is not there.
    async fn read(&self, id: &str, name: &str) -> Result<Option<ObservedFile>, CallError> {
        match self.gateway.file_get(id, name).await {
            Ok(content) => Ok(content.map(|content| content_seen(&content))),
            Err(error) => refused_file(error).map(Some),
        }
    }

    /// Whether the contents of an agent's files are to be compared, although nothing makes them suspect. The first time comes
    /// somewhere in the interval, by the id, so that the agents of a gateway take turns.
    pub(crate) fn contents_are_due(&self, id: &str, interval: Duration) -> bool {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let check = checks.entry(id.to_owned()).or_insert_with(|| {
            let mut hasher = DefaultHasher::new();
            id.hash(&mut hasher);
            let thousandths = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
            ContentCheck { since: Instant::now(), thousandths }
        });
        check.since.elapsed() >= interval * check.thousandths / 1000
    }

    /// The contents were compared.
    pub(crate) fn contents_were_read(&self, id: &str) {
        let check = ContentCheck { since: Instant::now(), thousandths: 1000 };
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), check);
    }

    /// Whether an agent's files were listed so short a time ago that hardly anybody can have changed them since.
    pub(crate) fn were_just_listed(&self, id: &str) -> bool {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.get(id).is_some_and(|view| view.files_at.elapsed() < JUST_NOW)
    }

    fn keep(&self, id: &str, view: CachedWorkspace) {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), view);
    }

    /// Forgets what was seen of an agent, so that it is looked at again.
    pub fn forget(&self, id: &str) {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Reads the content hashes of files.
    pub async fn hashes(&self, id: &str, names: &[String], observed: &mut Observed) -> Result<(), ReconcileError> {
        let reads = names.iter().map(|name| async move { Ok((name.clone(), self.read(id, name).await?)) });
        let files = try_join_all(reads)
            .await
            .map_err(|e: CallError| ReconcileError::gateway("to read its workspace files", &e))?;
        for (name, file) in files {
            match file {
                Some(file) => observed.files.insert(name, file),
                None => observed.files.remove(&name),
            };
        }
        self.update(id, observed);
        Ok(())
    }

    /// Takes over the session that an own label has made or changed.
    pub(crate) fn labelled(&self, id: &str, session: SessionInfo) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get_mut(id) {
            let (run, clock) = view.session.take().map(|before| (before.run, before.clock)).unwrap_or_default();
            view.session = Some(SessionInfo { run, clock, ..session });
        }
    }

    /// Takes over what an own write has changed.
    pub(crate) fn update(&self, id: &str, observed: &Observed) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get_mut(id) {
            view.files.clone_from(&observed.files);
        }
    }
}

fn conflict(row: &AgentRow, desired: &Desired) -> Option<OwnershipConflict> {
    let elsewhere = |is: &str| !model::same_path(&desired.identity.workspace, is);
    if row.in_roster && row.entry.is_none() {
        return Some(OwnershipConflict::NoEntry);
    }
    row.workspace.as_deref().is_some_and(elsewhere).then_some(OwnershipConflict::Elsewhere)
}

/// What an agent does: as it was heard, and as its session says of runs that nothing was heard of, such as one that went on
/// before the connection was made. The gateway's clock may show another time than ours.
fn activity(
    heard: Option<&model::AgentActivity>,
    session: Option<&SessionInfo>,
    (clock, now): (Option<GatewayClock>, Timestamp),
) -> ObservedActivity {
    let clock = clock.or(session.and_then(|session| session.clock));
    let session = session.and_then(|session| session.run.as_ref());
    let unheard = session.filter(|run| is_unheard(run, heard));
    let going_on =
        heard.filter(|heard| heard.is_running()).and_then(model::AgentActivity::run).or_else(|| unheard.cloned());
    let run = going_on.or_else(|| heard.and_then(model::AgentActivity::run)).or_else(|| session.cloned());
    let ours = |ms: i64| {
        let age = clock.map_or(Duration::ZERO, |clock| clock.age(ms, Instant::now()));
        now.checked_sub(age).unwrap_or(Timestamp::MIN)
    };
    let began = || heard.into_iter().flat_map(model::AgentActivity::began_ms).chain(unheard.map(|run| run.started_ms));
    let last = heard.and_then(model::AgentActivity::last).into_iter().chain(session);
    let last = last.filter_map(|run| Some((run.started_ms, run.ended_ms?))).max_by_key(|(_, ended)| *ended);
    let over = |run: &&Run| run.ended_ms.is_some() && !run.id.is_empty();
    let mut ended: std::collections::BTreeSet<_> = session.iter().filter(|r| over(r)).map(|r| r.id.clone()).collect();
    ended.extend(heard.into_iter().flat_map(|heard| heard.ended().map(str::to_owned)));
    let time = |ms: i64| Timestamp::from_second(ms / 1000).unwrap_or_default();
    ObservedActivity {
        running: began().min().zip(began().max()).map(|(first, last)| (ours(first), ours(last))),
        rested: last.map(|(started, ended)| (ours(started), ours(ended))),
        run: run.map(|run| ObservedRun { started: time(run.started_ms), ended: run.ended_ms.map(time) }),
        ended,
    }
}

/// Whether a session's run goes on by what was read, and nothing was heard of it.
fn is_unheard(run: &Run, heard: Option<&model::AgentActivity>) -> bool {
    run.ended_ms.is_none() && !heard.is_some_and(|heard| heard.has_seen(&run.id))
}

fn is_refused(file: &ObservedFile) -> bool {
    file.refused.is_some()
}
