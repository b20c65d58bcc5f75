//! The stream below the WebSocket. The stream checks the header of each frame before it reads the payload: it refuses a message
//! that is too long, and delays a long message until the budget of all connections has room.
//!
//! The WebSocket's own bounds do not depend on the stage of the connection and do not include other connections. The stream
//! forwards one frame per read, so that the bytes in the WebSocket's read buffer belong to the current message.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::PollSemaphore;

use crate::openclaw::limits::{self, Stage};

/// The share of a message in the budget of all connections. Dropping the charge returns the share.
pub(crate) type Charge = OwnedSemaphorePermit;

/// The budget of all connections of this process: [`limits::MESSAGE_BUDGET`] bytes.
pub(crate) fn shared_budget() -> Arc<Semaphore> {
    static BUDGET: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(limits::MESSAGE_BUDGET)));
    Arc::clone(&BUDGET)
}

/// A bound, or a rule of the WebSocket upgrade, that a gateway violates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// A message is too long.
    #[error("the gateway sent a message of {size} bytes, and {stage} Muster reads at most {} bytes", stage.longest())]
    Length { size: u64, stage: Stage },
    /// A ping, pong or close frame is longer than WebSocket allows.
    #[error("the gateway sent a control frame of {0} bytes, and WebSocket allows {limit} bytes", limit = limits::CONTROL_FRAME)]
    Control(u64),
    /// A message did not arrive in time.
    #[error("a message of the gateway was not read within {} s", limits::MESSAGE_TIMEOUT.as_secs())]
    Time,
    /// The budget had no room for a message.
    #[error(
        "a message of {size} bytes waited for {} s, and the messages of all gateways still take the {} bytes that Muster allows",
        limits::MESSAGE_TIMEOUT.as_secs(),
        limits::MESSAGE_BUDGET
    )]
    Budget { size: u64 },
    /// The answer to the upgrade is not HTTP.
    #[error(
        "the answer to the WebSocket upgrade is not HTTP; the address may belong to another server, or to a server with TLS"
    )]
    NotHttp,
    /// A line of the answer to the upgrade ends with a line feed alone. The WebSocket accepts such a line end, and could find
    /// the end of the answer at another byte than this stream.
    #[error("a line in the answer to the WebSocket upgrade ends without a carriage return, which HTTP requires")]
    LineEnd,
}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        Self::other(violation)
    }
}

/// The position of the stream in the gateway's bytes.
#[derive(Clone, Copy, Debug)]
enum ReadState {
    /// Before the answer to the upgrade.
    BeforeUpgrade,
    /// In the answer to the upgrade. The number counts the bytes of the final blank line that have been read.
    Upgrade(usize),
    /// In the header of a frame.
    Header(HeaderBytes),
    /// Before the payload of a frame, while the message waits for its share of the budget.
    AwaitingBudget(HeaderBytes, Header),
    /// Forwarding the header, from this byte.
    ForwardingHeader(HeaderBytes, usize, Header),
    /// In the payload, with this number of bytes left.
    Payload(u64, Header),
}

/// The header of a frame, as far as it has been read.
#[derive(Clone, Copy, Debug, Default)]
struct HeaderBytes {
    bytes: [u8; 14],
    len: usize,
}

/// The header of a WebSocket frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// The length of the payload, in bytes.
    size: u64,
    /// Whether the frame is part of a message, and not a ping, pong or close frame.
    is_data: bool,
    is_last: bool,
}

impl HeaderBytes {
    /// The number of bytes that are missing. The first two bytes decide the length of the header.
    fn missing(&self) -> usize {
        let unmasked = match self.bytes[1] & 0x7f {
            _ if self.len < 2 => 2,
            126 => 4,
            127 => 10,
            _ => 2,
        };
        // The WebSocket refuses a masked frame of a gateway.
        let mask = if self.len >= 2 && self.bytes[1] & 0x80 != 0 { 4 } else { 0 };
        unmasked + mask - self.len
    }

    fn parse(&self) -> Header {
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let size = match self.bytes[1] & 0x7f {
            126 => big_endian(&self.bytes[2..4]),
            127 => big_endian(&self.bytes[2..10]),
            short => u64::from(short),
        };
        Header { size, is_data: self.bytes[0] & 0x08 == 0, is_last: self.bytes[0] & 0x80 != 0 }
    }
}

/// A stream whose messages are bounded.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: BufReader<S>,
    state: ReadState,
    stage: Stage,
    /// The announced length of the current message, in bytes.
    message: u64,
    budget: PollSemaphore,
    /// The budget share of the current message.
    charge: Option<Charge>,
    /// The budget share of the last complete message.
    complete: Option<Charge>,
    /// The deadline of the current message.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Metered<S> {
    /// A stream before the answer to the WebSocket upgrade.
    pub(crate) fn new(stream: S, budget: Arc<Semaphore>) -> Self {
        Self {
            stream: BufReader::with_capacity(limits::READ_BUFFER, stream),
            state: ReadState::BeforeUpgrade,
            stage: Stage::Challenge,
            message: 0,
            budget: PollSemaphore::new(budget),
            charge: None,
            complete: None,
            deadline: None,
        }
    }

    /// Sets the stage of the connection, which bounds the length of a message.
    pub(crate) fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// Takes the budget share of the last complete message.
    pub(crate) fn take_charge(&mut self) -> Option<Charge> {
        self.complete.take()
    }

    /// Reads the header. `None` at the end of the stream.
    fn poll_header(&mut self, cx: &mut Context<'_>, mut bytes: HeaderBytes) -> Poll<io::Result<Option<HeaderBytes>>> {
        while bytes.missing() > 0 {
            self.state = ReadState::Header(bytes);
            let buffered = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
            if buffered.is_empty() {
                return Poll::Ready(Ok(None));
            }
            let part = bytes.missing().min(buffered.len());
            bytes.bytes[bytes.len..bytes.len + part].copy_from_slice(&buffered[..part]);
            bytes.len += part;
            Pin::new(&mut self.stream).consume(part);
        }
        Poll::Ready(Ok(Some(bytes)))
    }

    /// Checks the bounds of a frame whose header is complete.
    fn begin_frame(&mut self, bytes: HeaderBytes) -> Result<(), Violation> {
        let header = bytes.parse();
        self.state = ReadState::AwaitingBudget(bytes, header);
        if !header.is_data {
            return if header.size > limits::CONTROL_FRAME { Err(Violation::Control(header.size)) } else { Ok(()) };
        }
        self.message = self.message.saturating_add(header.size);
        if self.message > self.stage.longest() as u64 {
            return Err(Violation::Length { size: self.message, stage: self.stage });
        }
        // `poll_read` checks the timer only when the stream has nothing to read. Endless empty fragments would never reach it.
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limits::MESSAGE_TIMEOUT)));
        if deadline.deadline() <= Instant::now() { Err(Violation::Time) } else { Ok(()) }
    }

    /// Raises the message's budget share to its length with this frame. A short message takes no share.
    fn poll_budget(&mut self, cx: &mut Context<'_>, header: Header) -> Poll<()> {
        let taken = self.charge.as_ref().map_or(0, Charge::num_permits) as u64;
        let missing = u32::try_from(self.message.saturating_sub(taken)).unwrap_or(u32::MAX);
        if !header.is_data || self.message <= limits::UNCHARGED_MESSAGE || missing == 0 {
            return Poll::Ready(());
        }
        // Nothing closes the budget.
        let Some(part) = ready!(self.budget.poll_acquire_many(cx, missing)) else { return Poll::Ready(()) };
        match &mut self.charge {
            Some(charge) => charge.merge(part),
            None => self.charge = Some(part),
        }
        Poll::Ready(())
    }

    /// Sets the position after a part of a frame, and ends the message after its last byte.
    fn advance(&mut self, remaining: u64, header: Header) {
        self.state = if remaining > 0 {
            ReadState::Payload(remaining, header)
        } else {
            ReadState::Header(HeaderBytes::default())
        };
        if remaining == 0 && header.is_data && header.is_last {
            self.complete = self.charge.take();
            self.message = 0;
            self.deadline = None;
        }
    }

    /// Forwards at most `max_bytes` and returns their number; 0 at the end of the stream.
    fn poll_forward(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, max_bytes: u64) -> Poll<io::Result<usize>> {
        let buffered = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
        let part = buffered.len().min(out.remaining()).min(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        out.put_slice(&buffered[..part]);
        Pin::new(&mut self.stream).consume(part);
        Poll::Ready(Ok(part))
    }

    /// Checks the first byte of the answer to the upgrade. The WebSocket would skip empty lines before the answer.
    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?.first() {
            Some(b'H') | None => Poll::Ready(Ok(())),
            Some(_) => Poll::Ready(Err(Violation::NotHttp.into())),
        }
    }

    /// Forwards the answer to the upgrade, up to its end.
    fn poll_upgrade(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, seen: usize) -> Poll<io::Result<()>> {
        const END: &[u8] = b"\r\n\r\n";
        let buffered = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
        let (mut seen, mut part) = (seen, 0);
        for byte in &buffered[..buffered.len().min(out.remaining())] {
            // An odd number of bytes of `END` means that the last byte was a carriage return.
            if *byte == b'\n' && seen % 2 == 0 {
                return Poll::Ready(Err(Violation::LineEnd.into()));
            }
            seen = if *byte == END[seen] { seen + 1 } else { usize::from(*byte == END[0]) };
            part += 1;
            if seen == END.len() {
                break;
            }
        }
        out.put_slice(&buffered[..part]);
        Pin::new(&mut self.stream).consume(part);
        self.state =
            if seen == END.len() { ReadState::Header(HeaderBytes::default()) } else { ReadState::Upgrade(seen) };
        Poll::Ready(Ok(()))
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.state {
                ReadState::BeforeUpgrade => {
                    ready!(self.poll_start(cx))?;
                    self.state = ReadState::Upgrade(0);
                }
                ReadState::Upgrade(seen) => return self.poll_upgrade(cx, out, seen),
                ReadState::Header(bytes) => match ready!(self.poll_header(cx, bytes))? {
                    Some(bytes) => self.begin_frame(bytes)?,
                    None => return Poll::Ready(Ok(())),
                },
                ReadState::AwaitingBudget(bytes, header) => {
                    ready!(self.poll_budget(cx, header));
                    self.state = ReadState::ForwardingHeader(bytes, 0, header);
                }
                ReadState::ForwardingHeader(bytes, from, header) => {
                    let part = out.remaining().min(bytes.len - from);
                    out.put_slice(&bytes.bytes[from..from + part]);
                    if from + part < bytes.len {
                        self.state = ReadState::ForwardingHeader(bytes, from + part, header);
                    } else {
                        self.advance(header.size, header);
                    }
                    return Poll::Ready(Ok(()));
                }
                ReadState::Payload(remaining, header) => {
                    let part = ready!(self.poll_forward(cx, out, remaining))?;
                    self.advance(remaining - part as u64, header);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(done) = self.poll_bytes(cx, out) {
            return Poll::Ready(done);
        }
        match &mut self.deadline {
            Some(deadline) => ready!(deadline.as_mut().poll(cx)),
            None => return Poll::Pending,
        }
        let violation = match self.state {
            ReadState::AwaitingBudget(..) => Violation::Budget { size: self.message },
            ReadState::BeforeUpgrade
            | ReadState::Upgrade(_)
            | ReadState::Header(_)
            | ReadState::ForwardingHeader(..)
            | ReadState::Payload(..) => Violation::Time,
        };
        Poll::Ready(Err(violation.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "metered_tests.rs"]
mod tests;
