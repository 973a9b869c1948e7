//! Proxies between a client and its hosts.

use std::fmt;

use super::Secret;
use crate::decode::{Field, Fields};

/// How hosts are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyConfig {
    /// Through whom.
    pub via: Via,
    /// Headers of requests to proxies for a tunnel, by ascending name.
    pub connect_headers: Vec<(String, Vec<Secret>)>,
}

/// Through whom hosts are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Via {
    /// Nobody.
    #[default]
    Nobody,
    /// Whom `HTTP_PROXY` and `HTTPS_PROXY` of the environment name, but for hosts of `NO_PROXY`.
    Environment,
    /// This proxy, but for the hosts of a list like that of `NO_PROXY`.
    Proxy {
        /// The proxy.
        proxy: ProxyUrl,
        /// Hosts that are reached without it; absent means none.
        except: Option<String>,
    },
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// How it is spoken to.
    pub scheme: ProxyScheme,
    /// Host and, where given, port.
    pub authority: String,
    /// User name and password.
    pub user: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyScheme {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS 5; the proxy looks names up.
    Socks5,
}

const SCHEMES: [(&str, ProxyScheme); 4] = [
    ("http", ProxyScheme::Http),
    ("https", ProxyScheme::Https),
    ("socks5", ProxyScheme::Socks5),
    ("socks5h", ProxyScheme::Socks5),
];

impl ProxyScheme {
    fn as_str(self) -> &'static str {
        SCHEMES.iter().find(|(_, scheme)| *scheme == self).map_or("http", |(name, _)| name)
    }

    /// The port where none is given.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 => 1080,
        }
    }
}

impl ProxyUrl {
    /// Reads `http://user:password@host:port`; without a scheme it is `http`. `None` if it names no host.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("http", text),
        };
        let scheme = SCHEMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme))?.1;
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let visible = |c: char| c.is_ascii_graphic();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        if host.is_empty() || !authority.chars().all(visible) || port.is_some_and(|p| p.parse::<u16>().is_err()) {
            return None;
        }
        let user = match user {
            None => None,
            Some(user) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                Some((unescaped(name)?, Secret::new(unescaped(password)?)))
            }
        };
        Some(Self { scheme, authority: authority.to_owned(), user })
    }

    /// Host without brackets, and port.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, u16) {
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
            _ => (self.authority.as_str(), None),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        (host, port.unwrap_or(self.scheme.default_port()))
    }
}

/// With the password hidden.
impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        if let Some((name, _)) = &self.user {
            write!(f, "{name}:xxxxx@")?;
        }
        f.write_str(&self.authority)
    }
}

/// Undoes `%41`.
fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// Reads the fields of proxies among those of a client.
pub(super) fn read(fields: &Fields<'_>) -> ProxyConfig {
    let url = fields.get("proxy_url").filter(|f| f.text().is_some_and(|t| !t.is_empty()));
    let except = fields.text("no_proxy");
    let from_environment = fields.bool_or("proxy_from_environment", false);
    let connect_headers = fields.get("proxy_connect_header").map(|f| read_headers(&f)).unwrap_or_default();
    if from_environment && url.is_some() {
        fields.map().rule("if proxy_from_environment is configured, proxy_url must not be configured");
    }
    if from_environment && except.is_some() {
        fields.map().rule("if proxy_from_environment is configured, no_proxy must not be configured");
    }
    if except.is_some() && url.is_none() {
        fields.map().rule("if no_proxy is configured, proxy_url must also be configured");
    }
    if !connect_headers.is_empty() && url.is_none() && !from_environment {
        fields
            .map()
            .rule("if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured");
    }
    let via = match url {
        Some(url) => match ProxyUrl::parse(url.text().unwrap_or_default()) {
            Some(proxy) => Via::Proxy { proxy, except },
            None => {
                // The text may hold a password, so it is not repeated.
                url.rule("not a URL of a proxy like http://proxy:3128 or socks5://proxy:1080");
                Via::Nobody
            }
        },
        None if from_environment => Via::Environment,
        None => Via::Nobody,
    };
    ProxyConfig { via, connect_headers }
}

fn read_headers(field: &Field<'_>) -> Vec<(String, Vec<Secret>)> {
    let mut headers: Vec<_> = field
        .entries()
        .iter()
        .map(|(name, values)| {
            super::check_header_name(name, values);
            let values = values.list().iter().filter_map(super::header_text).map(Secret::new).collect();
            ((*name).to_owned(), values)
        })
        .collect();
    headers.sort_by(|a: &(String, _), b| a.0.cmp(&b.0));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match ProxyUrl::parse(text) {
            None => "none".to_owned(),
            Some(proxy) => {
                let user = proxy.user.as_ref().map(|(name, password)| format!(" {name} {}", password.reveal()));
                format!("{proxy} {:?}{}", proxy.host_and_port(), user.unwrap_or_default())
            }
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn urls_of_proxies_are_read_and_shown_without_password() {
        check("http://p:3128/", "http://p:3128 (\"p\", 3128)");
        check("p", "http://p (\"p\", 80)");
        check("HTTPS://[::1]", "https://[::1] (\"::1\", 443)");
        check("socks5h://u%40x:a%3Ab@[::1]:9", "socks5://u@x:xxxxx@[::1]:9 (\"::1\", 9) u@x a:b");
        for wrong in ["", "ftp://p", "http://", "http://p:x", "http://a%zz@p", "http://p q"] {
            check(wrong, "none");
        }
    }
}
