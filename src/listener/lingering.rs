//! A wire that is not closed under a client that still sends.
//!
//! Closing a socket with bytes that nobody read resets the connection, and a reset throws away an answer that its client
//! has not read yet: who sends a body that is refused would see a broken connection instead of the reason. So such a
//! connection ends for writing first, and what still comes is read and thrown away for a while.
//!
//! # Source
//! RFC 9112, section 9.6.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Longest wait for a client that does not close its end; a server that stops waits as long too.
pub(super) const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes that are thrown away.
const LINGER_BYTES_MAX: usize = 16 << 20;

/// A wire, and whether its client has sent, or may send, what nobody reads.
pub(super) struct Lingering<W> {
    wire: W,
    is_unread: Arc<AtomicBool>,
    /// Until when, and how many bytes have been thrown away.
    since: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<W> Lingering<W> {
    pub(super) fn new(wire: W, is_unread: Arc<AtomicBool>) -> Self {
        Self { wire, is_unread, since: None }
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Lingering<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(cx, buf)
    }
}

impl<W: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.since.is_none() {
            ready!(Pin::new(&mut this.wire).poll_shutdown(cx))?;
            if !this.is_unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let (until, n_bytes) = this.since.get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER_TIME_MAX)), 0));
        let mut piece = [0; 16 << 10];
        while *n_bytes < LINGER_BYTES_MAX && until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut piece);
            match ready!(Pin::new(&mut this.wire).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => *n_bytes += buf.filled().len(),
                // The client has closed its end, or is gone.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
