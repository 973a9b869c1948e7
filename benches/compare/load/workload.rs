//! What is written: series with their labels as remote write sends them, and rounds of samples.

use std::io;

use crate::node::Node;
use crate::pages::Pages;
use crate::random::Random;

/// Time between two rounds, ms.
pub(crate) const INTERVAL_MS: i64 = 15_000;

/// A sample: number of its series, time in ms, value.
pub(crate) type Sample = (u32, i64, f64);

/// Series of one source, which are scraped at the same time.
#[derive(Debug)]
pub(crate) struct Target {
    /// When in the interval it is scraped, ms.
    pub(crate) offset_ms: i64,
    /// Its series are numbered from here.
    pub(crate) first: u32,
    pub(crate) n_series: u32,
}

/// Label fields of a `TimeSeries` message, in the order of the names.
pub(crate) fn encode_labels(mut pairs: Vec<(String, String)>) -> Vec<u8> {
    pairs.sort_unstable();
    let mut out = Vec::new();
    for (name, value) in &pairs {
        let mut pair = Vec::new();
        for (key, text) in [(0x0a, name), (0x12, value)] {
            pair.push(key);
            put_varint(&mut pair, text.len() as u64);
            pair.extend_from_slice(text.as_bytes());
        }
        out.push(0x0a);
        put_varint(&mut out, pair.len() as u64);
        out.extend_from_slice(&pair);
    }
    out
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8 & 0x7f) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A kind of data and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nodes {
        n_nodes: usize,
    },
    Pages,
    Constant {
        n_series: usize,
    },
    Random {
        n_series: usize,
    },
    /// Counters of one name.
    Wide {
        n_series: usize,
    },
}

impl Kind {
    pub(crate) fn title(self) -> String {
        match self {
            Self::Nodes { n_nodes } => format!("GPU nodes ({n_nodes} × {} series)", crate::node::N_SERIES),
            Self::Pages => "node_exporter, recorded".to_owned(),
            Self::Constant { n_series } => format!("constant ({n_series} series)"),
            Self::Random { n_series } => format!("random floats ({n_series} series)"),
            Self::Wide { n_series } => format!("one counter ({n_series} series)"),
        }
    }
}

/// A deterministic stream of rounds; two of one kind and seed give the same bytes.
pub(crate) struct Workload {
    pub(crate) labels: Vec<Vec<u8>>,
    targets: Vec<Target>,
    source: Source,
    jitter: Random,
    round: i64,
}

enum Source {
    Nodes(Vec<Node>),
    Pages(Pages),
    /// Whole numbers that stay, or rise a little.
    Whole {
        values: Vec<f64>,
        rises: bool,
        random: Random,
    },
    Random(Random),
}

impl Workload {
    pub(crate) fn new(kind: Kind, seed: u64, pages: Option<&Pages>) -> io::Result<Self> {
        let mut labels = Vec::new();
        let mut targets = Vec::new();
        let source = match kind {
            Kind::Nodes { n_nodes } => {
                let nodes = (0..n_nodes).map(|n| Node::new(n, seed, &mut labels, &mut targets));
                Source::Nodes(nodes.collect())
            }
            Kind::Pages => {
                let pages = pages.ok_or_else(|| io::Error::other("nothing was recorded"))?.clone();
                labels.clone_from(&pages.labels);
                targets.push(Target { offset_ms: 0, first: 0, n_series: labels.len() as u32 });
                Source::Pages(pages)
            }
            Kind::Constant { n_series } | Kind::Random { n_series } | Kind::Wide { n_series } => {
                let pair = |name: &str, value: String| (name.to_owned(), value);
                for i in 0..n_series {
                    let name = if matches!(kind, Kind::Wide { .. }) {
                        "x".to_owned()
                    } else {
                        format!("bench_metric_{}", i % 50)
                    };
                    labels.push(encode_labels(vec![
                        pair("__name__", name),
                        pair("instance", format!("10.1.0.{}:9100", i / 1_000)),
                        pair("job", "bench".to_owned()),
                        pair("model", format!("model-{}", i / 50 % 20)),
                        pair("replica", format!("{}", i % 1_000)),
                    ]));
                }
                for first in (0..n_series).step_by(1_000) {
                    let n_series = (n_series - first).min(1_000) as u32;
                    targets.push(Target { offset_ms: first as i64 * 7 % INTERVAL_MS, first: first as u32, n_series });
                }
                let mut random = Random::new(seed);
                match kind {
                    Kind::Random { .. } => Source::Random(random),
                    _ => {
                        let values = (0..n_series).map(|_| (random.unit() * 1e4).round()).collect();
                        let rises = matches!(kind, Kind::Wide { .. });
                        Source::Whole { values, rises, random }
                    }
                }
            }
        };
        targets.sort_by_key(|t| t.offset_ms);
        Ok(Self { labels, targets, source, jitter: Random::new(seed ^ 0x7177), round: 0 })
    }

    /// Appends the samples of the next round, in the order in which an agent would scrape them; `start_ms` is the time
    /// of round 0. Gives false when there is no more.
    pub(crate) fn round(&mut self, start_ms: i64, out: &mut Vec<Sample>) -> bool {
        let base = start_ms + self.round * INTERVAL_MS;
        let values = match &mut self.source {
            Source::Pages(pages) => {
                let Some(page) = pages.pages.get(self.round as usize) else { return false };
                out.extend(page.iter().map(|&(series, value)| (series, base, value)));
                self.round += 1;
                return true;
            }
            Source::Nodes(nodes) => {
                let mut values = Vec::with_capacity(self.labels.len());
                nodes.iter_mut().for_each(|node| node.round(self.round, &mut values));
                values
            }
            Source::Whole { values, rises, random } => {
                if *rises {
                    values.iter_mut().for_each(|v| *v += (random.bits() % 16) as f64);
                }
                values.clone()
            }
            Source::Random(random) => (0..self.labels.len()).map(|_| random.between(-1e3, 1e3)).collect(),
        };
        for target in &self.targets {
            // A scrape in fifty comes a few ms late, as on a busy agent.
            let late = self.jitter.bits() % 50;
            let late = if late == 0 { 1 + (self.jitter.bits() % 5) as i64 } else { 0 };
            let t = base + target.offset_ms + late;
            out.extend((target.first..target.first + target.n_series).map(|i| (i, t, values[i as usize])));
        }
        self.round += 1;
        true
    }
}
