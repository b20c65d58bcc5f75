//! Changes of agents as Server-Sent Events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, State as FromState};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::authz::{Scope, UserCaller};
use super::list::Filter;
use super::open_streams::StreamPermit;
use super::request::Parameters;
use super::state::{Authenticated, PeopleApi, PeopleState};
use crate::http::dto::{ApiTime, Entry, Item};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::openapi::operation::{
    Content, DescribedInput, DescribedOutput, HeaderParameter, Operation, Success, schema_of,
};
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

/// The parameters of the stream.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct StreamParameters {
    #[serde(flatten)]
    filter: Filter,
    /// Leaves out of the first states the states that are not newer than this time.
    since: Option<ApiTime>,
    /// Only this namespace.
    namespace: Option<String>,
}

/// The header with the id of the last event that a reader got.
pub(crate) struct LastEventId(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned)))
    }
}

impl DescribedInput for LastEventId {
    fn describe(operation: &mut Operation) {
        operation.header = Some(HeaderParameter {
            name: "Last-Event-ID",
            description: "Continues after the event with this id.",
            pattern: "^[0-9a-f]{1,16}-[0-9]{1,18}$",
        });
    }
}

/// The data of an event, which has the name `agent`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AgentEvent {
    /// The agent as it is now.
    agent: Item,
}

/// Server-Sent Events with an [`AgentEvent`] each.
pub(crate) struct AgentEvents<S>(S);

impl<S: Stream<Item = Result<Event, Infallible>> + Send + 'static> IntoResponse for AgentEvents<S> {
    fn into_response(self) -> Response {
        ([NO_BUFFERING], Sse::new(self.0)).into_response()
    }
}

impl<S> DescribedOutput for AgentEvents<S> {
    fn describe(operation: &mut Operation) {
        operation.success = Some(Success { status: StatusCode::OK, content: Content::Events(schema_of::<AgentEvent>) });
    }
}

/// `GET /api/v1/agents/stream`
pub(crate) async fn agents(
    FromState(people): PeopleState,
    Authenticated(caller): Authenticated,
    LastEventId(last_event_id): LastEventId,
    Parameters(parameters): Parameters<StreamParameters>,
) -> Result<AgentEvents<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let StreamParameters { filter, since, namespace } = parameters;
    let scope = people.list_scope(&caller, ResourceKind::Agent, namespace.as_deref()).await?;
    let permit = people.streams.try_acquire(caller.name()).ok_or_else(|| {
        let message = "the maximum number of streams is open, 16 for one user and 256 for all; retry later, or call GET /api/v1/agents instead";
        ApiError::new(ErrorCode::TooManyStreams, message)
    })?;
    let changes = people.change_feed.subscribe();
    let start = *changes.borrow();
    let resumed = last_event_id.and_then(|id| people.change_feed.seq_of(&id));
    let reader = StreamReader {
        filter,
        since: since.filter(|_| resumed.is_none()).map(|since| (since.0, start)),
        cursor: resumed.unwrap_or(0),
        hidden_deletions: if resumed.is_some() || since.is_some() { 0 } else { start },
        batch: VecDeque::new(),
        next_review: Instant::now() + KEEP_ALIVE,
        outage_since: None,
        _permit: permit,
        people,
        caller,
        namespace,
        scope,
        changes,
    };
    // Many proxies pass the headers on with the first bytes of the body. A stream without agents has no event for long.
    let opening = futures::stream::once(async { Ok(Event::default().comment("open")) });
    let events = futures::stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    });
    Ok(AgentEvents(opening.chain(events)))
}

/// A reader of the change feed. It keeps a sequence number and at most one batch.
struct StreamReader {
    people: Arc<PeopleApi>,
    caller: UserCaller,
    /// The requested namespace.
    namespace: Option<String>,
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
    batch: VecDeque<(u64, Entry)>,
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
        let old = self.since.is_some_and(|(since, until)| {
            seq <= until && entry.item.updated_at.is_none_or(|updated| updated.0 <= since)
        });
        if old || !self.filter.matches(entry, &self.people.state.store) {
            return Ok(false);
        }
        if self.scope.contains(namespace) {
            return Ok(true);
        }
        if self.namespace.is_some() {
            return Ok(false);
        }
        let permission = Permission::within(Verb::List, ResourceKind::Agent, namespace);
        self.people.authorizer.is_allowed(&self.caller, permission).await
    }

    fn event(&self, seq: u64, entry: &Entry) -> Option<Event> {
        let agent = entry.resolve(&self.people.state.store);
        let id = self.people.change_feed.event_id(seq);
        Event::default().event("agent").id(id).json_data(AgentEvent { agent }).ok()
    }

    /// Reviews the reader's permissions. Returns whether the reader still has a permission. If the reader may read further
    /// namespaces, it starts at the beginning of the feed.
    async fn review(&mut self) -> Result<bool, ApiError> {
        if !self.people.authorizer.is_valid(&self.caller).await? {
            return Ok(false);
        }
        let scope = match self.people.list_scope(&self.caller, ResourceKind::Agent, self.namespace.as_deref()).await {
            Err(error) if error.code == ErrorCode::Forbidden => return Ok(false),
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
