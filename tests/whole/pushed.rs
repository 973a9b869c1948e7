//! What came by push and import, over a kill of the server, and how much memory history of any length takes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use crate::client::{self, with_params};
use crate::server::{Server, flag};

fn server(dir: &Path) -> Server {
    let config = dir.join("empty.yml");
    std::fs::write(&config, "{}\n").expect("a writable folder");
    Server::start(&[
        &flag("config.file", &config),
        &flag("storage.tsdb.path", &dir.join("data")),
        "--web.enable-push",
        "--web.enable-admin-api",
    ])
}

fn values(server: &Server, query: &str, time: &str) -> Vec<String> {
    let path = with_params("/api/v1/query", &[("query", query), ("time", time)]);
    let answer = client::get(server.addr, &path).expect("the server answers").json();
    let all = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
    all.iter().map(|series| series["value"][1].as_str().expect("a value").to_owned()).collect()
}

#[test]
fn pushed_groups_are_held_again_after_a_kill() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let push = |server: &Server, method: &str, path: &str, body: &str| {
        client::request(server.addr, method, path, &[], body.as_bytes()).expect("the server answers").status
    };
    let first = server(dir.path());
    assert_eq!(push(&first, "PUT", "/metrics/job/backup/instance/db1", "bytes 5\n"), 200);
    assert_eq!(push(&first, "PUT", "/metrics/job/gone", "bytes 6\n"), 200);
    assert_eq!(push(&first, "DELETE", "/metrics/job/gone", ""), 202);
    first.kill();
    std::fs::write(dir.path().join("data/pushed/7.group"), "torn").expect("a writable folder");
    let second = server(dir.path());
    let metrics = client::get(second.addr, "/metrics").expect("the server answers").text();
    assert!(metrics.lines().any(|line| line == "promontory_push_groups 1"), "{metrics}");
    assert!(dir.path().join("data/pushed/7.damaged").exists());
    second.wait_until("written again", || {
        let time = format!("{}", crate::peers::now_ms() as f64 / 1000.0);
        values(&second, "count_over_time(bytes{job=\"backup\"}[1m])", &time).iter().any(|n| n != "1")
    });
    assert_eq!(second.terminate(), 0);
}

#[test]
fn history_of_any_length_takes_little_memory() {
    const SERIES: usize = 20;
    const ROWS: usize = 20_000;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let (mut text, mut n_bytes) = ("# TYPE old gauge\n".to_owned(), 0);
    let long = "long".repeat(32);
    for s in 0..SERIES {
        for row in 0..ROWS {
            let t = 1_600_000_000 + row * 15;
            let _ = writeln!(text, "old{{series=\"{s}\",job=\"history\",instance=\"{long}\"}} {row} {t}");
        }
        n_bytes += text.len();
        gzip.write_all(text.as_bytes()).expect("memory is written");
        text.clear();
    }
    gzip.write_all(b"# EOF\n").expect("memory is written");
    let body = gzip.finish().expect("memory is written");
    assert!(n_bytes > 64 << 20, "{n_bytes} bytes");
    let server = server(dir.path());
    let before = server.peak_bytes();
    let headers = [("Content-Encoding", "gzip")];
    let answer = client::request(server.addr, "POST", "/api/v1/import/openmetrics", &headers, &body);
    let answer = answer.expect("the server answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["data"]["samples"], SERIES * ROWS);
    let risen = server.peak_bytes() - before;
    let at = format!("{}", 1_600_000_000 + (ROWS - 1) * 15);
    assert_eq!(values(&server, "sum(old)", &at), [format!("{}", SERIES * (ROWS - 1))]);
    assert!(risen < 96 << 20, "{} MiB", risen >> 20);
    eprintln!("{} MiB of text, {} samples; memory rose by {} MiB", n_bytes >> 20, SERIES * ROWS, risen >> 20);
}
