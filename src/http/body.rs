//! The value of a query as the body of an answer, written piece by piece.

use axum::http::StatusCode;
use axum::response::Response;
use promontory_promql::value::{MatrixSeries, SampleValue, Value};

use super::answer::{self, Remarks};
use super::json::{self, COPY_BYTES};
use super::pieces::{self, Fill, PIECE_BYTES};

/// Samples of a series whose times are kept as text: as many as a range may have steps.
const STARTS_MAX: usize = 11_000;

/// The answer `{"status":"success","data":{"resultType":…,"result":…}…}`; `stats` is the text of that field.
pub(crate) fn answer(value: Value, stats: Option<String>, remarks: &Remarks) -> Response {
    let mut tail = Vec::new();
    if let Some(stats) = stats {
        tail.extend_from_slice(b",\"stats\":");
        tail.extend_from_slice(stats.as_bytes());
    }
    tail.push(b'}');
    remarks.push_end(&mut tail);
    let starts = Starts::default();
    let mut body = ValueBody { value, tail, next: Cursor::default(), starts, stage: Stage::Head };
    answer::json_response(StatusCode::OK, pieces::body(move |out| body.fill(out)))
}

struct ValueBody {
    value: Value,
    /// What comes after the result.
    tail: Vec<u8>,
    next: Cursor,
    starts: Starts,
    stage: Stage,
}

/// How the samples of the series before began: series of a range mostly have the same times, and a time takes as long to
/// write as a value.
#[derive(Debug, Default)]
struct Starts(Vec<Start>);

/// A time and its text.
#[derive(Debug, Clone, Copy)]
struct Start {
    t: i64,
    text: [u8; COPY_BYTES],
    n: u8,
}

impl Start {
    /// `None` for a time with too many digits.
    fn of(t: i64) -> Option<Self> {
        let mut start = Self { t, text: [0; COPY_BYTES], n: 0 };
        let mut text = Vec::with_capacity(COPY_BYTES);
        json::push_sample_start(&mut text, t);
        start.text.get_mut(..text.len())?.copy_from_slice(&text);
        start.n = text.len() as u8;
        Some(start)
    }
}

impl Starts {
    /// Appends the beginning of sample `i` of a series, of which those before were asked for.
    fn push(&mut self, i: usize, t: i64, out: &mut Vec<u8>) {
        if let Some(start) = self.0.get(i).filter(|start| start.t == t) {
            json::push_start_of(out, &start.text, usize::from(start.n));
            return;
        }
        json::push_sample_start(out, t);
        // A range vector may have more samples than a range has steps.
        if i < STARTS_MAX && i <= self.0.len() {
            self.0.truncate(i);
            self.0.extend(Start::of(t));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Result,
    Done,
}

/// What to write next: a series, and of it the sample; floats are counted before histograms.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    series: usize,
    sample: usize,
}

impl ValueBody {
    /// Appends until the piece is full or all is written.
    fn fill(&mut self, out: &mut Vec<u8>) -> Fill {
        if self.stage == Stage::Head {
            self.push_head(out);
            self.stage = Stage::Result;
        }
        if self.stage == Stage::Result && self.push_result(out) {
            out.append(&mut self.tail);
            self.stage = Stage::Done;
        }
        if self.stage == Stage::Done { Fill::Done } else { Fill::More }
    }

    fn push_head(&self, out: &mut Vec<u8>) {
        let kind = match self.value {
            Value::Scalar(..) => "scalar",
            Value::String(..) => "string",
            Value::Vector(_) => "vector",
            Value::Matrix(_) => "matrix",
        };
        out.extend_from_slice(answer::SUCCESS);
        out.extend_from_slice(b"{\"resultType\":");
        json::push_string(out, kind);
        out.extend_from_slice(b",\"result\":");
        if matches!(self.value, Value::Vector(_) | Value::Matrix(_)) {
            out.push(b'[');
        }
    }

    /// Answers whether the result is complete.
    fn push_result(&mut self, out: &mut Vec<u8>) -> bool {
        match &self.value {
            Value::Scalar(t, v) => json::push_scalar(out, *t, *v),
            Value::String(t, text) => {
                out.push(b'[');
                json::push_time(out, *t);
                out.push(b',');
                json::push_string(out, text);
                out.push(b']');
            }
            Value::Vector(samples) => {
                while let Some(sample) = samples.get(self.next.series) {
                    if out.len() >= PIECE_BYTES {
                        return false;
                    }
                    push_comma(out, self.next.series);
                    out.extend_from_slice(b"{\"metric\":");
                    json::push_labels(out, &sample.labels);
                    match &sample.value {
                        SampleValue::Float(v) => {
                            out.extend_from_slice(b",\"value\":");
                            json::push_sample(out, sample.t, *v);
                        }
                        SampleValue::Histogram(h) => {
                            out.extend_from_slice(b",\"histogram\":");
                            json::push_histogram_sample(out, sample.t, h);
                        }
                    }
                    out.push(b'}');
                    self.next.series += 1;
                }
                out.push(b']');
            }
            Value::Matrix(series) => {
                while let Some(one) = series.get(self.next.series) {
                    if !push_series(out, one, &mut self.next, &mut self.starts) {
                        return false;
                    }
                }
                out.push(b']');
            }
        }
        true
    }
}

/// Appends from where `next` stands; answers whether the series is complete, and moves `next` to the following one.
fn push_series(out: &mut Vec<u8>, series: &MatrixSeries, next: &mut Cursor, starts: &mut Starts) -> bool {
    if next.sample == 0 {
        push_comma(out, next.series);
        out.extend_from_slice(b"{\"metric\":");
        json::push_labels(out, &series.labels);
    }
    let n_floats = series.floats.len();
    while next.sample < n_floats {
        if out.len() >= PIECE_BYTES {
            // A cursor at 0 stands for "nothing written", so the label set and the first sample go together.
            if next.sample > 0 {
                return false;
            }
        }
        out.extend_from_slice(if next.sample == 0 { b",\"values\":[" } else { b"," });
        let (t, v) = series.floats[next.sample];
        starts.push(next.sample, t, out);
        json::push_sample_end(out, v);
        next.sample += 1;
        if next.sample == n_floats {
            out.push(b']');
        }
    }
    while let Some((t, h)) = series.histograms.get(next.sample - n_floats) {
        if out.len() >= PIECE_BYTES && next.sample > 0 {
            return false;
        }
        out.extend_from_slice(if next.sample == n_floats { b",\"histograms\":[" } else { b"," });
        json::push_histogram_sample(out, *t, h);
        next.sample += 1;
        if next.sample - n_floats == series.histograms.len() {
            out.push(b']');
        }
    }
    out.push(b'}');
    *next = Cursor { series: next.series + 1, sample: 0 };
    true
}

fn push_comma(out: &mut Vec<u8>, i: usize) {
    if i > 0 {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;
    use promontory_model::{FloatHistogram, Labels};
    use promontory_promql::value::VectorSample;

    use super::*;

    async fn read(value: Value, stats: Option<&str>, remarks: &Remarks) -> String {
        let body = answer(value, stats.map(str::to_owned), remarks).into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[track_caller]
    fn check(value: Value, expected: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let got = runtime.block_on(read(value, None, &Remarks::default()));
        assert_eq!(got, format!("{{\"status\":\"success\",\"data\":{{{expected}}}}}"));
    }

    #[test]
    fn each_type_has_its_form() {
        check(Value::Scalar(1500, 2.5), r#""resultType":"scalar","result":[1.500,"2.5"]"#);
        check(Value::String(0, "a\"b".to_owned()), r#""resultType":"string","result":[0,"a\"b"]"#);
        check(Value::Vector(Vec::new()), r#""resultType":"vector","result":[]"#);
        check(Value::Matrix(Vec::new()), r#""resultType":"matrix","result":[]"#);
        let labels = Labels::from_pairs([("a", "b")]);
        let sample = |value| VectorSample { labels: labels.clone(), t: 1000, value };
        let vector = vec![
            sample(SampleValue::Float(f64::NAN)),
            sample(SampleValue::Histogram(Arc::new(FloatHistogram::default()))),
        ];
        check(
            Value::Vector(vector),
            r#""resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"NaN"]},{"metric":{"a":"b"},"histogram":[1,{"count":"0","sum":"0"}]}]"#,
        );
        let matrix = MatrixSeries {
            labels,
            floats: vec![(1000, 1.0), (2000, 2.0)],
            histograms: vec![(3000, Arc::new(FloatHistogram::default()))],
        };
        check(
            Value::Matrix(vec![matrix, MatrixSeries::default()]),
            r#""resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1,"1"],[2,"2"]],"histograms":[[3,{"count":"0","sum":"0"}]]},{"metric":{}}]"#,
        );
    }

    #[test]
    fn times_of_the_series_before_are_told_from_others() {
        let mut starts = Starts::default();
        for times in [&[1000, 2000, 2500][..], &[1000, 3000, 3500, 4000], &[3000], &[3000, 3000], &[1000, 3000, 1]] {
            for (i, t) in times.iter().enumerate() {
                let (mut got, mut expected) = (Vec::new(), Vec::new());
                starts.push(i, *t, &mut got);
                json::push_sample_start(&mut expected, *t);
                assert_eq!(got, expected, "{times:?} at {i}");
            }
        }
    }

    #[tokio::test]
    async fn long_values_come_in_pieces_that_join() {
        let h = Arc::new(FloatHistogram::default());
        let series = |i: i64| MatrixSeries {
            labels: Labels::from_pairs([("i", i.to_string())]),
            floats: (0..9000).map(|t| (t * 1000, t as f64 * 0.5)).collect(),
            histograms: (0..3000).map(|t| (t * 1000, h.clone())).collect(),
        };
        let value = Value::Matrix((0..3).map(series).collect());
        let remarks = Remarks { warnings: vec!["w".to_owned()], infos: vec![] };
        let text = read(value, Some("{}"), &remarks).await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let result = json["data"]["result"].as_array().unwrap();
        assert_eq!(result.len(), 3);
        for series in result {
            let values = series["values"].as_array().unwrap();
            assert!(values.iter().enumerate().all(|(t, v)| *v == serde_json::json!([t, (t as f64 * 0.5).to_string()])));
            assert_eq!((values.len(), series["histograms"].as_array().unwrap().len()), (9000, 3000));
        }
        assert_eq!((&json["data"]["stats"], &json["warnings"][0]), (&serde_json::json!({}), &serde_json::json!("w")));
    }
}
