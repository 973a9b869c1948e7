//! Transformations between queries and panel.
//!
//! # Source
//! Names of columns after joins and the order of rows follow Grafana. What is not known here is left out and said.

mod calculate;
mod join;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde_json::Value;

use super::frame::{Field, Frame, NO_TIME, Values};
use super::json::{at, flag, list, number, string, strings, text};
use super::model::Panel;
use super::pattern::Pattern;
use super::query::PanelData;
use super::units::js_number;

/// Rows of a table that a transformation makes.
const ROWS_MAX: usize = 20_000;

/// Transformations that are applied; anything else is said in the panel's notices.
pub(crate) const APPLIED: [&str; 24] = [
    "organize",
    "merge",
    "joinByField",
    "seriesToColumns",
    "joinByLabels",
    "groupBy",
    "calculateField",
    "filterFieldsByName",
    "filterByValue",
    "filterByRefId",
    "reduce",
    "labelsToFields",
    "sortBy",
    "renameByRegex",
    "seriesToRows",
    "timeSeriesTable",
    "transpose",
    "limit",
    "concatenate",
    "convertFieldType",
    "formatTime",
    "configFromData",
    "prepareTimeSeries",
    "groupToNestedTable",
];

/// Runs the panel's transformations on its frames, in order.
pub(crate) fn apply(panel: &Panel, data: &mut PanelData, interpolate: &dyn Fn(&str) -> String) {
    for transformation in panel.transformations.iter().filter(|t| flag(t, "disabled") != Some(true)) {
        if text(transformation, "topic") == Some("annotations") {
            continue;
        }
        let mut options = at(transformation, "options").cloned().unwrap_or(Value::Null);
        super::json::map_strings(&mut options, &mut |s| s.contains('$').then(|| interpolate(s)));
        let frames = std::mem::take(&mut data.frames);
        let (taken, kept) = match text(transformation, "filter.options") {
            None => (frames, Vec::new()),
            Some(pattern) => {
                let pattern = Pattern::new(pattern).ok();
                frames.into_iter().partition(|f| pattern.as_ref().is_none_or(|p| p.is_match(&f.ref_id)))
            }
        };
        let id = text(transformation, "id").unwrap_or("");
        if !APPLIED.contains(&id) {
            data.notices.push(format!("transformation {id:?} is not applied"));
        }
        data.frames = one(id, taken, &options);
        data.frames.extend(kept);
    }
}

fn one(id: &str, frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let each = |f: &dyn Fn(Frame, &Value) -> Frame, frames: Vec<Frame>| -> Vec<Frame> {
        frames.into_iter().map(|frame| f(frame, options)).collect()
    };
    match id {
        "organize" => each(&organize, frames),
        "merge" => join::merge(frames),
        "joinByField" | "seriesToColumns" => join::join(frames, options),
        "joinByLabels" => shape::join_by_labels(frames, options),
        "concatenate" => join::concatenate(frames),
        "filterFieldsByName" => each(&filter_fields, frames),
        "filterByValue" => each(&filter_rows, frames),
        "filterByRefId" => filter_frames(frames, options),
        "renameByRegex" => each(&rename, frames),
        "sortBy" => each(&sort, frames),
        "limit" => each(&limit, frames),
        "groupBy" => calculate::group(frames, options),
        "reduce" => calculate::reduced(frames, options),
        "calculateField" => calculate::calculate(frames, options),
        "configFromData" => calculate::config_from_data(frames, options),
        "labelsToFields" => shape::labels_to_fields(frames, options),
        "seriesToRows" => shape::series_to_rows(frames),
        "timeSeriesTable" => shape::time_series_table(frames),
        "transpose" => each(&shape::transpose, frames),
        "convertFieldType" => each(&shape::convert, frames),
        "formatTime" => each(&shape::format_time, frames),
        // Series are kept one frame each, which is what these ask for.
        _ => frames,
    }
}

fn organize(mut frame: Frame, options: &Value) -> Frame {
    let member = |key: &str, name: &str| options.get(key).and_then(|o| o.get(name)).cloned();
    let has_includes = options.get("includeByName").and_then(Value::as_object).is_some_and(|o| !o.is_empty());
    frame.fields.retain(|f| {
        let name = f.shown();
        let included = !has_includes || member("includeByName", name) == Some(Value::Bool(true));
        included && member("excludeByName", name) != Some(Value::Bool(true))
    });
    frame.fields.sort_by_key(|f| member("indexByName", f.shown()).and_then(|v| v.as_i64()).unwrap_or(i64::MAX));
    for field in &mut frame.fields {
        if let Some(Value::String(new)) = member("renameByName", field.shown())
            && !new.is_empty()
        {
            field.display = new;
        }
    }
    frame
}

/// A cell as a key that compares across columns.
fn key(field: &Field, row: usize) -> Option<String> {
    match &field.values {
        Values::Time(all) => all.get(row).filter(|t| **t != NO_TIME).map(|t| format!("t{t}")),
        Values::Number(all) => all.get(row).copied().flatten().map(|v| format!("n{}", js_number(v))),
        Values::Text(all) => all.get(row).cloned().flatten().map(|s| format!("s{s}")),
        Values::Trend(_) => None,
    }
}

/// An empty column of the same type.
fn like(field: &Field) -> Values {
    match field.values {
        Values::Time(_) => Values::Time(std::sync::Arc::from([])),
        Values::Number(_) => Values::Number(Vec::new()),
        Values::Text(_) => Values::Text(Vec::new()),
        Values::Trend(_) => Values::Trend(Vec::new()),
    }
}

/// A column of the cells at `rows`; `None` is an empty cell.
fn gather(field: &Field, rows: &[Option<usize>]) -> Values {
    match &field.values {
        Values::Time(all) => {
            Values::Time(rows.iter().map(|r| r.and_then(|r| all.get(r)).copied().unwrap_or(NO_TIME)).collect())
        }
        Values::Number(all) => {
            Values::Number(rows.iter().map(|r| r.and_then(|r| all.get(r)).copied().flatten()).collect())
        }
        Values::Text(all) => Values::Text(rows.iter().map(|r| r.and_then(|r| all.get(r)).cloned().flatten()).collect()),
        Values::Trend(all) => {
            Values::Trend(rows.iter().map(|r| r.and_then(|r| all.get(r)).cloned().flatten()).collect())
        }
    }
}

/// The rows of `frame` in this order.
fn pick_rows(mut frame: Frame, rows: impl Iterator<Item = usize>) -> Frame {
    let rows: Vec<Option<usize>> = rows.map(Some).collect();
    for field in &mut frame.fields {
        field.values = gather(field, &rows);
    }
    frame
}

fn filter_fields(mut frame: Frame, options: &Value) -> Frame {
    let matches = |side: &str, field: &Field| {
        let names = strings(options, &format!("{side}.names"));
        let pattern = string(options, &format!("{side}.pattern"));
        let by_pattern = !pattern.is_empty() && Pattern::new(&pattern).is_ok_and(|r| r.is_match(field.shown()));
        let is_set = !names.is_empty() || !pattern.is_empty();
        is_set.then(|| by_pattern || names.iter().any(|n| n == field.shown()))
    };
    frame.fields.retain(|f| matches("include", f) != Some(false) && matches("exclude", f) != Some(true));
    frame
}

/// Keeps or drops rows by the values of columns.
fn filter_rows(frame: Frame, options: &Value) -> Frame {
    let filters: Vec<(&Field, &Value)> = list(options, "filters")
        .iter()
        .filter_map(|f| {
            let name = text(f, "fieldName")?;
            Some((frame.fields.iter().find(|field| field.shown() == name || field.name == name)?, f))
        })
        .collect();
    if filters.is_empty() {
        return frame;
    }
    let is_all = text(options, "match") == Some("all");
    let is_exclude = text(options, "type") == Some("exclude");
    let hits: HashSet<usize> = (0..frame.len())
        .filter(|row| {
            let mut tests = filters.iter().map(|(field, f)| passes(field, *row, f));
            if is_all { tests.all(|t| t) } else { tests.any(|t| t) }
        })
        .collect();
    let rows: Vec<usize> = (0..frame.len()).filter(|r| hits.contains(r) != is_exclude).collect();
    pick_rows(frame, rows.into_iter())
}

fn passes(field: &Field, row: usize, filter: &Value) -> bool {
    let limit = |name: &str| number(filter, &format!("config.options.{name}"));
    let wanted = at(filter, "config.options.value").and_then(super::json::scalar_text).unwrap_or_default();
    let v = match &field.values {
        Values::Number(all) => all[row],
        Values::Time(all) => Some(all[row] as f64),
        Values::Text(_) | Values::Trend(_) => field.cell(row).and_then(|s| s.parse().ok()),
    };
    let against = |test: &dyn Fn(f64, f64) -> bool| v.zip(limit("value")).is_some_and(|(v, l)| test(v, l));
    let cell = || field.cell(row).unwrap_or_default();
    match text(filter, "config.id").unwrap_or("") {
        "greater" => against(&|v, l| v > l),
        "greaterOrEqual" => against(&|v, l| v >= l),
        "lower" => against(&|v, l| v < l),
        "lowerOrEqual" => against(&|v, l| v <= l),
        "between" => v.is_some_and(|v| limit("from").is_none_or(|l| v >= l) && limit("to").is_none_or(|l| v <= l)),
        "equal" => cell() == wanted,
        "notEqual" => cell() != wanted,
        "isNull" => field.cell(row).is_none(),
        "isNotNull" => field.cell(row).is_some(),
        "substring" => cell().to_lowercase().contains(&wanted.to_lowercase()),
        "notSubstring" => !cell().to_lowercase().contains(&wanted.to_lowercase()),
        "regex" => regex::Regex::new(&wanted).is_ok_and(|r| r.is_match(&cell())),
        _ => true,
    }
}

fn filter_frames(mut frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    if let Some(Ok(include)) = text(options, "include").filter(|p| !p.is_empty()).map(Pattern::new) {
        frames.retain(|f| include.is_match(&f.ref_id));
    }
    if let Some(Ok(exclude)) = text(options, "exclude").filter(|p| !p.is_empty()).map(Pattern::new) {
        frames.retain(|f| !exclude.is_match(&f.ref_id));
    }
    frames
}

fn rename(mut frame: Frame, options: &Value) -> Frame {
    // Unlike elsewhere the pattern is not anchored.
    let pattern = string(options, "regex");
    let pattern = if pattern.starts_with('/') { pattern } else { format!("/{}/", pattern.replace('/', "\\/")) };
    let Ok(pattern) = Pattern::new(&pattern) else { return frame };
    let template = js_template(&string(options, "renamePattern"));
    for field in frame.fields.iter_mut().filter(|f| !f.is_time()) {
        field.display = pattern.replace(field.shown(), template.as_str()).into_owned();
    }
    frame
}

/// `$1` as the regex crate writes it, so that letters after it do not belong to the name.
fn js_template(template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            out.push_str("$$");
            continue;
        }
        out.push_str(&format!("${{{}}}", &rest[..digits]));
        rest = &rest[digits..];
    }
    out + rest
}

fn sort(frame: Frame, options: &Value) -> Frame {
    let Some(rule) = list(options, "sort").first() else { return frame };
    let name = string(rule, "field");
    let Some(column) = frame.fields.iter().find(|f| f.shown() == name) else { return frame };
    let mut rows: Vec<usize> = (0..frame.len()).collect();
    rows.sort_by(|a, b| super::panels::table::compare(column, *a, *b));
    if flag(rule, "desc") == Some(true) {
        rows.reverse();
    }
    pick_rows(frame, rows.into_iter())
}

fn limit(frame: Frame, options: &Value) -> Frame {
    let n = number(options, "limitField").unwrap_or(10.0).clamp(0.0, 1e6) as usize;
    let n = n.min(frame.len());
    pick_rows(frame, 0..n)
}
