//! How a connection to a target is made and authorised: the part that all HTTP clients of Prometheus share.
//!
//! Files named here are not read: their content may change while the server runs, so who uses them reads them.

pub mod oauth2;
pub mod proxy;

use std::fmt;
use std::path::PathBuf;

pub use oauth2::OAuth2;
pub use proxy::ProxyConfig;

use crate::decode::{Field, Fields};
use crate::error::Problem;

/// Authorisation, headers and TLS of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpClientConfig {
    /// How requests are authorised.
    pub auth: Auth,
    /// Whether redirects are followed. Credentials and own headers never go to another host.
    pub follow_redirects: bool,
    /// Whether HTTP/2 may be negotiated.
    pub enable_http2: bool,
    /// TLS of `https` connections.
    pub tls: TlsConfig,
    /// Headers added to every request, by ascending name.
    pub headers: Vec<HttpHeader>,
    /// Proxies on the way.
    pub proxy: ProxyConfig,
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            follow_redirects: true,
            enable_http2: true,
            tls: TlsConfig::default(),
            headers: Vec::new(),
            proxy: ProxyConfig::default(),
        }
    }
}

/// How requests are authorised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Basic …`.
    Basic {
        /// User name; absent means empty.
        username: Option<Source<String>>,
        /// Password; absent means empty.
        password: Option<Source<Secret>>,
    },
    /// `Authorization: <kind> <credentials>`.
    Authorization {
        /// `Bearer` unless the configuration says otherwise; never `Basic`.
        kind: String,
        /// What follows the kind.
        credentials: Option<Source<Secret>>,
    },
    /// By a token that another server gives.
    OAuth2(Box<OAuth2>),
}

/// A value given in the configuration or in a file of its own, to be read when used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source<T> {
    /// In the configuration.
    Inline(T),
    /// In this file; white space at its ends does not count.
    File(PathBuf),
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, to be sent and not to be shown.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// What is shown in place of a secret.
pub const SECRET_MASK: &str = "<secret>";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SECRET_MASK)
    }
}

/// A header added to every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpHeader {
    /// Name as configured.
    pub name: String,
    /// Values, each sent as a header line of its own.
    pub values: Vec<HeaderValue>,
}

/// One value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// May be shown.
    Plain(String),
    /// Never shown.
    Secret(Secret),
    /// Content of a file, read when used.
    File(PathBuf),
}

/// TLS of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// Certificate authorities in PEM; absent means those of the machine.
    pub ca: Option<Source<String>>,
    /// Client certificate in PEM; set exactly when `key` is.
    pub cert: Option<Source<String>>,
    /// Key of the client certificate in PEM.
    pub key: Option<Source<Secret>>,
    /// Name to expect in the server's certificate instead of the host of the URL.
    pub server_name: Option<String>,
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
    /// Lowest version to speak; absent means 1.2.
    pub min_version: Option<TlsVersion>,
    /// Highest version to speak; absent means 1.3.
    pub max_version: Option<TlsVersion>,
}

/// Versions of TLS that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

impl TlsVersion {
    /// The name in configuration files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLS12",
            Self::Tls13 => "TLS13",
        }
    }
}

/// Headers that the client sets by itself.
const RESERVED_HEADERS: [&str; 18] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "user-agent",
    "www-authenticate",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-prometheus-remote-read-version",
    "x-prometheus-remote-write-version",
    "x-prometheus-scrape-timeout-seconds",
];

const TLS_VERSIONS: [(&str, Option<TlsVersion>); 4] =
    [("TLS10", None), ("TLS11", None), ("TLS12", Some(TlsVersion::Tls12)), ("TLS13", Some(TlsVersion::Tls13))];

/// Reads the fields of a client among those of a job.
pub(crate) fn read(fields: &Fields<'_>) -> HttpClientConfig {
    HttpClientConfig {
        auth: read_auth(fields),
        follow_redirects: fields.bool_or("follow_redirects", true),
        enable_http2: fields.bool_or("enable_http2", true),
        tls: fields.get("tls_config").and_then(|f| read_tls(&f)).unwrap_or_default(),
        headers: fields.get("http_headers").map(|f| read_headers(&f)).unwrap_or_default(),
        proxy: proxy::read(fields),
    }
}

fn read_auth(fields: &Fields<'_>) -> Auth {
    let basic = fields.get("basic_auth");
    let authorization = fields.get("authorization");
    let oauth2 = fields.get("oauth2");
    let bearer = source(fields, "bearer_token", "bearer_token_file", Secret::new);
    let has_other = authorization.is_some() || bearer.is_some();
    if basic.is_some() && (has_other || oauth2.is_some()) || oauth2.is_some() && has_other {
        fields
            .map()
            .problem(Problem::Exclusive("basic_auth, authorization, oauth2, bearer_token and bearer_token_file"));
    }
    if authorization.is_some() && bearer.is_some() {
        fields.map().rule("authorization is not compatible with bearer_token and bearer_token_file");
    }
    if let Some(basic) = basic {
        return read_basic(&basic);
    }
    if let Some(authorization) = authorization {
        return read_authorization(&authorization);
    }
    if let Some(oauth2) = oauth2 {
        return oauth2::read(&oauth2).map_or(Auth::None, |oauth2| Auth::OAuth2(Box::new(oauth2)));
    }
    match bearer {
        Some(_) => Auth::Authorization { kind: "Bearer".to_owned(), credentials: bearer },
        None => Auth::None,
    }
}

fn read_basic(field: &Field<'_>) -> Auth {
    let Some(fields) = field.fields() else { return Auth::None };
    let username = source(&fields, "username", "username_file", |text| text);
    let password = source(&fields, "password", "password_file", Secret::new);
    fields.finish(&[]);
    Auth::Basic { username, password }
}

fn read_authorization(field: &Field<'_>) -> Auth {
    let Some(fields) = field.fields() else { return Auth::None };
    let kind = fields.text("type").map_or_else(|| "Bearer".to_owned(), |t| t.trim().to_owned());
    if kind.eq_ignore_ascii_case("basic") {
        field.rule("authorization type cannot be set to \"basic\", use \"basic_auth\" instead");
    }
    let credentials = source(&fields, "credentials", "credentials_file", Secret::new);
    fields.finish(&[]);
    Auth::Authorization { kind, credentials }
}

/// A value that stands in the field `inline` or in the file that `file` names, not both.
pub(crate) fn source<T>(
    fields: &Fields<'_>,
    inline: &'static str,
    file: &'static str,
    wrap: fn(String) -> T,
) -> Option<Source<T>> {
    match (fields.text(inline), fields.path_buf(file)) {
        (Some(_), Some(_)) => {
            fields.map().rule(format!("at most one of {inline} and {file} must be configured"));
            None
        }
        (Some(text), None) => Some(Source::Inline(wrap(text))),
        (None, Some(path)) => Some(Source::File(path)),
        (None, None) => None,
    }
}

fn read_tls(field: &Field<'_>) -> Option<TlsConfig> {
    let fields = field.fields()?;
    let tls = TlsConfig {
        ca: source(&fields, "ca", "ca_file", |text| text),
        cert: source(&fields, "cert", "cert_file", |text| text),
        key: source(&fields, "key", "key_file", Secret::new),
        server_name: fields.text("server_name"),
        insecure_skip_verify: fields.bool_or("insecure_skip_verify", false),
        min_version: fields.get("min_version").and_then(|f| read_tls_version(&f)),
        max_version: fields.get("max_version").and_then(|f| read_tls_version(&f)),
    };
    match (&tls.cert, &tls.key) {
        (Some(_), None) => field.rule("a client certificate needs one of key and key_file"),
        (None, Some(_)) => field.rule("a client key needs one of cert and cert_file"),
        _ => {}
    }
    if let (Some(min), Some(max)) = (tls.min_version, tls.max_version)
        && min > max
    {
        field.rule("min_version must not be above max_version");
    }
    fields.finish(&[]);
    Some(tls)
}

pub(crate) fn read_tls_version(field: &Field<'_>) -> Option<TlsVersion> {
    let version = field.one_of(&TLS_VERSIONS)?;
    if version.is_none() {
        field.problem(Problem::NotSupported { name: "TLS below 1.2", reason: "its ciphers are broken" });
    }
    version
}

fn read_headers(field: &Field<'_>) -> Vec<HttpHeader> {
    let mut headers: Vec<_> = field.entries().iter().filter_map(|(name, f)| read_header(name, f)).collect();
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    headers
}

fn read_header(name: &str, field: &Field<'_>) -> Option<HttpHeader> {
    check_header(name, field);
    let fields = field.fields()?;
    let mut values = Vec::new();
    values.extend(fields.list("values").iter().filter_map(|f| header_text(f)).map(HeaderValue::Plain));
    values
        .extend(fields.list("secrets").iter().filter_map(|f| header_text(f)).map(Secret::new).map(HeaderValue::Secret));
    values.extend(fields.list("files").iter().filter_map(Field::path_buf).map(HeaderValue::File));
    fields.finish(&[]);
    Some(HttpHeader { name: name.to_owned(), values })
}

/// Notes a name that no configured header may have.
pub(crate) fn check_header(name: &str, field: &Field<'_>) {
    if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        field.rule(format!("setting header {name:?} is not allowed"));
    }
    check_header_name(name, field);
}

fn check_header_name(name: &str, field: &Field<'_>) {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        field.rule(format!("{name:?} is not a valid header name"));
    }
}

pub(crate) fn header_text(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if text.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        field.rule("a header value must not hold control characters");
    }
    Some(text.to_owned())
}
