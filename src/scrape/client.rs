//! Fetches what a target exposes: HTTP/1.1 over a connection that belongs to the target and is kept alive.
//!
//! A body is never held beyond its limit, compressed or not. A kept connection that dies before the first byte of an
//! answer is replaced once; nothing else is retried. Credentials and configured headers never follow a redirect to
//! another host. Time is limited by the caller.

mod body;
mod negotiate;
mod tls;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use promontory_config::http_client::{self as config, Auth, HttpClientConfig, Source};
use promontory_config::scrape::ScrapeConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

pub use body::{BodyError, DEFAULT_BODY_BYTES_MAX};
pub(crate) use negotiate::{NegotiateError, format_of};
use tls::Tls;
pub use tls::TlsError;

use super::url::{Origin, Url, UrlError};

/// Read buffer of a connection. It stays allocated while the connection idles, so a thousand targets keep 32 MB;
/// with hyper's default they would keep hundreds.
const READ_BUFFER_BYTES: usize = 32 << 10;
/// Redirects followed in one scrape.
const REDIRECTS_MAX: usize = 10;
/// Kept connections of one target: its own and those that redirects lead to.
const CONNECTIONS_MAX: usize = 4;
/// Bytes of an unwanted body that are read so that its connection can be used again.
const DRAINED_BYTES_MAX: usize = 64 << 10;

/// A connected stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection in the making.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Makes connections: over the network, or inside the process in tests and simulations.
pub trait Connector: Send + Sync + fmt::Debug {
    /// Connects to `port` of `host`, a name or an address.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a>;
}

/// Connects over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// What all targets of a job share: how to connect and what to send.
#[derive(Debug)]
pub struct JobClient {
    connector: Arc<dyn Connector>,
    http: HttpClientConfig,
    tls: Tls,
    accept: String,
    gzip: bool,
    body_bytes_max: Option<u64>,
}

impl JobClient {
    /// The client of `config`.
    #[must_use]
    pub fn new(config: &ScrapeConfig, connector: Arc<dyn Connector>) -> Self {
        Self {
            connector,
            tls: Tls::new(config.http.tls.clone()),
            http: config.http.clone(),
            accept: negotiate::accept(&config.scrape_protocols, config.metric_name_escaping),
            gzip: config.enable_compression,
            body_bytes_max: config.limits.body_bytes,
        }
    }
}

/// Why a target could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error("Get \"{url}\": dial tcp {authority}: {}", Dial(source))]
    Connect {
        /// What was asked.
        url: Url,
        /// Where to.
        authority: String,
        /// The system's error.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("Get \"{url}\": {source}")]
    Tls {
        /// What was asked.
        url: Url,
        /// What is wrong.
        source: TlsError,
    },
    /// The peers could not agree on TLS.
    #[error("Get \"{url}\": tls: {source}")]
    Handshake {
        /// What was asked.
        url: Url,
        /// What went wrong.
        source: io::Error,
    },
    /// The exchange failed before the answer.
    #[error("Get \"{url}\": {}", Chain(source))]
    Exchange {
        /// What was asked.
        url: Url,
        /// What went wrong.
        source: hyper::Error,
    },
    /// A file of the configuration is not readable.
    #[error("read {what} {}: {source}", path.display())]
    File {
        /// Field of the configuration.
        what: &'static str,
        /// File.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A configured header cannot be sent.
    #[error("header {0:?} has a name or value that HTTP does not allow")]
    Header(String),
    /// A redirect leads nowhere.
    #[error("Get \"{url}\": redirect to {location:?}: {source}")]
    Redirect {
        /// What was asked.
        url: Url,
        /// What was answered.
        location: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// Redirects without end.
    #[error("Get \"{0}\": stopped after {REDIRECTS_MAX} redirects")]
    Redirects(Url),
    /// The target answered, but not with its metrics.
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// The body cannot be taken.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Not done within `scrape_timeout`.
    #[error("Get \"{0}\": context deadline exceeded")]
    Timeout(Url),
}

/// Why there is no connection; what the system says without its number, as Prometheus shows it.
struct Dial<'a>(&'a io::Error);

impl fmt::Display for Dial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(_) => write!(f, "connect: {}", self.0.kind()),
            None => write!(f, "{}", self.0),
        }
    }
}

/// An error and its causes on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The connections of one target.
#[derive(Debug, Default)]
pub struct Client {
    kept: Vec<(Origin, Connection)>,
}

/// A connection and the task that drives it, which ends with it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// A client without connections.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fetches `url` within `timeout` into `body`, replacing its content; answers with the header `Content-Type`.
    ///
    /// # Errors
    /// [`FetchError`]; `body` then holds nothing that means something.
    pub async fn fetch(
        &mut self,
        job: &JobClient,
        url: &Url,
        timeout: std::time::Duration,
        body: &mut Vec<u8>,
    ) -> Result<String, FetchError> {
        match tokio::time::timeout(timeout, self.fetch_untimed(job, url, timeout, body)).await {
            Ok(result) => result,
            Err(_) => {
                self.kept.clear();
                Err(FetchError::Timeout(url.clone()))
            }
        }
    }

    async fn fetch_untimed(
        &mut self,
        job: &JobClient,
        first: &Url,
        timeout: std::time::Duration,
        body: &mut Vec<u8>,
    ) -> Result<String, FetchError> {
        let mut url = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let (origin, own) = (url.origin(), first.origin());
            // What was meant for TLS does not go over plain text, even to the same host.
            let trusted = origin.authority == own.authority && (origin.tls || !own.tls);
            let headers = job.headers(trusted, timeout)?;
            let (response, connection) = self.exchange(job, &url, &headers).await?;
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).map(str::to_owned);
            match location {
                Some(location) if is_redirect(response.status()) && job.http.follow_redirects => {
                    let origin = url.origin().clone();
                    url = url.join(&location).map_err(|source| FetchError::Redirect {
                        url: url.clone(),
                        location,
                        source,
                    })?;
                    if drain(response.into_body()).await {
                        self.keep(origin, connection);
                    }
                }
                _ => {
                    let content_type = take(response, job.body_bytes_max, body).await?;
                    self.keep(url.origin().clone(), connection);
                    return Ok(content_type);
                }
            }
        }
        Err(FetchError::Redirects(first.clone()))
    }

    /// Sends the request over the kept connection, or over a new one if there is none or it has died unused.
    async fn exchange(
        &mut self,
        job: &JobClient,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<(Response<Incoming>, Connection), FetchError> {
        if let Some(mut kept) = self.take_kept(url.origin())
            && kept.sender.ready().await.is_ok()
            && let Ok(response) = kept.sender.send_request(request(url, headers)?).await
        {
            return Ok((response, kept));
        }
        let mut connection = connect(job, url).await?;
        let answer = connection.sender.send_request(request(url, headers)?).await;
        let response = answer.map_err(|source| FetchError::Exchange { url: url.clone(), source })?;
        Ok((response, connection))
    }

    fn take_kept(&mut self, origin: &Origin) -> Option<Connection> {
        let i = self.kept.iter().position(|(known, _)| known == origin)?;
        Some(self.kept.swap_remove(i).1)
    }

    fn keep(&mut self, origin: Origin, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        if self.kept.len() == CONNECTIONS_MAX {
            self.kept.remove(0);
        }
        self.kept.push((origin, connection));
    }
}

impl JobClient {
    fn headers(&self, trusted: bool, timeout: std::time::Duration) -> Result<HeaderMap, FetchError> {
        let mut headers = HeaderMap::new();
        let value =
            |name: &str, text: &str| HeaderValue::from_str(text).map_err(|_| FetchError::Header(name.to_owned()));
        headers.insert(header::ACCEPT, value("Accept", &self.accept)?);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(if self.gzip { "gzip" } else { "identity" }));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("Promontory/", env!("CARGO_PKG_VERSION"))));
        headers.insert(
            HeaderName::from_static("x-prometheus-scrape-timeout-seconds"),
            value("X-Prometheus-Scrape-Timeout-Seconds", &timeout.as_secs_f64().to_string())?,
        );
        if !trusted {
            return Ok(headers);
        }
        if let Some(authorization) = self.authorization()? {
            let mut authorization = value("Authorization", &authorization)?;
            authorization.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, authorization);
        }
        for configured in &self.http.headers {
            let name = HeaderName::from_bytes(configured.name.as_bytes())
                .map_err(|_| FetchError::Header(configured.name.clone()))?;
            // A configured header replaces one of ours.
            headers.remove(&name);
            for text in &configured.values {
                let text = match text {
                    config::HeaderValue::Plain(text) => text.clone(),
                    config::HeaderValue::Secret(secret) => secret.reveal().to_owned(),
                    config::HeaderValue::File(path) => read_trimmed("http_headers file", path)?,
                };
                headers.append(&name, value(&configured.name, &text)?);
            }
        }
        Ok(headers)
    }

    /// The header `Authorization`; files are read at each scrape.
    fn authorization(&self) -> Result<Option<String>, FetchError> {
        match &self.http.auth {
            Auth::None => Ok(None),
            Auth::Basic { username, password } => {
                let username = resolve("username_file", username.as_ref(), String::as_str)?;
                let password = resolve("password_file", password.as_ref(), |secret| secret.reveal())?;
                let pair = format!("{username}:{password}");
                Ok(Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))))
            }
            Auth::Authorization { kind, credentials } => {
                let credentials = resolve("credentials_file", credentials.as_ref(), |secret| secret.reveal())?;
                Ok(Some(format!("{kind} {credentials}")))
            }
        }
    }
}

fn resolve<T>(
    what: &'static str,
    source: Option<&Source<T>>,
    inline: impl Fn(&T) -> &str,
) -> Result<String, FetchError> {
    match source {
        None => Ok(String::new()),
        Some(Source::Inline(text)) => Ok(inline(text).to_owned()),
        Some(Source::File(path)) => read_trimmed(what, path),
    }
}

fn read_trimmed(what: &'static str, path: &std::path::Path) -> Result<String, FetchError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(FetchError::File { what, path: path.to_owned(), source }),
    }
}

fn request(url: &Url, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, FetchError> {
    let mut request = Request::get(url.path()).body(Empty::new()).map_err(|_| FetchError::Header("path".to_owned()))?;
    *request.headers_mut() = headers.clone();
    let host = HeaderValue::from_str(&url.origin().authority).map_err(|_| FetchError::Header("Host".to_owned()))?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

async fn connect(job: &JobClient, url: &Url) -> Result<Connection, FetchError> {
    let (host, port) = url.origin().host_and_port();
    let stream = job.connector.connect(host, port).await.map_err(|source| FetchError::Connect {
        url: url.clone(),
        authority: url.origin().authority.clone(),
        source,
    })?;
    let stream: Box<dyn Stream> = if url.origin().tls {
        let tls_error = |source| FetchError::Tls { url: url.clone(), source };
        let config = job.tls.config().map_err(tls_error)?;
        let name = job.tls.server_name(host).map_err(tls_error)?;
        let connecting = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        Box::new(connecting.await.map_err(|source| FetchError::Handshake { url: url.clone(), source })?)
    } else {
        stream
    };
    let handshake = http1::Builder::new().max_buf_size(READ_BUFFER_BYTES).handshake(TokioIo::new(stream)).await;
    let (sender, driver) = handshake.map_err(|source| FetchError::Exchange { url: url.clone(), source })?;
    // The driver's error reaches whoever waits for an answer.
    let driver = tokio::spawn(async move { drop(driver.await) }).abort_handle();
    Ok(Connection { sender, driver })
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Reads a small body to its end; false if it is not small.
async fn drain(mut body: Incoming) -> bool {
    let mut left = DRAINED_BYTES_MAX;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let len = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(len) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

async fn take(response: Response<Incoming>, limit: Option<u64>, body: &mut Vec<u8>) -> Result<String, FetchError> {
    if response.status() != StatusCode::OK {
        let status = response.status();
        let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
        let reason = reason.map(|r| String::from_utf8_lossy(r.as_bytes()).into_owned());
        let reason = reason.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().to_owned());
        return Err(FetchError::Status(format!("{} {reason}", status.as_u16()).trim_end().to_owned()));
    }
    let text = |name| response.headers().get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let gzip = text(header::CONTENT_ENCODING).is_some_and(|e| e == "gzip");
    body::read(response.into_body(), gzip, limit, body).await?;
    Ok(content_type)
}

#[cfg(test)]
mod tests;
