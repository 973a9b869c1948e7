//! Aggregations.

use std::cmp::Ordering;
use std::sync::Arc;

use promontory_model::{FloatHistogram, Labels, METRIC_NAME};

use super::calls::bare;
use super::over_time::{Seen, histogram_mean, histogram_sum, mean, quantile, sum};
use super::values::Element;
use super::{Query, fail};
use crate::ast::{Aggregate, AggregateOp, Expr};
use crate::error::QueryError;
use crate::lexer::{quote, quote_bytes};
use crate::notes;
use crate::ratio::ratio_offset;
use crate::value::SampleValue;

/// The elements with the same grouping labels, in order.
struct Group {
    labels: Labels,
    elements: Vec<Element>,
}

impl Group {
    fn floats(&self) -> Vec<f64> {
        self.elements.iter().filter_map(Element::float).collect()
    }

    fn histograms(&self) -> Vec<Arc<FloatHistogram>> {
        self.elements.iter().filter_map(|e| e.histogram().cloned()).collect()
    }
}

impl Query<'_> {
    pub(super) fn aggregate(&self, a: &Aggregate, t: i64) -> Result<Vec<Element>, QueryError> {
        use AggregateOp as A;
        let groups = self.groups(a, t)?;
        match a.op {
            A::TopK | A::BottomK | A::LimitK | A::LimitRatio => self.pick(a, t, groups),
            A::CountValues => self.count_values(a, t, groups),
            _ => {
                let q = match (&a.param, a.op) {
                    (Some(param), A::Quantile) => {
                        let q = self.scalar(param, t)?;
                        if !(0.0..=1.0).contains(&q) {
                            self.warn(notes::invalid_quantile(q), param.span());
                        }
                        q
                    }
                    _ => f64::NAN,
                };
                let mut out = Vec::new();
                for group in groups {
                    let drop_name = group.elements.iter().any(|e| e.drop_name);
                    if let Some(value) = self.reduce(a, q, &group) {
                        out.push(Element { drop_name, ..Element::new(group.labels, t, value) });
                    }
                }
                Ok(out)
            }
        }
    }

    fn groups(&self, a: &Aggregate, t: i64) -> Result<Vec<Group>, QueryError> {
        let mut groups: Vec<Group> = Vec::new();
        for element in self.vector(&a.expr, t)? {
            let labels = if a.grouping.without {
                element.labels.filtered(|n| n != METRIC_NAME && !a.grouping.labels.iter().any(|l| l == n))
            } else {
                element.labels.only(&a.grouping.labels)
            };
            match groups.iter_mut().find(|g| g.labels == labels) {
                Some(group) => group.elements.push(element),
                None => groups.push(Group { labels, elements: vec![element] }),
            }
        }
        Ok(groups)
    }

    /// One value of a group.
    fn reduce(&self, a: &Aggregate, q: f64, group: &Group) -> Option<SampleValue> {
        use AggregateOp as A;
        let floats = group.floats();
        let float = |v: f64| Some(SampleValue::Float(v));
        match a.op {
            A::Count => return float(group.elements.len() as f64),
            A::Group => return float(1.0),
            A::Sum | A::Avg => return self.sum_or_mean_of(a, group),
            _ => {}
        }
        if floats.len() < group.elements.len() {
            self.info(notes::histogram_ignored_in_aggregation(a.op.as_str()), a.expr.span());
        }
        if floats.is_empty() {
            return None;
        }
        let extreme = |better: fn(f64, f64) -> bool| {
            floats.iter().copied().reduce(|best, v| if better(v, best) || best.is_nan() { v } else { best })
        };
        match a.op {
            A::Min => extreme(|a, b| a < b).map(SampleValue::Float),
            A::Max => extreme(|a, b| a > b).map(SampleValue::Float),
            A::Stddev => float(variance(&floats).sqrt()),
            A::Stdvar => float(variance(&floats)),
            A::Quantile => float(quantile(q, &floats)),
            _ => None,
        }
    }

    fn sum_or_mean_of(&self, a: &Aggregate, group: &Group) -> Option<SampleValue> {
        let (floats, histograms) = (group.floats(), group.histograms());
        let is_mean = a.op == AggregateOp::Avg;
        let span = a.expr.span();
        if !floats.is_empty() && !histograms.is_empty() {
            self.warn(notes::MIXED_AGGREGATION, span);
            return None;
        }
        if histograms.is_empty() {
            return Some(SampleValue::Float(if is_mean { mean(&floats) } else { sum(floats.into_iter()) }));
        }
        let mut seen = Seen::default();
        let result =
            if is_mean { histogram_mean(&histograms, &mut seen) } else { histogram_sum(&histograms, &mut seen) };
        match result {
            None => {
                let name = group.elements[seen.added].labels.get(METRIC_NAME).unwrap_or("");
                self.warn(notes::mixed_exponential_custom(name), span);
                seen.annotate_bounds(self, span);
                None
            }
            Some(h) => {
                seen.annotate(self, span);
                Some(SampleValue::Histogram(Arc::new(h)))
            }
        }
    }

    /// Elements of each group as they are.
    fn pick(&self, a: &Aggregate, t: i64, groups: Vec<Group>) -> Result<Vec<Element>, QueryError> {
        use AggregateOp as A;
        let Some(param) = &a.param else {
            return Err(fail("missing aggregation parameter"));
        };
        let number = self.scalar(param, t)?;
        if a.op == A::LimitRatio {
            if number.is_nan() {
                return Err(fail("Ratio value is NaN"));
            }
            let ratio = number.clamp(-1.0, 1.0);
            if ratio != number {
                self.warn(notes::invalid_ratio(number, ratio), param.span());
            }
            let sampled = |e: &Element| {
                let offset = ratio_offset(&e.labels);
                if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
            };
            return Ok(groups.into_iter().flat_map(|g| g.elements).filter(sampled).collect());
        }
        if number.is_nan() {
            return Err(fail("Parameter value is NaN"));
        }
        if number >= i64::MAX as f64 {
            return Err(fail(format!("Scalar value {} overflows int64", notes::format_g(number))));
        }
        if number <= i64::MIN as f64 {
            return Err(fail(format!("Scalar value {} underflows int64", notes::format_g(number))));
        }
        let k = usize::try_from(number as i64).unwrap_or(0);
        let mut out = Vec::new();
        for group in groups {
            if k == 0 {
                continue;
            }
            if a.op == A::LimitK {
                out.extend(group.elements.into_iter().take(k));
                continue;
            }
            let n = group.elements.len();
            let mut floats: Vec<Element> = group.elements.into_iter().filter(|e| e.float().is_some()).collect();
            if floats.len() < n {
                self.info(notes::histogram_ignored_in_aggregation(a.op.as_str()), a.expr.span());
            }
            let value = |e: &Element| e.float().unwrap_or(f64::NAN);
            floats.sort_by(|x, y| by_value(value(x), value(y), a.op == A::TopK));
            floats.truncate(k);
            out.extend(floats);
        }
        Ok(out)
    }

    fn count_values(&self, a: &Aggregate, t: i64, groups: Vec<Group>) -> Result<Vec<Element>, QueryError> {
        let Some(Expr::String(label)) = a.param.as_ref().map(bare) else {
            return Err(fail("count_values needs a label name"));
        };
        match &label.invalid_utf8 {
            Some(bytes) => return Err(fail(format!("invalid label name {}", quote_bytes(bytes)))),
            None if label.value.is_empty() => return Err(fail(format!("invalid label name {}", quote("")))),
            None => {}
        }
        let mut out: Vec<Element> = Vec::new();
        for group in groups {
            for element in group.elements {
                let shown = match &element.value {
                    SampleValue::Float(v) => super::histograms::show_float(*v),
                    SampleValue::Histogram(h) => super::histograms::show_histogram(h),
                };
                let mut labels = group.labels.to_builder();
                labels.set(&label.value, &shown);
                let labels = labels.build();
                match out.iter_mut().find(|e| e.labels == labels) {
                    Some(Element { value: SampleValue::Float(count), .. }) => *count += 1.0,
                    _ => out.push(Element::new(labels, t, SampleValue::Float(1.0))),
                }
            }
        }
        Ok(out)
    }
}

/// Best first, NaN last.
fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if descending => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

/// Population variance by Welford's method.
fn variance(values: &[f64]) -> f64 {
    let mut mean = values[0];
    let mut squares = if values[0].is_finite() { 0.0 } else { f64::NAN };
    for (i, v) in values.iter().enumerate().skip(1) {
        let delta = v - mean;
        mean += delta / (i + 1) as f64;
        squares += delta * (v - mean);
    }
    squares / values.len() as f64
}
