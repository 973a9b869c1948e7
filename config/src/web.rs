//! The file of `--web.config.file`: TLS, users and headers of the pages and the API, in the format that Prometheus and
//! its exporters share.
//!
//! Variables are not replaced in it: hashes of passwords hold `$`. Certificates and keys in files of their own are read
//! by who uses them, because they change while the server runs.

use std::path::{Path, PathBuf};

use crate::decode::{Field, Fields};
use crate::error::{ConfigErrors, Problem};
use crate::http_client::{self, Secret, Source, TlsVersion};
use crate::{read_document, read_file};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WebConfig {
    /// TLS; absent is plain HTTP.
    pub tls: Option<ServerTls>,
    /// Headers of every answer: name and value.
    pub headers: Vec<(&'static str, String)>,
    /// Users by name, with the bcrypt hashes of their passwords; none is no authentication.
    pub users: Vec<(String, Secret)>,
}

/// TLS of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerTls {
    /// Certificate and those that lead to its authority, in PEM.
    pub cert: Source<String>,
    /// Its key in PEM.
    pub key: Source<Secret>,
    /// Authorities of clients' certificates, in PEM.
    pub client_ca: Option<Source<String>>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// Names of which a client's certificate must have one; empty is any.
    pub client_allowed_sans: Vec<String>,
    /// Lowest version spoken.
    pub min_version: TlsVersion,
    /// Highest version spoken.
    pub max_version: TlsVersion,
    /// Ciphers of version 1.2 allowed, under Go's names; empty is all.
    pub cipher_suites: Vec<CipherSuite>,
    /// Curves offered, most wanted first; empty is all.
    pub curves: Vec<Curve>,
}

/// Whether a client shows a certificate, and whether that must come from a known authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// It is not asked for one.
    #[default]
    None,
    /// It may show any.
    Request,
    /// It must show some, from whomever.
    RequireAny,
    /// One that it shows must come from a known authority.
    VerifyIfGiven,
    /// It must show one from a known authority.
    RequireAndVerify,
}

const CLIENT_AUTHS: [(&str, ClientAuth); 6] = [
    ("", ClientAuth::None),
    ("NoClientCert", ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];

/// Ciphers of TLS 1.2 that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CipherSuite {
    EcdheEcdsaAes128,
    EcdheEcdsaAes256,
    EcdheEcdsaChaCha20,
    EcdheRsaAes128,
    EcdheRsaAes256,
    EcdheRsaChaCha20,
}

/// The ciphers spoken, and those that are named like ciphers of version 1.3, of which no choice is made.
const CIPHER_SUITES: [(&str, Option<CipherSuite>); 11] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(CipherSuite::EcdheEcdsaAes128)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(CipherSuite::EcdheEcdsaAes256)),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", Some(CipherSuite::EcdheEcdsaChaCha20)),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Some(CipherSuite::EcdheEcdsaChaCha20)),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(CipherSuite::EcdheRsaAes128)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(CipherSuite::EcdheRsaAes256)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", Some(CipherSuite::EcdheRsaChaCha20)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Some(CipherSuite::EcdheRsaChaCha20)),
    ("TLS_AES_128_GCM_SHA256", None),
    ("TLS_AES_256_GCM_SHA384", None),
    ("TLS_CHACHA20_POLY1305_SHA256", None),
];

/// Curves of key exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Curve {
    P256,
    P384,
    X25519,
}

const CURVES: [(&str, Curve); 3] = [("CurveP256", Curve::P256), ("CurveP384", Curve::P384), ("X25519", Curve::X25519)];

/// Headers that may be set, with the values that are allowed; none of them is any text.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

impl WebConfig {
    /// The files beside it whose changes count: certificates and keys.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        fn file<T>(source: &Source<T>) -> Option<PathBuf> {
            if let Source::File(path) = source { Some(path.clone()) } else { None }
        }
        let Some(tls) = &self.tls else { return Vec::new() };
        let client_ca = tls.client_ca.as_ref().and_then(file);
        [file(&tls.cert), file(&tls.key), client_ca].into_iter().flatten().collect()
    }
}

/// Reads the file at `path`.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path) -> Result<WebConfig, ConfigErrors> {
    parse(&read_file(path)?, path)
}

/// Reads the text of such a file; `file` names it in errors and gives the folder of relative paths.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, file: &Path) -> Result<WebConfig, ConfigErrors> {
    let mut config = WebConfig::default();
    if text.trim().is_empty() {
        return Ok(config);
    }
    read_document(text, file, &|_| None, |decoder, node| {
        let Some(fields) = decoder.root(node).fields() else { return };
        config.tls = fields.get("tls_server_config").and_then(|f| read_tls(&f));
        if let Some(field) = fields.get("http_server_config") {
            read_http(&field, &mut config);
        }
        config.users = fields.get("basic_auth_users").map(|f| read_users(&f)).unwrap_or_default();
        fields.finish(&[]);
    })?;
    Ok(config)
}

fn read_tls(field: &Field<'_>) -> Option<ServerTls> {
    let fields = field.fields()?;
    let cert = http_client::source(&fields, "cert", "cert_file", |text| text);
    let key = http_client::source(&fields, "key", "key_file", Secret::new);
    if cert.is_none() {
        fields.map().rule("one of cert and cert_file is required");
    }
    if key.is_none() {
        fields.map().rule("one of key and key_file is required");
    }
    let client_ca = http_client::source(&fields, "client_ca", "client_ca_file", |text| text);
    let client_auth = fields.get("client_auth_type").and_then(|f| f.one_of(&CLIENT_AUTHS)).unwrap_or_default();
    let verifies = matches!(client_auth, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify);
    if verifies && client_ca.is_none() {
        fields.map().rule("this client_auth_type needs one of client_ca and client_ca_file");
    }
    if client_ca.is_some() && client_auth == ClientAuth::None {
        fields.map().rule("client_ca has been configured without a client_auth_type");
    }
    let client_allowed_sans = fields.list("client_allowed_sans").iter().filter_map(san).collect::<Vec<_>>();
    if !client_allowed_sans.is_empty() && client_auth != ClientAuth::RequireAndVerify {
        fields.map().rule("client_allowed_sans needs client_auth_type RequireAndVerifyClientCert");
    }
    let version = |name, default| fields.get(name).and_then(|f| http_client::read_tls_version(&f)).unwrap_or(default);
    let (min_version, max_version) =
        (version("min_version", TlsVersion::Tls12), version("max_version", TlsVersion::Tls13));
    if min_version > max_version {
        fields.map().rule("min_version must not be above max_version");
    }
    // Modern servers choose by themselves; Go's does not ask any more either.
    fields.bool_or("prefer_server_cipher_suites", true);
    let cipher_suites =
        fields.list("cipher_suites").iter().filter_map(|f| f.one_of(&CIPHER_SUITES).flatten()).collect();
    let curves = fields.list("curve_preferences").iter().filter_map(|f| f.one_of(&CURVES)).collect();
    fields.finish(&[]);
    let (cert, key) = (cert?, key?);
    Some(ServerTls {
        cert,
        key,
        client_ca,
        client_auth,
        client_allowed_sans,
        min_version,
        max_version,
        cipher_suites,
        curves,
    })
}

/// A name that is one of a host or an address of one, which are those that are looked at in a certificate.
fn san(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if text.is_empty() || text.contains(['@', '/']) {
        field.problem(Problem::NotSupported {
            name: "a name that is no host or IP address",
            reason: "addresses of mail and URIs of certificates are not looked at",
        });
    }
    Some(text.to_owned())
}

fn read_http(field: &Field<'_>, config: &mut WebConfig) {
    let Some(fields) = field.fields() else { return };
    // HTTP/1.1 is spoken, which every client of HTTP/2 takes as well.
    fields.bool_or("http2", true);
    if let Some(headers) = fields.get("headers").and_then(|f| f.fields()) {
        config.headers = HEADERS.iter().filter_map(|&(name, allowed)| read_header(&headers, name, allowed)).collect();
        headers.finish(&[]);
    }
    fields.finish(&[]);
}

fn read_header(
    headers: &Fields<'_>,
    name: &'static str,
    allowed: &'static [&'static str],
) -> Option<(&'static str, String)> {
    let field = headers.get(name)?;
    let value = http_client::header_text(&field)?;
    if value.is_empty() {
        return None;
    }
    if !allowed.is_empty() && !allowed.contains(&value.to_ascii_lowercase().as_str()) {
        field.rule(format!("{value:?} is not one of {}", allowed.join(", ")));
    }
    Some((name, value))
}

fn read_users(field: &Field<'_>) -> Vec<(String, Secret)> {
    let mut users = Vec::new();
    for (name, hash) in field.entries() {
        let Some(text) = hash.text() else { continue };
        if !is_bcrypt(text) {
            hash.rule("not a bcrypt hash, as `htpasswd -nBC 10 \"\"` writes it after the colon");
        }
        users.push((name.to_owned(), Secret::new(text.to_owned())));
    }
    users
}

/// `$2b$10$` and 53 letters, of which a cost above 31 or below 4 makes none.
fn is_bcrypt(text: &str) -> bool {
    let rest = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().find_map(|start| text.strip_prefix(start));
    let Some((cost, digest)) = rest.and_then(|rest| rest.split_once('$')) else { return false };
    let is_cost = cost.len() == 2 && cost.parse::<u8>().is_ok_and(|cost| (4..=31).contains(&cost));
    is_cost && digest.len() == 53 && digest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$10$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay";

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let errors = parse(text, Path::new("/etc/web.yml")).map_or_else(|e| e.to_string(), |_| String::new());
        assert_eq!(errors, expected, "{text}");
    }

    #[test]
    fn everything_is_read() {
        let text = format!(
            "tls_server_config: {{cert_file: c.pem, key: K, client_ca_file: /ca.pem, client_auth_type: \
             RequireAndVerifyClientCert, client_allowed_sans: [a.b, 10.0.0.1], min_version: TLS13, max_version: TLS13, \
             cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256], \
             prefer_server_cipher_suites: false, curve_preferences: [X25519]}}\n\
             http_server_config: {{http2: false, headers: {{X-Frame-Options: deny, Content-Security-Policy: \"a 'b'\"}}}}\n\
             basic_auth_users: {{alice: '{HASH}'}}\n"
        );
        let config = parse(&text, Path::new("/etc/web.yml")).unwrap();
        let expected = WebConfig {
            tls: Some(ServerTls {
                cert: Source::File("/etc/c.pem".into()),
                key: Source::Inline(Secret::new("K".to_owned())),
                client_ca: Some(Source::File("/ca.pem".into())),
                client_auth: ClientAuth::RequireAndVerify,
                client_allowed_sans: vec!["a.b".to_owned(), "10.0.0.1".to_owned()],
                min_version: TlsVersion::Tls13,
                max_version: TlsVersion::Tls13,
                cipher_suites: vec![CipherSuite::EcdheRsaAes128],
                curves: vec![Curve::X25519],
            }),
            headers: vec![("Content-Security-Policy", "a 'b'".to_owned()), ("X-Frame-Options", "deny".to_owned())],
            users: vec![("alice".to_owned(), Secret::new(HASH.to_owned()))],
        };
        assert_eq!(config, expected);
        assert_eq!(config.files(), [Path::new("/etc/c.pem"), Path::new("/ca.pem")]);
        assert!(!format!("{config:?}").contains("hNf2l"));
    }

    #[test]
    fn defaults_are_plain_http_for_everybody() {
        assert_eq!(parse("", Path::new("w.yml")).unwrap(), WebConfig::default());
        let tls = parse("tls_server_config: {cert: C, key: K}", Path::new("w.yml")).unwrap().tls.unwrap();
        assert_eq!((tls.min_version, tls.max_version), (TlsVersion::Tls12, TlsVersion::Tls13));
        assert_eq!((tls.client_auth, tls.cipher_suites, tls.curves), (ClientAuth::None, vec![], vec![]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        check("tls_server_config: {}", {
            "/etc/web.yml:1:20: tls_server_config: one of cert and cert_file is required\n\
             /etc/web.yml:1:20: tls_server_config: one of key and key_file is required"
        });
        check("tls_server_config: {cert: a, key: b, client_auth_type: RequireAndVerifyClientCert}", {
            "/etc/web.yml:1:20: tls_server_config: this client_auth_type needs one of client_ca and client_ca_file"
        });
        check("tls_server_config: {cert: a, key: b, min_version: TLS10}", {
            "/etc/web.yml:1:51: tls_server_config.min_version: TLS below 1.2 is not supported: its ciphers are broken"
        });
        check("http_server_config: {headers: {X-Frame-Options: never}}", {
            "/etc/web.yml:1:49: http_server_config.headers.X-Frame-Options: \"never\" is not one of deny, sameorigin"
        });
        check("basic_auth_users: {a: secret}", {
            "/etc/web.yml:1:23: basic_auth_users.a: not a bcrypt hash, as `htpasswd -nBC 10 \"\"` writes it after the colon"
        });
        check("basic_auth: {}", "/etc/web.yml:1:1: unknown field \"basic_auth\"");
    }
}
