//! Accepts connections and answers on them until the server stops.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::connections::{Connections, Doing, Place};
use super::lingering::Lingering;
use super::spelling::Spelled;
use super::wire::Wire;
use super::{Listener, Peer};

/// Refused connections that are told why; others are closed at once.
const TOLD_AT_ONCE_MAX: usize = 256;
/// Time that a refused client has to read why.
const TELLING: Duration = Duration::from_secs(1);
/// Bytes of its request that are read meanwhile: closing before would throw the answer away.
const TELLING_BYTES: usize = 64 << 10;
/// Wait after an accept that failed for want of something.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

impl Listener {
    /// Answers by `router` until `stopped`, then until all answers that have begun are written.
    pub async fn serve(self, connections: Arc<Connections>, router: Router, stopped: impl Future<Output = ()>) {
        let (tell, told) = watch::channel(());
        let mut tasks = JoinSet::new();
        let telling = Arc::new(Semaphore::new(TOLD_AT_ONCE_MAX));
        let mut stopped = pin!(stopped);
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = &mut stopped => break,
            };
            while tasks.try_join_next().is_some() {}
            let (stream, peer) = match accepted {
                Ok((stream, peer)) => (stream, Peer(peer.ip())),
                // The client is gone already, or there are no more files to open.
                Err(error) => {
                    tracing::debug!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            match connections.admit() {
                Some(place) => {
                    // Answers are written whole; waiting for more only delays them.
                    let _ = stream.set_nodelay(true);
                    let wire = Wire::new(stream, self.guard.as_deref());
                    tasks.spawn(answer(wire, place, connections.read_timeout, (router.clone(), peer), told.clone()));
                }
                // Over TLS it would take a handshake to say so.
                None if self.guard.is_some() => {}
                None => {
                    let max = connections.max;
                    if let Ok(telling) = telling.clone().try_acquire_owned() {
                        tasks.spawn(async move {
                            let _ = tokio::time::timeout(TELLING, refuse(stream, max)).await;
                            drop(telling);
                        });
                    }
                }
            }
        }
        drop(told);
        drop(self.socket);
        // Whoever waits for a request sees this and ends.
        drop(tell);
        while tasks.join_next().await.is_some() {}
    }
}

/// Answers all requests of a connection.
async fn answer(
    wire: Wire,
    place: Place,
    read_timeout: Duration,
    (router, peer): (Router, Peer),
    mut stop: watch::Receiver<()>,
) {
    let place = Arc::new(place);
    let connection = place.connection().clone();
    let is_unread = Arc::new(AtomicBool::new(false));
    let is_free = Arc::new(AtomicBool::new(true));
    let wire = Lingering::new(Spelled::new(wire, is_free.clone()), is_unread.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (place, router, is_unread, is_free) = (place.clone(), router.clone(), is_unread.clone(), is_free.clone());
        async move {
            let has_ended = request.body().is_end_stream();
            place.does(if has_ended { Doing::Answering } else { Doing::Receiving });
            is_unread.store(!has_ended, Ordering::Relaxed);
            let (arriving, unread) = (place.clone(), is_unread.clone());
            let arriving = |body| Body::new(Arriving { body, place: arriving, is_unread: unread });
            let mut request: Request = request.map(arriving);
            request.extensions_mut().insert(peer);
            let response = TowerToHyperService::new(router).call(request).await?;
            place.does(Doing::Sending);
            Ok::<_, Infallible>(response.map(|body| Leaving { body, place, is_unread, is_free }))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(read_timeout)
        .serve_connection(TokioIo::new(wire), service);
    let mut served = pin!(served);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // How a connection ended is its client's matter.
            _ = served.as_mut() => return,
            () = connection.evicted.notified() => return,
            _ = stop.changed(), if !is_stopping => {
                is_stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Tells a client why it is not served.
async fn refuse(mut stream: TcpStream, max: usize) {
    let reason = format!("there are {max} connections, as many as web.max-connections allows; try again\n");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{reason}",
        reason.len()
    );
    if stream.write_all(answer.as_bytes()).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    let mut read = 0;
    let mut piece = [0; 4096];
    while read < TELLING_BYTES {
        match stream.read(&mut piece).await {
            Ok(n) if n > 0 => read += n,
            _ => return,
        }
    }
}

/// The body of a request, which knows when it is there.
struct Arriving {
    body: Incoming,
    place: Arc<Place>,
    /// Cleared when it is there.
    is_unread: Arc<AtomicBool>,
}

impl hyper::body::Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || frame.is_ready() && self.body.is_end_stream() {
            self.place.does(Doing::Answering);
            self.is_unread.store(false, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.place.does(Doing::Answering);
    }
}

/// The body of an answer; when it is gone, the connection waits for the next request.
struct Leaving {
    body: Body,
    place: Arc<Place>,
    is_unread: Arc<AtomicBool>,
    /// Set when the next request may come.
    is_free: Arc<AtomicBool>,
}

impl hyper::body::Body for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Asked for when there is room for it, that is when the client has read.
        self.place.does(Doing::Sending);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // What still comes of a body that nobody read is none of the next request.
        self.is_free.store(!self.is_unread.load(Ordering::Relaxed), Ordering::Relaxed);
        self.place.does(Doing::Waiting);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use promontory_storage::clock::SystemClock;
    use tokio::sync::oneshot;

    use super::*;

    /// A server that refuses all bodies, and what stops it.
    struct Refusing {
        addr: std::net::SocketAddr,
        stop: oneshot::Sender<()>,
        serving: tokio::task::JoinHandle<()>,
    }

    impl Refusing {
        async fn start() -> Self {
            let listener = Listener::bind_all(&["127.0.0.1:0".to_owned()]).await.unwrap().remove(0);
            let addr = listener.addr().unwrap();
            let clock = Arc::new(SystemClock::new());
            let connections = Connections::new(10, promontory_model::Duration::from_secs(60), clock);
            let router = Router::new().fallback(|| async { (StatusCode::PAYLOAD_TOO_LARGE, "too large") });
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = tokio::spawn(listener.serve(connections, router, async { drop(stopped.await) }));
            Self { addr, stop, serving }
        }
    }

    /// What a client reads that sends `request` whole before it reads, and whether it could.
    async fn answer_to(request: &[u8]) -> std::io::Result<String> {
        let server = Refusing::start().await;
        let mut stream = TcpStream::connect(server.addr).await?;
        let mut text = String::new();
        stream.write_all(request).await?;
        stream.read_to_string(&mut text).await?;
        drop((stream, server.stop));
        server.serving.await.unwrap();
        Ok(text)
    }

    #[tokio::test]
    async fn who_still_sends_a_refused_body_reads_the_answer() {
        let body = vec![b'x'; 12 << 20];
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        let text = answer_to(&[head.as_bytes(), &body].concat()).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 413 ") && text.ends_with("too large"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_who_never_sends_the_rest_of_a_body() {
        let server = Refusing::start().await;
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("too large"), "{text}");
        drop(server.stop);
        let ended = tokio::time::timeout(2 * super::super::lingering::LINGER_TIME_MAX, server.serving).await;
        ended.expect("the server still waits").unwrap();
        drop(stream);
    }

    #[tokio::test]
    async fn addresses_may_hold_quotes_in_each_request_of_a_connection() {
        let listener = Listener::bind_all(&["127.0.0.1:0".to_owned()]).await.unwrap().remove(0);
        let addr = listener.addr().unwrap();
        let clock = Arc::new(SystemClock::new());
        let connections = Connections::new(10, promontory_model::Duration::from_secs(60), clock);
        let router = Router::new()
            .fallback(async |uri: axum::http::Uri, body: String| format!("{}|{body}", uri.query().unwrap_or_default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(listener.serve(connections, router, async { drop(stopped.await) }));
        let mut stream = TcpStream::connect(addr).await.unwrap();
        for n in 0..3 {
            let text = "\"<\"";
            let request = format!("POST /?a=up{{b=\"{n}\"}} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{text}");
            stream.write_all(request.as_bytes()).await.unwrap();
            let expected = format!("a=up{{b=%22{n}%22}}|{text}");
            let mut answer = String::new();
            while !answer.ends_with(&expected) {
                let mut piece = [0; 1000];
                let len = stream.read(&mut piece).await.unwrap();
                assert!(len > 0, "{answer}");
                answer.push_str(std::str::from_utf8(&piece[..len]).unwrap());
            }
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        drop((stream, stop));
        serving.await.unwrap();
    }
}
