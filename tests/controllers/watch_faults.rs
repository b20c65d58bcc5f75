//! Faults of watches: events that come late or not at all, and a past state in place of the present one.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Bytes;
use futures::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::answers::AnswerBody;
use crate::way::Faults;

/// How long after a missed event its watch goes on before it loses its place.
const MISSED_FOR: Duration = Duration::from_secs(20);

/// The events of a watch with its faults.
struct FaultyWatch {
    frames: BodyStream<AnswerBody>,
    faults: Faults,
    begins: Instant,
    /// When the watch loses its place, after a missed event.
    ends: Option<Instant>,
    is_over: bool,
}

/// The body of a watch with these faults.
pub(crate) fn faulty(body: AnswerBody, faults: &Faults) -> AnswerBody {
    let begins = Instant::now() + faults.state().lag;
    let watch =
        FaultyWatch { frames: BodyStream::new(body), faults: faults.clone(), begins, ends: None, is_over: false };
    StreamBody::new(events(watch)).boxed_unsync()
}

fn events(watch: FaultyWatch) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::unfold(watch, |mut watch| async move { Some((Ok(watch.next().await?), watch)) })
}

impl FaultyWatch {
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        sleep_until(self.begins).await;
        while !self.is_over {
            let lost = self.ends.unwrap_or_else(|| Instant::now() + Duration::from_hours(24));
            let frame = tokio::select! {
                biased;
                () = sleep_until(lost) => {
                    self.is_over = true;
                    return Some(Frame::data(lost_place()));
                }
                frame = self.frames.next() => frame?.unwrap_or_else(|never| match never {}),
            };
            if !frame.data_ref().is_some_and(|line| self.is_missed(line)) {
                return Some(frame);
            }
            self.ends = Some(Instant::now() + MISSED_FOR);
        }
        None
    }

    /// Counts an event. Returns whether it is the one that is missed.
    fn is_missed(&self, line: &[u8]) -> bool {
        if ["BOOKMARK", "ERROR"].iter().any(|kind| line.starts_with(format!("{{\"type\":\"{kind}\"").as_bytes())) {
            return false;
        }
        let mut state = self.faults.state();
        state.events += 1;
        state.missed == Some(state.events)
    }
}

fn lost_place() -> Bytes {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410 });
    Bytes::from(format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n"))
}

/// A list as it was at a revision, from the events of a watch since the beginning.
pub(crate) fn list_at(revision: u64, kind: &str, events: &[Value]) -> Value {
    let mut items: Vec<&Value> = Vec::new();
    for event in events {
        let object = &event["object"];
        let version = object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
        if version.is_none_or(|version: u64| version > revision) {
            continue;
        }
        items.retain(|item| item["metadata"]["uid"] != object["metadata"]["uid"]);
        if event["type"] != "DELETED" {
            items.push(object);
        }
    }
    json!({ "kind": format!("{kind}List"), "apiVersion": "muster.dev/v1alpha1",
        "metadata": { "resourceVersion": revision.to_string() }, "items": items })
}
