//! What a dashboard costs the server: node-exporter-full, about 120 panels, over 24 h of a real node_exporter's series.
//!
//! One scrape of the exporter gives the series; 24 h of them at 15 s are made up (counters rise, gauges wave) and
//! written as blocks. The server then answers as a browser would ask: the whole page, every panel again as a refresh
//! does, a page of 12 panels, and pictures. Processor time is the server's own, user and system, in seconds; the
//! kernel counts it in hundredths.
//! Run with `cargo bench --bench dashboard`; it needs `prometheus-node-exporter`, the dashboard's file (named by
//! `DASHBOARD`, else the one of the shared corpus) and 30 MB of the temporary folder.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

#[path = "../tests/whole/client.rs"]
#[expect(dead_code, reason = "shared with the tests of the whole")]
mod client;
#[path = "../tests/whole/server.rs"]
#[expect(dead_code, reason = "shared with the tests of the whole")]
mod server;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use promontory_model::{Cancel, LabelsBuilder, Timestamp};
use promontory_storage::clock::{Clock as _, ManualClock, SystemClock};
use promontory_storage::vfs::RealVfs;
use promontory_storage::{Db, DbOptions};
use server::{Server, flag, peer, wait_until_or};

const END_S: i64 = 1_700_006_400;
const LENGTH_S: i64 = 24 * 3_600;
const INTERVAL_S: i64 = 15;

fn main() {
    if !peer("prometheus-node-exporter") {
        return;
    }
    let Some(dashboard) = dashboard() else {
        println!("SKIPPED: no file of node-exporter-full");
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let n_series = history(dir.path());
    let folder = dir.path().join("dashboards");
    std::fs::create_dir(&folder).expect("a writable folder");
    let text = std::fs::read_to_string(&dashboard).expect("the dashboard is readable");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("a dashboard");
    json["uid"] = "full".into();
    // All rows open: what a reader would see who opened them one by one.
    let rows = json["panels"].as_array().into_iter().flatten().filter(|p| p["type"] == "row" && p["collapsed"] == true);
    let open: String = rows.map(|row| format!("&toggle={}", row["id"])).collect();
    std::fs::write(folder.join("full.json"), json.to_string()).expect("a writable folder");
    std::fs::write(folder.join("twelve.json"), twelve().to_string()).expect("a writable folder");
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "scrape_configs: []\n").expect("a writable folder");
    let server = Server::start(&[
        &flag("config.file", &config),
        &flag("storage.tsdb.path", &dir.path().join("data")),
        &flag("dashboards.path", &folder),
        "--storage.tsdb.retention.time=100y",
    ]);
    println!("series {n_series}, {} h at {INTERVAL_S} s", LENGTH_S / 3_600);
    page(&server, "full", &open);
    refreshes(&server, "full", &open);
    page(&server, "twelve", "");
    pictures(&server, &open);
}

fn dashboard() -> Option<PathBuf> {
    let named = std::env::var_os("DASHBOARD").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared =
        ["../shared", "../../shared"].map(|s| root.join(s).join("dashboards/corpus/rfmoz/node-exporter-full.json"));
    named.into_iter().chain(shared).find(|p| p.is_file())
}

/// A page of 12 panels of what a node has most of.
fn twelve() -> serde_json::Value {
    let exprs = [
        "sum by (mode) (rate(node_cpu_seconds_total[$__rate_interval]))",
        "node_memory_MemAvailable_bytes",
        "rate(node_disk_io_time_seconds_total[$__rate_interval])",
        "rate(node_network_receive_bytes_total[$__rate_interval])",
    ];
    let panels: Vec<serde_json::Value> = (0..12)
        .map(|i| {
            serde_json::json!({
                "id": i + 1, "type": if i % 4 == 1 { "stat" } else { "timeseries" }, "title": format!("Panel {i}"),
                "gridPos": {"x": (i % 3) * 8, "y": (i / 3) * 8, "w": 8, "h": 8}, "targets": [{"expr": exprs[i % 4]}],
            })
        })
        .collect();
    serde_json::json!({"uid": "twelve", "title": "Twelve panels", "panels": panels})
}

/// Writes the history; answers with the number of series.
fn history(dir: &Path) -> usize {
    let clock = Arc::new(ManualClock::new(Timestamp(END_S * 1000)));
    let options = DbOptions { retention_ms: None, ..DbOptions::server() };
    let (db, _) = Db::open(Arc::new(RealVfs), clock, &dir.join("data"), options).expect("a new folder opens");
    let mut backfill = db.backfill().expect("the database takes samples");
    let lines = scrape();
    for (i, line) in lines.iter().enumerate() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let value: f64 = value.parse().unwrap_or(0.0);
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let mut builder = LabelsBuilder::new();
        builder.set("__name__", name);
        builder.set("job", "node");
        builder.set("instance", "node-1:9100");
        for pair in labels.trim_end_matches('}').split("\",") {
            if let Some((label, text)) = pair.split_once("=\"") {
                builder.set(label, text.trim_end_matches('"'));
            }
        }
        let series = backfill.series(&builder.build()).expect("a series");
        let is_counter = name.ends_with("_total") || name.ends_with("_count") || name.ends_with("_sum");
        let mut level = value.abs().max(1.0);
        for k in 0..=LENGTH_S / INTERVAL_S {
            let t = END_S - LENGTH_S + k * INTERVAL_S;
            let noise = ((k * 7 + i as i64 * 13).wrapping_mul(2_654_435_761) >> 16 & 255) as f64 / 255.0;
            let wave = (k as f64 / (200.0 + i as f64)).sin();
            let v = if is_counter {
                level += (1.0 + wave) * 3.0 + noise;
                level
            } else if value == 0.0 || value == 1.0 {
                value
            } else {
                value * (1.0 + 0.2 * wave + 0.05 * noise)
            };
            backfill.push(series, t * 1000, v).expect("a sample");
        }
    }
    let done = backfill.finish(&mut |_| (), &Cancel::new()).expect("blocks are written");
    db.close().expect("the database closes");
    done.n_series as usize
}

/// The lines of one scrape of the exporter.
fn scrape() -> Vec<String> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let mut exporter = Command::new("prometheus-node-exporter")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the exporter starts");
    let lines = BufReader::new(exporter.stderr.take().expect("stderr is piped")).lines();
    std::thread::spawn(move || lines.for_each(drop));
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let mut body = String::new();
    wait_until_or(std::time::Duration::from_secs(20), &mut || {
        body = client::get(addr, "/metrics").map(|r| r.text()).unwrap_or_default();
        !body.is_empty()
    });
    let _ = exporter.kill();
    let _ = exporter.wait();
    body.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(str::to_owned).collect()
}

fn window(end_s: i64) -> String {
    format!("from={}000&to={end_s}000&timezone=utc", end_s - LENGTH_S)
}

/// Seconds of processor time and of real time that `work` takes.
fn cost(server: &Server, work: impl FnOnce()) -> (f64, f64) {
    let clock = SystemClock::new();
    let (cpu, began) = (cpu_seconds(server), clock.monotonic_ns());
    work();
    (cpu_seconds(server) - cpu, (clock.monotonic_ns() - began) as f64 / 1e9)
}

/// Processor time that the server has taken, user and system, as it says itself.
fn cpu_seconds(server: &Server) -> f64 {
    let metrics = client::get(server.addr, "/metrics").expect("an answer").text();
    let line = metrics.lines().find_map(|l| l.strip_prefix("process_cpu_seconds_total "));
    line.and_then(|v| v.trim().parse().ok()).unwrap_or(f64::NAN)
}

/// Asks as browsers do, which take answers compressed.
fn ask(server: &Server, path: &str) -> Vec<u8> {
    client::request(server.addr, "GET", path, &[("Accept-Encoding", "gzip")], &[]).expect("an answer").body
}

fn page(server: &Server, uid: &str, open: &str) {
    let path = format!("/d/{uid}?{}{open}", window(END_S));
    for round in ["cold", "warm"] {
        let mut sent = 0;
        let (cpu, real) = cost(server, || sent = ask(server, &path).len());
        let body = client::get(server.addr, &path).expect("an answer").text();
        let panels = body.matches("<section class=\"panel").count();
        println!(
            "page {uid} {round}: {panels} panels, cpu {cpu:.2} s, real {real:.3} s, {} kB, {} kB compressed",
            body.len() / 1000,
            sent / 1000
        );
    }
}

/// All panels of the page once more, with the window moved on as time goes.
fn refreshes(server: &Server, uid: &str, open: &str) {
    let first = client::get(server.addr, &format!("/d/{uid}?{}{open}", window(END_S))).expect("an answer").text();
    let keys: Vec<&str> = first.split("data-key=\"").skip(1).filter_map(|s| s.split('"').next()).collect();
    for (what, n) in [("of all panels", keys.len()), ("of the 16 that a window shows", 16)] {
        for round in 1..=3 {
            let end = END_S - 900 + round * 30;
            let (cpu, real) = cost(server, || {
                for key in keys.iter().take(n) {
                    ask(server, &format!("/d/{uid}/panel/{key}?{}", window(end)));
                }
            });
            println!("refresh {what}, {round}: cpu {cpu:.2} s, real {real:.3} s");
        }
    }
}

fn pictures(server: &Server, open: &str) {
    let n = 20;
    for (what, panel) in [("lines", 1), ("stat", 2)] {
        let path = format!("/render/d-solo/twelve?panelId={panel}&{}", window(END_S));
        let mut bytes = 0;
        let mut draw = || bytes = client::get(server.addr, &path).expect("an answer").body.len();
        draw();
        let (cpu, real) = cost(server, || (0..n).for_each(|_| draw()));
        println!(
            "png of {what}: cpu {:.1} ms, real {:.1} ms, {bytes} bytes",
            cpu * 1000.0 / f64::from(n),
            real * 1000.0 / f64::from(n)
        );
    }
    let path = format!("/render/d/full?{}{open}", window(END_S));
    let mut bytes = 0;
    let (cpu, real) = cost(server, || bytes = client::get(server.addr, &path).expect("an answer").body.len());
    println!("png of the whole dashboard: cpu {cpu:.2} s, real {real:.2} s, {bytes} bytes");
}
