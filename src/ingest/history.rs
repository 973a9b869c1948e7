//! An exposition of any length, read piece by piece into a backfill: memory is that of a piece, of the series and of
//! what the backfill holds.
//!
//! Nothing carries over from line to line but the type that was declared last, so a piece is a body of its own. A line
//! that does not parse at the end of a piece may go on in the next one and is read again with it.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use promontory_model::{LabelsBuilder, MetricMetadata, MetricType};
use promontory_storage::{Backfill, BackfillError, BackfillSeries};
use rapidhash::fast::RandomState;

use super::body::Refused;
use crate::scrape::exposition::{Format, Item, Metadata, Parser};

/// Bytes that are read at once, and the longest line.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of an import, decompressed.
pub(crate) const IMPORT_BYTES_MAX: u64 = 64 << 30;
/// Series of an import.
pub(crate) const IMPORT_SERIES_MAX: usize = 2_000_000;
/// Bytes of the label sets of an import, as they are written.
pub(crate) const IMPORT_LABELS_BYTES_MAX: usize = 1 << 30;
/// Parts of series that are put aside, of up to 1,024 samples within two hours.
pub(crate) const IMPORT_RUNS_MAX: usize = 8 << 20;
/// Bytes of names, types and help texts of an import.
pub(crate) const IMPORT_METADATA_BYTES_MAX: usize = 32 << 20;

/// How much an import may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    bytes: u64,
    series: usize,
    labels_bytes: usize,
    metadata_bytes: usize,
}

/// Those of the server.
pub(super) const LIMITS: Limits = Limits {
    bytes: IMPORT_BYTES_MAX,
    series: IMPORT_SERIES_MAX,
    labels_bytes: IMPORT_LABELS_BYTES_MAX,
    metadata_bytes: IMPORT_METADATA_BYTES_MAX,
};

/// How a file is read.
pub(super) struct Reading<'a> {
    pub(super) format: Format,
    pub(super) limits: Limits,
    /// Labels of every series besides its own.
    pub(super) extra: &'a [(String, String)],
    /// The time of samples that have none; without it they are refused.
    pub(super) now_ms: Option<i64>,
}

/// What was read.
pub(super) struct History {
    pub(super) backfill: Backfill,
    pub(super) families: BTreeMap<String, MetricMetadata>,
}

/// Reads all of `source` into a backfill.
///
/// # Errors
/// What is wrong with it, for the person who sent it, or why the store takes nothing.
pub(super) fn read(mut source: impl Read, reading: &Reading<'_>, backfill: Backfill) -> Result<History, Refused> {
    let mut reader = Reader {
        reading,
        backfill,
        known: HashMap::default(),
        known_bytes: 0,
        last: None,
        key: Vec::new(),
        families: BTreeMap::new(),
        families_bytes: 0,
        kind: MetricType::Unknown,
        n_lines: 0,
    };
    let (mut buffer, mut n_bytes) = (Vec::with_capacity(LINE_BYTES_MAX + 1), 0_u64);
    loop {
        let lacking = (LINE_BYTES_MAX - buffer.len()) as u64;
        let n = source
            .by_ref()
            .take(lacking)
            .read_to_end(&mut buffer)
            .map_err(|e| Refused::bad(format_args!("read body: {e}")))?;
        n_bytes += n as u64;
        let max = reading.limits.bytes;
        if n_bytes > max {
            let reason = format!("import of more than {max} bytes (import_bytes_max)");
            return Err(Refused::too_large(reason));
        }
        let is_last = (n as u64) < lacking;
        // Whoever wrote the text need not have ended its last line.
        if is_last && reading.format == Format::Text && buffer.last().is_some_and(|b| *b != b'\n') {
            buffer.push(b'\n');
        }
        let whole = if is_last { buffer.len() } else { memchr::memrchr(b'\n', &buffer).map_or(0, |i| i + 1) };
        if whole == 0 && !is_last {
            return Err(reader.bad(&format!("more than {LINE_BYTES_MAX} bytes (line_bytes_max)")));
        }
        let piece = &buffer[..whole];
        let (at, has_ended) = reader.piece(piece, is_last)?;
        reader.n_lines += memchr::memchr_iter(b'\n', &piece[..at]).count();
        if has_ended && !is_last && (at < buffer.len() || source.read(&mut [0]).is_ok_and(|n| n > 0)) {
            return Err(reader.bad("unexpected data after # EOF"));
        }
        if is_last || has_ended {
            return Ok(History { backfill: reader.backfill, families: reader.families });
        }
        buffer.drain(..at);
    }
}

struct Reader<'a> {
    reading: &'a Reading<'a>,
    backfill: Backfill,
    /// Series by the type that was declared above, which decides how bounds are written, and the bytes before the value.
    known: HashMap<Box<[u8]>, BackfillSeries, RandomState>,
    known_bytes: usize,
    /// The last of them: most files have the samples of a series together.
    last: Option<(Vec<u8>, BackfillSeries)>,
    key: Vec<u8>,
    families: BTreeMap<String, MetricMetadata>,
    families_bytes: usize,
    kind: MetricType,
    /// Lines before the piece.
    n_lines: usize,
}

impl Reader<'_> {
    /// Reads a piece; how many bytes of it are done, and whether the exposition says that it ends there.
    fn piece(&mut self, piece: &[u8], is_last: bool) -> Result<(usize, bool), Refused> {
        let mut parser = Parser::new(piece, self.reading.format);
        parser.skip_to(0, self.kind);
        loop {
            let start = parser.position();
            self.kind = parser.kind();
            if start >= piece.len() && !is_last {
                return Ok((start, false));
            }
            if let Some((series, t, value)) = self.known_line(&mut parser, piece, start) {
                self.push(series, t, value)?;
                continue;
            }
            match parser.next_item() {
                // In text that is the end of the piece alone.
                Ok(Item::End) => return Ok((piece.len(), self.reading.format == Format::OpenMetrics)),
                Ok(Item::Metadata { family, text, .. }) => self.learn(family, text)?,
                Ok(Item::Sample { key, tail }) => {
                    let Some(t) = tail.timestamp_ms.or(self.reading.now_ms) else {
                        self.n_lines += memchr::memchr_iter(b'\n', &piece[..start]).count();
                        return Err(self.bad("the sample has no time; write it in Unix seconds behind the value"));
                    };
                    let series = self.series(&parser, &piece[key])?;
                    self.push(series, t, tail.value)?;
                }
                Err(_) if start > 0 && !is_last => return Ok((start, false)),
                Err(mut e) => {
                    e.line += self.n_lines;
                    return Err(Refused::bad(e));
                }
            }
        }
    }

    /// Reads the line at `start` without parsing its labels when its series is the last one's.
    fn known_line<'p>(
        &self,
        parser: &mut Parser<'p>,
        piece: &'p [u8],
        start: usize,
    ) -> Option<(BackfillSeries, i64, f64)> {
        let (known, series) = self.last.as_ref()?;
        let (kind, key) = known.split_first()?;
        let key_end = start + key.len();
        if *kind != parser.kind() as u8 || piece.get(start..key_end) != Some(key) {
            return None;
        }
        let (tail, next) = parser.tail_after(key_end)?;
        let t = tail.timestamp_ms?;
        parser.skip_to(next, parser.kind());
        Some((*series, t, tail.value))
    }

    fn push(&mut self, series: BackfillSeries, t: i64, value: f64) -> Result<(), Refused> {
        self.backfill.push(series, t, value).map_err(later)?;
        if self.backfill.n_runs() > IMPORT_RUNS_MAX {
            let max = IMPORT_RUNS_MAX;
            let reason =
                format!("more than {max} times series within two hours (import_runs_max); import less at once");
            return Err(Refused::too_large(reason));
        }
        Ok(())
    }

    fn series(&mut self, parser: &Parser<'_>, key: &[u8]) -> Result<BackfillSeries, Refused> {
        self.key.clear();
        self.key.push(parser.kind() as u8);
        self.key.extend_from_slice(key);
        let series = match self.known.get(&self.key[..]) {
            Some(series) => *series,
            None => {
                let mut labels = LabelsBuilder::new();
                for (name, value) in parser.labels() {
                    labels.set(name, value);
                }
                for (name, value) in self.reading.extra {
                    labels.set(name, value);
                }
                if self.known.len() >= self.reading.limits.series {
                    let max = self.reading.limits.series;
                    let reason = format!("more than {max} series (import_series_max); import fewer at once");
                    return Err(Refused::too_large(reason));
                }
                self.known_bytes += self.key.len();
                if self.known_bytes > self.reading.limits.labels_bytes {
                    let max = self.reading.limits.labels_bytes;
                    let reason =
                        format!("more than {max} bytes of labels (import_labels_bytes_max); import less at once");
                    return Err(Refused::too_large(reason));
                }
                let series = self.backfill.series(&labels.build()).map_err(later)?;
                self.known.insert(self.key.as_slice().into(), series);
                series
            }
        };
        let last = self.last.get_or_insert_with(|| (Vec::new(), series));
        last.0.clone_from(&self.key);
        last.1 = series;
        Ok(series)
    }

    fn learn(&mut self, family: String, text: Metadata) -> Result<(), Refused> {
        let of_text = match &text {
            Metadata::Type(_) => 0,
            Metadata::Help(text) | Metadata::Unit(text) => text.len(),
        };
        self.families_bytes += family.len() + of_text;
        if self.families_bytes > self.reading.limits.metadata_bytes {
            let max = self.reading.limits.metadata_bytes;
            return Err(Refused::too_large(format!("more than {max} bytes of metadata (import_metadata_bytes_max)")));
        }
        let known = self.families.entry(family).or_default();
        match text {
            Metadata::Type(kind) => known.kind = kind,
            Metadata::Help(help) => known.help = help,
            Metadata::Unit(unit) => known.unit = unit,
        }
        Ok(())
    }

    /// What is wrong with the next line.
    fn bad(&self, what: &str) -> Refused {
        Refused::bad(format_args!("{what} at line {}", self.n_lines + 1))
    }
}

fn later(e: BackfillError) -> Refused {
    Refused::later(e)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use promontory_model::Cancel;

    use super::*;
    use crate::ingest::testing::Fixture;

    /// Gives a few bytes at each call.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.len().min(out.len()).min(7_919);
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    /// Number of samples, or what is wrong.
    fn read_all(body: &[u8], format: Format) -> Result<u64, String> {
        read_within(LIMITS, body, format)
    }

    fn read_within(limits: Limits, body: &[u8], format: Format) -> Result<u64, String> {
        let f = Fixture::new(1_700_000_000_000);
        let extra = [("env".to_owned(), "x".to_owned())];
        let reading = Reading { format, limits, extra: &extra, now_ms: None };
        let backfill = f.db.backfill().unwrap();
        let history = read(Slow(body), &reading, backfill).map_err(|refused| refused.reason)?;
        Ok(history.backfill.finish(&mut |_| {}, &Cancel::new()).unwrap().n_samples)
    }

    #[test]
    fn imports_that_are_too_large_are_refused_by_the_name_of_the_limit() {
        let text = b"# HELP a Helps a lot.\na{x=\"1\"} 1 1\na{x=\"2\"} 2 1\na{x=\"2\"} 3 3\n";
        let len = text.len();
        let check = |limits: Limits, reason: &str| {
            let got = read_within(limits, text, Format::Text);
            assert!(got.as_ref().is_err_and(|e| e.contains(reason)), "{got:?}, expected {reason}");
        };
        assert_eq!(read_within(Limits { bytes: len as u64, series: 2, ..LIMITS }, text, Format::Text), Ok(3));
        let max = len as u64 - 1;
        check(Limits { bytes: max, ..LIMITS }, &format!("import of more than {max} bytes (import_bytes_max)"));
        check(Limits { series: 1, ..LIMITS }, "more than 1 series (import_series_max)");
        check(Limits { labels_bytes: 9, ..LIMITS }, "(import_labels_bytes_max)");
        check(Limits { metadata_bytes: 9, ..LIMITS }, "(import_metadata_bytes_max)");
    }

    #[test]
    fn pieces_are_cut_anywhere() {
        let mut text = "# TYPE a counter\n".to_owned();
        for t in 0..40_000 {
            for line in ["a_total{x=\"1\\n\"}", "a_total{x=\"2\"}"] {
                let _ = writeln!(text, "{line} {t} {t}");
            }
        }
        assert!(text.len() > 2 * LINE_BYTES_MAX);
        assert_eq!(read_all(text.as_bytes(), Format::Text), Ok(80_000));
        assert!(read_all(text.as_bytes(), Format::OpenMetrics).unwrap_err().contains("# EOF"));
        text.push_str("# EOF\n");
        assert_eq!(read_all(text.as_bytes(), Format::OpenMetrics), Ok(80_000));
        let wrong = text.replace("a_total{x=\"2\"} 30000 30000\n", "a_total{x=\"2\"} 30000 x\n");
        let told = read_all(wrong.as_bytes(), Format::OpenMetrics).unwrap_err();
        assert!(told.contains(" at line 60003, column "), "{told}");
        let more = text.clone() + "b 1 1\n";
        assert!(read_all(more.as_bytes(), Format::OpenMetrics).unwrap_err().contains("after # EOF"));
        // The end lies where a piece does.
        let filler = LINE_BYTES_MAX - "# HELP b \n# EOF\n".len();
        let whole = format!("# HELP b {}\n# EOF\n", "x".repeat(filler));
        assert_eq!(read_all(whole.as_bytes(), Format::OpenMetrics), Ok(0));
        assert!(read_all((whole + "x").as_bytes(), Format::OpenMetrics).unwrap_err().contains("after # EOF"));
    }

    #[test]
    fn text_in_quotes_may_hold_line_breaks_at_a_cut() {
        let before = "# HELP a ".len() + "\n".len();
        let text =
            format!("# HELP a {}\nb{{x=\"1\n2\"}} 1 1\nb{{x=\"1\n2\"}} 2 2", "x".repeat(LINE_BYTES_MAX - before - 8));
        assert_eq!(read_all(text.as_bytes(), Format::Text), Ok(2));
    }

    #[test]
    fn what_is_too_long_is_refused_by_the_name_of_the_limit() {
        let long = "a".repeat(LINE_BYTES_MAX + 1);
        assert!(read_all(long.as_bytes(), Format::Text).unwrap_err().contains("line_bytes_max"));
        assert!(read_all(b"a 1\n# EOF\n", Format::OpenMetrics).unwrap_err().contains("no time"));
    }
}
