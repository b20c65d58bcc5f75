//! Changes of agents as Server-Sent Events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State as FromState};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::authz::{Scope, UserCaller};
use super::list::Filter;
use super::open_streams::StreamPermit;
use super::request::Query;
use super::state::{Authenticated, PeopleApi, PeopleState};
use crate::http::dto::Entry;
use crate::http::error::ApiError;
use crate::state::authz::{Permission, ResourceKind, Verb};

/// Tells nginx, and proxies that know its header, to pass each event on at once
/// (<https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering>).
const NO_BUFFERING: (&str, &str) = ("x-accel-buffering", "no");
/// How often an idle stream sends a comment, and how often the permissions of its reader are reviewed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream stays open while Kubernetes does not review the permissions of its reader.
const REVIEW_OUTAGE_GRACE: Duration = Duration::from_mins(1);
/// How long a stream waits before it retries a failed review.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The maximum number of states in one read of the feed.
const BATCH_SIZE: usize = 32;

/// `GET /api/v1/agents/stream`
pub(crate) async fn agents(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<([(&'static str, &'static str); 1], Sse<impl Stream<Item = Result<Event, Infallible>>>), ApiError> {
    let query = Query::parse(raw.as_deref(), &["board_id", "gateway_id", "since", "namespace"])?;
    let since = query.time("since")?;
    let scope = people.list_scope(&caller, ResourceKind::Agent, &query).await?;
    let permit = people.streams.try_acquire(caller.name()).ok_or_else(|| {
        let message = "the maximum number of streams is open, 16 for one user and 256 for all; retry later, or call GET /api/v1/agents instead";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message)
    })?;
    let changes = people.change_feed.subscribe();
    let start = *changes.borrow();
    let resumed = headers.get("last-event-id").and_then(|id| people.change_feed.seq_of(id.to_str().ok()?));
    let reader = StreamReader {
        filter: Filter::of(&query),
        since: since.filter(|_| resumed.is_none()).map(|since| (since, start)),
        cursor: resumed.unwrap_or(0),
        hidden_deletions: if resumed.is_some() || since.is_some() { 0 } else { start },
        batch: VecDeque::new(),
        next_review: Instant::now() + KEEP_ALIVE,
        outage_since: None,
        _permit: permit,
        people,
        caller,
        query,
        scope,
        changes,
    };
    // Many proxies pass the headers on with the first bytes of the body. A stream without agents has no event for long.
    let opening = futures::stream::once(async { Ok(Event::default().comment("open")) });
    let events = futures::stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    });
    Ok(([NO_BUFFERING], Sse::new(opening.chain(events))))
}

/// A reader of the change feed. It keeps a sequence number and at most one batch.
struct StreamReader {
    people: Arc<PeopleApi>,
    caller: UserCaller,
    query: Query,
    scope: Scope,
    filter: Filter,
    changes: watch::Receiver<u64>,
    /// The time of the parameter `since` and the sequence number at the start. States up to the number are skipped if they are
    /// not newer than the time.
    since: Option<(Timestamp, u64)>,
    /// The sequence number of the last read state.
    cursor: u64,
    /// The sequence number up to which deletions are skipped: the reader never got the deleted agents.
    hidden_deletions: u64,
    batch: VecDeque<(u64, Arc<Entry>)>,
    next_review: Instant,
    /// Since when reviews of the reader's permissions fail.
    outage_since: Option<Instant>,
    _permit: StreamPermit,
}

impl StreamReader {
    /// The next event. `None` when the reader lost its permission, or the operator stops.
    async fn next(&mut self) -> Option<Event> {
        while !self.people.change_feed.shutdown().is_cancelled() {
            if Instant::now() >= self.next_review {
                self.next_review = Instant::now() + KEEP_ALIVE;
                let permitted = match self.review().await {
                    Ok(permitted) => {
                        self.outage_since = None;
                        permitted
                    }
                    Err(_) => self.tolerates_outage(),
                };
                return permitted.then(|| Event::default().comment("keep-alive"));
            }
            self.changes.mark_unchanged();
            if self.batch.is_empty() {
                self.read_batch();
            }
            if let Some((seq, entry)) = self.batch.pop_front() {
                match self.is_visible(seq, &entry).await {
                    Ok(visible) => {
                        self.cursor = seq;
                        if visible {
                            return self.event(seq, &entry);
                        }
                    }
                    Err(_) if self.tolerates_outage() => {
                        self.batch.push_front((seq, entry));
                        tokio::time::sleep(RETRY_DELAY).await;
                    }
                    Err(_) => return None,
                }
                continue;
            }
            tokio::select! {
                biased;
                // All branches are cancel-safe: two flags and a timer.
                () = self.people.change_feed.shutdown().cancelled() => {}
                changed = self.changes.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.next_review) => {}
            }
        }
        None
    }

    /// Whether the stream stays open after a failed review.
    fn tolerates_outage(&mut self) -> bool {
        self.outage_since.get_or_insert_with(Instant::now).elapsed() < REVIEW_OUTAGE_GRACE
    }

    /// Reads the next batch. If the feed no longer keeps the deletions since the cursor, the reader starts at the beginning.
    fn read_batch(&mut self) {
        let feed = &self.people.change_feed;
        let batch = feed.after(self.cursor, self.hidden_deletions, BATCH_SIZE).unwrap_or_else(|| {
            self.cursor = 0;
            self.hidden_deletions = *self.changes.borrow();
            feed.after(self.cursor, self.hidden_deletions, BATCH_SIZE).unwrap_or_default()
        });
        self.batch = batch.into();
    }

    /// Whether the reader gets a state.
    async fn is_visible(&self, seq: u64, entry: &Entry) -> Result<bool, ApiError> {
        let namespace = entry.item.namespace.as_deref().unwrap_or_default();
        let old = self
            .since
            .is_some_and(|(since, until)| seq <= until && entry.item.updated_at.is_none_or(|updated| updated <= since));
        if old || !self.filter.matches(entry, &self.people.state.store) {
            return Ok(false);
        }
        if self.scope.contains(namespace) {
            return Ok(true);
        }
        if self.query.text("namespace").is_some() {
            return Ok(false);
        }
        let permission = Permission::within(Verb::List, ResourceKind::Agent, namespace);
        self.people.authorizer.is_allowed(&self.caller, permission).await
    }

    fn event(&self, seq: u64, entry: &Entry) -> Option<Event> {
        let item = entry.resolve(&self.people.state.store);
        let id = self.people.change_feed.event_id(seq);
        Event::default().event("agent").id(id).json_data(json!({ "agent": item })).ok()
    }

    /// Reviews the reader's permissions. Returns whether the reader still has a permission. If the reader may read further
    /// namespaces, it starts at the beginning of the feed.
    async fn review(&mut self) -> Result<bool, ApiError> {
        if !self.people.authorizer.is_valid(&self.caller).await? {
            return Ok(false);
        }
        let scope = match self.people.list_scope(&self.caller, ResourceKind::Agent, &self.query).await {
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
            self.hidden_deletions = *self.changes.borrow();
            self.batch.clear();
        }
        self.scope = scope;
        Ok(true)
    }
}
