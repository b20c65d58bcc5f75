//! The WebSocket to a gateway.

use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::failure::{ConnectionFailure, explained};
use super::metered::{Metered, shared_budget};
use super::transport::{ByteStream, DIAL_TIMEOUT, Dial, DialError};
use crate::openclaw::limits;
use crate::openclaw::settings::ConnectionSettings;

/// A WebSocket with bounded messages.
pub(crate) type Socket = WebSocketStream<Metered<Box<dyn ByteStream>>>;

/// Opens a WebSocket to the gateway.
///
/// # Errors
/// The cause, for a person.
pub(crate) async fn open(dial: &dyn Dial, settings: &ConnectionSettings) -> Result<Socket, ConnectionFailure> {
    let dialed = dial.dial(&settings.url, &settings.trust).await.map_err(|error| match error {
        DialError::Forbidden(message) => ConnectionFailure::forbidden(message),
        DialError::Failed { error, shows_cause } => ConnectionFailure::unreachable(error.to_string(), shows_cause),
    })?;
    let stream = Metered::new(dialed.stream, shared_budget());
    let config = WebSocketConfig::default()
        .read_buffer_size(limits::READ_BUFFER)
        .max_message_size(Some(limits::MESSAGE))
        .max_frame_size(Some(limits::MESSAGE));
    let opening = tokio_tungstenite::client_async_with_config(settings.url.as_str(), stream, Some(config));
    let text = match tokio::time::timeout(DIAL_TIMEOUT, opening).await {
        Ok(Ok((socket, _))) => return Ok(socket),
        // A gateway answers 503 while it starts, and while it drains before a stop (docs/gateway-facts.md#handshake).
        Ok(Err(tungstenite::Error::Http(response))) => format!("the gateway answers HTTP {}", response.status()),
        Ok(Err(error)) => explained(&error),
        Err(_) => format!("no WebSocket within {} s", DIAL_TIMEOUT.as_secs()),
    };
    Err(ConnectionFailure::unreachable(text, dialed.shows_cause))
}

/// The text of a message; `None` for a message without text.
///
/// # Errors
/// The cause of the end of the connection.
pub(crate) fn incoming(
    message: Option<Result<Message, tungstenite::Error>>,
) -> Result<Option<Utf8Bytes>, ConnectionFailure> {
    match message {
        None => Err(ConnectionFailure::lost("the gateway closed the connection")),
        Some(Err(error)) => Err(ConnectionFailure::of_socket(&error)),
        Some(Ok(Message::Text(text))) => Ok(Some(text)),
        Some(Ok(Message::Close(frame))) => {
            let why = frame.map(|f| format!(": {} ({})", f.reason, u16::from(f.code))).unwrap_or_default();
            Err(ConnectionFailure::lost(format!("the gateway closed the connection{why}")))
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => Ok(None),
    }
}
