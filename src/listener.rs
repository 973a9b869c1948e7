//! Listening sockets: bound before anything else starts, so that a port in use is known at once, and limited in
//! the number of connections over all addresses together.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;

use crate::web_config::{Handshake, WebGuard};

/// Time that a client may take to agree on TLS.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text is not an address.
    #[error("--web.listen-address: {0:?} is not an address like 127.0.0.1:9090 or :9090")]
    Address(String),
    /// The system refused.
    #[error("listen on {addr}: {source}; choose another with --web.listen-address")]
    Bind {
        /// Address.
        addr: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
}

/// A bound socket that accepts while connections are left of a shared number.
#[derive(Debug)]
pub struct LimitedListener {
    socket: TcpListener,
    connections: Arc<Semaphore>,
    guard: Option<Arc<WebGuard>>,
}

impl LimitedListener {
    /// Binds all of `addresses`; `:9090` stands for all interfaces. Connections beyond `connections_max`
    /// (`--web.max-connections`) wait in the system's queue.
    ///
    /// # Errors
    /// [`ListenError`] for the first address that cannot be bound.
    pub async fn bind_all(addresses: &[String], connections_max: u32) -> Result<Vec<Self>, ListenError> {
        let connections = Arc::new(Semaphore::new(connections_max as usize));
        let mut listeners = Vec::with_capacity(addresses.len());
        for text in addresses {
            let addr = parse(text)?;
            let socket = TcpListener::bind(addr).await.map_err(|source| ListenError::Bind { addr, source })?;
            listeners.push(Self { socket, connections: connections.clone(), guard: None });
        }
        Ok(listeners)
    }

    /// Connections are made as `guard` says.
    #[must_use]
    pub fn guarded(self, guard: Option<Arc<WebGuard>>) -> Self {
        Self { guard, ..self }
    }

    /// Where the socket listens; the port is the one that the system chose for port 0.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

fn parse(text: &str) -> Result<SocketAddr, ListenError> {
    let error = || ListenError::Address(text.to_owned());
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.replacen("localhost:", "127.0.0.1:", 1),
    };
    full.parse().map_err(|_| error())
}

/// A connection that gives its place back when it ends.
#[derive(Debug)]
pub struct LimitedStream {
    wire: Wire,
    _place: OwnedSemaphorePermit,
}

/// What bytes go over.
enum Wire {
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
    fn new(stream: TcpStream, guard: Option<&WebGuard>) -> Self {
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

impl axum::serve::Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = self.connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, addr) = axum::serve::Listener::accept(&mut self.socket).await;
        // Answers are written whole; waiting for more only delays them.
        let _ = stream.set_nodelay(true);
        (LimitedStream { wire: Wire::new(stream, self.guard.as_deref()), _place: place }, addr)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.socket.local_addr()
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_ready(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.wire.poll_ready(cx))?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_ready(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_ready(cx))?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_prometheus_reads_them() {
        assert_eq!(parse(":9090").unwrap(), "0.0.0.0:9090".parse().unwrap());
        assert_eq!(parse("localhost:1").unwrap(), "127.0.0.1:1".parse().unwrap());
        assert!(parse("nonsense").unwrap_err().to_string().contains("--web.listen-address"));
    }

    #[tokio::test]
    async fn a_port_in_use_is_one_clear_sentence() {
        let first = LimitedListener::bind_all(&["127.0.0.1:0".to_owned()], 1).await.unwrap();
        let addr = first[0].addr().unwrap().to_string();
        let error = LimitedListener::bind_all(std::slice::from_ref(&addr), 1).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("listen on {addr}: ")) && error.contains("in use"), "{error}");
    }
}
