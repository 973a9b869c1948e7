//! What holds for any bytes, one function per fuzz target. Each comes back without a panic, or has found a bug.
//!
//! The targets run these on what the fuzzer makes up, `cargo test` on the files of `corpus`.

use std::path::Path;

use promontory::scrape::exposition::{self, Format, Item, Parser};
use promontory_model::{Cancel, Labels};
use promontory_promql::engine::{Engine, EngineOptions, Times};
use promontory_promql::promqltest::storage::{MemoryStore, Sample, Value as Stored};
use promontory_promql::value::RangeSpec;
use promontory_promql::{complete, lint, parser, printer};
use promontory_storage::{block, codec, fuzz};

/// Any text parses or is refused; what parses, printed, parses to the same text again.
pub fn promql_parse(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(expr) = parser::parse(text) else { return };
    let printed = printer::to_string(&expr);
    let again = parser::parse(&printed).unwrap_or_else(|e| panic!("{printed:?}, printed from {text:?}: {e}"));
    assert_eq!(printer::to_string(&again), printed, "printed from {text:?}");
}

/// Any query that parses has a value on a small store, or an error, within a limit of memory and whatever stands in it;
/// its plan can be explained, it can be judged, and every place of its text completed.
pub fn promql_eval(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for at in 0..=text.len().min(COMPLETED_BYTES_MAX) {
        let found = complete::complete(text, at);
        assert!(text.get(found.replace.start as usize..found.replace.end as usize).is_some(), "{text:?} at {at}");
    }
    let Ok(expr) = parser::parse(text) else { return };
    for suggestion in lint::lint(&expr, &()) {
        let (start, end) = (suggestion.span.start as usize, suggestion.span.end as usize);
        let mut better = text.to_owned();
        better.replace_range(start..end, suggestion.replacement.as_deref().unwrap_or(&text[start..end]));
        parser::parse(&better).unwrap_or_else(|e| panic!("{better:?}, mended from {text:?}: {e}"));
    }
    let engine = Engine::new(EngineOptions {
        lookback_ms: 60_000,
        max_samples: 20_000,
        memory_bytes_max: 4 << 20,
        subquery_step_ms: 60_000,
        delayed_name_removal: false,
        threads: 1,
    });
    let (store, cancel) = (small_store(), Cancel::new());
    for times in [Times::At(290_000), Times::Range(RangeSpec { start_ms: 0, end_ms: 300_500, step_ms: 15_000 })] {
        let explained = engine.explain(&store, &expr, times, &cancel);
        let analyzed = engine.analyze(&store, &expr, times, &|| 0, &cancel);
        if analyzed.is_ok() {
            assert!(explained.is_ok(), "{text:?} has a value but no plan");
        }
    }
}

/// Longest part of a text whose places are completed.
const COMPLETED_BYTES_MAX: usize = 300;

/// A counter with a reset, a gauge with odd numbers, and a classic histogram; each with gaps.
fn small_store() -> MemoryStore {
    let mut store = MemoryStore::new();
    let odd = [f64::NAN, f64::INFINITY, -0.0, 1e300, 5e-324, -7.5];
    for row in 0..30i64 {
        let mut put = |name: &str, label: (&str, &str), value: f64| {
            let labels = Labels::from_pairs([("__name__", name), label]);
            let sample = Sample { t: row * 10_000 + 137, start: 0, value: Stored::Float(value) };
            // Rows come in order.
            let _ = store.append(&labels, sample);
        };
        put("a_total", ("i", "0"), (row % 17) as f64);
        put("b", ("i", if row % 5 == 0 { "1" } else { "0" }), odd[row as usize % odd.len()]);
        for (le, share) in [("0.5", 0.25), ("1", 0.5), ("+Inf", 1.0)] {
            put("c_bucket", ("le", le), row as f64 * share);
        }
    }
    store
}

/// Any line of InfluxDB is read or refused.
pub fn influx_line(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        promontory::ingest::fuzz::influx_line(text);
    }
}

/// Any OTLP request, in both encodings, becomes samples or is refused, whatever the translation.
pub fn otlp(bytes: &[u8]) {
    promontory::ingest::fuzz::otlp(bytes);
}

/// Whatever a server of ZooKeeper sends is understood or ends the session.
pub fn zookeeper(bytes: &[u8]) {
    promontory::discovery::fuzz::zookeeper(bytes);
}

/// Any body of a scrape is read to its end or refused, in both formats.
pub fn exposition(bytes: &[u8]) {
    for format in [Format::Text, Format::OpenMetrics] {
        let mut parser = Parser::new(bytes, format);
        while let Ok(item) = parser.next_item() {
            if matches!(item, Item::End) {
                break;
            }
        }
    }
}

/// Any body of protocol buffers is read or refused, and what it becomes is readable.
pub fn exposition_protobuf(bytes: &[u8]) {
    exposition::check_any_protobuf(bytes);
}

/// Any configuration or list of targets is read, or refused with a place; what is read can be printed.
pub fn config_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match promontory_config::parse_with_env(text, Path::new("fuzz.yml"), &|_| None) {
        Ok(config) => drop(config.to_yaml()),
        Err(errors) => assert!(!errors.0.is_empty(), "refused without a reason"),
    }
    let _ = promontory_config::web::parse(text, Path::new("fuzz.yml"));
    let _ = promontory_config::discovery::parse_targets(text, Path::new("fuzz.yml"));
    let _ = promontory_config::discovery::parse_targets(text, Path::new("fuzz.json"));
}

/// The bytes after the first decode to as many values as that one says, or are refused; taken for values themselves,
/// they come back bit by bit.
pub fn codec_decode(bytes: &[u8]) {
    let Some((&n, bytes)) = bytes.split_first() else { return };
    let mut values = Vec::new();
    if codec::decode(bytes, usize::from(n), &mut values).is_ok() {
        assert_eq!(values.len(), usize::from(n));
    }
    let floats: Vec<f64> = bytes.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().expect("8 bytes"))).collect();
    let mut encoded = Vec::new();
    codec::encode(&floats, &mut encoded);
    values.clear();
    codec::decode(&encoded, floats.len(), &mut values).expect("what was encoded decodes");
    assert!(values.iter().map(|v| v.to_bits()).eq(floats.iter().map(|v| v.to_bits())));
}

/// Any index of a block, its checksums mended, is searched or refused.
pub fn block_index(bytes: &[u8]) {
    block::fuzz_index(bytes);
}

/// Any bytes are a mini-block of as many rows as the first two say at most, or are refused.
pub fn mini_block(bytes: &[u8]) {
    block::fuzz_mini_block(bytes);
}

/// The bytes are records of the log: all come back from a segment, and a database opens with them.
pub fn wal(bytes: &[u8]) {
    fuzz::wal(bytes);
}

/// Any head segment, its checksums mended, is opened, read and maintained, or damage.
pub fn head_segment(bytes: &[u8]) {
    fuzz::head_segment(bytes);
}

/// Any series file, its checksums mended, is opened and used, or damage.
pub fn series_file(bytes: &[u8]) {
    fuzz::series(bytes);
}

/// Any manifest, its checksum mended, is opened with or refused; what is read is written as it was.
pub fn manifest(bytes: &[u8]) {
    fuzz::manifest(bytes);
}

/// Any list of tombstones, its checksum mended, is obeyed or refused; what is read is written as it was.
pub fn tombstones(bytes: &[u8]) {
    fuzz::tombstones(bytes);
}

/// Any files of a block of Prometheus, their checksums passed over, are read or refused.
pub fn prometheus_block(bytes: &[u8]) {
    fuzz::prometheus_block(bytes);
}

/// Any meta file of a block, its CRC mended, is read or refused; what is read is written as it was.
pub fn block_meta(bytes: &[u8]) {
    fuzz::block_meta(bytes);
}
