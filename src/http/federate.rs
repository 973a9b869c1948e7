//! `/federate`: the newest sample of each selected series, as an exposition that another server scrapes.

mod protobuf;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use promontory_model::labels::{is_legacy_label_name, is_legacy_metric_name};
use promontory_model::{
    Columns, HistogramSample, Labels, METRIC_NAME, ReadError, Select, SeriesBatch, TimeRange, is_stale,
};
use promontory_promql::parser;

use super::Http;
use super::answer::{ApiError, ErrorType, text};
use super::params::Params;
use super::pieces::{self, Fill, PIECE_BYTES};
use crate::lines::{Seconds, put_key, put_value};

/// Series that are read at once.
const SERIES_AT_ONCE: usize = 256;
/// Label that a scraping server must not fill in.
const INSTANCE: &str = "instance";

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Newest sample of each series, by name and labels.
type Newest = BTreeMap<Labels, (i64, Sample)>;

/// What a series is worth.
#[derive(Debug, Clone)]
enum Sample {
    Float(f64),
    Histogram(HistogramSample),
}

/// A series, the time of its newest sample, and that.
type Found = (Labels, i64, Sample);

/// How an exposition is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Text,
    OpenMetrics,
    Protobuf,
}

impl Encoding {
    /// That of a part of the header `Accept`.
    fn of(media: &str, params: &str) -> Option<Self> {
        match media {
            "application/openmetrics-text" => Some(Self::OpenMetrics),
            "text/plain" | "text/*" | "*/*" => Some(Self::Text),
            "application/vnd.google.protobuf"
                if params.contains("proto=io.prometheus.client.MetricFamily")
                    && params.contains("encoding=delimited") =>
            {
                Some(Self::Protobuf)
            }
            _ => None,
        }
    }
}

/// How the samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format {
    encoding: Encoding,
    /// Whether the client understands names with any character.
    is_utf8: bool,
}

impl Format {
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
        let mut best = (Encoding::Text, 0.0, "");
        for part in accept.split(',') {
            let (media, params) = part.split_once(';').unwrap_or((part, ""));
            let weight = params.split(';').find_map(|p| p.trim().strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            // Of several that are wanted alike the first.
            if let Some(encoding) = Encoding::of(media.trim(), params)
                && weight > best.1
            {
                best = (encoding, weight, params);
            }
        }
        Self { encoding: best.0, is_utf8: best.2.contains("escaping=allow-utf-8") }
    }

    fn content_type(self) -> String {
        let base = match self.encoding {
            Encoding::Text => TEXT,
            Encoding::OpenMetrics => OPENMETRICS,
            Encoding::Protobuf => PROTOBUF,
        };
        let escaping = if self.is_utf8 { "allow-utf-8" } else { "underscores" };
        format!("{base}; escaping={escaping}")
    }
}

/// `/federate`. Native histograms have no form in text and are left out there.
pub(crate) async fn federate(
    State(http): State<Arc<Http>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Response> {
    let plain = |status: StatusCode, e: String| text(status, e + "\n");
    params.whole().map_err(|e| plain(StatusCode::BAD_REQUEST, e.message))?;
    let sets = params.all("match[]").map(parser::parse_any_selector).collect::<Result<Vec<_>, _>>();
    let sets = sets.map_err(|e| plain(StatusCode::BAD_REQUEST, e.to_string()))?;
    let format = Format::of(&headers);
    let external = http.backend.external_labels();
    let options = http.backend.engine_options();
    let now_ms = http.clock.now().0;
    let range = TimeRange::new(now_ms.saturating_sub(options.lookback_ms).saturating_add(1), now_ms);
    let data = http.local.clone();
    let work = http.run(http.options.query_timeout.ms(), move |cancel| {
        let mut newest = Newest::new();
        let mut n_warnings = 0;
        let snapshot = data.snapshot()?;
        // As in Prometheus, nothing is selected where there is no matcher at all.
        for set in sets.iter().filter(|set| !set.matchers.is_empty()) {
            let selected = snapshot.select(&Select { range, matchers: &set.matchers, cancel })?;
            n_warnings += selected.warnings.len();
            for batch in &selected.batches {
                read_newest(&**batch, range, &mut newest)?;
                cancel.check().map_err(ReadError::from)?;
                if newest.len() as u64 > options.max_samples {
                    let most = options.max_samples;
                    let message = format!("more than {most} series (query.max-samples); select fewer with match[]");
                    return Err(ApiError::new(ErrorType::Execution, message));
                }
            }
        }
        let samples = sorted(newest, format);
        let exposition = match format.encoding {
            Encoding::Protobuf => Exposition::Whole(protobuf::exposition(&samples, &external)),
            encoding => Exposition::Lines(Lines::new(samples, external, encoding)),
        };
        Ok((exposition, n_warnings))
    });
    let done = work.await.map(|ran| ran.value);
    http.backend.federated(done.is_err(), done.as_ref().map_or(0, |(_, n_warnings)| *n_warnings));
    match done {
        Ok((exposition, _)) => {
            let body = match exposition {
                Exposition::Whole(bytes) => bytes.into(),
                Exposition::Lines(mut lines) => pieces::body(move |out| lines.fill(out)),
            };
            Ok(([(header::CONTENT_TYPE, format.content_type())], body).into_response())
        }
        Err(e) => Err(plain(StatusCode::INTERNAL_SERVER_ERROR, e.message)),
    }
}

/// Takes in the newest sample of each series of a batch, but for those that have ended.
fn read_newest(batch: &dyn SeriesBatch, range: TimeRange, newest: &mut Newest) -> Result<(), ReadError> {
    let mut columns = Columns::default();
    let mut start = 0;
    while start < batch.n_series() {
        let end = batch.n_series().min(start + SERIES_AT_ONCE);
        batch.read(start..end, range, &mut columns)?;
        for i in start..end {
            let column = columns.column(i - start);
            let histogram = column.histogram_samples().last();
            let float = (0..columns.n_rows()).rev().find(|row| column.is_present(*row));
            let (row, sample) = match (histogram, float) {
                (Some((row, h)), float) if float.is_none_or(|float| float < row) => {
                    (row, Some(h).filter(|h| !h.is_stale()).map(Sample::Histogram))
                }
                (_, Some(row)) => (row, Some(column.values[row]).filter(|v| !is_stale(*v)).map(Sample::Float)),
                _ => continue,
            };
            if let Some(sample) = sample {
                newest.insert(batch.labels(i), (columns.timestamps()[row], sample));
            }
        }
        start = end;
    }
    Ok(())
}

/// What is answered.
enum Exposition {
    Whole(Vec<u8>),
    Lines(Lines),
}

/// The samples by ascending name.
fn sorted(newest: Newest, format: Format) -> Vec<Found> {
    let plain = |labels: Labels| if format.is_utf8 { labels } else { underscored(&labels) };
    let mut samples: Vec<Found> = newest.into_iter().map(|(labels, (t, sample))| (plain(labels), t, sample)).collect();
    let order = |s: &Found| matches!(s.2, Sample::Histogram(_));
    samples.sort_by(|a, b| (a.0.metric_name(), order(a), &a.0).cmp(&(b.0.metric_name(), order(b), &b.0)));
    samples
}

/// Samples that are sorted by name as lines, with the labels by which this server is known elsewhere.
struct Lines {
    samples: std::vec::IntoIter<Found>,
    external: Labels,
    is_openmetrics: bool,
    family: String,
}

impl Lines {
    fn new(samples: Vec<Found>, external: Labels, encoding: Encoding) -> Self {
        let is_openmetrics = encoding == Encoding::OpenMetrics;
        Self { samples: samples.into_iter(), external, is_openmetrics, family: String::new() }
    }

    /// Appends the next lines.
    fn fill(&mut self, out: &mut Vec<u8>) -> Fill {
        let mut text = String::with_capacity(PIECE_BYTES);
        let mut fill = Fill::More;
        while text.len() < PIECE_BYTES && fill == Fill::More {
            match self.samples.next() {
                Some((labels, t, Sample::Float(value))) if !labels.metric_name().is_empty() => {
                    self.push(&labels, t, value, &mut text);
                }
                Some(_) => {}
                None => {
                    text.push_str(if self.is_openmetrics { "# EOF\n" } else { "" });
                    fill = Fill::Done;
                }
            }
        }
        out.extend_from_slice(text.as_bytes());
        fill
    }

    fn push(&mut self, labels: &Labels, t: i64, value: f64, out: &mut String) {
        let name = labels.metric_name();
        if name != self.family {
            name.clone_into(&mut self.family);
            let mut key = String::new();
            put_key(&mut key, &Labels::from_pairs([(METRIC_NAME, name)]));
            let name = key.trim_start_matches('{').trim_end_matches('}');
            let kind = if self.is_openmetrics { "unknown" } else { "untyped" };
            // Writing to a string does not fail.
            let _ = writeln!(out, "# TYPE {name} {kind}");
        }
        let mut all = labels.to_builder();
        for (name, value) in self.external.iter().filter(|(name, _)| labels.get(name).is_none()) {
            all.set(name, value);
        }
        put_key(out, &all.build());
        if labels.get(INSTANCE).is_none() && self.external.get(INSTANCE).is_none() {
            // A set of labels keeps no empty value, but the other server is to see one.
            match out.ends_with('}') {
                true => drop(out.pop()),
                false => out.push('{'),
            }
            let separator = if out.ends_with('{') { "" } else { "," };
            let _ = write!(out, "{separator}{INSTANCE}=\"\"}}");
        }
        out.push(' ');
        put_value(out, value);
        let _ = match self.is_openmetrics {
            true => writeln!(out, " {}", Seconds(t)),
            false => writeln!(out, " {t}"),
        };
    }
}

/// Names as clients know them that take no others than letters, digits and underscores.
fn underscored(labels: &Labels) -> Labels {
    let is_plain = |(name, value): (&str, &str)| {
        is_legacy_label_name(name) && (name != METRIC_NAME || is_legacy_metric_name(value))
    };
    if labels.iter().all(is_plain) {
        return labels.clone();
    }
    let plain = |text: &str, others: &[char]| -> String {
        let is_kept = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || i > 0 && c.is_ascii_digit();
        text.chars().enumerate().map(|(i, c)| if is_kept((i, c)) || others.contains(&c) { c } else { '_' }).collect()
    };
    let pairs = labels.iter().map(|(name, value)| match name {
        METRIC_NAME => (name.to_owned(), plain(value, &[':'])),
        _ => (plain(name, &[]), value.to_owned()),
    });
    let pairs: Vec<(String, String)> = pairs.collect();
    Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    #[track_caller]
    fn check(accept: &str, external: Pairs<'_>, series: &[(Pairs<'_>, i64, f64)], expected: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        let newest = series.iter().map(|(pairs, t, v)| (labels(pairs), (*t, Sample::Float(*v)))).collect();
        let format = Format::of(&headers);
        let mut lines = Lines::new(sorted(newest, format), labels(external), format.encoding);
        let mut text = Vec::new();
        while lines.fill(&mut text) == Fill::More {}
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn the_format_is_the_one_that_is_wanted_most() {
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, encoding) in [
            ("", Encoding::Text),
            ("application/json", Encoding::Text),
            (&format!("{protobuf};q=0.6,application/openmetrics-text;q=0.5,*/*;q=0.2"), Encoding::Protobuf),
            (&format!("text/plain;q=0.9,{protobuf};q=0.6"), Encoding::Text),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4", Encoding::OpenMetrics),
            ("application/vnd.google.protobuf", Encoding::Text),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(Format::of(&headers).encoding, encoding, "{accept}");
        }
    }

    #[test]
    fn samples_stand_by_name_with_their_time() {
        let b: &[(&str, &str)] = &[("__name__", "b"), ("a", "1")];
        let a: &[(&str, &str)] = &[("__name__", "a"), ("z", "\"\n"), ("instance", "i")];
        let lone: &[(&str, &str)] = &[("__name__", "c")];
        let all = [(b, 1500, 0.5), (a, 2000, f64::INFINITY), (lone, 7, f64::NAN)];
        check(
            "",
            &[],
            &all,
            "# TYPE a untyped\na{instance=\"i\",z=\"\\\"\\n\"} +Inf 2000\n# TYPE b untyped\n\
             b{a=\"1\",instance=\"\"} 0.5 1500\n# TYPE c untyped\nc{instance=\"\"} NaN 7\n",
        );
        check(
            "application/openmetrics-text",
            &[("instance", "here"), ("a", "2")],
            &all[..1],
            "# TYPE b unknown\nb{a=\"1\",instance=\"here\"} 0.5 1.500\n# EOF\n",
        );
    }

    #[test]
    fn names_follow_what_the_client_takes() {
        let series: &[(&str, &str)] = &[("__name__", "1m.x:y"), ("http.code", "200"), ("instance", "i")];
        let all = [(series, 1, 1.0)];
        check("", &[], &all, "# TYPE _m_x:y untyped\n_m_x:y{http_code=\"200\",instance=\"i\"} 1 1\n");
        check(
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            &[],
            &all,
            "# TYPE \"1m.x:y\" untyped\n{\"1m.x:y\",\"http.code\"=\"200\",instance=\"i\"} 1 1\n",
        );
    }
}
