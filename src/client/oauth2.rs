//! OAuth 2: the token that goes into the header `Authorization`, got from its own server when the last one runs out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use promontory_config::HttpClientConfig;
use promontory_config::http_client::oauth2::SignatureAlgorithm;
use promontory_config::http_client::oauth2::{CLIENT_CREDENTIALS, Grant, JWT_BEARER, JwtBearer, OAuth2};
use promontory_storage::clock::{Clock, SystemClock};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Answer, Call, Client, Connector, FetchError, JobClient, Offer, Url, UrlError, resolve, url};

/// Bytes of an answer with a token.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Time that a request for a token may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A token is not used in its last seconds, because it has to arrive while it is good.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a signed assertion holds; it is used at once, and some servers take none that holds for longer.
const ASSERTION_SECS: i64 = 600;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum OAuth2Error {
    /// `token_url` is no URL.
    #[error("oauth2: token_url: {0}")]
    Url(#[from] UrlError),
    /// The server of tokens is not reached, or a file is not readable.
    #[error("oauth2: {0}")]
    Fetch(#[source] Box<FetchError>),
    /// It refuses.
    #[error("oauth2: cannot fetch token: {status} {told}")]
    Refused {
        /// Status of its answer.
        status: String,
        /// What it says, up to a few hundred characters.
        told: String,
    },
    /// Its answer holds no token.
    #[error("oauth2: server response missing access_token")]
    NoToken,
    /// Its answer is not JSON.
    #[error("oauth2: server response is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The key is none of RSA in PEM.
    #[error("oauth2: client_certificate_key is no RSA key in PEM")]
    Key,
}

/// How the client says who it is; servers take one or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Header,
    Params,
}

#[derive(Debug, Clone)]
struct Token {
    /// What the header says.
    header: String,
    until: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    style: Option<Style>,
}

/// The tokens of one job.
#[derive(Debug)]
pub(crate) struct Tokens {
    config: OAuth2,
    job: JobClient,
    /// What is known. Held for a copy.
    state: Mutex<State>,
    /// Lets one of many targets ask, while the others wait for its answer.
    asking: Semaphore,
}

impl Tokens {
    pub(crate) fn new(config: OAuth2, connector: Arc<dyn Connector>) -> Self {
        let http = HttpClientConfig {
            tls: config.tls.clone(),
            proxy: config.proxy.clone(),
            headers: config.headers.clone(),
            ..HttpClientConfig::default()
        };
        let offer = Offer { accept: "application/json".to_owned(), gzip: true, body_bytes_max: Some(ANSWER_BYTES_MAX) };
        Self { config, job: JobClient::new(http, offer, connector), state: Mutex::default(), asking: Semaphore::new(1) }
    }

    /// The header `Authorization`.
    pub(crate) async fn header(&self) -> Result<String, OAuth2Error> {
        if let Some(header) = self.known() {
            return Ok(header);
        }
        let _turn = self.asking.acquire().await;
        // Somebody else may have asked meanwhile.
        if let Some(header) = self.known() {
            return Ok(header);
        }
        let token = self.ask().await?;
        let header = token.header.clone();
        self.state().token = Some(token);
        Ok(header)
    }

    fn known(&self) -> Option<String> {
        let now = Instant::now();
        self.state().token.as_ref().filter(|t| t.until.is_none_or(|until| now < until)).map(|t| t.header.clone())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> Result<Token, OAuth2Error> {
        let known = self.state().style;
        let (styles, secret) = match &self.config.grant {
            Grant::JwtBearer(_) => (vec![Style::Params], String::new()),
            Grant::ClientCredentials { secret } => {
                let secret = resolve("client_secret_file", secret.as_ref(), |s| s.reveal()).map_err(fetch)?;
                (known.map_or(vec![Style::Header, Style::Params], |style| vec![style]), secret)
            }
        };
        let mut refusal = OAuth2Error::NoToken;
        for style in styles {
            let answer = self.send(style, &secret).await?;
            if answer.status.is_success() {
                let token = token(&answer)?;
                self.state().style = Some(style);
                return Ok(token);
            }
            let told = String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).take(300).collect();
            refusal = OAuth2Error::Refused { status: answer.reason, told };
        }
        Err(refusal)
    }

    async fn send(&self, style: Style, secret: &str) -> Result<Answer, OAuth2Error> {
        let assertion;
        let scopes = self.config.scopes.join(" ");
        let mut form = match &self.config.grant {
            Grant::ClientCredentials { .. } => vec![("grant_type", CLIENT_CREDENTIALS)],
            Grant::JwtBearer(bearer) => {
                assertion = self.assertion(bearer)?;
                vec![("grant_type", JWT_BEARER), ("assertion", &assertion)]
            }
        };
        if !scopes.is_empty() {
            form.push(("scope", &scopes));
        }
        form.extend(self.config.endpoint_params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let is_by_secret = matches!(self.config.grant, Grant::ClientCredentials { .. });
        if style == Style::Params && is_by_secret {
            form.extend([("client_id", self.config.client_id.as_str()), ("client_secret", secret)]);
        }
        let mut call = Call::form(Url::parse(&self.config.token_url)?, &form);
        if style == Style::Header {
            let pair = format!("{}:{}", url::escaped(&self.config.client_id), url::escaped(secret));
            let pair = base64::engine::general_purpose::STANDARD.encode(pair);
            call = call.header("authorization", &format!("Basic {pair}")).map_err(fetch)?;
        }
        let mut client = Client::new();
        // Boxed, because a client's request may need a token, though never this one.
        Box::pin(client.send(&self.job, &call, TIMEOUT)).await.map_err(fetch)
    }

    /// What is signed instead of sending a secret, RFC 7523.
    fn assertion(&self, bearer: &JwtBearer) -> Result<String, OAuth2Error> {
        let pem = resolve("client_certificate_key_file", Some(&bearer.key), |s| s.reveal()).map_err(fetch)?;
        let now = SystemClock::new().now().ms() / 1000;
        let mut head = serde_json::json!({"alg": bearer.algorithm.as_str(), "typ": "JWT"});
        if let Some(id) = &bearer.key_id {
            head["kid"] = id.as_str().into();
        }
        let mut claims = serde_json::json!({
            "iss": bearer.iss.as_ref().unwrap_or(&self.config.client_id),
            "sub": self.config.client_id,
            "aud": bearer.audience.as_ref().unwrap_or(&self.config.token_url),
            "iat": now,
            "exp": now + ASSERTION_SECS,
            "jti": unique().ok_or(OAuth2Error::Key)?,
        });
        if !self.config.scopes.is_empty() {
            claims["scope"] = self.config.scopes.join(" ").into();
        }
        for (name, value) in &bearer.claims {
            claims[name.as_str()] = value.as_str().into();
        }
        signed_token(bearer.algorithm, &pem, &head, &claims).ok_or(OAuth2Error::Key)
    }
}

/// A JSON Web Token of these parts, signed with an RSA key in PEM; `None` if that is none.
pub(crate) fn signed_token(
    algorithm: SignatureAlgorithm,
    pem: &str,
    head: &serde_json::Value,
    claims: &serde_json::Value,
) -> Option<String> {
    let encode = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", encode(head), encode(claims));
    let signature = sign(algorithm, pem, signed.as_bytes())?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn fetch(error: FetchError) -> OAuth2Error {
    OAuth2Error::Fetch(Box::new(error))
}

/// A name that no other assertion has; `None` if the system gives no random numbers.
pub(crate) fn unique() -> Option<String> {
    let bytes: [u8; 16] = ring::rand::generate(&ring::rand::SystemRandom::new()).ok()?.expose();
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn sign(algorithm: SignatureAlgorithm, pem: &str, message: &[u8]) -> Option<Vec<u8>> {
    use ring::signature::{self, RsaKeyPair};
    let key = match &PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return None,
    };
    let key = key.ok()?;
    let padding: &dyn signature::RsaEncoding = match algorithm {
        SignatureAlgorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
        SignatureAlgorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
        SignatureAlgorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
    };
    let mut out = vec![0; key.public().modulus_len()];
    key.sign(padding, &ring::rand::SystemRandom::new(), message, &mut out).ok()?;
    Some(out)
}

fn token(answer: &Answer) -> Result<Token, OAuth2Error> {
    let json: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let token = json["access_token"].as_str().filter(|t| !t.is_empty()).ok_or(OAuth2Error::NoToken)?;
    let kind = match json["token_type"].as_str() {
        None | Some("") => "Bearer",
        Some(kind) if kind.eq_ignore_ascii_case("bearer") => "Bearer",
        Some(kind) => kind,
    };
    // Some servers write the number as a text.
    let seconds = json["expires_in"].as_u64().or_else(|| json["expires_in"].as_str()?.parse().ok());
    let lifetime = seconds.filter(|s| *s > 0).map(Duration::from_secs);
    let until = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime.saturating_sub(MARGIN)));
    Ok(Token { header: format!("{kind} {token}"), until })
}
