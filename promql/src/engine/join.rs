//! Operators between two vectors: who matches whom is worked out once per series, then values run step by step.
//!
//! Series with equal match labels form a match group. That a side is unique is only asked of steps at which both
//! sides have samples, so two series of one group that never meet are no error.

use std::collections::HashMap;

use promontory_model::{Labels, METRIC_NAME};

use super::notes::Notes;
use super::operands::{Operand, combine};
use super::vector::{HistogramRow, Series, Vector, push_filtered, remove_metadata};
use crate::ast::{BinaryOp, Cardinality, VectorMatching};
use crate::error::QueryError;
use crate::kernels::{ABSENT, is_absent, math};

/// An operator between vectors with all that was written about matching.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Join<'a> {
    /// Operator.
    pub(crate) op: BinaryOp,
    /// `bool` was written.
    pub(crate) return_bool: bool,
    /// How series find each other.
    pub(crate) matching: &'a VectorMatching,
    /// Whether names go at the end of the query.
    pub(crate) delayed_names: bool,
}

/// For each series of both sides the number of its match group.
struct Matches {
    left: Vec<usize>,
    right: Vec<usize>,
    /// Labels of each group.
    labels: Vec<Labels>,
}

impl Matches {
    fn new(left: &Vector, right: &Vector, matching: &VectorMatching) -> Self {
        let mut ids: HashMap<Labels, usize, rapidhash::fast::RandomState> = HashMap::default();
        let mut number = |v: &Vector| -> Vec<usize> {
            v.series
                .iter()
                .map(|s| {
                    let key = match_labels(&s.labels, matching);
                    let next = ids.len();
                    *ids.entry(key).or_insert(next)
                })
                .collect()
        };
        let (left, right) = (number(left), number(right));
        let mut labels = vec![Labels::empty(); ids.len()];
        for (key, id) in ids {
            labels[id] = key;
        }
        Self { left, right, labels }
    }

    fn n(&self) -> usize {
        self.labels.len()
    }
}

/// The labels by which a series is matched.
fn match_labels(labels: &Labels, matching: &VectorMatching) -> Labels {
    if matching.on {
        labels.only(&matching.labels)
    } else {
        labels.filtered(|n| n != METRIC_NAME && !matching.labels.iter().any(|l| l == n))
    }
}

/// `and`, `or`, `unless`.
pub(crate) fn set_operation(join: Join<'_>, left: Vector, right: &Vector) -> Result<Vector, QueryError> {
    let n = left.n_steps;
    let matches = Matches::new(&left, right, join.matching);
    match join.op {
        BinaryOp::Or => {
            let taken = presence(&left, &matches.left, matches.n());
            let mut out = left;
            for (i, group) in matches.right.iter().enumerate() {
                let free = |step: usize| !taken[group * n + step];
                push_filtered(&mut out, right, i, free);
            }
            out.merge_equal_labels()?;
            Ok(out)
        }
        op => {
            let there = presence(right, &matches.right, matches.n());
            let want = op == BinaryOp::And;
            let mut out = left;
            for (i, group) in matches.left.iter().enumerate() {
                let there = &there[group * n..(group + 1) * n];
                for (v, there) in out.row_mut(i).iter_mut().zip(there) {
                    if *there != want {
                        *v = ABSENT;
                    }
                }
                if let Some(row) = out.histograms.get_mut(i) {
                    row.retain(|(step, _)| there[*step as usize] == want);
                }
            }
            out.drop_empty();
            Ok(out)
        }
    }
}

/// Whether each group has a sample at each step.
fn presence(v: &Vector, groups: &[usize], n_groups: usize) -> Vec<bool> {
    let n = v.n_steps;
    let mut out = vec![false; n_groups * n];
    for (i, group) in groups.iter().enumerate() {
        let cells = &mut out[group * n..(group + 1) * n];
        cells.iter_mut().zip(v.row(i)).for_each(|(cell, v)| *cell |= !is_absent(*v));
        for (step, _) in v.histograms(i) {
            cells[*step as usize] = true;
        }
    }
    out
}

fn operand(v: &Vector, i: usize, step: usize) -> Option<Operand<'_>> {
    let float = v.row(i)[step];
    if !is_absent(float) {
        return Some(Operand::Float(float));
    }
    v.histogram(i, step).map(Operand::Histogram)
}

/// The rows of the answer, one per pair of series (or series and fill value) that met.
struct Output {
    vector: Vector,
    /// Row of a pair of series of the two sides; `usize::MAX` stands for a fill value.
    rows: HashMap<(usize, usize), usize, rapidhash::fast::RandomState>,
}

/// Stands for a fill value in place of a series.
const FILLED: usize = usize::MAX;

/// Arithmetic and comparisons.
pub(crate) fn arithmetic(
    join: Join<'_>,
    left: &Vector,
    right: &Vector,
    notes: &mut Notes<'_>,
) -> Result<Vector, QueryError> {
    // From here on "many" is the side that may repeat a group and "one" the side that must not.
    let swapped = join.matching.cardinality == Cardinality::OneToMany;
    let matches = Matches::new(left, right, join.matching);
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    let (many_ids, one_ids) = if swapped { (&matches.right, &matches.left) } else { (&matches.left, &matches.right) };
    // As in Prometheus, `fill_left` fills the "many" side whichever side that is.
    let (fill_many, fill_one) = (join.matching.fill_left, join.matching.fill_right);
    let mut many_of: Vec<Vec<usize>> = vec![Vec::new(); matches.n()];
    let mut one_of: Vec<Vec<usize>> = vec![Vec::new(); matches.n()];
    many_ids.iter().enumerate().for_each(|(i, g)| many_of[*g].push(i));
    one_ids.iter().enumerate().for_each(|(i, g)| one_of[*g].push(i));
    let mut out = Output { vector: Vector::new(left.n_steps), rows: HashMap::default() };
    // Where there is nothing to match with, nothing is asked of the other side.
    let active: Vec<bool> = match fill_many {
        Some(_) => vec![true; many.n_steps],
        None => presence(many, &vec![0; many.len()], 1),
    };
    let sides = Sides { join, many, one, swapped, fill_many, fill_one, active };
    for group in 0..matches.n() {
        let (many_of, one_of) = (&many_of[group], &one_of[group]);
        if many_of.is_empty() && fill_many.is_none() || one_of.is_empty() && fill_one.is_none() {
            // Even without a partner a side must be unique.
            sides.check_unique(one_of, &matches.labels[group])?;
            continue;
        }
        sides.group(many_of, one_of, &matches.labels[group], &mut out, notes)?;
    }
    let mut vector = out.vector;
    vector.drop_empty();
    vector.merge_equal_labels().map_err(|e| match join.matching.cardinality {
        Cardinality::ManyToOne | Cardinality::OneToMany => not_unique(),
        _ => e,
    })?;
    Ok(vector)
}

struct Sides<'a> {
    join: Join<'a>,
    many: &'a Vector,
    one: &'a Vector,
    swapped: bool,
    fill_many: Option<f64>,
    fill_one: Option<f64>,
    /// The steps at which there is anything on the "many" side.
    active: Vec<bool>,
}

impl Sides<'_> {
    fn is_one_to_one(&self) -> bool {
        !matches!(self.join.matching.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany)
    }

    fn check_unique(&self, one_of: &[usize], labels: &Labels) -> Result<(), QueryError> {
        if one_of.len() > 1 {
            let mut steps = (0..self.one.n_steps).filter(|step| self.active[*step]);
            steps.try_for_each(|step| self.unique(one_of, step, labels).map(|_| ()))?;
        }
        Ok(())
    }

    /// The series of the "one" side with a sample at `step`.
    fn unique(&self, one_of: &[usize], step: usize, labels: &Labels) -> Result<Option<usize>, QueryError> {
        let mut present = one_of.iter().copied().filter(|i| self.one.is_present(*i, step));
        let first = present.next();
        if let (Some(a), Some(b)) = (first, present.next()) {
            let side = if self.swapped { "left" } else { "right" };
            let (a, b) = (&self.one.series[a].labels, &self.one.series[b].labels);
            // The one that is noticed later comes first, as in Prometheus.
            let (a, b) = if b < a { (a, b) } else { (b, a) };
            return Err(execution(&format!(
                "found duplicate series for the match group {labels} on the {side} hand-side of the operation: \
                 [{a}, {b}];many-to-many matching not allowed: matching labels must be unique on one side"
            )));
        }
        Ok(first)
    }

    fn group(
        &self,
        many_of: &[usize],
        one_of: &[usize],
        labels: &Labels,
        out: &mut Output,
        notes: &mut Notes<'_>,
    ) -> Result<(), QueryError> {
        if let ([many], [one]) = (many_of, one_of)
            && self.fill_many.is_none()
            && self.fill_one.is_none()
            && self.many.histograms(*many).is_empty()
            && self.one.histograms(*one).is_empty()
        {
            self.pair_of_floats(*many, *one, out);
            return Ok(());
        }
        let classes = self.result_classes(many_of, one_of, labels);
        let mut seen: Vec<usize> = Vec::new();
        for step in (0..self.many.n_steps).filter(|step| self.active[*step]) {
            seen.clear();
            let one = self.unique(one_of, step, labels)?;
            let right = match (one, self.fill_one) {
                (Some(i), _) => operand(self.one, i, step),
                (None, Some(fill)) => Some(Operand::Float(fill)),
                (None, None) => None,
            };
            let Some(right) = right else { continue };
            let mut met = false;
            let classes = classes.as_ref().and_then(|c| c.get(&one.unwrap_or(FILLED)));
            for (at, many) in many_of.iter().enumerate() {
                let Some(left) = operand(self.many, *many, step) else { continue };
                if !self.cell(left, right, (*many, one.unwrap_or(FILLED)), labels, step, out, notes) {
                    // What does not go together has not met, as in Prometheus.
                    continue;
                }
                if let Some(class) = classes.map(|c| c[at]) {
                    if seen.contains(&class) {
                        return Err(not_unique());
                    }
                    seen.push(class);
                }
                if met && self.is_one_to_one() {
                    return Err(execution(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    ));
                }
                met = true;
            }
            if let (false, Some(one), Some(fill)) = (met, one, self.fill_many) {
                self.cell(Operand::Float(fill), right, (FILLED, one), labels, step, out, notes);
            }
        }
        Ok(())
    }

    /// For each series of the "one" side numbers of the result labels of the "many" side, if any two of them are equal:
    /// such two must not meet, even where a comparison lets neither through.
    fn result_classes(
        &self,
        many_of: &[usize],
        one_of: &[usize],
        labels: &Labels,
    ) -> Option<HashMap<usize, Vec<usize>>> {
        if self.is_one_to_one() || many_of.len() < 2 {
            return None;
        }
        let filled = self.fill_one.map(|_| FILLED);
        let mut all = HashMap::new();
        let mut any_equal = false;
        for one in one_of.iter().copied().chain(filled) {
            let mut ids: HashMap<Labels, usize> = HashMap::new();
            let mut class = |many: &usize| {
                let next = ids.len();
                *ids.entry(self.series((*many, one), labels).labels).or_insert(next)
            };
            let classes: Vec<usize> = many_of.iter().map(&mut class).collect();
            any_equal |= ids.len() < many_of.len();
            all.insert(one, classes);
        }
        any_equal.then_some(all)
    }

    /// The common case, one series with one: a loop over two columns.
    fn pair_of_floats(&self, many: usize, one: usize, out: &mut Output) {
        let (left, right) = if self.swapped {
            (self.one.row(one), self.many.row(many))
        } else {
            (self.many.row(many), self.one.row(one))
        };
        // A comparison keeps the value of the left operand, whichever side may repeat.
        let mut row = vec![ABSENT; left.len()];
        let pairs = left.iter().zip(right).zip(&mut row).filter(|((a, b), _)| !is_absent(**a) && !is_absent(**b));
        if let Some(f) = math::arithmetic(self.join.op) {
            pairs.for_each(|((a, b), out)| *out = f(*a, *b));
        } else if let Some(holds) = math::comparison(self.join.op) {
            for ((a, b), out) in pairs {
                *out = match (self.join.return_bool, holds(*a, *b)) {
                    (true, holds) => f64::from(u8::from(holds)),
                    (false, true) => *a,
                    (false, false) => ABSENT,
                };
            }
        }
        if row.iter().any(|v| !is_absent(*v)) {
            out.vector.push_row(self.series((many, one), &Labels::empty()), &row, HistogramRow::new());
        }
    }

    /// Adds what becomes of a pair at a step; whether the two go together at all.
    #[expect(clippy::too_many_arguments, reason = "one cell of a join: two operands, their pair, group and step")]
    fn cell(
        &self,
        many: Operand<'_>,
        one: Operand<'_>,
        pair: (usize, usize),
        group: &Labels,
        step: usize,
        out: &mut Output,
        notes: &mut Notes<'_>,
    ) -> bool {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        let Some((value, histogram)) = combine(self.join.op, left, right, self.join.return_bool, notes) else {
            return false;
        };
        if is_absent(value) && histogram.is_none() {
            return true;
        }
        let row = match out.rows.get(&pair) {
            Some(row) => *row,
            None => {
                let row = out.vector.len();
                out.vector.push(self.series(pair, group));
                out.rows.insert(pair, row);
                row
            }
        };
        out.vector.row_mut(row)[step] = value;
        if let Some(h) = histogram {
            let n = out.vector.len();
            out.vector.histograms.resize(n, HistogramRow::new());
            out.vector.histograms[row].push((step as u32, h));
        }
        true
    }

    /// The labels of the answer for a pair.
    fn series(&self, (many, one): (usize, usize), group: &Labels) -> Series {
        let of = |v: &Vector, i: usize| if i == FILLED { group.clone() } else { v.series[i].labels.clone() };
        let (many_labels, one_labels) = (of(self.many, many), of(self.one, one));
        let matching = self.join.matching;
        let mut labels = many_labels.to_builder();
        if math::arithmetic(self.join.op).is_some() {
            remove_metadata(&mut labels);
        }
        if self.is_one_to_one() {
            labels.retain(|n| matching.labels.iter().any(|l| l == n) == matching.on);
        }
        for name in &matching.include {
            labels.set(name, one_labels.get(name).unwrap_or(""));
        }
        let inherited = many != FILLED && self.many.series[many].drop_name;
        let mut series = Series { labels: labels.build(), drop_name: inherited };
        if self.join.return_bool {
            series.drop_name(self.join.delayed_names);
        }
        series
    }
}

fn not_unique() -> QueryError {
    execution("multiple matches for labels: grouping labels must ensure unique matches")
}

fn execution(message: &str) -> QueryError {
    QueryError::Execution { message: message.to_owned(), span: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Annotations;

    type Row<'a> = (&'a [(&'a str, &'a str)], &'a [f64]);

    fn vector(rows: &[Row<'_>]) -> Vector {
        let mut v = Vector::new(rows.first().map_or(1, |r| r.1.len()));
        for (labels, row) in rows {
            v.push(Series::new(Labels::from_pairs(labels.iter().copied()))).copy_from_slice(row);
        }
        v
    }

    #[track_caller]
    fn check(op: BinaryOp, matching: &VectorMatching, left: &Vector, right: &Vector, want: Result<&str, &str>) {
        let join = Join { op, return_bool: false, matching, delayed_names: false };
        let mut annotations = Annotations::default();
        let got = arithmetic(join, left, right, &mut Notes::new(&[], &mut annotations));
        let text =
            |v: &Vector| (0..v.len()).map(|i| format!("{} {:?};", v.series[i].labels, v.row(i))).collect::<String>();
        match (got, want) {
            (Ok(v), Ok(want)) => assert_eq!(text(&v), want),
            (Err(e), Err(want)) => assert!(e.to_string().contains(want), "{e}"),
            (got, want) => panic!("got {got:?} for {want:?}"),
        }
    }

    #[test]
    fn duplicates_matter_only_where_they_meet() {
        let left = vector(&[(&[("a", "1")], &[1.0, 2.0])]);
        let apart = vector(&[(&[("a", "1"), ("x", "1")], &[1.0, ABSENT]), (&[("a", "1"), ("x", "2")], &[ABSENT, 5.0])]);
        let matching = VectorMatching { on: true, labels: vec!["a".into()], ..VectorMatching::default() };
        check(BinaryOp::Add, &matching, &left, &apart, Ok("{a=\"1\"} [2.0, 7.0];"));
        let together = vector(&[(&[("a", "1"), ("x", "2")], &[1.0, 1.0]), (&[("a", "1"), ("x", "1")], &[ABSENT, 5.0])]);
        let error = r#"found duplicate series for the match group {a="1"} on the right hand-side of the operation: [{a="1", x="2"}, {a="1", x="1"}];many-to-many matching not allowed"#;
        check(BinaryOp::Add, &matching, &left, &together, Err(error));
    }

    #[test]
    fn many_to_one_must_be_said() {
        let left = vector(&[(&[("a", "1"), ("x", "1")], &[1.0]), (&[("a", "1"), ("x", "2")], &[2.0])]);
        let right = vector(&[(&[("a", "1"), ("r", "z")], &[10.0])]);
        let on = VectorMatching { on: true, labels: vec!["a".into()], ..VectorMatching::default() };
        check(BinaryOp::Gt, &on, &left, &right, Err("many-to-one matching must be explicit"));
        let group_left =
            VectorMatching { cardinality: Cardinality::ManyToOne, include: vec!["r".into()], ..on.clone() };
        let want = r#"{a="1", r="z", x="1"} [0.1];{a="1", r="z", x="2"} [0.2];"#;
        check(BinaryOp::Div, &group_left, &left, &right, Ok(want));
        let group_right = VectorMatching { cardinality: Cardinality::OneToMany, ..group_left };
        let want = r#"{a="1", r="z", x="1"} [10.0];{a="1", r="z", x="2"} [5.0];"#;
        check(BinaryOp::Div, &group_right, &right, &left, Ok(want));
    }

    #[test]
    fn fill_stands_for_missing_samples() {
        let left = vector(&[(&[("a", "1")], &[1.0, ABSENT]), (&[("a", "2")], &[2.0, 2.0])]);
        let right = vector(&[(&[("a", "1")], &[ABSENT, 10.0])]);
        let matching = VectorMatching { fill_left: Some(0.0), fill_right: Some(5.0), ..VectorMatching::default() };
        let want = r#"{a="1"} [6.0, 10.0];{a="2"} [7.0, 7.0];"#;
        check(BinaryOp::Add, &matching, &left, &right, Ok(want));
    }
}
