//! The queries of the comparison and how long they take.

use std::io;

use promontory_storage::clock::{Clock as _, SystemClock};

use crate::bars::Bar;
use crate::client::Client;
use crate::server::Server;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3_600;

/// How often a query is asked anew for the median.
const REPEATS: usize = 7;

/// A query over the GPU nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) title: &'static str,
    text: &'static str,
    /// Length and step in seconds; `None` for an instant query.
    range: Option<(i64, i64)>,
    pub(crate) bars: &'static [Bar],
}

/// The queries whose bars the design names.
pub(crate) const QUERIES: [Query; 6] = [
    Query {
        title: "p99 by model, 6 h of buckets, step 60 s",
        text: "histogram_quantile(0.99, sum by (le, model_name) (rate(vllm:e2e_request_latency_seconds_bucket[5m])))",
        range: Some((6 * HOUR_S, MINUTE_S)),
        bars: &[Bar::ColdMs(15.0)],
    },
    Query {
        title: "sum by (mode)(rate), 256 series a node, 6 h, step 60 s",
        text: "sum by (mode) (rate(node_cpu_seconds_total[5m]))",
        range: Some((6 * HOUR_S, MINUTE_S)),
        bars: &[Bar::ColdMs(80.0)],
    },
    Query {
        title: "raw, 32 series a node, 1 h, step 15 s",
        text: "node_cpu_seconds_total{mode=\"user\"}",
        range: Some((HOUR_S, 15)),
        bars: &[Bar::ColdMs(15.0)],
    },
    Query {
        title: "count({__name__=~\".+\"}), instant",
        text: "count({__name__=~\".+\"})",
        range: None,
        bars: &[Bar::ColdMs(15.0)],
    },
    Query {
        title: "quantile_over_time 30 m, 8 series a node, 1 h, step 15 s",
        text: "quantile_over_time(0.95, DCGM_FI_DEV_POWER_USAGE[30m])",
        range: Some((HOUR_S, 15)),
        bars: &[Bar::ColdMs(40.0)],
    },
    Query {
        title: "max_over_time 1 h, 8 series, 6 h, step 60 s",
        text: "max_over_time(DCGM_FI_DEV_GPU_TEMP{instance=\"gpu-000:9400\"}[1h])",
        range: Some((6 * HOUR_S, MINUTE_S)),
        bars: &[Bar::ColdMs(3.0)],
    },
];

/// The heavy one, over the series of the wide workload.
pub(crate) const WIDE: Query = Query {
    title: "sum by (model)(rate(x[5m])), all series, 24 h, step 60 s",
    text: "sum by (model) (rate(x[5m]))",
    range: Some((24 * HOUR_S, MINUTE_S)),
    bars: &[Bar::OfVictoriaMetrics(0.25), Bar::PeakMib(1024.0)],
};

/// How long a query takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timing {
    /// The first time after the start of the server, ms.
    pub(crate) first_ms: f64,
    /// Median of the next ones, results of earlier ones not being used, ms.
    pub(crate) cold_ms: f64,
    /// Processor time of the server for each of these, ms.
    pub(crate) cpu_ms: f64,
    /// Median of a dashboard that is refreshed, caches being used and the end moving on by a step, ms.
    pub(crate) refreshed_ms: f64,
    pub(crate) bytes: usize,
    /// Most resident memory while the query was asked first and without caches, MiB.
    pub(crate) peak_mib: f64,
    /// How much of it was not resident right before, MiB.
    pub(crate) risen_mib: f64,
}

impl Query {
    /// Asks until `end_ms`.
    pub(crate) fn measure(&self, server: &Server, end_ms: i64) -> io::Result<Timing> {
        let mut client = server.client();
        client.get("/metrics")?;
        let clock = SystemClock::new();
        let mut ask = |end_s: i64, more: &str| -> io::Result<(f64, usize)> {
            let start = clock.monotonic_ns();
            let answer = client.get(&(self.path(end_s) + more))?;
            let ms = (clock.monotonic_ns() - start) as f64 / 1e6;
            if answer.status != 200 {
                let text = String::from_utf8_lossy(&answer.body).chars().take(300).collect::<String>();
                return Err(io::Error::other(format!("{}: {} {text}", self.text, answer.status)));
            }
            Ok((ms, answer.body.len()))
        };
        let (end_s, uncached) = (end_ms / 1_000, server.system.uncached());
        let before = server.memory()?.resident;
        server.forget_peak()?;
        let (first_ms, bytes) = ask(end_s, uncached)?;
        let cpu = server.cpu_s()?;
        let mut cold = [0.0; REPEATS];
        for ms in &mut cold {
            *ms = ask(end_s, uncached)?.0;
        }
        let cpu_ms = (server.cpu_s()? - cpu) * 1e3 / REPEATS as f64;
        let peak_mib = server.memory()?.peak;
        let step_s = self.range.map_or(15, |(_, step)| step);
        let mut refreshed = [0.0; REPEATS];
        let behind = |i: usize| end_s - (REPEATS - i) as i64 * step_s;
        ask(behind(0) - step_s, "")?;
        for (i, ms) in refreshed.iter_mut().enumerate() {
            *ms = ask(behind(i), "")?.0;
        }
        let (cold_ms, refreshed_ms) = (median(&mut cold), median(&mut refreshed));
        Ok(Timing { first_ms, cold_ms, cpu_ms, refreshed_ms, bytes, peak_mib, risen_mib: peak_mib - before })
    }

    pub(crate) fn is_range(&self) -> bool {
        self.range.is_some()
    }

    /// The query over another range, up to `end_s`.
    pub(crate) fn path_over(&self, end_s: i64, length_s: i64, step_s: i64) -> String {
        Self { range: Some((length_s, step_s)), ..*self }.path(end_s)
    }

    fn path(&self, end_s: i64) -> String {
        let text = escape(self.text);
        match self.range {
            None => format!("/api/v1/query?query={text}&time={end_s}"),
            Some((length, step)) => {
                let (start, end) = ((end_s - length) / step * step, end_s / step * step);
                format!("/api/v1/query_range?query={text}&start={start}&end={end}&step={step}")
            }
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// How many samples the server shows in the `length_s` seconds up to `end_ms`.
pub(crate) fn count_samples(client: &mut Client, end_ms: i64, length_s: i64) -> io::Result<u64> {
    let json = |answer: crate::client::Answer| -> io::Result<serde_json::Value> {
        serde_json::from_slice(&answer.body).map_err(io::Error::other)
    };
    let (start_s, end_s) = (end_ms / 1_000 - length_s, end_ms / 1_000 + 1);
    let names = json(client.get(&format!("/api/v1/label/__name__/values?start={start_s}&end={end_s}"))?)?;
    let mut sum = 0;
    for name in names["data"].as_array().into_iter().flatten().filter_map(|n| n.as_str()) {
        let text = escape(&format!("sum(count_over_time({{__name__=\"{name}\"}}[{}s]))", length_s + 1));
        let answer = json(client.get(&format!("/api/v1/query?query={text}&time={end_s}&nocache=1"))?)?;
        let value = &answer["data"]["result"][0]["value"][1];
        sum += value.as_str().and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0) as u64;
    }
    Ok(sum)
}
