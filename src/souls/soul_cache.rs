//! What is known of one directory of souls, and the task that keeps it current.

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

/// How long a reconcile waits for the first answer of a directory.
const PATIENCE: Duration = Duration::from_secs(3);
/// When a directory is asked again that did not answer well; doubled each time for a soul that is not to be had, up to
/// the time after which all is asked for again.
const RETRY: Duration = Duration::from_mins(5);
/// The most souls of one directory that are kept.
const MOST_SOULS: usize = 256;
/// How many souls of one directory are fetched at one time.
const AT_ONCE: usize = 2;

/// How a directory is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectorySettings {
    url: Url,
    allow_private: bool,
    refresh: Duration,
}

impl DirectorySettings {
    /// Where the directory is.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Those of a gateway that has a directory and is to stay; or what is wrong with them.
    pub(crate) fn of(gateway: &AgentGateway) -> Option<Result<Self, String>> {
        let spec = gateway.spec.soul_directory.as_ref()?;
        let used = spec.enabled && gateway.metadata.deletion_timestamp.is_none();
        let settings =
            |url| Self { url, allow_private: spec.allow_private_addresses, refresh: spec.refresh_interval() };
        let parsed = spec.url.parse().map_err(|e| format!("spec.soulDirectory.url {:?} is no URL: {e}", spec.url));
        used.then(|| parsed.map(settings))
    }
}

/// What the last look at a directory gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectoryReport {
    pub(crate) souls: i32,
    pub(crate) list_sha256: Option<String>,
    pub(crate) error: Option<String>,
}

struct CachedSoul {
    markdown: String,
    sha256: String,
    etag: Option<String>,
}

#[derive(Default)]
struct State {
    listed: Option<Vec<ListedSoul>>,
    etag: Option<String>,
    /// By name; `None` when it could not be fetched.
    souls: HashMap<ListedSoul, Option<CachedSoul>>,
    /// Those that could not be fetched the last time.
    failed: BTreeSet<ListedSoul>,
    /// The role that each agent asked for.
    asked: BTreeMap<ObjectKey, String>,
    /// The soul that was chosen for each of these roles.
    chosen: HashMap<String, Option<ListedSoul>>,
    report: Option<DirectoryReport>,
}

/// How much of a directory is asked for in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// The souls that nobody asked for before.
    New,
    /// Those and the ones that could not be fetched.
    Failed,
    /// The list and all souls that are asked for.
    All,
}

/// When how much of a directory is asked for again.
struct Due {
    all: Instant,
    failed: Option<Instant>,
    /// How often in a row a soul could not be fetched.
    failures: u32,
}

impl Due {
    fn extent(&self, now: Instant) -> Extent {
        match self.failed {
            _ if self.all <= now => Extent::All,
            Some(failed) if failed <= now => Extent::Failed,
            Some(_) | None => Extent::New,
        }
    }

    fn after(&mut self, extent: Extent, round: &FetchRound, refresh: Duration, now: Instant) {
        if extent == Extent::All {
            self.all = now + if round.list.is_ok() { refresh } else { RETRY };
        }
        if round.souls.is_ok() {
            (self.failed, self.failures) = (self.failed.filter(|_| extent == Extent::New), 0);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.failed = Some(now + doubled(RETRY, refresh, self.failures));
    }

    fn next(&self) -> Instant {
        self.failed.map_or(self.all, |failed| failed.min(self.all))
    }
}

/// How a round ended.
struct FetchRound {
    list: Result<(), FetchError>,
    souls: Result<(), FetchError>,
}

/// What is known of one directory.
pub(crate) struct SoulCache {
    gateway: ObjectKey,
    settings: DirectorySettings,
    fetch: Arc<dyn Fetch>,
    changes: mpsc::UnboundedSender<GatewayChange>,
    state: Mutex<State>,
    rounds: watch::Sender<()>,
    wanted: Notify,
}

impl SoulCache {
    pub(crate) fn new(
        gateway: ObjectKey,
        settings: DirectorySettings,
        fetch: Arc<dyn Fetch>,
        changes: mpsc::UnboundedSender<GatewayChange>,
    ) -> Self {
        let (rounds, _) = watch::channel(());
        Self { gateway, settings, fetch, changes, state: Mutex::default(), rounds, wanted: Notify::new() }
    }

    pub(crate) fn settings(&self) -> &DirectorySettings {
        &self.settings
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last look gave; `None` before the first one has ended.
    pub(crate) fn report(&self) -> Option<DirectoryReport> {
        self.lock().report.clone()
    }

    pub(crate) fn forget(&self, agent: &ObjectKey) {
        self.lock().asked.remove(agent);
    }

    /// The soul for an agent's role. Waits for the first answer about it.
    pub(crate) async fn ask(&self, agent: ObjectKey, role: &str) -> RoleSoul {
        let until = Instant::now() + PATIENCE;
        let mut rounds = self.rounds.subscribe();
        self.lock().asked.insert(agent, role.to_owned());
        loop {
            if let Some(soul) = self.lock().answer(&self.settings.url, role) {
                return soul;
            }
            self.wanted.notify_one();
            if !matches!(tokio::time::timeout_at(until, rounds.changed()).await, Ok(Ok(()))) {
                return unknown(&self.settings.url, role);
            }
        }
    }

    /// Keeps the shelf current, for as long as it is polled.
    pub(crate) async fn run(shelf: Arc<Self>) {
        let mut due = Due { all: Instant::now(), failed: None, failures: 0 };
        loop {
            let before = shelf.lock().answers(&shelf.settings.url);
            let extent = due.extent(Instant::now());
            let round = shelf.round(extent).await;
            due.after(extent, &round, shelf.settings.refresh, Instant::now());
            shelf.tell(&before, extent, round);
            tokio::select! {
                biased;
                () = shelf.wanted.notified() => {}
                () = tokio::time::sleep_until(due.next()) => {}
            }
        }
    }

    /// Records the end of a round and tells whom it scope.
    fn tell(&self, before: &BTreeMap<ObjectKey, Option<RoleSoul>>, extent: Extent, round: FetchRound) {
        let mut state = self.lock();
        let mut report = state.report.clone().unwrap_or_default();
        report.souls = state.listed.as_ref().map_or(0, |l| i32::try_from(l.len()).unwrap_or(i32::MAX));
        let result = round.list.and(round.souls);
        if extent != Extent::New || result.is_err() {
            report.error = result.err().map(|e| e.to_string());
        }
        report.list_sha256 = state.listed.as_ref().map(|listed| hash(listed));
        let news = state.report.as_ref() != Some(&report);
        state.report = Some(report);
        let after = state.answers(&self.settings.url);
        drop(state);
        self.rounds.send_replace(());
        let send = |scope| {
            // Nobody listens any more when the operator stops.
            let _ = self.changes.send(GatewayChange { gateway: self.gateway.clone(), scope });
        };
        if news {
            send(ChangeScope::GatewayOnly);
        }
        for (agent, _) in after.into_iter().filter(|(agent, soul)| before.get(agent) != Some(soul)) {
            send(ChangeScope::Agent(agent));
        }
    }

    /// Fetches the list, where it is due, and souls that are asked for. A directory whose list is not to be had is asked for
    /// no soul again.
    async fn round(&self, extent: Extent) -> FetchRound {
        let list = if extent == Extent::All { self.list().await } else { Ok(()) };
        let extent = if list.is_ok() { extent } else { Extent::New };
        let (wanted, over) = self.lock().wanted(extent);
        let mut fetched =
            futures::stream::iter(wanted).map(|soul| async move { self.soul(soul).await }).buffer_unordered(AT_ONCE);
        let mut souls = Ok(());
        while let Some(result) = fetched.next().await {
            souls = souls.and(result);
        }
        let too_many = || format!("{} souls are asked for, of which {MOST_SOULS} are kept", MOST_SOULS + over);
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
                // A directory that is being set up anew must not take everybody's soul.
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

/// A hash of what is listed, so that the same list is known again after a restart.
fn hash(listed: &[ListedSoul]) -> String {
    let lines: Vec<_> = listed.iter().map(|l| format!("{}/{}\n", l.handle, l.slug)).collect();
    sha256_hex(lines.concat())
}

/// What is said of a role while the directory has said nothing about it.
fn unknown(directory: &Url, role: &str) -> RoleSoul {
    RoleSoul::Unknown { role: role.to_owned(), pages: urls::pages(directory) }
}

impl State {
    /// The soul that is chosen for a role; none while nothing is listed.
    fn choose(&mut self, role: &str) -> Option<ListedSoul> {
        let listed = self.listed.as_ref()?;
        if let Some(chosen) = self.chosen.get(role) {
            return chosen.clone();
        }
        let names: Vec<_> = listed.iter().map(|l| SoulName { handle: &l.handle, slug: &l.slug }).collect();
        let chosen = select(&names, role).map(|at| listed[at].clone());
        if self.chosen.len() >= MOST_SOULS {
            let asked: BTreeSet<_> = self.asked.values().collect();
            self.chosen.retain(|role, _| asked.contains(role));
        }
        self.chosen.insert(role.to_owned(), chosen.clone());
        chosen
    }

    /// What is known for a role; `None` when it has to be asked for.
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
        let asked = self.asked.clone();
        asked.into_iter().map(|(agent, role)| (agent, self.answer(directory, &role))).collect()
    }

    /// The souls to be fetched, and how many more there are than are kept. Those that nobody asks for any more are let go of.
    fn wanted(&mut self, extent: Extent) -> (Vec<ListedSoul>, usize) {
        let roles: BTreeSet<_> = self.asked.values().cloned().collect();
        let chosen: BTreeSet<_> = roles.iter().filter_map(|role| self.choose(role)).collect();
        self.souls.retain(|soul, _| chosen.contains(soul));
        self.failed.retain(|soul| chosen.contains(soul));
        let mut kept: Vec<_> = chosen.into_iter().collect();
        let over = kept.split_off(kept.len().min(MOST_SOULS));
        let more = over.len();
        self.souls.extend(over.into_iter().map(|soul| (soul, None)));
        kept.retain(|soul| match extent {
            Extent::All => true,
            Extent::Failed => self.failed.contains(soul) || !self.souls.contains_key(soul),
            Extent::New => !self.souls.contains_key(soul),
        });
        (kept, more)
    }
}

#[cfg(test)]
#[path = "soul_cache_tests.rs"]
mod tests;
