//! `/api/v1/features`: what the server can do, by category.
//!
//! # Source
//! The names are those of Prometheus 3.14, so that clients that look for one find it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use promontory_promql::functions::FUNCTIONS;
use serde_json::json;

use super::Http;
use super::answer::success_value;

/// Whether each feature of a category is there.
pub type Features = BTreeMap<&'static str, BTreeMap<String, bool>>;

const API: [&str; 8] = [
    "exclude_alerts",
    "label_values_match",
    "openapi_3.1",
    "openapi_3.2",
    "query_stats",
    "query_warnings",
    "time_range_labels",
    "time_range_series",
];

const PROMQL: [&str; 18] = [
    "anchored",
    "at_modifier",
    "bool",
    "by",
    "duration_expr",
    "fill",
    "fill_left",
    "fill_right",
    "group_left",
    "group_right",
    "ignoring",
    "negative_offset",
    "offset",
    "on",
    "per_query_lookback_delta",
    "smoothed",
    "subqueries",
    "without",
];
const PROMQL_NOT: [&str; 3] = ["delayed_name_removal", "per_step_stats", "type_and_unit_labels"];

const OPERATORS: [&str; 35] = [
    "!=",
    "!~",
    "%",
    "*",
    "+",
    "-",
    "/",
    "<",
    "</",
    "<=",
    "==",
    "=~",
    ">",
    ">/",
    ">=",
    "@",
    "^",
    "and",
    "atan2",
    "avg",
    "bottomk",
    "count",
    "count_values",
    "group",
    "limit_ratio",
    "limitk",
    "max",
    "min",
    "or",
    "quantile",
    "stddev",
    "stdvar",
    "sum",
    "topk",
    "unless",
];

/// `/api/v1/features`
pub(crate) async fn features(State(http): State<Arc<Http>>) -> Response {
    let mut all = http.backend.features();
    let mut add = |category: &'static str, names: &[&str], is_there: bool| {
        all.entry(category).or_default().extend(names.iter().map(|name| ((*name).to_owned(), is_there)));
    };
    add("api", &API, true);
    add("api", &["admin"], http.admin.is_some());
    add("api", &["lifecycle"], http.options.enable_lifecycle);
    add("api", &["search"], http.options.enable_search);
    add("promql", &PROMQL, true);
    add("promql", &PROMQL_NOT, false);
    add("promql_operators", &OPERATORS, true);
    let functions: Vec<&str> = FUNCTIONS.iter().map(|f| f.name).collect();
    add("promql_functions", &functions, true);
    success_value(&json!(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_those_of_the_language() {
        for operator in OPERATORS {
            let query = match operator {
                "@" => "x @ 1".to_owned(),
                "=~" | "!~" => format!("x{{a{operator}\"b\"}}"),
                "topk" | "bottomk" | "limitk" | "limit_ratio" | "quantile" => format!("{operator}(0.5, x)"),
                "count_values" => "count_values(\"v\", x)".to_owned(),
                name if name.len() > 2
                    && name.chars().all(char::is_alphabetic)
                    && !["and", "unless"].contains(&name) =>
                {
                    format!("{name}(x)")
                }
                operator => format!("x {operator} y"),
            };
            assert!(promontory_promql::parser::parse(&query).is_ok(), "{query}");
        }
    }
}
