//! Classic histograms turned into native ones with custom buckets, series by series.

use promontory_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, InvalidHistogram, Span};
use promontory_model::{FloatHistogram, HistogramSample, Labels, METRIC_NAME, MetricType};

use super::assembled::{Assembled, OwnedExemplar, Value};
use super::number::parse_float;
use super::{Format, Item, Metadata, Pair, ParseError, Parser, exemplar_at};

/// Buckets, sum and count of one classic histogram, as they come.
#[derive(Debug, Default)]
pub(super) struct Classic {
    /// Upper bound and cumulative count, ascending.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
    timestamp_ms: Option<i64>,
    pub(super) exemplars: Vec<OwnedExemplar>,
}

/// A classic histogram that is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ClassicError {
    #[error("counts of classic buckets are not cumulative")]
    NotCumulative,
    #[error("count {count} of a classic histogram differs from its last bucket's {last}")]
    Count { count: f64, last: f64 },
    #[error(transparent)]
    Invalid(#[from] InvalidHistogram),
}

impl Classic {
    pub(super) fn at(timestamp_ms: Option<i64>) -> Self {
        Self { timestamp_ms, ..Self::default() }
    }

    pub(super) fn set_bucket(&mut self, bound: f64, cumulative: f64) {
        let at = self.buckets.partition_point(|(known, _)| *known < bound);
        // The same bound twice: the first one holds, as that of a repeated line does.
        if self.buckets.get(at).is_none_or(|(known, _)| *known != bound) {
            self.buckets.insert(at, (bound, cumulative));
        }
    }

    pub(super) fn set_sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    pub(super) fn set_count(&mut self, count: f64) {
        self.count = Some(count);
    }

    /// The histogram. Without a count it is that of the highest bucket; without an infinite bucket that is the count.
    pub(super) fn build(&mut self) -> Result<HistogramSample, ClassicError> {
        let count = self.count.or_else(|| self.buckets.last().map(|b| b.1)).unwrap_or(0.0);
        if self.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut before = 0.0;
        let mut counts = Vec::with_capacity(self.buckets.len());
        for (_, cumulative) in &self.buckets {
            if cumulative.is_nan() || *cumulative < before {
                return Err(ClassicError::NotCumulative);
            }
            counts.push(cumulative - before);
            before = *cumulative;
        }
        if before != count {
            return Err(ClassicError::Count { count, last: before });
        }
        let all_whole = self.buckets.iter().all(|(_, n)| n.fract() == 0.0);
        let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        let value = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length }],
            positive_buckets: counts,
            custom_values: self.buckets[..self.buckets.len() - 1].iter().map(|b| b.0).collect(),
            ..FloatHistogram::default()
        };
        Ok(HistogramSample::new(value, if all_whole { Counts::Integer } else { Counts::Float })?)
    }
}

/// What of a classic histogram a series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Bucket,
    Sum,
    Count,
}

/// The classic histogram whose lines are being read.
#[derive(Debug, Default)]
struct Current {
    /// Labels but name and bound.
    labels: Vec<(String, String)>,
    classic: Classic,
    is_open: bool,
}

impl Assembled {
    /// Reads a text exposition whose classic histograms become ones with custom buckets; their own lines stay only if
    /// `keep_classic`.
    ///
    /// # Errors
    /// [`ParseError`] if it breaks its format.
    pub(crate) fn convert_text(&mut self, body: &[u8], format: Format, keep_classic: bool) -> Result<(), ParseError> {
        self.clear();
        let mut parser = Parser::new(body, format);
        // Family that was declared a histogram last.
        let mut family = String::new();
        let mut current = Current::default();
        loop {
            let item = parser.next_item()?;
            match item {
                Item::End => break,
                Item::Metadata { family: of, text, .. } => {
                    self.finish(&family, &mut current);
                    match text {
                        Metadata::Type(kind) => {
                            self.put_type(&of, kind);
                            family = if kind == MetricType::Histogram { of } else { String::new() };
                        }
                        Metadata::Help(help) => self.put_help(&of, &help),
                        Metadata::Unit(unit) => self.put_unit(&of, &unit),
                    }
                }
                Item::Sample { tail, .. } => {
                    let exemplar = tail.exemplar.and_then(|at| exemplar_at(body, at)).map(|e| OwnedExemplar {
                        labels: Labels::from_pairs(e.labels),
                        value: e.value,
                        timestamp_ms: e.timestamp_ms,
                    });
                    let labels = parser.labels();
                    let part = part_of(labels, &family);
                    if let Some((part, bound)) = part {
                        if !current.is_of(labels) {
                            self.finish(&family, &mut current);
                            current.open(labels);
                        }
                        let classic = &mut current.classic;
                        classic.timestamp_ms = classic.timestamp_ms.or(tail.timestamp_ms);
                        match part {
                            Part::Bucket => classic.set_bucket(bound, tail.value),
                            Part::Sum => classic.set_sum(tail.value),
                            Part::Count => classic.set_count(tail.value),
                        }
                        classic.exemplars.extend(exemplar.clone());
                        if !keep_classic {
                            continue;
                        }
                    } else {
                        self.finish(&family, &mut current);
                    }
                    let name = labels.first().map_or("", |(_, name)| name);
                    let pairs = labels.iter().skip(1).map(|(n, v)| (n.as_ref(), v.as_ref()));
                    self.put_sample(name, pairs, Value::Float(tail.value), tail.timestamp_ms, exemplar.into_iter());
                }
            }
        }
        self.finish(&family, &mut current);
        Ok(())
    }

    /// Writes the histogram that was read last, unless its numbers make none.
    fn finish(&mut self, family: &str, current: &mut Current) {
        if !current.is_open {
            return;
        }
        current.is_open = false;
        let mut classic = std::mem::take(&mut current.classic);
        let labels = current.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        self.put_custom(family, labels, &mut classic);
    }

    /// Writes `classic` as a histogram with custom buckets. One whose numbers make none is left out, as Prometheus
    /// leaves it out.
    pub(super) fn put_custom<'l>(
        &mut self,
        family: &str,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        classic: &mut Classic,
    ) {
        match classic.build() {
            Ok(histogram) => {
                let exemplars = std::mem::take(&mut classic.exemplars);
                let value = Value::Histogram(histogram);
                self.put_sample(family, labels, value, classic.timestamp_ms, exemplars.into_iter());
            }
            Err(error) => self.leave_out(family, error),
        }
    }
}

impl Current {
    fn is_of(&self, labels: &[Pair<'_>]) -> bool {
        self.is_open && own_labels(labels).eq(self.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }

    fn open(&mut self, labels: &[Pair<'_>]) {
        self.labels.clear();
        self.labels.extend(own_labels(labels).map(|(n, v)| (n.to_owned(), v.to_owned())));
        self.classic = Classic::default();
        self.is_open = true;
    }
}

fn own_labels<'l>(labels: &'l [Pair<'_>]) -> impl Iterator<Item = (&'l str, &'l str)> {
    labels.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).filter(|(n, _)| *n != METRIC_NAME && *n != "le")
}

/// What a sample is of the classic histogram `family`, and the bound of a bucket.
fn part_of(labels: &[Pair<'_>], family: &str) -> Option<(Part, f64)> {
    if family.is_empty() {
        return None;
    }
    let suffix = labels.first()?.1.strip_prefix(family)?;
    match suffix {
        "_sum" => Some((Part::Sum, 0.0)),
        "_count" => Some((Part::Count, 0.0)),
        "_bucket" => {
            let (_, bound) = labels.iter().find(|(name, _)| name == "le")?;
            let bound = parse_float(bound.as_bytes()).ok().filter(|b| !b.is_nan())?;
            Some((Part::Bucket, bound))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(made: &Assembled) -> String {
        let mut parser = Parser::new(made.body(), Format::Assembled);
        let mut out = Vec::new();
        loop {
            match parser.next_item().unwrap() {
                Item::End => return out.join("\n"),
                Item::Metadata { .. } => {}
                Item::Sample { key, tail } => {
                    let key = String::from_utf8_lossy(&made.body()[key]).into_owned();
                    let at = tail.timestamp_ms.map_or(String::new(), |t| format!(" @{t}"));
                    let n_exemplars = tail.exemplar.map_or(String::new(), |n| format!(" #{}", made.exemplars(n).len()));
                    let value = match tail.histogram {
                        None => tail.value.to_string(),
                        Some(n) => {
                            let h = made.histogram(n).unwrap().value();
                            format!("{} {} {:?} {:?}", h.count, h.sum, h.custom_values, h.positive_buckets)
                        }
                    };
                    out.push(format!("{key} {value}{at}{n_exemplars}"));
                }
            }
        }
    }

    #[track_caller]
    fn check(body: &str, format: Format, keep_classic: bool, expected: &[&str]) {
        let mut made = Assembled::default();
        made.convert_text(body.as_bytes(), format, keep_classic).unwrap();
        assert_eq!(show(&made), expected.join("\n"), "{body}");
    }

    const TWO: &str = "# TYPE h histogram\nh_bucket{a=\"x\",le=\"1\"} 2\nh_bucket{a=\"x\",le=\"+Inf\"} 3\nh_sum{a=\"x\"} \
                       4.5\nh_count{a=\"x\"} 3\nh_bucket{a=\"y\",le=\"1\"} 0\nh_bucket{a=\"y\",le=\"+Inf\"} 0\n\
                       h_sum{a=\"y\"} 0\nh_count{a=\"y\"} 0\nother_count 7\n";

    #[test]
    fn classic_lines_become_one_histogram() {
        let first = "h{a=\"x\"} 3 4.5 [1.0] [2.0, 1.0]";
        let second = "h{a=\"y\"} 0 0 [1.0] [0.0, 0.0]";
        check(TWO, Format::Text, false, &[first, second, "other_count 7"]);
        let kept = [
            "h_bucket{a=\"x\",le=\"1.0\"} 2",
            "h_bucket{a=\"x\",le=\"+Inf\"} 3",
            "h_sum{a=\"x\"} 4.5",
            "h_count{a=\"x\"} 3",
            first,
        ];
        let body = &TWO[..TWO.find("h_bucket{a=\"y\"").unwrap()];
        check(body, Format::Text, true, &kept);
    }

    #[test]
    fn exemplars_and_timestamps_go_along() {
        let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 2 7 # {t=\"a\"} 0.5 6.5\nh_bucket{le=\"+Inf\"} 2 7 # {t=\"b\"} \
                    3\nh_sum 1 7\nh_count 2 7\n# EOF\n";
        check(body, Format::OpenMetrics, false, &["h 2 1 [1.0] [2.0, 0.0] @7000 #2"]);
    }

    #[test]
    fn what_is_no_whole_histogram_is_made_up_for_or_left_out() {
        let body = |lines: &str| format!("# TYPE h histogram\n{lines}");
        check(
            &body("h_bucket{le=\"2\"} 3\nh_bucket{le=\"1\"} 1\n"),
            Format::Text,
            false,
            &["h 3 0 [1.0, 2.0] [1.0, 2.0, 0.0]"],
        );
        check(&body("h_bucket{le=\"1\"} 3\nh_bucket{le=\"2\"} 1\n"), Format::Text, false, &[]);
        let mut made = Assembled::default();
        let two =
            body("h_bucket{a=\"b\",le=\"+Inf\"} 3\nh_count{a=\"b\"} 4\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"2\"} 1\n");
        made.convert_text(two.as_bytes(), Format::Text, false).unwrap();
        let left_out = made.left_out().map(|l| format!("{} {}: {}", l.n, l.family, l.error));
        assert_eq!(left_out.as_deref(), Some("2 h: count 4 of a classic histogram differs from its last bucket's 3"));
        made.convert_text(b"", Format::Text, false).unwrap();
        assert_eq!(made.left_out(), None);
        check(&body("h_bucket{le=\"+Inf\"} 3\nh_count 4\n"), Format::Text, false, &[]);
        check(&body("h_bucket{le=\"x\"} 3\n"), Format::Text, false, &["h_bucket{le=\"x\"} 3"]);
        check("h_bucket{le=\"1\"} 3\n", Format::Text, false, &["h_bucket{le=\"1\"} 3"]);
        check(&body("h_bucket{le=\"1\"} 0.5\n"), Format::Text, false, &["h 0.5 0 [1.0] [0.5, 0.0]"]);
    }
}
