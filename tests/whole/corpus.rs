//! What the fuzz targets demand holds for every file of their corpora.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

#[expect(unreachable_pub, reason = "the library of the fuzz targets, included as source")]
#[path = "../../fuzz/src/lib.rs"]
mod properties;

type Property = fn(&[u8]);

/// Each fuzz target and what it runs.
const TARGETS: &[(&str, Property)] = &[
    ("block_index", properties::block_index),
    ("block_meta", properties::block_meta),
    ("codec_decode", properties::codec_decode),
    ("config_yaml", properties::config_yaml),
    ("exposition", properties::exposition),
    ("exposition_protobuf", properties::exposition_protobuf),
    ("head_segment", properties::head_segment),
    ("influx_line", properties::influx_line),
    ("manifest", properties::manifest),
    ("mini_block", properties::mini_block),
    ("otlp", properties::otlp),
    ("prometheus_block", properties::prometheus_block),
    ("promql_eval", properties::promql_eval),
    ("promql_parse", properties::promql_parse),
    ("series_file", properties::series_file),
    ("tombstones", properties::tombstones),
    ("wal", properties::wal),
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("the folder is readable").path()).collect();
    files.sort();
    files
}

#[test]
fn every_fuzz_target_has_a_corpus_that_is_replayed() {
    let stems = |dir: &str| -> BTreeSet<OsString> {
        files(&fuzz().join(dir)).iter().filter_map(|f| f.file_stem()).map(OsString::from).collect()
    };
    let replayed: BTreeSet<OsString> = TARGETS.iter().map(|(name, _)| OsString::from(name)).collect();
    assert_eq!(stems("fuzz_targets"), replayed);
    assert_eq!(stems("corpus"), replayed);
}

#[test]
fn properties_hold_for_every_file_of_the_corpora() {
    for (name, property) in TARGETS {
        let inputs = files(&fuzz().join("corpus").join(name));
        assert!(!inputs.is_empty(), "no input for {name}");
        for input in inputs {
            eprintln!("{}", input.display());
            property(&fs::read(&input).expect("the input is readable"));
        }
    }
}
