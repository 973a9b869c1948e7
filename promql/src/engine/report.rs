//! What the operators of a query are, what they are expected to read, and what they did.

use std::fmt::Write as _;

use promontory_model::{Select, TimeRange};

use super::budget::Budget;
use super::exec::Value;
use super::select::Context;
use crate::ast::{Cardinality, Grouping, RangeExtension, Span, VectorMatching};
use crate::error::QueryError;
use crate::functions::{FUNCTIONS, FunctionId};
use crate::plan::{Grid, Node, Plan, Planned, Selector, Source};

/// One operator of the plan of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Operator {
    /// Its number: the index in the list. Operands come before what reads them; the last one is the query's value.
    pub id: usize,
    /// What it does: `select`, `rate`, `sum`, `join`.
    pub name: String,
    /// On what, in the words of the language: `by (job)`, `x_total{job="a"}[5m]`. May be empty.
    pub detail: String,
    /// The operators that it reads.
    pub inputs: Vec<usize>,
    /// How often its value is read; more than once where the query says the same thing twice.
    pub readers: u32,
    /// Where the query says it.
    pub spans: Vec<Span>,
    /// Steps that it is evaluated on.
    pub steps: usize,
    /// What a selector finds in the index; `None` for other operators.
    pub estimate: Option<Estimate>,
    /// What it did; `None` when it was not evaluated by itself: not at all, or chunk by chunk inside what reads it.
    pub cost: Option<Cost>,
}

/// What the index says of a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Series that match.
    pub series: u64,
    /// Upper bound of the stored samples to be read.
    pub samples: u64,
}

/// What an operator did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Series of its value; 1 for a number or text.
    pub series: u64,
    /// Values over all steps.
    pub values: u64,
    /// Bytes of its value.
    pub bytes: u64,
    /// Stored samples that it read, and what runs inside it.
    pub samples_read: u64,
    /// Time that it took without its operands, in ns.
    pub own_ns: u64,
    /// Time that it took with them, in ns.
    pub total_ns: u64,
}

/// A clock that counts ns from any start.
pub(crate) type Now<'a> = &'a dyn Fn() -> u64;

/// Measures the operators of one evaluation.
pub(crate) struct Meter<'a> {
    now: Now<'a>,
    costs: Vec<Option<Cost>>,
    /// What the operands of the operator under way have taken so far.
    operands: Spent,
}

#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    ns: u64,
    samples: u64,
}

/// The start of an operator.
pub(crate) struct Begun {
    ns: u64,
    samples: u64,
    outer: Spent,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(now: Now<'a>, plan: &Plan) -> Self {
        Self { now, costs: vec![None; plan.nodes.len()], operands: Spent::default() }
    }

    pub(crate) fn begin(&mut self, budget: &Budget) -> Begun {
        let outer = std::mem::take(&mut self.operands);
        Begun { ns: (self.now)(), samples: budget.stats().samples_read, outer }
    }

    pub(crate) fn end(&mut self, node: usize, begun: &Begun, budget: &Budget, value: &Value) {
        let all = Spent {
            ns: (self.now)().saturating_sub(begun.ns),
            samples: budget.stats().samples_read.saturating_sub(begun.samples),
        };
        let (series, values, bytes) = match value {
            Value::Scalar(s) => (1, s.len() as u64, 8 * s.len() as u64),
            Value::Text(t) => (1, 1, t.len() as u64),
            Value::Vector(v) => (v.vector.len() as u64, v.vector.n_samples(), v.vector.heap_bytes()),
        };
        self.costs[node] = Some(Cost {
            series,
            values,
            bytes,
            samples_read: all.samples.saturating_sub(self.operands.samples),
            own_ns: all.ns.saturating_sub(self.operands.ns),
            total_ns: all.ns,
        });
        self.operands = Spent { ns: begun.outer.ns + all.ns, samples: begun.outer.samples + all.samples };
    }
}

/// The operators of a plan, with estimates from the index of the store and what a meter has measured.
pub(crate) fn operators(plan: &Plan, ctx: Context<'_>, meter: Option<&Meter<'_>>) -> Result<Vec<Operator>, QueryError> {
    let mut out = Vec::with_capacity(plan.nodes.len());
    for (id, planned) in plan.nodes.iter().enumerate() {
        let (name, detail) = words(&planned.node);
        let (inputs, selector) = reads(planned);
        out.push(Operator {
            id,
            name,
            detail,
            inputs,
            readers: planned.readers,
            spans: planned.sites.iter().map(|s| s.span).collect(),
            steps: planned.grid.n,
            estimate: selector.map(|(s, range)| estimate(ctx, s, planned.grid, range)).transpose()?,
            cost: meter.and_then(|m| m.costs[id]),
        });
    }
    Ok(out)
}

/// What of the index a selector touches. `range` is the window of each step; lookback when there is none.
fn estimate(ctx: Context<'_>, selector: &Selector, grid: Grid, range: Option<i64>) -> Result<Estimate, QueryError> {
    let (back, ahead) = match selector.extension {
        None => (0, 0),
        Some(RangeExtension::Anchored) => (ctx.lookback_ms, 0),
        Some(RangeExtension::Smoothed) => (ctx.lookback_ms, ctx.lookback_ms),
    };
    let back = range.unwrap_or(ctx.lookback_ms).saturating_add(back);
    let (first, last) = (selector.when.resolve(grid.start), selector.when.resolve(grid.end()));
    let range = TimeRange::new(first.saturating_sub(back).saturating_add(1), last.saturating_add(ahead));
    if range.is_empty() {
        return Ok(Estimate { series: 0, samples: 0 });
    }
    let found = ctx.snapshot.select(&Select { range, matchers: &selector.matchers, cancel: ctx.cancel })?;
    let series = found.batches.iter().map(|b| b.n_series() as u64).sum();
    let samples = found.batches.iter().map(|b| b.n_series() as u64 * b.rows_max(range) as u64).sum();
    Ok(Estimate { series, samples })
}

/// The operands of a node, and the selector that it reads, with its window.
fn reads(planned: &Planned) -> (Vec<usize>, Option<(&Selector, Option<i64>)>) {
    let mut inputs = Vec::new();
    let mut selector = None;
    match &planned.node {
        Node::Number(_) | Node::Text(_) | Node::Time => {}
        Node::Instant(s) | Node::SampleTime(s) | Node::SampleStart(s) => selector = Some((s, None)),
        Node::Raw { source, range } | Node::Window { source, range, .. } => {
            match source {
                Source::Stored(s) => selector = Some((s, Some(*range))),
                Source::Subquery { input, .. } => inputs.push(*input),
            }
            if let Node::Window { params, .. } = &planned.node {
                inputs.extend(params);
            }
        }
        Node::Broadcast(input) | Node::Absent { input, .. } | Node::Info { input, .. } | Node::Negate(input) => {
            inputs.push(*input);
        }
        Node::Call { args, .. } => inputs.extend(args),
        Node::Aggregate { param, input, .. } => inputs.extend(param.iter().chain([input])),
        Node::ScalarBinary { args, .. } | Node::Join { args, .. } => inputs.extend(args),
        Node::VectorScalar { vector, scalar, .. } => inputs.extend([vector, scalar]),
    }
    (inputs.iter().map(|id| id.0 as usize).collect(), selector)
}

/// Name and detail of an operator.
fn words(node: &Node) -> (String, String) {
    let name = |id: FunctionId| FUNCTIONS.iter().find(|f| f.id == id).map_or("function", |f| f.name).to_owned();
    let none = String::new;
    match node {
        Node::Number(bits) => ("number".to_owned(), f64::from_bits(*bits).to_string()),
        Node::Text(text) => ("text".to_owned(), format!("{text:?}")),
        Node::Time => ("time".to_owned(), none()),
        Node::Broadcast(_) => ("repeat".to_owned(), "one step for all".to_owned()),
        Node::Instant(s) => ("select".to_owned(), selector_text(s, None)),
        Node::SampleTime(s) => ("timestamp".to_owned(), selector_text(s, None)),
        Node::SampleStart(s) => ("start_timestamp".to_owned(), selector_text(s, None)),
        Node::Raw { source, range } => ("select".to_owned(), source_text(source, *range)),
        Node::Window { function, source, range, .. } => (name(*function), source_text(source, *range)),
        Node::Call { function, .. } => (name(*function), none()),
        Node::Absent { labels, .. } => ("absent".to_owned(), labels.to_string()),
        Node::Info { matchers, .. } => {
            let matchers: Vec<_> = matchers.iter().map(ToString::to_string).collect();
            ("info".to_owned(), format!("{{{}}}", matchers.join(",")))
        }
        Node::Negate(_) => ("negate".to_owned(), none()),
        Node::Aggregate { op, grouping, .. } => (op.as_str().to_owned(), grouping_text(grouping)),
        Node::ScalarBinary { op, .. } => (op.as_str().to_owned(), "numbers".to_owned()),
        Node::VectorScalar { op, return_bool, scalar_left, .. } => {
            let side = if *scalar_left { "number on the left" } else { "number on the right" };
            (op.as_str().to_owned(), format!("{}{side}", if *return_bool { "bool, " } else { "" }))
        }
        Node::Join { op, return_bool, matching, .. } => {
            (op.as_str().to_owned(), format!("{}{}", if *return_bool { "bool " } else { "" }, matching_text(matching)))
        }
    }
}

fn selector_text(selector: &Selector, range: Option<i64>) -> String {
    let matchers: Vec<_> = selector.matchers.iter().map(ToString::to_string).collect();
    let mut out = format!("{{{}}}", matchers.join(","));
    let duration = |ms: i64| promontory_model::Duration(ms).to_string();
    if let Some(range) = range {
        let _ = write!(out, "[{}]", duration(range));
    }
    match selector.extension {
        Some(RangeExtension::Anchored) => out.push_str(" anchored"),
        Some(RangeExtension::Smoothed) => out.push_str(" smoothed"),
        None => {}
    }
    if let Some(at) = selector.when.at {
        let _ = write!(out, " @ {}", at as f64 / 1000.0);
    }
    match selector.when.offset {
        0 => {}
        ahead if ahead < 0 => {
            let _ = write!(out, " offset -{}", duration(ahead.saturating_neg()));
        }
        back => {
            let _ = write!(out, " offset {}", duration(back));
        }
    }
    out
}

fn source_text(source: &Source, range: i64) -> String {
    match source {
        Source::Stored(s) => selector_text(s, Some(range)),
        Source::Subquery { .. } => format!("subquery [{}]", promontory_model::Duration(range)),
    }
}

fn grouping_text(grouping: &Grouping) -> String {
    match (grouping.without, grouping.labels.is_empty()) {
        (false, true) => "all in one".to_owned(),
        (false, false) => format!("by ({})", grouping.labels.join(", ")),
        (true, _) => format!("without ({})", grouping.labels.join(", ")),
    }
}

fn matching_text(matching: &VectorMatching) -> String {
    let labels = matching.labels.join(", ");
    let mut out = match (matching.on, matching.labels.is_empty()) {
        (true, _) => format!("on ({labels})"),
        (false, false) => format!("ignoring ({labels})"),
        (false, true) => "on all labels".to_owned(),
    };
    match matching.cardinality {
        Cardinality::ManyToOne => out.push_str(", many to one"),
        Cardinality::OneToMany => out.push_str(", one to many"),
        Cardinality::OneToOne | Cardinality::ManyToMany => {}
    }
    out
}
