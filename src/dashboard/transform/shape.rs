//! Frames of another shape: labels as columns, series as rows, rows as columns, columns of another type.

use std::sync::Arc;

use jiff::tz::TimeZone;
use promontory_model::Labels;
use serde_json::Value;

use crate::dashboard::frame::{Field, Frame, NO_TIME, Trend, Values};
use crate::dashboard::json::{list, string, strings, text};
use crate::dashboard::units::Unit;

use super::calculate::{label_names, without};
use super::{ROWS_MAX, gather, join};

/// Labels become columns beside the values, or rows of label and value.
pub(super) fn labels_to_fields(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let keep = strings(options, "keepLabels");
    let is_kept = |name: &str| keep.is_empty() || keep.iter().any(|k| k == name);
    if text(options, "mode") == Some("rows") {
        return frames.into_iter().flat_map(|f| label_rows(&f, &is_kept)).collect();
    }
    let value_label = string(options, "valueLabel");
    frames.into_iter().map(|f| label_columns(f, &is_kept, &value_label)).collect()
}

fn label_columns(frame: Frame, is_kept: &dyn Fn(&str) -> bool, value_label: &str) -> Frame {
    let n = frame.len();
    let mut out: Vec<Field> = Vec::new();
    let mut columns: Vec<(String, String)> = Vec::new();
    for mut field in frame.fields {
        for (name, value) in field.labels.iter().filter(|(name, _)| is_kept(name) && *name != value_label) {
            if !columns.iter().any(|(known, _)| known == name) {
                columns.push((name.to_owned(), value.to_owned()));
            }
        }
        if let Some(name) = field.labels.get(value_label).filter(|v| !v.is_empty()) {
            (field.name, field.display) = (name.to_owned(), name.to_owned());
        }
        field.labels = Labels::empty();
        out.push(field);
    }
    let rows = |value: String| Values::Text(vec![Some(value); n]);
    out.extend(columns.into_iter().map(|(name, value)| Field::new(&name, rows(value))));
    Frame { ref_id: frame.ref_id, fields: out }
}

fn label_rows(frame: &Frame, is_kept: &dyn Fn(&str) -> bool) -> Vec<Frame> {
    let one = |field: &Field| {
        let (names, values): (Vec<_>, Vec<_>) = field
            .labels
            .iter()
            .filter(|(n, _)| is_kept(n))
            .map(|(n, v)| (Some(n.to_owned()), Some(v.to_owned())))
            .unzip();
        let fields = vec![Field::new("label", Values::Text(names)), Field::new("value", Values::Text(values))];
        Frame { ref_id: frame.ref_id.clone(), fields }
    };
    frame.fields.iter().filter(|f| f.is_number()).map(one).collect()
}

/// One table of all samples: time, name of the series, value; the newest first.
pub(super) fn series_to_rows(frames: Vec<Frame>) -> Vec<Frame> {
    let Some(ref_id) = frames.first().map(|f| f.ref_id.clone()) else { return frames };
    let mut rows: Vec<(i64, String, Option<f64>)> = Vec::new();
    for frame in &frames {
        let Some(times) = frame.times() else { continue };
        for field in &frame.fields {
            let Some(values) = field.numbers() else { continue };
            let name = field.shown();
            rows.extend(times.iter().zip(values).map(|(t, v)| (*t, name.to_owned(), *v)));
        }
    }
    rows.sort_by_key(|r| std::cmp::Reverse(r.0));
    rows.truncate(ROWS_MAX);
    let fields = vec![
        Field::new("Time", Values::Time(rows.iter().map(|r| r.0).collect())),
        Field::new("Metric", Values::Text(rows.iter().map(|r| Some(r.1.clone())).collect())),
        Field::new("Value", Values::Number(rows.into_iter().map(|r| r.2).collect())),
    ];
    vec![Frame { ref_id, fields }]
}

/// A row per series of a query: its labels, and the series itself as a small graph.
pub(super) fn time_series_table(frames: Vec<Frame>) -> Vec<Frame> {
    let mut ref_ids: Vec<&str> = Vec::new();
    for frame in &frames {
        if !ref_ids.contains(&frame.ref_id.as_str()) {
            ref_ids.push(&frame.ref_id);
        }
    }
    let table = |ref_id: &str| {
        let series: Vec<(&Field, &Arc<[i64]>)> = frames
            .iter()
            .filter(|f| f.ref_id == ref_id)
            .filter_map(|f| f.times().map(|t| (f, t)))
            .flat_map(|(f, t)| f.fields.iter().filter(|g| g.is_number()).map(move |g| (g, t)))
            .collect();
        let columns: Vec<&Field> = series.iter().map(|(f, _)| *f).collect();
        let label = |name: &String| {
            let cells = columns.iter().map(|f| f.labels.get(name).map(str::to_owned)).collect();
            Field::new(name, Values::Text(cells))
        };
        let mut fields: Vec<Field> = label_names(&columns).iter().map(label).collect();
        let trend = |(field, times): &(&Field, &Arc<[i64]>)| {
            Some(Trend { times: (*times).clone(), values: field.numbers().unwrap_or(&[]).to_vec() })
        };
        fields.push(Field::new(&format!("Trend #{ref_id}"), Values::Trend(series.iter().map(trend).collect())));
        Frame { ref_id: ref_id.to_owned(), fields }
    };
    ref_ids.iter().map(|r| table(r)).collect()
}

/// One table with a column per value of a label, a row per set of the other labels; the newest values.
pub(super) fn join_by_labels(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let by = string(options, "value");
    let only = strings(options, "join");
    let part = |field: &Field| -> Option<Frame> {
        let value = field.labels.get(&by)?;
        let others = without(&field.labels, std::slice::from_ref(&by));
        let mut fields: Vec<Field> = others
            .iter()
            .filter(|(n, _)| only.is_empty() || only.iter().any(|o| o == n))
            .map(|(n, v)| Field::new(n, Values::Text(vec![Some(v.to_owned())])))
            .collect();
        let newest = crate::dashboard::reduce::reduce("lastNotNull", field.numbers()?);
        fields.push(Field::new(value, Values::Number(vec![newest])));
        Some(Frame { ref_id: String::new(), fields })
    };
    join::merge(frames.iter().flat_map(|f| &f.fields).filter(|f| f.is_number()).filter_map(part).collect())
}

/// Rows become columns, named by the first column.
pub(super) fn transpose(frame: Frame, options: &Value) -> Frame {
    const COLUMNS_MAX: usize = 500;
    let Some((first, rest)) = frame.fields.split_first() else { return frame };
    let name = |path: &str, default: &str| match string(options, path) {
        text if text.is_empty() => default.to_owned(),
        text => text,
    };
    let names = rest.iter().map(|f| Some(f.shown().to_owned())).collect();
    let mut fields = vec![Field::new(&name("firstFieldName", "Field"), Values::Text(names))];
    let are_numbers = rest.iter().all(Field::is_number);
    for row in 0..frame.len().min(COLUMNS_MAX) {
        let values = if are_numbers {
            Values::Number(rest.iter().map(|f| f.numbers().and_then(|all| all[row])).collect())
        } else {
            Values::Text(rest.iter().map(|f| f.cell(row)).collect())
        };
        let head = first.cell(row).unwrap_or_default();
        fields.push(Field {
            name: name("restFieldsName", "Value"),
            display: head.clone(),
            labels: Labels::from_pairs([(first.name.as_str(), head.as_str())]),
            ..Field::new("", values)
        });
    }
    Frame { ref_id: frame.ref_id, fields }
}

/// Columns of another type.
pub(super) fn convert(mut frame: Frame, options: &Value) -> Frame {
    for conversion in list(options, "conversions") {
        let Some(name) = text(conversion, "targetField") else { continue };
        let Some(field) = frame.fields.iter_mut().find(|f| f.shown() == name) else { continue };
        let cells: Vec<Option<String>> = (0..field.len()).map(|r| field.cell(r)).collect();
        let numbers = || cells.iter().map(|c| c.as_ref().and_then(|c| c.trim().parse::<f64>().ok()));
        field.values = match text(conversion, "destinationType") {
            Some("string" | "enum") => Values::Text(cells),
            Some("number") => Values::Number(numbers().collect()),
            Some("boolean") => {
                let truth =
                    |c: &Option<String>| c.as_ref().map(|c| (!matches!(c.as_str(), "" | "0" | "false")).to_string());
                Values::Text(cells.iter().map(truth).collect())
            }
            Some("time") => {
                let time = |c: &Option<String>| {
                    let c = c.as_ref()?;
                    let ms = c.parse::<f64>().ok().map(|v| v as i64);
                    ms.or_else(|| c.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond()))
                };
                Values::Time(cells.iter().map(|c| time(c).unwrap_or(NO_TIME)).collect())
            }
            _ => gather(field, &(0..field.len()).map(Some).collect::<Vec<_>>()),
        };
    }
    frame
}

/// Times as text in a format of the reader's choice.
pub(super) fn format_time(mut frame: Frame, options: &Value) -> Frame {
    let name = string(options, "timeField");
    let format = text(options, "outputFormat").filter(|f| !f.is_empty()).unwrap_or("YYYY-MM-DD HH:mm:ss");
    let tz = text(options, "timezone").and_then(|z| TimeZone::get(z).ok()).unwrap_or(TimeZone::UTC);
    let unit = Unit::find(&format!("time:{format}"));
    for field in frame.fields.iter_mut().filter(|f| f.shown() == name || f.name == name) {
        let shown = |cell: Option<String>| match cell?.parse::<f64>() {
            Ok(ms) => Some(unit.format(ms, None, &tz)),
            Err(_) => None,
        };
        field.values = Values::Text((0..field.len()).map(|r| shown(field.cell(r))).collect());
    }
    frame
}
