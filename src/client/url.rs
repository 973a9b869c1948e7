//! URLs: put together from parts, read, resolved against redirects.

use std::fmt;

use promontory_config::scrape::Scheme;

/// Where something is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    origin: Origin,
    /// Path and query, escaped.
    path: String,
}

/// Whom a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) tls: bool,
    /// Host and, where given, port: as in the header `Host`.
    pub(crate) authority: String,
}

/// Text that is no URL of the web.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither http nor https.
    #[error("unsupported protocol scheme {0:?}")]
    Scheme(String),
    /// No host, or a port that is none.
    #[error("{0:?} is not a valid hostname")]
    Host(String),
}

impl Url {
    /// The URL of these parts; `path` and `params` are not escaped yet, parameters come in ascending order of name.
    ///
    /// # Errors
    /// [`UrlError`] if `scheme` or `authority` is none.
    pub fn new(scheme: &str, authority: &str, path: &str, params: &[(String, Vec<String>)]) -> Result<Self, UrlError> {
        let mut escaped = String::with_capacity(path.len() + 1);
        if !path.starts_with('/') {
            escaped.push('/');
        }
        escape(path, b"-_.~$&+,/:;=@", false, &mut escaped);
        let mut separator = '?';
        for (name, values) in params {
            for value in values {
                escaped.push(separator);
                escape(name, b"-_.~", true, &mut escaped);
                escaped.push('=');
                escape(value, b"-_.~", true, &mut escaped);
                separator = '&';
            }
        }
        Ok(Self { origin: Origin::new(scheme, authority)?, path: escaped })
    }

    /// Reads `http://host:port/path?query`, already escaped.
    ///
    /// # Errors
    /// [`UrlError`] if it is no URL of the web.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.split('#').next().unwrap_or_default();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| UrlError::Scheme(String::new()))?;
        Self::of_authority(&scheme.to_ascii_lowercase(), rest)
    }

    /// This URL with `path` after its own path and `params` as its query; neither is escaped yet.
    #[must_use]
    pub fn with(&self, path: &str, params: &[(&str, &str)]) -> Self {
        let own = self.path.split('?').next().unwrap_or_default();
        let mut all = own.trim_end_matches('/').to_owned();
        escape(path, b"-_.~$&+,/:;=@", false, &mut all);
        if !params.is_empty() {
            all.push('?');
            put_form(params, &mut all);
        }
        if all.is_empty() || all.starts_with('?') {
            all.insert(0, '/');
        }
        Self { origin: self.origin.clone(), path: all }
    }

    /// This URL with `part` after its own path: one part of it, in which slashes are escaped too.
    #[must_use]
    pub fn with_part(&self, part: &str) -> Self {
        let mut path = self.path.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        path.push('/');
        escape(part, b"-_.~", false, &mut path);
        Self { origin: self.origin.clone(), path }
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.origin.tls { Scheme::Https.as_str() } else { Scheme::Http.as_str() }
    }

    /// Host and, where given, port.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.origin.authority
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Where `location`, the header of a redirect, leads from here.
    pub(crate) fn join(&self, location: &str) -> Result<Self, UrlError> {
        let location = location.split('#').next().unwrap_or_default();
        if let Some((scheme, rest)) = location.split_once("://")
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Self::of_authority(&scheme.to_ascii_lowercase(), rest);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::of_authority(self.scheme(), rest);
        }
        let base = self.path.split('?').next().unwrap_or_default();
        let path = match location.as_bytes().first() {
            None => self.path.clone(),
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{base}{location}"),
            Some(_) => format!("{}/{location}", base.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Ok(Self { origin: self.origin.clone(), path })
    }

    fn of_authority(scheme: &str, rest: &str) -> Result<Self, UrlError> {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { origin: Origin::new(scheme, authority)?, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.origin.authority, self.path)
    }
}

impl Origin {
    fn new(scheme: &str, authority: &str) -> Result<Self, UrlError> {
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(UrlError::Scheme(scheme.to_owned())),
        };
        let origin = Self { tls, authority: authority.to_owned() };
        if origin.parts().is_none() {
            return Err(UrlError::Host(authority.to_owned()));
        }
        Ok(origin)
    }

    /// Whether the host is this machine, whose connections cost less than what would make their bytes fewer.
    pub(crate) fn is_here(&self) -> bool {
        let host = self.host_and_port().0;
        host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Host without brackets, and port.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        self.parts().unwrap_or((&self.authority, self.default_port()))
    }

    fn default_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }

    fn parts(&self) -> Option<(&str, u16)> {
        let authority = self.authority.as_str();
        let visible = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '@' | '?' | '#');
        if authority.is_empty() || !authority.chars().all(visible) {
            return None;
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None | Some("") => self.default_port(),
            Some(port) => port.parse().ok()?,
        };
        (!host.is_empty()).then_some((host, port))
    }
}

/// `a=b&c=d`, escaped, as forms and queries are.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    put_form(fields, &mut out);
    out
}

/// `text` as it stands in a form.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(text, b"-_.~", true, &mut out);
    out
}

fn put_form(fields: &[(&str, &str)], out: &mut String) {
    for (i, (name, value)) in fields.iter().enumerate() {
        if i > 0 {
            out.push('&');
        }
        escape(name, b"-_.~", true, out);
        out.push('=');
        escape(value, b"-_.~", true, out);
    }
}

fn escape(text: &str, kept: &[u8], plus: bool, out: &mut String) {
    use fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else if plus && byte == b' ' {
            out.push('+');
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_escaped() {
        let params =
            [("a b".to_owned(), vec!["1/2".to_owned(), "é".to_owned()]), ("c".to_owned(), vec![String::new()])];
        let url = Url::new("http", "h:1", "/m x?", &params).unwrap();
        assert_eq!(url.to_string(), "http://h:1/m%20x%3F?a+b=1%2F2&a+b=%C3%A9&c=");
        assert_eq!(Url::new("https", "h", "metrics", &[]).unwrap().to_string(), "https://h/metrics");
    }

    #[track_caller]
    fn check_host(scheme: &str, authority: &str, expected: &str) {
        let got = match Url::new(scheme, authority, "/", &[]) {
            Ok(url) => format!("{:?}", url.origin().host_and_port()),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected, "{authority}");
    }

    #[test]
    fn hosts_have_default_ports() {
        check_host("http", "h", "(\"h\", 80)");
        check_host("https", "h", "(\"h\", 443)");
        check_host("http", "[::1]:9100", "(\"::1\", 9100)");
        check_host("http", "h:", "(\"h\", 80)");
        check_host("http", "h:x", "\"h:x\" is not a valid hostname");
        check_host("http", "h/x", "\"h/x\" is not a valid hostname");
        check_host("http", "", "\"\" is not a valid hostname");
        check_host("ftp", "h", "unsupported protocol scheme \"ftp\"");
    }

    #[track_caller]
    fn check_parse(text: &str, expected: &str) {
        assert_eq!(Url::parse(text).map(|u| u.to_string()).unwrap_or_else(|e| e.to_string()), expected, "{text}");
    }

    #[test]
    fn urls_are_read_and_continued() {
        check_parse("HTTPS://h:1/a?b=c#d", "https://h:1/a?b=c");
        check_parse("http://h", "http://h/");
        check_parse("h:1/x", "unsupported protocol scheme \"\"");
        check_parse("http://u:p@h/", "\"u:p@h\" is not a valid hostname");
        let url = Url::parse("http://h:1/base/?x=y").unwrap();
        assert_eq!(
            url.with("/v1/a b", &[("q", "a=b c"), ("r", "")]).to_string(),
            "http://h:1/base/v1/a%20b?q=a%3Db+c&r="
        );
        assert_eq!(Url::parse("http://h").unwrap().with("", &[("q", "1")]).to_string(), "http://h/?q=1");
        assert_eq!(url.with_part("a:b/c d").with("/e", &[]).to_string(), "http://h:1/base/a%3Ab%2Fc%20d/e");
    }

    #[track_caller]
    fn check_join(location: &str, expected: &str) {
        let url = Url::new("http", "h:1", "/a/b", &[("c".to_owned(), vec!["d".to_owned()])]).unwrap();
        assert_eq!(url.join(location).map(|u| u.to_string()).unwrap_or_else(|e| e.to_string()), expected);
    }

    #[test]
    fn redirects_resolve() {
        check_join("https://x/y?z#f", "https://x/y?z");
        check_join("HTTP://x", "http://x/");
        check_join("//x:2/y", "http://x:2/y");
        check_join("/y", "http://h:1/y");
        check_join("y", "http://h:1/a/y");
        check_join("?y", "http://h:1/a/b?y");
        check_join("ftp://x/", "unsupported protocol scheme \"ftp\"");
    }
}
