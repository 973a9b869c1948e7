//! How a connection to a target is made and authorised: the part that all HTTP clients of Prometheus share.
//!
//! Files named here are not read: their content may change while the server runs, so who uses them reads them.

use std::fmt;
use std::path::PathBuf;

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
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            follow_redirects: true,
            enable_http2: true,
            tls: TlsConfig::default(),
            headers: Vec::new(),
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
