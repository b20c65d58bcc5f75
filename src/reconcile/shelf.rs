//! What is known of one directory of souls, and the task that keeps it current.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use url::Url;

use super::gateways::{Changed, Concerns};
use super::ports::Key;
use super::role_soul::RoleSoul;
use crate::api::AgentGateway;
use crate::api::agent::GatewayKey;
use crate::directory::{Fetch, FetchError, Fetched, Kind, Listed, Request, layout, sitemap};
use crate::plan::role::{SoulName, select};
use crate::render;

/// How long a reconcile waits for the first answer of a directory.
const PATIENCE: Duration = Duration::from_secs(3);
/// When a directory is asked again that did not answer well.
const RETRY: Duration = Duration::from_mins(5);
/// The most souls of one directory that are kept.
const MOST_SOULS: usize = 256;
/// How many souls of one directory are fetched at one time.
const AT_ONCE: usize = 2;

/// How a directory is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    url: Url,
    allow_private: bool,
    refresh: Duration,
}

impl Settings {
    /// Those of a gateway that has a directory and is to stay; or what is wrong with them.
    pub(super) fn of(gateway: &AgentGateway) -> Option<Result<Self, String>> {
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
pub(super) struct Report {
    pub(super) souls: i32,
    pub(super) list_sha256: Option<String>,
    pub(super) error: Option<String>,
}

struct Soul {
    markdown: String,
    sha256: String,
    etag: Option<String>,
}

#[derive(Default)]
struct State {
    listed: Option<Vec<Listed>>,
    etag: Option<String>,
    /// By name; `None` when it could not be fetched.
    souls: HashMap<Listed, Option<Soul>>,
    /// The role that each agent asked for.
    asked: BTreeMap<Key, String>,
    /// The soul that was chosen for each of these roles.
    chosen: HashMap<String, Option<Listed>>,
    report: Option<Report>,
}

/// What is known of one directory.
pub(super) struct Shelf {
    gateway: GatewayKey,
    settings: Settings,
    fetch: Arc<dyn Fetch>,
    changes: mpsc::UnboundedSender<Changed>,
    state: Mutex<State>,
    rounds: watch::Sender<()>,
    wanted: Notify,
}

impl Shelf {
    pub(super) fn new(
        gateway: GatewayKey,
        settings: Settings,
        fetch: Arc<dyn Fetch>,
        changes: mpsc::UnboundedSender<Changed>,
    ) -> Self {
        let (rounds, _) = watch::channel(());
        Self { gateway, settings, fetch, changes, state: Mutex::default(), rounds, wanted: Notify::new() }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last look gave; `None` before the first one has ended.
    pub(super) fn report(&self) -> Option<Report> {
        self.lock().report.clone()
    }

    pub(super) fn forget(&self, agent: &Key) {
        self.lock().asked.remove(agent);
    }

    /// The soul for an agent's role. Waits for the first answer about it.
    pub(super) async fn ask(&self, agent: Key, role: &str) -> RoleSoul {
        let until = Instant::now() + PATIENCE;
        let mut rounds = self.rounds.subscribe();
        self.lock().asked.insert(agent, role.to_owned());
        loop {
            if let Some(soul) = self.lock().answer(&self.settings.url, role) {
                return soul;
            }
            self.wanted.notify_one();
            if !matches!(tokio::time::timeout_at(until, rounds.changed()).await, Ok(Ok(()))) {
                return RoleSoul::Unknown(role.to_owned());
            }
        }
    }

    /// Keeps the shelf current, for as long as it is polled.
    pub(super) async fn run(shelf: Arc<Self>) {
        let mut due = Instant::now();
        loop {
            let before = shelf.lock().answers(&shelf.settings.url);
            let whole = Instant::now() >= due;
            let result = shelf.round(whole).await;
            let next = Instant::now() + if result.is_ok() { shelf.settings.refresh } else { RETRY };
            due = if whole || result.is_err() { next } else { due };
            shelf.tell(&before, whole, result);
            tokio::select! {
                biased;
                () = shelf.wanted.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// Records the end of a round and tells whom it concerns.
    fn tell(&self, before: &BTreeMap<Key, Option<RoleSoul>>, whole: bool, result: Result<(), FetchError>) {
        let mut state = self.lock();
        let mut report = state.report.clone().unwrap_or_default();
        report.souls = state.listed.as_ref().map_or(0, |l| i32::try_from(l.len()).unwrap_or(i32::MAX));
        if whole || result.is_err() {
            report.error = result.err().map(|e| e.to_string());
        }
        report.list_sha256 = state.listed.as_ref().map(|listed| hash(listed));
        let news = state.report.as_ref() != Some(&report);
        state.report = Some(report);
        let after = state.answers(&self.settings.url);
        drop(state);
        self.rounds.send_replace(());
        let send = |concerns| {
            // Nobody listens any more when the operator stops.
            let _ = self.changes.send(Changed { gateway: self.gateway.clone(), concerns });
        };
        if news {
            send(Concerns::Itself);
        }
        for (agent, _) in after.into_iter().filter(|(agent, soul)| before.get(agent) != Some(soul)) {
            send(Concerns::Agent(agent));
        }
    }

    /// Fetches the list, when `whole`, and the souls that are asked for: all of them when `whole`, else the new ones.
    async fn round(&self, whole: bool) -> Result<(), FetchError> {
        let listed = if whole { self.list().await } else { Ok(()) };
        let wanted = self.lock().wanted(whole);
        let mut fetched =
            futures::stream::iter(wanted).map(|soul| async move { self.soul(soul).await }).buffer_unordered(AT_ONCE);
        let mut souls = Ok(());
        while let Some(result) = fetched.next().await {
            souls = souls.and(result);
        }
        listed.and(souls)
    }

    async fn get(&self, url: Url, kind: Kind, etag: Option<String>) -> Result<Fetched, FetchError> {
        let request = Request { url, kind, etag, allow_private: self.settings.allow_private };
        let fetched = self.fetch.fetch(&request).await;
        fetched.map_err(|e| FetchError::new(format!("{} was not fetched: {e}", request.url)))
    }

    async fn list(&self) -> Result<(), FetchError> {
        let url = layout::sitemap(&self.settings.url);
        let etag = self.lock().etag.clone();
        match self.get(url.clone(), Kind::Sitemap, etag).await? {
            Fetched::NotModified => Ok(()),
            Fetched::Missing => Err(FetchError::new(format!("there is no {url}"))),
            Fetched::Text { text, etag } => {
                let listed = sitemap::read(&self.settings.url, &text)?;
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

    async fn soul(&self, soul: Listed) -> Result<(), FetchError> {
        let url = soul.markdown(&self.settings.url);
        let etag = self.lock().souls.get(&soul).and_then(|kept| kept.as_ref()?.etag.clone());
        let text = match self.get(url.clone(), Kind::Soul, etag).await {
            Ok(Fetched::NotModified) => return Ok(()),
            Ok(Fetched::Missing) => Err(FetchError::new(format!("there is no {url}"))),
            Ok(Fetched::Text { text, etag }) => match render::untrusted(&text) {
                markdown if markdown.trim().is_empty() => Err(FetchError::new(format!("{url} is empty"))),
                markdown => Ok(Soul { sha256: render::sha256_hex(&markdown), markdown, etag }),
            },
            Err(error) => Err(error),
        };
        let mut state = self.lock();
        match text {
            Ok(fetched) => {
                state.souls.insert(soul, Some(fetched));
                Ok(())
            }
            Err(error) => {
                state.souls.entry(soul).or_insert(None);
                Err(error)
            }
        }
    }
}

/// A hash of what is listed, so that the same list is known again after a restart.
fn hash(listed: &[Listed]) -> String {
    let lines: Vec<_> = listed.iter().map(|l| format!("{}/{}\n", l.handle, l.slug)).collect();
    render::sha256_hex(&lines.concat())
}

impl State {
    /// The soul that is chosen for a role; none while nothing is listed.
    fn choose(&mut self, role: &str) -> Option<Listed> {
        let listed = self.listed.as_ref()?;
        if let Some(chosen) = self.chosen.get(role) {
            return chosen.clone();
        }
        let names: Vec<_> = listed.iter().map(|l| SoulName { handle: &l.handle, slug: &l.slug }).collect();
        let chosen = select(&names, role).map(|at| listed[at].clone());
        if self.chosen.len() >= MOST_SOULS {
            self.chosen.clear();
        }
        self.chosen.insert(role.to_owned(), chosen.clone());
        chosen
    }

    /// What is known for a role; `None` when it has to be asked for.
    fn answer(&mut self, directory: &Url, role: &str) -> Option<RoleSoul> {
        if self.listed.is_none() {
            return self.report.is_some().then(|| RoleSoul::Unknown(role.to_owned()));
        }
        let Some(listed) = self.choose(role) else { return Some(RoleSoul::NoMatch(role.to_owned())) };
        Some(match self.souls.get(&listed)? {
            None => RoleSoul::Unknown(role.to_owned()),
            Some(soul) => RoleSoul::Found {
                role: role.to_owned(),
                source_url: listed.page(directory).into(),
                markdown: soul.markdown.clone(),
                sha256: soul.sha256.clone(),
            },
        })
    }

    fn answers(&mut self, directory: &Url) -> BTreeMap<Key, Option<RoleSoul>> {
        let asked = self.asked.clone();
        asked.into_iter().map(|(agent, role)| (agent, self.answer(directory, &role))).collect()
    }

    /// The souls to be fetched. Those that nobody asks for any more are let go of, and so is what is over the bound.
    fn wanted(&mut self, whole: bool) -> Vec<Listed> {
        let roles: BTreeSet<_> = self.asked.values().cloned().collect();
        let chosen: BTreeSet<_> = roles.iter().filter_map(|role| self.choose(role)).collect();
        self.souls.retain(|soul, _| chosen.contains(soul));
        let (kept, over): (Vec<_>, Vec<_>) = chosen.into_iter().enumerate().partition(|(at, _)| *at < MOST_SOULS);
        self.souls.extend(over.into_iter().map(|(_, soul)| (soul, None)));
        kept.into_iter().map(|(_, soul)| soul).filter(|soul| whole || !self.souls.contains_key(soul)).collect()
    }
}
