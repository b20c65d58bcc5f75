//! Connections to gateways that end with the right to work.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Fuse, FusedFuture};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use url::Url;

use crate::leadership::Standing;
use crate::openclaw::{ByteStream, Dial, DialError, DialedStream, Trust};

/// Dials only while this replica may work.
///
/// # Guarantees
/// After the end of this right, also one that a paused process has not noticed, no byte is written to a gateway, and open connections end.
pub(super) struct FencedDial {
    pub(super) dial: Arc<dyn Dial>,
    pub(super) standing: Standing,
}

impl Dial for FencedDial {
    fn dial<'a>(&'a self, url: &'a Url, trust: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
        Box::pin(async move {
            if !self.standing.may_work() {
                return Err(not_leading().into());
            }
            let DialedStream { stream, shows_cause } = self.dial.dial(url, trust).await?;
            let standing = self.standing.clone();
            let over = async move { standing.until_over().await }.boxed().fuse();
            let stream = FencedStream { stream, standing: self.standing.clone(), over };
            Ok(DialedStream { stream: Box::new(stream), shows_cause })
        })
    }
}

fn not_leading() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "another replica of the operator works")
}

/// A stream that ends with the right to work.
struct FencedStream {
    stream: Box<dyn ByteStream>,
    standing: Standing,
    over: Fuse<BoxFuture<'static, ()>>,
}

impl FencedStream {
    /// Fails after the end of the right to work. A pending reader is woken at that time.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.standing.may_work() || self.over.is_terminated() || self.over.poll_unpin(cx).is_ready() {
            return Err(not_leading());
        }
        Ok(())
    }
}

impl AsyncRead for FencedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for FencedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.standing.may_work() {
            return Poll::Ready(Err(not_leading()));
        }
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
