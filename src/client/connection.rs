//! One connection: made, through a proxy where there is one, with TLS where it is wanted; asked; and driven: one of
//! HTTP/1.1 by who waits for its answer, so that bytes need not change hands between tasks, one of HTTP/2 by a task that
//! ends with it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use promontory_config::http_client::proxy::ProxyScheme;
use rustls::pki_types::ServerName;
use tokio::task::AbortHandle;

use super::url::Origin;
use super::{Asked, Call, FetchError, JobClient, ProxyError, Stream, TlsError, proxy};

/// Read buffer of a connection. It stays allocated while the connection idles, so a thousand targets keep 32 MB;
/// with hyper's default they would keep hundreds.
const READ_BUFFER_BYTES: usize = 32 << 10;

/// A connection and what moves its bytes.
#[derive(Debug)]
pub(super) struct Connection {
    sender: Sender,
    driver: Driver,
}

/// What moves the bytes of a connection. Its errors reach whoever waits for an answer.
pub(super) enum Driver {
    /// Works while somebody waits for what it brings.
    Own(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Works by itself.
    Task(AbortHandle),
    Ended,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Task(_) => "Task",
            Self::Ended => "Ended",
        })
    }
}

impl Driver {
    /// Waits for `future`, which waits for this connection.
    pub(super) async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            let Self::Own(driver) = self else { return Poll::Pending };
            if driver.as_mut().poll(cx).is_ready() {
                *self = Self::Ended;
            }
            // It may have brought what is waited for.
            future.as_mut().poll(cx)
        })
        .await
    }
}

#[derive(Debug)]
enum Sender {
    Http1 {
        sender: http1::SendRequest<Full<Bytes>>,
        /// Where requests are for a proxy: to whom it is to pass them on, and how it is told who asks.
        proxied: Option<(Origin, Option<String>)>,
    },
    Http2 {
        sender: http2::SendRequest<Full<Bytes>>,
        origin: Origin,
    },
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Self::Task(task) = self {
            task.abort();
        }
    }
}

impl Connection {
    pub(super) async fn is_ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1 { sender, .. } => self.driver.drive(sender.ready()).await.is_ok(),
            Sender::Http2 { sender, .. } => sender.ready().await.is_ok(),
        }
    }

    /// What moves the bytes of the answer.
    pub(super) fn driver(&mut self) -> &mut Driver {
        &mut self.driver
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1 { sender, .. } => sender.is_closed(),
            Sender::Http2 { sender, .. } => sender.is_closed(),
        }
    }

    /// Sends a request for a path of the host that this connection leads to.
    pub(super) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1 { sender, proxied } => {
                if let Some((origin, authorization)) = proxied {
                    name_origin(&mut request, origin);
                    if let Some(value) = authorization.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
                        request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
                    }
                }
                self.driver.drive(sender.send_request(request)).await
            }
            Sender::Http2 { sender, origin } => {
                name_origin(&mut request, origin);
                request.headers_mut().remove(header::HOST);
                sender.send_request(request).await
            }
        }
    }
}

/// Makes the path of `request` a whole URL.
fn name_origin(request: &mut Request<Full<Bytes>>, origin: &Origin) {
    let scheme = if origin.tls { "https" } else { "http" };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(scheme).authority(origin.authority.as_str()).path_and_query(path).build();
    // A host that HTTP does not allow stays in the header `Host` alone.
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
}

/// Connects to the host of `call`.
pub(super) async fn connect(job: &JobClient, call: &Call) -> Result<Connection, FetchError> {
    let origin = call.url.origin();
    let mut proxied = None;
    let mut stream = match job.proxies.to(origin) {
        None => dial(job, call).await?,
        Some(through) => {
            let (proxy_host, proxy_port) = through.host_and_port();
            let dialled = job.connector.connect(proxy_host, proxy_port).await;
            let authority = || through.authority.clone();
            let mut stream = dialled.map_err(|source| not_connected(call, authority(), source))?;
            if through.scheme == ProxyScheme::Https {
                let name = ServerName::try_from(proxy_host.to_owned());
                let name = name.map_err(|_| TlsError::ServerName(proxy_host.to_owned()));
                let name = name.map_err(|source| FetchError::Tls { asked: call.asked(), source })?;
                stream = secure(job, call.asked(), name, stream, Alpn::Http1).await?.0;
            }
            if origin.tls || through.scheme == ProxyScheme::Socks5 {
                let opened = job.proxies.tunnel(through, origin, &mut stream).await;
                opened.map_err(|source: ProxyError| FetchError::Proxy { asked: call.asked(), source })?;
            } else {
                proxied = Some((origin.clone(), proxy::authorization(through)));
            }
            stream
        }
    };
    let mut is_http2 = false;
    if origin.tls {
        let name = job.tls.server_name(origin.host_and_port().0);
        let name = name.map_err(|source| FetchError::Tls { asked: call.asked(), source })?;
        (stream, is_http2) = secure(job, call.asked(), name, stream, Alpn::AsConfigured).await?;
    }
    let failed = |source| FetchError::Exchange { asked: call.asked(), source };
    if is_http2 {
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
        let driver = tokio::spawn(async move { drop(driver.await) }).abort_handle();
        return Ok(Connection {
            sender: Sender::Http2 { sender, origin: origin.clone() },
            driver: Driver::Task(driver),
        });
    }
    over(stream, proxied).await.map_err(failed)
}

/// HTTP/1.1 over an open `stream`.
pub(super) async fn over(
    stream: Box<dyn Stream>,
    proxied: Option<(Origin, Option<String>)>,
) -> hyper::Result<Connection> {
    let handshake = http1::Builder::new().max_buf_size(READ_BUFFER_BYTES).handshake(TokioIo::new(stream)).await;
    let (sender, driver) = handshake?;
    let driver = Driver::Own(Box::pin(async move { drop(driver.await) }));
    Ok(Connection { sender: Sender::Http1 { sender, proxied }, driver })
}

/// Connects straight to the host of `call`.
pub(super) async fn dial(job: &JobClient, call: &Call) -> Result<Box<dyn Stream>, FetchError> {
    let origin = call.url.origin();
    let (host, port) = origin.host_and_port();
    let dialled = job.connector.connect(host, port).await;
    dialled.map_err(|source| not_connected(call, origin.authority.clone(), source))
}

fn not_connected(call: &Call, authority: String, source: std::io::Error) -> FetchError {
    FetchError::Connect { asked: call.asked(), authority, source }
}

/// Which protocols are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alpn {
    AsConfigured,
    /// A proxy is asked for tunnels in HTTP/1.1.
    Http1,
}

/// TLS over `stream`, and whether both sides want HTTP/2.
async fn secure(
    job: &JobClient,
    asked: Asked,
    name: ServerName<'static>,
    stream: Box<dyn Stream>,
    alpn: Alpn,
) -> Result<(Box<dyn Stream>, bool), FetchError> {
    let mut config = job.tls.config().map_err(|source| FetchError::Tls { asked: asked.clone(), source })?;
    if alpn == Alpn::Http1 {
        Arc::make_mut(&mut config).alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    let connecting = tokio_rustls::TlsConnector::from(config).connect(name, stream);
    let stream = connecting.await.map_err(|source| FetchError::Handshake { asked, source })?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Box::new(stream), is_http2))
}
