//! The real Prometheus and the server with the same configuration and the same written samples, and how their answers
//! are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client;
use crate::peers::{Peer, free_addr, spawn};
use crate::server::{Server, flag, peer, wait_until};
use crate::write;

/// Both, running.
pub(crate) struct Both {
    pub(crate) theirs: SocketAddr,
    pub(crate) ours: Server,
    _prometheus: Peer,
    _dir: tempfile::TempDir,
}

impl Both {
    /// With this configuration, and Prometheus with these flags besides; `None` where it is not installed.
    pub(crate) fn start(config: &str, flags: &[&str]) -> Option<Self> {
        if !peer("prometheus") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("a writable folder");
        let theirs = free_addr();
        let mut args = vec![
            flag("config.file", &file),
            flag("storage.tsdb.path", &dir.path().join("prometheus")),
            format!("--web.listen-address={theirs}"),
            "--web.enable-remote-write-receiver".to_owned(),
        ];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let prometheus = spawn("prometheus", &args);
        let data = flag("storage.tsdb.path", &dir.path().join("ours"));
        let ours = Server::start(&[&flag("config.file", &file), &data, "--web.enable-remote-write-receiver"]);
        wait_until("prometheus", Duration::from_secs(60), &mut || {
            client::get(theirs, "/-/ready").is_ok_and(|r| r.status == 200)
        });
        Some(Self { theirs, ours, _prometheus: prometheus, _dir: dir })
    }

    /// Writes all series in one request: older samples of it are not late because of newer ones.
    pub(crate) fn write(&self, series: Vec<write::TimeSeries>) {
        let body = write::body(series);
        assert!(write::send(self.theirs, &body), "prometheus takes the samples");
        assert!(write::send(self.ours.addr, &body), "the server takes the samples");
    }
}

/// An answer as series → time in ms → value; an error as its type.
pub(crate) type Points<V> = Result<BTreeMap<String, BTreeMap<i64, V>>, String>;

/// Compares two answers: how many values are equal, and what differs.
pub(crate) fn compare<V: Debug>(
    theirs: Points<V>,
    ours: Points<V>,
    same: impl Fn(&V, &V) -> bool,
) -> (u64, Vec<String>) {
    let (theirs, ours) = match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => (theirs, ours),
        (Err(a), Err(b)) if a == b => return (1, Vec::new()),
        (a, b) => {
            let text = |points: Points<V>| points.map_or_else(|e| e, |m| format!("{} series", m.len()));
            return (0, vec![format!("prometheus {}, ours {}", text(a), text(b))]);
        }
    };
    let (mut equal, mut differing) = (0, Vec::new());
    for series in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        let empty = BTreeMap::new();
        let (a, b) = (theirs.get(series).unwrap_or(&empty), ours.get(series).unwrap_or(&empty));
        for t in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            match (a.get(t), b.get(t)) {
                (Some(a), Some(b)) if same(a, b) => equal += 1,
                (a, b) => differing.push(format!("{series} at {t}: prometheus {a:?}, ours {b:?}")),
            }
        }
    }
    (equal, differing)
}

/// A number that looks random, the same for the same places.
pub(crate) fn noise(a: i64, b: i64) -> u64 {
    let mut x = (a as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (b as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ x >> 32
}
