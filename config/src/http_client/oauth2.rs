//! OAuth 2: tokens that a client gets from a server of its own before it asks its host.

use super::proxy::{self, ProxyConfig};
use super::{HttpHeader, Secret, Source, TlsConfig, read_headers, read_tls, source};
use crate::decode::Field;

/// How tokens are got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// Who asks.
    pub client_id: String,
    /// How it is proved.
    pub grant: Grant,
    /// What the token is for.
    pub scopes: Vec<String>,
    /// Who gives tokens, a URL.
    pub token_url: String,
    /// Parameters of the request besides, in ascending order.
    pub endpoint_params: Vec<(String, String)>,
    /// TLS towards the server of tokens.
    pub tls: TlsConfig,
    /// Proxies on the way to it.
    pub proxy: ProxyConfig,
    /// Headers of the request.
    pub headers: Vec<HttpHeader>,
}

impl OAuth2 {
    /// Tokens that `token_url` gives to `client_id`, and nothing said besides.
    #[must_use]
    pub fn new(client_id: String, grant: Grant, token_url: String) -> Self {
        Self {
            client_id,
            grant,
            scopes: Vec::new(),
            token_url,
            endpoint_params: Vec::new(),
            tls: TlsConfig::default(),
            proxy: ProxyConfig::default(),
            headers: Vec::new(),
        }
    }
}

/// How a client proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// By a secret.
    ClientCredentials {
        /// It; absent means empty.
        secret: Option<Source<Secret>>,
    },
    /// By a signature, RFC 7523.
    JwtBearer(JwtBearer),
}

/// What is signed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtBearer {
    /// RSA key in PEM.
    pub key: Source<Secret>,
    /// Its name.
    pub key_id: Option<String>,
    /// Which signature.
    pub algorithm: SignatureAlgorithm,
    /// Who says it; absent means the client.
    pub iss: Option<String>,
    /// To whom it is said; absent means the URL of tokens.
    pub audience: Option<String>,
    /// More that is said, in ascending order.
    pub claims: Vec<(String, String)>,
}

/// RSA signatures of PKCS #1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignatureAlgorithm {
    /// Over SHA-256.
    #[default]
    Rs256,
    /// Over SHA-384.
    Rs384,
    /// Over SHA-512.
    Rs512,
}

impl SignatureAlgorithm {
    /// The name in configuration files and in tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }
}

const ALGORITHMS: [(&str, SignatureAlgorithm); 3] =
    [("RS256", SignatureAlgorithm::Rs256), ("RS384", SignatureAlgorithm::Rs384), ("RS512", SignatureAlgorithm::Rs512)];

/// The name of the grant by a signature.
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The name of the grant by a secret.
pub const CLIENT_CREDENTIALS: &str = "client_credentials";

pub(super) fn read(field: &Field<'_>) -> Option<OAuth2> {
    let fields = field.fields()?;
    let client_id = fields.text("client_id");
    let token_url = fields.text("token_url");
    let secret = source(&fields, "client_secret", "client_secret_file", Secret::new);
    let key = source(&fields, "client_certificate_key", "client_certificate_key_file", Secret::new);
    let by_signature = fields
        .get("grant_type")
        .and_then(|f| f.one_of(&[(CLIENT_CREDENTIALS, false), (JWT_BEARER, true)]))
        .unwrap_or(false);
    for (name, value) in [("client_id", &client_id), ("token_url", &token_url)] {
        if value.is_none() {
            fields.missing(name);
        }
    }
    let bearer = JwtBearer {
        key: key.clone().unwrap_or(Source::Inline(Secret::default())),
        key_id: fields.text("client_certificate_key_id"),
        algorithm: fields.get("signature_algorithm").and_then(|f| f.one_of(&ALGORITHMS)).unwrap_or_default(),
        iss: fields.text("iss"),
        audience: fields.text("audience"),
        claims: read_pairs(fields.get("claims")),
    };
    if by_signature && key.is_none() {
        field.rule(format!(
            "grant type {JWT_BEARER} needs one of client_certificate_key and client_certificate_key_file"
        ));
    }
    if !by_signature && key.is_some() {
        field.rule(format!("client_certificate_key is of grant type {JWT_BEARER} only"));
    }
    let oauth2 = OAuth2 {
        client_id: client_id.unwrap_or_default(),
        grant: if by_signature { Grant::JwtBearer(bearer) } else { Grant::ClientCredentials { secret } },
        scopes: fields.get("scopes").map(|f| f.texts()).unwrap_or_default(),
        token_url: token_url.unwrap_or_default(),
        endpoint_params: read_pairs(fields.get("endpoint_params")),
        tls: fields.get("tls_config").and_then(|f| read_tls(&f)).unwrap_or_default(),
        proxy: proxy::read(&fields),
        headers: fields.get("http_headers").map(|f| read_headers(&f)).unwrap_or_default(),
    };
    fields.finish(&[]);
    Some(oauth2)
}

fn read_pairs(field: Option<Field<'_>>) -> Vec<(String, String)> {
    let entries = field.map(|f| f.entries()).unwrap_or_default();
    let pairs = entries.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.text()?.to_owned())));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    pairs
}
