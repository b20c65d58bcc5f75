//! A real headless browser: Debian's Chromium, over the `DevTools` protocol.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Failure;
use super::binaries::Binaries;
use super::process::Process;
use super::wait::until;

/// Limit for the browser's start; the start takes 1 to 2 s on a quiet machine.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// Limit for one reply of the browser.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest message: a screenshot of a long page.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    // Fields drop in this order: the profile directory goes after the process that writes into it.
    socket: WebSocketStream<TcpStream>,
    _process: Process,
    _profile: TempDir,
    session: Option<String>,
    last_id: u64,
    loaded: bool,
    errors: Vec<String>,
}

impl Browser {
    /// Starts a browser.
    ///
    /// # Errors
    /// The browser did not start. The error has the end of its log.
    pub async fn start() -> Result<Self, Failure> {
        let profile = tempfile::Builder::new().prefix("muster-browser-").tempdir()?;
        let mut command = Command::new(Binaries::browser()?);
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]);
        command.args(["--no-first-run", "--disable-quic", "--disable-background-networking", "--disable-sync"]);
        command.args(["--disable-component-update", "--disable-breakpad", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let mut process = Process::start("browser", command, profile.path())?;
        let at = profile.path().join("DevToolsActivePort");
        let (port, path) = process.ready("the browser to listen", READY_TIMEOUT, async || address(&at)).await?;
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
        let mut browser = Self {
            socket,
            _process: process,
            _profile: profile,
            session: None,
            last_id: 0,
            loaded: false,
            errors: Vec::new(),
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach).await?;
        browser.session = attached["sessionId"].as_str().map(ToOwned::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({})).await?;
        }
        Ok(browser)
    }

    /// Navigates to a URL and waits until the page is loaded.
    ///
    /// # Errors
    /// The page did not load.
    pub async fn navigate(&mut self, url: &str) -> Result<(), Failure> {
        self.loaded = false;
        let answer = self.call("Page.navigate", json!({ "url": url })).await?;
        if let Some(error) = answer["errorText"].as_str() {
            return Err(format!("{url}: {error}").into());
        }
        let loading = async {
            while !self.loaded {
                self.next().await?;
            }
            Ok(())
        };
        tokio::time::timeout(REPLY_TIMEOUT, loading).await?
    }

    /// Evaluates an expression in the page, awaits a promise, and returns the value as JSON.
    ///
    /// # Errors
    /// The page's exception.
    pub async fn evaluate(&mut self, expression: &str) -> Result<Value, Failure> {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", parameters).await?;
        let thrown = &answer["exceptionDetails"];
        if !thrown.is_null() {
            let words = thrown["exception"]["description"].as_str().or(thrown["text"].as_str()).unwrap_or_default();
            return Err(format!("{expression}: {words}").into());
        }
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// The expression was not true in time. The error has the page's text.
    pub async fn until(&mut self, expression: &str, limit: Duration) -> Result<(), Failure> {
        let seen = until(expression, limit, async || match self.evaluate(expression).await {
            Ok(Value::Bool(true)) => Ok(()),
            Ok(value) => Err(value.to_string()),
            Err(error) => Err(error.to_string()),
        });
        let Err(error) = seen.await else { return Ok(()) };
        let text = self.evaluate("document.body.innerText").await?;
        Err(format!("{error}; the page:\n{}\nits errors: {:?}", text.as_str().unwrap_or_default(), self.errors).into())
    }

    /// Sets the size of the page, in CSS pixels.
    ///
    /// # Errors
    /// The browser refused.
    pub async fn resize(&mut self, width: u32, height: u32) -> Result<(), Failure> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size).await.map(drop)
    }

    /// Writes a screenshot of the page, as PNG.
    ///
    /// # Errors
    /// The browser refused, or the file could not be written.
    pub async fn screenshot(&mut self, file: &Path) -> Result<(), Failure> {
        use base64::Engine as _;
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" })).await?;
        let data = answer["data"].as_str().ok_or("the reply has no image")?;
        Ok(std::fs::write(file, base64::engine::general_purpose::STANDARD.decode(data)?)?)
    }

    /// Errors on the console so far: exceptions, refused resources, failed requests.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failure> {
        self.last_id += 1;
        let mut request = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let answer = async {
            self.socket.send(Message::text(request.to_string())).await?;
            loop {
                if let Some(mut answer) = self.next().await?.filter(|answer| answer["id"] == request["id"]) {
                    return match &answer["error"] {
                        Value::Null => Ok(answer["result"].take()),
                        error => Err(Failure::from(format!("{method}: {error}"))),
                    };
                }
            }
        };
        tokio::time::timeout(REPLY_TIMEOUT, answer).await.map_err(|_| format!("{method}: no answer"))?
    }

    /// Takes the next message: `Some` for a reply, `None` for an event.
    async fn next(&mut self) -> Result<Option<Value>, Failure> {
        let message = self.socket.next().await.ok_or("the browser closed the connection")??;
        let Message::Text(text) = message else { return Ok(None) };
        let message: Value = serde_json::from_str(&text)?;
        let Some(event) = message["method"].as_str() else { return Ok(Some(message)) };
        self.loaded |= event == "Page.loadEventFired";
        self.errors.extend(page_error(event, &message["params"]));
        Ok(None)
    }
}

/// The page error that an event reports, if any.
fn page_error(event: &str, parameters: &Value) -> Option<String> {
    match event {
        "Runtime.exceptionThrown" => {
            let details = &parameters["exceptionDetails"];
            Some(details["exception"]["description"].as_str().or(details["text"].as_str())?.to_owned())
        }
        "Runtime.consoleAPICalled" if parameters["type"] == "error" => Some(parameters["args"].to_string()),
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
            let entry = &parameters["entry"];
            Some(format!("{} {}", entry["text"].as_str()?, entry["url"].as_str().unwrap_or_default()))
        }
        _ => None,
    }
}

/// The port and the path that the browser writes into its profile when it listens.
fn address(file: &Path) -> Result<(u16, String), String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let (port, path) = text.trim_end().split_once('\n').ok_or("the port is not written yet")?;
    Ok((port.parse().map_err(|e| format!("{text:?}: {e}"))?, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_once_the_file_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("DevToolsActivePort");
        assert!(address(&file).is_err());
        std::fs::write(&file, "4711\n").unwrap();
        assert!(address(&file).is_err());
        std::fs::write(&file, "4711\n/devtools/browser/a").unwrap();
        assert_eq!(address(&file), Ok((4711, "/devtools/browser/a".to_owned())));
    }
}
