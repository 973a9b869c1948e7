//! Binary operators: arithmetic, comparison, set operators, vector matching.

use std::collections::HashMap;
use std::sync::Arc;

use promontory_model::{Labels, METRIC_NAME};

use super::values::{Element, StepValue, without_metadata};
use super::{Query, fail};
use crate::ast::{Binary, BinaryOp, Cardinality, VectorMatching};
use crate::error::QueryError;
use crate::histogram::{self, Accumulator, Side};
use crate::notes::{self, HistogramOperation};
use crate::value::SampleValue;

/// The result of an operator on two samples.
struct Outcome {
    value: SampleValue,
    /// Whether a comparison holds; arithmetic always does.
    keep: bool,
}

fn kind(value: &SampleValue) -> &'static str {
    match value {
        SampleValue::Float(_) => "float",
        SampleValue::Histogram(_) => "histogram",
    }
}

/// Whether the result is something else than the operands' metric.
fn changes_metric(op: BinaryOp) -> bool {
    use BinaryOp as B;
    matches!(op, B::Add | B::Sub | B::Mul | B::Div | B::Mod | B::Pow | B::Atan2)
}

fn arithmetic(op: BinaryOp, l: f64, r: f64) -> Option<f64> {
    use BinaryOp as B;
    Some(match op {
        B::Add => l + r,
        B::Sub => l - r,
        B::Mul => l * r,
        B::Div => l / r,
        B::Mod => l % r,
        B::Pow => l.powf(r),
        B::Atan2 => l.atan2(r),
        _ => return None,
    })
}

fn comparison(op: BinaryOp, l: f64, r: f64) -> Option<bool> {
    use BinaryOp as B;
    Some(match op {
        B::Eq => l == r,
        B::Ne => l != r,
        B::Lt => l < r,
        B::Le => l <= r,
        B::Gt => l > r,
        B::Ge => l >= r,
        _ => return None,
    })
}

impl VectorMatching {
    /// The labels by which elements find each other.
    fn group(&self, labels: &Labels) -> Labels {
        if self.on {
            labels.only(&self.labels)
        } else {
            labels.filtered(|n| n != METRIC_NAME && !self.labels.iter().any(|l| l == n))
        }
    }
}

impl Query<'_> {
    pub(super) fn binary(&self, b: &Binary, t: i64) -> Result<StepValue, QueryError> {
        let (l, r) = (self.eval(&b.lhs, t)?, self.eval(&b.rhs, t)?);
        match (l, r) {
            (StepValue::Scalar(l), StepValue::Scalar(r)) => {
                let holds = comparison(b.op, l, r).map(|holds| f64::from(u8::from(holds)));
                let value = holds.or_else(|| arithmetic(b.op, l, r));
                value.map(StepValue::Scalar).ok_or_else(|| fail("operator not allowed between scalars"))
            }
            (StepValue::Vector(l), StepValue::Scalar(r)) => Ok(StepValue::Vector(self.with_scalar(b, l, r, false)?)),
            (StepValue::Scalar(l), StepValue::Vector(r)) => Ok(StepValue::Vector(self.with_scalar(b, r, l, true)?)),
            (StepValue::Vector(l), StepValue::Vector(r)) => {
                let matching = b.matching.clone().unwrap_or_default();
                let vector =
                    if b.op.is_set() { set_operator(b.op, &matching, l, r) } else { self.matched(b, &matching, l, r)? };
                Ok(StepValue::Vector(vector))
            }
            _ => Err(fail("binary expression must contain only scalar and instant vector types")),
        }
    }

    fn with_scalar(
        &self,
        b: &Binary,
        vector: Vec<Element>,
        scalar: f64,
        scalar_is_left: bool,
    ) -> Result<Vec<Element>, QueryError> {
        let scalar = SampleValue::Float(scalar);
        let mut out = Vec::new();
        for mut element in vector {
            let outcome = if scalar_is_left {
                self.operate(b, &scalar, &element.value)
            } else {
                self.operate(b, &element.value, &scalar)
            };
            let Some(outcome) = outcome else {
                continue;
            };
            if b.return_bool {
                element.value = SampleValue::Float(f64::from(u8::from(outcome.keep)));
            } else if !outcome.keep {
                continue;
            } else if !b.op.is_comparison() {
                // A comparison keeps the vector's value, on whichever side it stands.
                element.value = outcome.value;
            }
            if changes_metric(b.op) || b.return_bool {
                self.drop_name(&mut element);
            }
            out.push(element);
        }
        self.unique(out)
    }

    /// The operator on two samples; `None` where it is not defined for them.
    fn operate(&self, b: &Binary, l: &SampleValue, r: &SampleValue) -> Option<Outcome> {
        use BinaryOp as B;
        let histogram = |h| Some(Outcome { value: SampleValue::Histogram(Arc::new(h)), keep: true });
        let undefined = || {
            self.info(notes::incompatible_types(kind(l), b.op.as_str(), kind(r)), b.span);
            None
        };
        match (l, r) {
            (SampleValue::Float(x), SampleValue::Float(y)) => {
                if let Some(keep) = comparison(b.op, *x, *y) {
                    return Some(Outcome { value: l.clone(), keep });
                }
                match arithmetic(b.op, *x, *y) {
                    Some(v) => Some(Outcome { value: SampleValue::Float(v), keep: true }),
                    None => undefined(),
                }
            }
            (SampleValue::Histogram(h), SampleValue::Float(v)) => match b.op {
                B::Mul => histogram(histogram::scaled(h, *v)),
                B::Div => histogram(histogram::divided(h, *v)),
                B::TrimUpper => histogram(histogram::trim(h, Side::Below, *v)),
                B::TrimLower => histogram(histogram::trim(h, Side::Above, *v)),
                _ => undefined(),
            },
            (SampleValue::Float(v), SampleValue::Histogram(h)) if b.op == B::Mul => histogram(histogram::scaled(h, *v)),
            (SampleValue::Histogram(x), SampleValue::Histogram(y)) => match b.op {
                B::Eq => Some(Outcome { value: l.clone(), keep: histogram::equals(x, y) }),
                B::Ne => Some(Outcome { value: l.clone(), keep: !histogram::equals(x, y) }),
                B::Add | B::Sub => {
                    let mut result = Accumulator::new(x);
                    let (merged, operation) = if b.op == B::Add {
                        (result.add(y), HistogramOperation::Addition)
                    } else {
                        (result.sub(y), HistogramOperation::Subtraction)
                    };
                    let Ok(merged) = merged else {
                        self.warn(notes::incompatible_bucket_layout(b.op.as_str()), b.span);
                        return None;
                    };
                    if merged.reset_collision {
                        self.warn(notes::reset_collision(operation), b.span);
                    }
                    if merged.bounds_reconciled {
                        self.info(notes::mismatched_custom_buckets(operation), b.span);
                    }
                    let mut result = result.finish();
                    if b.op == B::Sub {
                        result.counter_reset_hint = promontory_model::histogram::CounterResetHint::Gauge;
                    }
                    histogram(result)
                }
                _ => undefined(),
            },
            _ => undefined(),
        }
    }

    /// Pairs the elements of two vectors.
    fn matched(
        &self,
        b: &Binary,
        matching: &VectorMatching,
        left: Vec<Element>,
        right: Vec<Element>,
    ) -> Result<Vec<Element>, QueryError> {
        // On the "one" side a group has one element, on the other it may have many.
        let one_is_left = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if one_is_left { (right, left) } else { (left, right) };
        // Which side a fill is for is counted after "many" was put to the left.
        let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
        if many.is_empty() && one.is_empty() {
            return Ok(Vec::new());
        }
        let mut ones: HashMap<Labels, Element> = HashMap::new();
        let mut order = Vec::new();
        for element in one {
            let group = matching.group(&element.labels);
            if let Some(other) = ones.get(&group) {
                if many.is_empty() {
                    // Nothing to match with: that is no error.
                    continue;
                }
                return Err(many_to_many(&group, one_is_left, &element.labels, &other.labels));
            }
            order.push(group.clone());
            ones.insert(group, element);
        }
        let mut pairs = Vec::new();
        let mut matched = Vec::new();
        for element in many {
            let group = matching.group(&element.labels);
            if let Some(partner) = ones.get(&group) {
                matched.push(group.clone());
                pairs.push((group, element, partner.clone()));
            } else if let Some(v) = fill_one {
                let filled = Element::new(group.clone(), element.t, SampleValue::Float(v));
                pairs.push((group, element, filled));
            }
        }
        if let Some(v) = fill_many {
            for group in order.into_iter().filter(|g| !matched.contains(g)) {
                let partner = ones[&group].clone();
                let filled = Element::new(group.clone(), partner.t, SampleValue::Float(v));
                pairs.push((group, filled, partner));
            }
        }
        let mut seen: HashMap<Labels, Vec<Labels>> = HashMap::new();
        let mut out = Vec::new();
        for (group, many, one) in pairs {
            let (l, r) = if one_is_left { (&one.value, &many.value) } else { (&many.value, &one.value) };
            let Some(outcome) = self.operate(b, l, r) else {
                continue;
            };
            let labels = result_labels(b.op, matching, &many.labels, &one.labels);
            // Pairs that a comparison filters out count too: what matches must not depend on values.
            let of_group = seen.entry(group).or_default();
            if matching.cardinality == Cardinality::OneToOne && !of_group.is_empty() {
                let what = "multiple matches for labels: many-to-one matching must be explicit";
                return Err(fail(format!("{what} (group_left/group_right)")));
            }
            if of_group.contains(&labels) {
                return Err(fail("multiple matches for labels: grouping labels must ensure unique matches"));
            }
            of_group.push(labels.clone());
            let value = match (b.return_bool, outcome.keep) {
                (true, keep) => SampleValue::Float(f64::from(u8::from(keep))),
                (false, true) => outcome.value,
                (false, false) => continue,
            };
            let mut element = Element { drop_name: many.drop_name, ..Element::new(labels, many.t, value) };
            if b.return_bool {
                self.drop_name(&mut element);
            }
            out.push(element);
        }
        self.unique(out)
    }
}

fn many_to_many(group: &Labels, one_is_left: bool, a: &Labels, b: &Labels) -> QueryError {
    let side = if one_is_left { "left" } else { "right" };
    fail(format!(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{a}, {b}];\
         many-to-many matching not allowed: matching labels must be unique on one side"
    ))
}

fn result_labels(op: BinaryOp, matching: &VectorMatching, many: &Labels, one: &Labels) -> Labels {
    let labels = if changes_metric(op) { without_metadata(many) } else { many.clone() };
    match matching.cardinality {
        Cardinality::OneToOne if matching.on => labels.only(&matching.labels),
        Cardinality::OneToOne => labels.without(&matching.labels),
        _ => {
            let mut labels = labels.to_builder();
            for name in &matching.include {
                labels.set(name, one.get(name).unwrap_or(""));
            }
            labels.build()
        }
    }
}

fn set_operator(op: BinaryOp, matching: &VectorMatching, left: Vec<Element>, right: Vec<Element>) -> Vec<Element> {
    let groups = |elements: &[Element]| -> Vec<Labels> { elements.iter().map(|e| matching.group(&e.labels)).collect() };
    let (in_left, in_right) = (groups(&left), groups(&right));
    let keep = |elements: Vec<Element>, own: Vec<Labels>, other: &[Labels], wanted: bool| -> Vec<Element> {
        elements.into_iter().zip(own).filter(|(_, g)| other.contains(g) == wanted).map(|(e, _)| e).collect()
    };
    match op {
        BinaryOp::And => keep(left, in_left, &in_right, true),
        BinaryOp::Unless => keep(left, in_left, &in_right, false),
        _ => {
            let mut out = left;
            out.extend(keep(right, in_right, &in_left, false));
            out
        }
    }
}
