//! `nerve_sd_configs` and `serverset_sd_configs`: members that services keep in ZooKeeper.
//!
//! All nodes below the paths are read once, and again when they change. A server that fails leaves the targets as they
//! were until another has told all; a member that is not understood stays what it was.

mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use promontory_config::TargetGroup;
use promontory_config::discovery::ZooKeeperSdConfig;
use serde_json::Value;

use super::error::SdError;
use super::meta::{Meta, join, text_at};
use super::provider::Publisher;
pub(super) use session::SessionError;
use session::{Node, Session};

/// Nodes below the paths of one entry.
pub(super) const NODES_MAX: usize = 500_000;
/// Nodes that are asked for at once.
const AT_ONCE: usize = 64;
/// Time for more changes to come after the first.
const PACE: Duration = Duration::from_secs(1);
/// Time until the next server is tried, which doubles while all fail.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The port of servers that name none.
const PORT: u16 = 2181;

/// How members are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Nerve,
    Serverset,
}

/// Keeps the members below the paths of `config` published, for ever.
pub(super) async fn run(kind: Kind, config: ZooKeeperSdConfig, out: Publisher) {
    let roots = config.paths.iter().map(|path| trimmed(path)).collect();
    let mut tree = Tree { kind, roots, nodes: BTreeMap::new(), before: BTreeMap::new() };
    let mut retry = RETRY;
    for server in config.servers.iter().cycle() {
        let mut is_read = false;
        if let Err(error) = follow(server, &config, &mut tree, &mut is_read, &out).await {
            out.fail(&error);
        }
        if is_read {
            retry = RETRY;
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Publishes what `server` tells until it fails; `is_read` becomes true when all has been told once.
async fn follow(
    server: &str,
    config: &ZooKeeperSdConfig,
    tree: &mut Tree,
    is_read: &mut bool,
    out: &Publisher,
) -> Result<(), SdError> {
    let failed = |source| SdError::ZooKeeper { server: server.to_owned(), source };
    let timeout = Duration::from_millis(config.timeout.ms().unsigned_abs());
    let connector = &*out.surroundings.connector;
    let mut session = Session::open(connector, address(server), timeout).await.map_err(failed)?;
    tree.begin();
    let mut changed = tree.roots.clone();
    loop {
        tree.look(&mut session, changed, server).await?;
        let mut problem = tree.problem(server);
        for root in tree.roots.iter().filter(|root| !tree.nodes.contains_key(*root)) {
            session.await_node(root).await.map_err(failed)?;
            problem = Some(SdError::NoNode { server: server.to_owned(), path: root.clone() });
        }
        *is_read = true;
        match problem {
            None => out.publish(tree.targets()),
            Some(problem) => out.publish_despite(tree.targets(), &problem),
        }
        changed = session.changes(PACE).await.map_err(failed)?;
    }
}

/// A path without the slash at its end; that of everything is empty inside, and asked for as `/`.
fn trimmed(path: &str) -> String {
    let path = path.trim_end_matches('/');
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// Host and port of `host:port`, `host`, `[v6]:port` or `[v6]`.
fn address(server: &str) -> (&str, u16) {
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(PORT)),
        _ => (server, PORT),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

/// What is known of a node.
#[derive(Debug, Clone, Default)]
struct Known {
    target: Option<TargetGroup>,
    /// Why it is not a member although it looks like one.
    problem: Option<String>,
}

/// All nodes below the paths.
#[derive(Debug)]
struct Tree {
    kind: Kind,
    /// The paths of the configuration.
    roots: BTreeSet<String>,
    /// By whole path.
    nodes: BTreeMap<String, Known>,
    /// What the server before this one told.
    before: BTreeMap<String, Known>,
}

impl Tree {
    /// Forgets that anything has been read.
    fn begin(&mut self) {
        if !self.nodes.is_empty() {
            self.before = std::mem::take(&mut self.nodes);
        }
    }

    /// Reads the nodes at `paths`, and what is below them and not known yet.
    async fn look(&mut self, session: &mut Session, paths: BTreeSet<String>, server: &str) -> Result<(), SdError> {
        let server = || server.to_owned();
        let mut todo: Vec<String> = paths.into_iter().collect();
        while !todo.is_empty() {
            let some = todo.split_off(todo.len().saturating_sub(AT_ONCE));
            let found = session.nodes(&some).await.map_err(|source| SdError::ZooKeeper { server: server(), source })?;
            for (path, node) in some.into_iter().zip(found) {
                match node {
                    Some(node) => todo.extend(self.put(path, &node)),
                    None => self.forget(&path),
                }
            }
            if self.nodes.len() + todo.len() > NODES_MAX {
                return Err(SdError::Nodes { server: server() });
            }
        }
        self.before.clear();
        Ok(())
    }

    /// Notes what is at `path`, and says which nodes below it are new.
    fn put(&mut self, path: String, node: &Node) -> Vec<String> {
        let start = below(&path);
        let children: BTreeSet<&str> = node.children.iter().map(String::as_str).collect();
        let is_gone = |known: &&String| !children.contains(known[start.len()..].split('/').next().unwrap_or_default());
        let gone: Vec<String> = self.known_below(&start).filter(is_gone).cloned().collect();
        gone.iter().for_each(|path| drop(self.nodes.remove(path)));
        let known = match member(self.kind, &path, &node.data) {
            Ok(target) => Known { target, problem: None },
            // What stands above members may hold anything.
            Err(_) if !children.is_empty() || self.roots.contains(&path) => Known::default(),
            Err(problem) => {
                let last = self.nodes.get(&path).or_else(|| self.before.get(&path));
                Known { target: last.and_then(|known| known.target.clone()), problem: Some(problem) }
            }
        };
        self.nodes.insert(path, known);
        let new = children.iter().map(|child| format!("{start}{child}"));
        new.filter(|path| !self.nodes.contains_key(path)).collect()
    }

    /// Forgets the node at `path` and all below it.
    fn forget(&mut self, path: &str) {
        self.nodes.remove(path);
        let gone: Vec<String> = self.known_below(&below(path)).cloned().collect();
        gone.iter().for_each(|path| drop(self.nodes.remove(path)));
    }

    fn known_below<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a String> {
        let after = (Bound::Excluded(start.to_owned()), Bound::Unbounded);
        self.nodes.range(after).map(|(path, _)| path).take_while(move |path| path.starts_with(start))
    }

    fn targets(&self) -> Vec<TargetGroup> {
        self.nodes.values().filter_map(|known| known.target.clone()).collect()
    }

    fn problem(&self, server: &str) -> Option<SdError> {
        let (path, problem) = self.nodes.iter().find_map(|(path, known)| Some((path, known.problem.as_ref()?)))?;
        Some(SdError::Member { server: server.to_owned(), path: path.clone(), problem: problem.clone() })
    }
}

/// How the paths of all nodes below `path` begin.
fn below(path: &str) -> String {
    if path == "/" { path.to_owned() } else { format!("{path}/") }
}

/// The member that `data` describes, if there are any.
fn member(kind: Kind, path: &str, data: &[u8]) -> Result<Option<TargetGroup>, String> {
    if data.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let said: Value = serde_json::from_slice(data).map_err(|e| e.to_string())?;
    let (prefix, endpoint) = match kind {
        Kind::Nerve => ("__meta_nerve_", &said),
        Kind::Serverset => ("__meta_serverset_", &said["serviceEndpoint"]),
    };
    let mut meta = Meta::new(prefix);
    meta.set("path", path);
    let mut at = |endpoint: &Value, suffix: &str| {
        let (host, port) = (text_at(endpoint, "/host"), text_at(endpoint, "/port"));
        meta.set(&format!("endpoint_host{suffix}"), &host).set(&format!("endpoint_port{suffix}"), &port);
        (host, port)
    };
    let (host, port) = at(endpoint, "");
    if host.is_empty() || port.is_empty() {
        return Err("it has no host or no port".to_owned());
    }
    match kind {
        Kind::Nerve => {
            meta.set("endpoint_name", text_at(&said, "/name"));
        }
        Kind::Serverset => {
            for (name, endpoint) in said["additionalEndpoints"].as_object().into_iter().flatten() {
                at(endpoint, &format!("_{}", super::meta::clean(name)));
            }
            let shard = text_at(&said, "/shard");
            meta.set("status", text_at(&said, "/status")).set("shard", if shard.is_empty() { "0" } else { &shard });
        }
    }
    Ok(Some(meta.target(join(&host, port))))
}

/// What holds for whatever a server sends, and for whatever nodes hold.
pub(super) fn take_any(bytes: &[u8]) {
    for kind in [Kind::Nerve, Kind::Serverset] {
        let _ = member(kind, "/m", bytes);
    }
    session::take_any(bytes);
}

#[cfg(test)]
mod tests;
