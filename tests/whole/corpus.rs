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
    ("zookeeper", properties::zookeeper),
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

/// Targets whose property is quick enough for very many inputs, and whose parsers read bytes of strangers.
const MUTATED: [&str; 5] = ["config_yaml", "exposition", "exposition_protobuf", "promql_parse", "zookeeper"];

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    /// Below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// Changes `bytes` in one of a few ways; `other` is an input to take pieces of.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let len = dice.below(9).min(bytes.len() - at);
    match dice.below(6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = [0, 0x7f, 0x80, 0xff, b'"', b'\n', b'{', b'-'][dice.below(8)],
        2 => drop(bytes.drain(at..at + len)),
        3 => {
            let piece = bytes[at..at + len].to_vec();
            bytes.splice(at..at, piece);
        }
        4 if !other.is_empty() => {
            let from = dice.below(other.len());
            let piece = other[from..other.len().min(from + 1 + dice.below(40))].to_vec();
            bytes.splice(at..at + len, piece);
        }
        _ => bytes.truncate(at),
    }
}

/// `PROMONTORY_MUTATIONS` says how many of each input; a failure prints the input.
#[test]
fn properties_hold_for_mutated_inputs() {
    let n: usize = std::env::var("PROMONTORY_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for (name, property) in TARGETS.iter().filter(|(name, _)| MUTATED.contains(name)) {
        let inputs: Vec<Vec<u8>> =
            files(&fuzz().join("corpus").join(name)).iter().filter_map(|f| fs::read(f).ok()).collect();
        for input in &inputs {
            for _ in 0..n {
                let mut mutated = input.clone();
                for _ in 0..=dice.below(4) {
                    mutate(&mut mutated, &inputs[dice.below(inputs.len())], &mut dice);
                }
                let shown = String::from_utf8_lossy(&mutated).into_owned();
                let held = std::panic::catch_unwind(|| property(&mutated));
                assert!(held.is_ok(), "{name}: {shown:?} {mutated:?}");
            }
        }
    }
}
