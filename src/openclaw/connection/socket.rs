//! The WebSocket to a gateway.

use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::metered::{Metered, Violation, shared_budget};
use super::transport::{ByteStream, Dial};
use crate::openclaw::limits;
use crate::openclaw::settings::ConnectionSettings;

/// A WebSocket with bounded messages.
pub(crate) type Socket = WebSocketStream<Metered<Box<dyn ByteStream>>>;

/// Opens a WebSocket to the gateway.
///
/// # Errors
/// The cause, for a person.
pub(crate) async fn open(dial: &dyn Dial, settings: &ConnectionSettings) -> Result<Socket, String> {
    let stream = dial.dial(&settings.url, &settings.trust).await.map_err(|e| e.to_string())?;
    let stream = Metered::new(stream, shared_budget());
    let config = WebSocketConfig::default()
        .read_buffer_size(limits::READ_BUFFER)
        .max_message_size(Some(limits::MESSAGE))
        .max_frame_size(Some(limits::MESSAGE));
    let opened = tokio_tungstenite::client_async_with_config(settings.url.as_str(), stream, Some(config)).await;
    match opened {
        Ok((socket, _)) => Ok(socket),
        // A gateway answers 503 while it starts, and while it drains before a stop (docs/gateway-facts.md#handshake).
        Err(tungstenite::Error::Http(response)) => Err(format!("the gateway answers HTTP {}", response.status())),
        Err(error) => Err(explained(&error)),
    }
}

/// The text of a message; `None` for a message without text.
///
/// # Errors
/// The cause of the end of the connection, for a person.
pub(crate) fn incoming(message: Option<Result<Message, tungstenite::Error>>) -> Result<Option<Utf8Bytes>, String> {
    match message {
        None => Err("the gateway closed the connection".into()),
        Some(Err(error)) => Err(explained(&error)),
        Some(Ok(Message::Text(text))) => Ok(Some(text)),
        Some(Ok(Message::Close(frame))) => {
            let why = frame.map(|f| format!(": {} ({})", f.reason, u16::from(f.code))).unwrap_or_default();
            Err(format!("the gateway closed the connection{why}"))
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => Ok(None),
    }
}

/// The text of an error. A [`Violation`] inside the error replaces the text of the outer error.
fn explained(error: &tungstenite::Error) -> String {
    let violation = match error {
        tungstenite::Error::Io(error) => error.get_ref().and_then(|error| error.downcast_ref::<Violation>()),
        _ => None,
    };
    violation.map_or_else(|| error.to_string(), ToString::to_string)
}
