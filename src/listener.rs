//! Listening sockets: bound before anything else starts, so that a port in use is known at once, and limited in
//! the number of connections over all addresses together.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
            listeners.push(Self { socket, connections: connections.clone() });
        }
        Ok(listeners)
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
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl axum::serve::Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = self.connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, addr) = axum::serve::Listener::accept(&mut self.socket).await;
        // Answers are written whole; waiting for more only delays them.
        let _ = stream.set_nodelay(true);
        (LimitedStream { stream, _place: place }, addr)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.socket.local_addr()
    }
}

impl tokio::io::AsyncRead for LimitedStream {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
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
