//! Ad hoc filters: conditions of a reader that hold for every series a dashboard asks for.
//!
//! They come as Grafana writes them into addresses, `job|=|api`, or as a person writes them, `job="api"`.

use promontory_promql::ast::Expr;
use promontory_promql::parser;

/// Filters that one dashboard takes.
const FILTERS_MAX: usize = 50;

/// A condition as PromQL writes it, `job="api"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter(String);

/// Reads the values of an ad hoc variable.
///
/// # Errors
/// The words that are no filter.
pub(crate) fn read(values: &[String]) -> Result<Vec<Filter>, String> {
    let mut out = Vec::new();
    for value in values.iter().map(|v| v.trim()).filter(|v| !v.is_empty()).take(FILTERS_MAX) {
        match value.split('|').collect::<Vec<_>>().as_slice() {
            [key, op @ ("=" | "!=" | "=~" | "!~"), wanted] => {
                // A bar inside of a part has a name of its own in addresses.
                let wanted = wanted.replace("__gfp__", "|").replace('\\', "\\\\").replace('"', "\\\"");
                let text = format!("{}{op}\"{wanted}\"", key.replace("__gfp__", "|"));
                parser::parse_selector(&format!("x{{{text}}}")).map_err(|e| format!("filter {text}: {e}"))?;
                out.push(Filter(text));
            }
            _ => {
                let text = value.trim_start_matches('{').trim_end_matches('}');
                parser::parse_selector(&format!("x{{{text}}}")).map_err(|e| format!("filter {value}: {e}"))?;
                out.push(Filter(text.trim().trim_end_matches(',').to_owned()));
            }
        }
    }
    Ok(out)
}

/// The filters as a person writes them.
pub(crate) fn text(filters: &[Filter]) -> String {
    filters.iter().map(|f| f.0.as_str()).collect::<Vec<_>>().join(", ")
}

/// `expr` with the filters in every selector. What does not parse stays as it is, and fails where it is evaluated.
pub(crate) fn apply(expr: &str, filters: &[Filter]) -> String {
    if filters.is_empty() {
        return expr.to_owned();
    }
    let Ok(parsed) = parser::parse(expr) else { return expr.to_owned() };
    let conditions = text(filters);
    let mut places: Vec<usize> = Vec::new();
    parsed.walk(&mut |e| match e {
        Expr::Vector(v) => places.push(v.span.start as usize),
        Expr::Matrix(m) => places.push(m.selector.span.start as usize),
        _ => {}
    });
    places.sort_unstable();
    places.dedup();
    let mut out = String::with_capacity(expr.len() + places.len() * (conditions.len() + 4));
    let mut done = 0;
    for start in places {
        let rest = &expr[start..];
        let name = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == ':').len();
        let after = rest[name..].trim_start();
        let brace = expr.len() - after.len();
        if let Some(inside) = after.strip_prefix('{') {
            out.push_str(&expr[done..=brace]);
            out.push_str(&conditions);
            if !inside.trim_start().starts_with('}') {
                out.push(',');
            }
            done = brace + 1;
        } else {
            out.push_str(&expr[done..start + name]);
            out.push_str(&format!("{{{conditions}}}"));
            done = start + name;
        }
    }
    out.push_str(&expr[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filters: &[&str], expr: &str, expected: &str) {
        let values: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
        let got = match read(&values) {
            Ok(filters) => apply(expr, &filters),
            Err(e) => e,
        };
        assert_eq!(got, expected);
        if expected != got || !expected.starts_with("filter") {
            parser::parse(&got).unwrap();
        }
    }

    #[test]
    fn every_selector_gets_the_filters() {
        check(&[], "up", "up");
        check(&["job|=|api"], "up", "up{job=\"api\"}");
        check(&["job|=~|a.*", "env=\"x\""], "sum(rate(up{}[5m]))", "sum(rate(up{job=~\"a.*\", env=\"x\"}[5m]))");
        check(
            &["{job!=\"api\"}"],
            "a{b=\"up\"} / on (x) {__name__=\"c\"} offset 5m",
            "a{job!=\"api\",b=\"up\"} / on (x) {job!=\"api\",__name__=\"c\"} offset 5m",
        );
        check(&["a|=|x\"y"], "max_over_time(up [5m:1m])", "max_over_time(up{a=\"x\\\"y\"} [5m:1m])");
        check(&[" "], "up", "up");
    }

    #[test]
    fn what_is_no_filter_is_said() {
        let said = read(&["job=".to_owned()]).unwrap_err();
        assert!(said.starts_with("filter job=: "), "{said}");
    }
}
