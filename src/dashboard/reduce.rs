//! Calculations that turn a series into one number: `lastNotNull`, `mean`, `max`, `delta`, `p95`, ….
//!
//! # Source
//! Grafana's field reducers. A value is `None` for null; NaN is a value that most calculations skip.

/// The result of a calculation; `None` when there is nothing to say.
pub(crate) type Reduced = Option<f64>;

/// The title of a calculation in legends and tables.
pub(crate) fn title(calc: &str) -> &str {
    match calc {
        "lastNotNull" | "current" => "Last *",
        "last" => "Last",
        "firstNotNull" => "First *",
        "first" => "First",
        "min" => "Min",
        "max" => "Max",
        "mean" | "avg" => "Mean",
        "median" => "Median",
        "variance" => "Variance",
        "stdDev" => "StdDev",
        "sum" | "total" => "Total",
        "count" => "Count",
        "countAll" => "Count all",
        "range" => "Range",
        "delta" => "Delta",
        "step" => "Step",
        "diff" => "Difference",
        "diffperc" => "Difference percent",
        "logmin" => "Min (above zero)",
        "allIsZero" => "All zeros",
        "allIsNull" => "All nulls",
        "changeCount" => "Change count",
        "distinctCount" => "Distinct count",
        other => other,
    }
}

/// Whether the result counts samples, so that the series' unit does not apply.
pub(crate) fn is_unitless(calc: &str) -> bool {
    matches!(calc, "count" | "countAll" | "changeCount" | "distinctCount")
}

/// Runs `calc` over `values`.
pub(crate) fn reduce(calc: &str, values: &[Option<f64>]) -> Reduced {
    let usable = || values.iter().flatten().copied().filter(|v| !v.is_nan());
    let pairs = || {
        let all: Vec<f64> = usable().collect();
        all.windows(2).map(|w| (w[0], w[1])).collect::<Vec<_>>()
    };
    match calc {
        "lastNotNull" | "current" => usable().next_back(),
        "firstNotNull" => usable().next(),
        "last" => values.last().copied().flatten(),
        "first" => values.first().copied().flatten(),
        "min" => usable().reduce(f64::min),
        "max" => usable().reduce(f64::max),
        "mean" | "avg" => {
            let n = usable().count();
            (n > 0).then(|| usable().sum::<f64>() / n as f64)
        }
        "sum" | "total" => Some(usable().sum()),
        "count" => Some(values.iter().flatten().count() as f64),
        "countAll" => Some(values.len() as f64),
        "range" => Some(usable().reduce(f64::max)? - usable().reduce(f64::min)?),
        "diff" => Some(usable().next_back()? - usable().next()?),
        "diffperc" => {
            let Some(first) = usable().next() else { return Some(0.0) };
            Some((usable().next_back()? - first) / first * 100.0)
        }
        "delta" => Some(delta(&pairs())),
        "step" => pairs().iter().map(|(a, b)| b - a).reduce(f64::min),
        "logmin" => usable().filter(|v| *v > 0.0).reduce(f64::min),
        "allIsZero" => Some(f64::from(u8::from(usable().count() > 0 && usable().all(|v| v == 0.0)))),
        "allIsNull" => Some(f64::from(u8::from(usable().count() == 0))),
        "changeCount" => Some(pairs().iter().filter(|(a, b)| a != b).count() as f64),
        "distinctCount" => {
            let mut bits: Vec<u64> = usable().map(f64::to_bits).collect();
            bits.sort_unstable();
            bits.dedup();
            Some(bits.len() as f64)
        }
        "median" => quantile(&sorted(usable()), 0.5),
        "variance" => variance(usable()),
        "stdDev" => variance(usable()).map(f64::sqrt),
        _ => match calc.strip_prefix('p').and_then(|p| p.parse::<f64>().ok()) {
            Some(p) => {
                let all = sorted(usable());
                all.get(((all.len().saturating_sub(1)) as f64 * p / 100.0).round() as usize).copied()
            }
            None => values.last().copied().flatten(),
        },
    }
}

/// Sum of rises, without the first rise after a fall: a counter that began anew counts from its next sample.
fn delta(pairs: &[(f64, f64)]) -> f64 {
    let mut sum = 0.0;
    let mut rising = true;
    for &(a, b) in pairs {
        if b > a {
            sum += if rising { b - a } else { 0.0 };
            rising = true;
        } else if b < a {
            rising = false;
        }
    }
    sum
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_unstable_by(f64::total_cmp);
    all
}

fn quantile(sorted: &[f64], q: f64) -> Reduced {
    let position = (sorted.len().checked_sub(1)?) as f64 * q;
    let (low, high) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    Some((low + high) / 2.0)
}

fn variance(values: impl Iterator<Item = f64> + Clone) -> Reduced {
    let n = values.clone().count();
    if n == 0 {
        return None;
    }
    let mean = values.clone().sum::<f64>() / n as f64;
    Some(values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::oracle;

    #[test]
    fn reducers_agree_with_the_oracle() {
        let Some(text) = oracle::read("reducers.tsv") else { return };
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap().split('\t').collect();
        let mut wrong = Vec::new();
        let mut n = 0;
        for line in lines {
            let cells: Vec<&str> = line.split('\t').collect();
            let values: Vec<Option<f64>> = cells[1]
                .trim_matches(['[', ']'])
                .split(',')
                .filter(|v| !v.is_empty())
                .map(|v| if v == "null" { None } else { Some(v.trim_matches('"').parse().unwrap()) })
                .collect();
            // The median, variance and percentiles of a series with nulls or NaN are NaN there; we skip the nulls.
            let holes = values.iter().any(|v| v.is_none_or(f64::is_nan));
            for (name, expected) in names.iter().zip(&cells).skip(2) {
                let by_sort = matches!(*name, "median" | "variance" | "stdDev" | "p50" | "p90" | "p95" | "p99");
                if name.ends_with("Values")
                    || values.is_empty()
                    || (holes && (by_sort || name.starts_with("all") || name.ends_with("Count") || *name == "logmin"))
                {
                    continue;
                }
                let expected = match *expected {
                    "null" | "" | "NaN" => None,
                    "true" => Some(1.0),
                    "false" => Some(0.0),
                    "1.7976931348623157e+308" => continue,
                    other => Some(other.parse().unwrap()),
                };
                n += 1;
                let got = reduce(name, &values).filter(|v| !v.is_nan());
                let same = match (got, expected) {
                    (Some(a), Some(b)) => (a - b).abs() < 1e-9,
                    (a, b) => a == b,
                };
                if !same {
                    wrong.push(format!("{name}({}) = {got:?}, expected {expected:?}", cells[1]));
                }
            }
        }
        eprintln!("reducers: {n} compared, {} differ", wrong.len());
        assert!(wrong.is_empty(), "{n} compared: {wrong:#?}");
    }
}
