//! Real scrapes: the pages of a node_exporter, recorded once a second while the machine works.
//!
//! They are replayed as if 15 s lay between two of them: the series and the numbers are real, the pace is not, so that
//! counters rise by a fifteenth of what they would. Every server gets the same pages.

use std::collections::HashMap;
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{Client, free_port};
use crate::workload::encode_labels;

/// Time between two recorded pages.
const PACE: Duration = Duration::from_secs(1);

/// Recorded pages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    pub(crate) labels: Vec<Vec<u8>>,
    /// Series and value.
    pub(crate) pages: Vec<Vec<(u32, f64)>>,
}

/// Records until it is stopped.
pub(crate) struct Recorder {
    stop: Arc<AtomicBool>,
    n_recorded: Arc<AtomicUsize>,
    thread: JoinHandle<io::Result<Vec<String>>>,
    exporter: Child,
}

impl Recorder {
    pub(crate) fn start() -> io::Result<Self> {
        let port = free_port()?;
        let mut exporter = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut client = Client::new(port);
        if let Err(e) = client.wait_until_ready("/", Duration::from_secs(10)) {
            let _ = exporter.kill();
            return Err(e);
        }
        let n_recorded = Arc::new(AtomicUsize::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&n_recorded));
        let thread = std::thread::spawn(move || {
            let mut bodies = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                bodies.push(String::from_utf8_lossy(&client.get("/metrics")?.body).into_owned());
                counted.store(bodies.len(), Ordering::Relaxed);
                std::thread::sleep(PACE);
            }
            Ok(bodies)
        });
        Ok(Self { stop, n_recorded, thread, exporter })
    }

    /// Ends the recording, at the earliest when there are `n_pages`.
    pub(crate) fn finish(mut self, n_pages: usize) -> io::Result<Pages> {
        while self.n_recorded.load(Ordering::Relaxed) < n_pages && !self.thread.is_finished() {
            std::thread::sleep(PACE);
        }
        self.stop.store(true, Ordering::Relaxed);
        let bodies = self.thread.join().unwrap_or_else(|_| Err(io::Error::other("recording failed")));
        self.exporter.kill()?;
        self.exporter.wait()?;
        let bodies = bodies?;
        let mut pages = Pages::default();
        let mut known = HashMap::new();
        for body in &bodies {
            let page = body.lines().filter_map(|line| pages.series(line, &mut known)).collect();
            pages.pages.push(page);
        }
        Ok(pages)
    }
}

impl Pages {
    /// Series and value of a line of the text format; `None` for comments and blank lines.
    fn series(&mut self, line: &str, known: &mut HashMap<String, u32>) -> Option<(u32, f64)> {
        if line.starts_with('#') {
            return None;
        }
        let (key, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        if let Some(&series) = known.get(key) {
            return Some((series, value));
        }
        let (name, rest) = key.split_once('{').unwrap_or((key, ""));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut pairs = vec![pair("__name__", name), pair("instance", "10.0.0.7:9100"), pair("job", "node")];
        let mut rest = rest.trim_end_matches('}');
        while let Some((label, after)) = rest.split_once("=\"") {
            // The exporter's values hold no quotes.
            let (text, after) = after.split_once('"')?;
            pairs.push(pair(label, text));
            rest = after.trim_start_matches(',');
        }
        let series = self.labels.len() as u32;
        self.labels.push(encode_labels(pairs));
        known.insert(key.to_owned(), series);
        Some((series, value))
    }
}
