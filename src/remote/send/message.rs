//! What is sent: samples as messages of remote write, version 1 or 2, compressed.
//!
//! Samples of one series that follow one another share its labels. Version 2 carries exemplars and what is known of a
//! metric beside samples alone, so an exemplar goes with the newest sample of its series in the same request.
//!
//! # Source
//! `prompb/remote.proto`, `prompb/types.proto` and `prompb/io/prometheus/write/v2/types.proto` of Prometheus.

use std::collections::{BTreeMap, HashMap};

use promontory_config::remote::WriteMessage;
use promontory_model::{HistogramSample, Labels, MetricMetadata, MetricType};
use promontory_storage::Exemplar;
use prost::Message as _;

use super::super::{histogram, put};

/// What is said of metric families.
pub(super) type Families = BTreeMap<String, Vec<MetricMetadata>>;

/// One thing to send.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) labels: Labels,
    pub(super) t: i64,
    pub(super) point: Point,
}

#[derive(Debug, Clone)]
pub(super) enum Point {
    Float(f64),
    Histogram(HistogramSample),
    Exemplar(Exemplar),
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
}

impl Counts {
    pub(super) fn of(items: &[Item]) -> Self {
        let mut counts = Self::default();
        for item in items {
            match item.point {
                Point::Float(_) => counts.samples += 1,
                Point::Histogram(_) => counts.histograms += 1,
                Point::Exemplar(_) => counts.exemplars += 1,
            }
        }
        counts
    }
}

/// The request of `items`, compressed.
pub(super) fn request(message: WriteMessage, items: &[Item], families: &Families) -> Vec<u8> {
    match message {
        WriteMessage::First => compress(&first(items)),
        WriteMessage::Second => compress(&second(items, families)),
    }
}

/// A request of version 1 that says what `families` mean.
pub(super) fn metadata<'a>(families: impl Iterator<Item = (&'a String, &'a MetricMetadata)>) -> Vec<u8> {
    let (mut out, mut family) = (Vec::new(), Vec::new());
    for (name, metadata) in families {
        family.clear();
        put::int64(&mut family, 1, number_of(metadata.kind));
        put::bytes(&mut family, 2, name.as_bytes());
        put::bytes(&mut family, 4, metadata.help.as_bytes());
        put::bytes(&mut family, 5, metadata.unit.as_bytes());
        put::bytes(&mut out, 3, &family);
    }
    compress(&out)
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).expect("requests are far below the 4 GiB that snappy takes")
}

fn number_of(kind: MetricType) -> i64 {
    match kind {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}

/// Runs of items of one series.
fn runs(items: &[Item]) -> impl Iterator<Item = &[Item]> {
    items.chunk_by(|a, b| a.labels == b.labels)
}

fn put_sample(out: &mut Vec<u8>, field: u8, scratch: &mut Vec<u8>, t: i64, v: f64) {
    scratch.clear();
    put::double(scratch, 1, v);
    put::int64(scratch, 2, t);
    put::bytes(out, field, scratch);
}

fn first(items: &[Item]) -> Vec<u8> {
    let (mut out, mut series, mut part) = (Vec::new(), Vec::new(), Vec::new());
    for run in runs(items) {
        series.clear();
        run[0].labels.iter().for_each(|(name, value)| put::label(&mut series, name, value));
        for item in run {
            match &item.point {
                Point::Float(v) => put_sample(&mut series, 2, &mut part, item.t, *v),
                Point::Histogram(h) => put::bytes(&mut series, 4, &histogram::message(item.t, h).encode_to_vec()),
                Point::Exemplar(e) => {
                    part.clear();
                    e.labels.iter().for_each(|(name, value)| put::label(&mut part, name, value));
                    put::double(&mut part, 2, e.value);
                    put::int64(&mut part, 3, item.t);
                    put::bytes(&mut series, 3, &part);
                }
            }
        }
        put::bytes(&mut out, 1, &series);
    }
    out
}

/// Texts of a request of version 2, each once.
struct Symbols<'a> {
    numbers: HashMap<&'a str, u32>,
    /// Their fields of the request.
    out: Vec<u8>,
}

impl<'a> Symbols<'a> {
    fn new() -> Self {
        let mut symbols = Self { numbers: HashMap::new(), out: Vec::new() };
        symbols.number("");
        symbols
    }

    fn number(&mut self, text: &'a str) -> u32 {
        let next = self.numbers.len() as u32;
        let out = &mut self.out;
        *self.numbers.entry(text).or_insert_with(|| {
            put::bytes(out, 4, text.as_bytes());
            next
        })
    }

    /// Appends field 1: the numbers of names and values.
    fn put_labels(&mut self, out: &mut Vec<u8>, labels: &'a Labels) {
        let mut refs = Vec::with_capacity(2 * labels.len());
        for (name, value) in labels {
            put::varint(&mut refs, u64::from(self.number(name)));
            put::varint(&mut refs, u64::from(self.number(value)));
        }
        put::bytes(out, 1, &refs);
    }
}

fn second(items: &[Item], families: &Families) -> Vec<u8> {
    let mut exemplars: HashMap<&Labels, Vec<(i64, &Exemplar)>> = HashMap::new();
    let mut newest: HashMap<&Labels, usize> = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        match &item.point {
            Point::Exemplar(e) => exemplars.entry(&item.labels).or_default().push((item.t, e)),
            _ => drop(newest.insert(&item.labels, i)),
        }
    }
    let (mut symbols, mut all) = (Symbols::new(), Vec::new());
    let (mut series, mut part) = (Vec::new(), Vec::new());
    let mut at = 0;
    for run in runs(items) {
        at += run.len();
        if run.iter().all(|item| matches!(item.point, Point::Exemplar(_))) {
            continue;
        }
        series.clear();
        let labels = &run[0].labels;
        symbols.put_labels(&mut series, labels);
        for item in run {
            match &item.point {
                Point::Float(v) => put_sample(&mut series, 2, &mut part, item.t, *v),
                Point::Histogram(h) => put::bytes(&mut series, 3, &histogram::message(item.t, h).encode_to_vec()),
                Point::Exemplar(_) => {}
            }
        }
        if newest.get(labels).is_some_and(|newest| (at - run.len()..at).contains(newest)) {
            for (t, exemplar) in exemplars.remove(labels).unwrap_or_default() {
                part.clear();
                symbols.put_labels(&mut part, &exemplar.labels);
                put::double(&mut part, 2, exemplar.value);
                put::int64(&mut part, 3, t);
                put::bytes(&mut series, 4, &part);
            }
        }
        if let Some(metadata) = family_of(labels.metric_name(), families) {
            part.clear();
            put::int64(&mut part, 1, number_of(metadata.kind));
            put::int64(&mut part, 3, i64::from(symbols.number(&metadata.help)));
            put::int64(&mut part, 4, i64::from(symbols.number(&metadata.unit)));
            put::bytes(&mut series, 5, &part);
        }
        put::bytes(&mut all, 5, &series);
    }
    let mut out = symbols.out;
    out.extend_from_slice(&all);
    out
}

/// What is known of the metric: of its own name, or of the histogram or summary that it is part of.
fn family_of<'a>(name: &str, families: &'a Families) -> Option<&'a MetricMetadata> {
    let known = |name: &str| families.get(name).and_then(|all| all.first());
    known(name).or_else(|| {
        let base = ["_bucket", "_sum", "_count", "_total"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
        known(base)
    })
}

#[cfg(test)]
mod tests {
    use promontory_model::Timestamp;

    use super::super::super::interned::tests::messages as sent;
    use super::super::super::read::{self, TimeSeries};
    use super::super::super::tests::{histogram_at, messages};
    use super::*;

    fn unpack(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Decoder::new().decompress_vec(bytes).unwrap()
    }

    fn items() -> (Vec<Item>, Exemplar) {
        let labels = |name: &str| Labels::from_pairs([("__name__", name), ("job", "j")]);
        let (_, h) = histogram::read(&histogram_at(3, 1).encode_to_vec()).unwrap();
        let exemplar = Exemplar {
            labels: Labels::from_pairs([("trace_id", "x")]),
            value: 2.0,
            timestamp: Timestamp(4),
            has_timestamp: true,
        };
        let item = |name: &str, t, point| Item { labels: labels(name), t, point };
        let items = vec![
            item("a_total", 1, Point::Float(1.5)),
            item("a_total", 2, Point::Float(0.0)),
            item("h", 3, Point::Histogram(h)),
            item("a_total", 4, Point::Exemplar(exemplar.clone())),
            item("gone", 4, Point::Exemplar(exemplar.clone())),
        ];
        (items, exemplar)
    }

    #[test]
    fn version_1_is_written_as_prost_reads_it() {
        let (items, _) = items();
        let bytes = unpack(&request(WriteMessage::First, &items, &Families::new()));
        let read = messages::WriteRequest::decode(bytes.as_slice()).unwrap();
        let label = |name: &str, value: &str| read::Label { name: name.to_owned(), value: value.to_owned() };
        let exemplar = read::Exemplar { labels: vec![label("trace_id", "x")], value: 2.0, timestamp: 4 };
        let of = |name| messages::series(&[("__name__", name), ("job", "j")], &[]);
        let expected = vec![
            messages::series(&[("__name__", "a_total"), ("job", "j")], &[(1, 1.5), (2, 0.0)]),
            TimeSeries { histograms: vec![histogram_at(3, 1)], ..of("h") },
            TimeSeries { exemplars: vec![exemplar.clone()], ..of("a_total") },
            TimeSeries { exemplars: vec![exemplar], ..of("gone") },
        ];
        assert_eq!(read.timeseries, expected);
        assert_eq!(Counts::of(&items), Counts { samples: 2, histograms: 1, exemplars: 2 });
    }

    #[test]
    fn version_2_is_written_as_prost_reads_it() {
        let (items, _) = items();
        let metadata = MetricMetadata { kind: MetricType::Counter, unit: String::new(), help: "Counts.".to_owned() };
        let families = Families::from([("a".to_owned(), vec![metadata])]);
        let bytes = unpack(&request(WriteMessage::Second, &items, &families));
        let read = sent::Request::decode(bytes.as_slice()).unwrap();
        let symbols: Vec<&str> = read.symbols.iter().map(String::as_str).collect();
        assert_eq!(symbols, ["", "__name__", "a_total", "job", "j", "trace_id", "x", "Counts.", "h"]);
        let [a, h] = &read.timeseries[..] else { panic!("{read:?}") };
        assert_eq!((&a.labels_refs[..], a.samples.len(), a.exemplars.len()), (&[1, 2, 3, 4][..], 2, 1));
        assert_eq!(a.exemplars[0], sent::Exemplar { labels_refs: vec![5, 6], value: 2.0, timestamp: 4 });
        assert_eq!(a.metadata, Some(sent::Metadata { kind: 1, help_ref: 7, unit_ref: 0 }));
        assert_eq!((&h.labels_refs[..], &h.histograms[..]), (&[1, 8, 3, 4][..], &[histogram_at(3, 1)][..]));
    }

    #[test]
    fn families_are_told_by_version_1() {
        #[derive(Clone, PartialEq, prost::Message)]
        struct Told {
            #[prost(bytes = "vec", repeated, tag = "3")]
            families: Vec<Vec<u8>>,
        }
        let metadata_of = MetricMetadata { kind: MetricType::Gauge, unit: "s".to_owned(), help: "Helps.".to_owned() };
        let name = "a".to_owned();
        let bytes = unpack(&metadata([(&name, &metadata_of)].into_iter()));
        let told = Told::decode(bytes.as_slice()).unwrap();
        assert_eq!(super::super::super::wire::family(&told.families[0]), Some((name, metadata_of)));
    }
}
