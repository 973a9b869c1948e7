//! Why targets could not be found.

use std::path::PathBuf;
use std::time::Duration;

use super::api::ANSWER_BYTES_MAX;
use super::provider::TARGETS_MAX;
use super::zookeeper::{NODES_MAX, SessionError};
use crate::client::{FetchError, Url, UrlError};
use crate::credentials::CredentialError;

/// Why a look for targets failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SdError {
    /// No usable answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// There are no keys or tokens to ask with.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// An address in the configuration or in an answer is none.
    #[error("{text:?} is not a URL: {source}")]
    Url { text: String, source: UrlError },
    /// More than is ever read.
    #[error("{url}: the answer reaches the limit of {ANSWER_BYTES_MAX} bytes for answers of discovery")]
    TooLarge { url: Url },
    /// The server refused.
    #[error("{url}: server returned HTTP status {status}{}{body}", if body.is_empty() { "" } else { ": " })]
    Status { url: Url, status: String, body: String },
    /// Not what was asked for.
    #[error("{url}: unsupported content type {found:?}, expected \"application/json\"")]
    ContentType { url: Url, found: String },
    /// The answer is not understood.
    #[error("{url}: {source}")]
    Json { url: Url, source: serde_json::Error },
    /// The answer is not understood.
    #[error("{url}: {what}")]
    Garbled { url: Url, what: String },
    /// Something that must be in an answer is not.
    #[error("{url}: the answer has no {what}")]
    Absent { url: Url, what: &'static str },
    /// A name cannot be looked up.
    #[error("look up {name}: {source}")]
    Dns { name: String, source: hickory_resolver::net::NetError },
    /// More targets than an entry may have.
    #[error("{n_targets} targets, more than the limit of {TARGETS_MAX} for one entry")]
    TooMany { n_targets: usize },
    /// An answer that goes on for ever.
    #[error("{url}: more than {max} pages")]
    Pages { url: Url, max: usize },
    /// A session with ZooKeeper ended.
    #[error("ZooKeeper {server}: {source}")]
    ZooKeeper { server: String, source: SessionError },
    /// A path of the configuration is not there.
    #[error("ZooKeeper {server}: there is no node at {path}")]
    NoNode { server: String, path: String },
    /// More nodes than an entry may have.
    #[error("ZooKeeper {server}: more than the limit of {NODES_MAX} nodes for one entry")]
    Nodes { server: String },
    /// A node without children holds something else than a member.
    #[error("ZooKeeper {server}: {path} is no member: {problem}")]
    Member { server: String, path: String, problem: String },
    /// A file that the mechanism needs.
    #[error("{op} {}: {reason}", path.display())]
    File { op: &'static str, path: PathBuf, reason: String },
    /// Something that the mechanism needs is not there.
    #[error("{what}; {remedy}")]
    Missing { what: &'static str, remedy: &'static str },
    /// Another task, which others share, failed so.
    #[error("{error}")]
    Watch { error: String },
    /// Not done in time.
    #[error("no answer within {} s", allowed.as_secs())]
    Slow { allowed: Duration },
}
