//! The stream below the WebSocket: it looks at the head of each frame before the frame is read, so that what is too long is not
//! read at all, and what is long waits until there is memory for it.
//!
//! The WebSocket has bounds of its own, which are the same from the first frame to the last and know nothing of other
//! connections. Only one frame is passed on at a time: whatever the WebSocket has read ahead is of the message under way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::PollSemaphore;

use crate::openclaw::limits::{self, Stage};

/// The bytes of a message in the budget of all connections, until it is dropped.
pub(crate) type Charge = OwnedSemaphorePermit;

/// A bound, or a rule of the upgrade, that a gateway does not keep to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    /// A message is too long.
    #[error("the gateway sent a message of {size} bytes, and {stage} Muster reads at most {} bytes", stage.longest())]
    Length { size: u64, stage: Stage },
    /// A ping, a pong or a close frame is longer than WebSocket allows.
    #[error("the gateway sent a control frame of {0} bytes, and WebSocket allows {limit} bytes", limit = limits::CONTROL_FRAME)]
    Control(u64),
    /// A message takes too long.
    #[error("a message of the gateway was not read within {} s", limits::MESSAGE_TIME.as_secs())]
    Time,
    /// There was no memory for a message.
    #[error(
        "a message of {size} bytes waited for {} s until those of all gateways together have less than {} bytes",
        limits::MESSAGE_TIME.as_secs(),
        limits::BUDGET
    )]
    Budget { size: u64 },
    /// What answers the upgrade does not speak HTTP.
    #[error(
        "the answer to the WebSocket upgrade is not HTTP; the address may be that of another server, or one with TLS"
    )]
    NotHttp,
    /// A line of the answer to the upgrade ends with a line feed alone. The WebSocket would take that as the end of a line, and
    /// could find the end of the answer where this stream does not see it.
    #[error("a line in the answer to the WebSocket upgrade ends without a carriage return, which HTTP requires")]
    LineEnd,
}

impl From<Exceeded> for io::Error {
    fn from(exceeded: Exceeded) -> Self {
        Self::other(exceeded)
    }
}

/// Where in what the gateway sends the stream is.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Before the answer to the upgrade.
    Start,
    /// In the answer to the upgrade, with so many bytes of the blank line at its end seen.
    Upgrade(usize),
    /// In the head of a frame.
    Head(Head),
    /// Before a frame's payload, which waits for its part of the budget.
    Budget(Head, Frame),
    /// Passing on the head, from this byte.
    Passing(Head, usize, Frame),
    /// In the payload, with so many bytes left.
    Payload(u64, Frame),
}

/// A frame's head, as far as it was read.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    bytes: [u8; 14],
    len: usize,
}

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    size: u64,
    /// Whether it is part of a message, and not a ping, a pong or the end.
    data: bool,
    last: bool,
}

impl Head {
    /// How many bytes are missing.
    fn missing(&self) -> usize {
        let wanted = match self.bytes[1] & 0x7f {
            _ if self.len < 2 => 2,
            126 => 4,
            127 => 10,
            _ => 2,
        };
        // A gateway masks nothing. One that does is refused by the WebSocket.
        let mask = if self.len >= 2 && self.bytes[1] & 0x80 != 0 { 4 } else { 0 };
        wanted + mask - self.len
    }

    fn frame(&self) -> Frame {
        let long = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let size = match self.bytes[1] & 0x7f {
            126 => long(&self.bytes[2..4]),
            127 => long(&self.bytes[2..10]),
            short => u64::from(short),
        };
        Frame { size, data: self.bytes[0] & 0x08 == 0, last: self.bytes[0] & 0x80 != 0 }
    }
}

/// A stream whose messages are bounded.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: BufReader<S>,
    at: At,
    stage: Stage,
    /// The bytes of the message under way.
    message: u64,
    budget: PollSemaphore,
    charge: Option<Charge>,
    /// The part of the budget that belongs to the message that was read last.
    complete: Option<Charge>,
    /// When the message under way has to be there.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Metered<S> {
    /// Before the answer to the WebSocket's upgrade.
    pub(crate) fn new(stream: S, budget: Arc<Semaphore>) -> Self {
        Self {
            stream: BufReader::with_capacity(limits::READ_AHEAD, stream),
            at: At::Start,
            stage: Stage::Challenge,
            message: 0,
            budget: PollSemaphore::new(budget),
            charge: None,
            complete: None,
            end: None,
        }
    }

    /// How far the conversation is: that decides how long a message may be.
    pub(crate) fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// The part of the budget that belongs to the message that was read last.
    pub(crate) fn take_charge(&mut self) -> Option<Charge> {
        self.complete.take()
    }

    /// Fills the head. `None` at the end of the stream.
    fn poll_head(&mut self, cx: &mut Context<'_>, mut head: Head) -> Poll<io::Result<Option<Head>>> {
        while head.missing() > 0 {
            self.at = At::Head(head);
            let ahead = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
            if ahead.is_empty() {
                return Poll::Ready(Ok(None));
            }
            let part = head.missing().min(ahead.len());
            head.bytes[head.len..head.len + part].copy_from_slice(&ahead[..part]);
            head.len += part;
            Pin::new(&mut self.stream).consume(part);
        }
        Poll::Ready(Ok(Some(head)))
    }

    /// Begins a frame, when it is not too long.
    fn begin(&mut self, head: Head) -> Result<(), Exceeded> {
        let frame = head.frame();
        self.at = At::Budget(head, frame);
        if !frame.data {
            return if frame.size > limits::CONTROL_FRAME { Err(Exceeded::Control(frame.size)) } else { Ok(()) };
        }
        self.message = self.message.saturating_add(frame.size);
        if self.message > self.stage.longest() as u64 {
            return Err(Exceeded::Length { size: self.message, stage: self.stage });
        }
        // A timer is asked only when there is nothing to read: fragments without a byte could go on for ever.
        let end = self.end.get_or_insert_with(|| Box::pin(sleep(limits::MESSAGE_TIME)));
        if end.deadline() <= Instant::now() { Err(Exceeded::Time) } else { Ok(()) }
    }

    /// Takes what the message has with this frame from the budget, less what it has taken already; nothing for a short one.
    fn poll_budget(&mut self, cx: &mut Context<'_>, frame: Frame) -> Poll<()> {
        let taken = self.charge.as_ref().map_or(0, Charge::num_permits) as u64;
        let missing = u32::try_from(self.message.saturating_sub(taken)).unwrap_or(u32::MAX);
        if !frame.data || self.message <= limits::SHORT || missing == 0 {
            return Poll::Ready(());
        }
        // The budget is never closed.
        let Some(part) = ready!(self.budget.poll_acquire_many(cx, missing)) else { return Poll::Ready(()) };
        match &mut self.charge {
            Some(charge) => charge.merge(part),
            None => self.charge = Some(part),
        }
        Poll::Ready(())
    }

    /// After a byte of a frame's payload, or its head when it has none: whether it is the last one.
    fn go_on(&mut self, left: u64, frame: Frame) {
        self.at = if left > 0 { At::Payload(left, frame) } else { At::Head(Head::default()) };
        if left == 0 && frame.data && frame.last {
            self.complete = self.charge.take();
            self.message = 0;
            self.end = None;
        }
    }

    /// Passes on at most so many bytes. Gives how many; none at the end of the stream.
    fn poll_pass(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, most: u64) -> Poll<io::Result<usize>> {
        let ahead = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
        let part = ahead.len().min(out.remaining()).min(usize::try_from(most).unwrap_or(usize::MAX));
        out.put_slice(&ahead[..part]);
        Pin::new(&mut self.stream).consume(part);
        Poll::Ready(Ok(part))
    }

    /// Looks at the first byte of the answer to the upgrade. The WebSocket would skip empty lines before it.
    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?.first() {
            Some(b'H') | None => Poll::Ready(Ok(())),
            Some(_) => Poll::Ready(Err(Exceeded::NotHttp.into())),
        }
    }

    /// Passes on the answer to the upgrade, up to its end.
    fn poll_upgrade(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, seen: usize) -> Poll<io::Result<()>> {
        const END: &[u8] = b"\r\n\r\n";
        let ahead = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
        let (mut seen, mut part) = (seen, 0);
        for byte in &ahead[..ahead.len().min(out.remaining())] {
            // Bytes of `END` that were seen: an odd number when the last one was a carriage return.
            if *byte == b'\n' && seen % 2 == 0 {
                return Poll::Ready(Err(Exceeded::LineEnd.into()));
            }
            seen = if *byte == END[seen] { seen + 1 } else { usize::from(*byte == END[0]) };
            part += 1;
            if seen == END.len() {
                break;
            }
        }
        out.put_slice(&ahead[..part]);
        Pin::new(&mut self.stream).consume(part);
        self.at = if seen == END.len() { At::Head(Head::default()) } else { At::Upgrade(seen) };
        Poll::Ready(Ok(()))
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.at {
                At::Start => {
                    ready!(self.poll_start(cx))?;
                    self.at = At::Upgrade(0);
                }
                At::Upgrade(seen) => return self.poll_upgrade(cx, out, seen),
                At::Head(head) => match ready!(self.poll_head(cx, head))? {
                    Some(head) => self.begin(head)?,
                    None => return Poll::Ready(Ok(())),
                },
                At::Budget(head, frame) => {
                    ready!(self.poll_budget(cx, frame));
                    self.at = At::Passing(head, 0, frame);
                }
                At::Passing(head, from, frame) => {
                    let part = out.remaining().min(head.len - from);
                    out.put_slice(&head.bytes[from..from + part]);
                    if from + part < head.len {
                        self.at = At::Passing(head, from + part, frame);
                    } else {
                        self.go_on(frame.size, frame);
                    }
                    return Poll::Ready(Ok(()));
                }
                At::Payload(left, frame) => {
                    let part = ready!(self.poll_pass(cx, out, left))?;
                    self.go_on(left - part as u64, frame);
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
        match &mut self.end {
            Some(end) => ready!(end.as_mut().poll(cx)),
            None => return Poll::Pending,
        }
        let exceeded = match self.at {
            At::Budget(..) => Exceeded::Budget { size: self.message },
            At::Start | At::Upgrade(_) | At::Head(_) | At::Passing(..) | At::Payload(..) => Exceeded::Time,
        };
        Poll::Ready(Err(exceeded.into()))
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
