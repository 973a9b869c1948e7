//! From the syntax tree to a plan.

use promontory_model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp};

use super::duration::{self, QueryShape, Role};
use super::{Grid, Node, NodeId, Plan, Planned, Selector, Site, Source, When};
use crate::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Expr, MatrixSelector, Modifiers, RangeExtension, Span,
    Subquery, Unary, ValueType, VectorSelector,
};
use crate::error::QueryError;
use crate::functions::FunctionId;
use crate::kernels::math;
use crate::lexer::quote_bytes;

/// Steps that one subquery may have; a longer one would not fit any memory limit worth having.
const SUBQUERY_STEPS_MAX: i64 = 1 << 26;

/// What planning depends on besides the expression.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanOptions {
    /// Steps of the query.
    pub(crate) grid: Grid,
    /// What `end()` means, ms; the last step may be before it.
    pub(crate) end: i64,
    /// Whether it is a range query.
    pub(crate) is_range: bool,
    /// Step of subqueries that name none, ms.
    pub(crate) subquery_step_ms: i64,
}

/// Plans `expr`.
///
/// # Errors
/// Durations that are not allowed, and functions that do not go with `anchored` or `smoothed`.
pub(crate) fn build(expr: &Expr, options: PlanOptions) -> Result<Plan, QueryError> {
    let grid = options.grid;
    let shape = if options.is_range {
        QueryShape { step_secs: grid.step as f64 / 1000.0, range_secs: (options.end - grid.start) as f64 / 1000.0 }
    } else {
        QueryShape { step_secs: 0.0, range_secs: 0.0 }
    };
    let mut builder = Builder { nodes: Vec::new(), hints: Hints::Stored, options, shape };
    let root = builder.expr(expr, grid)?;
    let mut nodes = builder.nodes;
    count_readers(&mut nodes, root);
    Ok(Plan { nodes, root, spans_time: options.end > grid.start })
}

fn count_readers(nodes: &mut [Planned], root: NodeId) {
    nodes[root.0 as usize].readers += 1;
    for i in 0..nodes.len() {
        for operand in operands(&nodes[i].node) {
            nodes[operand.0 as usize].readers += 1;
        }
    }
}

/// The nodes that `node` reads.
fn operands(node: &Node) -> Vec<NodeId> {
    match node {
        Node::Number(_)
        | Node::Text(_)
        | Node::Time
        | Node::Instant(_)
        | Node::SampleTime(_)
        | Node::SampleStart(_) => Vec::new(),
        Node::Broadcast(a) | Node::Negate(a) | Node::Absent { input: a, .. } | Node::Info { input: a, .. } => vec![*a],
        Node::Raw { source, .. } => source_operand(source).into_iter().collect(),
        Node::Window { source, params, .. } => {
            source_operand(source).into_iter().chain(params.iter().copied()).collect()
        }
        Node::Call { args, .. } => args.clone(),
        Node::Aggregate { param, input, .. } => param.iter().copied().chain([*input]).collect(),
        Node::ScalarBinary { args, .. } | Node::Join { args, .. } => args.to_vec(),
        Node::VectorScalar { vector, scalar, .. } => vec![*vector, *scalar],
    }
}

fn source_operand(source: &Source) -> Option<NodeId> {
    match source {
        Source::Stored(_) => None,
        Source::Subquery { input, .. } => Some(*input),
    }
}

/// What the selectors of a subtree know about resets of histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hints {
    /// What is stored.
    Stored,
    /// What is stored, whatever functions follow: inside a subquery.
    StoredForGood,
    /// What comparing finds: only count and sum are asked for.
    Detected,
}

impl Hints {
    /// For the operands of `expr`.
    fn below(self, expr: &Expr) -> Self {
        match (expr, self) {
            (_, Self::StoredForGood) | (Expr::Subquery(_), _) => Self::StoredForGood,
            (Expr::Binary(_), _) => Self::Stored,
            (Expr::Call(c), before) => match c.function.id {
                FunctionId::HistogramCount | FunctionId::HistogramSum | FunctionId::HistogramAvg => Self::Detected,
                FunctionId::HistogramQuantile | FunctionId::HistogramQuantiles | FunctionId::HistogramFraction => {
                    Self::Stored
                }
                _ => before,
            },
            (_, before) => before,
        }
    }
}

struct Builder {
    nodes: Vec<Planned>,
    hints: Hints,
    options: PlanOptions,
    shape: QueryShape,
}

impl Builder {
    /// The node for `node` on `grid`: an equal one that is there already, or a new one.
    fn add(&mut self, node: Node, grid: Grid, value_type: ValueType, site: Site) -> NodeId {
        if let Some(i) = self.nodes.iter().position(|p| p.grid == grid && p.node == node) {
            let sites = &mut self.nodes[i].sites;
            if !sites.contains(&site) {
                sites.push(site);
            }
            return NodeId(i as u32);
        }
        self.nodes.push(Planned { node, grid, value_type, sites: vec![site], readers: 0 });
        NodeId((self.nodes.len() - 1) as u32)
    }

    fn number(&mut self, value: f64, grid: Grid, span: Span) -> NodeId {
        self.add(Node::Number(value.to_bits()), grid, ValueType::Scalar, Site { span, args: Vec::new() })
    }

    fn constant(&self, id: NodeId) -> Option<f64> {
        match self.nodes[id.0 as usize].node {
            Node::Number(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    fn value_type(&self, id: NodeId) -> ValueType {
        self.nodes[id.0 as usize].value_type
    }

    /// Plans any expression but a bare range vector. What `@` fixes is planned on one step.
    fn expr(&mut self, expr: &Expr, grid: Grid) -> Result<NodeId, QueryError> {
        let expr = strip_parens(expr);
        if grid.n > 1 && is_vector(expr) && is_step_invariant(expr) {
            let once = Grid { start: self.options.grid.start, step: 1, n: 1 };
            let inner = self.varying(expr, once)?;
            let site = Site { span: expr.span(), args: Vec::new() };
            return Ok(self.add(Node::Broadcast(inner), grid, ValueType::InstantVector, site));
        }
        self.varying(expr, grid)
    }

    fn varying(&mut self, expr: &Expr, grid: Grid) -> Result<NodeId, QueryError> {
        let before = self.hints;
        self.hints = before.below(expr);
        let node = self.node(expr, grid);
        self.hints = before;
        node
    }

    fn node(&mut self, expr: &Expr, grid: Grid) -> Result<NodeId, QueryError> {
        match expr {
            Expr::Number(n) => Ok(self.number(n.value, grid, n.span)),
            Expr::String(s) => {
                let site = Site { span: s.span, args: Vec::new() };
                Ok(self.add(Node::Text(s.value.clone()), grid, ValueType::String, site))
            }
            Expr::Vector(v) => {
                let selector = self.selector(v)?;
                let site = Site { span: v.span, args: Vec::new() };
                Ok(self.add(Node::Instant(selector), grid, ValueType::InstantVector, site))
            }
            Expr::Matrix(_) | Expr::Subquery(_) => {
                let (source, range) = self.source(expr, grid)?;
                let site = Site { span: expr.span(), args: Vec::new() };
                Ok(self.add(Node::Raw { source, range }, grid, ValueType::RangeVector, site))
            }
            Expr::Call(call) => self.call(call, grid),
            Expr::Aggregate(a) => self.aggregate(a, grid),
            Expr::Binary(b) => self.binary(b, grid),
            Expr::Unary(u) => self.unary(u, grid),
            Expr::Paren(p) => self.expr(&p.expr, grid),
        }
    }

    fn when(&self, modifiers: &Modifiers) -> Result<When, QueryError> {
        let offset = match &modifiers.offset {
            Some(d) => duration::millis(d, self.shape, Role::Offset)?,
            None => 0,
        };
        let at = modifiers.at.map(|at| match at {
            At::Time(t) => t,
            At::Start => self.options.grid.start,
            At::End => self.options.end,
        });
        Ok(When { at, offset })
    }

    fn selector(&self, v: &VectorSelector) -> Result<Selector, QueryError> {
        let when = self.when(&v.modifiers)?;
        let detects_resets = self.hints == Hints::Detected;
        Ok(Selector { matchers: v.matchers.clone(), when, extension: v.extension, detects_resets })
    }

    /// The samples and the length of a range vector on `grid`.
    fn source(&mut self, expr: &Expr, grid: Grid) -> Result<(Source, i64), QueryError> {
        match strip_parens(expr) {
            Expr::Matrix(MatrixSelector { selector, range, .. }) => {
                let range = duration::millis(range, self.shape, Role::Length)?;
                Ok((Source::Stored(self.selector(selector)?), range))
            }
            outer @ Expr::Subquery(s) => {
                let before = self.hints;
                self.hints = before.below(outer);
                let source = self.subquery(s, grid);
                self.hints = before;
                source
            }
            other => Err(execution("expected a range vector", other.span())),
        }
    }

    fn subquery(&mut self, s: &Subquery, grid: Grid) -> Result<(Source, i64), QueryError> {
        let range = duration::millis(&s.range, self.shape, Role::Length)?;
        let step = match &s.step {
            Some(d) => duration::millis(d, self.shape, Role::Length)?,
            None => self.options.subquery_step_ms,
        };
        let when = self.when(&s.modifiers)?;
        // Steps are multiples of the step since the epoch, whatever the outer steps are.
        let first_after = when.resolve(grid.start).saturating_sub(range);
        let start = (first_after.div_euclid(step) + 1).saturating_mul(step);
        let end = when.resolve(grid.end());
        let n = if grid.n == 0 || end < start { 0 } else { (end - start) / step + 1 };
        if n > SUBQUERY_STEPS_MAX {
            return Err(execution("subquery has more steps than can be evaluated; use a longer step", s.span));
        }
        let input = self.expr(&s.expr, Grid { start, step, n: n as usize })?;
        Ok((Source::Subquery { input, when }, range))
    }

    fn call(&mut self, call: &Call, grid: Grid) -> Result<NodeId, QueryError> {
        let id = call.function.id;
        let site = Site { span: call.span, args: call.args.iter().map(Expr::span).collect() };
        match id {
            FunctionId::Time => return Ok(self.add(Node::Time, grid, ValueType::Scalar, site)),
            FunctionId::Pi => return Ok(self.number(std::f64::consts::PI, grid, call.span)),
            FunctionId::Start => return Ok(self.number(self.options.grid.start as f64 / 1000.0, grid, call.span)),
            FunctionId::End => return Ok(self.number(self.options.end as f64 / 1000.0, grid, call.span)),
            FunctionId::Step => return Ok(self.number(self.shape.step_secs, grid, call.span)),
            FunctionId::Range => return Ok(self.number(self.shape.range_secs, grid, call.span)),
            FunctionId::Timestamp | FunctionId::StartTimestamp => {
                if let Some(Expr::Vector(v)) = call.args.first().map(strip_parens) {
                    let selector = self.selector(v)?;
                    let is_start = id == FunctionId::StartTimestamp;
                    let node = if is_start { Node::SampleStart(selector) } else { Node::SampleTime(selector) };
                    return Ok(self.add(node, grid, ValueType::InstantVector, site));
                }
            }
            FunctionId::Info => return self.info(call, grid, site),
            _ => {}
        }
        if call.args.iter().any(|a| a.value_type() == ValueType::RangeVector) {
            return self.window(call, grid, site);
        }
        check_label_names(call)?;
        let args = call.args.iter().map(|a| self.expr(a, grid)).collect::<Result<Vec<_>, _>>()?;
        if id == FunctionId::Absent {
            let labels = absent_labels(call.args.first());
            return Ok(self.add(Node::Absent { input: args[0], labels }, grid, ValueType::InstantVector, site));
        }
        if matches!(id, FunctionId::MinOf | FunctionId::MaxOf)
            && let (Some(a), Some(b)) = (self.constant(args[0]), self.constant(args[1]))
        {
            let value = if id == FunctionId::MinOf { math::min(a, b) } else { math::max(a, b) };
            return Ok(self.number(value, grid, call.span));
        }
        Ok(self.add(Node::Call { function: id, args }, grid, call.function.returns, site))
    }

    fn window(&mut self, call: &Call, grid: Grid, site: Site) -> Result<NodeId, QueryError> {
        let id = call.function.id;
        let mut params = Vec::new();
        let mut source = None;
        let mut labels = Labels::empty();
        for arg in &call.args {
            if arg.value_type() == ValueType::RangeVector {
                check_extension(call, arg)?;
                labels = absent_labels(Some(arg));
                source = Some(self.source(arg, grid)?);
            } else {
                params.push(self.expr(arg, grid)?);
            }
        }
        let Some((source, range)) = source else {
            return Err(execution("expected a range vector", call.span));
        };
        // `absent_over_time` is `absent` of what is present over time.
        let function = if id == FunctionId::AbsentOverTime { FunctionId::PresentOverTime } else { id };
        let node = Node::Window { function, source, range, params };
        let window = self.add(node, grid, ValueType::InstantVector, site.clone());
        if id == FunctionId::AbsentOverTime {
            return Ok(self.add(Node::Absent { input: window, labels }, grid, ValueType::InstantVector, site));
        }
        Ok(window)
    }

    fn info(&mut self, call: &Call, grid: Grid, site: Site) -> Result<NodeId, QueryError> {
        let input = self.expr(&call.args[0], grid)?;
        let matchers = match call.args.get(1).map(strip_parens) {
            Some(Expr::Vector(v)) => v.matchers.clone(),
            Some(other) => return Err(execution("expected label selectors only", other.span())),
            None => Vec::new(),
        };
        let when = self.info_time(&call.args[0])?;
        Ok(self.add(Node::Info { input, matchers, when }, grid, ValueType::InstantVector, site))
    }

    /// The info series are looked at when the first selector of the argument looks at its own.
    fn info_time(&self, expr: &Expr) -> Result<When, QueryError> {
        let none = When { at: None, offset: 0 };
        Ok(match expr {
            Expr::Vector(v) => self.when(&v.modifiers)?,
            Expr::Matrix(m) => self.when(&m.selector.modifiers)?,
            Expr::Subquery(s) => {
                let (outer, inner) = (self.when(&s.modifiers)?, self.info_time(&s.expr)?);
                match inner.at {
                    Some(_) => inner,
                    None => When { at: outer.at, offset: outer.offset + inner.offset },
                }
            }
            Expr::Call(c) => match c.args.iter().find(|a| !matches!(a, Expr::Number(_) | Expr::String(_))) {
                Some(arg) => self.info_time(arg)?,
                None => none,
            },
            Expr::Aggregate(a) => self.info_time(&a.expr)?,
            Expr::Unary(u) => self.info_time(&u.expr)?,
            Expr::Paren(p) => self.info_time(&p.expr)?,
            Expr::Binary(b) => {
                let side = if is_vector(&b.lhs) { &b.lhs } else { &b.rhs };
                self.info_time(side)?
            }
            Expr::Number(_) | Expr::String(_) => none,
        })
    }

    fn aggregate(&mut self, a: &Aggregate, grid: Grid) -> Result<NodeId, QueryError> {
        if let (AggregateOp::CountValues, Some(Expr::String(label))) = (a.op, a.param.as_ref().map(strip_parens))
            && let Some(bytes) = &label.invalid_utf8
        {
            return Err(execution(&format!("invalid label name {}", quote_bytes(bytes)), label.span));
        }
        let param = a.param.as_ref().map(|p| self.expr(p, grid)).transpose()?;
        let input = self.expr(&a.expr, grid)?;
        let mut args = vec![a.expr.span()];
        args.extend(a.param.as_ref().map(Expr::span));
        let mut grouping = a.grouping.clone();
        grouping.labels.sort_unstable();
        grouping.labels.dedup();
        let node = Node::Aggregate { op: a.op, grouping, param, input };
        Ok(self.add(node, grid, ValueType::InstantVector, Site { span: a.span, args }))
    }

    fn binary(&mut self, b: &Binary, grid: Grid) -> Result<NodeId, QueryError> {
        let (lhs, rhs) = (self.expr(&b.lhs, grid)?, self.expr(&b.rhs, grid)?);
        let site = Site { span: b.span, args: vec![b.lhs.span(), b.rhs.span()] };
        let vector = ValueType::InstantVector;
        let node = match (self.value_type(lhs), self.value_type(rhs)) {
            (ValueType::Scalar, ValueType::Scalar) => {
                if let (Some(x), Some(y)) = (self.constant(lhs), self.constant(rhs)) {
                    return Ok(self.number(scalar_binary(b.op, x, y), grid, b.span));
                }
                let node = Node::ScalarBinary { op: b.op, args: [lhs, rhs] };
                return Ok(self.add(node, grid, ValueType::Scalar, site));
            }
            (ValueType::Scalar, _) => {
                Node::VectorScalar { op: b.op, return_bool: b.return_bool, vector: rhs, scalar: lhs, scalar_left: true }
            }
            (_, ValueType::Scalar) => Node::VectorScalar {
                op: b.op,
                return_bool: b.return_bool,
                vector: lhs,
                scalar: rhs,
                scalar_left: false,
            },
            _ => {
                let matching = b.matching.clone().unwrap_or_default();
                Node::Join { op: b.op, return_bool: b.return_bool, matching, args: [lhs, rhs] }
            }
        };
        Ok(self.add(node, grid, vector, site))
    }

    fn unary(&mut self, u: &Unary, grid: Grid) -> Result<NodeId, QueryError> {
        let inner = self.expr(&u.expr, grid)?;
        if !u.negative {
            return Ok(inner);
        }
        let site = Site { span: u.span, args: vec![u.expr.span()] };
        if self.value_type(inner) == ValueType::Scalar {
            if let Some(x) = self.constant(inner) {
                return Ok(self.number(-x, grid, u.span));
            }
            let minus_one = self.number(-1.0, grid, u.span);
            let node = Node::ScalarBinary { op: BinaryOp::Mul, args: [minus_one, inner] };
            return Ok(self.add(node, grid, ValueType::Scalar, site));
        }
        Ok(self.add(Node::Negate(inner), grid, ValueType::InstantVector, site))
    }
}

/// The value of an operator between two numbers; comparisons answer 0 or 1.
pub(crate) fn scalar_binary(op: BinaryOp, a: f64, b: f64) -> f64 {
    if let Some(f) = math::arithmetic(op) {
        return f(a, b);
    }
    match math::comparison(op) {
        Some(f) => f64::from(u8::from(f(a, b))),
        None => f64::NAN,
    }
}

fn execution(message: &str, span: Span) -> QueryError {
    QueryError::Execution { message: message.to_owned(), span: Some(span) }
}

fn strip_parens(mut expr: &Expr) -> &Expr {
    while let Expr::Paren(p) = expr {
        expr = &p.expr;
    }
    expr
}

fn is_vector(expr: &Expr) -> bool {
    expr.value_type() == ValueType::InstantVector
}

/// Whether the value is the same at every step: all selectors are fixed by `@` and nothing asks for the time.
fn is_step_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(v) => v.modifiers.at.is_some(),
        Expr::Matrix(m) => m.selector.modifiers.at.is_some(),
        Expr::Subquery(s) => s.modifiers.at.is_some(),
        Expr::Call(c) => !depends_on_time(c) && c.args.iter().all(is_step_invariant),
        Expr::Aggregate(a) => is_step_invariant(&a.expr) && a.param.as_ref().is_none_or(is_step_invariant),
        Expr::Binary(b) => is_step_invariant(&b.lhs) && is_step_invariant(&b.rhs),
        Expr::Unary(u) => is_step_invariant(&u.expr),
        Expr::Paren(p) => is_step_invariant(&p.expr),
    }
}

fn depends_on_time(call: &Call) -> bool {
    match call.function.id {
        FunctionId::Time | FunctionId::Timestamp | FunctionId::StartTimestamp | FunctionId::PredictLinear => true,
        FunctionId::DayOfMonth
        | FunctionId::DayOfWeek
        | FunctionId::DayOfYear
        | FunctionId::DaysInMonth
        | FunctionId::Hour
        | FunctionId::Minute
        | FunctionId::Month
        | FunctionId::Year => call.args.is_empty(),
        // With the series to enrich fixed, the info series are fixed to the same time.
        _ => false,
    }
}

/// Label names are text; bytes that are none are told before anything is evaluated.
fn check_label_names(call: &Call) -> Result<(), QueryError> {
    let (names, what): (&[Expr], _) = match (call.function.id, &call.args[..]) {
        (FunctionId::LabelReplace, [_, dst, ..]) => (std::slice::from_ref(dst), "destination"),
        (FunctionId::LabelJoin, [_, dst, _, sources @ ..]) => {
            check_names(call, std::slice::from_ref(dst), "destination")?;
            (sources, "source")
        }
        _ => return Ok(()),
    };
    check_names(call, names, what)
}

fn check_names(call: &Call, names: &[Expr], what: &str) -> Result<(), QueryError> {
    for name in names {
        if let Expr::String(s) = strip_parens(name)
            && let Some(bytes) = &s.invalid_utf8
        {
            let function = call.function.name;
            let text = format!("invalid {what} label name in {function}(): {}", quote_bytes(bytes));
            return Err(execution(&text, s.span));
        }
    }
    Ok(())
}

/// Only some functions give a meaning to the edges of a window.
fn check_extension(call: &Call, arg: &Expr) -> Result<(), QueryError> {
    let Expr::Matrix(MatrixSelector { selector, .. }) = strip_parens(arg) else {
        return Ok(());
    };
    let counter = matches!(call.function.id, FunctionId::Delta | FunctionId::Increase | FunctionId::Rate);
    let pairs = matches!(call.function.id, FunctionId::Changes | FunctionId::Resets);
    let message = match selector.extension {
        Some(RangeExtension::Anchored) if !counter && !pairs => {
            "anchored modifier can only be used with: changes, delta, increase, rate, resets"
        }
        Some(RangeExtension::Smoothed) if !counter => "smoothed modifier can only be used with: delta, increase, rate",
        _ => return Ok(()),
    };
    Err(execution(&format!("{message} - not with {}", call.function.name), arg.span()))
}

/// The labels that a missing series would have: those that `=` fixes, each named once.
fn absent_labels(arg: Option<&Expr>) -> Labels {
    let selector = match arg.map(strip_parens) {
        Some(Expr::Vector(v)) => v,
        Some(Expr::Matrix(m)) => &m.selector,
        _ => return Labels::empty(),
    };
    let mut labels = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    for m in selector.matchers.iter().filter(|m| m.name() != METRIC_NAME) {
        if m.op() == MatchOp::Equal && !seen.contains(&m.name()) {
            labels.set(m.name(), m.value());
            seen.push(m.name());
        } else {
            labels.remove(m.name());
        }
    }
    labels.build()
}
