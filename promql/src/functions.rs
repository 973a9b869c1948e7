//! The table of PromQL functions: one row each, from which parser, completion and documentation read.

use crate::ast::ValueType;
use ValueType::{InstantVector as V, RangeVector as M, Scalar as S, String as T};

/// A function's signature.
#[derive(Debug)]
pub struct Function {
    /// Which one; evaluators match on it.
    pub id: FunctionId,
    /// Name in the language.
    pub name: &'static str,
    /// Types of the arguments.
    pub args: &'static [ValueType],
    /// How many may be given.
    pub variadic: Variadic,
    /// Type of the value.
    pub returns: ValueType,
    /// Behind a flag in Prometheus 3.14.
    pub experimental: bool,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// How many arguments a function takes beyond those listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variadic {
    /// Exactly those listed.
    Exact,
    /// The last `n` of those listed may be left out.
    Optional(usize),
    /// The last one listed may be repeated, or left out.
    Repeat,
    /// The last one listed may be repeated up to this number of arguments in all, at least once.
    RepeatUpTo(usize),
}

macro_rules! functions {
    ($($id:ident $name:literal ($($arg:ident),*) $variadic:expr, $returns:ident, $experimental:literal;)*) => {
        /// The functions of PromQL.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names are the language's own")]
        pub enum FunctionId { $($id),* }

        /// All functions, sorted by name.
        pub static FUNCTIONS: &[Function] = &[$(Function {
            id: FunctionId::$id,
            name: $name,
            args: &[$($arg),*],
            variadic: $variadic,
            returns: $returns,
            experimental: $experimental,
        }),*];
    };
}

use Variadic::{Exact, Optional, Repeat, RepeatUpTo};

functions! {
    Abs "abs" (V) Exact, V, false;
    Absent "absent" (V) Exact, V, false;
    AbsentOverTime "absent_over_time" (M) Exact, V, false;
    Acos "acos" (V) Exact, V, false;
    Acosh "acosh" (V) Exact, V, false;
    Asin "asin" (V) Exact, V, false;
    Asinh "asinh" (V) Exact, V, false;
    Atan "atan" (V) Exact, V, false;
    Atanh "atanh" (V) Exact, V, false;
    AvgOverTime "avg_over_time" (M) Exact, V, false;
    Ceil "ceil" (V) Exact, V, false;
    Changes "changes" (M) Exact, V, false;
    Clamp "clamp" (V, S, S) Exact, V, false;
    ClampMax "clamp_max" (V, S) Exact, V, false;
    ClampMin "clamp_min" (V, S) Exact, V, false;
    Cos "cos" (V) Exact, V, false;
    Cosh "cosh" (V) Exact, V, false;
    CountOverTime "count_over_time" (M) Exact, V, false;
    DayOfMonth "day_of_month" (V) Optional(1), V, false;
    DayOfWeek "day_of_week" (V) Optional(1), V, false;
    DayOfYear "day_of_year" (V) Optional(1), V, false;
    DaysInMonth "days_in_month" (V) Optional(1), V, false;
    Deg "deg" (V) Exact, V, false;
    Delta "delta" (M) Exact, V, false;
    Deriv "deriv" (M) Exact, V, false;
    DoubleExponentialSmoothing "double_exponential_smoothing" (M, S, S) Exact, V, true;
    End "end" () Exact, S, true;
    Exp "exp" (V) Exact, V, false;
    FirstOverTime "first_over_time" (M) Exact, V, true;
    Floor "floor" (V) Exact, V, false;
    HistogramAvg "histogram_avg" (V) Exact, V, false;
    HistogramCount "histogram_count" (V) Exact, V, false;
    HistogramFraction "histogram_fraction" (S, S, V) Exact, V, false;
    HistogramQuantile "histogram_quantile" (S, V) Exact, V, false;
    HistogramQuantiles "histogram_quantiles" (V, T, S) RepeatUpTo(12), V, true;
    HistogramStddev "histogram_stddev" (V) Exact, V, false;
    HistogramStdvar "histogram_stdvar" (V) Exact, V, false;
    HistogramSum "histogram_sum" (V) Exact, V, false;
    Hour "hour" (V) Optional(1), V, false;
    Idelta "idelta" (M) Exact, V, false;
    Increase "increase" (M) Exact, V, false;
    Info "info" (V, V) Optional(1), V, true;
    Irate "irate" (M) Exact, V, false;
    LabelJoin "label_join" (V, T, T, T) Repeat, V, false;
    LabelReplace "label_replace" (V, T, T, T, T) Exact, V, false;
    LastOverTime "last_over_time" (M) Exact, V, false;
    Ln "ln" (V) Exact, V, false;
    Log10 "log10" (V) Exact, V, false;
    Log2 "log2" (V) Exact, V, false;
    MadOverTime "mad_over_time" (M) Exact, V, true;
    MaxOf "max_of" (S, S) Exact, S, true;
    MaxOverTime "max_over_time" (M) Exact, V, false;
    MinOf "min_of" (S, S) Exact, S, true;
    MinOverTime "min_over_time" (M) Exact, V, false;
    Minute "minute" (V) Optional(1), V, false;
    Month "month" (V) Optional(1), V, false;
    Pi "pi" () Exact, S, false;
    PredictLinear "predict_linear" (M, S) Exact, V, false;
    PresentOverTime "present_over_time" (M) Exact, V, false;
    QuantileOverTime "quantile_over_time" (S, M) Exact, V, false;
    Rad "rad" (V) Exact, V, false;
    Range "range" () Exact, S, true;
    Rate "rate" (M) Exact, V, false;
    Resets "resets" (M) Exact, V, false;
    Round "round" (V, S) Optional(1), V, false;
    Scalar "scalar" (V) Exact, S, false;
    Sgn "sgn" (V) Exact, V, false;
    Sin "sin" (V) Exact, V, false;
    Sinh "sinh" (V) Exact, V, false;
    Sort "sort" (V) Exact, V, false;
    SortByLabel "sort_by_label" (V, T) Repeat, V, true;
    SortByLabelDesc "sort_by_label_desc" (V, T) Repeat, V, true;
    SortDesc "sort_desc" (V) Exact, V, false;
    Sqrt "sqrt" (V) Exact, V, false;
    Start "start" () Exact, S, true;
    StartTimestamp "start_timestamp" (V) Exact, V, true;
    StddevOverTime "stddev_over_time" (M) Exact, V, false;
    StdvarOverTime "stdvar_over_time" (M) Exact, V, false;
    Step "step" () Exact, S, true;
    SumOverTime "sum_over_time" (M) Exact, V, false;
    Tan "tan" (V) Exact, V, false;
    Tanh "tanh" (V) Exact, V, false;
    Time "time" () Exact, S, false;
    Timestamp "timestamp" (V) Exact, V, false;
    TsOfFirstOverTime "ts_of_first_over_time" (M) Exact, V, true;
    TsOfLastOverTime "ts_of_last_over_time" (M) Exact, V, true;
    TsOfMaxOverTime "ts_of_max_over_time" (M) Exact, V, true;
    TsOfMinOverTime "ts_of_min_over_time" (M) Exact, V, true;
    Vector "vector" (S) Exact, V, false;
    Year "year" (V) Optional(1), V, false;
}

/// The function of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_found() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(find("rate").map(|f| f.id), Some(FunctionId::Rate));
        assert!(find("nope").is_none());
    }
}
