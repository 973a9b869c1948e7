//! Proxies: which host is reached through one, and how a tunnel is asked for.

use std::io;
use std::net::IpAddr;

use base64::Engine as _;
use promontory_config::http_client::ProxyConfig;
use promontory_config::http_client::proxy::{ProxyScheme, ProxyUrl, Via};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Stream;
use super::url::Origin;

/// Bytes of a proxy's answer before the tunnel begins.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// The proxies of a client, decided on once.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    plain: Option<ProxyUrl>,
    tls: Option<ProxyUrl>,
    except: Exceptions,
    connect_headers: Vec<(String, String)>,
}

/// A tunnel that a proxy does not open.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No connection to it, or one that breaks.
    #[error("proxyconnect tcp: {0}")]
    Io(#[source] io::Error),
    /// It says no.
    #[error("proxy refuses the tunnel: {0}")]
    Refused(String),
    /// What it says is not its protocol.
    #[error("proxy answers with something else than its protocol")]
    Garbage,
}

impl From<io::Error> for ProxyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Proxies {
    /// The proxies of `config`; `env` looks variables of the environment up.
    pub(super) fn new(config: &ProxyConfig, env: impl Fn(&str) -> Option<String>) -> Self {
        let connect_headers = config.connect_headers.iter();
        let connect_headers = connect_headers
            .flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.reveal().to_owned())))
            .collect();
        let either = |name: &str| env(name).or_else(|| env(&name.to_ascii_lowercase())).filter(|v| !v.is_empty());
        let proxy = |name: &str| {
            let text = either(name)?;
            let proxy = ProxyUrl::parse(&text);
            if proxy.is_none() {
                tracing::warn!(variable = name, "the environment names a proxy that is none");
            }
            proxy
        };
        match &config.via {
            Via::Nobody => Self::default(),
            Via::Environment => Self {
                plain: proxy("HTTP_PROXY"),
                tls: proxy("HTTPS_PROXY"),
                except: Exceptions::parse(&either("NO_PROXY").unwrap_or_default()),
                connect_headers,
            },
            Via::Proxy { proxy, except } => Self {
                plain: Some(proxy.clone()),
                tls: Some(proxy.clone()),
                except: except.as_deref().map(Exceptions::parse).unwrap_or_default(),
                connect_headers,
            },
        }
    }

    /// The proxy on the way to `origin`.
    pub(super) fn to(&self, origin: &Origin) -> Option<&ProxyUrl> {
        let (host, port) = origin.host_and_port();
        let proxy = if origin.tls { self.tls.as_ref() } else { self.plain.as_ref() };
        proxy.filter(|_| !self.except.has(host, port))
    }

    /// Opens a tunnel to `origin` over a connection to `proxy`.
    pub(super) async fn tunnel(
        &self,
        proxy: &ProxyUrl,
        origin: &Origin,
        stream: &mut Box<dyn Stream>,
    ) -> Result<(), ProxyError> {
        let (host, port) = origin.host_and_port();
        match proxy.scheme {
            ProxyScheme::Socks5 => socks5(proxy, host, port, stream).await,
            ProxyScheme::Http | ProxyScheme::Https => self.connect(proxy, host, port, stream).await,
        }
    }

    async fn connect(
        &self,
        proxy: &ProxyUrl,
        host: &str,
        port: u16,
        stream: &mut Box<dyn Stream>,
    ) -> Result<(), ProxyError> {
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        for (name, value) in &self.connect_headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(authorization) = authorization(proxy) {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        // Byte by byte, because what follows belongs to the tunnel; it is a few dozen.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == ANSWER_BYTES_MAX {
                return Err(ProxyError::Garbage);
            }
            answer.push(stream.read_u8().await?);
        }
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.lines().next().and_then(|line| line.strip_prefix("HTTP/1.")).and_then(|rest| rest.get(2..));
        match status {
            Some(status) if status.starts_with("200") => Ok(()),
            Some(status) => Err(ProxyError::Refused(status.trim().to_owned())),
            None => Err(ProxyError::Garbage),
        }
    }
}

/// The header `Proxy-Authorization`.
pub(super) fn authorization(proxy: &ProxyUrl) -> Option<String> {
    let (name, password) = proxy.user.as_ref()?;
    let pair = format!("{name}:{}", password.reveal());
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// # Source
/// RFC 1928 and, for user names, RFC 1929.
async fn socks5(proxy: &ProxyUrl, host: &str, port: u16, stream: &mut Box<dyn Stream>) -> Result<(), ProxyError> {
    const NO_AUTHENTICATION: u8 = 0;
    const USER_NAME: u8 = 2;
    let short = |text: &str| u8::try_from(text.len()).map_err(|_| ProxyError::Refused("name too long".to_owned()));
    let method = if proxy.user.is_some() { USER_NAME } else { NO_AUTHENTICATION };
    stream.write_all(&[5, 1, method]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    match chosen {
        [5, m] if m == method => {}
        [5, 0xff] => return Err(ProxyError::Refused("no acceptable authentication".to_owned())),
        _ => return Err(ProxyError::Garbage),
    }
    if let Some((name, password)) = &proxy.user {
        let password = password.reveal();
        let mut request = vec![1, short(name)?];
        request.extend_from_slice(name.as_bytes());
        request.push(short(password)?);
        request.extend_from_slice(password.as_bytes());
        stream.write_all(&request).await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        if answer[1] != 0 {
            return Err(ProxyError::Refused("wrong user name or password".to_owned()));
        }
    }
    let mut request = vec![5, 1, 0];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
        Err(_) => {
            request.extend_from_slice(&[3, short(host)?]);
            request.extend_from_slice(host.as_bytes());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    let address_len = match answer {
        [5, 0, _, 1] => 4,
        [5, 0, _, 4] => 16,
        [5, 0, _, 3] => usize::from(stream.read_u8().await?),
        [5, code, ..] => return Err(ProxyError::Refused(format!("code {code}"))),
        _ => return Err(ProxyError::Garbage),
    };
    let mut bound = vec![0; address_len + 2];
    stream.read_exact(&mut bound).await?;
    Ok(())
}

/// Hosts that are reached without a proxy.
///
/// # Source
/// Go's `golang.org/x/net/http/httpproxy`: names stand for their subdomains too, with a dot before them for these
/// alone; addresses, networks and ports may be named; `*` is all; the machine itself always is one.
#[derive(Debug, Default)]
struct Exceptions(Option<Vec<Exception>>);

#[derive(Debug)]
enum Exception {
    All,
    Address(IpAddr, Option<u16>),
    Network(IpAddr, u32),
    Name { suffix: String, itself: bool, port: Option<u16> },
}

impl Exceptions {
    fn parse(list: &str) -> Self {
        Self(Some(list.split(',').map(str::trim).filter(|e| !e.is_empty()).filter_map(Exception::parse).collect()))
    }

    fn has(&self, host: &str, port: u16) -> bool {
        let Some(list) = &self.0 else { return false };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let ip: Option<IpAddr> = host.parse().ok();
        let is_own = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        let of_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        is_own
            || list.iter().any(|exception| match exception {
                Exception::All => true,
                Exception::Address(address, wanted) => ip == Some(*address) && of_port(wanted),
                Exception::Network(network, bits) => ip.is_some_and(|ip| is_in(ip, *network, *bits)),
                Exception::Name { suffix, itself, port } => {
                    let is_named = host.ends_with(suffix.as_str()) || *itself && host == suffix[1..];
                    is_named && of_port(port)
                }
            })
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((network, bits)) = text.split_once('/') {
            return Some(Self::Network(network.parse().ok()?, bits.parse().ok()?));
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
            return Some(Self::Address(ip, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            return Some(Self::Address(ip, port));
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let itself = !host.starts_with('.');
        let suffix = if itself { format!(".{host}") } else { host.to_owned() };
        (suffix.len() > 1).then_some(Self::Name { suffix, itself, port })
    }
}

fn is_in(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    let shifted = |value: u128, width: u32| value.checked_shr(width.saturating_sub(bits)).unwrap_or(0);
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => shifted(u32::from(a).into(), 32) == shifted(u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => shifted(a.into(), 128) == shifted(b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, reached_without: &[&str], through: &[&str]) {
        let exceptions = Exceptions::parse(list);
        let has = |authority: &str| {
            let origin = Origin { tls: false, authority: authority.to_owned() };
            let (host, port) = origin.host_and_port();
            exceptions.has(host, port)
        };
        for authority in reached_without {
            assert!(has(authority), "{authority} is not in {list:?}");
        }
        for authority in through {
            assert!(!has(authority), "{authority} is in {list:?}");
        }
    }

    #[test]
    fn hosts_of_the_list_are_reached_without_a_proxy() {
        check("", &["localhost", "127.0.0.1:9", "[::1]:9"], &["a", "10.0.0.1"]);
        check("a.org, .b.org,*.c.org", &["a.org:1", "x.a.org", "X.B.org", "x.c.org"], &["aa.org", "b.org", "c.org"]);
        check("a:81,10.0.0.1:82", &["a:81", "x.a:81", "10.0.0.1:82"], &["a", "10.0.0.1:81"]);
        check("10.0.0.0/8,fd00::/8,1.2.3.4", &["10.9.9.9", "[fd12::1]", "1.2.3.4:5"], &["11.0.0.1", "[fe80::1]"]);
        check("0.0.0.0/0", &["9.9.9.9"], &["a"]);
        check("*", &["a", "9.9.9.9"], &[]);
    }

    #[test]
    fn environment_names_proxies() {
        let env = |name: &str| match name {
            "http_proxy" => Some("p:1".to_owned()),
            "HTTPS_PROXY" => Some("http://s:2".to_owned()),
            "NO_PROXY" => Some("in".to_owned()),
            _ => None,
        };
        let config = ProxyConfig { via: Via::Environment, connect_headers: Vec::new() };
        let proxies = Proxies::new(&config, env);
        let to = |tls, host: &str| {
            let origin = Origin { tls, authority: host.to_owned() };
            proxies.to(&origin).map(|p| p.authority.clone())
        };
        assert_eq!(to(false, "a"), Some("p:1".to_owned()));
        assert_eq!(to(true, "a"), Some("s:2".to_owned()));
        assert_eq!((to(true, "in"), to(false, "localhost:9")), (None, None));
    }
}
