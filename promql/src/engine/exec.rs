//! Walks a plan: evaluates each node once, fuses what can run chunk by chunk, frees a value after its last reader.

use std::sync::Arc;

use promontory_model::{Labels, METRIC_NAME, Projection};

use super::aggregate::{Accumulator, names_settled};
use super::budget::Charge;
use super::notes::Notes;
use super::ranked::{self, Param};
use super::report::Meter;
use super::select::{Context, Keep, Leaf, Newest, Scratch, note_non_counter};
use super::stages::{Scalars, Stage};
use super::vector::{LosingNames, METADATA_LABELS, Series, Vector};
use super::windows::{self, Column, WindowFunction};
use super::{histogram_windows, join, pool};
use crate::annotations::Annotations;
use crate::ast::{AggregateOp, BinaryOp, Grouping, RangeExtension, ValueType};
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::kernels::window::Bounds;
use crate::kernels::{ABSENT, is_absent};
use crate::plan::{Grid, Node, NodeId, Plan, Site, Source, When, scalar_binary};

/// Series per task when a subquery's rows are worked on.
const SUBQUERY_CHUNK: usize = 32;

/// The value of a node.
#[derive(Clone)]
pub(crate) enum Value {
    /// A number per step.
    Scalar(Scalars),
    /// A text.
    Text(Arc<str>),
    /// An instant vector per step.
    Vector(Arc<Held>),
}

/// A vector with what pays for it.
pub(crate) struct Held {
    /// The vector.
    pub(crate) vector: Vector,
    pub(crate) charges: Vec<Charge>,
}

/// One evaluation of one plan.
pub(crate) struct Exec<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) ctx: Context<'a>,
    /// Collected so far.
    pub(crate) annotations: Annotations,
    /// Values that will be read again, with the number of reads left.
    memo: Vec<Option<(Value, u32)>>,
    /// Measures operators, when asked to.
    pub(crate) meter: Option<Meter<'a>>,
}

impl<'a> Exec<'a> {
    /// Nothing evaluated yet.
    pub(crate) fn new(plan: &'a Plan, ctx: Context<'a>) -> Self {
        Self { plan, ctx, annotations: Annotations::default(), memo: vec![None; plan.nodes.len()], meter: None }
    }

    /// The value of a node.
    pub(crate) fn eval(&mut self, id: NodeId) -> Result<Value, QueryError> {
        let slot = id.0 as usize;
        if let Some((value, left)) = &mut self.memo[slot] {
            *left -= 1;
            let value = value.clone();
            if *left == 0 {
                self.memo[slot] = None;
            }
            return Ok(value);
        }
        self.ctx.cancel.check()?;
        let begun = self.meter.as_mut().map(|m| m.begin(self.ctx.budget));
        let value = self.compute(id)?;
        if let (Some(meter), Some(begun)) = (&mut self.meter, begun) {
            meter.end(slot, &begun, self.ctx.budget, &value);
        }
        let readers = self.plan.get(id).readers;
        if readers > 1 {
            self.memo[slot] = Some((value.clone(), readers - 1));
        }
        Ok(value)
    }

    /// The value of a scalar node at each step.
    pub(crate) fn scalars(&mut self, id: NodeId) -> Result<Scalars, QueryError> {
        match self.eval(id)? {
            Value::Scalar(s) => Ok(s),
            _ => Err(broken("a scalar")),
        }
    }

    /// The value of a text node.
    pub(crate) fn text(&mut self, id: NodeId) -> Result<Arc<str>, QueryError> {
        match self.eval(id)? {
            Value::Text(t) => Ok(t),
            _ => Err(broken("a string")),
        }
    }

    /// The value of a vector node, to read.
    pub(crate) fn vector(&mut self, id: NodeId) -> Result<Arc<Held>, QueryError> {
        match self.eval(id)? {
            Value::Vector(v) => Ok(v),
            _ => Err(broken("an instant vector")),
        }
    }

    /// The value of a vector node, to change; copied when others read it too.
    fn owned(&mut self, id: NodeId) -> Result<Held, QueryError> {
        match Arc::try_unwrap(self.vector(id)?) {
            Ok(held) => Ok(held),
            Err(shared) => self.hold(shared.vector.clone()),
        }
    }

    /// Pays for a vector.
    pub(crate) fn hold(&self, vector: Vector) -> Result<Held, QueryError> {
        let charge = self.ctx.budget.charge(vector.n_samples(), vector.heap_bytes())?;
        Ok(Held { vector, charges: vec![charge] })
    }

    fn value(&self, vector: Vector) -> Result<Value, QueryError> {
        Ok(Value::Vector(Arc::new(self.hold(vector)?)))
    }

    /// Runs `f` with the notes of a node.
    pub(crate) fn noting<T>(&mut self, id: NodeId, f: impl FnOnce(Context<'a>, &mut Notes<'_>) -> T) -> T {
        let plan: &'a Plan = self.plan;
        f(self.ctx, &mut Notes::new(&plan.get(id).sites, &mut self.annotations))
    }

    fn compute(&mut self, id: NodeId) -> Result<Value, QueryError> {
        let plan: &'a Plan = self.plan;
        let planned = plan.get(id);
        let grid = planned.grid;
        match &planned.node {
            Node::Number(bits) => Ok(Value::Scalar(Arc::new(vec![f64::from_bits(*bits); grid.n]))),
            Node::Text(t) => Ok(Value::Text(Arc::from(t.as_str()))),
            Node::Time => Ok(Value::Scalar(Arc::new(grid.times().map(|t| t as f64 / 1000.0).collect()))),
            Node::Broadcast(inner) => self.broadcast(*inner, grid),
            Node::ScalarBinary { op, args } => {
                let (a, b) = (self.scalars(args[0])?, self.scalars(args[1])?);
                let values = a.iter().zip(b.iter()).map(|(a, b)| scalar_binary(*op, *a, *b)).collect();
                Ok(Value::Scalar(Arc::new(values)))
            }
            Node::Instant(_) | Node::SampleTime(_) | Node::SampleStart(_) => {
                let leaf = self.leaf(id, None)?.ok_or_else(|| broken("a selector"))?;
                self.collect(&leaf, &[])
            }
            Node::Window { source: Source::Stored(_), .. } => {
                let leaf = self.leaf(id, None)?.ok_or_else(|| broken("a selector"))?;
                let value = self.collect(&leaf, &[])?;
                self.after_names_dropped(value)
            }
            Node::Window { function, source: Source::Subquery { input, when }, range, params } => {
                let function = self.window_function(*function, None, *when, *range, params, grid)?;
                let vector = self.subquery(id, *input, &function)?;
                let value = self.value(vector)?;
                self.after_names_dropped(value)
            }
            Node::Raw { .. } => Err(broken("an instant vector or a scalar")),
            Node::Negate(_) | Node::VectorScalar { .. } => self.staged(id),
            Node::Call { function, args } => {
                if self.is_stage(id) {
                    return self.staged(id);
                }
                self.call(id, *function, args, grid)
            }
            Node::Absent { input, labels } => {
                let input = self.vector(*input)?;
                let mut out = Vector::new(grid.n);
                let row = out.push(Series::new(labels.clone()));
                for (step, cell) in row.iter_mut().enumerate() {
                    if !(0..input.vector.len()).any(|i| input.vector.is_present(i, step)) {
                        *cell = 1.0;
                    }
                }
                out.drop_empty();
                self.value(out)
            }
            Node::Info { input, matchers, when } => {
                let input = self.vector(*input)?;
                let out = super::info::enrich(self, &input.vector, matchers, *when, grid)?;
                self.value(out)
            }
            Node::Aggregate { op, grouping, param, input } => self.aggregate(id, *op, grouping, *param, *input),
            Node::Join { op, return_bool, matching, args } => {
                let delayed_names = self.ctx.delayed_names;
                let join = join::Join { op: *op, return_bool: *return_bool, matching, delayed_names };
                if matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) {
                    let left = self.owned(args[0])?;
                    let right = self.vector(args[1])?;
                    let out = join::set_operation(join, left.vector, &right.vector)?;
                    return self.value(out);
                }
                let (left, right) = (self.vector(args[0])?, self.vector(args[1])?);
                let out = self.noting(id, |_, notes| join::arithmetic(join, &left.vector, &right.vector, notes))?;
                self.value(out)
            }
        }
    }

    /// The single step of `inner` at every step of `grid`.
    fn broadcast(&mut self, inner: NodeId, grid: Grid) -> Result<Value, QueryError> {
        let inner = self.vector(inner)?;
        let mut out = Vector::new(grid.n);
        for (i, series) in inner.vector.series.iter().enumerate() {
            let histogram = inner.vector.histogram(i, 0);
            let histograms =
                histogram.map(|h| (0..grid.n as u32).map(|step| (step, h.clone())).collect()).unwrap_or_default();
            out.push_row(series.clone(), &vec![inner.vector.row(i)[0]; grid.n], histograms);
        }
        self.value(out)
    }

    /// Prepares the selection of a leaf node; `None` for other nodes.
    fn leaf(&mut self, id: NodeId, keep: Option<&Keep>) -> Result<Option<Leaf>, QueryError> {
        let plan: &'a Plan = self.plan;
        let planned = plan.get(id);
        let (ctx, sites, grid): (_, &[Site], _) = (self.ctx, &planned.sites, planned.grid);
        Ok(Some(match &planned.node {
            Node::Instant(s) => Leaf::instant(ctx, s, grid, sites, Newest::Value, keep, &mut self.annotations)?,
            Node::SampleTime(s) => Leaf::instant(ctx, s, grid, sites, Newest::Time, keep, &mut self.annotations)?,
            Node::SampleStart(s) => Leaf::instant(ctx, s, grid, sites, Newest::Start, keep, &mut self.annotations)?,
            Node::Window { function, source: Source::Stored(s), range, params } => {
                let f = self.window_function(*function, s.extension, s.when, *range, params, grid)?;
                Leaf::window(ctx, s, f, sites, keep, &mut self.annotations)?
            }
            _ => return Ok(None),
        }))
    }

    fn window_function(
        &mut self,
        id: FunctionId,
        extension: Option<RangeExtension>,
        when: When,
        range: i64,
        params: &[NodeId],
        grid: Grid,
    ) -> Result<WindowFunction, QueryError> {
        let params = params.iter().map(|p| self.scalars(*p)).collect::<Result<Vec<_>, _>>()?;
        let lookback = self.ctx.lookback_ms;
        let windows: Vec<Bounds> =
            grid.times().map(|t| when.resolve(t)).map(|end| Bounds { start: end.saturating_sub(range), end }).collect();
        let (back, ahead) = match extension {
            None => (0, 0),
            Some(RangeExtension::Anchored) => (lookback, 0),
            Some(RangeExtension::Smoothed) => (lookback, lookback),
        };
        let wider = |w: &Bounds| Bounds { start: w.start.saturating_sub(back), end: w.end.saturating_add(ahead) };
        let reads = windows.iter().map(wider).collect();
        Ok(WindowFunction { id, params, extension, windows, reads, times: grid.times().collect() })
    }

    /// All chunks of a leaf, with `stages` run on each, in one vector.
    fn collect(&mut self, leaf: &Leaf, stages: &[(NodeId, Stage)]) -> Result<Value, QueryError> {
        let filters = |s: &Stage| matches!(s, Stage::Scalar { op, return_bool: false, .. } if op.is_comparison());
        if !stages.iter().any(|(_, s)| filters(s)) {
            leaf.foresee(self.ctx)?;
        }
        let mut all: Option<Vector> = None;
        let mut charges = Vec::new();
        let (ctx, plan) = (self.ctx, self.plan);
        let annotations = &mut self.annotations;
        pool::in_order(
            leaf.n_tasks(),
            leaf.threads(ctx),
            |i, scratch: &mut Scratch| {
                let run = |chunk| {
                    let mut part = leaf.run(ctx, chunk, scratch)?;
                    run_stages(plan, ctx, stages, &mut part.vector, &mut part.annotations);
                    Ok(part)
                };
                leaf.chunks(i).map(run).collect::<Result<Vec<_>, QueryError>>()
            },
            |parts| {
                for part in parts {
                    annotations.extend(part.annotations);
                    charges.push(ctx.budget.charge(part.vector.n_samples(), 0)?);
                    charges.push(part.charge);
                    match &mut all {
                        None => all = Some(part.vector),
                        Some(all) => all.append(part.vector),
                    }
                }
                Ok(())
            },
        )?;
        let mut vector = all.unwrap_or_default();
        if vector.series.is_empty() {
            vector = Vector::new(leaf.n_steps());
        }
        Ok(Value::Vector(Arc::new(Held { vector, charges })))
    }

    /// Without delayed removal, names go at once, and what then looks equal is merged or refused.
    fn after_names_dropped(&mut self, value: Value) -> Result<Value, QueryError> {
        let Value::Vector(held) = &value else { return Ok(value) };
        if self.ctx.delayed_names
            || held.vector.series.iter().any(|s| METADATA_LABELS.iter().any(|n| s.labels.get(n).is_some()))
        {
            return Ok(value);
        }
        let Value::Vector(held) = value else { return Err(broken("an instant vector")) };
        let mut held = match Arc::try_unwrap(held) {
            Ok(held) => held,
            Err(shared) => self.hold(shared.vector.clone())?,
        };
        held.vector.merge_equal_labels()?;
        Ok(Value::Vector(Arc::new(held)))
    }

    /// A range function over the steps of another node.
    fn subquery(&mut self, id: NodeId, input: NodeId, f: &WindowFunction) -> Result<Vector, QueryError> {
        let mut inner = self.vector(input)?;
        let times: Vec<i64> = self.plan.get(input).grid.times().collect();
        let shared = f.share(&times);
        let ctx = self.ctx;
        let mut losing = LosingNames::new();
        if let Some((vector, steps)) = inner.vector.names_joined()? {
            (inner, losing) = (Arc::new(self.hold(vector)?), steps);
        }
        drop(ctx.budget.charge(WindowFunction::samples_max(&shared), 0)?);
        let sites = &self.plan.get(id).sites;
        let inner = &inner.vector;
        let n = inner.len();
        let mut out = Vector::new(f.times.len());
        let annotations = &mut self.annotations;
        let threads = if n * times.len() < 1 << 16 { 1 } else { ctx.threads };
        pool::in_order(
            n.div_ceil(SUBQUERY_CHUNK),
            threads,
            |chunk, scratch: &mut windows::Scratch| {
                ctx.cancel.check()?;
                let mut noted = Annotations::default();
                let mut notes = Notes::new(sites, &mut noted);
                let mut part = Vector::new(f.times.len());
                let mut row = vec![ABSENT; f.times.len()];
                for i in chunk * SUBQUERY_CHUNK..((chunk + 1) * SUBQUERY_CHUNK).min(n) {
                    let mut series = inner.series[i].clone();
                    let column = Column { times: &times, values: inner.row(i), presence: None, starts: None };
                    f.floats(column, &shared, scratch, &mut row)?;
                    let mut histograms = Vec::new();
                    if !inner.histograms(i).is_empty() {
                        let steps = inner.histograms(i).iter();
                        let timed: Vec<_> =
                            steps.map(|(step, h)| (times[*step as usize], histogram_windows::unhinted(h))).collect();
                        let name = series.labels.metric_name();
                        histograms = f.with_histograms(column, &timed, &[], name, &mut row, &mut notes);
                    }
                    if histograms.is_empty() && row.iter().all(|v| is_absent(*v)) {
                        continue;
                    }
                    note_non_counter(f.id, series.labels.metric_name(), &row, &mut notes);
                    f.note_quantiles(&row, &mut notes);
                    if !f.keeps_name() {
                        series.drop_name(ctx.delayed_names);
                    } else if let Some(steps) = losing.get(&i) {
                        f.push_by_name(&mut part, series, (&times, steps), &row, &histograms);
                        continue;
                    }
                    part.push_row(series, &row, histograms);
                }
                Ok((part, noted))
            },
            |(part, noted)| {
                annotations.extend(noted);
                out.append(part);
                Ok(())
            },
        )?;
        Ok(out)
    }

    /// Whether a node changes each value by itself.
    fn is_stage(&self, id: NodeId) -> bool {
        match &self.plan.get(id).node {
            Node::Negate(_) | Node::VectorScalar { .. } => true,
            Node::Call { function, args } => {
                let vector_first =
                    args.first().is_some_and(|a| self.plan.get(*a).value_type == ValueType::InstantVector);
                vector_first
                    && (super::calls::map_function(*function).is_some()
                        || matches!(
                            function,
                            FunctionId::Clamp | FunctionId::ClampMin | FunctionId::ClampMax | FunctionId::Round
                        ))
            }
            _ => false,
        }
    }

    /// The stage that a node is, and its input.
    fn stage(&mut self, id: NodeId) -> Result<(Stage, NodeId), QueryError> {
        let plan: &'a Plan = self.plan;
        match &plan.get(id).node {
            Node::Negate(input) => Ok((Stage::Negate, *input)),
            Node::VectorScalar { op, return_bool, vector, scalar, scalar_left } => {
                let scalar = self.scalars(*scalar)?;
                let stage = Stage::Scalar { op: *op, scalar, scalar_left: *scalar_left, return_bool: *return_bool };
                Ok((stage, *vector))
            }
            Node::Call { function, args } => {
                if let Some(f) = super::calls::map_function(*function) {
                    return Ok((Stage::Map(f), args[0]));
                }
                let scalars = args[1..].iter().map(|a| self.scalars(*a)).collect::<Result<Vec<_>, _>>()?;
                let arg =
                    |i: usize| scalars.get(i).cloned().unwrap_or_else(|| Arc::new(vec![1.0; plan.get(id).grid.n]));
                let stage = match function {
                    FunctionId::Clamp => Stage::Clamp(arg(0), arg(1)),
                    FunctionId::ClampMin => Stage::ClampMin(arg(0)),
                    FunctionId::ClampMax => Stage::ClampMax(arg(0)),
                    _ => Stage::Round(arg(0)),
                };
                Ok((stage, args[0]))
            }
            _ => Err(broken("an elementwise operator")),
        }
    }

    /// Follows stages down to a leaf. The stages come in the order in which they run. Where names that go could make
    /// series equal it is one stage at a time: a filter must not hide a clash from the check after it.
    fn chain(&mut self, mut id: NodeId) -> Result<(Vec<(NodeId, Stage)>, NodeId), QueryError> {
        let mut stages = Vec::new();
        let safe = self.names_cannot_collide(id);
        while self.is_stage(id) && (stages.is_empty() || safe && self.plan.get(id).readers == 1) {
            let (stage, input) = self.stage(id)?;
            stages.push((id, stage));
            id = input;
        }
        stages.reverse();
        Ok((stages, id))
    }

    /// The value of a chain of stages.
    fn staged(&mut self, id: NodeId) -> Result<Value, QueryError> {
        let (stages, source) = self.chain(id)?;
        let value = if self.plan.get(source).readers == 1
            && self.names_cannot_collide(id)
            && let Some(leaf) = self.leaf(source, None)?
        {
            self.collect(&leaf, &stages)?
        } else {
            let mut held = self.owned(source)?;
            run_stages(self.plan, self.ctx, &stages, &mut held.vector, &mut self.annotations);
            held.vector.drop_empty();
            Value::Vector(Arc::new(held))
        };
        self.after_names_dropped(value)
    }

    fn aggregate(
        &mut self,
        id: NodeId,
        op: AggregateOp,
        grouping: &Grouping,
        param: Option<NodeId>,
        input: NodeId,
    ) -> Result<Value, QueryError> {
        let n_steps = self.plan.get(id).grid.n;
        if let Some(total) = Accumulator::new(op, n_steps) {
            return self.accumulate(id, total, op, grouping, input);
        }
        let param = param.ok_or_else(|| broken("a parameter"))?;
        let (numbers, label) = match self.eval(param)? {
            Value::Scalar(s) => (s, None),
            Value::Text(t) => (Arc::default(), Some(t)),
            Value::Vector(_) => return Err(broken("a scalar")),
        };
        let param = label.as_deref().map_or(Param::Numbers(&numbers), Param::Label);
        let mut held = self.vector(input)?;
        if op == AggregateOp::Quantile {
            held = self.settle_names(held, grouping)?;
        }
        let input = &held.vector;
        let out = self.noting(id, |_, notes| match (op, param) {
            (AggregateOp::TopK, Param::Numbers(k)) => ranked::top(input, grouping, k, true, notes),
            (AggregateOp::BottomK, Param::Numbers(k)) => ranked::top(input, grouping, k, false, notes),
            (AggregateOp::LimitK, Param::Numbers(k)) => ranked::limit(input, grouping, k),
            (AggregateOp::LimitRatio, Param::Numbers(r)) => ranked::limit_ratio(input, r, notes),
            (AggregateOp::Quantile, Param::Numbers(q)) => {
                ranked::check_quantiles(q, 1, notes);
                Ok(ranked::quantiles(input, grouping, q, notes))
            }
            (AggregateOp::CountValues, Param::Label(label)) => ranked::count_values(input, grouping, label),
            _ => Err(broken("another parameter")),
        })?;
        self.value(out)
    }

    /// What groups are made of, with names that go or stay at all steps of a series alike.
    fn settle_names(&self, held: Arc<Held>, grouping: &Grouping) -> Result<Arc<Held>, QueryError> {
        match names_settled(&held.vector, grouping) {
            Some(vector) => Ok(Arc::new(self.hold(vector)?)),
            None => Ok(held),
        }
    }

    /// An aggregation that keeps groups × steps; fused with the selection below it where nobody else reads that.
    fn accumulate(
        &mut self,
        id: NodeId,
        mut total: Accumulator,
        op: AggregateOp,
        grouping: &Grouping,
        input: NodeId,
    ) -> Result<Value, QueryError> {
        let (ctx, plan) = (self.ctx, self.plan);
        let n_steps = plan.get(id).grid.n;
        let sites = &plan.get(id).sites;
        let fused = plan.get(input).readers == 1 && self.names_cannot_collide(input);
        if fused {
            let (stages, source) = if self.is_stage(input) { self.chain(input)? } else { (Vec::new(), input) };
            let keep = self.keep(source, &stages, op, grouping);
            if plan.get(source).readers == 1
                && let Some(leaf) = self.leaf(source, Some(&keep))?
                && let Some(groups) = leaf.groups()
            {
                let annotations = &mut self.annotations;
                let mut held: Option<Charge> = None;
                let new =
                    || Accumulator::numbered(op, n_steps, groups.sets.len()).ok_or_else(|| broken("an accumulator"));
                total = new()?;
                pool::in_order(
                    leaf.n_tasks(),
                    leaf.threads(ctx),
                    |i, scratch: &mut Scratch| {
                        let mut sums = new()?;
                        let mut noted = Annotations::default();
                        for chunk in leaf.chunks(i) {
                            leaf.each_row(ctx, chunk, scratch, &mut noted, |row, noted| {
                                let group = leaf.group_of(&row);
                                let is_named = keep.names_metrics && !row.histograms.is_empty();
                                let metric = if is_named { leaf.metric_of(&row) } else { String::new() };
                                if stages.is_empty() {
                                    let notes = &mut Notes::new(sites, noted);
                                    sums.add_numbered(
                                        group,
                                        (row.floats, row.is_full),
                                        (&row.histograms, &metric),
                                        notes,
                                    );
                                    return;
                                }
                                let mut one = Vector::new(n_steps);
                                one.push_row(Series::new(Labels::empty()), row.floats, row.histograms);
                                run_stages(plan, ctx, &stages, &mut one, noted);
                                if one.len() > 0 {
                                    let notes = &mut Notes::new(sites, noted);
                                    sums.add_numbered(group, (one.row(0), false), (one.histograms(0), &metric), notes);
                                }
                            })?;
                        }
                        Ok((sums, noted))
                    },
                    |(sums, noted)| {
                        annotations.extend(noted);
                        total.merge(sums);
                        drop(held.take());
                        held = Some(ctx.budget.charge(0, total.heap_bytes())?);
                        Ok(())
                    },
                )?;
                let out = total.finish_numbered(&groups.sets, groups.drop_name, &mut Notes::new(sites, annotations));
                return self.value(out);
            }
            let mut held = self.owned(source)?;
            run_stages(plan, ctx, &stages, &mut held.vector, &mut self.annotations);
            let held = self.settle_names(Arc::new(held), grouping)?;
            let mut notes = Notes::new(sites, &mut self.annotations);
            total.add(&held.vector, grouping, &mut notes);
            let out = total.finish(&mut notes);
            return self.value(out);
        }
        let held = self.vector(input)?;
        let held = self.settle_names(held, grouping)?;
        let mut notes = Notes::new(sites, &mut self.annotations);
        total.add(&held.vector, grouping, &mut notes);
        let out = total.finish(&mut notes);
        self.value(out)
    }

    /// What an aggregation above `stages` over the leaf `source` needs of the labels.
    fn keep(&self, source: NodeId, stages: &[(NodeId, Stage)], op: AggregateOp, grouping: &Grouping) -> Keep {
        let leaf_drops = match &self.plan.get(source).node {
            Node::Instant(_) => false,
            Node::Window { function, .. } => !windows::keeps_name(*function),
            _ => true,
        };
        let drops_name = leaf_drops || stages.iter().any(|(_, stage)| stage.drops_name());
        let is_nameless = drops_name && !self.ctx.delayed_names;
        let is_dropped = |name: &str| is_nameless && METADATA_LABELS.contains(&name);
        let names = grouping.labels.iter();
        let projection = if grouping.without {
            let always = METADATA_LABELS.into_iter().filter(|name| *name == METRIC_NAME || is_dropped(name));
            Projection::without(names.cloned().chain(always.map(str::to_owned)))
        } else {
            Projection::only(names.filter(|name| !is_dropped(name)).cloned())
        };
        let names_metrics = !is_nameless && matches!(op, AggregateOp::Sum | AggregateOp::Avg);
        Keep { projection, drop_name: drops_name && self.ctx.delayed_names, names_metrics }
    }

    /// Whether series that lose their names in `id` still differ: names go later, or all have the same one.
    fn names_cannot_collide(&self, mut id: NodeId) -> bool {
        if self.ctx.delayed_names {
            return true;
        }
        let mut is_stage = false;
        loop {
            let selector = match &self.plan.get(id).node {
                Node::Negate(input) | Node::VectorScalar { vector: input, .. } => {
                    is_stage = true;
                    id = *input;
                    continue;
                }
                Node::Call { args, .. } if self.is_stage(id) => {
                    is_stage = true;
                    id = args[0];
                    continue;
                }
                Node::Instant(_) if !is_stage => return true,
                Node::Window { source: Source::Stored(s), .. }
                | Node::Instant(s)
                | Node::SampleTime(s)
                | Node::SampleStart(s) => s,
                _ => return false,
            };
            let named = |m: &promontory_model::Matcher| {
                m.name() == promontory_model::METRIC_NAME && m.op() == promontory_model::MatchOp::Equal
            };
            return selector.matchers.iter().any(named);
        }
    }
}

fn run_stages(
    plan: &Plan,
    ctx: Context<'_>,
    stages: &[(NodeId, Stage)],
    vector: &mut Vector,
    annotations: &mut Annotations,
) {
    for (id, stage) in stages {
        stage.apply(vector, ctx.delayed_names, &mut Notes::new(&plan.get(*id).sites, annotations));
    }
    if !stages.is_empty() {
        vector.drop_empty();
    }
}

/// The parser checks types; this says what it let through.
pub(crate) fn broken(expected: &str) -> QueryError {
    QueryError::Execution { message: format!("expected {expected} in this place"), span: None }
}
