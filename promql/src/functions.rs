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
    /// What it gives, in a sentence for people.
    pub doc: &'static str,
}

impl Function {
    /// Name and types of the arguments, as `clamp(instant vector, scalar, scalar)`; what may be left out is in brackets.
    #[must_use]
    pub fn signature(&self) -> String {
        let required = match self.variadic {
            Variadic::Exact | Variadic::RepeatUpTo(_) => self.args.len(),
            Variadic::Optional(n) => self.args.len() - n,
            Variadic::Repeat => self.args.len() - 1,
        };
        let mut out = format!("{}(", self.name);
        for (i, arg) in self.args.iter().enumerate() {
            let (open, close) = if i < required { ("", "") } else { ("[", "]") };
            let separator = if i > 0 { ", " } else { "" };
            out.push_str(&format!("{open}{separator}{}{close}", arg.as_str()));
        }
        if matches!(self.variadic, Variadic::Repeat | Variadic::RepeatUpTo(_)) {
            out.push_str(", …");
        }
        out.push(')');
        out
    }
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
    ($($id:ident $name:literal ($($arg:ident),*) $variadic:expr, $returns:ident, $experimental:literal, $doc:literal;)*) => {
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
            doc: $doc,
        }),*];
    };
}

use Variadic::{Exact, Optional, Repeat, RepeatUpTo};

functions! {
    Abs "abs" (V) Exact, V, false, "The absolute value.";
    Absent "absent" (V) Exact, V, false, "1 when the vector is empty, with the labels that `=` fixes; else nothing.";
    AbsentOverTime "absent_over_time" (M) Exact, V, false, "1 when no series has a sample in the window; else nothing.";
    Acos "acos" (V) Exact, V, false, "The arc cosine, in radians.";
    Acosh "acosh" (V) Exact, V, false, "The inverse hyperbolic cosine.";
    Asin "asin" (V) Exact, V, false, "The arc sine, in radians.";
    Asinh "asinh" (V) Exact, V, false, "The inverse hyperbolic sine.";
    Atan "atan" (V) Exact, V, false, "The arc tangent, in radians.";
    Atanh "atanh" (V) Exact, V, false, "The inverse hyperbolic tangent.";
    AvgOverTime "avg_over_time" (M) Exact, V, false, "The mean of the window's samples.";
    Ceil "ceil" (V) Exact, V, false, "Rounded up to a whole number.";
    Changes "changes" (M) Exact, V, false, "How often the value changed inside the window.";
    Clamp "clamp" (V, S, S) Exact, V, false, "Values held between a lower and an upper bound.";
    ClampMax "clamp_max" (V, S) Exact, V, false, "Values held at or below a bound.";
    ClampMin "clamp_min" (V, S) Exact, V, false, "Values held at or above a bound.";
    Cos "cos" (V) Exact, V, false, "The cosine of an angle in radians.";
    Cosh "cosh" (V) Exact, V, false, "The hyperbolic cosine.";
    CountOverTime "count_over_time" (M) Exact, V, false, "How many samples the window has.";
    DayOfMonth "day_of_month" (V) Optional(1), V, false, "Day of the month in UTC, 1 to 31.";
    DayOfWeek "day_of_week" (V) Optional(1), V, false, "Day of the week in UTC, 0 is Sunday.";
    DayOfYear "day_of_year" (V) Optional(1), V, false, "Day of the year in UTC, 1 to 366.";
    DaysInMonth "days_in_month" (V) Optional(1), V, false, "Days that the month has, 28 to 31.";
    Deg "deg" (V) Exact, V, false, "Radians to degrees.";
    Delta "delta" (M) Exact, V, false, "How much a gauge changed over the window, extrapolated to its edges.";
    Deriv "deriv" (M) Exact, V, false, "Change of a gauge per second, by linear regression.";
    DoubleExponentialSmoothing "double_exponential_smoothing" (M, S, S) Exact, V, true, "A gauge smoothed with factors for level and trend, both between 0 and 1.";
    End "end" () Exact, S, true, "The end of the query's range, in seconds.";
    Exp "exp" (V) Exact, V, false, "e to the power of the value.";
    FirstOverTime "first_over_time" (M) Exact, V, true, "The oldest sample of the window.";
    Floor "floor" (V) Exact, V, false, "Rounded down to a whole number.";
    HistogramAvg "histogram_avg" (V) Exact, V, false, "The mean of the observations of a native histogram.";
    HistogramCount "histogram_count" (V) Exact, V, false, "How many observations a native histogram has.";
    HistogramFraction "histogram_fraction" (S, S, V) Exact, V, false, "The share of observations between two values.";
    HistogramQuantile "histogram_quantile" (S, V) Exact, V, false, "The value below which this share of observations lies; classic buckets need `le`.";
    HistogramQuantiles "histogram_quantiles" (V, T, S) RepeatUpTo(12), V, true, "Several quantiles at once, told apart by a label.";
    HistogramStddev "histogram_stddev" (V) Exact, V, false, "The estimated standard deviation of the observations of a native histogram.";
    HistogramStdvar "histogram_stdvar" (V) Exact, V, false, "The estimated variance of the observations of a native histogram.";
    HistogramSum "histogram_sum" (V) Exact, V, false, "The sum of the observations of a native histogram.";
    Hour "hour" (V) Optional(1), V, false, "Hour of the day in UTC, 0 to 23.";
    Idelta "idelta" (M) Exact, V, false, "The difference of the last two samples of the window.";
    Increase "increase" (M) Exact, V, false, "How much a counter rose over the window, resets taken into account.";
    Info "info" (V, V) Optional(1), V, true, "Adds labels of info metrics, such as `target_info`, to the series.";
    Irate "irate" (M) Exact, V, false, "Rise of a counter per second between the last two samples of the window.";
    LabelJoin "label_join" (V, T, T, T) Repeat, V, false, "Writes the values of labels, joined by a separator, into a label.";
    LabelReplace "label_replace" (V, T, T, T, T) Exact, V, false, "Writes a label from another one by a regular expression with groups.";
    LastOverTime "last_over_time" (M) Exact, V, false, "The newest sample of the window.";
    Ln "ln" (V) Exact, V, false, "The natural logarithm.";
    Log10 "log10" (V) Exact, V, false, "The decimal logarithm.";
    Log2 "log2" (V) Exact, V, false, "The binary logarithm.";
    MadOverTime "mad_over_time" (M) Exact, V, true, "The median absolute deviation of the window's samples.";
    MaxOf "max_of" (S, S) Exact, S, true, "The greater of two numbers.";
    MaxOverTime "max_over_time" (M) Exact, V, false, "The greatest sample of the window.";
    MinOf "min_of" (S, S) Exact, S, true, "The lesser of two numbers.";
    MinOverTime "min_over_time" (M) Exact, V, false, "The least sample of the window.";
    Minute "minute" (V) Optional(1), V, false, "Minute of the hour in UTC, 0 to 59.";
    Month "month" (V) Optional(1), V, false, "Month of the year in UTC, 1 to 12.";
    Pi "pi" () Exact, S, false, "The number pi.";
    PredictLinear "predict_linear" (M, S) Exact, V, false, "The value of a gauge so many seconds ahead, by linear regression.";
    PresentOverTime "present_over_time" (M) Exact, V, false, "1 for each series with a sample in the window.";
    QuantileOverTime "quantile_over_time" (S, M) Exact, V, false, "A quantile, 0 to 1, of the window's samples.";
    Rad "rad" (V) Exact, V, false, "Degrees to radians.";
    Range "range" () Exact, S, true, "The length of the query's range, in seconds.";
    Rate "rate" (M) Exact, V, false, "Rise of a counter per second, averaged over the window, resets taken into account.";
    Resets "resets" (M) Exact, V, false, "How often a counter started again inside the window.";
    Round "round" (V, S) Optional(1), V, false, "Rounded to the nearest whole number, or to the nearest multiple of the second argument.";
    Scalar "scalar" (V) Exact, S, false, "The value of a vector of one series; NaN when there are none or more.";
    Sgn "sgn" (V) Exact, V, false, "1, 0 or -1 by the sign.";
    Sin "sin" (V) Exact, V, false, "The sine of an angle in radians.";
    Sinh "sinh" (V) Exact, V, false, "The hyperbolic sine.";
    Sort "sort" (V) Exact, V, false, "Series of an instant query from the least value to the greatest.";
    SortByLabel "sort_by_label" (V, T) Repeat, V, true, "Series of an instant query in natural order of labels.";
    SortByLabelDesc "sort_by_label_desc" (V, T) Repeat, V, true, "Series of an instant query in reverse natural order of labels.";
    SortDesc "sort_desc" (V) Exact, V, false, "Series of an instant query from the greatest value to the least.";
    Sqrt "sqrt" (V) Exact, V, false, "The square root.";
    Start "start" () Exact, S, true, "The start of the query's range, in seconds.";
    StartTimestamp "start_timestamp" (V) Exact, V, true, "Since when the counter of a sample has been counting, in seconds; 0 when unknown.";
    StddevOverTime "stddev_over_time" (M) Exact, V, false, "The standard deviation of the window's samples.";
    StdvarOverTime "stdvar_over_time" (M) Exact, V, false, "The variance of the window's samples.";
    Step "step" () Exact, S, true, "The step of the query, in seconds.";
    SumOverTime "sum_over_time" (M) Exact, V, false, "The sum of the window's samples.";
    Tan "tan" (V) Exact, V, false, "The tangent of an angle in radians.";
    Tanh "tanh" (V) Exact, V, false, "The hyperbolic tangent.";
    Time "time" () Exact, S, false, "The time of the step, in seconds since 1970.";
    Timestamp "timestamp" (V) Exact, V, false, "The time of each sample, in seconds since 1970.";
    TsOfFirstOverTime "ts_of_first_over_time" (M) Exact, V, true, "The time of the oldest sample of the window, in seconds.";
    TsOfLastOverTime "ts_of_last_over_time" (M) Exact, V, true, "The time of the newest sample of the window, in seconds.";
    TsOfMaxOverTime "ts_of_max_over_time" (M) Exact, V, true, "The time of the last greatest sample of the window, in seconds.";
    TsOfMinOverTime "ts_of_min_over_time" (M) Exact, V, true, "The time of the last least sample of the window, in seconds.";
    Vector "vector" (S) Exact, V, false, "A number as a vector of one series without labels.";
    Year "year" (V) Optional(1), V, false, "The year in UTC.";
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

    #[track_caller]
    fn check_signature(name: &str, want: &str) {
        assert_eq!(find(name).map(Function::signature).as_deref(), Some(want));
    }

    #[test]
    fn signatures_say_what_may_be_left_out() {
        check_signature("clamp", "clamp(instant vector, scalar, scalar)");
        check_signature("round", "round(instant vector[, scalar])");
        check_signature("label_join", "label_join(instant vector, string, string[, string], …)");
        check_signature("time", "time()");
    }
}
