//! Aggregations that look at the series of a group one by one: `topk`, `bottomk`, `quantile`, `count_values`,
//! `limitk`, `limit_ratio`.

use std::cmp::Ordering;

use promontory_model::histogram::Counts;
use promontory_model::labels::Quoted;

use super::aggregate::{Groups, group_labels};
use super::notes::{self, Notes};
use super::vector::Vector;
use crate::ast::{AggregateOp, Grouping};
use crate::error::QueryError;
use crate::histogram;
use crate::kernels::{ABSENT, is_absent, quantile};
use crate::notes as texts;
use crate::ratio::ratio_offset;

/// The first argument of an aggregation.
pub(crate) enum Param<'a> {
    /// At each step.
    Numbers(&'a [f64]),
    /// The label of `count_values`.
    Label(&'a str),
}

/// Series of each group, in order.
struct Members {
    groups: Groups,
    of_group: Vec<Vec<usize>>,
}

impl Members {
    /// `names_matter` when the group is the answer, and not some of its series.
    fn new(input: &Vector, grouping: &Grouping, names_matter: bool) -> Self {
        let mut groups = Groups::default();
        let mut of_group: Vec<Vec<usize>> = Vec::new();
        for (i, s) in input.series.iter().enumerate() {
            let id = groups.id(group_labels(&s.labels, grouping), names_matter && s.drop_name);
            of_group.resize(groups.series.len(), Vec::new());
            of_group[id].push(i);
        }
        Self { groups, of_group }
    }
}

/// `topk` or `bottomk`: the chosen series keep their labels. With one step they come sorted by value.
pub(crate) fn top(
    input: &Vector,
    grouping: &Grouping,
    k: &[f64],
    largest: bool,
    notes: &mut Notes<'_>,
) -> Result<Vector, QueryError> {
    check_counts(k)?;
    if input.has_histograms() {
        let op = if largest { AggregateOp::TopK } else { AggregateOp::BottomK };
        notes.info(&texts::histogram_ignored_in_aggregation(notes::aggregation(op)), 0);
    }
    let better = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if largest => b.total_cmp(&a),
        (false, false) => a.total_cmp(&b),
    };
    let members = Members::new(input, grouping, false);
    let mut chosen = Chosen::new(input);
    let mut candidates: Vec<(f64, usize)> = Vec::new();
    for group in &members.of_group {
        for (step, k) in k.iter().enumerate() {
            candidates.clear();
            let values = group.iter().map(|i| (input.row(*i)[step], *i));
            candidates.extend(values.filter(|(v, _)| !is_absent(*v)));
            let k = (*k).max(0.0) as usize;
            candidates.sort_by(|a, b| better(a.0, b.0));
            candidates.truncate(k);
            for (_, i) in &candidates {
                chosen.keep(*i, step);
            }
        }
    }
    Ok(chosen.finish(input))
}

/// `limitk`: the first series of each group.
pub(crate) fn limit(input: &Vector, grouping: &Grouping, k: &[f64]) -> Result<Vector, QueryError> {
    check_counts(k)?;
    let members = Members::new(input, grouping, false);
    let mut chosen = Chosen::new(input);
    for group in &members.of_group {
        for (step, k) in k.iter().enumerate() {
            let present = group.iter().filter(|i| input.is_present(**i, step));
            present.take((*k).max(0.0) as usize).for_each(|i| chosen.keep(*i, step));
        }
    }
    Ok(chosen.finish(input))
}

/// `limit_ratio`: a sample of the series, the same at every step and in every query.
pub(crate) fn limit_ratio(input: &Vector, ratios: &[f64], notes: &mut Notes<'_>) -> Result<Vector, QueryError> {
    for ratio in ratios {
        if ratio.is_nan() {
            return Err(execution("Ratio value is NaN"));
        }
        if ratio.abs() > 1.0 {
            notes.warn(&texts::invalid_ratio(*ratio, ratio.signum()), 1);
        }
    }
    let mut chosen = Chosen::new(input);
    for (i, series) in input.series.iter().enumerate() {
        // A place in 0…1 that depends on the labels only.
        let place = ratio_offset(&series.labels);
        for (step, ratio) in ratios.iter().enumerate() {
            let ratio = ratio.clamp(-1.0, 1.0);
            let keep = if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio };
            if keep && input.is_present(i, step) {
                chosen.keep(i, step);
            }
        }
    }
    Ok(chosen.finish(input))
}

/// `quantile` of each group.
pub(crate) fn quantiles(input: &Vector, grouping: &Grouping, q: &[f64], notes: &mut Notes<'_>) -> Vector {
    if input.has_histograms() {
        notes.info(&texts::histogram_ignored_in_aggregation(notes::aggregation(AggregateOp::Quantile)), 0);
    }
    let members = Members::new(input, grouping, true);
    let mut out = Vector::new(input.n_steps);
    let mut values = Vec::new();
    for (group, series) in members.of_group.iter().zip(members.groups.series) {
        let row = out.push(series);
        for (step, q) in q.iter().enumerate() {
            values.clear();
            values.extend(group.iter().map(|i| input.row(*i)[step]).filter(|v| !is_absent(*v)));
            if !values.is_empty() {
                quantile::sort(&mut values);
                row[step] = quantile::of_sorted(*q, &values);
            }
        }
    }
    out.drop_empty();
    out
}

/// Warns once per value of `q` that is no quantile.
pub(crate) fn check_quantiles(q: &[f64], arg: usize, notes: &mut Notes<'_>) {
    let mut last = None;
    for q in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
        if last != Some(q.to_bits()) {
            notes.warn(&texts::invalid_quantile(*q), arg);
        }
        last = Some(q.to_bits());
    }
}

/// `count_values`: how many series of a group have each value, with the value as a label. A name that was to go is
/// grouped by as any label, and stays, as in Prometheus.
pub(crate) fn count_values(input: &Vector, grouping: &Grouping, label: &str) -> Result<Vector, QueryError> {
    if label.is_empty() {
        return Err(execution(&format!("invalid label name {}", Quoted(label))));
    }
    let mut groups = Groups::default();
    let mut counts: Vec<f64> = Vec::new();
    let n = input.n_steps;
    for (i, series) in input.series.iter().enumerate() {
        let group = group_labels(&series.labels, grouping);
        let mut last: Option<(u64, usize)> = None;
        for step in 0..n {
            let v = input.row(i)[step];
            let text = match input.histogram(i, step) {
                Some(h) => histogram::text(h, Counts::Float),
                None if is_absent(v) => continue,
                None if last.is_some_and(|(bits, _)| bits == v.to_bits()) => String::new(),
                None => float_text(v),
            };
            let id = match last {
                Some((bits, id)) if text.is_empty() && bits == v.to_bits() => id,
                _ => {
                    let mut labels = group.to_builder();
                    labels.set(label, &text);
                    groups.id(labels.build(), false)
                }
            };
            last = (!is_absent(v)).then_some((v.to_bits(), id));
            counts.resize(groups.series.len() * n, ABSENT);
            let cell = &mut counts[id * n + step];
            *cell = if is_absent(*cell) { 1.0 } else { *cell + 1.0 };
        }
    }
    let mut out = Vector::new(n);
    out.series = groups.series;
    out.values = counts;
    Ok(out)
}

/// Shortest decimal digits, never an exponent.
fn float_text(v: f64) -> String {
    match v {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v => format!("{v}"),
    }
}

fn check_counts(k: &[f64]) -> Result<(), QueryError> {
    for k in k {
        if k.is_nan() {
            return Err(execution("Parameter value is NaN"));
        }
        if *k <= i64::MIN as f64 {
            return Err(execution(&format!("Scalar value {} underflows int64", texts::format_g(*k))));
        }
        if *k >= i64::MAX as f64 {
            return Err(execution(&format!("Scalar value {} overflows int64", texts::format_g(*k))));
        }
    }
    Ok(())
}

fn execution(message: &str) -> QueryError {
    QueryError::Execution { message: message.to_owned(), span: None }
}

/// Which samples stay, and the order in which series were first chosen.
struct Chosen {
    n_steps: usize,
    keep: Vec<bool>,
    order: Vec<usize>,
    is_in_order: Vec<bool>,
}

impl Chosen {
    fn new(input: &Vector) -> Self {
        Self {
            n_steps: input.n_steps,
            keep: vec![false; input.n_steps * input.len()],
            order: Vec::new(),
            is_in_order: vec![false; input.len()],
        }
    }

    fn keep(&mut self, i: usize, step: usize) {
        self.keep[i * self.n_steps + step] = true;
        if !self.is_in_order[i] {
            self.is_in_order[i] = true;
            self.order.push(i);
        }
    }

    fn finish(&self, input: &Vector) -> Vector {
        let mut out = Vector::new(self.n_steps);
        for i in &self.order {
            let keep = &self.keep[i * self.n_steps..(i + 1) * self.n_steps];
            let floats: Vec<f64> =
                input.row(*i).iter().zip(keep).map(|(v, keep)| if *keep { *v } else { ABSENT }).collect();
            let histograms = input.histograms(*i).iter().filter(|(step, _)| keep[*step as usize]).cloned().collect();
            out.push_row(input.series[*i].clone(), &floats, histograms);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::vector::Series;
    use super::*;
    use crate::annotations::Annotations;

    /// A series with one sample per value.
    fn one_step(values: &[f64]) -> Vector {
        let mut v = Vector::new(1);
        for (i, x) in values.iter().enumerate() {
            let labels = promontory_model::Labels::from_pairs([("i", i.to_string().as_str())]);
            v.push(Series::new(labels))[0] = *x;
        }
        v
    }

    #[track_caller]
    fn check_top(values: &[f64], k: f64, largest: bool, want: &[&str]) {
        let mut annotations = Annotations::default();
        let mut notes = Notes::new(&[], &mut annotations);
        let got = top(&one_step(values), &Grouping::default(), &[k], largest, &mut notes).unwrap();
        let got: Vec<_> = got.series.iter().map(|s| s.labels.get("i").unwrap().to_owned()).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn nan_is_chosen_last() {
        let values = [3.0, f64::NAN, 5.0, ABSENT, 4.0];
        check_top(&values, 2.0, true, &["2", "4"]);
        check_top(&values, 2.9, false, &["0", "4"]);
        check_top(&values, 1e6, true, &["2", "4", "0", "1"]);
        check_top(&values, 0.0, true, &[]);
        check_top(&values, -1.0, true, &[]);
    }

    #[test]
    fn counts_must_be_numbers() {
        let input = one_step(&[]);
        let error = limit(&input, &Grouping::default(), &[f64::NAN]).unwrap_err();
        assert_eq!(error.to_string(), "Parameter value is NaN");
    }

    #[test]
    fn ratios_complement_each_other() {
        let input = one_step(&[1.0; 100]);
        let mut annotations = Annotations::default();
        let mut notes = Notes::new(&[], &mut annotations);
        let a = limit_ratio(&input, &[0.3], &mut notes).unwrap().len();
        let b = limit_ratio(&input, &[-0.7], &mut notes).unwrap().len();
        assert_eq!(a + b, 100);
        assert!((15..45).contains(&a), "{a}");
    }
}
