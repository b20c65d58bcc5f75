//! A scenario: requests that go to both sides, whose answers have to be the same.

use http::Method;
use muster_harness::Failure;
use serde_json::Value;

use crate::side::{Answer, Call, Side};

/// What is done with a request.
#[derive(Clone, Debug)]
enum Deed {
    /// It is sent, and the answers are compared.
    Compare,
    /// It is sent until the answer has this code, and something at this JSON pointer, and the answers are compared.
    Until(u16, &'static str),
    /// It is a watch, whose first events are compared.
    Watch(usize),
}

/// A request, and what is kept of its answer.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    call: Call,
    deed: Deed,
    keeps: Vec<Keep>,
}

/// A text of an answer that the steps after use.
#[derive(Clone, Debug)]
struct Keep {
    name: &'static str,
    pointer: &'static str,
    must_exist: bool,
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";

fn step(method: Method, path: &str, content_type: &'static str, body: Option<Value>) -> Step {
    let call = Call { method, path: path.to_owned(), content_type, accept: JSON, body };
    Step { call, deed: Deed::Compare, keeps: Vec::new() }
}

pub(crate) fn get(path: &str) -> Step {
    step(Method::GET, path, JSON, None)
}

pub(crate) fn post(path: &str, body: Value) -> Step {
    step(Method::POST, path, JSON, Some(body))
}

pub(crate) fn put(path: &str, body: Value) -> Step {
    step(Method::PUT, path, JSON, Some(body))
}

pub(crate) fn merge(path: &str, body: Value) -> Step {
    step(Method::PATCH, path, MERGE, Some(body))
}

pub(crate) fn json_patch(path: &str, body: Value) -> Step {
    step(Method::PATCH, path, JSON_PATCH, Some(body))
}

pub(crate) fn delete(path: &str) -> Step {
    step(Method::DELETE, path, JSON, None)
}

pub(crate) fn delete_with(path: &str, body: Value) -> Step {
    step(Method::DELETE, path, JSON, Some(body))
}

/// The first events of a watch.
pub(crate) fn watch(path: &str, events: usize) -> Step {
    Step { deed: Deed::Watch(events), ..get(path) }
}

impl Step {
    /// Keeps the text at a JSON pointer as `{name}` for the steps that follow.
    pub(crate) fn keep(mut self, name: &'static str, pointer: &'static str) -> Self {
        self.keeps.push(Keep { name, pointer, must_exist: true });
        self
    }

    /// The same, if the answer has it.
    pub(crate) fn keep_if_there(mut self, name: &'static str, pointer: &'static str) -> Self {
        self.keeps.push(Keep { name, pointer, must_exist: false });
        self
    }

    /// Keeps the resource version as `{v}`.
    pub(crate) fn version(self) -> Self {
        self.keep("v", "/metadata/resourceVersion")
    }

    /// Sends the request until its answer has this code: a controller of the real cluster has to do its work first.
    pub(crate) fn until(self, code: u16) -> Self {
        Self { deed: Deed::Until(code, ""), ..self }
    }

    /// The same, until the answer has something at this JSON pointer.
    pub(crate) fn until_there(self, pointer: &'static str) -> Self {
        Self { deed: Deed::Until(200, pointer), ..self }
    }

    /// Asks for this media type.
    pub(crate) fn accept(mut self, accept: &'static str) -> Self {
        self.call.accept = accept;
        self
    }

    async fn on(&self, side: &mut Side) -> Result<Answer, Failure> {
        let answer = match self.deed {
            Deed::Compare => side.send(&self.call).await?,
            Deed::Until(code, pointer) => side.until(&self.call, code, pointer).await?,
            Deed::Watch(count) => {
                let events = side.events(&self.call, count).await?;
                return Ok(Answer { code: 200, body: events.into(), warnings: Vec::new() });
            }
        };
        for Keep { name, pointer, must_exist } in &self.keeps {
            match answer.body.pointer(pointer).and_then(Value::as_str) {
                Some(value) => side.keep(name, value),
                None if *must_exist => return Err(format!("{}: no {pointer} in {answer:?}", side.name).into()),
                None => {}
            }
        }
        Ok(Answer { body: side.comparable(&answer.body), ..answer })
    }
}

/// Sends the steps to both sides.
///
/// # Errors
/// The steps whose answers differ, with what differs.
pub(crate) async fn compare(steps: &[Step], sides: &mut [Side; 2]) -> Result<(), Failure> {
    let mut found = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let [real, embedded] = sides;
        let (real, embedded) = (step.on(real).await?, step.on(embedded).await?);
        let mut differences = Vec::new();
        if real.code != embedded.code {
            differences.push(format!("the code: {} and {}", real.code, embedded.code));
        }
        if real.warnings != embedded.warnings {
            differences.push(format!("the warnings: {:?} and {:?}", real.warnings, embedded.warnings));
        }
        differ("", &real.body, &embedded.body, &mut differences);
        if !differences.is_empty() {
            let Call { method, path, body, .. } = &step.call;
            let body = body.as_ref().map(|body| short(&body.to_string())).unwrap_or_default();
            found.push(format!("step {}: {method} {path} {body}\n    {}", index + 1, differences.join("\n    ")));
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!("kube-apiserver and the embedded API differ\n{}", found.join("\n")).into())
    }
}

/// Adds the places at which two values differ.
fn differ(path: &str, real: &Value, embedded: &Value, found: &mut Vec<String>) {
    match (real, embedded) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for name in names {
                let of = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or(Value::Null);
                differ(&format!("{path}.{name}"), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{path}[{index}]"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}:\n        {}\n        {}", short(&a.to_string()), short(&b.to_string()))),
    }
}

/// The beginning of a text.
fn short(text: &str) -> String {
    const LIMIT: usize = 700;
    if text.len() <= LIMIT { text.to_owned() } else { format!("{}...", &text[..text.floor_char_boundary(LIMIT)]) }
}
