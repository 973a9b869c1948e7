//! Prometheus' own command-line client, asking the real Prometheus and the server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use crate::api::filled;
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
