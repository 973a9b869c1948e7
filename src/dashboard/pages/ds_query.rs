//! `POST /api/ds/query`: queries and their answers as Grafana's own pages and tools exchange them, in frames of JSON.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::dashboard::frame::{Field, Frame, NO_TIME, Values};
use crate::dashboard::json::{at, integer, list, scalar_text, text};
use crate::dashboard::load::load;
use crate::dashboard::query::{PanelData, QueryContext, run};
use crate::dashboard::state::Dashboards;
use crate::dashboard::timerange::Window;
use crate::dashboard::variables::Variables;

use super::list::json_response;

/// Queries of one request.
const QUERIES_MAX: usize = 100;
/// Points of a series when the request does not say, as in Grafana.
const POINTS: i64 = 100;

fn refused(message: &str) -> Response {
    json_response(StatusCode::BAD_REQUEST, &json!({"message": message}))
}

/// `POST /api/ds/query`.
pub(super) async fn query(State(state): State<Dashboards>, body: Bytes) -> Response {
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(e) => return refused(&format!("the body is not JSON: {e}")),
    };
    let queries = list(&body, "queries");
    if queries.is_empty() || queries.len() > QUERIES_MAX {
        return refused(&format!("{} queries; there may be 1 to {QUERIES_MAX}", queries.len()));
    }
    // The queries are those of a panel that is drawn elsewhere.
    let first = &queries[0];
    let panel = json!({
        "type": "timeseries", "targets": queries, "maxDataPoints": integer(first, "maxDataPoints").unwrap_or(POINTS),
        "interval": integer(first, "intervalMs").map(|ms| format!("{ms}ms")).unwrap_or_default(),
    });
    let Ok(dashboard) = load(&json!({"panels": [panel]}).to_string(), "query") else {
        return refused("the queries cannot be read");
    };
    if let Some(kind) = dashboard.panels().find_map(|p| p.foreign_source.clone()) {
        return refused(&format!("the data source {kind:?} is not ours; use type prometheus"));
    }
    let deadline = state.0.deadline();
    let (inner, cancel) = (state.0.clone(), deadline.cancel.clone());
    let bound = |name: &str, default: &str| at(&body, name).and_then(scalar_text).unwrap_or_else(|| default.to_owned());
    let (from, to) = (bound("from", "now-1h"), bound("to", "now"));
    let work = move || {
        let now_ms = inner.now_ms();
        let context = QueryContext {
            source: inner.source.as_ref(),
            variables: &Variables::default(),
            scoped: &[],
            window: &Window::new(&from, &to, now_ms, &TimeZone::UTC),
            tz: &TimeZone::UTC,
            now_ms,
            width_px: POINTS,
            scrape_interval_ms: inner.settings.scrape_interval_ms(),
            cancel: &cancel,
        };
        dashboard.panels().next().map(|panel| run(panel, &context)).unwrap_or_default()
    };
    match state.0.run(work).await {
        Ok(data) => {
            let status = if data.errors.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            json_response(status, &answer(queries, &data))
        }
        Err(e) => json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({"message": e.to_string()})),
    }
}

/// The answer of every query by its `refId`.
fn answer(queries: &[Value], data: &PanelData) -> Value {
    let mut results = Map::new();
    for (i, query) in queries.iter().enumerate() {
        let letter = || char::from(b'A' + u8::try_from(i % 26).unwrap_or(0)).to_string();
        let id = text(query, "refId").filter(|id| !id.is_empty()).map_or_else(letter, str::to_owned);
        let result = match data.errors.iter().find(|(failed, _)| *failed == id) {
            Some((_, error)) => json!({"error": error, "errorSource": "downstream", "status": 400}),
            None => {
                let executed = data.queries.iter().find(|(run, ..)| *run == id).map(|(_, expr, _)| expr.as_str());
                let own = data.frames.iter().filter(|f| f.ref_id == id);
                json!({"status": 200, "frames": own.map(|f| frame_json(f, executed)).collect::<Vec<_>>()})
            }
        };
        results.insert(id, result);
    }
    json!({"results": results})
}

fn frame_json(frame: &Frame, executed: Option<&str>) -> Value {
    // Moments at which a series has no sample are left out.
    let is_series = frame.fields.len() == 2 && frame.fields[0].is_time() && frame.fields[1].is_number();
    let rows: Vec<usize> = match frame.fields.get(1).and_then(Field::numbers) {
        Some(numbers) if is_series => {
            (0..frame.len()).filter(|i| numbers.get(*i).is_some_and(Option::is_some)).collect()
        }
        _ => (0..frame.len()).collect(),
    };
    let columns: Vec<(Vec<Value>, Value)> = frame.fields.iter().map(|f| column(f, &rows)).collect();
    let fields: Vec<Value> = frame.fields.iter().map(field_json).collect();
    let kind = if is_series { "timeseries-multi" } else { "table" };
    let mut meta = json!({"type": kind});
    if let Some(expr) = executed {
        meta["executedQueryString"] = json!(format!("Expr: {expr}"));
    }
    let mut data = json!({"values": columns.iter().map(|(values, _)| values).collect::<Vec<_>>()});
    if columns.iter().any(|(_, odd)| !odd.is_null()) {
        data["entities"] = columns.iter().map(|(_, odd)| odd.clone()).collect();
    }
    json!({"schema": {"refId": frame.ref_id, "meta": meta, "fields": fields}, "data": data})
}

fn field_json(field: &Field) -> Value {
    let (kind, info) = match field.values {
        Values::Time(_) => ("time", "time.Time"),
        Values::Number(_) | Values::Trend(_) => ("number", "float64"),
        Values::Text(_) => ("string", "string"),
    };
    let mut out = json!({"name": field.name, "type": kind, "typeInfo": {"frame": info, "nullable": kind != "time"}});
    if !field.labels.is_empty() {
        out["labels"] = Value::Object(field.labels.iter().map(|(n, v)| (n.to_owned(), json!(v))).collect());
    }
    if !field.display.is_empty() && field.display != field.name {
        out["config"] = json!({"displayNameFromDS": field.display});
    }
    out
}

/// The chosen rows of a column, and the places of the numbers that JSON has no word for.
fn column(field: &Field, rows: &[usize]) -> (Vec<Value>, Value) {
    let mut odd: [(&str, Vec<usize>); 3] = [("NaN", Vec::new()), ("Inf", Vec::new()), ("NegInf", Vec::new())];
    let mut values = Vec::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        values.push(match &field.values {
            Values::Number(all) => match all.get(*row).copied().flatten() {
                Some(v) if v.is_finite() => json!(v),
                Some(v) => {
                    odd[if v.is_nan() { 0 } else { 1 + usize::from(v < 0.0) }].1.push(place);
                    Value::Null
                }
                None => Value::Null,
            },
            Values::Time(all) => json!(all.get(*row).filter(|t| **t != NO_TIME)),
            _ => json!(field.cell(*row)),
        });
    }
    let odd: Map<String, Value> =
        odd.into_iter().filter(|(_, at)| !at.is_empty()).map(|(name, at)| (name.to_owned(), json!(at))).collect();
    (values, if odd.is_empty() { Value::Null } else { Value::Object(odd) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use promontory_model::Labels;

    use super::*;

    fn series(values: Vec<Option<f64>>) -> Frame {
        let times: Vec<i64> = (0..values.len() as i64).map(|i| i * 1000).collect();
        let mut value = Field::new("Value", Values::Number(values));
        value.labels = Labels::from_pairs([("job", "a")]);
        value.display = "job a".to_owned();
        Frame { ref_id: "A".to_owned(), fields: vec![Field::new("Time", Values::Time(Arc::from(times))), value] }
    }

    #[track_caller]
    fn check(data: &PanelData, expected: Value) {
        assert_eq!(answer(&[json!({"refId": "A", "expr": "up"})], data), expected);
    }

    #[test]
    fn series_are_frames_without_the_moments_that_have_no_sample() {
        let data = PanelData {
            frames: vec![series(vec![Some(1.5), None, Some(f64::NAN), Some(f64::NEG_INFINITY)])],
            queries: vec![("A".to_owned(), "up".to_owned(), "once".to_owned())],
            ..PanelData::default()
        };
        let fields = json!([
            {"name": "Time", "type": "time", "typeInfo": {"frame": "time.Time", "nullable": false}},
            {"name": "Value", "type": "number", "typeInfo": {"frame": "float64", "nullable": true},
             "labels": {"job": "a"}, "config": {"displayNameFromDS": "job a"}},
        ]);
        let schema = json!({
            "refId": "A", "meta": {"type": "timeseries-multi", "executedQueryString": "Expr: up"}, "fields": fields,
        });
        let values = json!([[0, 2000, 3000], [1.5, null, null]]);
        let frame = json!({
            "schema": schema, "data": {"values": values, "entities": [null, {"NaN": [1], "NegInf": [2]}]},
        });
        check(&data, json!({"results": {"A": {"status": 200, "frames": [frame]}}}));
    }

    #[test]
    fn a_query_that_fails_says_why() {
        let data = PanelData { errors: vec![("A".to_owned(), "no such thing".to_owned())], ..PanelData::default() };
        let failed = json!({"error": "no such thing", "errorSource": "downstream", "status": 400});
        check(&data, json!({"results": {"A": failed}}));
    }
}
