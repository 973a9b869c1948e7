//! The syntax tree of PromQL 3.14, with the place of every node in the query text.
//!
//! The tree is what was written: no constant is folded but the sign of a number, and no duration expression is
//! evaluated, so that the printer can give the query back. Types were checked by the parser.

use promontory_model::Matcher;

/// A range of bytes in the query text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A number per step.
    Scalar,
    /// A constant text.
    String,
    /// At most one sample per series and step.
    InstantVector,
    /// Samples of a window per series and step.
    RangeVector,
}

/// Any expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `1.5`, `0x1f`, `5m`.
    Number(NumberLiteral),
    /// `"text"`.
    String(StringLiteral),
    /// `up{job="x"} offset 5m`.
    Vector(VectorSelector),
    /// `up[5m]`.
    Matrix(MatrixSelector),
    /// `expr[5m:1m]`.
    Subquery(Box<Subquery>),
    /// `rate(x[5m])`.
    Call(Call),
    /// `sum by (job) (x)`.
    Aggregate(Box<Aggregate>),
    /// `a + b`.
    Binary(Box<Binary>),
    /// `-a`.
    Unary(Box<Unary>),
    /// `(a)`.
    Paren(Box<Paren>),
}

/// A number; a duration literal is a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberLiteral {
    /// The value; seconds when written as a duration.
    pub value: f64,
    /// Whether it was written as a duration (`5m`), which the printer keeps.
    pub is_duration: bool,
    /// Place.
    pub span: Span,
}

/// A text.
#[derive(Debug, Clone, PartialEq)]
pub struct StringLiteral {
    /// Unescaped; what is no UTF-8 is replaced.
    pub value: String,
    /// The bytes as written (`"\xff"`), when they are no UTF-8.
    pub invalid_utf8: Option<Vec<u8>>,
    /// Place.
    pub span: Span,
}

/// Selects series by metric name and matchers.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The name written before the braces; `matchers` holds it too, as the last one.
    pub name: Option<String>,
    /// All conditions in the order written, the one on `__name__` included.
    pub matchers: Vec<Matcher>,
    /// `offset` and `@`.
    pub modifiers: Modifiers,
    /// `anchored` or `smoothed`.
    pub extension: Option<RangeExtension>,
    /// Place, modifiers included.
    pub span: Span,
}

/// The samples of a window before each step.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// What to select. Its modifiers and extension are those written after the range.
    pub selector: VectorSelector,
    /// Length of the window.
    pub range: DurationExpr,
    /// Place.
    pub span: Span,
}

/// An expression evaluated at the steps of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What to evaluate.
    pub expr: Expr,
    /// Length of the window.
    pub range: DurationExpr,
    /// Step; the default evaluation interval when absent.
    pub step: Option<DurationExpr>,
    /// `offset` and `@`.
    pub modifiers: Modifiers,
    /// Place.
    pub span: Span,
}

/// `offset` and `@`, in any order, each at most once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Modifiers {
    /// How far back to look; negative looks ahead.
    pub offset: Option<DurationExpr>,
    /// The fixed time of evaluation.
    pub at: Option<At>,
}

/// The time after `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since the epoch.
    Time(i64),
    /// `start()`: the start of the query's range.
    Start,
    /// `end()`: the end of the query's range.
    End,
}

/// How windows treat their edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeExtension {
    /// Real samples at both edges, taken from before the window where there is none.
    Anchored,
    /// Values interpolated at both edges.
    Smoothed,
}

/// A length of time, as written: `5m`, `step()`, `(1h / 2)`.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// A number of seconds; a duration literal or a plain number.
    Literal(NumberLiteral),
    /// `step()`.
    Step(Span),
    /// `range()`.
    Range(Span),
    /// `-d` (or `+d`, when `negative` is false).
    Sign {
        /// Whether the sign is a minus.
        negative: bool,
        /// Operand.
        expr: Box<DurationExpr>,
        /// Place.
        span: Span,
    },
    /// `a + b`, also `- * / % ^`.
    Binary {
        /// One of `Add Sub Mul Div Mod Pow`.
        op: BinaryOp,
        /// Left.
        lhs: Box<DurationExpr>,
        /// Right.
        rhs: Box<DurationExpr>,
        /// Place.
        span: Span,
    },
    /// `min_of(a, b)` or `max_of(a, b)`.
    MinMax {
        /// Whether it is `max_of`.
        is_max: bool,
        /// Left.
        lhs: Box<DurationExpr>,
        /// Right.
        rhs: Box<DurationExpr>,
        /// Place.
        span: Span,
    },
    /// `(d)`.
    Paren(Box<DurationExpr>, Span),
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Row of the function table.
    pub function: &'static crate::functions::Function,
    /// Arguments, number and types checked.
    pub args: Vec<Expr>,
    /// Place.
    pub span: Span,
}

/// The aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the language's own")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    CountValues,
    Quantile,
    LimitK,
    LimitRatio,
}

/// `by` or `without` labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    /// Whether it is `without`; no clause at all is `by ()`.
    pub without: bool,
    /// Label names as written.
    pub labels: Vec<String>,
}

/// An aggregation.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Expr,
    /// First argument of `topk`, `quantile`, `count_values` and their like.
    pub param: Option<Expr>,
    /// Grouping.
    pub grouping: Grouping,
    /// Place.
    pub span: Span,
}

/// The binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the language's own")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Unless,
    /// `</`, keeps the part of a histogram below a bound.
    TrimUpper,
    /// `>/`, keeps the part of a histogram above a bound.
    TrimLower,
}

/// How many series may pair up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cardinality {
    /// One series with one.
    #[default]
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How series of two vectors find each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VectorMatching {
    /// Cardinality.
    pub cardinality: Cardinality,
    /// Whether `labels` are those to match `on`; else those to ignore.
    pub on: bool,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Labels of `group_left` or `group_right`, copied from the "one" side.
    pub include: Vec<String>,
    /// Value of a missing left sample.
    pub fill_left: Option<f64>,
    /// Value of a missing right sample.
    pub fill_right: Option<f64>,
}

/// A binary operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Operator.
    pub op: BinaryOp,
    /// Left.
    pub lhs: Expr,
    /// Right.
    pub rhs: Expr,
    /// `bool` was written.
    pub return_bool: bool,
    /// Matching; means nothing unless both sides are vectors, and is `None` then.
    pub matching: Option<VectorMatching>,
    /// Place of the whole expression.
    pub span: Span,
    /// Place of the operator.
    pub op_span: Span,
}

/// A sign before an expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// Whether the sign is a minus.
    pub negative: bool,
    /// Operand.
    pub expr: Expr,
    /// Place.
    pub span: Span,
}

/// An expression in parentheses.
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// Inside.
    pub expr: Expr,
    /// Place.
    pub span: Span,
}

impl DurationExpr {
    /// Where the duration stands in the query text.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Literal(n) => n.span,
            Self::Step(span) | Self::Range(span) | Self::Paren(_, span) => *span,
            Self::Sign { span, .. } | Self::Binary { span, .. } | Self::MinMax { span, .. } => *span,
        }
    }
}

impl AggregateOp {
    /// The operator as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::TopK => "topk",
            Self::BottomK => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::LimitK => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Whether a parameter comes before what is aggregated.
    #[must_use]
    pub fn has_param(self) -> bool {
        matches!(
            self,
            Self::TopK | Self::BottomK | Self::CountValues | Self::Quantile | Self::LimitK | Self::LimitRatio
        )
    }
}

impl BinaryOp {
    /// The operator as written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// Whether it answers true or false; such operators filter unless `bool` is given.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }

    /// Whether it is `and`, `or` or `unless`.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl ValueType {
    /// The name that the documentation uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::InstantVector => "instant vector",
            Self::RangeVector => "range vector",
        }
    }
}

impl Expr {
    /// Where the expression stands in the query text.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Number(e) => e.span,
            Self::String(e) => e.span,
            Self::Vector(e) => e.span,
            Self::Matrix(e) => e.span,
            Self::Subquery(e) => e.span,
            Self::Call(e) => e.span,
            Self::Aggregate(e) => e.span,
            Self::Binary(e) => e.span,
            Self::Unary(e) => e.span,
            Self::Paren(e) => e.span,
        }
    }

    /// The type of its value.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::String(_) => ValueType::String,
            Self::Vector(_) | Self::Aggregate(_) => ValueType::InstantVector,
            Self::Matrix(_) | Self::Subquery(_) => ValueType::RangeVector,
            Self::Call(e) => e.function.returns,
            Self::Binary(e) => match (e.lhs.value_type(), e.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::InstantVector,
            },
            Self::Unary(e) => e.expr.value_type(),
            Self::Paren(e) => e.expr.value_type(),
        }
    }

    /// The expressions right below this one, in the order written.
    #[must_use]
    pub fn children(&self) -> Vec<&Self> {
        match self {
            Self::Number(_) | Self::String(_) | Self::Vector(_) | Self::Matrix(_) => Vec::new(),
            Self::Subquery(e) => vec![&e.expr],
            Self::Call(e) => e.args.iter().collect(),
            Self::Aggregate(e) => e.param.iter().chain([&e.expr]).collect(),
            Self::Binary(e) => vec![&e.lhs, &e.rhs],
            Self::Unary(e) => vec![&e.expr],
            Self::Paren(e) => vec![&e.expr],
        }
    }

    /// Calls `f` with this expression and all below it, parents first.
    pub fn walk<'a>(&'a self, f: &mut impl FnMut(&'a Self)) {
        f(self);
        for child in self.children() {
            child.walk(f);
        }
    }

    /// Calls `f` with the selectors of this expression and of all below it, in the order written.
    pub fn for_each_selector(&mut self, f: &mut impl FnMut(&mut VectorSelector)) {
        match self {
            Self::Number(_) | Self::String(_) => {}
            Self::Vector(e) => f(e),
            Self::Matrix(e) => f(&mut e.selector),
            Self::Subquery(e) => e.expr.for_each_selector(f),
            Self::Call(e) => e.args.iter_mut().for_each(|arg| arg.for_each_selector(f)),
            Self::Aggregate(e) => e.param.iter_mut().chain([&mut e.expr]).for_each(|arg| arg.for_each_selector(f)),
            Self::Binary(e) => {
                e.lhs.for_each_selector(f);
                e.rhs.for_each_selector(f);
            }
            Self::Unary(e) => e.expr.for_each_selector(f),
            Self::Paren(e) => e.expr.for_each_selector(f),
        }
    }

    /// The expression inside any parentheses around it.
    #[must_use]
    pub fn unwrapped(&self) -> &Self {
        match self {
            Self::Paren(e) => e.expr.unwrapped(),
            other => other,
        }
    }
}
