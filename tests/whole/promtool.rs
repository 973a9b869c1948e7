//! Prometheus' own command-line client, asking the real Prometheus and the server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use crate::api::filled;
use crate::both::Both;
use crate::server::{Server, flag, peer};

fn promtool(dir: &Path, args: &[&str]) -> Output {
    Command::new("promtool").args(args).current_dir(dir).output().expect("promtool starts")
}

/// What `promtool query …` prints, its lines in order.
fn query(addr: SocketAddr, args: &[&str]) -> (bool, Vec<String>) {
    let url = format!("http://{addr}");
    let at = args.iter().position(|arg| *arg == "URL").expect("a place for the address");
    let mut all = vec!["query"];
    all.extend_from_slice(args);
    all[at + 1] = &url;
    let output = promtool(Path::new("."), &all);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let mut lines: Vec<String> = text.lines().map(|line| line.replace(&url, "URL")).collect();
    lines.sort();
    (output.status.success(), lines)
}

#[test]
fn promtool_queries_as_it_queries_prometheus() {
    if !peer("promtool") {
        return;
    }
    let Some((both, now_s)) = filled() else { return };
    let (now, past) = (now_s.to_string(), (now_s - 600).to_string());
    let (start, end, time) = (format!("--start={past}"), format!("--end={now}"), format!("--time={now}"));
    let calls: [&[&str]; 9] = [
        &["instant", &time, "URL", "sum by (job) (rate(requests_total[2m]))"],
        &["instant", &time, "-o", "json", "URL", "weird"],
        &["instant", &time, "URL", "up{"],
        &["range", &start, &end, "--step=60s", "URL", "rate(requests_total[2m])"],
        &["range", &start, &end, "--step=60s", "-o", "json", "URL", "up"],
        &["series", &start, &end, "--match=up", "--match=weird", "URL"],
        &["labels", &start, &end, "URL", "job"],
        &["labels", &start, &end, "URL", "nothing"],
        &["series", "--match={}", "URL"],
    ];
    for call in calls {
        let (theirs, ours) = (query(both.theirs, call), query(both.ours.addr, call));
        assert_eq!(ours, theirs, "promtool query {call:?}");
        assert!(!ours.1.is_empty() || call.contains(&"nothing"), "promtool query {call:?} shows nothing");
    }
}

#[test]
fn promtool_collects_what_the_process_does() {
    if !peer("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = flag("storage.tsdb.path", &dir.path().join("data"));
    let server = Server::start(&[&data]);
    let url = format!("http://{}", server.addr);
    let output = promtool(dir.path(), &["debug", "all", &url]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let list = Command::new("tar").args(["tzf", "debug.tar.gz"]).current_dir(dir.path()).output().expect("tar starts");
    let names = String::from_utf8_lossy(&list.stdout).into_owned();
    for name in ["cpu.pb", "heap.pb", "goroutine.pb", "metrics.txt"] {
        assert!(names.lines().any(|line| line == name), "no {name} in {names}");
    }
}

/// Runs `promontory ARGS`; what it prints.
fn promontory(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_promontory")).args(args).output().expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn pushed_files_arrive_at_any_server() {
    let Some(both) = Both::start("scrape_configs: []\n", &[]) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let page = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).expect("a writable folder");
        file.to_string_lossy().into_owned()
    };
    let first = page("a.prom", "# TYPE runs_total counter\nruns_total{job=\"own\"} 3\nlast_run_seconds 1.5");
    let many: String = (0..4_321).map(|i| format!("wide{{i=\"{i}\"}} {i}\n")).collect();
    let (many, wrong) = (page("b.prom", &many), page("c.prom", "fine 1\nnot fine\n"));
    for (addr, message) in [
        (both.theirs, "prometheus.WriteRequest"),
        (both.ours.addr, "prometheus.WriteRequest"),
        (both.ours.addr, "io.prometheus.write.v2.Request"),
    ] {
        let url = format!("http://{addr}");
        let push = |args: &[&str]| {
            let fixed = ["push", "metrics", "--label=job=nightly", "--protobuf_message", message];
            promontory(&[&fixed[..], args].concat())
        };
        let (is_good, said) = push(&[&url, &first, &many]);
        assert!(is_good && said.ends_with("sent 4321 samples\n"), "{said}");
        let ask = |query: &str| promontory(&["query", "instant", "-o", "csv", &url, query]).1;
        assert!(ask("runs_total").contains("own"), "{}", ask("runs_total"));
        assert!(ask("last_run_seconds").contains("nightly"), "{}", ask("last_run_seconds"));
        assert!(ask("sum(wide)").contains("9333360"), "{}", ask("sum(wide)"));
        let (is_good, said) = push(&[&url, &wrong]);
        assert!(!is_good && said.contains("c.prom: ") && said.contains("line 2"), "{said}");
        let (is_good, said) = push(&["--remote-write.path=/nowhere", &url, &first]);
        assert!(!is_good && said.contains("sent 0 of 2 samples") && said.contains("404"), "{said}");
    }
}
