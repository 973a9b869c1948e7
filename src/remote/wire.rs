//! The messages of remote write 1.0, scanned in place.
//!
//! A sender repeats the same label sets in every request, so a series is known by the bytes of its labels and these
//! are parsed only once; where the series is the one that was expected, its labels are not even looked into. Nothing is
//! allocated per series or sample.
//!
//! # Source
//! `prompb/remote.proto` and `prompb/types.proto` of Prometheus.

use promontory_model::{MetricMetadata, MetricType};

/// Bytes that are no such message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("proto: {what} at byte {offset}")]
pub(crate) struct WireError {
    /// What is wrong.
    what: &'static str,
    /// Where, in the enclosing message.
    offset: usize,
}

/// Value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Reads the fields of one message.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn error(&self, what: &'static str) -> WireError {
        WireError { what, offset: self.at }
    }

    /// A number without a key.
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| self.error("unexpected end"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("number of more than 10 bytes"))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.error("unexpected end"))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next field: its number and value.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        if self.is_at_end() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                let mut fixed = [0; 8];
                fixed.copy_from_slice(self.take(8)?);
                Value::Fixed64(u64::from_le_bytes(fixed))
            }
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| self.error("length out of range"))?;
                Value::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            _ => return Err(self.error("unknown wire type")),
        };
        if key >> 3 == 0 {
            return Err(self.error("field number 0"));
        }
        Ok(Some((key >> 3, value)))
    }
}

/// Labels that the next series of a request is expected to have: the bytes of [`Series::labels`] in three pieces.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected<'a> {
    pub(crate) start: &'a [u8],
    pub(crate) middle: &'a [u8],
    pub(crate) end: &'a [u8],
}

impl Expected<'_> {
    /// Whether these are the labels.
    pub(crate) fn is(&self, labels: &[u8]) -> bool {
        self.split(labels).is_some_and(|(_, rest)| rest.is_empty())
    }

    /// The labels and what follows them in a message that starts with them; `None` when it does not, or nothing is
    /// expected.
    fn split<'m>(&self, message: &'m [u8]) -> Option<(&'m [u8], &'m [u8])> {
        let len = self.start.len() + self.middle.len() + self.end.len();
        if len == 0 {
            return None;
        }
        let (labels, rest) = message.split_at_checked(len)?;
        let (start, middle_and_end) = labels.split_at(self.start.len());
        let (middle, end) = middle_and_end.split_at(self.middle.len());
        (start == self.start && end == self.end && middle == self.middle).then_some((labels, rest))
    }
}

/// One series of a request.
#[derive(Debug, Default)]
pub(crate) struct Series<'a> {
    /// The message from the first label to the last, for [`labels`]; the same for the same labels in the same order.
    pub(crate) labels: &'a [u8],
    /// Whether the labels are those that were expected.
    pub(crate) is_expected: bool,
    /// Time in ms and value.
    pub(crate) samples: Vec<(i64, f64)>,
    /// Messages of native histograms.
    pub(crate) histograms: Vec<&'a [u8]>,
    /// Messages of exemplars.
    pub(crate) exemplars: Vec<&'a [u8]>,
}

/// How much a request may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) series: usize,
    /// Histograms included.
    pub(crate) samples: usize,
    pub(crate) histogram_bytes: usize,
    pub(crate) exemplars: usize,
    /// Families of which type, unit and help are said.
    pub(crate) families: usize,
}

/// Why a request cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("request of more than {max} {what} ({limit})")]
    Limit { what: &'static str, max: usize, limit: &'static str },
}

/// What a request holds so far, against its limits.
#[derive(Debug)]
pub(super) struct Counted {
    limits: Limits,
    n_series: usize,
    pub(super) n_samples: usize,
    pub(super) n_histograms: usize,
    histogram_bytes: usize,
    n_exemplars: usize,
    n_families: usize,
}

impl Counted {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, n_series: 0, n_samples: 0, n_histograms: 0, histogram_bytes: 0, n_exemplars: 0, n_families: 0 }
    }

    pub(super) fn series(&mut self) -> Result<(), ScanError> {
        count(&mut self.n_series, self.limits.series, "series", "write_series_max")
    }

    pub(super) fn sample(&mut self) -> Result<(), ScanError> {
        count(&mut self.n_samples, self.limits.samples, "samples", "write_samples_max")
    }

    pub(super) fn histogram(&mut self, bytes: usize) -> Result<(), ScanError> {
        self.sample()?;
        self.n_histograms += 1;
        self.histogram_bytes += bytes;
        let max = self.limits.histogram_bytes;
        if self.histogram_bytes > max {
            let (what, limit) = ("bytes of native histograms", "write_histogram_bytes_max");
            return Err(ScanError::Limit { what, max, limit });
        }
        Ok(())
    }

    pub(super) fn exemplar(&mut self) -> Result<(), ScanError> {
        count(&mut self.n_exemplars, self.limits.exemplars, "exemplars", "write_exemplars_max")
    }

    pub(super) fn family(&mut self) -> Result<(), ScanError> {
        count(&mut self.n_families, self.limits.families, "metric families", "write_families_max")
    }
}

fn count(n: &mut usize, max: usize, what: &'static str, limit: &'static str) -> Result<(), ScanError> {
    if *n == max {
        return Err(ScanError::Limit { what, max, limit });
    }
    *n += 1;
    Ok(())
}

/// Takes a write request apart, series by series; all of it is checked but the texts of labels and what is in
/// histograms.
pub(crate) struct Request<'a> {
    fields: Scanner<'a>,
    counted: Counted,
    /// Messages that say what families mean.
    families: Vec<&'a [u8]>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(bytes: &'a [u8], limits: Limits) -> Self {
        Self { fields: Scanner::new(bytes), counted: Counted::new(limits), families: Vec::new() }
    }

    /// Messages for [`family`] so far.
    pub(crate) fn families(&self) -> &[&'a [u8]] {
        &self.families
    }

    /// Samples so far, histograms included.
    pub(crate) fn n_samples(&self) -> usize {
        self.counted.n_samples
    }

    /// Reads the next series into `out`; false when there is none. Where it has the labels `expected` and one sample,
    /// little more than a comparison is done.
    pub(crate) fn next(&mut self, expected: Expected<'_>, out: &mut Series<'a>) -> Result<bool, ScanError> {
        while let Some((number, value)) = self.fields.next()? {
            let message = match (number, value) {
                (1, Value::Bytes(message)) => message,
                (3, Value::Bytes(family)) => {
                    self.counted.family()?;
                    self.families.push(family);
                    continue;
                }
                _ => continue,
            };
            self.counted.series()?;
            out.samples.clear();
            out.histograms.clear();
            out.exemplars.clear();
            match expected_sample(message, expected) {
                Some((labels, sample)) => {
                    self.counted.sample()?;
                    out.labels = labels;
                    out.is_expected = true;
                    out.samples.push(sample);
                }
                None => {
                    self.series(message, out)?;
                    out.is_expected = expected.is(out.labels);
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn series(&mut self, message: &'a [u8], out: &mut Series<'a>) -> Result<(), ScanError> {
        let mut fields = Scanner::new(message);
        let mut labels = 0..0;
        loop {
            let start = fields.at;
            let Some((number, value)) = fields.next()? else { break };
            match (number, value) {
                (1, Value::Bytes(_)) => {
                    // Senders write labels first and together; should something stand between, it belongs to the
                    // bytes too, which then are known less often but never wrongly.
                    labels = if labels.is_empty() { start..fields.at } else { labels.start..fields.at };
                }
                (2, Value::Bytes(sample)) => {
                    self.counted.sample()?;
                    out.samples.push(scan_sample(sample)?);
                }
                (4, Value::Bytes(histogram)) => {
                    self.counted.histogram(histogram.len())?;
                    out.histograms.push(histogram);
                }
                (3, Value::Bytes(exemplar)) => {
                    self.counted.exemplar()?;
                    out.exemplars.push(exemplar);
                }
                _ => {}
            }
        }
        out.labels = &message[labels];
        Ok(())
    }
}

/// Labels and sample of a series message that is the labels `expected` and one sample, as senders write it; `None` for
/// any other, which may still be a good message.
fn expected_sample<'a>(message: &'a [u8], expected: Expected<'_>) -> Option<(&'a [u8], (i64, f64))> {
    let (labels, rest) = expected.split(message)?;
    let [0x12, len, sample @ ..] = rest else { return None };
    if usize::from(*len) != sample.len() || *len >= 0x80 {
        return None;
    }
    // A value of 0 is left out.
    let (v, time) = match sample {
        [0x09, rest @ ..] => {
            let (v, time) = rest.split_first_chunk()?;
            (f64::from_bits(u64::from_le_bytes(*v)), time)
        }
        _ => (0.0, sample),
    };
    let [0x10, time @ ..] = time else { return None };
    let mut time = Scanner::new(time);
    let t = time.varint().ok()?;
    (time.at == time.bytes.len()).then_some((labels, (t as i64, v)))
}

/// Time and value of a sample, of either version.
pub(super) fn scan_sample(bytes: &[u8]) -> Result<(i64, f64), WireError> {
    scan_started_sample(bytes).map(|(sample, _)| sample)
}

/// Time and value of a sample and since when it counts, which only version 2 says; 0 is nothing said.
pub(super) fn scan_started_sample(bytes: &[u8]) -> Result<((i64, f64), i64), WireError> {
    let mut fields = Scanner::new(bytes);
    let (mut t, mut v, mut start) = (0, 0.0, 0);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Fixed64(bits)) => v = f64::from_bits(bits),
            // Two's complement: negative times come as large numbers.
            (2, Value::Varint(n)) => t = n as i64,
            (3, Value::Varint(n)) => start = n as i64,
            _ => {}
        }
    }
    Ok(((t, v), start))
}

/// An exemplar; the time in ms.
#[derive(Debug, PartialEq)]
pub(crate) struct Exemplar<'a> {
    pub(crate) labels: Vec<(&'a str, &'a str)>,
    pub(crate) value: f64,
    pub(crate) t: i64,
}

/// Reads an exemplar; `None` when it is damaged.
pub(crate) fn exemplar(bytes: &[u8]) -> Option<Exemplar<'_>> {
    let mut out = Exemplar { labels: labels(bytes)?, value: 0.0, t: 0 };
    let mut fields = Scanner::new(bytes);
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (2, Value::Fixed64(bits)) => out.value = f64::from_bits(bits),
            (3, Value::Varint(n)) => out.t = n as i64,
            _ => {}
        }
    }
    Some(out)
}

/// The type of a metric family with this number.
pub(super) fn metric_type(n: u64) -> MetricType {
    usize::try_from(n).ok().and_then(|n| TYPES.get(n).copied()).unwrap_or_default()
}

/// Types of metric families by their number.
const TYPES: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

/// The name of a family and what it means; `None` when it has no name, or is damaged.
pub(crate) fn family(bytes: &[u8]) -> Option<(String, MetricMetadata)> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let (mut name, mut metadata) = (String::new(), MetricMetadata::default());
    let mut fields = Scanner::new(bytes);
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (1, Value::Varint(n)) => metadata.kind = metric_type(n),
            (2, Value::Bytes(bytes)) => name = text(bytes)?,
            (4, Value::Bytes(bytes)) => metadata.help = text(bytes)?,
            (5, Value::Bytes(bytes)) => metadata.unit = text(bytes)?,
            _ => {}
        }
    }
    (!name.is_empty()).then_some((name, metadata))
}

/// The label pairs in the bytes of [`Series::labels`]; `None` when one is no UTF-8 or damaged.
pub(crate) fn labels(bytes: &[u8]) -> Option<Vec<(&str, &str)>> {
    let mut pairs = Vec::new();
    let mut fields = Scanner::new(bytes);
    while let Some((number, value)) = fields.next().ok()? {
        let (1, Value::Bytes(pair)) = (number, value) else { continue };
        let mut parts = Scanner::new(pair);
        let (mut name, mut text) = ("", "");
        while let Some((number, value)) = parts.next().ok()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?,
                (2, Value::Bytes(bytes)) => text = std::str::from_utf8(bytes).ok()?,
                _ => {}
            }
        }
        pairs.push((name, text));
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::tests::messages;
    use super::*;

    /// All series, each time expecting the labels `expected`.
    fn read<'a>(bytes: &'a [u8], limits: Limits, expected: Expected<'_>) -> Result<Vec<Series<'a>>, ScanError> {
        let mut request = Request::new(bytes, limits);
        let mut out = Vec::new();
        loop {
            let mut series = Series::default();
            if !request.next(expected, &mut series)? {
                break;
            }
            out.push(series);
        }
        assert_eq!(request.n_samples(), out.iter().map(|s| s.samples.len() + s.histograms.len()).sum::<usize>());
        Ok(out)
    }

    fn scan(bytes: &[u8], series: usize, samples: usize) -> Result<Vec<Series<'_>>, ScanError> {
        read(bytes, Limits { series, samples, histogram_bytes: 9, exemplars: 1, families: 2 }, Expected::default())
    }

    #[test]
    fn histograms_belong_to_their_series_and_count() {
        let of = |message: &[u8]| {
            let mut series = vec![0x22, message.len() as u8];
            series.extend_from_slice(message);
            let mut request = vec![0x0a, series.len() as u8];
            request.extend_from_slice(&series);
            request
        };
        let bytes = [of(&[0x78, 1]), of(&[0x78, 2])].concat();
        let scanned = scan(&bytes, 2, 2).unwrap();
        assert_eq!(scanned[0].histograms, [[0x78, 1]]);
        assert_eq!(scanned[1].histograms, [[0x78, 2]]);
        assert_eq!(scan(&bytes, 2, 1).unwrap_err().to_string(), "request of more than 1 samples (write_samples_max)");
        let large = of(&[0; 10]);
        let expected = "request of more than 9 bytes of native histograms (write_histogram_bytes_max)";
        assert_eq!(scan(&large, 2, 2).unwrap_err().to_string(), expected);
    }

    #[test]
    fn requests_are_taken_apart() {
        let request = messages::WriteRequest {
            timeseries: vec![
                messages::series(&[("__name__", "a"), ("b", "é")], &[(1000, 1.5), (-7, f64::NEG_INFINITY)]),
                messages::series(&[], &[]),
                messages::series(&[("__name__", "c")], &[(i64::MAX, 0.0)]),
            ],
        };
        let bytes = request.encode_to_vec();
        let scanned = scan(&bytes, 3, 3).unwrap();
        assert_eq!(scanned[0].samples, [(1000, 1.5), (-7, f64::NEG_INFINITY)]);
        assert_eq!(labels(scanned[0].labels).unwrap(), [("__name__", "a"), ("b", "é")]);
        assert!(scanned[1].labels.is_empty() && scanned[1].samples.is_empty());
        assert_eq!(scanned[2].samples, [(i64::MAX, 0.0)]);
        assert_eq!(scan(&bytes, 2, 3).unwrap_err().to_string(), "request of more than 2 series (write_series_max)");
        assert_eq!(scan(&bytes, 3, 2).unwrap_err().to_string(), "request of more than 2 samples (write_samples_max)");
    }

    #[test]
    fn families_stand_beside_series() {
        let message = |name: &str, kind: u64, help: &str, unit: &str| {
            let mut out = vec![0x08, kind as u8];
            for (key, text) in [(0x12, name), (0x22, help), (0x2a, unit)] {
                out.extend_from_slice(&[key, text.len() as u8]);
                out.extend_from_slice(text.as_bytes());
            }
            out
        };
        let metadata = |kind, help: &str, unit: &str| MetricMetadata { kind, help: help.into(), unit: unit.into() };
        let first = message("a", 7, "é", "s");
        assert_eq!(family(&first), Some(("a".to_owned(), metadata(MetricType::StateSet, "é", "s"))));
        let unknown = message("b", 8, "", "");
        assert_eq!(family(&unknown), Some(("b".to_owned(), metadata(MetricType::Unknown, "", ""))));
        assert_eq!(family(&message("", 1, "x", "")), None);
        assert_eq!(family(&[0x12, 2, 0xff, 0xff]), None);
        let series = messages::WriteRequest { timeseries: vec![messages::series(&[("__name__", "a")], &[(1, 1.0)])] };
        let mut bytes = Vec::new();
        for message in [&first, &unknown] {
            bytes.extend_from_slice(&[0x1a, message.len() as u8]);
            bytes.extend_from_slice(message);
            bytes.extend_from_slice(&series.encode_to_vec());
        }
        let limits = |families| Limits { series: 9, samples: 9, histogram_bytes: 9, exemplars: 9, families };
        let mut request = Request::new(&bytes, limits(2));
        let mut series = Series::default();
        while request.next(Expected::default(), &mut series).unwrap() {}
        assert_eq!((request.n_samples(), request.families()), (2, &[&first[..], &unknown[..]][..]));
        let refused = read(&bytes, limits(1), Expected::default()).unwrap_err().to_string();
        assert_eq!(refused, "request of more than 1 metric families (write_families_max)");
    }

    #[test]
    fn damaged_bytes_say_where() {
        assert_eq!(scan(&[0x0a, 5, 1], 9, 9).unwrap_err().to_string(), "proto: unexpected end at byte 2");
        assert_eq!(scan(&[0x0b], 9, 9).unwrap_err().to_string(), "proto: unknown wire type at byte 1");
        assert_eq!(scan(&[0xff; 11], 9, 9).unwrap_err().to_string(), "proto: number of more than 10 bytes at byte 10");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for series in scan(&bytes, 100, 100).into_iter().flatten() {
                labels(series.labels);
            }
            exemplar(&bytes);
            family(&bytes);
            labels(&bytes);
        }

        /// Whatever is expected, a series is read as if nothing were.
        #[test]
        fn what_is_expected_changes_nothing(
            pairs in proptest::collection::vec(("[a-c]?", "[a-c]?"), 0..3),
            more in proptest::collection::vec(("[a-c]?", "[a-c]?"), 0..2),
            samples in proptest::collection::vec((prop_oneof![any::<i64>(), Just(0)], prop_oneof![any::<f64>(), Just(0.0)]), 0..3),
            flip in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let owned = |pairs: &[(String, String)]| {
                let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                messages::series(&pairs, &samples)
            };
            let all = [pairs.clone(), more].concat();
            let mut bytes = messages::WriteRequest { timeseries: vec![owned(&all), owned(&pairs)] }.encode_to_vec();
            if let Some((at, byte)) = flip && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let limits = Limits { series: 9, samples: 9, histogram_bytes: 9, exemplars: 9, families: 9 };
            let text = |series: &[Series<'_>]| {
                let of = |s: &Series<'_>| {
                    let samples: Vec<_> = s.samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
                    format!("{:?} {samples:?} {:?}", s.labels, s.histograms)
                };
                series.iter().map(of).collect::<Vec<_>>()
            };
            let plain = read(&bytes, limits, Expected::default());
            let of_pairs = messages::WriteRequest { timeseries: vec![owned(&pairs)] }.encode_to_vec();
            let expected = read(&of_pairs, limits, Expected::default()).unwrap()[0].labels.to_vec();
            let (start, rest) = expected.split_at(cuts.0.index(expected.len() + 1));
            let (middle, end) = rest.split_at(cuts.1.index(rest.len() + 1));
            match (plain, read(&bytes, limits, Expected { start, middle, end })) {
                (Ok(plain), Ok(quick)) => {
                    prop_assert_eq!(text(&plain), text(&quick));
                    prop_assert!(quick.iter().all(|s| s.is_expected == (!expected.is_empty() && s.labels == expected)));
                }
                (plain, quick) => prop_assert_eq!(plain.is_err(), quick.is_err()),
            }
        }
    }
}
