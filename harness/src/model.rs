//! A scripted model server: the model runs the command that the agent's own files name.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::Failure;

/// The phrase that only a wake message contains.
const WAKE_PHRASE: &str = "check in once";

/// One request to the model, and the script's reply.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// The system prompt, which carries the agent's workspace files.
    pub system: String,
    /// The last user message, from a person or from the gateway.
    pub message: String,
    /// The heartbeat command of the reply, copied from the system prompt.
    pub command: Option<String>,
    /// The output of an earlier command.
    pub tool_output: Option<String>,
}

/// A scripted model on loopback.
///
/// The model answers a message with one `exec` call: the first fenced command of the system prompt that sends a
/// heartbeat. The model answers the command's output with text.
#[derive(Debug)]
pub struct ScriptedModel {
    url: String,
    requests: Arc<Mutex<Vec<ModelRequest>>>,
    server: AbortHandle,
}

impl ScriptedModel {
    /// Starts a model server.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let requests = Arc::<Mutex<Vec<ModelRequest>>>::default();
        let router = Router::new()
            .route(
                "/v1/models",
                get(|| async { Json(json!({ "object": "list", "data": [{ "id": "m1", "object": "model" }] })) }),
            )
            .route("/v1/chat/completions", post(complete))
            .with_state(Arc::clone(&requests));
        // The task ends with this value. A server error shows as missing requests.
        let server =
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_default() }).abort_handle();
        Ok(Self { url, requests, server })
    }

    /// The base URL, with `/v1`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn complete(State(requests): State<Arc<Mutex<Vec<ModelRequest>>>>, Json(request): Json<Value>) -> Response {
    let run = parse(&request);
    let deltas = match &run.command {
        Some(command) => {
            let arguments = json!({ "command": command }).to_string();
            let call = json!({ "index": 0, "id": "call_1", "type": "function", "function": { "name": "exec", "arguments": arguments } });
            [chunk(&json!({ "role": "assistant", "tool_calls": [call] }), None), chunk(&json!({}), Some("tool_calls"))]
        }
        None => [chunk(&json!({ "role": "assistant", "content": "Done." }), None), chunk(&json!({}), Some("stop"))],
    };
    requests.lock().unwrap_or_else(PoisonError::into_inner).push(run);
    let body = deltas.map(|delta| format!("data: {delta}\n\n")).concat() + "data: [DONE]\n\n";
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

fn chunk(delta: &Value, finish: Option<&str>) -> Value {
    json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m1",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
}

fn parse(request: &Value) -> ModelRequest {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |role: &str| {
        messages.iter().filter(|m| m["role"] == role).map(|m| text(&m["content"])).collect::<Vec<_>>().join("\n")
    };
    let system = of("system");
    let last = messages.last();
    let answered = last.is_some_and(|m| m["role"] == "tool");
    let tool_output = answered.then(|| last.map(|m| text(&m["content"])).unwrap_or_default());
    let message = messages.iter().rfind(|m| m["role"] == "user").map(|m| text(&m["content"])).unwrap_or_default();
    // One command per wake: the gateway may add messages of its own after the wake message.
    let woken = messages.iter().rposition(|m| m["role"] == "user" && text(&m["content"]).contains(WAKE_PHRASE));
    let called = |since: usize| messages[since..].iter().any(|m| m.get("tool_calls").is_some());
    let command = woken.filter(|at| !answered && !called(*at)).and_then(|_| heartbeat_command(&system));
    ModelRequest { system, message, command, tool_output }
}

/// The text of a message, which is a string or a list of parts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|p| p["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// The first fenced command that sends a heartbeat.
fn heartbeat_command(system: &str) -> Option<String> {
    let mut rest = system;
    while let Some(start) = rest.find("```bash\n") {
        let body = &rest[start + "```bash\n".len()..];
        let end = body.find("```")?;
        let (command, after) = body.split_at(end);
        if command.contains("/heartbeat") {
            return Some(command.trim().to_owned());
        }
        rest = &after[3..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(messages: &Value) -> Value {
        json!({ "messages": messages })
    }

    #[test]
    fn a_wake_is_answered_with_the_command_of_the_system_prompt() {
        let system = "intro\n```bash\nls\n```\ntext\n```bash\ncurl http://h/heartbeat\n```\n";
        let run = parse(&request(
            &json!([{"role": "system", "content": system}, {"role": "user", "content": "Hello. check in once"}]),
        ));
        assert_eq!(run.command.as_deref(), Some("curl http://h/heartbeat"));
    }

    #[test]
    fn the_output_of_the_command_is_answered_with_text() {
        let messages = json!([{"role": "user", "content": "check in once"}, {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": "ok"}]);
        let run = parse(&request(&messages));
        assert_eq!((run.command, run.tool_output.as_deref()), (None, Some("ok")));
    }

    #[test]
    fn another_message_runs_no_command() {
        let run = parse(&request(
            &json!([{"role": "system", "content": "```bash\ncurl /heartbeat\n```"}, {"role": "user", "content": "hi"}]),
        ));
        assert_eq!(run.command, None);
    }
}
