//! What a user gets wrong: one clear sentence, exit code 1, and never a panic.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::client::{self, with_params};
use crate::server::{Server, flag, wait_until_or};

/// Runs the binary to its end, which must come by itself.
#[track_caller]
fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promontory"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut ended = false;
    wait_until_or(Duration::from_secs(60), &mut || {
        ended = child.try_wait().expect("a child can be asked").is_some();
        ended
    });
    if !ended {
        child.kill().expect("the process can be killed");
    }
    let output = child.wait_with_output().expect("the output is read");
    assert!(ended, "{args:?} still ran: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[track_caller]
fn check(args: &[&str], expected: &[&str]) {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for text in expected {
        assert!(stderr.contains(text), "{args:?}: expected {text:?} in {stderr}");
    }
}

#[test]
fn port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::tempdir().expect("a temporary folder");
    check(
        &[&format!("--web.listen-address={addr}"), &flag("storage.tsdb.path", dir.path())],
        &[&format!("listen on {addr}"), "--web.listen-address"],
    );
}

#[test]
fn data_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a writable folder");
    let inside = file.join("data");
    check(&["--web.listen-address=127.0.0.1:0", &flag("storage.tsdb.path", &inside)], &[&inside.display().to_string()]);
}

#[test]
fn data_folder_in_use_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = flag("storage.tsdb.path", dir.path());
    let _first = Server::start(&[&path]);
    check(&["--web.listen-address=127.0.0.1:0", &path], &["another process", &dir.path().display().to_string()]);
}

#[test]
fn configuration_errors_name_file_line_and_field() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("prometheus.yml");
    let text = "global:\n  scrape_intervall: 5s\nscrape_configs:\n- job_name: a\n  scrape_timeout: fast\n";
    std::fs::write(&file, text).expect("a writable folder");
    let path = flag("config.file", &file);
    let expected = [&format!("{}:2:", file.display())[..], "scrape_intervall", "scrape_interval", "scrape_timeout"];
    check(&[&path, &flag("storage.tsdb.path", dir.path()), "--web.listen-address=127.0.0.1:0"], &expected);
    check(&["check", "config", &file.display().to_string()], &expected);
}

#[test]
fn a_field_not_built_yet_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, "tracing:\n  endpoint: 127.0.0.1:4317\n").expect("a writable folder");
    check(
        &["check", "config", &file.display().to_string()],
        &["tracing is not supported: this server sends no traces"],
    );
}

#[test]
fn bad_queries_get_400_with_the_place() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&[&flag("storage.tsdb.path", dir.path())]);
    let answer = client::get(server.addr, &with_params("/api/v1/query", &[("query", "sum(up")])).expect("an answer");
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!(body["errorType"], "bad_data");
    let error = body["error"].as_str().expect("a text");
    assert!(error.contains("1:7: parse error: unclosed left parenthesis"), "{error}");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_bad_dashboard_file_is_listed_and_the_others_work() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dashboards = dir.path().join("dashboards");
    std::fs::create_dir(&dashboards).expect("a writable folder");
    std::fs::write(dashboards.join("broken.json"), "{\"title\": ").expect("a writable folder");
    std::fs::write(dashboards.join("fine.json"), r#"{"uid":"fine","title":"Fine","panels":[]}"#).expect("writable");
    let server = Server::start(&[&flag("storage.tsdb.path", dir.path()), &flag("dashboards.path", &dashboards)]);
    let list = client::get(server.addr, "/dashboards").expect("an answer").text();
    assert!(list.contains("Fine") && list.contains("broken.json"), "{list}");
    assert_eq!(client::get(server.addr, "/d/fine").expect("an answer").status, 200);
    let found = client::get(server.addr, "/api/search").expect("an answer").json();
    assert!(found.as_array().expect("a list").iter().any(|d| d["uid"] == "fine"), "{found}");
}
