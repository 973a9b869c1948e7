//! `/query_exemplars`: the exemplars of the series that a query selects.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use promontory_model::{Matcher, TimeRange, Timestamp};
use promontory_promql::ast::Expr;
use promontory_promql::parser;

use super::answer::{ApiError, Remarks, success};
use super::backend::SeriesExemplars;
use super::params::Params;
use super::{Http, json};

/// `/api/v1/query_exemplars`. A query without a selector has no answer, not even an empty one.
pub(crate) async fn query(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let mint = params.time("start")?.map_or(Timestamp::MIN, Timestamp);
    let maxt = params.time("end")?.map_or(Timestamp::MAX, Timestamp);
    if maxt < mint {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr = parser::parse(params.query()?).map_err(|e| ApiError::bad_data(e.to_string()))?;
    let selectors = selectors(&expr);
    if selectors.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let ran = http
        .run(http.options.query_timeout.ms(), {
            let backend = http.backend.clone();
            move |_| Ok(backend.exemplars(&selectors, TimeRange { mint, maxt }))
        })
        .await?;
    Ok(success(&Remarks::default(), |out| push(out, &ran.value)))
}

/// The matchers of every selector of an expression.
fn selectors(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut out = Vec::new();
    expr.walk(&mut |e| match e {
        Expr::Vector(selector) => out.push(selector.matchers.clone()),
        Expr::Matrix(matrix) => out.push(matrix.selector.matchers.clone()),
        _ => {}
    });
    out
}

fn push(out: &mut Vec<u8>, all: &[SeriesExemplars]) {
    out.push(b'[');
    for (i, series) in all.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",{\"seriesLabels\":" } else { b"{\"seriesLabels\":" });
        json::push_labels(out, &series.labels);
        out.extend_from_slice(b",\"exemplars\":[");
        for (i, exemplar) in series.exemplars.iter().enumerate() {
            out.extend_from_slice(if i > 0 { b",{\"labels\":" } else { b"{\"labels\":" });
            json::push_labels(out, &exemplar.labels);
            out.extend_from_slice(b",\"value\":\"");
            json::push_float(out, exemplar.value);
            out.extend_from_slice(b"\",\"timestamp\":");
            json::push_time(out, exemplar.t_ms);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
}
