//! Functions that change labels or the order of series: `label_replace`, `label_join`, `sort*`.

use std::cmp::Ordering;

use promontory_model::{METRIC_NAME, Regex};

use super::vector::Vector;
use crate::error::QueryError;
use crate::kernels::is_absent;

/// `label_replace(v, dst, replacement, src, regex)`.
pub(crate) fn replace(vector: &mut Vector, [dst, replacement, src, pattern]: [&str; 4]) -> Result<(), QueryError> {
    let regex = Regex::new(pattern)
        .map_err(|_| execution(&format!("invalid regular expression in label_replace(): {pattern}")))?;
    check_name(dst, "destination label name in label_replace()")?;
    for series in &mut vector.series {
        let mut value = String::new();
        if regex.expand(series.labels.get(src).unwrap_or(""), replacement, &mut value) {
            series.labels = series.labels.to_builder().set(dst, &value).build();
            series.drop_name &= dst != METRIC_NAME;
        }
    }
    vector.merge_equal_labels()
}

/// `label_join(v, dst, separator, src…)`.
pub(crate) fn join(vector: &mut Vector, dst: &str, separator: &str, sources: &[&str]) -> Result<(), QueryError> {
    for source in sources {
        check_name(source, "source label name in label_join()")?;
    }
    check_name(dst, "destination label name in label_join()")?;
    for series in &mut vector.series {
        let values: Vec<&str> = sources.iter().map(|s| series.labels.get(s).unwrap_or("")).collect();
        series.labels = series.labels.to_builder().set(dst, &values.join(separator)).build();
        series.drop_name &= dst != METRIC_NAME;
    }
    vector.merge_equal_labels()
}

fn check_name(name: &str, what: &str) -> Result<(), QueryError> {
    if name.is_empty() { Err(execution(&format!("invalid {what}: {name}"))) } else { Ok(()) }
}

/// `sort` or `sort_desc` of a vector with one step: NaN last.
pub(crate) fn by_value(vector: &Vector, descending: bool) -> Vector {
    let mut order: Vec<usize> = (0..vector.len()).filter(|i| !is_absent(vector.row(*i)[0])).collect();
    let value = |i: &usize| vector.row(*i)[0];
    order.sort_by(|a, b| {
        let (a, b) = (value(a), value(b));
        match (a.is_nan(), b.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if descending => b.total_cmp(&a),
            (false, false) => a.total_cmp(&b),
        }
    });
    vector.reordered(&order)
}

/// `sort_by_label` or `sort_by_label_desc`: by these labels in natural order, then by all labels.
pub(crate) fn by_label(vector: &Vector, labels: &[&str], descending: bool) -> Vector {
    let mut order: Vec<usize> = (0..vector.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&vector.series[*a].labels, &vector.series[*b].labels);
        let by_listed = labels.iter().map(|l| natural(a.get(l).unwrap_or(""), b.get(l).unwrap_or("")));
        let ascending = by_listed.fold(Ordering::Equal, Ordering::then).then_with(|| a.cmp(b));
        if descending { ascending.reverse() } else { ascending }
    });
    vector.reordered(&order)
}

/// Compares texts with their runs of digits as numbers: `a2` before `a10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let ((x, rest_a), (y, rest_b)) = (first_run(a), first_run(b));
        let digits = |s: &str| s.as_bytes().first().is_some_and(u8::is_ascii_digit);
        let order = if digits(x) && digits(y) {
            let (m, n) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            m.len().cmp(&n.len()).then_with(|| m.cmp(n)).then_with(|| x.len().cmp(&y.len()))
        } else {
            x.cmp(y)
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// Splits off the longest start that is all digits or has none.
fn first_run(s: &str) -> (&str, &str) {
    let digits = s.as_bytes()[0].is_ascii_digit();
    let end = s.bytes().position(|b| b.is_ascii_digit() != digits).unwrap_or(s.len());
    s.split_at(end)
}

fn execution(message: &str) -> QueryError {
    QueryError::Execution { message: message.to_owned(), span: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_sort_as_numbers() {
        let mut texts = ["4m1000", "4m600", "4m5", "10", "2", "1.111.3", "1.2.3", "1.11.3", ""];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["", "1.2.3", "1.11.3", "1.111.3", "2", "4m5", "4m600", "4m1000", "10"]);
    }
}
