//! A network inside the process, for tests of whatever asks over HTTP.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Connecting, Connector, Stream};

/// What a fake target does with a request.
pub(crate) enum Action {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes this many times.
    Repeat(Vec<u8>, usize),
    /// Waits so long.
    Pause(std::time::Duration),
    /// Answers no more.
    Hang,
    /// Closes the connection.
    Close,
}

/// A whole answer with this status line, these header lines and this body.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Action {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Action::Send(bytes)
}

/// An exposition in Prometheus text.
pub(crate) fn exposition(body: &str) -> Action {
    answer("200 OK", "Content-Type: text/plain; version=0.0.4\r\n", body.as_bytes())
}

/// Answers a request, given its head and what follows.
pub(crate) type Handler = Arc<dyn Fn(&str) -> Vec<Action> + Send + Sync>;

/// A network inside the process, so that tests can stop the time. Hosts are `name:port`.
#[derive(Default)]
pub(crate) struct FakeNetwork {
    hosts: Arc<Mutex<HashMap<String, Handler>>>,
    n_connects: AtomicUsize,
}

impl fmt::Debug for FakeNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeNetwork")
    }
}

impl FakeNetwork {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets `handler` answer at `host` from now on, over connections that exist already too.
    pub(crate) fn serve(&self, host: &str, handler: impl Fn(&str) -> Vec<Action> + Send + Sync + 'static) {
        self.hosts.lock().unwrap().insert(host.to_owned(), Arc::new(handler));
    }

    /// How many connections were made.
    pub(crate) fn n_connects(&self) -> usize {
        self.n_connects.load(Ordering::SeqCst)
    }
}

impl Connector for FakeNetwork {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        let host = format!("{host}:{port}");
        let hosts = self.hosts.clone();
        Box::pin(async move {
            if !hosts.lock().unwrap().contains_key(&host) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let handler: Handler = Arc::new(move |head| {
                let handler = hosts.lock().unwrap()[&host].clone();
                handler(head)
            });
            self.n_connects.fetch_add(1, Ordering::SeqCst);
            let (near, far) = tokio::io::duplex(256 << 10);
            tokio::spawn(serve(far, handler));
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

/// Answers the requests of one connection.
pub(crate) async fn serve(mut stream: impl Stream, handler: Handler) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let len = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; len];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        head.extend_from_slice(&body);
        for action in handler(&String::from_utf8_lossy(&head)) {
            let sent = match action {
                Action::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
                Action::Repeat(bytes, n) => {
                    let mut ok = true;
                    for _ in 0..n {
                        ok = ok && stream.write_all(&bytes).await.is_ok();
                    }
                    ok
                }
                Action::Pause(time) => {
                    tokio::time::sleep(time).await;
                    true
                }
                Action::Hang => std::future::pending().await,
                Action::Close => false,
            };
            if !sent {
                return;
            }
        }
    }
}
