//! Samples as lines of text, in the two formats that scraping reads; native histograms as Prometheus shows them.

use std::io::{self, Write};

use promontory_model::Labels;
use promontory_model::histogram::HistogramSample;
use promontory_promql::histogram;

use crate::cli::TextFormat;
use crate::lines::{Seconds, put_key, put_value};

/// Writes samples of one series after another.
pub(super) struct TextWriter<'a> {
    out: &'a mut dyn Write,
    format: TextFormat,
    /// Name and labels of the current series, up to the blank before the value.
    key: String,
    line: String,
}

impl<'a> TextWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write, format: TextFormat) -> Self {
        Self { out, format, key: String::new(), line: String::new() }
    }

    /// Writes whole lines.
    pub(super) fn lines(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// Samples are those of this series from here on.
    pub(super) fn series(&mut self, labels: &Labels) {
        self.key.clear();
        put_key(&mut self.key, labels);
    }

    pub(super) fn sample(&mut self, t: i64, v: f64) -> io::Result<()> {
        self.line.clear();
        put_value(&mut self.line, v);
        self.line_at(t)
    }

    /// Whether the format has a form for native histograms.
    pub(super) fn has_histograms(&self) -> bool {
        self.format == TextFormat::Text
    }

    pub(super) fn histogram(&mut self, t: i64, h: &HistogramSample) -> io::Result<()> {
        self.line = histogram::text(h.value(), h.counts());
        self.line_at(t)
    }

    fn line_at(&mut self, t: i64) -> io::Result<()> {
        match self.format {
            TextFormat::Text => writeln!(self.out, "{} {} {t}", self.key, self.line),
            TextFormat::Openmetrics => writeln!(self.out, "{} {} {}", self.key, self.line, Seconds(t)),
        }
    }

    /// Says that all samples are written.
    pub(super) fn end(self) -> io::Result<()> {
        match self.format {
            TextFormat::Text => Ok(()),
            TextFormat::Openmetrics => writeln!(self.out, "# EOF"),
        }
    }
}

#[cfg(test)]
mod tests {
    use promontory_model::FloatHistogram;
    use promontory_model::histogram::{Counts, Span};
    use proptest::prelude::*;

    use super::*;
    use crate::scrape::exposition::{Format, Item, Parser};

    #[track_caller]
    fn check(format: TextFormat, pairs: &[(&str, &str)], t: i64, v: f64, expected: &str) {
        let mut out = Vec::new();
        let mut writer = TextWriter::new(&mut out, format);
        writer.series(&Labels::from_pairs(pairs.iter().copied()));
        writer.sample(t, v).unwrap();
        writer.end().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_sample_is_a_line() {
        let labels = [("__name__", "up"), ("job", "a\"\\\nb")];
        check(TextFormat::Text, &labels, 1_500, 1.0, "up{job=\"a\\\"\\\\\\nb\"} 1 1500\n");
        check(TextFormat::Openmetrics, &labels[..1], 1_500, 0.25, "up 0.25 1.500\n# EOF\n");
        check(
            TextFormat::Openmetrics,
            &[("__name__", "a.b"), ("c d", "e")],
            -1,
            f64::NAN,
            "{\"a.b\",\"c d\"=\"e\"} NaN -0.001\n# EOF\n",
        );
        check(TextFormat::Text, &[("a", "b")], 0, f64::NEG_INFINITY, "{a=\"b\"} -Inf 0\n");
        check(TextFormat::Openmetrics, &labels[..1], 1_084_004_578_077, 1.0, "up 1 1084004578.0771\n# EOF\n");
        check(TextFormat::Text, &labels[..1], 0, 1e300, "up 1e+300 0\n");
    }

    #[test]
    fn a_histogram_is_a_line() {
        let value = FloatHistogram {
            count: 3.0,
            sum: 4.5,
            positive_spans: vec![Span { offset: 1, length: 1 }],
            positive_buckets: vec![3.0],
            ..FloatHistogram::default()
        };
        let h = HistogramSample::new(value, Counts::Integer).unwrap();
        let mut out = Vec::new();
        let mut writer = TextWriter::new(&mut out, TextFormat::Text);
        writer.series(&Labels::from_pairs([("__name__", "h"), ("a", "b")]));
        writer.histogram(-7, &h).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "h{a=\"b\"} {count:3, sum:4.5, (1,2]:3} -7\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            name in "[a-z:.é]{1,8}", value in "\\PC{1,8}", t in -10_000_000_000_000i64..10_000_000_000_000, bits: u64,
        ) {
            let v = f64::from_bits(bits);
            for (format, reads) in [(TextFormat::Text, Format::Text), (TextFormat::Openmetrics, Format::OpenMetrics)] {
                let mut out = Vec::new();
                let mut writer = TextWriter::new(&mut out, format);
                writer.series(&Labels::from_pairs([("__name__", name.as_str()), ("l", value.as_str())]));
                writer.sample(t, v).unwrap();
                writer.end().unwrap();
                let mut parser = Parser::new(&out, reads);
                let Item::Sample { tail, .. } = parser.next_item().unwrap() else { panic!("no sample") };
                prop_assert_eq!(parser.labels()[0].1.as_ref(), name.as_str());
                prop_assert_eq!(parser.labels()[1].1.as_ref(), value.as_str());
                prop_assert!(tail.value.to_bits() == bits || v.is_nan() && tail.value.is_nan());
                prop_assert_eq!(tail.timestamp_ms, Some(t));
            }
        }
    }
}
