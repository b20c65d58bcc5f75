//! Requests that Muster itself never makes, each over its own connection.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use muster::openclaw::{Output, Session};
use muster_harness::Failure;
use serde_json::Value;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::subject::{STEP_TIMEOUT, Subject};

impl Subject {
    /// Makes a request, and repeats it when the gateway restarts meanwhile.
    pub(crate) async fn request(&self, method: &str, params: &Value) -> Result<Value, Failure> {
        let end = Instant::now() + STEP_TIMEOUT;
        loop {
            match tokio::time::timeout(STEP_TIMEOUT, self.request_once(method, params)).await? {
                Err(error) if Instant::now() > end => return Err(format!("{method}: {error}").into()),
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                answer => return answer,
            }
        }
    }

    /// Makes a request once.
    pub(crate) async fn request_once(&self, method: &str, params: &Value) -> Result<Value, Failure> {
        let settings = self.settings.clone();
        let stream = self.dial.dial(&settings.url, &settings.trust).await?.stream;
        let (mut socket, _) = tokio_tungstenite::client_async(settings.url.as_str(), stream).await?;
        let mut session = Session::new(settings, Instant::now());
        loop {
            while let Some(output) = session.output() {
                match output {
                    Output::Send(text) => socket.send(Message::text(text)).await?,
                    Output::Up(_) => session.request(1, method, params, STEP_TIMEOUT, Instant::now()),
                    Output::Done { result, .. } => return Ok(serde_json::from_str(result?.get())?),
                    Output::Event { .. } | Output::Gap => {}
                    Output::Refused(refusal) => return Err(refusal.message.into()),
                    Output::Close(why) | Output::Misbehaves(why) => return Err(why.into()),
                }
            }
            let message = socket.next().await.ok_or("the gateway closed the connection")??;
            if let Message::Text(text) = message {
                session.receive(text.as_str(), Instant::now());
            }
        }
    }
}
