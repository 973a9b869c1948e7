//! Who may know whom. Changing a table here is a change of the architecture.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each package and the packages of ours that it may depend on.
const PACKAGES: &[(&str, &[&str])] = &[
    ("storage/model", &[]),
    ("storage", &["promontory-model"]),
    ("promql", &["promontory-model"]),
    ("config", &["promontory-model", "promontory-promql"]),
    ("examples/model-server", &[]),
    (
        ".",
        &[
            "promontory-model",
            "promontory-storage",
            "promontory-promql",
            "promontory-config",
            "promontory-model-server",
        ],
    ),
];

/// What an engine package must not pull in: it knows no runtime, network or file format of the outside.
const NOT_IN_ENGINES: &[&str] = &["tokio", "hyper", "axum", "serde_yaml", "serde", "serde_json", "prost"];
const ENGINES: &[&str] = &["storage/model", "storage", "promql"];

/// Modules of the server, and the modules that they may not name.
const MODULES: &[(&str, &[&str])] = &[
    ("client", &["credentials", "scrape", "discovery", "http", "dashboard", "ui", "remote", "ingest", "app"]),
    ("credentials", &["scrape", "discovery", "http", "dashboard", "ui", "remote", "ingest", "app"]),
    ("scrape", &["http", "dashboard", "ui", "remote", "ingest", "app"]),
    ("discovery", &["http", "dashboard", "ui", "remote", "scrape", "ingest", "app"]),
    ("http", &["scrape", "discovery", "dashboard", "ui", "remote", "ingest", "app"]),
    ("remote", &["scrape", "discovery", "dashboard", "ui", "http", "ingest", "app"]),
    ("ingest", &["discovery", "dashboard", "ui", "http", "remote", "app"]),
    ("sources", &["scrape", "discovery", "dashboard", "ui", "http", "remote", "ingest", "app"]),
    ("dashboard", &["scrape", "discovery", "http", "remote", "ingest", "app"]),
    ("ui", &["scrape", "discovery", "http", "remote", "ingest", "app"]),
];

/// The packages that the product is made of; each has its place.
const DESIGN_PACKAGES: &[(&str, &str)] = &[
    ("tokio", "src"),
    ("hyper", "src"),
    ("prost", "src/remote"),
    ("prost", "src/ingest"),
    ("prost", "src/http"),
    ("prost", "src/scrape"),
    ("snap", "storage/src"),
    ("memmap2", "storage/src"),
    ("crc32fast", "storage/src"),
    ("nom", "promql/src"),
    ("roaring", "storage/src"),
    ("serde_yaml", "config/src"),
    ("tracing", "src"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Names in the `[dependencies]` table of a manifest.
fn dependencies(package: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(package).join("Cargo.toml")).expect("every package has a manifest");
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            names.insert(name.to_owned());
        }
    }
    names
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("folder is readable").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Source text of a folder (or of the file of the same name), comments left out.
fn code_of(dir: &str) -> Vec<(PathBuf, String)> {
    let dir = root().join(dir);
    let mut files = Vec::new();
    rust_files(&dir, &mut files);
    files.extend([dir.with_extension("rs")].into_iter().filter(|f| f.exists()));
    let without_comments =
        |text: String| text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    files.into_iter().map(|f| (f.clone(), without_comments(fs::read_to_string(&f).expect("source is text")))).collect()
}

#[test]
fn packages_depend_only_downwards() {
    for (package, allowed) in PACKAGES {
        for name in dependencies(package).iter().filter(|n| n.starts_with("promontory")) {
            assert!(allowed.contains(&name.as_str()), "{package} must not depend on {name}");
        }
    }
}

#[test]
fn engines_know_no_runtime_network_or_text_format() {
    for package in ENGINES {
        let found = dependencies(package);
        for name in NOT_IN_ENGINES {
            assert!(!found.contains(*name), "{package} must not depend on {name}");
        }
    }
}

#[test]
fn modules_of_the_server_meet_only_in_app() {
    for (module, forbidden) in MODULES {
        for (file, code) in code_of(&format!("src/{module}")) {
            for other in *forbidden {
                let path = format!("crate::{other}::");
                let import = format!("crate::{other};");
                assert!(
                    !code.contains(&path) && !code.contains(&import),
                    "{} must not name {path}: the two meet in app.rs",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn design_packages_are_used_where_they_belong() {
    for (name, place) in DESIGN_PACKAGES {
        let used = code_of(place).iter().any(|(_, code)| code.contains(&format!("{name}::")));
        assert!(used, "{name} is not used in {place}");
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    for dir in ["src", "storage", "promql", "config", "examples", "benches", "tests"] {
        for (file, _) in code_of(dir) {
            let text = fs::read_to_string(&file).expect("source is text");
            assert!(text.starts_with("//!"), "{} does not open with a `//!` line", file.display());
        }
    }
}
