//! The messages of remote write 1.0, scanned in place.
//!
//! A sender repeats the same label sets in every request, so a series is known by the bytes of its labels and these
//! are parsed only once; nothing is allocated per series or sample.
//!
//! # Source
//! `prompb/remote.proto` and `prompb/types.proto` of Prometheus.

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
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Reads the fields of one message.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn error(&self, what: &'static str) -> WireError {
        WireError { what, offset: self.at }
    }

    fn varint(&mut self) -> Result<u64, WireError> {
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

    /// The next field: its number and value.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        if self.at == self.bytes.len() {
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

/// A write request, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    pub(crate) series: Vec<Series<'a>>,
    /// Time in ms and value, of all series in order.
    pub(crate) samples: Vec<(i64, f64)>,
    /// Messages of native histograms, of all series in order.
    pub(crate) histograms: Vec<&'a [u8]>,
    histogram_bytes: usize,
}

/// One series of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series<'a> {
    /// The message from the first label to the last, for [`labels`]; the same for the same labels in the same order.
    pub(crate) labels: &'a [u8],
    /// One past its last sample; the first one follows the last of the series before.
    pub(crate) samples_end: usize,
    /// The same of its histograms.
    pub(crate) histograms_end: usize,
}

/// How much a request may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) series: usize,
    /// Histograms included.
    pub(crate) samples: usize,
    pub(crate) histogram_bytes: usize,
}

/// Why a request cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("request of more than {max} {what} ({limit})")]
    Limit { what: &'static str, max: usize, limit: &'static str },
}

/// Takes the message `bytes` apart; all of it is checked but the texts of labels and what is in histograms.
pub(crate) fn scan<'a>(bytes: &'a [u8], limits: Limits) -> Result<Request<'a>, ScanError> {
    let mut request = Request::default();
    let mut fields = Scanner::new(bytes);
    while let Some((number, value)) = fields.next()? {
        // Metadata (3) is of no use: what a metric means is learnt where it is scraped.
        let (1, Value::Bytes(bytes)) = (number, value) else { continue };
        if request.series.len() == limits.series {
            return Err(ScanError::Limit { what: "series", max: limits.series, limit: "write_series_max" });
        }
        scan_series(bytes, &mut request, limits)?;
    }
    Ok(request)
}

fn scan_series<'a>(bytes: &'a [u8], request: &mut Request<'a>, limits: Limits) -> Result<(), ScanError> {
    let mut fields = Scanner::new(bytes);
    let mut labels = 0..0;
    loop {
        let start = fields.at;
        let Some((number, value)) = fields.next()? else { break };
        match (number, value) {
            (1, Value::Bytes(_)) => {
                // Senders write labels first and together; should something stand between, it belongs to the bytes
                // too, which then are known less often but never wrongly.
                labels = if labels.is_empty() { start..fields.at } else { labels.start..fields.at };
            }
            (2, Value::Bytes(sample)) => {
                request.check_samples(limits)?;
                request.samples.push(scan_sample(sample)?);
            }
            (4, Value::Bytes(histogram)) => {
                request.check_samples(limits)?;
                request.histogram_bytes += histogram.len();
                if request.histogram_bytes > limits.histogram_bytes {
                    let (what, limit) = ("bytes of native histograms", "write_histogram_bytes_max");
                    return Err(ScanError::Limit { what, max: limits.histogram_bytes, limit });
                }
                request.histograms.push(histogram);
            }
            // Exemplars (3) are not kept.
            _ => {}
        }
    }
    let (samples_end, histograms_end) = (request.samples.len(), request.histograms.len());
    request.series.push(Series { labels: &bytes[labels], samples_end, histograms_end });
    Ok(())
}

impl Request<'_> {
    /// Whether there is room for one more.
    fn check_samples(&self, limits: Limits) -> Result<(), ScanError> {
        if self.n_samples() < limits.samples {
            return Ok(());
        }
        Err(ScanError::Limit { what: "samples", max: limits.samples, limit: "write_samples_max" })
    }

    /// Samples, histograms included.
    pub(crate) fn n_samples(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }
}

fn scan_sample(bytes: &[u8]) -> Result<(i64, f64), WireError> {
    let mut fields = Scanner::new(bytes);
    let (mut t, mut v) = (0, 0.0);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Fixed64(bits)) => v = f64::from_bits(bits),
            // Two's complement: negative times come as large numbers.
            (2, Value::Varint(n)) => t = n as i64,
            _ => {}
        }
    }
    Ok((t, v))
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

    fn scan(bytes: &[u8], series: usize, samples: usize) -> Result<Request<'_>, ScanError> {
        super::scan(bytes, Limits { series, samples, histogram_bytes: 9 })
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
        assert_eq!(scanned.histograms, [[0x78, 1], [0x78, 2]]);
        assert_eq!(scanned.series.iter().map(|s| s.histograms_end).collect::<Vec<_>>(), [1, 2]);
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
        assert_eq!(scanned.samples, [(1000, 1.5), (-7, f64::NEG_INFINITY), (i64::MAX, 0.0)]);
        assert_eq!(scanned.series.iter().map(|s| s.samples_end).collect::<Vec<_>>(), [2, 2, 3]);
        assert_eq!(labels(scanned.series[0].labels).unwrap(), [("__name__", "a"), ("b", "é")]);
        assert!(scanned.series[1].labels.is_empty());
        assert_eq!(scan(&bytes, 2, 3).unwrap_err().to_string(), "request of more than 2 series (write_series_max)");
        assert_eq!(scan(&bytes, 3, 2).unwrap_err().to_string(), "request of more than 2 samples (write_samples_max)");
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
            if let Ok(request) = scan(&bytes, 100, 100) {
                request.series.iter().for_each(|s| { labels(s.labels); });
            }
            labels(&bytes);
        }
    }
}
