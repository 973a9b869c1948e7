//! The message of remote write 2.0 (`io.prometheus.write.v2.Request`), scanned in place: its texts stand once, in a table
//! of symbols, and everything else names them by number.
//!
//! A series leaves here with its labels as the bytes of [`wire::labels`], so that the receiver knows series alike in
//! both versions. What is wrong with one series is said and leaves the others; what cannot be taken apart, or exceeds a
//! limit, ends the request. Symbols may be named again and again, so the bytes of all labels are limited too.
//!
//! # Source
//! `prompb/io/prometheus/write/v2/types.proto` of Prometheus.

use std::collections::HashSet;

use promontory_model::MetricMetadata;

use super::put;
use super::wire::{self, Counted, Exemplar, ScanError, Scanner, Value, WireError};

/// Bytes of the labels of an exemplar that may be kept.
const EXEMPLAR_BYTES_MAX: usize = 4 * promontory_storage::EXEMPLAR_LABEL_CHARS_MAX;

/// How much a request may hold beyond [`wire::Limits`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) wire: wire::Limits,
    pub(crate) symbols: usize,
    /// Bytes of one series' labels.
    pub(crate) series_bytes: usize,
    /// Bytes of the labels of all series.
    pub(crate) labels_bytes: usize,
}

/// One series of a request; its parts are those of the series before until [`Request::next`] has set them.
#[derive(Debug, Default)]
pub(crate) struct Series<'a> {
    /// What is wrong with the labels, if so.
    pub(crate) fault: Option<String>,
    /// As the bytes of [`wire::labels`].
    pub(crate) labels: Vec<u8>,
    /// Time in ms and value.
    pub(crate) samples: Vec<(i64, f64)>,
    /// Since when each of them counts, in ms; 0 where nothing is said.
    pub(crate) starts: Vec<i64>,
    /// Messages of native histograms, which are those of version 1.
    pub(crate) histograms: Vec<&'a [u8]>,
    pub(crate) exemplars: Vec<Exemplar<'a>>,
    refs: Vec<u32>,
    /// Type, help and unit; the texts by symbol.
    metadata: Option<(u64, u32, u32)>,
}

/// Takes a request apart, series by series.
pub(crate) struct Request<'a> {
    symbols: Vec<&'a str>,
    fields: Scanner<'a>,
    counted: Counted,
    limits: Limits,
    labels_bytes: usize,
    told: HashSet<(&'a str, u64, u32, u32)>,
    families: Vec<(String, MetricMetadata)>,
}

impl<'a> Request<'a> {
    /// Reads the symbols.
    pub(crate) fn new(bytes: &'a [u8], limits: Limits) -> Result<Self, ScanError> {
        let mut symbols = Vec::new();
        let mut fields = Scanner::new(bytes);
        while let Some((number, value)) = fields.next()? {
            let (4, Value::Bytes(symbol)) = (number, value) else { continue };
            if symbols.len() == limits.symbols {
                let (what, limit) = ("symbols", "write_symbols_max");
                return Err(ScanError::Limit { what, max: limits.symbols, limit });
            }
            let symbol = std::str::from_utf8(symbol).map_err(|_| fields.error("symbol that is no utf-8"))?;
            symbols.push(symbol);
        }
        Ok(Self {
            symbols,
            fields: Scanner::new(bytes),
            counted: Counted::new(limits.wire),
            limits,
            labels_bytes: 0,
            told: HashSet::new(),
            families: Vec::new(),
        })
    }

    /// What is said of families so far, each once.
    pub(crate) fn take_families(&mut self) -> Vec<(String, MetricMetadata)> {
        std::mem::take(&mut self.families)
    }

    /// Samples so far, histograms included.
    pub(crate) fn n_samples(&self) -> usize {
        self.counted.n_samples
    }

    /// Reads the next series into `out`; false when there is none.
    pub(crate) fn next(&mut self, out: &mut Series<'a>) -> Result<bool, ScanError> {
        while let Some((number, value)) = self.fields.next()? {
            let (5, Value::Bytes(message)) = (number, value) else { continue };
            self.counted.series()?;
            self.series(message, out)?;
            out.fault = self.labels(&out.refs, &mut out.labels)?.err();
            if let (Some(metadata), None) = (out.metadata, &out.fault) {
                self.family(&out.refs, metadata)?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn series(&mut self, message: &'a [u8], out: &mut Series<'a>) -> Result<(), ScanError> {
        out.refs.clear();
        out.samples.clear();
        out.starts.clear();
        out.histograms.clear();
        out.exemplars.clear();
        out.metadata = None;
        let mut fields = Scanner::new(message);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, value) => read_refs(value, &mut out.refs)?,
                (2, Value::Bytes(sample)) => {
                    self.counted.sample()?;
                    let (sample, start) = wire::scan_started_sample(sample)?;
                    out.samples.push(sample);
                    out.starts.push(start);
                }
                (3, Value::Bytes(histogram)) => {
                    self.counted.histogram(histogram.len())?;
                    out.histograms.push(histogram);
                }
                (4, Value::Bytes(exemplar)) => {
                    self.counted.exemplar()?;
                    // One that names no symbols is nothing to lose a series for.
                    out.exemplars.extend(self.exemplar(exemplar)?);
                }
                (5, Value::Bytes(metadata)) => out.metadata = Some(scan_metadata(metadata)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sets `out` to the labels of `refs`; the inner error says what is wrong with this series alone.
    fn labels(&mut self, refs: &[u32], out: &mut Vec<u8>) -> Result<Result<(), String>, ScanError> {
        out.clear();
        if !refs.len().is_multiple_of(2) {
            return Ok(Err(format!("{} numbers of symbols are no pairs of name and value", refs.len())));
        }
        for pair in refs.chunks_exact(2) {
            let (Some(name), Some(value)) = (self.symbol(pair[0]), self.symbol(pair[1])) else {
                return Ok(Err(format!(
                    "label of symbols {} and {} is outside the table of {} symbols",
                    pair[0],
                    pair[1],
                    self.symbols.len()
                )));
            };
            if out.len() + name.len() + value.len() > self.limits.series_bytes {
                return Ok(Err(format!("labels of more than {} bytes", self.limits.series_bytes)));
            }
            put::label(out, name, value);
        }
        self.spell_out(out.len()).map(Ok)
    }

    /// Counts bytes that stand in the request once and are written here again.
    fn spell_out(&mut self, n: usize) -> Result<(), ScanError> {
        self.labels_bytes = self.labels_bytes.saturating_add(n);
        let max = self.limits.labels_bytes;
        if self.labels_bytes > max {
            return Err(ScanError::Limit { what: "bytes of labels", max, limit: "write_labels_bytes_max" });
        }
        Ok(())
    }

    fn symbol(&self, number: u32) -> Option<&'a str> {
        self.symbols.get(number as usize).copied()
    }

    fn exemplar(&self, bytes: &'a [u8]) -> Result<Option<Exemplar<'a>>, ScanError> {
        let mut refs = Vec::new();
        let (mut value, mut t) = (0.0, 0);
        let mut fields = Scanner::new(bytes);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, field) => read_refs(field, &mut refs)?,
                (2, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                (3, Value::Varint(n)) => t = n as i64,
                _ => {}
            }
        }
        // More than can be kept is not worth spelling out.
        if refs.len() > 2 * promontory_storage::EXEMPLAR_LABEL_CHARS_MAX || !refs.len().is_multiple_of(2) {
            return Ok(None);
        }
        let pair = |pair: &[u32]| Some((self.symbol(pair[0])?, self.symbol(pair[1])?));
        let labels: Option<Vec<(&str, &str)>> = refs.chunks_exact(2).map(pair).collect();
        let fits = |labels: &Vec<(&str, &str)>| {
            labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= EXEMPLAR_BYTES_MAX
        };
        Ok(labels.filter(fits).map(|labels| Exemplar { labels, value, t }))
    }

    /// Remembers what is said of the family of the series with the labels `refs`.
    fn family(&mut self, refs: &[u32], (kind, help, unit): (u64, u32, u32)) -> Result<(), ScanError> {
        let pairs = refs.chunks_exact(2).filter_map(|p| Some((self.symbol(p[0])?, self.symbol(p[1])?)));
        let name = pairs.into_iter().find(|(name, _)| *name == promontory_model::METRIC_NAME).map(|(_, value)| value);
        let (Some(name), Some(help_text), Some(unit_text)) = (name, self.symbol(help), self.symbol(unit)) else {
            return Ok(());
        };
        if (kind, help_text, unit_text) == (0, "", "") {
            return Ok(());
        }
        let name = family_of(name, kind);
        if self.told.insert((name, kind, help, unit)) {
            self.counted.family()?;
            self.spell_out(name.len() + help_text.len() + unit_text.len())?;
            let metadata = MetricMetadata {
                kind: wire::metric_type(kind),
                unit: unit_text.to_owned(),
                help: help_text.to_owned(),
            };
            self.families.push((name.to_owned(), metadata));
        }
        Ok(())
    }
}

/// The family of a series of this name and type: buckets, sums and counts belong to the histogram or summary.
fn family_of(name: &str, kind: u64) -> &str {
    const COMPOUND: std::ops::RangeInclusive<u64> = 3..=5;
    let suffixes = ["_bucket", "_sum", "_count"];
    let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|base| !base.is_empty());
    base.filter(|_| COMPOUND.contains(&kind)).unwrap_or(name)
}

/// Numbers, packed or one alone.
fn read_refs(value: Value<'_>, out: &mut Vec<u32>) -> Result<(), WireError> {
    // What does not fit names no symbol either way.
    let fit = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    match value {
        Value::Varint(n) => out.push(fit(n)),
        Value::Bytes(packed) => {
            let mut packed = Scanner::new(packed);
            while !packed.is_at_end() {
                out.push(fit(packed.varint()?));
            }
        }
        _ => {}
    }
    Ok(())
}

fn scan_metadata(bytes: &[u8]) -> Result<(u64, u32, u32), WireError> {
    let mut fields = Scanner::new(bytes);
    let (mut kind, mut help, mut unit) = (0, 0, 0);
    while let Some((number, value)) = fields.next()? {
        let Value::Varint(n) = value else { continue };
        match number {
            1 => kind = n,
            3 => help = u32::try_from(n).unwrap_or(u32::MAX),
            4 => unit = u32::try_from(n).unwrap_or(u32::MAX),
            _ => {}
        }
    }
    Ok((kind, help, unit))
}

#[cfg(test)]
pub(super) mod tests {
    use promontory_model::MetricType;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// Remote write 2.0 as senders write it.
    pub(in super::super) mod messages {
        use super::super::super::histogram::Histogram;

        #[derive(Clone, PartialEq, prost::Message)]
        pub(in super::super::super) struct Request {
            #[prost(string, repeated, tag = "4")]
            pub(in super::super::super) symbols: Vec<String>,
            #[prost(message, repeated, tag = "5")]
            pub(in super::super::super) timeseries: Vec<TimeSeries>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(in super::super::super) struct TimeSeries {
            #[prost(uint32, repeated, tag = "1")]
            pub(in super::super::super) labels_refs: Vec<u32>,
            #[prost(message, repeated, tag = "2")]
            pub(in super::super::super) samples: Vec<Sample>,
            #[prost(message, repeated, tag = "3")]
            pub(in super::super::super) histograms: Vec<Histogram>,
            #[prost(message, repeated, tag = "4")]
            pub(in super::super::super) exemplars: Vec<Exemplar>,
            #[prost(message, optional, tag = "5")]
            pub(in super::super::super) metadata: Option<Metadata>,
            /// Of older senders.
            #[prost(int64, tag = "6")]
            pub(in super::super::super) created_timestamp: i64,
        }

        #[derive(Clone, Copy, PartialEq, prost::Message)]
        pub(in super::super::super) struct Sample {
            #[prost(double, tag = "1")]
            pub(in super::super::super) value: f64,
            #[prost(int64, tag = "2")]
            pub(in super::super::super) timestamp: i64,
            #[prost(int64, tag = "3")]
            pub(in super::super::super) start_timestamp: i64,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(in super::super::super) struct Exemplar {
            #[prost(uint32, repeated, tag = "1")]
            pub(in super::super::super) labels_refs: Vec<u32>,
            #[prost(double, tag = "2")]
            pub(in super::super::super) value: f64,
            #[prost(int64, tag = "3")]
            pub(in super::super::super) timestamp: i64,
        }

        #[derive(Clone, Copy, PartialEq, prost::Message)]
        pub(in super::super::super) struct Metadata {
            #[prost(int32, tag = "1")]
            pub(in super::super::super) kind: i32,
            #[prost(uint32, tag = "3")]
            pub(in super::super::super) help_ref: u32,
            #[prost(uint32, tag = "4")]
            pub(in super::super::super) unit_ref: u32,
        }

        /// Collects symbols.
        #[derive(Default)]
        pub(in super::super::super) struct Symbols(pub(in super::super::super) Vec<String>);

        impl Symbols {
            pub(in super::super::super) fn number(&mut self, text: &str) -> u32 {
                if self.0.is_empty() {
                    self.0.push(String::new());
                }
                let known = self.0.iter().position(|s| s == text);
                known.unwrap_or_else(|| {
                    self.0.push(text.to_owned());
                    self.0.len() - 1
                }) as u32
            }

            pub(in super::super::super) fn series(
                &mut self,
                labels: &[(&str, &str)],
                samples: &[(i64, f64)],
            ) -> TimeSeries {
                let sample = |&(timestamp, value): &(i64, f64)| Sample { value, timestamp, start_timestamp: 1 };
                TimeSeries {
                    labels_refs: labels.iter().flat_map(|(n, v)| [self.number(n), self.number(v)]).collect(),
                    samples: samples.iter().map(sample).collect(),
                    created_timestamp: 1,
                    ..TimeSeries::default()
                }
            }
        }
    }

    use messages::{Exemplar as SentExemplar, Metadata, Request as Sent, Symbols, TimeSeries};

    const WIRE: wire::Limits = wire::Limits { series: 9, samples: 9, histogram_bytes: 99, exemplars: 9, families: 9 };
    const LIMITS: Limits = Limits { wire: WIRE, symbols: 99, series_bytes: 99, labels_bytes: 999 };

    type Families = Vec<(String, MetricMetadata)>;

    /// Faults, labels, samples and exemplars of all series, and the families.
    fn read(bytes: &[u8], limits: Limits) -> Result<(Vec<String>, Families), ScanError> {
        let mut request = Request::new(bytes, limits)?;
        let (mut out, mut series) = (Vec::new(), Series::default());
        while request.next(&mut series)? {
            let labels = wire::labels(&series.labels);
            out.push(match &series.fault {
                Some(fault) => fault.clone(),
                None => format!("{:?} {:?} {:?}", labels.unwrap(), series.samples, series.exemplars),
            });
        }
        Ok((out, request.take_families()))
    }

    fn encode(symbols: Symbols, timeseries: Vec<TimeSeries>) -> Vec<u8> {
        Sent { symbols: symbols.0, timeseries }.encode_to_vec()
    }

    #[test]
    fn requests_are_taken_apart() {
        let mut s = Symbols::default();
        let mut a = s.series(&[("__name__", "a_bucket"), ("le", "é")], &[(1, 1.5), (-7, f64::INFINITY)]);
        a.metadata = Some(Metadata { kind: 3, help_ref: s.number("Helps."), unit_ref: s.number("s") });
        let labels_refs = vec![s.number("trace_id"), s.number("x")];
        a.exemplars = vec![SentExemplar { labels_refs, value: 2.0, timestamp: 5 }];
        let twice = a.clone();
        let odd = TimeSeries { labels_refs: vec![1], ..TimeSeries::default() };
        let beyond = TimeSeries { labels_refs: vec![1, 99], ..TimeSeries::default() };
        let bytes = encode(s, vec![a, odd, beyond, twice]);
        let (series, families) = read(&bytes, LIMITS).unwrap();
        let good = "[(\"__name__\", \"a_bucket\"), (\"le\", \"é\")] [(1, 1.5), (-7, inf)] \
                    [Exemplar { labels: [(\"trace_id\", \"x\")], value: 2.0, t: 5 }]";
        let odd = "1 numbers of symbols are no pairs of name and value";
        let beyond = "label of symbols 1 and 99 is outside the table of 9 symbols";
        assert_eq!(series, [good, odd, beyond, good]);
        let metadata = MetricMetadata { kind: MetricType::Histogram, unit: "s".into(), help: "Helps.".into() };
        assert_eq!(families, [("a".to_owned(), metadata)]);
    }

    #[track_caller]
    fn check_refused(bytes: &[u8], limits: Limits, text: &str) {
        assert_eq!(read(bytes, limits).unwrap_err().to_string(), text);
    }

    #[test]
    fn limits_are_named() {
        let mut s = Symbols::default();
        let series = vec![s.series(&[("__name__", "a")], &[(1, 1.0)]), s.series(&[("__name__", "b")], &[(1, 1.0)])];
        let bytes = encode(s, series);
        check_refused(&bytes, Limits { symbols: 3, ..LIMITS }, "request of more than 3 symbols (write_symbols_max)");
        let text = "request of more than 20 bytes of labels (write_labels_bytes_max)";
        check_refused(&bytes, Limits { labels_bytes: 20, ..LIMITS }, text);
        let text = "request of more than 1 series (write_series_max)";
        check_refused(&bytes, Limits { wire: wire::Limits { series: 1, ..WIRE }, ..LIMITS }, text);
        let text = "request of more than 1 samples (write_samples_max)";
        check_refused(&bytes, Limits { wire: wire::Limits { samples: 1, ..WIRE }, ..LIMITS }, text);
        // Texts that are named again and again, by metadata and by exemplars.
        let mut s = Symbols::default();
        let help_ref = s.number(&"x".repeat(1_000));
        let told = |s: &mut Symbols, name: &str| {
            let mut series = s.series(&[("__name__", name)], &[(1, 1.0)]);
            series.metadata = Some(Metadata { kind: 1, help_ref, unit_ref: 0 });
            series.exemplars = vec![SentExemplar { labels_refs: vec![help_ref, help_ref], value: 2.0, timestamp: 5 }];
            series
        };
        let series = vec![told(&mut s, "a"), told(&mut s, "b"), told(&mut s, "c")];
        let long = encode(s, series);
        let text = "request of more than 2500 bytes of labels (write_labels_bytes_max)";
        check_refused(&long, Limits { labels_bytes: 2_500, ..LIMITS }, text);
        let (series, _) = read(&long, Limits { labels_bytes: 3_500, ..LIMITS }).unwrap();
        assert!(series[0].ends_with("[]"), "an exemplar that cannot be kept is left out: {}", series[0]);
        let (series, _) = read(&bytes, Limits { series_bytes: 8, ..LIMITS }).unwrap();
        assert_eq!(series[0], "labels of more than 8 bytes");
        check_refused(&[0x22, 1, 0xff], LIMITS, "proto: symbol that is no utf-8 at byte 3");
        check_refused(&[0x2a, 9], LIMITS, "proto: unexpected end at byte 2");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, LIMITS);
            let _ = read(&[&[0x22, 1, b'a', 0x2a, bytes.len() as u8], &bytes[..]].concat(), LIMITS);
        }
    }
}
