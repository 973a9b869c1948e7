//! Connections to a destination: to whatever address its name stands for, or to each of them in turn.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;

use crate::client::{Connecting, Connector, Stream, TcpConnector};

/// How connections are made.
pub(super) fn connector(round_robin: bool) -> Arc<dyn Connector> {
    if round_robin { Arc::new(RoundRobin::default()) } else { Arc::new(TcpConnector) }
}

/// Takes the next address with each connection, so that all servers behind a name get some.
#[derive(Debug, Default)]
struct RoundRobin(AtomicUsize);

impl Connector for RoundRobin {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let mut addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
            addresses.sort_unstable();
            let first = self.0.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
            addresses.rotate_left(first);
            let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(Box::new(stream) as Box<dyn Stream>);
                    }
                    Err(e) => result = Err(e),
                }
            }
            result
        })
    }
}
