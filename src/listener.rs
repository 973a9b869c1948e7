//! Listening sockets: bound before anything else starts, so that a port in use is known at once, and limited in
//! the number of connections over all addresses together.

mod connections;
mod lingering;
mod serve;
mod spelling;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::web_config::WebGuard;

pub use connections::{ConnectionCounts, Connections};

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

/// Who opened the connection of a request, as an extension of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    guard: Option<Arc<WebGuard>>,
}

impl Listener {
    /// Binds all of `addresses`; `:9090` stands for all interfaces.
    ///
    /// # Errors
    /// [`ListenError`] for the first address that cannot be bound.
    pub async fn bind_all(addresses: &[String]) -> Result<Vec<Self>, ListenError> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for text in addresses {
            let addr = parse(text)?;
            let socket = TcpListener::bind(addr).await.map_err(|source| ListenError::Bind { addr, source })?;
            listeners.push(Self { socket, guard: None });
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
        let first = Listener::bind_all(&["127.0.0.1:0".to_owned()]).await.unwrap();
        let addr = first[0].addr().unwrap().to_string();
        let error = Listener::bind_all(std::slice::from_ref(&addr)).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("listen on {addr}: ")) && error.contains("in use"), "{error}");
    }
}
