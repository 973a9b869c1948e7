//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, of classic and of native histograms.

use std::collections::HashMap;

use promontory_model::{FloatHistogram, Labels};

use super::notes::Notes;
use super::vector::{Series, Vector};
use crate::annotations::FixedBuckets;
use crate::error::QueryError;
use crate::histogram;
use crate::kernels::buckets::{self, Bucket};
use crate::kernels::is_absent;
use crate::notes as texts;

const LE: &str = "le";

/// The buckets of one histogram: series of the input by ascending bound.
struct Histogram {
    series: Series,
    buckets: Vec<(f64, usize)>,
}

/// What to make of a histogram at a step.
pub(crate) enum Answer<'a> {
    /// The quantile at each step.
    Quantile(&'a [f64]),
    /// The quantile at each step, told in a label.
    LabelledQuantile(&'a str, &'a [f64]),
    /// The fraction between two bounds at each step.
    Fraction(&'a [f64], &'a [f64]),
}

/// Histograms of a vector; series of floats without a bound are told and left out.
pub(crate) struct Histograms {
    /// Buckets of classic ones.
    classic: Vec<Histogram>,
    /// Series with native ones, and the steps at which a classic one with the same labels is there as well.
    native: Vec<(usize, Vec<bool>)>,
    /// For each classic one the steps at which a native one is there.
    clashes: Vec<Vec<bool>>,
}

impl Histograms {
    /// `arg` is the argument that holds the buckets.
    pub(crate) fn new(input: &Vector, arg: usize, notes: &mut Notes<'_>) -> Self {
        let mut ids: HashMap<Labels, usize, rapidhash::fast::RandomState> = HashMap::default();
        let mut all: Vec<Histogram> = Vec::new();
        for (i, s) in input.series.iter().enumerate() {
            if input.row(i).iter().all(|v| is_absent(*v)) {
                continue;
            }
            let le = s.labels.get(LE).unwrap_or("");
            let Some(upper) = parse_bound(le) else {
                notes.warn(&texts::bad_bucket_label(s.labels.metric_name(), le), arg);
                continue;
            };
            let labels = s.labels.without(&[LE]);
            let id = *ids.entry(labels.clone()).or_insert_with(|| {
                all.push(Histogram { series: Series { labels, drop_name: s.drop_name }, buckets: Vec::new() });
                all.len() - 1
            });
            all[id].buckets.push((upper, i));
        }
        for h in &mut all {
            h.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let mut out = Self { clashes: vec![Vec::new(); all.len()], classic: all, native: Vec::new() };
        for (i, s) in input.series.iter().enumerate().filter(|(i, _)| !input.histograms(*i).is_empty()) {
            let clash = ids.get(&s.labels).map(|id| out.clash(*id, input, i)).unwrap_or_default();
            if !clash.is_empty() {
                notes.warn(&texts::mixed_classic_native(s.labels.metric_name()), arg);
            }
            out.native.push((i, clash));
        }
        out
    }

    /// The steps at which classic histogram `id` and native series `i` are both there; nothing when there are none.
    fn clash(&mut self, id: usize, input: &Vector, i: usize) -> Vec<bool> {
        let mut steps = vec![false; input.n_steps];
        for (step, _) in input.histograms(i) {
            let step = *step as usize;
            steps[step] = self.classic[id].buckets.iter().any(|(_, b)| !is_absent(input.row(*b)[step]));
        }
        if !steps.contains(&true) {
            return Vec::new();
        }
        self.clashes[id].clone_from(&steps);
        steps
    }

    /// Adds the answer for each histogram to `out`.
    ///
    /// # Errors
    /// Only if the answers of two histograms have equal labels.
    pub(crate) fn answer(
        &self,
        input: &Vector,
        answer: &Answer<'_>,
        (arg, delayed_names): (usize, bool),
        times: &[i64],
        out: &mut Vector,
        notes: &mut Notes<'_>,
    ) -> Result<(), QueryError> {
        let mut present = Vec::new();
        self.answer_native(input, answer, (arg, delayed_names), out, notes);
        for (h, clashes) in self.classic.iter().zip(&self.clashes) {
            let mut repairs = Repairs::default();
            let mut rows: HashMap<u64, usize> = HashMap::new();
            for step in 0..input.n_steps {
                present.clear();
                let at = h.buckets.iter().map(|(upper, i)| Bucket { upper: *upper, count: input.row(*i)[step] });
                present.extend(at.filter(|b| !is_absent(b.count)));
                if present.is_empty() || clashes.get(step) == Some(&true) {
                    continue;
                }
                let (value, label) = match answer {
                    Answer::Quantile(q) => (repairs.quantile(q[step], &mut present, times[step]), None),
                    Answer::LabelledQuantile(label, q) => {
                        (repairs.quantile(q[step], &mut present, times[step]), Some((*label, q[step])))
                    }
                    Answer::Fraction(lower, upper) => (buckets::fraction(lower[step], upper[step], &mut present), None),
                };
                let key = label.map_or(0, |(_, q)| q.to_bits());
                let row = *rows.entry(key).or_insert_with(|| push_answer(out, h.series.clone(), label, delayed_names));
                out.row_mut(row)[step] = value;
            }
            repairs.tell(h.series.labels.metric_name(), arg, notes);
        }
        Ok(())
    }

    fn answer_native(
        &self,
        input: &Vector,
        answer: &Answer<'_>,
        (arg, delayed_names): (usize, bool),
        out: &mut Vector,
        notes: &mut Notes<'_>,
    ) {
        for (i, clashes) in &self.native {
            let series = &input.series[*i];
            let name = series.labels.metric_name();
            let mut rows: HashMap<u64, usize> = HashMap::new();
            for (step, h) in input.histograms(*i) {
                let step = *step as usize;
                if clashes.get(step) == Some(&true) {
                    continue;
                }
                let (value, label) = match answer {
                    Answer::Quantile(q) => (native_quantile(q[step], h, name, arg, notes), None),
                    Answer::LabelledQuantile(label, q) => {
                        (native_quantile(q[step], h, name, arg, notes), Some((*label, q[step])))
                    }
                    Answer::Fraction(lower, upper) => {
                        if has_nan_observations(h) {
                            notes.info(&texts::fraction_nan(name), arg);
                        }
                        (histogram::fraction(lower[step], upper[step], h), None)
                    }
                };
                let key = label.map_or(0, |(_, q)| q.to_bits());
                let row = *rows.entry(key).or_insert_with(|| push_answer(out, series.clone(), label, delayed_names));
                out.row_mut(row)[step] = value;
            }
        }
    }
}

/// Adds the row of an answer, told apart by a label if there is one, and says which row it is.
fn push_answer(out: &mut Vector, mut series: Series, label: Option<(&str, f64)>, delayed_names: bool) -> usize {
    series.drop_name(delayed_names);
    if let Some((label, q)) = label {
        series.labels = series.labels.to_builder().set(label, &open_metrics_float(q)).build();
    }
    out.push(series);
    out.len() - 1
}

/// Observations that are in no bucket, because they are NaN.
fn has_nan_observations(h: &FloatHistogram) -> bool {
    h.sum.is_nan() && bucketed(h) < h.count
}

/// Observations in buckets.
fn bucketed(h: &FloatHistogram) -> f64 {
    h.zero_count + h.positive_buckets.iter().sum::<f64>() + h.negative_buckets.iter().sum::<f64>()
}

fn native_quantile(q: f64, h: &FloatHistogram, name: &str, arg: usize, notes: &mut Notes<'_>) -> f64 {
    if (0.0..=1.0).contains(&q) && has_nan_observations(h) {
        if q * h.count > bucketed(h) {
            notes.info(&texts::quantile_nan_result(name), arg);
            return f64::NAN;
        }
        notes.info(&texts::quantile_nan_skew(name), arg);
    }
    histogram::quantile(q, h)
}

/// Upper bounds are floats as Go parses them.
pub(crate) fn parse_bound(le: &str) -> Option<f64> {
    let digits = le.trim_start_matches(['+', '-']);
    if digits.len() != le.len() && le.len() - digits.len() > 1 {
        return None;
    }
    le.parse().ok()
}

/// A float as OpenMetrics writes it in a label: always with a point or an exponent.
fn open_metrics_float(v: f64) -> String {
    let text = texts::format_g(v);
    if v.is_finite() && !text.contains(['.', 'e']) { format!("{text}.0") } else { text }
}

/// Decreasing counts that were repaired in one histogram.
#[derive(Default)]
struct Repairs(Option<FixedBuckets>);

impl Repairs {
    fn quantile(&mut self, q: f64, buckets: &mut Vec<Bucket>, t: i64) -> f64 {
        let (value, repair) = buckets::quantile(q, buckets);
        if let Some(r) = repair {
            let all = self.0.get_or_insert(FixedBuckets {
                lowest: r.lowest,
                highest: r.highest,
                decrease: r.difference,
                samples: 0,
                first_ms: t,
                last_ms: t,
            });
            all.lowest = all.lowest.min(r.lowest);
            all.highest = all.highest.max(r.highest);
            all.decrease = all.decrease.max(r.difference);
            all.samples += 1;
            all.last_ms = t;
        }
        value
    }

    fn tell(&self, metric: &str, arg: usize, notes: &mut Notes<'_>) {
        if let Some(fixed) = self.0 {
            notes.forced_monotonicity(metric, arg, fixed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_parsed_as_go_does() {
        for (text, want) in [("0.1", Some(0.1)), ("+Inf", Some(f64::INFINITY)), ("1e0", Some(1.0)), (".2", Some(0.2))] {
            assert_eq!(parse_bound(text), want, "{text}");
        }
        for text in ["", "Hello World", "+-1", "1 "] {
            assert_eq!(parse_bound(text), None, "{text}");
        }
    }

    #[test]
    fn labels_of_quantiles_have_a_point() {
        for (v, want) in [(0.0, "0.0"), (1.0, "1.0"), (0.25, "0.25"), (f64::NAN, "NaN"), (1e-7, "1e-07")] {
            assert_eq!(open_metrics_float(v), want);
        }
    }
}
