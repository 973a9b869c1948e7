//! `promontory render …` as a user runs it: of a running server, and of a data folder that nobody serves.

use std::process::{Command, Stdio};

use crate::server::{Server, flag};

const START_S: i64 = 1_700_000_000;

fn promontory(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_promontory")).args(args).stdin(Stdio::null()).output().expect("the binary starts")
}

#[track_caller]
fn run(args: &[&str]) -> Vec<u8> {
    let output = promontory(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn pictures_of_a_server_and_of_its_folder_are_the_same() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (data, folder) = (dir.path().join("data"), dir.path().join("dashboards"));
    std::fs::create_dir(&folder).expect("a writable folder");
    let dashboard = r#"{"uid": "d", "title": "Drawn", "panels": [
        {"id": 1, "type": "timeseries", "title": "Lines", "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8}, "targets": [{"expr": "m{a=~\"$a\"}"}]}],
        "templating": {"list": [{"name": "a", "type": "textbox", "query": ".*"}]}}"#;
    std::fs::write(folder.join("d.json"), dashboard).expect("a writable folder");
    let mut samples = String::from("# TYPE m gauge\n");
    for a in ["x", "y"] {
        for t in (0..3_600).step_by(15) {
            samples += &format!("m{{a=\"{a}\"}} {} {}\n", t * a.len() as i64, START_S + t);
        }
    }
    let file = dir.path().join("m.om");
    std::fs::write(&file, samples + "# EOF\n").expect("a writable folder");
    let text = |path: &std::path::Path| path.display().to_string();
    run(&["tsdb", "import", "--format", "openmetrics", &text(&file), &text(&data)]);

    let window = [format!("--from={START_S}000"), format!("--to={}000", START_S + 3_600), "--format=svg".to_owned()];
    let window: Vec<&str> = window.iter().map(String::as_str).collect();
    let of_folder =
        [&["render", "panel", "d", "1", "--data", &text(&data), "--dashboards.path", &text(&folder)], &window[..]];
    let from_folder = run(&of_folder.concat());
    let from_folder = String::from_utf8(from_folder).expect("SVG is text");
    assert!(
        from_folder.contains(">Lines</text>") && from_folder.matches("stroke-linejoin").count() == 2,
        "{from_folder}"
    );

    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "global: {scrape_interval: 15s}\n").expect("a writable folder");
    let server = Server::start(&[
        &flag("config.file", &config),
        &flag("storage.tsdb.path", &data),
        &flag("dashboards.path", &folder),
        "--storage.tsdb.retention.time=100y",
    ]);
    let address = format!("--server=http://{}", server.addr);
    let of_server = |more: &[&str]| run(&[&["render", "panel", "d", "1", &address], &window[..], more].concat());
    assert_eq!(String::from_utf8_lossy(&of_server(&[])), from_folder);
    let one = String::from_utf8(of_server(&["--var", "a=x"])).expect("SVG is text");
    assert_eq!(one.matches("stroke-linejoin").count(), 1, "{one}");

    let png = dir.path().join("page.png");
    run(&["render", "dashboard", "d", &address, "--theme=light", "--width=800", "-o", &text(&png)]);
    assert_eq!(&std::fs::read(&png).expect("the picture")[..4], b"\x89PNG");
    let html = dir.path().join("page.html");
    run(&["render", "dashboard", "d", &address, "-o", &text(&html)]);
    assert!(std::fs::read_to_string(&html).expect("the snapshot").contains("<style>"));
    let wrong = promontory(&["render", "panel", "d", "99", &address]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("404 Not Found: no panel 99"), "{wrong:?}");
}
