//! Runs PromQL scripts against the evaluators: Prometheus' own, where they are present, and ours in `testdata`.
//!
//! Upstream's scripts lie outside the repository (`shared/conformance/promqltest` beside it, or the folder that
//! `PROMQLTEST_DIR` names); without them this says so and checks ours only. `testdata/conformance-floor.txt` holds how
//! many evals of each file passed when it was last raised: no evaluator may fall below. `PROMQLTEST_SHOW=1` prints
//! every failure, `PROMQLTEST_ONLY=name` runs one file.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints its table and fails on bad files")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use promontory_promql::engine::{Engine, EngineOptions};
use promontory_promql::promqltest::{Evaluator, FileReport, run_file};
use promontory_promql::reference::{Reference, ReferenceOptions};

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn scripts(folder: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let only = std::env::var("PROMQLTEST_ONLY").ok();
    let mut scripts: Vec<(String, String)> = entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "test"))
        .filter(|p| only.as_ref().is_none_or(|o| p.file_stem().is_some_and(|s| s.to_string_lossy() == *o)))
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&p).unwrap()))
        .collect();
    scripts.sort();
    scripts
}

fn upstream_folder() -> Option<PathBuf> {
    let shared =
        std::env::var_os("CONFORMANCE").map_or_else(|| package().join("../../shared/conformance"), PathBuf::from);
    Some(shared.join("promqltest")).filter(|folder| folder.is_dir())
}

/// Lines `evaluator file passed`.
fn floor() -> BTreeMap<(String, String), usize> {
    let text = fs::read_to_string(package().join("testdata/conformance-floor.txt")).unwrap();
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty());
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [evaluator, file, passed] = words[..] else { panic!("bad line in conformance-floor.txt: {line}") };
            ((evaluator.to_owned(), file.to_owned()), passed.parse().unwrap())
        })
        .collect()
}

fn show(report: &FileReport) {
    if std::env::var_os("PROMQLTEST_SHOW").is_none() {
        return;
    }
    for f in &report.failures {
        println!("{}:{}: {}\n  expected {}\n  got      {}", report.name, f.line, f.query, f.expected, f.got);
    }
}

#[track_caller]
fn check_floor(name: &str, evaluator: &dyn Evaluator) {
    let Some(folder) = upstream_folder() else {
        assert!(std::env::var_os("CONFORMANCE_REQUIRED").is_none(), "no conformance scripts, and they are required");
        eprintln!("SKIPPED: no conformance scripts; put them into ../shared/conformance/promqltest");
        return;
    };
    let floor = floor();
    let mut below = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    for (file, text) in scripts(&folder) {
        let report = run_file(&text, &file, evaluator);
        show(&report);
        println!("{name:10} {file:28} {:5} passed {:5} failed", report.passed, report.failed());
        passed += report.passed;
        failed += report.failed();
        let least = floor.get(&(name.to_owned(), file.clone())).copied().unwrap_or(0);
        if report.passed < least {
            below.push(format!("{file}: {} passed, floor is {least}", report.passed));
        }
    }
    println!("{name:10} {:28} {passed:5} passed {failed:5} failed", "all");
    assert!(below.is_empty(), "{name} fell below its floor: {below:#?}");
}

#[track_caller]
fn check_own_scripts(evaluator: &dyn Evaluator) {
    for (file, text) in scripts(&package().join("testdata")) {
        let report = run_file(&text, &file, evaluator);
        show(&report);
        assert!(report.failures.is_empty(), "{file}: {:#?}", report.failures);
    }
}

fn reference() -> Reference {
    Reference::new(ReferenceOptions::CONFORMANCE)
}

#[test]
fn reference_passes_no_less_of_upstreams_scripts_than_before() {
    check_floor("reference", &reference());
}

#[test]
fn reference_passes_our_scripts() {
    check_own_scripts(&reference());
}

fn engine() -> Engine {
    Engine::new(EngineOptions {
        lookback_ms: 300_000,
        max_samples: 10_000,
        memory_bytes_max: 1 << 30,
        subquery_step_ms: 60_000,
        delayed_name_removal: true,
        threads: 2,
    })
}

#[test]
fn engine_passes_no_less_of_upstreams_scripts_than_before() {
    check_floor("engine", &engine());
}

#[test]
fn engine_passes_our_scripts() {
    check_own_scripts(&engine());
}
