//! What bytes of a connection go over: plain TCP, or TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::web_config::{Handshake, WebGuard};

/// Time that a client may take to agree on TLS.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// What bytes go over.
pub(super) enum Wire {
    Plain(TcpStream),
    /// TLS in the making, by whoever reads or writes first, so that a slow client keeps nobody else waiting.
    Agreeing(Agreeing),
    Tls(Box<TlsStream<TcpStream>>),
    Refused,
}

type Agreeing = Pin<Box<dyn Future<Output = io::Result<TlsStream<TcpStream>>> + Send>>;

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Agreeing(_) => "Agreeing",
            Self::Tls(_) => "Tls",
            Self::Refused => "Refused",
        })
    }
}

/// A wire that carries bytes.
trait Carrier: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Carrier for T {}

impl Wire {
    pub(super) fn new(stream: TcpStream, guard: Option<&WebGuard>) -> Self {
        match guard.map_or(Handshake::Plain, WebGuard::handshake) {
            Handshake::Plain => Self::Plain(stream),
            Handshake::Refused => Self::Refused,
            Handshake::Tls(config) => {
                let agreeing = tokio_rustls::TlsAcceptor::from(config).accept(stream);
                let limited = tokio::time::timeout(HANDSHAKE_TIME_MAX, agreeing);
                Self::Agreeing(Box::pin(async move {
                    limited.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                }))
            }
        }
    }

    /// The wire once it carries bytes.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Carrier>>> {
        if let Self::Agreeing(agreeing) = self {
            match ready!(agreeing.as_mut().poll(cx)) {
                Ok(stream) => *self = Self::Tls(Box::new(stream)),
                Err(error) => {
                    *self = Self::Refused;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match self {
            Self::Plain(stream) => Ok(Pin::new(stream)),
            Self::Tls(stream) => Ok(Pin::new(stream)),
            Self::Agreeing(_) | Self::Refused => Err(io::ErrorKind::ConnectionAborted.into()),
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?.poll_shutdown(cx)
    }
}
