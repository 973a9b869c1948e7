//! Function calls.

use promontory_model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};

use super::values::{Element, StepValue, Window, go_max, go_min};
use super::{Query, check_unique, fail, rate::RateKind};
use crate::ast::{Call, Expr, RangeExtension, Span, ValueType};
use crate::calendar;
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::notes;
use crate::value::SampleValue;

type Evaluated<T> = Result<T, QueryError>;

/// The expression without parentheses around it.
pub(super) fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(p) => bare(&p.expr),
        other => other,
    }
}

/// The text of a string argument.
pub(super) fn text(call: &Call, i: usize) -> &str {
    match call.args.get(i).map(bare) {
        Some(Expr::String(s)) => &s.value,
        _ => "",
    }
}

impl Query<'_> {
    pub(super) fn call(&self, c: &Call, t: i64) -> Evaluated<StepValue> {
        use FunctionId as F;
        check_extensions(c)?;
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let scalar = |i: usize| self.scalar(&c.args[i], t);
        let id = c.function.id;
        Ok(match id {
            F::Time => StepValue::Scalar(seconds(t)),
            F::Pi => StepValue::Scalar(std::f64::consts::PI),
            F::Start => StepValue::Scalar(seconds(self.range.start_ms)),
            F::End => StepValue::Scalar(seconds(self.range.end_ms)),
            F::Range => StepValue::Scalar(seconds(self.range.end_ms - self.range.start_ms)),
            F::Step => StepValue::Scalar(seconds(self.range.step_ms)),
            F::MaxOf => StepValue::Scalar(go_max(scalar(0)?, scalar(1)?)),
            F::MinOf => StepValue::Scalar(go_min(scalar(0)?, scalar(1)?)),
            F::Scalar => {
                let vector = self.vector(&c.args[0], t)?;
                let floats: Vec<f64> = vector.iter().filter_map(Element::float).collect();
                StepValue::Scalar(if let [v] = floats[..] { v } else { f64::NAN })
            }
            F::Vector => {
                let value = SampleValue::Float(scalar(0)?);
                StepValue::Vector(vec![Element::new(Labels::empty(), t, value)])
            }
            F::Absent => {
                let present = !self.vector(&c.args[0], t)?.is_empty();
                StepValue::Vector(absent(&c.args[0], present, t))
            }
            F::AbsentOverTime => {
                let present = !self.range_vector(&c.args[0], t)?.series.is_empty();
                StepValue::Vector(absent(&c.args[0], present, t))
            }
            F::LabelReplace => StepValue::Vector(self.label_replace(c, t)?),
            F::LabelJoin => StepValue::Vector(self.label_join(c, t)?),
            F::Info => StepValue::Vector(self.info_call(c, t)?),
            F::Sort | F::SortDesc => StepValue::Vector(self.sort(c, t)?),
            F::SortByLabel | F::SortByLabelDesc => StepValue::Vector(self.sort_by_label(c, t)?),
            F::HistogramQuantile => StepValue::Vector(self.histogram_quantile(c, t)?),
            F::HistogramQuantiles => StepValue::Vector(self.histogram_quantiles(c, t)?),
            F::HistogramFraction => StepValue::Vector(self.histogram_fraction(c, t)?),
            F::HistogramAvg | F::HistogramCount | F::HistogramSum | F::HistogramStddev | F::HistogramStdvar => {
                StepValue::Vector(self.histogram_statistic(c, t)?)
            }
            F::Timestamp | F::StartTimestamp => StepValue::Vector(self.timestamps(c, t)?),
            _ if self.is_range_function(c) => StepValue::Vector(self.range_call(c, t)?),
            _ => StepValue::Vector(self.float_call(c, t)?),
        })
    }

    fn is_range_function(&self, c: &Call) -> bool {
        c.function.args.contains(&ValueType::RangeVector)
    }

    /// Functions of numbers, element by element.
    fn float_call(&self, c: &Call, t: i64) -> Evaluated<Vec<Element>> {
        use FunctionId as F;
        let argument = |i: usize, default: f64| c.args.get(i).map_or(Ok(default), |e| self.scalar(e, t));
        let id = c.function.id;
        let calendar = matches!(
            id,
            F::DayOfMonth | F::DayOfWeek | F::DayOfYear | F::DaysInMonth | F::Hour | F::Minute | F::Month | F::Year
        );
        if calendar && c.args.is_empty() {
            let value = SampleValue::Float(calendar::field(id, t.div_euclid(1000) as f64));
            return Ok(vec![Element::new(Labels::empty(), t, value)]);
        }
        let vector = self.vector(&c.args[0], t)?;
        let (min, max) = match id {
            F::Clamp => (argument(1, f64::NAN)?, argument(2, f64::NAN)?),
            F::ClampMin => (argument(1, f64::NAN)?, f64::INFINITY),
            F::ClampMax => (f64::NEG_INFINITY, argument(1, f64::NAN)?),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        if max < min {
            return Ok(Vec::new());
        }
        let inverse = if id == F::Round { 1.0 / argument(1, 1.0)? } else { 1.0 };
        let function = |v: f64| match id {
            F::Clamp | F::ClampMin | F::ClampMax => go_max(min, go_min(max, v)),
            F::Round => (v * inverse + 0.5).floor() / inverse,
            id if calendar => calendar::field(id, v),
            id => simple(id, v),
        };
        let mut out = Vec::new();
        for mut element in vector {
            if let Some(v) = element.float() {
                element.value = SampleValue::Float(function(v));
                self.drop_name(&mut element);
                out.push(element);
            }
        }
        self.unique(out)
    }

    /// Without delayed name removal each function answers for itself that its results differ.
    pub(super) fn unique(&self, elements: Vec<Element>) -> Evaluated<Vec<Element>> {
        let mut seen = Vec::new();
        for element in &elements {
            check_unique(&mut seen, &element.labels)?;
        }
        Ok(elements)
    }

    /// Functions of windows, series by series.
    fn range_call(&self, c: &Call, t: i64) -> Evaluated<Vec<Element>> {
        use FunctionId as F;
        let position = c.args.iter().position(|a| a.value_type() == ValueType::RangeVector);
        let position = position.ok_or_else(|| fail("expected a range vector"))?;
        let range = self.range_vector(&c.args[position], t)?;
        let span = c.args[position].span();
        let scalars = c.args.iter().enumerate().filter(|(i, _)| *i != position);
        let scalars = scalars.map(|(_, e)| self.scalar(e, t)).collect::<Evaluated<Vec<f64>>>()?;
        let id = c.function.id;
        let mut out = Vec::new();
        for w in &range.series {
            let value = match id {
                F::Rate => self.rate(RateKind::Rate, w, &range, span),
                F::Increase => self.rate(RateKind::Increase, w, &range, span),
                F::Delta => self.rate(RateKind::Delta, w, &range, span),
                F::Irate => self.instant_rate(true, w, span),
                F::Idelta => self.instant_rate(false, w, span),
                F::QuantileOverTime => self.quantile_over_time(scalars[0], w, c.args[0].span()),
                F::PredictLinear => self.predict_linear(scalars[0], t, w, span),
                F::DoubleExponentialSmoothing => self.smoothing((scalars[0], scalars[1]), w, span)?,
                id => self.over_time(id, w, &range, span),
            };
            out.extend(value.map(|value| self.of_window(id, w, t, value)));
        }
        self.unique(out)
    }

    fn of_window(&self, id: FunctionId, w: &Window, t: i64, value: SampleValue) -> Element {
        let mut element = Element { drop_name: w.drop_name, ..Element::new(w.labels.clone(), t, value) };
        if !matches!(id, FunctionId::FirstOverTime | FunctionId::LastOverTime) {
            self.drop_name(&mut element);
        }
        element
    }

    fn timestamps(&self, c: &Call, t: i64) -> Evaluated<Vec<Element>> {
        let direct = matches!(bare(&c.args[0]), Expr::Vector(_));
        let is_start = c.function.id == FunctionId::StartTimestamp;
        if is_start && !(direct && self.options.use_start_timestamps) {
            self.vector(&c.args[0], t)?;
            return Ok(Vec::new());
        }
        let mut out = self.vector(&c.args[0], t)?;
        for element in &mut out {
            let ms = if is_start {
                element.start
            } else if direct {
                element.t
            } else {
                t
            };
            element.value = SampleValue::Float(ms as f64 / 1000.0);
            self.drop_name(element);
        }
        self.unique(out)
    }

    fn sort(&self, c: &Call, t: i64) -> Evaluated<Vec<Element>> {
        self.warn_of_sort(c.span);
        let mut vector: Vec<Element> =
            self.vector(&c.args[0], t)?.into_iter().filter(|e| e.float().is_some()).collect();
        let descending = c.function.id == FunctionId::SortDesc;
        let key = |e: &Element| e.float().unwrap_or(f64::NAN);
        vector.sort_by(|a, b| {
            let (a, b) = (key(a), key(b));
            match (a.is_nan(), b.is_nan()) {
                (true, true) => std::cmp::Ordering::Equal,
                (true, false) => std::cmp::Ordering::Greater,
                (false, true) => std::cmp::Ordering::Less,
                (false, false) if descending => b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal),
                (false, false) => a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal),
            }
        });
        Ok(vector)
    }

    pub(super) fn warn_of_sort(&self, span: Span) {
        if self.range.start_ms != self.range.end_ms {
            self.warn(notes::SORT_IN_RANGE, span);
        }
    }
}

/// A vector of 1 when nothing is there, with the labels that the selector demands.
fn absent(arg: &Expr, present: bool, t: i64) -> Vec<Element> {
    if present {
        return Vec::new();
    }
    let matchers = match bare(arg) {
        Expr::Vector(v) => &v.matchers[..],
        Expr::Matrix(m) => &m.selector.matchers[..],
        _ => &[],
    };
    vec![Element::new(fixed_labels(matchers), t, SampleValue::Float(1.0))]
}

/// The labels for which there is an equality matcher and no other; the name is none of them.
fn fixed_labels(matchers: &[Matcher]) -> Labels {
    let mut labels = LabelsBuilder::new();
    let mut seen = Vec::new();
    for m in matchers.iter().filter(|m| m.name() != METRIC_NAME) {
        if m.op() == MatchOp::Equal && !seen.contains(&m.name()) {
            labels.set(m.name(), m.value());
            seen.push(m.name());
        } else {
            labels.remove(m.name());
        }
    }
    labels.build()
}

/// `anchored` and `smoothed` change what is in a window, which only some functions can work with.
fn check_extensions(c: &Call) -> Evaluated<()> {
    use FunctionId as F;
    for arg in &c.args {
        let Expr::Matrix(m) = bare(arg) else {
            continue;
        };
        let (name, allowed, list) = match m.selector.extension {
            None => continue,
            Some(RangeExtension::Anchored) => (
                "anchored",
                matches!(c.function.id, F::Changes | F::Delta | F::Increase | F::Rate | F::Resets),
                "changes, delta, increase, rate, resets",
            ),
            Some(RangeExtension::Smoothed) => {
                ("smoothed", matches!(c.function.id, F::Delta | F::Increase | F::Rate), "delta, increase, rate")
            }
        };
        if !allowed {
            let function = c.function.name;
            return Err(fail(format!("{name} modifier can only be used with: {list} - not with {function}")));
        }
    }
    Ok(())
}

/// Functions of one number.
fn simple(id: FunctionId, v: f64) -> f64 {
    use FunctionId as F;
    match id {
        F::Abs => v.abs(),
        F::Acos => v.acos(),
        F::Acosh => v.acosh(),
        F::Asin => v.asin(),
        F::Asinh => v.asinh(),
        F::Atan => v.atan(),
        F::Atanh => v.atanh(),
        F::Ceil => v.ceil(),
        F::Cos => v.cos(),
        F::Cosh => v.cosh(),
        F::Deg => v * 180.0 / std::f64::consts::PI,
        F::Exp => v.exp(),
        F::Floor => v.floor(),
        F::Ln => v.ln(),
        F::Log10 => v.log10(),
        F::Log2 => v.log2(),
        F::Rad => v * std::f64::consts::PI / 180.0,
        F::Sgn if v < 0.0 => -1.0,
        F::Sgn if v > 0.0 => 1.0,
        F::Sin => v.sin(),
        F::Sinh => v.sinh(),
        F::Sqrt => v.sqrt(),
        F::Tan => v.tan(),
        F::Tanh => v.tanh(),
        _ => v,
    }
}
