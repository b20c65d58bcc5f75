//! The stream below the WebSocket. The stream checks the header of each frame before it reads the payload: it refuses a message
//! that is too long, and delays a long message until the budget of all connections has room.
//!
//! The WebSocket's own bounds do not depend on the stage of the connection and do not include other connections. The stream
//! forwards one frame per read, so that the bytes in the WebSocket's read buffer belong to the current message.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::PollSemaphore;

use super::violation::Violation;
use crate::openclaw::limits::{self, Stage};

/// How often the rate of a long message is compared.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The share of a message in the budget of all connections. Dropping the charge returns the share.
pub(crate) type Charge = OwnedSemaphorePermit;

/// The budget of all connections.
#[derive(Debug)]
pub(crate) struct MessageBudget {
    bytes: Arc<Semaphore>,
    /// The number of messages that wait for their share.
    waiting: AtomicUsize,
}

impl MessageBudget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes: Arc::new(Semaphore::new(bytes)), waiting: AtomicUsize::new(0) })
    }
}

/// The budget of all connections of this process: [`limits::MESSAGE_BUDGET`] bytes.
pub(crate) fn shared_budget() -> Arc<MessageBudget> {
    static BUDGET: LazyLock<Arc<MessageBudget>> = LazyLock::new(|| MessageBudget::new(limits::MESSAGE_BUDGET));
    Arc::clone(&BUDGET)
}

/// A message that waits for its share of the budget.
#[derive(Debug)]
struct WaitingMessage(Arc<MessageBudget>);

impl WaitingMessage {
    fn new(budget: &Arc<MessageBudget>) -> Self {
        budget.waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(budget))
    }
}

impl Drop for WaitingMessage {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
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
    /// The received bytes of the current message, and the time of the last of them.
    received: u64,
    last_byte: Instant,
    /// The frames of the current message.
    frames: u32,
    budget: Arc<MessageBudget>,
    share: PollSemaphore,
    /// Set while the current message waits for its share.
    waiting: Option<WaitingMessage>,
    /// The budget share of the current message.
    charge: Option<Charge>,
    /// The budget share of the last complete message.
    complete: Option<Charge>,
    /// The deadline of the current message.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The next comparison of a long message with [`limits::CONTENDED_RATE`].
    next_check: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Metered<S> {
    /// A stream before the answer to the WebSocket upgrade.
    pub(crate) fn new(stream: S, budget: Arc<MessageBudget>) -> Self {
        Self {
            stream: BufReader::with_capacity(limits::READ_BUFFER, stream),
            state: ReadState::BeforeUpgrade,
            stage: Stage::Challenge,
            message: 0,
            received: 0,
            last_byte: Instant::now(),
            frames: 0,
            share: PollSemaphore::new(Arc::clone(&budget.bytes)),
            budget,
            waiting: None,
            charge: None,
            complete: None,
            deadline: None,
            next_check: None,
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
        self.frames += 1;
        if self.frames > limits::FRAGMENTS {
            return Err(Violation::Fragments);
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
        let Poll::Ready(part) = self.share.poll_acquire_many(cx, missing) else {
            self.waiting.get_or_insert_with(|| WaitingMessage::new(&self.budget));
            return Poll::Pending;
        };
        self.waiting = None;
        let Some(part) = part else { return Poll::Ready(()) };
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
            (self.message, self.received, self.frames) = (0, 0, 0);
            (self.deadline, self.next_check) = (None, None);
        }
    }

    /// Whether the current message has to give its share to the waiting message of another gateway, because it arrives too slowly.
    /// Wakes the task for the next comparison.
    fn poll_gives_way(&mut self, cx: &mut Context<'_>) -> bool {
        let (Some(deadline), true) = (&self.deadline, self.charge.is_some() && self.waiting.is_none()) else {
            return false;
        };
        let start = deadline.deadline() - limits::MESSAGE_TIMEOUT;
        let check = self.next_check.get_or_insert_with(|| Box::pin(sleep_until(start + limits::CONTENDED_GRACE)));
        while check.as_mut().poll(cx).is_ready() {
            let expected = start.elapsed().as_secs().saturating_mul(limits::CONTENDED_RATE);
            if self.budget.waiting.load(Ordering::Relaxed) > 0 && self.received < expected {
                return true;
            }
            check.as_mut().reset(Instant::now() + CHECK_INTERVAL);
        }
        false
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
                    self.received += part as u64;
                    self.last_byte = Instant::now();
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
        if self.poll_gives_way(cx) {
            return Poll::Ready(Err(Violation::Slow { size: self.message }.into()));
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
            | ReadState::Payload(..) => {
                if self.last_byte.elapsed() < limits::STALL {
                    Violation::Time
                } else {
                    Violation::Stalled
                }
            }
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
