//! Differences added up: what senders report of one interval becomes the total that Prometheus' functions expect.
//!
//! A series that was not sent for a while starts again at its next difference, as after a restart of its process.

use std::collections::HashMap;

use promontory_model::histogram::{Counts, HistogramSample};
use promontory_model::{Labels, is_stale};
use promontory_promql::histogram::Accumulator;
use rapidhash::fast::RandomState;

/// Series whose totals are held.
pub(crate) const DELTA_SERIES_MAX: usize = 500_000;
/// A series is forgotten when it was not sent for this long.
const IDLE_MS: i64 = 5 * 60_000;
/// Time between two searches for such series.
const SWEEP_MS: i64 = 60_000;

/// Why a difference is not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Left {
    #[error("a difference is older than the one before it")]
    OutOfOrder,
    #[error("totals of more than {DELTA_SERIES_MAX} series (delta_series_max)")]
    TooMany,
}

/// Totals of all series that send differences.
#[derive(Debug, Default)]
pub(super) struct Totals {
    series: HashMap<Labels, Total, RandomState>,
    swept_ms: i64,
}

#[derive(Debug)]
struct Total {
    /// Since when the first difference counted; 0 where it did not say so.
    start_ms: i64,
    /// Time of the newest difference.
    t_ms: i64,
    used_ms: i64,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Float(f64),
    Histogram(Box<Accumulator>, Counts),
}

/// When a difference was sent, and since when it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) t_ms: i64,
    /// 0 where that is not said.
    pub(super) start_ms: i64,
}

impl Totals {
    /// The total of a series once `v` is added, and since when it counts; a staleness marker ends it. A difference that
    /// was added before gives the same total again: the store may not have taken it then. `None` where a histogram was
    /// added at this time.
    pub(super) fn add_float(
        &mut self,
        labels: &Labels,
        at: At,
        v: f64,
        now_ms: i64,
    ) -> Result<Option<(f64, i64)>, Left> {
        if is_stale(v) {
            self.series.remove(labels);
            return Ok(Some((v, 0)));
        }
        let (total, is_again) = self.total(labels, at, now_ms)?;
        let sum = match total.value {
            Value::Float(before) if is_again => before,
            Value::Float(before) => before + v,
            Value::Histogram(..) if is_again => return Ok(None),
            Value::Histogram(..) => v,
        };
        total.value = Value::Float(sum);
        Ok(Some((sum, total.start_ms)))
    }

    /// The same of a histogram.
    pub(super) fn add_histogram(
        &mut self,
        labels: &Labels,
        at: At,
        h: HistogramSample,
        now_ms: i64,
    ) -> Result<Option<(HistogramSample, i64)>, Left> {
        if h.is_stale() {
            self.series.remove(labels);
            return Ok(Some((h, 0)));
        }
        let (total, is_again) = self.total(labels, at, now_ms)?;
        let start_ms = total.start_ms;
        if is_again {
            let same = match &mut total.value {
                Value::Histogram(sum, counts) => HistogramSample::new(sum.finish(), *counts).ok(),
                Value::Float(_) => None,
            };
            return Ok(same.map(|h| (h, start_ms)));
        }
        // Of another kind than before: begun anew.
        let added = match &mut total.value {
            Value::Histogram(sum, counts) if *counts == h.counts() => {
                sum.add(h.value()).ok().and_then(|_| HistogramSample::new(sum.finish(), *counts).ok())
            }
            _ => None,
        };
        if added.is_none() {
            total.value = Value::Histogram(Box::new(Accumulator::new(h.value())), h.counts());
        }
        Ok(Some((added.unwrap_or(h), start_ms)))
    }

    /// The total of a series, begun at zero when it is new, and whether this is the time of its newest difference.
    fn total(&mut self, labels: &Labels, at: At, now_ms: i64) -> Result<(&mut Total, bool), Left> {
        let At { t_ms, start_ms } = at;
        self.sweep(now_ms);
        if !self.series.contains_key(labels) && self.series.len() >= DELTA_SERIES_MAX {
            return Err(Left::TooMany);
        }
        let begin = || Total { start_ms, t_ms: i64::MIN, used_ms: now_ms, value: Value::Float(0.0) };
        let total = self.series.entry(labels.clone()).or_insert_with(begin);
        total.used_ms = now_ms;
        if t_ms < total.t_ms {
            return Err(Left::OutOfOrder);
        }
        let is_again = t_ms == total.t_ms;
        total.t_ms = t_ms;
        Ok((total, is_again))
    }

    fn sweep(&mut self, now_ms: i64) {
        if now_ms >= self.swept_ms.saturating_add(SWEEP_MS) || now_ms < self.swept_ms {
            self.swept_ms = now_ms;
            self.series.retain(|_, total| total.used_ms >= now_ms.saturating_sub(IDLE_MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use promontory_model::histogram::Span;
    use promontory_model::{FloatHistogram, stale_nan};

    use super::*;

    #[test]
    fn differences_are_added_once_and_in_order() {
        let mut totals = Totals::default();
        let labels = Labels::from_pairs([("a", "b")]);
        let mut add = |t_ms, v, now| {
            let sum = totals.add_float(&labels, At { t_ms, start_ms: t_ms - 10 }, v, now);
            sum.map(|sum| sum.map(|(sum, _)| sum))
        };
        assert_eq!(add(10, 5.0, 0), Ok(Some(5.0)));
        assert_eq!(add(20, 2.0, 0), Ok(Some(7.0)));
        assert_eq!(add(20, 2.0, 0), Ok(Some(7.0)), "sent again");
        assert_eq!(add(15, 2.0, 0), Err(Left::OutOfOrder));
        assert!(add(30, stale_nan(), 0).unwrap().is_some_and(is_stale));
        assert_eq!(add(40, 1.0, 0), Ok(Some(1.0)), "begun again after its end");
        assert_eq!(add(50, 1.0, IDLE_MS + SWEEP_MS), Ok(Some(1.0)), "begun again after silence");
    }

    #[test]
    fn histograms_are_added_bucket_by_bucket() {
        let mut totals = Totals::default();
        let labels = Labels::from_pairs([("a", "b")]);
        let of = |schema, offset, n: f64| {
            let spans = vec![Span { offset, length: 1 }];
            let h = FloatHistogram {
                schema,
                count: n,
                sum: n,
                positive_spans: spans,
                positive_buckets: vec![n],
                ..FloatHistogram::default()
            };
            HistogramSample::new(h, Counts::Integer).unwrap()
        };
        let mut add = |t_ms, h| totals.add_histogram(&labels, At { t_ms, start_ms: 0 }, h, 0).unwrap().unwrap().0;
        assert_eq!(add(1, of(0, 1, 2.0)).value().count, 2.0);
        let sum = add(2, of(0, 2, 3.0));
        assert_eq!((sum.value().count, &*sum.value().positive_buckets), (5.0, &[2.0, 3.0][..]));
        assert_eq!(add(2, of(0, 2, 3.0)).value().count, 5.0, "sent again");
        // A coarser one coarsens the total.
        let sum = add(3, of(-1, 1, 1.0));
        assert_eq!((sum.value().schema, &*sum.value().positive_buckets), (-1, &[6.0][..]));
    }
}
