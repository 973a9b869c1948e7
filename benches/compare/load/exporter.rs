//! A synthetic exporter: plain text pages of many targets behind one address, and when each of them was asked for.
//!
//! Target `n` is at the path `/t/<n>`. Pages are those of GPU nodes, or short ones of one family each; their values
//! move on with every scrape.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use promontory_storage::clock::{Clock as _, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::node::Node;

/// Bytes of a request.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// What the targets expose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposed {
    /// GPU nodes.
    Nodes,
    /// Counters of one family, so many.
    Counters(usize),
}

/// A running exporter.
pub(crate) struct Exporter {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

/// What was asked for since it was last forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) n_scrapes: u64,
    pub(crate) n_samples: u64,
    pub(crate) n_bytes: u64,
    /// By how much the time between two requests for a target differs from the interval, ms, ascending.
    pub(crate) off_ms: Vec<f64>,
}

struct State {
    targets: Vec<Target>,
    interval_ms: f64,
    seen: Seen,
}

struct Target {
    page: Page,
    n_scrapes: u64,
    last_ns: Option<u64>,
}

enum Page {
    Node(Box<NodePage>),
    /// Number of the target, and of its series.
    Counters(usize, usize),
}

struct NodePage {
    node: Node,
    round: i64,
    lines: Vec<Line>,
    values: Vec<f64>,
}

/// A line of a node's page.
struct Line {
    /// Metadata above it, then name and labels.
    head: String,
    /// Which value follows.
    series: usize,
    style: Style,
}

/// How a number is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Go,
    Python,
}

impl Exporter {
    /// Serves `n_targets` on a thread of its own until the program ends.
    pub(crate) fn start(exposed: Exposed, n_targets: usize, interval_ms: u32, seed: u64) -> io::Result<Self> {
        let page = |n: usize| match exposed {
            Exposed::Nodes => Page::Node(Box::new(NodePage::new(n, seed))),
            Exposed::Counters(n_series) => Page::Counters(n, n_series),
        };
        let targets = (0..n_targets).map(|n| Target { page: page(n), n_scrapes: 0, last_ns: None }).collect();
        let state = State { targets, interval_ms: interval_ms.into(), seen: Seen::default() };
        let state = Arc::new(Mutex::new(state));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                while let Ok((stream, _)) = listener.accept().await {
                    let state = Arc::clone(&shared);
                    tokio::spawn(async move { drop(serve(stream, &state).await) });
                }
            });
        });
        Ok(Self { port, state })
    }

    /// What was asked for; counted anew from now on.
    pub(crate) fn take_seen(&self) -> Seen {
        let mut seen = std::mem::take(&mut lock(&self.state).seen);
        seen.off_ms.sort_by(f64::total_cmp);
        seen
    }

    /// How often the target that was scraped the least has been scraped, from the start.
    pub(crate) fn least_scrapes(&self) -> u64 {
        lock(&self.state).targets.iter().map(|t| t.n_scrapes).min().unwrap_or(0)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let clock = SystemClock::new();
    let (mut request, mut answer) = (Vec::new(), String::new());
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            if request.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let now_ns = clock.monotonic_ns();
        let text = String::from_utf8_lossy(&request);
        let number = text.strip_prefix("GET /t/").and_then(|rest| rest.split([' ', '?']).next());
        let number = number.and_then(|n| n.parse::<usize>().ok());
        answer.clear();
        lock(state).answer(number, now_ns, &mut answer);
        stream.write_all(answer.as_bytes()).await?;
    }
}

impl State {
    fn answer(&mut self, number: Option<usize>, now_ns: u64, out: &mut String) {
        let Some(target) = number.and_then(|n| self.targets.get_mut(n)) else {
            out.push_str("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            return;
        };
        let mut body = String::new();
        let n_samples = target.page.render(target.n_scrapes, &mut body);
        target.n_scrapes += 1;
        if let Some(last_ns) = target.last_ns.replace(now_ns) {
            self.seen.off_ms.push((now_ns.saturating_sub(last_ns) as f64 / 1e6 - self.interval_ms).abs());
        }
        self.seen.n_scrapes += 1;
        self.seen.n_samples += n_samples as u64;
        self.seen.n_bytes += body.len() as u64;
        let _ = write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        out.push_str(&body);
    }
}

impl Page {
    /// The page at its `round`th scrape, and how many samples it has.
    fn render(&mut self, round: u64, out: &mut String) -> usize {
        match self {
            Self::Node(page) => page.render(out),
            Self::Counters(target, n_series) => {
                out.push_str("# HELP worker_requests_total Requests that a worker has served.\n");
                out.push_str("# TYPE worker_requests_total counter\n");
                for i in 0..*n_series {
                    let value = round * (1 + i as u64 % 13) + *target as u64;
                    let _ = writeln!(out, "worker_requests_total{{model=\"llama\",worker=\"{i}\"}} {value}");
                }
                *n_series
            }
        }
    }
}

impl NodePage {
    fn new(n: usize, seed: u64) -> Self {
        let mut labels = Vec::new();
        let node = Node::new(n, seed, &mut labels, &mut Vec::new());
        let mut families: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for (series, encoded) in labels.iter().enumerate() {
            let (line, family) = line(encoded, series);
            families.entry(family).or_default().push(line);
        }
        let mut lines = Vec::new();
        for (family, mut of_family) in families {
            let kind = match &of_family[0].head {
                head if head.starts_with(&format!("{family}_bucket{{")) => "histogram",
                _ if family.ends_with("_total") => "counter",
                _ => "gauge",
            };
            let first = &mut of_family[0].head;
            *first = format!("# HELP {family} What {family} measures.\n# TYPE {family} {kind}\n{first}");
            lines.append(&mut of_family);
        }
        Self { node, round: 0, lines, values: Vec::new() }
    }

    fn render(&mut self, out: &mut String) -> usize {
        self.values.clear();
        self.node.round(self.round, &mut self.values);
        self.round += 1;
        for line in &self.lines {
            out.push_str(&line.head);
            out.push(' ');
            line.style.print(self.values[line.series], out);
            out.push('\n');
        }
        self.lines.len()
    }
}

/// The line of the series with these labels, as remote write sends them, and its family. What says who was scraped
/// comes with the target; the job says which part of the node it is.
fn line(encoded: &[u8], series: usize) -> (Line, String) {
    let (mut name, mut labels, mut style) = (String::new(), String::new(), Style::Go);
    for (label, value) in decode_labels(encoded) {
        let label = match label.as_str() {
            "__name__" => {
                let is_report = value == "up" || value.starts_with("scrape_");
                name = if is_report { format!("exporter_{value}") } else { value };
                continue;
            }
            "instance" | "node" | "cluster" => continue,
            "job" => {
                style = if value == "vllm" { Style::Python } else { Style::Go };
                "part"
            }
            other => other,
        };
        let separator = if labels.is_empty() { "" } else { "," };
        let _ = write!(labels, "{separator}{label}=\"{value}\"");
    }
    let suffixes = ["_bucket", "_sum", "_count"];
    let family = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name).to_owned();
    (Line { head: format!("{name}{{{labels}}}"), series, style }, family)
}

/// Names and values of what `encode_labels` has written.
fn decode_labels(mut bytes: &[u8]) -> Vec<(String, String)> {
    let text = |field: Option<&[u8]>| String::from_utf8_lossy(field.unwrap_or_default()).into_owned();
    let mut pairs = Vec::new();
    while let Some(mut pair) = take_field(&mut bytes) {
        let name = text(take_field(&mut pair));
        pairs.push((name, text(take_field(&mut pair))));
    }
    pairs
}

/// The bytes of the next field.
fn take_field<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (mut rest, mut len) = (bytes.get(1..)?, 0);
    for shift in (0..).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    let (field, after) = rest.split_at_checked(len)?;
    *bytes = after;
    Some(field)
}

impl Style {
    fn print(self, value: f64, out: &mut String) {
        let large = value != 0.0 && !(1e-4..1e6).contains(&value.abs());
        let _ = match self {
            Self::Python => write!(out, "{value:?}"),
            Self::Go if large => {
                let text = format!("{value:e}");
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
                write!(out, "{digits}e{sign}{exponent:0>2}")
            }
            Self::Go => write!(out, "{value}"),
        };
    }
}
