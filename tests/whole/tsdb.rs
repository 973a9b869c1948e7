//! `promontory tsdb …` as a user runs it.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::server::{Server, flag, wait_until};

const START_S: i64 = 1_700_000_000;

fn tsdb(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_promontory"))
        .arg("tsdb")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// Standard output of a command that does its work.
#[track_caller]
fn run(args: &[&str]) -> String {
    let output = tsdb(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tsdb {args:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).expect("reports are text")
}

/// Standard error of a command that does not.
#[track_caller]
fn refused(args: &[&str], expected: &[&str]) {
    let output = tsdb(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "tsdb {args:?}: {stderr}");
    for text in expected {
        assert!(stderr.contains(text), "{text:?} is not in {stderr:?}");
    }
}

/// Three hours of a counter with gaps, of gauges with odd values, and of names that need quotes.
fn history(dir: &Path) -> std::path::PathBuf {
    let mut text = String::from("# HELP requests Requests answered.\n# TYPE requests counter\n");
    for instance in 0..3 {
        for row in (0..720).filter(|row| (row / 50 + instance) % 4 != 0) {
            let t = START_S + row * 15;
            text += &format!(
                "requests_total{{instance=\"{instance}\",job=\"a\"}} {} {t}.{}\n",
                row * (instance + 1),
                100 + instance
            );
        }
    }
    text += "# TYPE odd gauge\n";
    for (row, value) in ["0.1", "NaN", "+Inf", "-Inf", "-0", "1e-320", "12345678901234567"].iter().enumerate() {
        text += &format!("odd{{text=\"a\\\"b\\\\c\\nd\"}} {value} {}\n", START_S + row as i64);
    }
    text += "# TYPE \"a.b\" gauge\n";
    text += &format!("{{\"a.b\",\"c d\"=\"é\"}} 1 {START_S}.001\n# EOF\n");
    let file = dir.join("history.om");
    std::fs::write(&file, text).expect("the folder can be written");
    file
}

#[test]
fn an_export_that_is_imported_again_is_equal() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let report = run(&["import", "--format", "openmetrics", path(&history(dir.path())), path(&a)]);
    assert!(report.contains("samples of 5 series imported"), "{report}");
    let before = run(&["dump", path(&a)]);
    let exported = dir.path().join("export.om");
    let text = run(&["dump", "--format", "openmetrics", path(&a)]);
    assert!(text.contains("# HELP requests Requests answered.\n# TYPE requests counter\nrequests_total{"), "{text}");
    std::fs::write(&exported, &text).expect("the folder can be written");
    run(&["import", "--format", "openmetrics", path(&exported), path(&b)]);
    assert_eq!(run(&["dump", path(&b)]), before);
    assert!(before.contains("odd{text=\"a\\\"b\\\\c\\nd\"} -0 1700000004000\n"), "{before}");
    assert_eq!(run(&["dump", "--format", "openmetrics", path(&b)]), text);
    // Once more into the same folder: nothing is new.
    run(&["import", "--format", "openmetrics", path(&exported), path(&b)]);
    assert_eq!(run(&["dump", path(&b)]), before);
}

#[test]
fn a_dump_holds_what_is_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    run(&["import", "--format", "openmetrics", path(&history(dir.path())), path(&data)]);
    let some = run(&[
        "dump",
        "--match={instance=~\"[01]\"}",
        "--match=requests_total{instance=\"1\"}",
        "--min-time=2023-11-14T22:13:20Z",
        "--max-time=1700000765.2",
        path(&data),
    ]);
    let lines: Vec<&str> = some.lines().collect();
    assert_eq!(lines.len(), 54, "{some}");
    assert_eq!(lines[0], "requests_total{instance=\"0\",job=\"a\"} 50 1700000750100");
    refused(&["dump", "--match={job=", path(&data)], &["--match", "{job=\"node\"}"]);
    refused(&["dump", path(&dir.path().join("nowhere"))], &["nowhere"]);
    refused(&["dump", path(dir.path())], &["no data of promontory inside", "--storage.tsdb.path"]);
}

#[test]
fn a_bad_line_is_named_and_nothing_is_imported() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    for (text, expected) in [
        ("a 1 1\nb{ 2 2\n# EOF\n", [":2:", "nothing was imported"]),
        ("a 1 1\nb 2\n# EOF\n", [":2:", "Unix seconds"]),
        ("a 1 1\n", [":2:", "# EOF"]),
    ] {
        let file = dir.path().join("bad.om");
        std::fs::write(&file, text).expect("the folder can be written");
        refused(&["import", "--format", "openmetrics", path(&file), path(&data)], &expected);
        assert_eq!(run(&["dump", path(&data)]), "");
    }
    assert!(run(&["list", path(&data)]).contains("no blocks yet"));
}

#[test]
fn a_folder_in_use_is_read_and_not_written() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    let file = history(dir.path());
    run(&["import", "--format", "openmetrics", path(&file), path(&data)]);
    // Without a limit, for the samples are old.
    let server = Server::start(&[&flag("storage.tsdb.path", &data), "--storage.tsdb.retention.time=100y"]);
    refused(&["import", "--format", "openmetrics", path(&file), path(&data)], &["another process", path(&data)]);
    let dump = run(&["dump", "--match=requests_total", path(&data)]);
    assert_eq!(dump.lines().count(), 1640, "{dump}");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn blocks_of_prometheus_that_are_imported_again_are_equal() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (a, b, blocks) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("blocks"));
    run(&["import", "--format", "openmetrics", path(&history(dir.path())), path(&a)]);
    let report = run(&["export", "--format", "prometheus", "--output", path(&blocks), path(&a)]);
    assert!(report.contains("2 blocks, 1,648 samples"), "{report}");
    assert_eq!(run(&["list", "-r", path(&blocks)]).lines().filter(|l| l.ends_with("prometheus")).count(), 2);
    run(&["import", "--format", "prometheus", path(&blocks), path(&b)]);
    assert_eq!(run(&["dump", path(&b)]), run(&["dump", path(&a)]));
    refused(&["import", "--format", "prometheus", path(dir.path()), path(&b)], &["no block of prometheus inside"]);
    refused(&["dump", path(&blocks)], &["no data of promontory inside"]);
    let file = dir.path().join("some.om");
    let report = run(&["export", "--format", "openmetrics", "-o", path(&file), "--match={job=\"a\"}", path(&a)]);
    assert!(report.contains("1,640 samples of 3 series"), "{report}");
    assert!(std::fs::read_to_string(&file).expect("the file is there").ends_with("# EOF\n"));
}

#[test]
fn an_analysis_names_metrics_labels_and_pairs() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    run(&["import", "--format", "openmetrics", path(&history(dir.path())), path(&data)]);
    let report = run(&["analyze", path(&data)]);
    for expected in [
        "series          5\n",
        "samples         1,648\n",
        "requests_total\n",
        "job=\"a\"",
        "Labels by number of values",
    ] {
        assert!(report.contains(expected), "{expected:?} is not in {report}");
    }
    refused(&["analyze", "--block", "01JD0Q2V6Y3QJ1Z3W8T6M4K9NB", path(&data)], &["--block", "tsdb list"]);
}

#[test]
fn damage_is_named_and_repaired_without_deleting_anything() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    run(&["import", "--format", "openmetrics", path(&history(dir.path())), path(&data)]);
    assert!(run(&["verify", path(&data)]).ends_with("all is well\n"));
    assert!(run(&["repair", path(&data)]).contains("nothing is damaged"));
    let list = run(&["list", path(&data)]);
    let block = list.lines().nth(1).and_then(|l| l.split(' ').next()).expect("a block");
    let file = data.join("blocks").join(block).join("data");
    let mut bytes = std::fs::read(&file).expect("the block has data");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).expect("the folder can be written");
    let output = tsdb(&["verify", path(&data)]);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(report.contains(&format!("damaged: read {} at", file.display())), "{report}");
    assert!(report.contains("promontory tsdb repair"), "{report}");
    assert!(run(&["repair", "--dry-run", path(&data)]).contains("to be moved"));
    let report = run(&["repair", path(&data)]);
    let moved = report.lines().find(|l| l.starts_with("moved: ")).expect("a block was moved");
    let to = moved.split(" to ").nth(1).expect("where it went");
    assert_eq!(std::fs::read(Path::new(to).join("data")).expect("it is there"), bytes);
    assert!(run(&["verify", path(&data)]).ends_with("all is well\n"));
}

#[test]
fn an_import_that_is_interrupted_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (file, data) = (dir.path().join("long.om"), dir.path().join("data"));
    let mut text = String::new();
    for row in 0..300_000 {
        text += &format!("long{{job=\"a\"}} {row} {}\n", START_S + row);
    }
    std::fs::write(&file, text + "# EOF\n").expect("the folder can be written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_promontory"))
        .args(["tsdb", "import", "--format", "openmetrics", path(&file), path(&data)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let names = || std::fs::read_dir(data.join("blocks")).map_or(0, Iterator::count);
    wait_until("the import to begin", Duration::from_secs(60), &mut || names() > 0);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("stderr is piped"), &mut stderr).expect("text");
    // A quick machine may be done before it is asked to stop: then everything is there.
    match child.wait().expect("the process ends").code() {
        Some(130) => {
            assert!(stderr.contains("nothing half done is left behind"), "{stderr}");
            assert_eq!(names(), 0);
            assert_eq!(run(&["dump", path(&data)]), "");
        }
        code => {
            assert_eq!(code, Some(0), "{stderr}");
            assert_eq!(run(&["dump", path(&data)]).lines().count(), 300_000);
        }
    }
}
