//! The WebSocket to a gateway.

use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::metered::{Exceeded, Metered};
use super::transport::{ByteStream, Dial};
use crate::openclaw::limits;
use crate::openclaw::settings::ConnectionSettings;

/// A WebSocket whose messages are bounded.
pub(crate) type Socket = WebSocketStream<Metered<Box<dyn ByteStream>>>;

/// Opens a WebSocket to the gateway.
pub(crate) async fn open(dial: &dyn Dial, settings: &ConnectionSettings) -> Result<Socket, String> {
    let stream = dial.dial(&settings.url, &settings.trust).await.map_err(|e| e.to_string())?;
    let stream = Metered::new(stream, limits::budget());
    let config = WebSocketConfig::default()
        .read_buffer_size(limits::READ_AHEAD)
        .max_message_size(Some(limits::MESSAGE))
        .max_frame_size(Some(limits::MESSAGE));
    let opened = tokio_tungstenite::client_async_with_config(settings.url.as_str(), stream, Some(config)).await;
    match opened {
        Ok((socket, _)) => Ok(socket),
        // A gateway that starts, or drains before it stops, answers the upgrade with 503 (measured).
        Err(tungstenite::Error::Http(response)) => Err(format!("the gateway answers HTTP {}", response.status())),
        Err(error) => Err(explained(&error)),
    }
}

/// The text of a message; why the connection is of no use any more.
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

/// What ended the connection; a bound of ours in its own words.
fn explained(error: &tungstenite::Error) -> String {
    let ours = match error {
        tungstenite::Error::Io(error) => error.get_ref().and_then(|error| error.downcast_ref::<Exceeded>()),
        _ => None,
    };
    ours.map_or_else(|| error.to_string(), ToString::to_string)
}
