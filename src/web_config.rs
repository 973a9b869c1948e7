//! What `--web.config.file` asks for: TLS of connections, users, headers of answers.
//!
//! The file, certificates and keys are looked at for each connection and each request, and read again when they have
//! changed, so a new certificate or password needs no reload. A file that has become wrong lets nobody in: requests are
//! answered with 500, and no TLS connection is made. Any user may do everything.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use promontory_config::ConfigErrors;
use promontory_config::web::{self, WebConfig};
use ring::digest;
use rustls::ServerConfig;
use tokio::sync::Semaphore;

mod tls;

pub use tls::ServerTlsError;

/// Passwords that are compared with their hashes at the same time, each of which keeps a processor busy.
const HASHINGS_MAX: usize = 2;
/// Users and passwords that are remembered as right.
const REMEMBERED_MAX: usize = 256;
/// Compared with when there is no such user, so that the time taken says nothing; the hash of no password that is known.
const NOBODY: &str = "$2b$10$qxxXNu9Y7HaECip7V1CRb.qGrZRt3WKOHPwDzywjn2J8asiglI4K2";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// It is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// What it asks of TLS cannot be done.
    #[error("{}: {source}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ServerTlsError,
    },
}

/// Keeps out whom the file does not let in.
#[derive(Debug)]
pub struct WebGuard {
    path: PathBuf,
    /// Protects what was read last. Held while files are compared and read, never across `.await`.
    current: Mutex<Current>,
    /// Digests of users, hashes and passwords that were right.
    known: Mutex<HashSet<[u8; 32]>>,
    hashing: Semaphore,
}

#[derive(Debug)]
struct Current {
    stamps: Vec<Stamp>,
    rules: Arc<Result<Rules, WebConfigError>>,
    /// Whether the file asked for TLS when it was right.
    is_tls: bool,
}

/// A file and, if it is there, when it was changed and its bytes.
type Stamp = (PathBuf, Option<(Option<SystemTime>, u64)>);

/// What holds now.
#[derive(Debug)]
struct Rules {
    config: WebConfig,
    tls: Option<Arc<ServerConfig>>,
}

/// How a connection begins.
#[derive(Debug)]
pub(crate) enum Handshake {
    /// Without TLS.
    Plain,
    /// With TLS so configured.
    Tls(Arc<ServerConfig>),
    /// It must not begin.
    Refused,
}

impl WebGuard {
    /// Reads the file.
    ///
    /// # Errors
    /// [`WebConfigError`]
    pub fn open(path: &Path) -> Result<Arc<Self>, WebConfigError> {
        let rules = read(path)?;
        let current =
            Current { stamps: stamps(path, &rules.config), is_tls: rules.tls.is_some(), rules: Arc::new(Ok(rules)) };
        Ok(Arc::new(Self {
            path: path.to_owned(),
            current: Mutex::new(current),
            known: Mutex::default(),
            hashing: Semaphore::new(HASHINGS_MAX),
        }))
    }

    /// Whether connections are made with TLS.
    pub fn is_tls(&self) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).is_tls
    }

    /// Whether users must say who they are.
    pub fn has_users(&self) -> bool {
        self.rules().as_ref().as_ref().is_ok_and(|rules| !rules.config.users.is_empty())
    }

    /// How a connection that is accepted now begins.
    pub(crate) fn handshake(&self) -> Handshake {
        match &*self.rules() {
            Ok(Rules { tls: Some(config), .. }) => Handshake::Tls(config.clone()),
            Ok(Rules { tls: None, .. }) => Handshake::Plain,
            Err(_) if self.is_tls() => Handshake::Refused,
            Err(_) => Handshake::Plain,
        }
    }

    /// The rules as the files have them now.
    fn rules(&self) -> Arc<Result<Rules, WebConfigError>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.stamps.iter().all(|(path, seen)| stamp(path) == *seen) {
            return current.rules.clone();
        }
        let rules = read(&self.path);
        current.stamps = match &rules {
            Ok(rules) => stamps(&self.path, &rules.config),
            // Until then any of the files may be what is wrong.
            Err(_) => current.stamps.iter().map(|(path, _)| (path.clone(), stamp(path))).collect(),
        };
        match &rules {
            Ok(rules) => current.is_tls = rules.tls.is_some(),
            Err(error) => tracing::error!(%error, "nobody is let in until --web.config.file is right again"),
        }
        current.rules = Arc::new(rules);
        current.rules.clone()
    }

    /// Whether the request comes from one of the users.
    async fn admits(&self, config: &WebConfig, headers: &HeaderMap) -> bool {
        let Some((name, password)) = credentials(headers) else { return false };
        let user = config.users.iter().find(|(known, _)| *known == name);
        let hash = user.map_or(NOBODY, |(_, hash)| hash.reveal()).to_owned();
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [name.as_bytes(), hash.as_bytes(), password.as_bytes()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return true;
        }
        let Ok(_place) = self.hashing.acquire().await else { return false };
        let compared = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash));
        let is_right = compared.await.is_ok_and(|same| same.unwrap_or(false)) && user.is_some();
        if is_right {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() == REMEMBERED_MAX {
                known.clear();
            }
            known.insert(key);
        }
        is_right
    }
}

/// Lets `request` through if it may pass, and adds the configured headers to its answer.
pub(crate) async fn guard(State(guard): State<Arc<WebGuard>>, request: Request, next: Next) -> Response {
    let rules = guard.rules();
    let rules = match &*rules {
        Ok(rules) => rules,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    };
    let is_open = rules.config.users.is_empty();
    let mut response = if is_open || guard.admits(&rules.config, request.headers()).await {
        next.run(request).await
    } else {
        let asks = [(WWW_AUTHENTICATE, "Basic")];
        (StatusCode::UNAUTHORIZED, asks, "Unauthorized\n").into_response()
    };
    for (name, value) in &rules.config.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_bytes(name.as_bytes()).expect("names of a table"), value);
        }
    }
    response
}

/// User and password of a request.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (kind, text) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !kind.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn read(path: &Path) -> Result<Rules, WebConfigError> {
    let config = web::load(path)?;
    let tls = config.tls.as_ref().map(tls::server_config).transpose();
    let tls = tls.map_err(|source| WebConfigError::Tls { path: path.to_owned(), source })?;
    Ok(Rules { config, tls })
}

fn stamps(path: &Path, config: &WebConfig) -> Vec<Stamp> {
    let files = std::iter::once(path.to_owned()).chain(config.files());
    files
        .map(|file| {
            let seen = stamp(&file);
            (file, seen)
        })
        .collect()
}

fn stamp(path: &Path) -> Option<(Option<SystemTime>, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok(), found.len()))
}

#[cfg(test)]
mod tests;
