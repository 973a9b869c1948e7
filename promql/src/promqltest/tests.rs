//! The notation of series, and the runner against an evaluator that knows one answer.

use super::storage::MemoryStore;
use super::*;
use crate::annotations::Annotations;
use crate::value::{MatrixSeries, QueryStats, Value};

#[track_caller]
fn check_values(text: &str, expected: &str) {
    let got = match parse_series(text) {
        Err(e) => e,
        Ok((labels, values)) => {
            let show = |v: &SeriesValue| match v {
                SeriesValue::Omitted => "_".to_owned(),
                SeriesValue::Float(v) if promontory_model::is_stale(*v) => "stale".to_owned(),
                SeriesValue::Float(v) => v.to_string(),
                SeriesValue::Histogram { value, .. } => format!("h{}", value.count),
            };
            format!("{labels} {}", values.iter().map(show).collect::<Vec<_>>().join(" "))
        }
    };
    assert_eq!(got, expected, "{text}");
}

#[test]
fn values_repeat_and_count() {
    check_values("m 1 2.5 -3", r#"{__name__="m"} 1 2.5 -3"#);
    check_values("m{a=\"b c\"} 1+2x3 _ _x2", r#"{__name__="m", a="b c"} 1 3 5 7 _ _ _"#);
    check_values("{\"a b\", c='}'} 5x2 stale", r#"{__name__="a b", c="}"} 5 5 5 stale"#);
    check_values("m 10-5x2 NaN -Inf 1e3 1m 0x2", r#"{__name__="m"} 10 5 0 NaN -inf 1000 60 0 0 0"#);
    check_values(
        "m {{count:1}} {{count:2 buckets:[1 1]}}x1 {{count:1}}+{{count:3}}x2",
        r#"{__name__="m"} h1 h2 h2 h1 h4 h7"#,
    );
    check_values("m {{count:1", "bad histogram description before \"\"");
    check_values("m 1y", r#"{__name__="m"} 31536000"#);
}

/// Answers every query with one series of this value.
struct Constant(f64);

impl Evaluator for Constant {
    fn instant(&self, _: &dyn Queryable, _: &Expr, t_ms: i64, _: &Cancel) -> Result<QueryOutput, QueryError> {
        let value = Value::Scalar(t_ms, self.0);
        Ok(QueryOutput { value, annotations: Annotations::default(), stats: QueryStats::default() })
    }

    fn range(&self, _: &dyn Queryable, _: &Expr, range: RangeSpec, _: &Cancel) -> Result<QueryOutput, QueryError> {
        let times = (0..).map(|i| range.start_ms + i * range.step_ms).take_while(|t| *t <= range.end_ms);
        let floats = times.map(|t| (t, self.0)).collect();
        let value = Value::Matrix(vec![MatrixSeries { floats, ..MatrixSeries::default() }]);
        Ok(QueryOutput { value, annotations: Annotations::default(), stats: QueryStats::default() })
    }
}

#[track_caller]
fn check_script(script: &str, passed: usize, failed_lines: &[usize]) {
    let report = run_file(script, "script", &Constant(2.0));
    let lines: Vec<usize> = report.failures.iter().map(|f| f.line).collect();
    assert_eq!((report.passed, lines.as_slice()), (passed, failed_lines), "{:#?}", report.failures);
}

#[test]
fn every_eval_counts_by_itself() {
    check_script("eval instant at 1m 1 + 1\n  2\n\neval instant at 1m 1 + 2\n  3\n", 1, &[4]);
    check_script("eval range from 0 to 2m step 1m a\n  {} 2 2 2\n", 1, &[]);
    check_script("eval range from 0 to 2m step 1m a\n  {} 2 2\n", 0, &[1]);
    check_script("eval instant at 0 (\n\neval instant at 0 2\n 2", 1, &[1]);
    check_script("eval instant at 0 2\n  expect warn\n  2\n", 0, &[1]);
    check_script("eval instant at 0 2\n  expect no_warn\n  expect warn\n  2\n", 0, &[1]);
    check_script("eval_fail instant at 0 (\n", 1, &[]);
    check_script("frobnicate\nload 1m\n  a 1 2\n# comment\nclear\neval instant at 0 2\n 2\n", 1, &[1]);
}

#[test]
fn loads_append_in_order() {
    let mut store = MemoryStore::new();
    let labels = promontory_model::Labels::from_pairs([("__name__", "a")]);
    let sample = |t| storage::Sample { t, start: 0, value: storage::Value::Float(1.0) };
    assert!(store.append(&labels, sample(10)).is_ok());
    assert!(store.append(&labels, sample(10)).is_ok());
    assert!(store.append(&labels, sample(9)).is_err());
}
