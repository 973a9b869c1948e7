//! The HTTP client of all parts: HTTP/1.1 or, where TLS agrees on it, HTTP/2, over connections that belong to one asker
//! and are kept alive, straight or through a proxy.
//!
//! A body is never held beyond its limit, compressed or not. A kept connection that dies before the first byte of an
//! answer is replaced once; nothing else is retried. Credentials and configured headers never follow a redirect to
//! another host. Time is limited by the caller.

mod body;
mod connection;
mod oauth2;
mod plain;
mod proxy;
mod tls;
mod url;

#[cfg(test)]
pub(crate) mod testing;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use promontory_config::http_client::{self as config, Auth, HttpClientConfig, Source};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use body::{BodyError, DEFAULT_BODY_BYTES_MAX};
use connection::Connection;
pub use oauth2::OAuth2Error;
use oauth2::Tokens;
pub(crate) use oauth2::{Tokens as OAuth2Tokens, signed_token, unique};
pub use plain::AnswerError;
use plain::{Head, Plain};
use proxy::Proxies;
pub use proxy::ProxyError;
use tls::Tls;
pub use tls::TlsError;
use url::Origin;
pub use url::{Url, UrlError};

/// Redirects followed from one request.
const REDIRECTS_MAX: usize = 10;
/// Kept connections of one client: that of its target and those that redirects lead to.
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

/// Connects to a Unix socket, whatever the host.
#[derive(Debug, Clone)]
pub struct UnixConnector(pub PathBuf);

impl Connector for UnixConnector {
    fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let stream = tokio::net::UnixStream::connect(&self.0).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// What all clients of a job share: how to connect and what to send.
#[derive(Debug)]
pub struct JobClient {
    connector: Arc<dyn Connector>,
    http: HttpClientConfig,
    tls: Tls,
    proxies: Proxies,
    tokens: Option<Box<Tokens>>,
    offer: Offer,
}

/// Which answers are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The header `Accept`.
    pub accept: String,
    /// Whether answers may be compressed; those of this machine are not.
    pub gzip: bool,
    /// Bytes of the uncompressed body; one of exactly this size fails too.
    /// [`DEFAULT_BODY_BYTES_MAX`] where there is none.
    pub body_bytes_max: Option<u64>,
}

impl JobClient {
    /// Connects with `connector` as `http` says.
    #[must_use]
    pub fn new(http: HttpClientConfig, offer: Offer, connector: Arc<dyn Connector>) -> Self {
        let tokens = match &http.auth {
            Auth::OAuth2(oauth2) => Some(Box::new(Tokens::new((**oauth2).clone(), connector.clone()))),
            _ => None,
        };
        let proxies = Proxies::new(&http.proxy, |name| std::env::var(name).ok());
        Self { connector, tls: Tls::new(http.tls.clone(), http.enable_http2), proxies, tokens, http, offer }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    /// `GET` unless set.
    pub method: Method,
    /// Whom and what to ask.
    pub url: Url,
    /// Headers besides those of the job, which they replace; not sent to other hosts.
    pub headers: HeaderMap,
    /// Sent with the request; empty is none.
    pub body: Bytes,
}

impl Call {
    /// Asks for what is at `url`.
    #[must_use]
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// Sends `body` of this `Content-Type` to `url`.
    #[must_use]
    pub fn post(url: Url, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut call = Self { method: Method::POST, body: body.into(), ..Self::get(url) };
        call.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        call
    }

    /// Sends the form `fields` to `url`.
    #[must_use]
    pub fn form(url: Url, fields: &[(&str, &str)]) -> Self {
        Self::post(url, "application/x-www-form-urlencoded", url::form(fields))
    }

    /// Adds a header; `value` is not shown.
    ///
    /// # Errors
    /// [`FetchError::Header`] if HTTP does not allow `value`.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self, FetchError> {
        let mut value = HeaderValue::from_str(value).map_err(|_| FetchError::Header(name.to_owned()))?;
        value.set_sensitive(true);
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    fn asked(&self) -> Asked {
        Asked(Box::new((self.method.clone(), self.url.clone())))
    }
}

/// A request that is sent again and again.
#[derive(Debug)]
pub struct Prepared {
    call: Call,
    /// As it is sent, where nothing of it has to be read anew each time.
    bytes: Option<Vec<u8>>,
}

/// A page that was fetched into a buffer.
#[derive(Debug)]
pub struct Page {
    /// The header `Content-Type`.
    pub content_type: String,
    /// Where it begins in the buffer, to whose end it goes.
    pub start: usize,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Status in the server's words, like `404 Not Found`.
    pub reason: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, decompressed.
    pub body: Vec<u8>,
}

/// An answer whose body still arrives. Dropping it ends its connection.
#[derive(Debug)]
pub struct Arriving {
    response: Response<Incoming>,
    connection: Connection,
}

impl Arriving {
    /// Status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`FetchError::Body`] if the connection broke.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            match self.connection.driver().drive(self.response.body_mut().frame()).await {
                None => return Ok(None),
                Some(Err(e)) => return Err(BodyError::Read(e).into()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// What was asked, as errors begin: `Get "http://h:1/metrics"`.
#[derive(Debug, Clone)]
pub struct Asked(Box<(Method, Url)>);

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, url) = &*self.0;
        let (first, rest) = method.as_str().split_at(1);
        write!(f, "{first}{} \"{url}\"", rest.to_ascii_lowercase())
    }
}

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error("{asked}: dial tcp {authority}: {}", Dial(source))]
    Connect {
        /// What was asked.
        asked: Asked,
        /// Where to.
        authority: String,
        /// The system's error.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("{asked}: {source}")]
    Tls {
        /// What was asked.
        asked: Asked,
        /// What is wrong.
        source: TlsError,
    },
    /// The peers could not agree on TLS.
    #[error("{asked}: tls: {source}")]
    Handshake {
        /// What was asked.
        asked: Asked,
        /// What went wrong.
        source: io::Error,
    },
    /// A proxy on the way does not let us through.
    #[error("{asked}: {source}")]
    Proxy {
        /// What was asked.
        asked: Asked,
        /// What went wrong.
        source: ProxyError,
    },
    /// There is no token to ask with.
    #[error("{asked}: {source}")]
    Token {
        /// What was asked.
        asked: Asked,
        /// Why not.
        source: Box<OAuth2Error>,
    },
    /// The exchange failed before the answer.
    #[error("{asked}: {}", Chain(source))]
    Exchange {
        /// What was asked.
        asked: Asked,
        /// What went wrong.
        source: hyper::Error,
    },
    /// What came is no answer.
    #[error("{asked}: {source}")]
    Answer {
        /// What was asked.
        asked: Asked,
        /// What is wrong with it.
        source: AnswerError,
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
    #[error("{asked}: redirect to {location:?}: {source}")]
    Redirect {
        /// What was asked.
        asked: Asked,
        /// What was answered.
        location: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// Redirects without end.
    #[error("{0}: stopped after {REDIRECTS_MAX} redirects")]
    Redirects(Asked),
    /// The answer is not what was asked for.
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// The body cannot be taken.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Not done in time.
    #[error("{0}: context deadline exceeded")]
    Timeout(Asked),
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

/// The connections of one asker.
#[derive(Debug, Default)]
pub struct Client {
    kept: Vec<(Origin, Connection)>,
    /// That over which pages are fetched straight.
    plain: Option<(Origin, Plain)>,
    /// Whether a page was elsewhere.
    is_led_on: bool,
}

impl Client {
    /// A client without connections.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks `call` within `timeout` and reads the answer into `body`, replacing its content; answers with the header
    /// `Content-Type`. Any status but 200 is an error.
    ///
    /// # Errors
    /// [`FetchError`]; `body` then holds nothing that means something.
    pub async fn fetch(
        &mut self,
        job: &JobClient,
        call: &Call,
        timeout: Duration,
        body: &mut Vec<u8>,
    ) -> Result<String, FetchError> {
        let page = self.fetch_call(job, call, None, timeout, body).await?;
        body.drain(..page.start);
        Ok(page.content_type)
    }

    /// As [`Client::fetch`], asking what `job` has prepared.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn fetch_prepared(
        &mut self,
        job: &JobClient,
        prepared: &Prepared,
        timeout: Duration,
        body: &mut Vec<u8>,
    ) -> Result<Page, FetchError> {
        self.fetch_call(job, &prepared.call, prepared.bytes.as_deref(), timeout, body).await
    }

    async fn fetch_call(
        &mut self,
        job: &JobClient,
        call: &Call,
        bytes: Option<&[u8]>,
        timeout: Duration,
        body: &mut Vec<u8>,
    ) -> Result<Page, FetchError> {
        let asked = async {
            if (bytes.is_some() || job.is_straight(call))
                && !self.is_led_on
                && let Some(page) = self.fetch_straight(job, call, bytes, body).await?
            {
                return Ok(page);
            }
            let (response, mut connection, origin) = self.follow(job, call).await?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status(status_text(&response)));
            }
            let content_type = response.headers().get(header::CONTENT_TYPE);
            let content_type = content_type.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
            connection.driver().drive(take(response, job.offer.body_bytes_max, body)).await?;
            self.keep(origin, connection);
            Ok(Page { content_type: content_type.unwrap_or_default(), start: 0 })
        };
        let result = tokio::time::timeout(timeout, asked).await;
        result.unwrap_or_else(|_| self.gave_up(call))
    }

    /// Asks `call` within `timeout` and reads the whole answer, of whatever status.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn send(&mut self, job: &JobClient, call: &Call, timeout: Duration) -> Result<Answer, FetchError> {
        let asked = async {
            let (response, mut connection, origin) = self.follow(job, call).await?;
            let (status, reason) = (response.status(), status_text(&response));
            let headers = response.headers().clone();
            let mut body = Vec::new();
            connection.driver().drive(take(response, job.offer.body_bytes_max, &mut body)).await?;
            self.keep(origin, connection);
            Ok(Answer { status, reason, headers, body })
        };
        let result = tokio::time::timeout(timeout, asked).await;
        result.unwrap_or_else(|_| self.gave_up(call))
    }

    /// Asks `call` over a connection of its own and answers, within `timeout`, as soon as the head of the answer is
    /// there: for bodies that arrive piece by piece. Nothing is decompressed.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn open(job: &JobClient, call: &Call, timeout: Duration) -> Result<Arriving, FetchError> {
        let mut client = Self::new();
        match tokio::time::timeout(timeout, client.follow(job, call)).await {
            Ok(result) => result.map(|(response, connection, _)| Arriving { response, connection }),
            Err(_) => client.gave_up(call),
        }
    }

    /// As [`Client::fetch`], over a connection that leads to the host without anything between; `None` if the page is
    /// elsewhere, which is then remembered.
    async fn fetch_straight(
        &mut self,
        job: &JobClient,
        call: &Call,
        bytes: Option<&[u8]>,
        body: &mut Vec<u8>,
    ) -> Result<Option<Page>, FetchError> {
        let origin = call.url.origin();
        let made;
        let request = match bytes {
            Some(bytes) => bytes,
            None => {
                made = request_bytes(call, &job.headers(call, true).await?)?;
                &made
            }
        };
        let (mut plain, mut head) = self.ask_straight(job, call, request, body).await?;
        if is_redirect(head.status) && job.http.follow_redirects && head.has_location {
            self.is_led_on = true;
            let drained = plain.read(&mut head, DRAINED_BYTES_MAX, || BodyError::Limit, body).await;
            if drained.is_ok()
                && head.stays
                && let Ok(connection) = connection::over(plain.into_stream(), None).await
            {
                self.keep(origin.clone(), connection);
            }
            return Ok(None);
        }
        if head.status != StatusCode::OK {
            return Err(FetchError::Status(status_line(head.status, &head.reason)));
        }
        let limit = job.offer.body_bytes_max;
        plain.read(&mut head, body::bytes_max(limit), || body::over(limit), body).await?;
        let mut start = head.end;
        if head.compression != body::Compression::None {
            let compressed = body[start..].to_vec();
            body::inflate(&compressed, head.compression, limit, body)?;
            start = 0;
        }
        if head.stays {
            self.plain = Some((origin.clone(), plain));
        }
        Ok(Some(Page { content_type: head.content_type.unwrap_or_default(), start }))
    }

    /// Sends the request over the kept connection, or over a new one if there is none or it has died unused.
    async fn ask_straight(
        &mut self,
        job: &JobClient,
        call: &Call,
        request: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(Plain, Head), FetchError> {
        let failed = |source| FetchError::Answer { asked: call.asked(), source };
        if let Some((origin, mut plain)) = self.plain.take()
            && origin == *call.url.origin()
            && !plain.is_spent()
        {
            match plain.ask(request, out).await {
                Ok(head) => return Ok((plain, head)),
                Err(AnswerError::Unanswered(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let mut plain = Plain::new(connection::dial(job, call).await?);
        let head = plain.ask(request, out).await.map_err(failed)?;
        Ok((plain, head))
    }

    /// A connection that did not answer in time is not used again.
    fn gave_up<T>(&mut self, call: &Call) -> Result<T, FetchError> {
        self.kept.clear();
        Err(FetchError::Timeout(call.asked()))
    }

    /// Sends `call`, and what redirects ask for, until there is an answer.
    async fn follow(
        &mut self,
        job: &JobClient,
        first: &Call,
    ) -> Result<(Response<Incoming>, Connection, Origin), FetchError> {
        let mut call = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let (origin, own) = (call.url.origin(), first.url.origin());
            // What was meant for TLS does not go over plain text, even to the same host.
            let trusted = origin.authority == own.authority && (origin.tls || !own.tls);
            let headers = job.headers(&call, trusted).await?;
            let (response, mut connection) = self.exchange(job, &call, &headers).await?;
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).map(str::to_owned);
            match location {
                Some(location) if is_redirect(response.status()) && job.http.follow_redirects => {
                    let origin = call.url.origin().clone();
                    call.url = call.url.join(&location).map_err(|source| FetchError::Redirect {
                        asked: call.asked(),
                        location,
                        source,
                    })?;
                    if !matches!(response.status().as_u16(), 307 | 308) && call.method != Method::GET {
                        call.method = Method::GET;
                        call.body = Bytes::new();
                    }
                    if connection.driver().drive(drain(response.into_body())).await {
                        self.keep(origin, connection);
                    }
                }
                _ => return Ok((response, connection, call.url.origin().clone())),
            }
        }
        Err(FetchError::Redirects(first.asked()))
    }

    /// Sends the request over the kept connection, or over a new one if there is none or it has died unused.
    async fn exchange(
        &mut self,
        job: &JobClient,
        call: &Call,
        headers: &HeaderMap,
    ) -> Result<(Response<Incoming>, Connection), FetchError> {
        if let Some(mut kept) = self.take_kept(call.url.origin())
            && kept.is_ready().await
            && let Ok(response) = kept.send(request(call, headers)?).await
        {
            return Ok((response, kept));
        }
        let mut connection = connection::connect(job, call).await?;
        let answer = connection.send(request(call, headers)?).await;
        let response = answer.map_err(|source| FetchError::Exchange { asked: call.asked(), source })?;
        Ok((response, connection))
    }

    fn take_kept(&mut self, origin: &Origin) -> Option<Connection> {
        let i = self.kept.iter().position(|(known, _)| known == origin)?;
        Some(self.kept.swap_remove(i).1)
    }

    fn keep(&mut self, origin: Origin, connection: Connection) {
        if connection.is_closed() {
            return;
        }
        if self.kept.len() == CONNECTIONS_MAX {
            self.kept.remove(0);
        }
        self.kept.push((origin, connection));
    }
}

impl JobClient {
    /// Makes `call` ready to be sent again and again.
    ///
    /// # Errors
    /// [`FetchError::Header`] if HTTP does not allow a header.
    pub async fn prepare(&self, call: Call) -> Result<Prepared, FetchError> {
        let bytes = if self.is_fixed() && self.is_straight(&call) {
            Some(request_bytes(&call, &self.headers(&call, true).await?)?)
        } else {
            None
        };
        Ok(Prepared { call, bytes })
    }

    /// Whether headers are the same for each request: none is read from a file or asked for.
    fn is_fixed(&self) -> bool {
        fn is_file<T>(source: Option<&Source<T>>) -> bool {
            matches!(source, Some(Source::File(_)))
        }
        let is_read = match &self.http.auth {
            Auth::None => false,
            Auth::OAuth2(_) => true,
            Auth::Basic { username, password } => is_file(username.as_ref()) || is_file(password.as_ref()),
            Auth::Authorization { credentials, .. } => is_file(credentials.as_ref()),
        };
        let mut values = self.http.headers.iter().flat_map(|header| &header.values);
        !is_read && !values.any(|value| matches!(value, config::HeaderValue::File(_)))
    }

    /// Whether nothing stands between us and the page that `call` wants.
    fn is_straight(&self, call: &Call) -> bool {
        let origin = call.url.origin();
        !origin.tls && call.method == Method::GET && call.body.is_empty() && self.proxies.to(origin).is_none()
    }

    async fn headers(&self, call: &Call, trusted: bool) -> Result<HeaderMap, FetchError> {
        let mut headers = HeaderMap::new();
        let value =
            |name: &str, text: &str| HeaderValue::from_str(text).map_err(|_| FetchError::Header(name.to_owned()));
        headers.insert(header::ACCEPT, value("Accept", &self.offer.accept)?);
        let origin = call.url.origin();
        let is_near = origin.is_here() && self.proxies.to(origin).is_none();
        // What inflates fastest here is wanted most.
        let encoding = if self.offer.gzip && !is_near { "gzip, zstd;q=0.5" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("Promontory/", env!("CARGO_PKG_VERSION"))));
        if !trusted {
            return Ok(headers);
        }
        if let Some(authorization) = self.authorization(call).await? {
            let mut authorization = value("Authorization", &authorization)?;
            authorization.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, authorization);
        }
        for (name, value) in &call.headers {
            headers.insert(name, value.clone());
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

    /// The header `Authorization`; files are read for each request.
    async fn authorization(&self, call: &Call) -> Result<Option<String>, FetchError> {
        if let Some(tokens) = &self.tokens {
            let header = tokens.header().await;
            return header
                .map(Some)
                .map_err(|source| FetchError::Token { asked: call.asked(), source: Box::new(source) });
        }
        match &self.http.auth {
            Auth::None | Auth::OAuth2(_) => Ok(None),
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

fn request(call: &Call, headers: &HeaderMap) -> Result<Request<Full<Bytes>>, FetchError> {
    let request = Request::builder().method(&call.method).uri(call.url.path()).body(Full::new(call.body.clone()));
    let mut request = request.map_err(|_| FetchError::Header("path".to_owned()))?;
    *request.headers_mut() = headers.clone();
    let host =
        HeaderValue::from_str(&call.url.origin().authority).map_err(|_| FetchError::Header("Host".to_owned()))?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

/// The request as it is sent.
fn request_bytes(call: &Call, headers: &HeaderMap) -> Result<Vec<u8>, FetchError> {
    let (path, host) = (call.url.path(), &call.url.origin().authority);
    let is_sent = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if !is_sent(path) {
        return Err(FetchError::Header("path".to_owned()));
    }
    if HeaderValue::from_str(host).is_err() {
        return Err(FetchError::Header("Host".to_owned()));
    }
    let mut out = Vec::with_capacity(512);
    for part in ["GET ", path, " HTTP/1.1\r\nhost: ", host] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers.iter().filter(|(name, _)| *name != header::HOST) {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
    Ok(out)
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

/// `503 Service Unavailable`, in the server's own words where it has some.
fn status_text(response: &Response<Incoming>) -> String {
    let status = response.status();
    let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let reason = reason.map(|r| String::from_utf8_lossy(r.as_bytes()).into_owned());
    let reason = reason.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().to_owned());
    status_line(status, &reason)
}

fn status_line(status: StatusCode, reason: &str) -> String {
    format!("{} {reason}", status.as_u16()).trim_end().to_owned()
}

async fn take(response: Response<Incoming>, limit: Option<u64>, body: &mut Vec<u8>) -> Result<(), FetchError> {
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    let compression = encoding.map_or(body::Compression::None, |e| body::Compression::of(e.as_bytes()));
    Ok(body::read(response.into_body(), compression, limit, body).await?)
}

#[cfg(test)]
mod tests;
