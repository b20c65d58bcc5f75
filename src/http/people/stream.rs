//! Changes of agents as Server-Sent Events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State as FromState};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use futures::Stream;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::authz::{Scope, UserCaller};
use super::list::Filter;
use super::open_streams::StreamPermit;
use super::query::Query;
use super::state::{Identified, PeopleApi, PeopleState};
use crate::http::dto::Entry;
use crate::http::error::ApiError;
use crate::state::authz::{Access, Permission, ResourceKind, Verb};
use crate::state::store::Store;

/// How often a stream that has nothing to say shows that it is alive, and its reader's rights are looked at again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream goes on while Kubernetes does not say what its reader may see.
const UNANSWERED: Duration = Duration::from_mins(1);
/// How long it waits before it asks again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How many states are taken from the feed at one time.
const BATCH: usize = 32;

/// `GET /api/v1/agents/stream`
pub(crate) async fn agents<S: Store, A: Access>(
    FromState(people): PeopleState<S, A>,
    Identified(caller): Identified,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let query = Query::parse(raw.as_deref(), &["board_id", "gateway_id", "since", "namespace"])?;
    let since = query.time("since")?;
    let scope = people.listed(&caller, ResourceKind::Agent, &query).await?;
    let permit = people.streams.open(caller.name()).ok_or_else(|| {
        let message = "as many streams are open as there may be, 16 for one user and 256 for all; try again later, or ask GET /api/v1/agents instead";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message)
    })?;
    let changes = people.feed.changes();
    let start = *changes.borrow();
    let resumed = headers.get("last-event-id").and_then(|id| people.feed.number(id.to_str().ok()?));
    let reader = Reader {
        filter: Filter::of(&query),
        since: since.filter(|_| resumed.is_none()).map(|since| (since, start)),
        cursor: resumed.unwrap_or(0),
        silent: if resumed.is_some() || since.is_some() { 0 } else { start },
        batch: VecDeque::new(),
        look_at: Instant::now() + KEEP_ALIVE,
        unanswered: None,
        _permit: permit,
        people,
        caller,
        query,
        scope,
        changes,
    };
    Ok(Sse::new(futures::stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    })))
}

/// One reader of the feed. It holds a number and at most one batch.
struct Reader<S, A> {
    people: Arc<PeopleApi<S, A>>,
    caller: UserCaller,
    query: Query,
    scope: Scope,
    filter: Filter,
    changes: watch::Receiver<u64>,
    /// Of the states up to this number, those are left out that are not newer than this time.
    since: Option<(Timestamp, u64)>,
    /// What was read last.
    cursor: u64,
    /// Deletions up to this number are of agents that the reader never saw.
    silent: u64,
    batch: VecDeque<(u64, Arc<Entry>)>,
    look_at: Instant,
    /// Since when Kubernetes does not say what the reader may see.
    unanswered: Option<Instant>,
    _permit: StreamPermit,
}

impl<S: Store, A: Access> Reader<S, A> {
    /// The next event. `None` when the reader's right is gone, or the operator stops.
    async fn next(&mut self) -> Option<Event> {
        while !self.people.feed.end().is_cancelled() {
            if Instant::now() >= self.look_at {
                self.look_at = Instant::now() + KEEP_ALIVE;
                let goes_on = match self.look_again().await {
                    Ok(goes_on) => {
                        self.unanswered = None;
                        goes_on
                    }
                    Err(_) => self.bears(),
                };
                return goes_on.then(|| Event::default().comment("keep-alive"));
            }
            self.changes.mark_unchanged();
            if self.batch.is_empty() {
                self.fill();
            }
            if let Some((seq, entry)) = self.batch.pop_front() {
                match self.wants(seq, &entry).await {
                    Ok(wanted) => {
                        self.cursor = seq;
                        if wanted {
                            return self.event(seq, &entry);
                        }
                    }
                    Err(_) if self.bears() => {
                        self.batch.push_front((seq, entry));
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                    Err(_) => return None,
                }
                continue;
            }
            tokio::select! {
                biased;
                // None of them loses anything when it is dropped: they are flags and a clock.
                () = self.people.feed.end().cancelled() => {}
                changed = self.changes.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.look_at) => {}
            }
        }
        None
    }

    /// Whether the stream goes on although Kubernetes does not say what its reader may see.
    fn bears(&mut self) -> bool {
        self.unanswered.get_or_insert_with(Instant::now).elapsed() < UNANSWERED
    }

    /// Takes the next states; all of them again when deletions have been forgotten meanwhile.
    fn fill(&mut self) {
        let feed = &self.people.feed;
        let batch = feed.after(self.cursor, self.silent, BATCH).unwrap_or_else(|| {
            self.cursor = 0;
            self.silent = *self.changes.borrow();
            feed.after(self.cursor, self.silent, BATCH).unwrap_or_default()
        });
        self.batch = batch.into();
    }

    /// Whether a state is for this reader.
    async fn wants(&self, seq: u64, entry: &Entry) -> Result<bool, ApiError> {
        let namespace = entry.item.namespace.as_deref().unwrap_or_default();
        let old = self
            .since
            .is_some_and(|(since, until)| seq <= until && entry.item.updated_at.is_none_or(|updated| updated <= since));
        if old || !self.filter.admits(entry, &self.people.state.store) {
            return Ok(false);
        }
        if self.scope.admits(namespace) {
            return Ok(true);
        }
        if self.query.text("namespace").is_some() {
            return Ok(false);
        }
        let right = Permission::within(Verb::List, ResourceKind::Agent, namespace);
        self.people.gate.may(&self.caller, right).await
    }

    fn event(&self, seq: u64, entry: &Entry) -> Option<Event> {
        let item = entry.complete(&self.people.state.store);
        Event::default().event("agent").id(self.people.feed.id(seq)).json_data(json!({ "agent": item })).ok()
    }

    /// Looks at the reader's rights again: whether there are any. What they have come to see meanwhile is read from the
    /// beginning.
    async fn look_again(&mut self) -> Result<bool, ApiError> {
        if !self.people.gate.is_known(&self.caller).await? {
            return Ok(false);
        }
        let scope = match self.people.listed(&self.caller, ResourceKind::Agent, &self.query).await {
            Err(error) if error.status == StatusCode::FORBIDDEN => return Ok(false),
            scope => scope?,
        };
        let grown = match (&scope, &self.scope) {
            (Scope::Only(now), Scope::Only(before)) => !now.is_subset(before),
            (Scope::All, Scope::Only(_)) => true,
            (_, Scope::All) => false,
        };
        if grown {
            self.cursor = 0;
            self.silent = *self.changes.borrow();
            self.batch.clear();
        }
        self.scope = scope;
        Ok(true)
    }
}
