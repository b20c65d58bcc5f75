//! The cache of the workspaces and sessions on one gateway.
//!
//! Files change without any event, so a listing is valid for the resync interval. Sessions change with events, so a session is valid
//! until the next event about it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::agent::activity::is_run_without_events;
use crate::core::agent::observed::ObservedFile;
use crate::openclaw::model::{AgentActivity, LabelEvent, SessionInfo, WORKSPACE_FILES};

/// The longest time between the listing of a pass and a write that relies on it.
const LISTING_REUSE: Duration = Duration::from_secs(2);

/// The file that 2026.9.6 does not list (`docs/gateway-facts.md#workspace-files`).
pub(crate) const UNLISTED: &str = "IDENTITY.md";

/// The workspace and the session of one agent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CachedWorkspace {
    /// When the files were listed.
    pub(crate) files_at: Instant,
    /// When the unlisted file was read. The same as `files_at` where the gateway lists it.
    pub(crate) unlisted_at: Instant,
    pub(crate) files: BTreeMap<String, ObservedFile>,
    pub(crate) session: Option<SessionInfo>,
    /// The epoch in which the session was read.
    pub(crate) epoch: EventEpoch,
}

/// A [`CachedWorkspace`] in the form in which thousands of them are kept.
#[derive(Debug)]
struct KeptWorkspace {
    files_at: Instant,
    unlisted_at: Instant,
    files: Box<[KeptFile]>,
    session: Option<SessionInfo>,
    epoch: EventEpoch,
}

/// An [`ObservedFile`] with its name. The usual names and the usual states of a file take no memory of their own.
#[derive(Debug)]
struct KeptFile {
    name: Cow<'static, str>,
    size: i64,
    modified_ms: i64,
    /// The hash of its content and the refusal, if there is one of them.
    rest: Option<Box<(Option<String>, Option<String>)>>,
}

/// Counts the events about a session: a session that was read in an earlier epoch is outdated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventEpoch {
    /// The number of connections and of losses of events.
    pub(crate) losses: u64,
    /// The number of events about the session since then.
    pub(crate) changes: u64,
}

/// The last comparison of an agent's file contents.
#[derive(Clone, Copy, Debug)]
struct ContentCheck {
    at: Instant,
    /// The share of the interval until the next comparison.
    thousandths: u32,
}

/// The cache of the workspaces and sessions on one gateway, by agent id.
#[derive(Debug)]
pub(crate) struct WorkspaceCache {
    resync: Duration,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    workspaces: HashMap<String, KeptWorkspace>,
    /// The agents that were absent at the last look. They have no session.
    absent: BTreeSet<String>,
    content_checks: HashMap<String, ContentCheck>,
}

impl WorkspaceCache {
    /// `resync`: how long a listing of files is valid.
    pub(crate) fn new(resync: Duration) -> Self {
        Self { resync, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The workspace of an agent, unless events were lost since it was read, and whether the agent was absent until now.
    pub(crate) fn get(&self, id: &str, epoch: EventEpoch) -> (Option<CachedWorkspace>, bool) {
        let mut entries = self.entries();
        let was_absent = entries.absent.remove(id);
        let cached = entries.workspaces.get(id).filter(|cached| cached.epoch.losses == epoch.losses);
        (cached.map(CachedWorkspace::from), was_absent)
    }

    /// Whether an agent was looked at since the operator has started. A workspace that is to be read again is known.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.entries().content_checks.contains_key(id)
    }

    /// Whether the listing of a cached workspace is still valid.
    pub(crate) fn has_valid_files(&self, cached: &CachedWorkspace) -> bool {
        cached.files_at.elapsed() < self.resync
    }

    pub(crate) fn insert(&self, id: &str, workspace: &CachedWorkspace) {
        self.entries().workspaces.insert(id.to_owned(), KeptWorkspace::from(workspace));
    }

    /// Removes an agent's workspace, so that it is read again.
    pub(crate) fn forget(&self, id: &str) {
        self.entries().workspaces.remove(id);
    }

    /// Removes an agent that is no longer an Agent's.
    pub(crate) fn forget_agent(&self, id: &str) {
        let mut entries = self.entries();
        entries.workspaces.remove(id);
        entries.absent.remove(id);
        entries.content_checks.remove(id);
    }

    /// Removes an unregistered agent: a later agent of this id has a workspace and a session of its own.
    pub(crate) fn forget_unregistered(&self, id: &str, is_absent: bool) {
        let mut entries = self.entries();
        entries.workspaces.remove(id);
        entries.content_checks.remove(id);
        if is_absent {
            entries.absent.insert(id.to_owned());
        }
    }

    /// Replaces the files of a cached workspace after a write of ours.
    pub(crate) fn set_files(&self, id: &str, files: &BTreeMap<String, ObservedFile>) {
        if let Some(cached) = self.entries().workspaces.get_mut(id) {
            cached.files = kept(files);
        }
    }

    /// Replaces the session of a cached workspace after a label of ours. The answer to a label has no run.
    pub(crate) fn set_session(&self, id: &str, session: SessionInfo) {
        if let Some(cached) = self.entries().workspaces.get_mut(id) {
            let (run, clock) = cached.session.take().map(|before| (before.run, before.clock)).unwrap_or_default();
            cached.session = Some(SessionInfo { run, clock, ..session });
        }
    }

    /// Whether a file was listed or read since `began`, the beginning of this pass, and within the last two seconds.
    pub(crate) fn was_just_seen(&self, id: &str, name: &str, began: Instant) -> bool {
        self.entries().workspaces.get(id).is_some_and(|cached| {
            let seen_at = if name == UNLISTED { cached.unlisted_at } else { cached.files_at };
            seen_at >= began && seen_at.elapsed() < LISTING_REUSE
        })
    }

    /// Whether the contents of an agent's files are to be compared, independently of size and time. The first comparison is at a
    /// point of the interval that follows from the id, so that the agents of a gateway are spread over the interval.
    pub(crate) fn is_content_check_due(&self, id: &str, interval: Duration) -> bool {
        let mut entries = self.entries();
        let check = entries.content_checks.entry(id.to_owned()).or_insert_with(|| {
            let mut hasher = DefaultHasher::new();
            id.hash(&mut hasher);
            let thousandths = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
            ContentCheck { at: Instant::now(), thousandths }
        });
        check.at.elapsed() >= interval * check.thousandths / 1000
    }

    /// Records that the contents were compared now.
    pub(crate) fn record_content_check(&self, id: &str) {
        let check = ContentCheck { at: Instant::now(), thousandths: 1000 };
        self.entries().content_checks.insert(id.to_owned(), check);
    }
}

impl From<&CachedWorkspace> for KeptWorkspace {
    fn from(workspace: &CachedWorkspace) -> Self {
        let CachedWorkspace { files_at, unlisted_at, files, session, epoch } = workspace;
        Self {
            files_at: *files_at,
            unlisted_at: *unlisted_at,
            files: kept(files),
            session: session.clone(),
            epoch: *epoch,
        }
    }
}

impl From<&KeptWorkspace> for CachedWorkspace {
    fn from(kept: &KeptWorkspace) -> Self {
        let KeptWorkspace { files_at, unlisted_at, files, session, epoch } = kept;
        let files = files.iter().map(|file| (file.name.clone().into_owned(), ObservedFile::from(file))).collect();
        Self { files_at: *files_at, unlisted_at: *unlisted_at, files, session: session.clone(), epoch: *epoch }
    }
}

impl From<&KeptFile> for ObservedFile {
    fn from(kept: &KeptFile) -> Self {
        let (sha256, refused) = kept.rest.as_deref().cloned().unwrap_or_default();
        Self { size: kept.size, modified_ms: kept.modified_ms, sha256, refused }
    }
}

fn kept(files: &BTreeMap<String, ObservedFile>) -> Box<[KeptFile]> {
    let kept = |(name, file): (&String, &ObservedFile)| {
        let ObservedFile { size, modified_ms, sha256, refused } = file.clone();
        let usual = WORKSPACE_FILES.into_iter().find(|usual| usual == name);
        let name = usual.map_or_else(|| Cow::Owned(name.clone()), Cow::Borrowed);
        let rest = (sha256.is_some() || refused.is_some()).then(|| Box::new((sha256, refused)));
        KeptFile { name, size, modified_ms, rest }
    };
    files.iter().map(kept).collect()
}

impl CachedWorkspace {
    /// Whether the session is still as it was read.
    pub(crate) fn has_valid_session(
        &self,
        session_key: &str,
        epoch: EventEpoch,
        activity: Option<&AgentActivity>,
    ) -> bool {
        let label = activity.and_then(|activity| activity.labelled.as_ref());
        let missed_label = label.is_some_and(|event| event.key == session_key && !self.shows(event));
        let run = self.session.as_ref().and_then(|session| session.run.as_ref());
        let missed_run = run.is_some_and(|run| is_run_without_events(run, activity));
        self.epoch == epoch && !missed_label && !missed_run
    }

    fn shows(&self, event: &LabelEvent) -> bool {
        self.session.as_ref().is_some_and(|session| session.id == event.id && session.label == event.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_workspace_is_returned_as_it_was() {
        let cache = WorkspaceCache::new(Duration::from_mins(10));
        let epoch = EventEpoch { losses: 1, changes: 2 };
        let file = |size, sha256: Option<&str>, refused: Option<&str>| ObservedFile {
            size,
            modified_ms: size + 1,
            sha256: sha256.map(str::to_owned),
            refused: refused.map(str::to_owned),
        };
        let files = BTreeMap::from([
            ("AGENTS.md".to_owned(), file(1, None, None)),
            ("RUNBOOK.md".to_owned(), file(2, Some("hash"), None)),
            ("SOUL.md".to_owned(), file(3, None, Some("a link"))),
        ]);
        let session = Some(SessionInfo { key: "k".into(), id: "s".into(), ..SessionInfo::default() });
        let files_at = Instant::now();
        let unlisted_at = files_at + Duration::from_secs(1);
        let workspace = CachedWorkspace { files_at, unlisted_at, files, session, epoch };
        cache.insert("a", &workspace);
        assert_eq!(cache.get("a", epoch).0, Some(workspace));
        let fewer = BTreeMap::from([("SOUL.md".to_owned(), file(4, Some("new"), None))]);
        cache.set_files("a", &fewer);
        assert_eq!(cache.get("a", epoch).0.unwrap().files, fewer);
    }

    #[test]
    fn a_forgotten_agent_leaves_no_entry() {
        let cache = WorkspaceCache::new(Duration::from_mins(10));
        let epoch = EventEpoch { losses: 0, changes: 0 };
        let (now, files) = (Instant::now(), BTreeMap::new());
        let workspace = CachedWorkspace { files_at: now, unlisted_at: now, files, session: None, epoch };
        cache.insert("a", &workspace);
        cache.record_content_check("a");
        cache.is_content_check_due("b", Duration::from_hours(6));
        cache.forget_unregistered("c", true);
        for id in ["a", "b", "c"] {
            cache.forget_agent(id);
        }
        let entries = cache.entries();
        let left = (entries.workspaces.len(), entries.absent.len(), entries.content_checks.len());
        assert_eq!(left, (0, 0, 0));
    }
}
