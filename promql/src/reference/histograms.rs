//! Functions of histograms, classic and native.

use std::fmt::Write as _;

use promontory_model::{FloatHistogram, Labels};

use super::Query;
use super::calls::text;
use super::values::Element;
use crate::annotations::FixedBuckets;
use crate::ast::{Call, Span};
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::histogram;
use crate::notes;
use crate::value::SampleValue;

/// Largest relative difference of bucket counts that is put down to rounding.
const COUNT_TOLERANCE: f64 = 1e-12;

/// Upper bounds and cumulated counts.
type Buckets = Vec<(f64, f64)>;

/// A classic histogram.
#[derive(Debug, Clone)]
struct Classic {
    /// Without `le`.
    labels: Labels,
    drop_name: bool,
    buckets: Buckets,
}

impl Query<'_> {
    /// Splits a vector into native histograms and classic ones, which are put together from their buckets.
    fn split_histograms(&self, vector: Vec<Element>, span: Span) -> (Vec<Element>, Vec<Classic>) {
        let mut native = Vec::new();
        let mut classic: Vec<Classic> = Vec::new();
        for element in vector {
            let Some(count) = element.float() else {
                native.push(element);
                continue;
            };
            let le = element.labels.get("le").unwrap_or("");
            let Ok(bound) = le.parse::<f64>() else {
                self.warn(notes::bad_bucket_label(element.labels.metric_name(), le), span);
                continue;
            };
            let labels = element.labels.without(&["le"]);
            match classic.iter_mut().find(|c| c.labels == labels) {
                Some(c) => c.buckets.push((bound, count)),
                None => classic.push(Classic { labels, drop_name: element.drop_name, buckets: vec![(bound, count)] }),
            }
        }
        native.retain(|n| {
            let same = classic.iter().position(|c| c.labels == n.labels);
            if let Some(i) = same {
                self.warn(notes::mixed_classic_native(n.labels.metric_name()), span);
                classic.remove(i);
            }
            same.is_none()
        });
        (native, classic)
    }

    pub(super) fn histogram_quantile(&self, c: &Call, t: i64) -> Result<Vec<Element>, QueryError> {
        let q = self.scalar(&c.args[0], t)?;
        self.check_quantile(q, c.args[0].span());
        let vector = self.vector(&c.args[1], t)?;
        let split = self.split_histograms(vector, c.args[1].span());
        let out = self.quantiles(q, &split, t, c.args[1].span());
        self.unique(out)
    }

    pub(super) fn histogram_quantiles(&self, c: &Call, t: i64) -> Result<Vec<Element>, QueryError> {
        let label = text(c, 1);
        let mut qs = Vec::new();
        for arg in &c.args[2..] {
            let q = self.scalar(arg, t)?;
            self.check_quantile(q, arg.span());
            qs.push(q);
        }
        let vector = self.vector(&c.args[0], t)?;
        let span = c.args[0].span();
        let split = self.split_histograms(vector, span);
        let mut out = Vec::new();
        for q in qs {
            for mut element in self.quantiles(q, &split, t, span) {
                let mut labels = element.labels.to_builder();
                labels.set(label, &show_openmetrics(q));
                element.labels = labels.build();
                out.push(element);
            }
        }
        self.unique(out)
    }

    fn check_quantile(&self, q: f64, span: Span) {
        if !(0.0..=1.0).contains(&q) {
            self.warn(notes::invalid_quantile(q), span);
        }
    }

    fn quantiles(&self, q: f64, (native, classic): &(Vec<Element>, Vec<Classic>), t: i64, span: Span) -> Vec<Element> {
        let mut out = Vec::new();
        for element in native {
            let Some(h) = element.histogram() else {
                continue;
            };
            let name = element.labels.metric_name();
            let value = histogram::quantile(q, h);
            if (0.0..=1.0).contains(&q) && histogram::nan_observations(h) {
                let note = if value.is_nan() { notes::quantile_nan_result } else { notes::quantile_nan_skew };
                self.info(note(name), span);
            }
            out.push(self.named(&element.labels, element.drop_name, t, value));
        }
        for c in classic {
            let (value, fixed) = bucket_quantile(q, c.buckets.clone());
            if let Some(fixed) = fixed {
                let name = if self.options.delayed_name_removal { c.labels.metric_name() } else { "" };
                let found = FixedBuckets {
                    lowest: fixed.lowest,
                    highest: fixed.highest,
                    decrease: fixed.decrease,
                    samples: 1,
                    first_ms: t,
                    last_ms: t,
                };
                self.annotations.borrow_mut().forced_monotonicity(name, span, found);
            }
            out.push(self.named(&c.labels, c.drop_name, t, value));
        }
        out
    }

    /// An element whose name is dropped.
    fn named(&self, labels: &Labels, drop_name: bool, t: i64, value: f64) -> Element {
        let mut element = Element { drop_name, ..Element::new(labels.clone(), t, SampleValue::Float(value)) };
        self.drop_name(&mut element);
        element
    }

    pub(super) fn histogram_fraction(&self, c: &Call, t: i64) -> Result<Vec<Element>, QueryError> {
        let (lower, upper) = (self.scalar(&c.args[0], t)?, self.scalar(&c.args[1], t)?);
        let vector = self.vector(&c.args[2], t)?;
        let (native, classic) = self.split_histograms(vector, c.args[2].span());
        let mut out = Vec::new();
        for element in native {
            let Some(h) = element.histogram() else {
                continue;
            };
            if histogram::nan_observations(h) {
                self.info(notes::fraction_nan(element.labels.metric_name()), c.args[2].span());
            }
            out.push(self.named(&element.labels, element.drop_name, t, histogram::fraction(lower, upper, h)));
        }
        for c in classic {
            out.push(self.named(&c.labels, c.drop_name, t, bucket_fraction(lower, upper, c.buckets)));
        }
        self.unique(out)
    }

    /// Functions of one native histogram.
    pub(super) fn histogram_statistic(&self, c: &Call, t: i64) -> Result<Vec<Element>, QueryError> {
        use FunctionId as F;
        let mut out = Vec::new();
        for element in self.vector(&c.args[0], t)? {
            let Some(h) = element.histogram() else {
                continue;
            };
            let value = match c.function.id {
                F::HistogramAvg => histogram::average(h),
                F::HistogramCount => h.count,
                F::HistogramSum => h.sum,
                F::HistogramStddev => histogram::stdvar(h).sqrt(),
                _ => histogram::stdvar(h),
            };
            out.push(self.named(&element.labels, element.drop_name, t, value));
        }
        self.unique(out)
    }
}

/// Counts that decreased by more than rounding: bounds and largest decrease.
#[derive(Debug, Clone, Copy)]
struct Fixed {
    lowest: f64,
    highest: f64,
    decrease: f64,
}

/// Sorts buckets and adds up those with the same bound; `None` without a bucket up to +Inf.
fn merged(mut buckets: Buckets) -> Option<Buckets> {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets.last()?.0 != f64::INFINITY {
        return None;
    }
    let mut merged: Buckets = Vec::new();
    for (bound, count) in buckets {
        match merged.last_mut() {
            Some(last) if last.0 == bound => last.1 += count,
            _ => merged.push((bound, count)),
        }
    }
    Some(merged)
}

/// As [`merged`], with counts that decrease evened out.
fn prepared(buckets: Buckets) -> Option<(Buckets, Option<Fixed>)> {
    let mut merged = merged(buckets)?;
    let mut fixed: Option<Fixed> = None;
    let mut previous = merged[0].1;
    for (bound, count) in &mut merged[1..] {
        let difference = (*count - previous).abs();
        let rounding = difference / (count.abs() + previous.abs()).min(f64::MAX) < COUNT_TOLERANCE;
        if *count == previous {
            continue;
        }
        if rounding {
            *count = previous;
        } else if *count < previous {
            let decrease = previous - *count;
            let before = fixed.unwrap_or(Fixed { lowest: *bound, highest: *bound, decrease });
            fixed = Some(Fixed { highest: *bound, decrease: before.decrease.max(decrease), ..before });
            *count = previous;
        } else {
            previous = *count;
        }
    }
    Some((merged, fixed))
}

/// The quantile of a classic histogram, linear inside buckets.
fn bucket_quantile(q: f64, buckets: Buckets) -> (f64, Option<Fixed>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    let Some((buckets, fixed)) = prepared(buckets) else {
        return (f64::NAN, None);
    };
    let n = buckets.len();
    let observations = buckets[n - 1].1;
    if n < 2 || observations == 0.0 {
        return (f64::NAN, None);
    }
    let rank = q * observations;
    // By halving, which matters where counts are NaN and have no order.
    let (mut b, mut end) = (0, n - 1);
    while b < end {
        let middle = (b + end) / 2;
        if buckets[middle].1 >= rank {
            end = middle;
        } else {
            b = middle + 1;
        }
    }
    if b == n - 1 {
        return (buckets[n - 2].0, fixed);
    }
    if b == 0 && buckets[0].0 <= 0.0 {
        return (buckets[0].0, fixed);
    }
    let (start, below) = if b > 0 { buckets[b - 1] } else { (0.0, 0.0) };
    let (end, count) = buckets[b];
    (start + (end - start) * ((rank - below) / (count - below)), fixed)
}

/// The share of a classic histogram's observations between two bounds, linear inside buckets.
fn bucket_fraction(lower: f64, upper: f64, buckets: Buckets) -> f64 {
    let Some(buckets) = merged(buckets) else {
        return f64::NAN;
    };
    let count = buckets[buckets.len() - 1].1;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |bound: f64| {
        let mut start = if buckets[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let mut rank = 0.0;
        for (end, cumulated) in &buckets {
            if start >= bound {
                return rank;
            }
            if *end > bound {
                let inside = if start == f64::NEG_INFINITY {
                    1.0
                } else if *end == f64::INFINITY {
                    0.0
                } else {
                    (bound - start) / (end - start)
                };
                return rank + (cumulated - rank) * inside;
            }
            start = *end;
            rank = *cumulated;
        }
        count
    };
    (below(upper).min(count) - below(lower).min(count)) / count
}

/// A number without exponent, as label values hold it.
pub(super) fn show_float(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        format!("{v}")
    }
}

/// A number as OpenMetrics writes label values: always recognisable as a float.
fn show_openmetrics(v: f64) -> String {
    let shown = notes::format_g(v);
    if v.is_finite() && !shown.contains(['e', '.']) { format!("{shown}.0") } else { shown }
}

/// A histogram as Prometheus shows it in text.
pub(super) fn show_histogram(h: &FloatHistogram) -> String {
    let g = notes::format_g;
    let mut out = format!("{{count:{}, sum:{}", g(h.count), g(h.sum));
    for b in histogram::all_buckets(h) {
        let custom = histogram::is_custom(h);
        let includes_lower = if custom { b.lower == f64::NEG_INFINITY } else { b.lower < 0.0 || b.upper == 0.0 };
        let open = if includes_lower { '[' } else { '(' };
        let close = if custom || b.upper >= 0.0 { ']' } else { ')' };
        let _ = write!(out, ", {open}{},{}{close}:{}", g(b.lower), g(b.upper), g(b.count));
    }
    out.push('}');
    out
}
