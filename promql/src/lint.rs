//! What a query probably did not mean, with what to write instead.
//!
//! Only mistakes that give a wrong or an empty answer without an error; style is not judged. What a store knows
//! (types of metrics, which series there are, how often they are scraped) makes more of them visible: see
//! [`Catalog`].

use promontory_model::{Duration, METRIC_NAME, MatchOp, Matcher, MetricType};

use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, DurationExpr, Expr, Grouping, MatrixSelector, NumberLiteral, Span,
    ValueType, VectorSelector,
};
use crate::functions::{FunctionId, find};

/// A window should hold this many intervals of scraping, so that one lost scrape leaves two samples.
const INTERVALS_PER_WINDOW: i64 = 4;

/// What is known about stored series. Each answer may be `None`: not known.
pub trait Catalog {
    /// The type of the metric of this name.
    fn metric_type(&self, name: &str) -> Option<MetricType>;
    /// Whether any series passes all matchers.
    fn any_series(&self, matchers: &[Matcher]) -> Option<bool>;
    /// Distance of the samples of the series that pass all matchers, in ms.
    fn interval_ms(&self, matchers: &[Matcher]) -> Option<i64>;
}

/// Nothing is known.
impl Catalog for () {
    fn metric_type(&self, _: &str) -> Option<MetricType> {
        None
    }

    fn any_series(&self, _: &[Matcher]) -> Option<bool> {
        None
    }

    fn interval_ms(&self, _: &[Matcher]) -> Option<i64> {
        None
    }
}

/// A probable mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// Name of the rule, stable.
    pub rule: &'static str,
    /// What it speaks of.
    pub span: Span,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to write in place of `span`, where that can be told.
    pub replacement: Option<String>,
}

/// An expression of a query, for editors that show what each part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeType {
    /// Place.
    pub span: Span,
    /// Type of its value.
    pub value_type: ValueType,
}

/// Place and type of every expression, parents before what is in them.
#[must_use]
pub fn types(expr: &Expr) -> Vec<NodeType> {
    let mut out = Vec::new();
    expr.walk(&mut |e| out.push(NodeType { span: e.span(), value_type: e.value_type() }));
    out
}

/// The probable mistakes of a query, in the order of the text.
#[must_use]
pub fn lint(expr: &Expr, catalog: &dyn Catalog) -> Vec<Suggestion> {
    let mut linter = Linter { catalog, found: Vec::new() };
    expr.walk(&mut |e| linter.expression(e));
    linter.found.sort_by_key(|s| (s.span.start, s.span.end));
    linter.found
}

struct Linter<'a> {
    catalog: &'a dyn Catalog,
    found: Vec<Suggestion>,
}

impl Linter<'_> {
    fn add(&mut self, rule: &'static str, span: Span, message: String, replacement: Option<Expr>) {
        let replacement = replacement.map(|e| e.to_string());
        self.found.push(Suggestion { rule, span, message, replacement });
    }

    fn expression(&mut self, expr: &Expr) {
        match expr {
            Expr::Vector(v) => self.selector(v, Expr::Vector),
            Expr::Matrix(m) => self.selector(&m.selector, |selector| {
                Expr::Matrix(MatrixSelector { selector, range: m.range.clone(), span: m.span })
            }),
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(a) => self.aggregate(a),
            Expr::Binary(b) => self.binary(b),
            _ => {}
        }
    }

    fn selector(&mut self, selector: &VectorSelector, rebuild: impl Fn(VectorSelector) -> Expr) {
        let without = |i: usize| {
            let mut rest = selector.matchers.clone();
            rest.remove(i);
            rest
        };
        for (i, m) in selector.matchers.iter().enumerate() {
            let equal = match m.op() {
                MatchOp::Regex => MatchOp::Equal,
                MatchOp::NotRegex => MatchOp::NotEqual,
                _ => continue,
            };
            if m.value().is_empty() || m.value().contains(|c: char| "\\.+*?()|[]{}^$".contains(c)) {
                continue;
            }
            let Ok(plain) = Matcher::new(m.name(), equal, m.value()) else { continue };
            let mut better = selector.clone();
            better.matchers[i] = plain;
            let message = format!("{m} has no pattern in it; {} says the same and is cheaper", equal.as_str());
            self.add("literal-regex", selector.span, message, Some(rebuild(better)));
        }
        if self.catalog.any_series(&selector.matchers) != Some(false) {
            return;
        }
        // One matcher that alone is at fault is worth naming.
        let guilty = (0..selector.matchers.len())
            .filter(|_| selector.matchers.len() > 1)
            .find(|i| self.catalog.any_series(&without(*i)) == Some(true));
        let message = match guilty.map(|i| &selector.matchers[i]) {
            Some(m) if m.name() == METRIC_NAME => format!("no series is named {:?} and matches the rest", m.value()),
            Some(m) => format!("no series matches {m}; without it there are some"),
            None => "no series matches this selector".to_owned(),
        };
        self.add("no-series", selector.span, message, None);
    }

    fn call(&mut self, call: &Call) {
        use FunctionId as F;
        match call.function.id {
            F::Rate | F::Irate | F::Increase | F::Resets => {
                let better = match call.function.id {
                    F::Rate | F::Irate => "deriv",
                    F::Increase => "delta",
                    _ => "changes",
                };
                let gauge = matches!(self.argument_type(call), Some(MetricType::Gauge));
                self.rename(call, gauge, "counter-function-of-gauge", "counters", "a gauge", better);
                self.rate_of_aggregation(call);
            }
            F::Delta | F::Idelta | F::Deriv | F::PredictLinear => {
                let better = match call.function.id {
                    F::Delta => "increase",
                    F::Idelta => "irate",
                    _ => "rate",
                };
                let counter = matches!(self.argument_type(call), Some(MetricType::Counter));
                self.rename(call, counter, "gauge-function-of-counter", "gauges", "a counter", better);
            }
            F::HistogramQuantile => self.quantile(call),
            _ => {}
        }
        for arg in &call.args {
            if let Expr::Matrix(m) = arg.unwrapped() {
                self.window(call, m);
            }
        }
    }

    fn rename(&mut self, call: &Call, wrong: bool, rule: &'static str, takes: &str, is: &str, better: &str) {
        if !wrong {
            return;
        }
        let name = argument_name(call).unwrap_or_default();
        let message = format!("{} is made for {takes}, and {name} is {is}; {better} fits it", call.function.name);
        let same_arguments = find(better).filter(|f| f.args.len() == call.args.len());
        let replacement =
            same_arguments.map(|function| Expr::Call(Call { function, args: call.args.clone(), span: call.span }));
        self.add(rule, call.span, message, replacement);
    }

    fn argument_type(&self, call: &Call) -> Option<MetricType> {
        self.catalog.metric_type(argument_name(call)?)
    }

    /// `rate(sum(x)[5m:])`: a sum of counters goes down when one of them starts again.
    fn rate_of_aggregation(&mut self, call: &Call) {
        let Some(Expr::Subquery(sub)) = call.args.first().map(Expr::unwrapped) else { return };
        let Expr::Aggregate(inner) = sub.expr.unwrapped() else { return };
        let message = format!(
            "a counter that starts again makes {} fall, which {} takes for a reset of all; {} first, then aggregate",
            inner.op.as_str(),
            call.function.name,
            call.function.name
        );
        let replacement = match inner.expr.unwrapped() {
            Expr::Vector(v) if v.modifiers == crate::ast::Modifiers::default() => {
                let matrix = MatrixSelector { selector: v.clone(), range: sub.range.clone(), span: v.span };
                let call = Call { function: call.function, args: vec![Expr::Matrix(matrix)], span: call.span };
                Some(Expr::Aggregate(Box::new(Aggregate { expr: Expr::Call(call), ..(**inner).clone() })))
            }
            _ => None,
        };
        self.add("rate-of-aggregation", call.span, message, replacement);
    }

    fn quantile(&mut self, call: &Call) {
        let Some(input) = call.args.get(1).map(Expr::unwrapped) else { return };
        if let Expr::Aggregate(a) = input
            && selects_buckets(&a.expr)
            && !keeps(&a.grouping, "le")
        {
            let mut labels = a.grouping.labels.clone();
            if a.grouping.without {
                labels.retain(|l| l != "le");
            } else {
                labels.push("le".to_owned());
            }
            let grouping = Grouping { without: a.grouping.without, labels };
            let better = Expr::Aggregate(Box::new(Aggregate { grouping, ..(**a).clone() }));
            let message = "histogram_quantile needs the label le of the buckets, which this aggregation removes".into();
            self.add("quantile-without-le", a.span, message, Some(better));
        }
        let inner = match input {
            Expr::Aggregate(a) => a.expr.unwrapped(),
            other => other,
        };
        if let Expr::Vector(v) = inner
            && is_buckets(v)
        {
            let rate = find("rate").map(|function| {
                let minutes = NumberLiteral { value: 300.0, is_duration: true, span: v.span };
                let range = DurationExpr::Literal(minutes);
                let matrix = Expr::Matrix(MatrixSelector { selector: v.clone(), range, span: v.span });
                Expr::Call(Call { function, args: vec![matrix], span: v.span })
            });
            let message = "these buckets count since their process started; take their rate for recent observations";
            self.add("quantile-of-all-time", v.span, message.to_owned(), rate);
        }
    }

    /// A window that is too short for its function to see two samples.
    fn window(&mut self, call: &Call, matrix: &MatrixSelector) {
        use FunctionId as F;
        let needs_two = matches!(
            call.function.id,
            F::Rate | F::Increase | F::Delta | F::Irate | F::Idelta | F::Deriv | F::PredictLinear
        );
        let DurationExpr::Literal(range) = &matrix.range else { return };
        let Some(interval) = self.catalog.interval_ms(&matrix.selector.matchers).filter(|i| *i > 0) else { return };
        let range_ms = (range.value * 1000.0) as i64;
        if !needs_two || range_ms >= 2 * interval {
            return;
        }
        let wider = interval * INTERVALS_PER_WINDOW;
        let text = |ms: i64| Duration(ms).to_string();
        let message = format!(
            "samples are {} apart, so that a window of {} seldom holds the two that {} needs",
            text(interval),
            text(range_ms),
            call.function.name
        );
        let number = NumberLiteral { value: wider as f64 / 1000.0, is_duration: true, span: range.span };
        let better = MatrixSelector { range: DurationExpr::Literal(number), ..matrix.clone() };
        self.add("short-window", matrix.span, message, Some(Expr::Matrix(better)));
    }

    /// `sum(requests_total)`: what was counted since each process started.
    fn aggregate(&mut self, a: &Aggregate) {
        if !matches!(a.op, AggregateOp::Sum | AggregateOp::Avg) {
            return;
        }
        let Expr::Vector(v) = a.expr.unwrapped() else { return };
        let Some(name) = metric_name(v) else { return };
        if self.catalog.metric_type(name) == Some(MetricType::Counter) {
            let message = format!(
                "{name} counts since its process started; {} of it jumps when one starts again, its rate or increase \
                 does not",
                a.op.as_str()
            );
            self.add("counter-without-rate", v.span, message, None);
        }
    }

    /// `count(x) == 0`: the count of nothing is nothing, not 0.
    fn binary(&mut self, b: &Binary) {
        let zero = |e: &Expr| matches!(e.unwrapped(), Expr::Number(n) if n.value == 0.0);
        let Expr::Aggregate(a) = b.lhs.unwrapped() else { return };
        if b.op == BinaryOp::Eq && a.op == AggregateOp::Count && a.grouping == Grouping::default() && zero(&b.rhs) {
            let replacement =
                find("absent").map(|function| Expr::Call(Call { function, args: vec![a.expr.clone()], span: b.span }));
            let message = "count of nothing is nothing, never 0; absent tells that there is no series".to_owned();
            self.add("count-is-never-zero", b.span, message, replacement);
        }
    }
}

/// Whether series still have the label after the aggregation.
fn keeps(grouping: &Grouping, label: &str) -> bool {
    grouping.labels.iter().any(|l| l == label) != grouping.without
}

fn metric_name(selector: &VectorSelector) -> Option<&str> {
    selector.matchers.iter().find(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal).map(Matcher::value)
}

/// Metric name of the selector whose window the function takes.
fn argument_name(call: &Call) -> Option<&str> {
    call.args.iter().find_map(|arg| match arg.unwrapped() {
        Expr::Matrix(m) => metric_name(&m.selector),
        _ => None,
    })
}

fn is_buckets(selector: &VectorSelector) -> bool {
    metric_name(selector).is_some_and(|name| name.ends_with("_bucket"))
}

fn selects_buckets(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |e| match e {
        Expr::Vector(v) => found |= is_buckets(v),
        Expr::Matrix(m) => found |= is_buckets(&m.selector),
        _ => {}
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse;

    /// Knows `requests_total` (counter, 15 s, jobs a and b) and `temperature` (gauge).
    struct Known;

    impl Catalog for Known {
        fn metric_type(&self, name: &str) -> Option<MetricType> {
            match name {
                "requests_total" => Some(MetricType::Counter),
                "temperature" => Some(MetricType::Gauge),
                _ => None,
            }
        }

        fn any_series(&self, matchers: &[Matcher]) -> Option<bool> {
            let names = ["requests_total", "temperature", "x_bucket"];
            let matches = |name: &str, job: &str| {
                matchers.iter().all(|m| match m.name() {
                    METRIC_NAME => m.matches(name),
                    "job" => m.matches(job),
                    _ => m.matches(""),
                })
            };
            Some(names.iter().any(|n| matches(n, "a") || matches(n, "b")))
        }

        fn interval_ms(&self, _: &[Matcher]) -> Option<i64> {
            Some(15_000)
        }
    }

    #[track_caller]
    fn check(query: &str, want: &[(&str, &str)]) {
        let found = lint(&parse(query).expect("a query"), &Known);
        let got: Vec<_> = found.iter().map(|s| (s.rule, s.replacement.as_deref().unwrap_or(""))).collect();
        assert_eq!(got, want, "{query}: {found:?}");
        for s in &found {
            let Some(text) = &s.replacement else { continue };
            let mut better = query.to_owned();
            better.replace_range(s.span.start as usize..s.span.end as usize, text);
            let left = lint(&parse(&better).expect("a query"), &Known);
            assert!(!left.iter().any(|l| l.rule == s.rule), "{better} is no better");
        }
    }

    #[test]
    fn sound_queries_are_left_alone() {
        check("sum by (job) (rate(requests_total[5m])) / 2", &[]);
        check("histogram_quantile(0.9, sum by (le, job) (rate(x_bucket[5m])))", &[]);
        check("histogram_quantile(0.9, sum without (pod) (rate(x_bucket[5m])))", &[]);
        check("deriv(temperature[10m]) > 0", &[]);
    }

    #[test]
    fn functions_fit_the_type_of_the_metric() {
        check("rate(temperature[5m])", &[("counter-function-of-gauge", "deriv(temperature[5m])")]);
        check("delta(requests_total[5m])", &[("gauge-function-of-counter", "increase(requests_total[5m])")]);
        check("predict_linear(requests_total[5m], 60)", &[("gauge-function-of-counter", "")]);
        check("sum(requests_total)", &[("counter-without-rate", "")]);
    }

    #[test]
    fn quantiles_need_le_and_recent_buckets() {
        check(
            "histogram_quantile(0.9, sum by (job) (rate(x_bucket[5m])))",
            &[("quantile-without-le", "sum by (job, le) (rate(x_bucket[5m]))")],
        );
        check(
            "histogram_quantile(0.9, (sum without (le, pod) (rate(x_bucket[5m]))))",
            &[("quantile-without-le", "sum without (pod) (rate(x_bucket[5m]))")],
        );
        check("histogram_quantile(0.9, x_bucket)", &[("quantile-of-all-time", "rate(x_bucket[5m])")]);
    }

    #[test]
    fn counters_are_rated_before_they_are_summed() {
        check(
            "rate(sum by (job) (requests_total)[5m:])",
            &[("rate-of-aggregation", "sum by (job) (rate(requests_total[5m]))"), ("counter-without-rate", "")],
        );
    }

    #[test]
    fn what_matches_nothing_is_named() {
        let found = lint(&parse("temperature{job=\"c\", rack=\"\"}").expect("a query"), &Known);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].message, "no series matches job=\"c\"; without it there are some");
        check("nothing", &[("no-series", "")]);
        check("count(temperature) == 0", &[("count-is-never-zero", "absent(temperature)")]);
    }

    #[test]
    fn patterns_and_windows_are_judged() {
        check("temperature{job=~\"a\"}", &[("literal-regex", "temperature{job=\"a\"}")]);
        check("temperature{job=~\"a|b\"}", &[]);
        check("rate(requests_total[20s])", &[("short-window", "requests_total[1m]")]);
    }

    #[test]
    fn without_a_catalog_only_the_text_speaks() {
        let expr = parse("rate(temperature[1s]) + nothing").expect("a query");
        assert_eq!(lint(&expr, &()), []);
    }

    #[test]
    fn every_expression_has_a_type() {
        let got: Vec<_> = types(&parse("rate(x[5m]) > 1").expect("a query")).iter().map(|t| t.value_type).collect();
        use ValueType as T;
        assert_eq!(got, [T::InstantVector, T::InstantVector, T::RangeVector, T::Scalar]);
    }
}
