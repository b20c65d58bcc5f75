//! The bounds, and the rules of the WebSocket upgrade, that a gateway can violate below its protocol.

use std::io;

use crate::openclaw::limits::{self, Stage};

/// A bound, or a rule of the WebSocket upgrade, that a gateway violates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// A message is too long.
    #[error("the gateway sent a message of {size} bytes, and {stage} Muster reads at most {} bytes", stage.longest())]
    Length { size: u64, stage: Stage },
    /// A message has too many frames.
    #[error("the gateway sent a message in more than {} frames", limits::FRAGMENTS)]
    Fragments,
    /// A ping, pong or close frame is longer than WebSocket allows.
    #[error("the gateway sent a control frame of {0} bytes, and WebSocket allows {limit} bytes", limit = limits::CONTROL_FRAME)]
    Control(u64),
    /// A message arrives without an end.
    #[error("a message of the gateway was not complete within {} s", limits::MESSAGE_TIMEOUT.as_secs())]
    Time,
    /// A message stopped before its end, as when a host or a network fails.
    #[error("a message of the gateway stopped before its end, and was not complete within {} s", limits::MESSAGE_TIMEOUT.as_secs())]
    Stalled,
    /// The budget had no room for a message.
    #[error(
        "a message of {size} bytes waited for {} s, and the messages of all gateways still take the {} bytes that Muster allows",
        limits::MESSAGE_TIMEOUT.as_secs(),
        limits::MESSAGE_BUDGET
    )]
    Budget { size: u64 },
    /// A slow message took budget that the message of another gateway waited for.
    #[error(
        "a message of {size} bytes arrived at less than {} bytes a second, and the messages of other gateways waited for its memory",
        limits::CONTENDED_RATE
    )]
    Slow { size: u64 },
    /// The answer to the upgrade is not HTTP.
    #[error(
        "the answer to the WebSocket upgrade is not HTTP; the address may belong to another server, or to a server with TLS"
    )]
    NotHttp,
    /// A line of the answer to the upgrade ends with a line feed alone. The WebSocket accepts such a line end, and could find
    /// the end of the answer at another byte than the stream below it.
    #[error("a line in the answer to the WebSocket upgrade ends without a carriage return, which HTTP requires")]
    LineEnd,
}

impl Violation {
    /// Whether the gateway exceeded a bound of its own. A message may stop because a host or a network fails. A full budget is the work of all gateways, and a server that is no
    /// gateway answers an upgrade in its own way.
    pub(crate) fn is_misbehaviour(&self) -> bool {
        match self {
            Self::Length { .. } | Self::Fragments | Self::Control(_) | Self::Time => true,
            Self::Stalled | Self::Budget { .. } | Self::Slow { .. } | Self::NotHttp | Self::LineEnd => false,
        }
    }
}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        Self::other(violation)
    }
}
