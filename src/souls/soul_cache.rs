//! The cache of one soul directory, and the task that keeps the cache current.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use url::Url;

use super::choice::{SoulName, select};
use super::fetch::{Fetch, FetchError, FetchRequest, Fetched};
use super::urls::{DocumentKind, ListedSoul};
use crate::api::AgentGateway;
use crate::api::object_key::ObjectKey;
use crate::backoff::doubled;
use crate::core::agent::soul_files::RoleSoul;
use crate::hash::sha256_hex;
use crate::souls::{sitemap, urls};
use crate::state::changes::{ChangeScope, GatewayChange};
use crate::templates;

/// The longest wait of a reconcile for the first answer of a directory.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The wait before a failed fetch is retried. For a soul the wait doubles per failure, up to the refresh interval.
const RETRY_BACKOFF: Duration = Duration::from_mins(5);
/// Most souls in the cache of one directory.
const MAX_SOULS: usize = 256;
/// Most concurrent fetches of souls of one directory.
const MAX_CONCURRENT_FETCHES: usize = 2;

/// The settings of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectorySettings {
    url: Url,
    allow_private: bool,
    refresh: Duration,
}

impl DirectorySettings {
    /// The URL of the directory.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The settings in the spec of a gateway, or their error; `None` without a directory, and for a gateway in deletion.
    pub(crate) fn of(gateway: &AgentGateway) -> Option<Result<Self, String>> {
        let spec = gateway.spec.soul_directory.as_ref()?;
        let used = spec.enabled && gateway.metadata.deletion_timestamp.is_none();
        let settings =
            |url| Self { url, allow_private: spec.allow_private_addresses, refresh: spec.refresh_interval() };
        let parsed = spec.url.parse().map_err(|e| format!("spec.soulDirectory.url {:?} is no URL: {e}", spec.url));
        used.then(|| parsed.map(settings))
    }
}

/// The result of the last fetch round of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectoryReport {
    pub(crate) souls: i32,
    pub(crate) list_sha256: Option<String>,
    pub(crate) error: Option<String>,
}

/// A fetched soul.
struct CachedSoul {
    markdown: String,
    sha256: String,
    etag: Option<String>,
}

/// The content of the cache.
#[derive(Default)]
struct CacheState {
    /// The souls of the directory's list; `None` before the first list.
    listed: Option<Vec<ListedSoul>>,
    etag: Option<String>,
    /// The souls by name; `None` for a soul whose fetch failed.
    souls: HashMap<ListedSoul, Option<CachedSoul>>,
    /// The souls whose last fetch failed.
    failed: BTreeSet<ListedSoul>,
    /// The role of each agent.
    roles: BTreeMap<ObjectKey, String>,
    /// The choice for each role.
    chosen: HashMap<String, Option<ListedSoul>>,
    report: Option<DirectoryReport>,
}

/// The scope of a fetch round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FetchScope {
    /// The souls that have never been fetched.
    New,
    /// The souls that have never been fetched, and the souls whose last fetch failed.
    Failed,
    /// The list and all chosen souls.
    All,
}

/// The times of the next fetch rounds.
struct Schedule {
    all: Instant,
    failed: Option<Instant>,
    /// The number of rounds in a row with a failed soul.
    failures: u32,
}

impl Schedule {
    fn scope(&self, now: Instant) -> FetchScope {
        match self.failed {
            _ if self.all <= now => FetchScope::All,
            Some(failed) if failed <= now => FetchScope::Failed,
            Some(_) | None => FetchScope::New,
        }
    }

    fn reschedule(&mut self, scope: FetchScope, round: &FetchRound, refresh: Duration, now: Instant) {
        if scope == FetchScope::All {
            self.all = now + if round.list.is_ok() { refresh } else { RETRY_BACKOFF };
        }
        if round.souls.is_ok() {
            (self.failed, self.failures) = (self.failed.filter(|_| scope == FetchScope::New), 0);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.failed = Some(now + doubled(RETRY_BACKOFF, refresh, self.failures));
    }

    fn next(&self) -> Instant {
        self.failed.map_or(self.all, |failed| failed.min(self.all))
    }
}

/// The result of a fetch round.
struct FetchRound {
    list: Result<(), FetchError>,
    souls: Result<(), FetchError>,
}

/// The cache of one soul directory.
pub(crate) struct SoulCache {
    gateway: ObjectKey,
    settings: DirectorySettings,
    fetch: Arc<dyn Fetch>,
    changes: mpsc::UnboundedSender<GatewayChange>,
    state: Mutex<CacheState>,
    rounds: watch::Sender<()>,
    round_requested: Notify,
}

impl SoulCache {
    pub(crate) fn new(
        gateway: ObjectKey,
        settings: DirectorySettings,
        fetch: Arc<dyn Fetch>,
        changes: mpsc::UnboundedSender<GatewayChange>,
    ) -> Self {
        let (rounds, _) = watch::channel(());
        Self { gateway, settings, fetch, changes, state: Mutex::default(), rounds, round_requested: Notify::new() }
    }

    pub(crate) fn settings(&self) -> &DirectorySettings {
        &self.settings
    }

    fn lock(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result of the last fetch round; `None` before the end of the first round.
    pub(crate) fn report(&self) -> Option<DirectoryReport> {
        self.lock().report.clone()
    }

    pub(crate) fn forget(&self, agent: &ObjectKey) {
        self.lock().roles.remove(agent);
    }

    /// The soul for an agent's role. Waits for the first answer about the role, at most 3 s.
    pub(crate) async fn ask(&self, agent: ObjectKey, role: &str) -> RoleSoul {
        let until = Instant::now() + FIRST_ANSWER_TIMEOUT;
        let mut rounds = self.rounds.subscribe();
        self.lock().roles.insert(agent, role.to_owned());
        loop {
            if let Some(soul) = self.lock().answer(&self.settings.url, role) {
                return soul;
            }
            self.round_requested.notify_one();
            if !matches!(tokio::time::timeout_at(until, rounds.changed()).await, Ok(Ok(()))) {
                return unknown(&self.settings.url, role);
            }
        }
    }

    /// Keeps the cache current until the future is dropped.
    pub(crate) async fn run(cache: Arc<Self>) {
        let mut schedule = Schedule { all: Instant::now(), failed: None, failures: 0 };
        loop {
            let before = cache.lock().answers(&cache.settings.url);
            let scope = schedule.scope(Instant::now());
            let round = cache.round(scope).await;
            schedule.reschedule(scope, &round, cache.settings.refresh, Instant::now());
            cache.publish(&before, scope, round);
            tokio::select! {
                biased;
                () = cache.round_requested.notified() => {}
                () = tokio::time::sleep_until(schedule.next()) => {}
            }
        }
    }

    /// Records the result of a round, and reports changes to the gateway and to the affected agents.
    fn publish(&self, before: &BTreeMap<ObjectKey, Option<RoleSoul>>, scope: FetchScope, round: FetchRound) {
        let mut state = self.lock();
        let mut report = state.report.clone().unwrap_or_default();
        report.souls = state.listed.as_ref().map_or(0, |l| i32::try_from(l.len()).unwrap_or(i32::MAX));
        let result = round.list.and(round.souls);
        if scope != FetchScope::New || result.is_err() {
            report.error = result.err().map(|e| e.to_string());
        }
        report.list_sha256 = state.listed.as_ref().map(|listed| hash(listed));
        let changed = state.report.as_ref() != Some(&report);
        state.report = Some(report);
        let after = state.answers(&self.settings.url);
        drop(state);
        self.rounds.send_replace(());
        let send = |scope| {
            // The send fails while the operator stops.
            let _ = self.changes.send(GatewayChange { gateway: self.gateway.clone(), scope });
        };
        if changed {
            send(ChangeScope::GatewayOnly);
        }
        for (agent, _) in after.into_iter().filter(|(agent, soul)| before.get(agent) != Some(soul)) {
            send(ChangeScope::Agent(agent));
        }
    }

    /// Fetches the documents of a scope. After a failed fetch of the list, the round fetches new souls alone.
    async fn round(&self, scope: FetchScope) -> FetchRound {
        let list = if scope == FetchScope::All { self.list().await } else { Ok(()) };
        let scope = if list.is_ok() { scope } else { FetchScope::New };
        let (planned, over) = self.lock().plan_round(scope);
        let mut fetched = futures::stream::iter(planned)
            .map(|soul| async move { self.soul(soul).await })
            .buffer_unordered(MAX_CONCURRENT_FETCHES);
        let mut souls = Ok(());
        while let Some(result) = fetched.next().await {
            souls = souls.and(result);
        }
        let too_many = || format!("the agents' roles need {} souls, and Muster keeps {MAX_SOULS}", MAX_SOULS + over);
        let souls = if over > 0 { souls.and(Err(FetchError::new(too_many()))) } else { souls };
        FetchRound { list, souls }
    }

    async fn get(&self, url: Url, kind: DocumentKind, etag: Option<String>) -> Result<Fetched, FetchError> {
        let request = FetchRequest { url, kind, etag, allow_private: self.settings.allow_private };
        let fetched = self.fetch.fetch(&request).await;
        fetched.map_err(|e| FetchError::new(format!("{} was not fetched: {e}", request.url)))
    }

    async fn list(&self) -> Result<(), FetchError> {
        let url = urls::sitemap(&self.settings.url);
        let etag = self.lock().etag.clone();
        match self.get(url.clone(), DocumentKind::Sitemap, etag).await? {
            Fetched::NotModified => Ok(()),
            Fetched::Missing => Err(FetchError::new(format!("there is no {url}"))),
            Fetched::Text { text, etag } => {
                let listed = sitemap::read(&self.settings.url, &text)?;
                // An empty list, as of a directory during its setup, must not remove the souls of all agents.
                if listed.is_empty() {
                    return Err(FetchError::new(format!("{url} names no soul of this directory")));
                }
                let mut state = self.lock();
                state.etag = etag;
                if state.listed.as_ref() != Some(&listed) {
                    state.chosen.clear();
                    state.listed = Some(listed);
                }
                Ok(())
            }
        }
    }

    async fn soul(&self, soul: ListedSoul) -> Result<(), FetchError> {
        let url = soul.markdown(&self.settings.url);
        let etag = self.lock().souls.get(&soul).and_then(|kept| kept.as_ref()?.etag.clone());
        let text = match self.get(url.clone(), DocumentKind::Soul, etag).await {
            Ok(Fetched::NotModified) => {
                self.lock().failed.remove(&soul);
                return Ok(());
            }
            Ok(Fetched::Missing) => Err(FetchError::new(format!("there is no {url}"))),
            Ok(Fetched::Text { text, etag }) => match templates::untrusted(&text) {
                markdown if markdown.trim().is_empty() => Err(FetchError::new(format!("{url} is empty"))),
                markdown => Ok(CachedSoul { sha256: sha256_hex(&markdown), markdown, etag }),
            },
            Err(error) => Err(error),
        };
        let mut state = self.lock();
        match text {
            Ok(fetched) => {
                state.failed.remove(&soul);
                state.souls.insert(soul, Some(fetched));
                Ok(())
            }
            Err(error) => {
                state.failed.insert(soul.clone());
                state.souls.entry(soul).or_insert(None);
                Err(error)
            }
        }
    }
}

/// A hash of the list, by which Muster recognises an unchanged list after a restart.
fn hash(listed: &[ListedSoul]) -> String {
    let lines: Vec<_> = listed.iter().map(|l| format!("{}/{}\n", l.handle, l.slug)).collect();
    sha256_hex(lines.concat())
}

/// The answer for a role before the directory has answered.
fn unknown(directory: &Url, role: &str) -> RoleSoul {
    RoleSoul::Unknown { role: role.to_owned(), pages: urls::pages(directory) }
}

impl CacheState {
    /// The choice for a role; `None` without a match, and before the first list.
    fn choose(&mut self, role: &str) -> Option<ListedSoul> {
        let listed = self.listed.as_ref()?;
        if let Some(chosen) = self.chosen.get(role) {
            return chosen.clone();
        }
        let names: Vec<_> = listed.iter().map(|l| SoulName { handle: &l.handle, slug: &l.slug }).collect();
        let chosen = select(&names, role).map(|at| listed[at].clone());
        if self.chosen.len() >= MAX_SOULS {
            let roles: BTreeSet<_> = self.roles.values().collect();
            self.chosen.retain(|role, _| roles.contains(role));
        }
        self.chosen.insert(role.to_owned(), chosen.clone());
        chosen
    }

    /// The answer for a role; `None` when a fetch has to come first.
    fn answer(&mut self, directory: &Url, role: &str) -> Option<RoleSoul> {
        if self.listed.is_none() {
            return self.report.is_some().then(|| unknown(directory, role));
        }
        let Some(listed) = self.choose(role) else { return Some(RoleSoul::NoMatch(role.to_owned())) };
        Some(match self.souls.get(&listed)? {
            None => unknown(directory, role),
            Some(soul) => RoleSoul::Found {
                role: role.to_owned(),
                source_url: listed.page(directory).into(),
                markdown: soul.markdown.clone(),
                sha256: soul.sha256.clone(),
            },
        })
    }

    fn answers(&mut self, directory: &Url) -> BTreeMap<ObjectKey, Option<RoleSoul>> {
        let roles = self.roles.clone();
        roles.into_iter().map(|(agent, role)| (agent, self.answer(directory, &role))).collect()
    }

    /// The souls to fetch in a round, and the number of souls beyond [`MAX_SOULS`]. Removes the souls that no role needs any
    /// more.
    fn plan_round(&mut self, scope: FetchScope) -> (Vec<ListedSoul>, usize) {
        let roles: BTreeSet<_> = self.roles.values().cloned().collect();
        let chosen: BTreeSet<_> = roles.iter().filter_map(|role| self.choose(role)).collect();
        self.souls.retain(|soul, _| chosen.contains(soul));
        self.failed.retain(|soul| chosen.contains(soul));
        let mut kept: Vec<_> = chosen.into_iter().collect();
        let over = kept.split_off(kept.len().min(MAX_SOULS));
        let more = over.len();
        self.souls.extend(over.into_iter().map(|soul| (soul, None)));
        kept.retain(|soul| match scope {
            FetchScope::All => true,
            FetchScope::Failed => self.failed.contains(soul) || !self.souls.contains_key(soul),
            FetchScope::New => !self.souls.contains_key(soul),
        });
        (kept, more)
    }
}

#[cfg(test)]
#[path = "soul_cache_tests.rs"]
mod tests;
