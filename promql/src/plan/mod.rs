//! The logical plan of a query: what to evaluate, on which steps, each thing once.
//!
//! A plan is a list of typed nodes; a node names only nodes before it. Every node carries the [`Grid`] of steps it is
//! evaluated on, so that subqueries and step-invariant parts are ordinary nodes on other grids. Offsets, `@` and
//! duration expressions are resolved to milliseconds, scalar constants are folded, subtrees fixed by `@` are planned
//! on a single step and broadcast, and equal nodes on equal grids are one node: whoever needs the value twice reads
//! it twice.

mod build;
mod duration;

use promontory_model::Matcher;

use crate::ast::{AggregateOp, BinaryOp, Grouping, RangeExtension, Span, ValueType, VectorMatching};
use crate::functions::FunctionId;

pub(crate) use build::{PlanOptions, build, scalar_binary};

/// The steps of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Time of the first step, ms.
    pub(crate) start: i64,
    /// Distance of the steps, ms; greater than 0.
    pub(crate) step: i64,
    /// Number of steps.
    pub(crate) n: usize,
}

impl Grid {
    /// Time of step `i`.
    pub(crate) fn time(self, i: usize) -> i64 {
        self.start + i as i64 * self.step
    }

    /// Times of all steps.
    pub(crate) fn times(self) -> impl ExactSizeIterator<Item = i64> {
        (0..self.n).map(move |i| self.time(i))
    }

    /// Time of the last step; that of the first when there is none.
    pub(crate) fn end(self) -> i64 {
        self.time(self.n.saturating_sub(1))
    }
}

/// Names a node of one plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

/// When a selector looks, relative to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct When {
    /// The fixed time, if `@` was written.
    pub(crate) at: Option<i64>,
    /// Subtracted from it, or from the step's time.
    pub(crate) offset: i64,
}

impl When {
    /// The time looked at from a step at `t`.
    pub(crate) fn resolve(self, t: i64) -> i64 {
        self.at.unwrap_or(t).saturating_sub(self.offset)
    }
}

/// Stored series and when to look at them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Selector {
    /// All must pass.
    pub(crate) matchers: Vec<Matcher>,
    /// When.
    pub(crate) when: When,
    /// `anchored` or `smoothed`.
    pub(crate) extension: Option<RangeExtension>,
    /// Histograms without a hint about resets get one by comparing with the one before, as happens in Prometheus
    /// where only count and sum are read.
    pub(crate) detects_resets: bool,
}

/// Where the samples of a window come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// Stored samples.
    Stored(Selector),
    /// The steps of another node.
    Subquery {
        /// On a grid of its own.
        input: NodeId,
        /// When the window ends.
        when: When,
    },
}

/// One thing to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// A number; compared by bits.
    Number(u64),
    /// A text.
    Text(String),
    /// The time of each step in seconds.
    Time,
    /// The single step of another node, for all steps.
    Broadcast(NodeId),
    /// The newest sample of each stored series at each step.
    Instant(Selector),
    /// The time in seconds of that sample.
    SampleTime(Selector),
    /// Since when, in seconds, that sample has been counting; 0 when unknown.
    SampleStart(Selector),
    /// All samples of the window of the only step.
    Raw {
        /// Of what.
        source: Source,
        /// Length of the window, ms.
        range: i64,
    },
    /// A function of the window of each step.
    Window {
        /// Which one.
        function: FunctionId,
        /// Of what.
        source: Source,
        /// Length of the window, ms.
        range: i64,
        /// The scalar argument or arguments.
        params: Vec<NodeId>,
    },
    /// A function of vectors, scalars and texts.
    Call {
        /// Which one.
        function: FunctionId,
        /// All arguments.
        args: Vec<NodeId>,
    },
    /// `absent` and `absent_over_time`: what the labels of the answer are.
    Absent {
        /// What must be missing.
        input: NodeId,
        /// Labels of the answer.
        labels: promontory_model::Labels,
    },
    /// `info`: stored info series are looked up while evaluating.
    Info {
        /// The series to enrich.
        input: NodeId,
        /// Matchers of the second argument.
        matchers: Vec<Matcher>,
        /// When the info series are looked at.
        when: When,
    },
    /// `-x` of a vector.
    Negate(NodeId),
    /// An aggregation.
    Aggregate {
        /// Operator.
        op: AggregateOp,
        /// Grouping.
        grouping: Grouping,
        /// First argument of `topk` and its like.
        param: Option<NodeId>,
        /// What is aggregated.
        input: NodeId,
    },
    /// An operator between two scalars.
    ScalarBinary {
        /// Operator.
        op: BinaryOp,
        /// Operands.
        args: [NodeId; 2],
    },
    /// An operator between a vector and a scalar.
    VectorScalar {
        /// Operator.
        op: BinaryOp,
        /// `bool` was written.
        return_bool: bool,
        /// Vector operand.
        vector: NodeId,
        /// Scalar operand.
        scalar: NodeId,
        /// The scalar was written on the left.
        scalar_left: bool,
    },
    /// An operator between two vectors.
    Join {
        /// Operator.
        op: BinaryOp,
        /// `bool` was written.
        return_bool: bool,
        /// How series find each other.
        matching: VectorMatching,
        /// Operands.
        args: [NodeId; 2],
    },
}

/// One place in the query text where a node was written; annotations name all places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// The whole expression.
    pub(crate) span: Span,
    /// Its arguments or operands, in order.
    pub(crate) args: Vec<Span>,
}

impl Site {
    /// Place of argument `i`, or of the whole when there is none.
    pub(crate) fn arg(&self, i: usize) -> Span {
        self.args.get(i).copied().unwrap_or(self.span)
    }
}

/// A node with what the evaluation needs to know about it.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// What.
    pub(crate) node: Node,
    /// On which steps.
    pub(crate) grid: Grid,
    /// Type of its value.
    pub(crate) value_type: ValueType,
    /// Where it was written.
    pub(crate) sites: Vec<Site>,
    /// How many nodes (and the query itself) read its value.
    pub(crate) readers: u32,
}

/// A whole query.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// A node's operands come before it.
    pub(crate) nodes: Vec<Planned>,
    /// The query's value.
    pub(crate) root: NodeId,
    /// Whether the query asks for more than one time, if only by its ends: sorting is in vain then.
    pub(crate) spans_time: bool,
}

impl Plan {
    /// The node of this name.
    pub(crate) fn get(&self, id: NodeId) -> &Planned {
        &self.nodes[id.0 as usize]
    }
}
