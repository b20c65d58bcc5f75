//! The two sides of a comparison, and what is the same in their answers.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use muster_harness::Failure;
use serde_json::{Value, json};

/// How long a state may take that a controller of the real cluster brings about.
const SETTLED: Duration = Duration::from_mins(1);
/// How long an event of a watch may take.
const EVENT: Duration = Duration::from_secs(20);

/// An API, and the values that the steps before kept of its answers.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    client: Client,
    kept: BTreeMap<String, String>,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) body: Option<Value>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

impl Side {
    pub(crate) fn new(name: &'static str, client: Client) -> Self {
        Self { name, client, kept: BTreeMap::new() }
    }

    /// Keeps a value of an answer for the requests that follow.
    pub(crate) fn keep(&mut self, name: &str, value: &str) {
        self.kept.insert(name.to_owned(), value.to_owned());
    }

    /// A text with the kept values.
    fn filled(&self, text: &str) -> String {
        self.kept.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }

    async fn start(&self, call: &Call) -> Result<http::Response<Body>, Failure> {
        let body = call.body.as_ref().map(|body| self.filled(&body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(call.method.clone())
            .uri(self.filled(&call.path))
            .header("content-type", call.content_type)
            .header("accept", call.accept)
            .body(Body::from(body.into_bytes()))?;
        Ok(self.client.send(request).await?)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, Failure> {
        let response = self.start(call).await?;
        let code = response.status().as_u16();
        let header = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let mut warnings: Vec<_> = response.headers().get_all("warning").iter().map(header).collect();
        warnings.sort();
        let bytes = response.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        Ok(Answer { code, body, warnings })
    }

    /// Sends a request again until its answer has this code, and something at this JSON pointer.
    pub(crate) async fn until(&self, call: &Call, code: u16, pointer: &str) -> Result<Answer, Failure> {
        let end = tokio::time::Instant::now() + SETTLED;
        loop {
            let answer = self.send(call).await?;
            if answer.code == code && answer.body.pointer(pointer).is_some() {
                return Ok(answer);
            }
            if tokio::time::Instant::now() > end {
                return Err(format!("{}: {} is {answer:?} and not {code} with {pointer}", self.name, call.path).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The first events of a watch.
    pub(crate) async fn events(&self, call: &Call, count: usize) -> Result<Vec<Value>, Failure> {
        let response = self.start(call).await?;
        let frames = response.into_body().into_data_stream();
        let reader = frames.map_err(|error| std::io::Error::other(error.to_string())).into_async_read();
        let lines = reader.lines().try_filter(|line| futures::future::ready(!line.contains("\"BOOKMARK\"")));
        let mut lines = std::pin::pin!(lines);
        let mut events = Vec::new();
        while events.len() < count {
            let line = tokio::time::timeout(EVENT, lines.try_next()).await;
            let line = line.map_err(|_| format!("{}: {events:?} and no more events", self.name))??;
            let Some(line) = line else { return Err(format!("{}: ended after {events:?}", self.name).into()) };
            events.push(self.comparable(&serde_json::from_str(&line)?));
        }
        Ok(events)
    }

    /// What has to be the same on both sides: without times, uids, versions, and who wrote what.
    pub(crate) fn comparable(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let kept = fields.iter().filter(|(name, value)| {
                    let is_empty = value.is_null() || *value == "";
                    *name != "managedFields"
                        && !(is_empty && ["creationTimestamp", "continue"].contains(&name.as_str()))
                });
                let fields = kept.map(|(name, value)| {
                    let value = match name.as_str() {
                        "uid" | "resourceVersion" | "creationTimestamp" | "deletionTimestamp" | "continue"
                            if value.is_string() =>
                        {
                            json!(format!("<{name}>"))
                        }
                        _ => self.comparable(value),
                    };
                    (name.clone(), value)
                });
                let mut fields: serde_json::Map<_, _> = fields.collect();
                // Each cause once and in order: the API server walks maps in any order, and says some things twice. The causes have the
                // texts of the message.
                if let Some(Value::Array(causes)) = fields.get_mut("details").and_then(|d| d.get_mut("causes")) {
                    causes.sort_by_key(ToString::to_string);
                    causes.dedup();
                    if let Some(Value::String(message)) = fields.get_mut("message") {
                        message.truncate(message.find(" is invalid: ").unwrap_or(message.len()));
                    }
                }
                Value::Object(fields)
            }
            Value::Array(items) => Value::Array(items.iter().map(|item| self.comparable(item)).collect()),
            Value::String(text) => json!(self.comparable_text(text)),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn comparable_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in self.kept.iter().filter(|(name, value)| *name != "ns" && value.len() > 1) {
            text = text.replace(value.as_str(), &format!("<{name}>"));
        }
        // What was not understood of a body is said in the words of the library that read it, and a failed precondition in those of the
        // storage.
        if let Some(at) = text.find(" cannot be handled as a ").filter(|_| !text.contains("strict decoding error")) {
            text.truncate(text[at..].find(": ").map_or(text.len(), |end| at + end));
        }
        if text.starts_with("error decoding patch: ") {
            text.truncate("error decoding patch".len());
        }
        if let (Some(from), Some(to)) = (text.find("StorageError: "), text.find("Precondition failed: ")) {
            text.replace_range(from..to, "");
        }
        text
    }
}
