//! Transformations between queries and panel.
//!
//! # Source
//! Names of columns after joins and the order of rows follow Grafana. What is not known here is left out and said.

use std::collections::HashMap;

use promontory_model::Labels;
use serde_json::Value;

use super::frame::{Field, Frame, Values};
use super::json::{at, flag, list, string, strings, text};
use super::model::Panel;
use super::query::PanelData;
use super::units::js_number;
use super::variables::js_regex;

/// Rows of a table that a transformation makes.
const ROWS_MAX: usize = 20_000;

/// Runs the panel's transformations on its frames, in order.
pub(crate) fn apply(panel: &Panel, data: &mut PanelData) {
    for transformation in panel.transformations.iter().filter(|t| flag(t, "disabled") != Some(true)) {
        let nothing = Value::Null;
        let options = at(transformation, "options").unwrap_or(&nothing);
        let frames = std::mem::take(&mut data.frames);
        data.frames = match text(transformation, "id").unwrap_or("") {
            "organize" => frames.into_iter().map(|f| organize(f, options)).collect(),
            "merge" => vec![merge(&frames)],
            "joinByField" | "seriesToColumns" => vec![join(frames, options)],
            "filterFieldsByName" => frames.into_iter().map(|f| filter_fields(f, options)).collect(),
            "renameByRegex" => frames.into_iter().map(|f| rename(f, options)).collect(),
            "sortBy" => frames.into_iter().map(|f| sort(f, options)).collect(),
            id => {
                data.notices.push(format!("transformation {id:?} is not applied"));
                frames
            }
        };
    }
}

fn shown(field: &Field) -> &str {
    if field.display.is_empty() { &field.name } else { &field.display }
}

fn organize(mut frame: Frame, options: &Value) -> Frame {
    let member = |key: &str, name: &str| options.get(key).and_then(|o| o.get(name)).cloned();
    let has_includes = options.get("includeByName").and_then(Value::as_object).is_some_and(|o| !o.is_empty());
    frame.fields.retain(|f| {
        let name = shown(f);
        let included = !has_includes || member("includeByName", name) == Some(Value::Bool(true));
        included && member("excludeByName", name) != Some(Value::Bool(true))
    });
    frame.fields.sort_by_key(|f| member("indexByName", shown(f)).and_then(|v| v.as_i64()).unwrap_or(i64::MAX));
    for field in &mut frame.fields {
        if let Some(Value::String(new)) = member("renameByName", shown(field))
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
        Values::Time(all) => all.get(row).map(|t| format!("t{t}")),
        Values::Number(all) => all.get(row).copied().flatten().map(|v| format!("n{}", js_number(v))),
        Values::Text(all) => all.get(row).cloned().flatten().map(|s| format!("s{s}")),
    }
}

/// An empty column of the same type.
fn like(field: &Field) -> Values {
    match field.values {
        Values::Time(_) => Values::Time(std::sync::Arc::from([])),
        Values::Number(_) => Values::Number(Vec::new()),
        Values::Text(_) => Values::Text(Vec::new()),
    }
}

/// A column of the cells at `rows`; `None` is an empty cell.
fn gather(field: &Field, rows: &[Option<usize>]) -> Values {
    match &field.values {
        Values::Time(all) => {
            Values::Time(rows.iter().map(|r| r.and_then(|r| all.get(r)).copied().unwrap_or(0)).collect())
        }
        Values::Number(all) => {
            Values::Number(rows.iter().map(|r| r.and_then(|r| all.get(r)).copied().flatten()).collect())
        }
        Values::Text(all) => Values::Text(rows.iter().map(|r| r.and_then(|r| all.get(r)).cloned().flatten()).collect()),
    }
}

/// One table of all frames: rows that agree on the columns which all frames have are one.
fn merge(frames: &[Frame]) -> Frame {
    let frames: Vec<&Frame> = frames.iter().filter(|f| f.len() > 0).collect();
    let Some(first) = frames.first() else { return Frame::default() };
    let in_all = |name: &str| frames.iter().all(|f| f.fields.iter().any(|g| g.name == name));
    let common: Vec<&str> = first.fields.iter().map(|f| f.name.as_str()).filter(|n| in_all(n)).collect();
    let mut columns: Vec<Field> = Vec::new();
    for field in frames.iter().flat_map(|f| &f.fields) {
        if !columns.iter().any(|c| c.name == field.name) {
            columns.push(Field { values: like(field), ..field.clone() });
        }
    }
    // For every row of the result: the row of each frame that fills it.
    let mut rows: Vec<Vec<Option<usize>>> = Vec::new();
    let mut by_key: HashMap<Vec<Option<String>>, Vec<usize>> = HashMap::new();
    for (i, frame) in frames.iter().enumerate() {
        let keys: Vec<&Field> = common.iter().filter_map(|n| frame.fields.iter().find(|f| f.name == *n)).collect();
        for row in 0..frame.len() {
            if rows.len() >= ROWS_MAX {
                break;
            }
            let k: Vec<Option<String>> = keys.iter().map(|f| key(f, row)).collect();
            let places = by_key.entry(k).or_default();
            match places.iter().find(|p| rows[**p][i].is_none() && frames.len() > 1) {
                Some(place) => rows[*place][i] = Some(row),
                None => {
                    places.push(rows.len());
                    let mut new = vec![None; frames.len()];
                    new[i] = Some(row);
                    rows.push(new);
                }
            }
        }
    }
    for column in &mut columns {
        let sources: Vec<Option<&Field>> =
            frames.iter().map(|f| f.fields.iter().find(|g| g.name == column.name)).collect();
        column.values = fill(column, &sources, &rows);
    }
    Frame { ref_id: first.ref_id.clone(), fields: columns }
}

/// The cells of a column, each from the first frame that has it.
fn fill(column: &Field, sources: &[Option<&Field>], rows: &[Vec<Option<usize>>]) -> Values {
    let pick = |row: &Vec<Option<usize>>| {
        sources.iter().zip(row).find_map(|(f, r)| match (f, r) {
            (Some(f), Some(r)) => Some((*f, *r)),
            _ => None,
        })
    };
    match column.values {
        Values::Time(_) => Values::Time(
            rows.iter()
                .map(|row| match pick(row).map(|(f, r)| (&f.values, r)) {
                    Some((Values::Time(all), r)) => all[r],
                    _ => 0,
                })
                .collect(),
        ),
        Values::Number(_) => Values::Number(
            rows.iter()
                .map(|row| match pick(row).map(|(f, r)| (&f.values, r)) {
                    Some((Values::Number(all), r)) => all[r],
                    _ => None,
                })
                .collect(),
        ),
        Values::Text(_) => Values::Text(
            rows.iter()
                .map(|row| match pick(row).map(|(f, r)| (&f.values, r)) {
                    Some((Values::Text(all), r)) => all[r].clone(),
                    _ => None,
                })
                .collect(),
        ),
    }
}

/// Puts frames side by side on the values of one column.
fn join(frames: Vec<Frame>, options: &Value) -> Frame {
    let by = string(options, "byField");
    let is_inner = text(options, "mode") == Some("inner");
    let find = |f: &Frame| match by.as_str() {
        "" => f.fields.iter().position(Field::is_time),
        name => f.fields.iter().position(|g| shown(g) == name || g.name == name),
    };
    let parts: Vec<(Frame, usize)> = frames.into_iter().filter_map(|f| find(&f).map(|k| (f, k))).collect();
    let mut keys: Vec<(String, usize, usize)> = Vec::new();
    let mut places: Vec<HashMap<String, usize>> = Vec::new();
    for (i, (frame, column)) in parts.iter().enumerate() {
        let mut rows = HashMap::new();
        for row in 0..frame.len() {
            let Some(k) = key(&frame.fields[*column], row) else { continue };
            if !places.iter().any(|p: &HashMap<String, usize>| p.contains_key(&k))
                && !rows.contains_key(&k)
                && keys.len() < ROWS_MAX
            {
                keys.push((k.clone(), i, row));
            }
            rows.entry(k).or_insert(row);
        }
        places.push(rows);
    }
    if is_inner {
        keys.retain(|(k, _, _)| places.iter().all(|p| p.contains_key(k)));
    }
    let Some((first, first_key)) = parts.first() else { return Frame::default() };
    if first.fields[*first_key].is_time() {
        keys.sort_by_key(|(_, i, row)| match &parts[*i].0.fields[parts[*i].1].values {
            Values::Time(all) => all[*row],
            _ => 0,
        });
    }
    let key_rows: Vec<Vec<Option<usize>>> =
        keys.iter().map(|(k, _, _)| places.iter().map(|p| p.get(k).copied()).collect()).collect();
    let key_fields: Vec<Option<&Field>> = parts.iter().map(|(f, k)| Some(&f.fields[*k])).collect();
    let mut key_field = first.fields[*first_key].clone();
    key_field.values = fill(&key_field, &key_fields, &key_rows);
    let mut out = vec![key_field];
    let others = |f: &Frame, k: usize| {
        f.fields.iter().enumerate().filter(move |(j, _)| *j != k).map(|(_, g)| shown(g).to_owned()).collect::<Vec<_>>()
    };
    let names: Vec<Vec<String>> = parts.iter().map(|(f, k)| others(f, *k)).collect();
    for (i, (frame, column)) in parts.iter().enumerate() {
        let rows: Vec<Option<usize>> = keys.iter().map(|(k, _, _)| places[i].get(k).copied()).collect();
        for (_, field) in frame.fields.iter().enumerate().filter(|(j, _)| j != column) {
            let name = shown(field).to_owned();
            // A name that several frames have gets the frame's number.
            let n_before = names[..i].iter().filter(|n| n.contains(&name)).count();
            let is_shared = names.iter().filter(|n| n.contains(&name)).count() > 1;
            let display = if is_shared { format!("{name} {}", n_before + 1) } else { name };
            out.push(Field {
                name: field.name.clone(),
                display,
                labels: Labels::empty(),
                values: gather(field, &rows),
            });
        }
    }
    Frame { ref_id: first.ref_id.clone(), fields: out }
}

fn filter_fields(mut frame: Frame, options: &Value) -> Frame {
    let matches = |side: &str, field: &Field| {
        let names = strings(options, &format!("{side}.names"));
        let pattern = string(options, &format!("{side}.pattern"));
        let by_pattern = !pattern.is_empty() && js_regex(&pattern).is_ok_and(|r| r.is_match(shown(field)));
        let is_set = !names.is_empty() || !pattern.is_empty();
        is_set.then(|| by_pattern || names.iter().any(|n| n == shown(field)))
    };
    frame.fields.retain(|f| matches("include", f) != Some(false) && matches("exclude", f) != Some(true));
    frame
}

fn rename(mut frame: Frame, options: &Value) -> Frame {
    let Ok(pattern) = js_regex(&string(options, "regex")) else { return frame };
    let template = string(options, "renamePattern");
    for field in frame.fields.iter_mut().filter(|f| !f.is_time()) {
        field.display = pattern.replace(shown(field), template.as_str()).into_owned();
    }
    frame
}

fn sort(mut frame: Frame, options: &Value) -> Frame {
    let Some(rule) = list(options, "sort").first() else { return frame };
    let name = string(rule, "field");
    let Some(column) = frame.fields.iter().find(|f| shown(f) == name).cloned() else { return frame };
    let mut rows: Vec<usize> = (0..frame.len()).collect();
    match &column.values {
        Values::Time(all) => rows.sort_by_key(|r| all[*r]),
        Values::Number(all) => {
            rows.sort_by(|a, b| all[*a].unwrap_or(f64::NEG_INFINITY).total_cmp(&all[*b].unwrap_or(f64::NEG_INFINITY)))
        }
        Values::Text(all) => rows.sort_by(|a, b| all[*a].cmp(&all[*b])),
    }
    if flag(rule, "desc") == Some(true) {
        rows.reverse();
    }
    let rows: Vec<Option<usize>> = rows.into_iter().map(Some).collect();
    for field in &mut frame.fields {
        field.values = gather(field, &rows);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::load::load;

    fn frame(ref_id: &str, pods: &[&str], value: &str, numbers: &[f64]) -> Frame {
        let text = pods.iter().map(|p| Some((*p).to_owned())).collect();
        Frame {
            ref_id: ref_id.into(),
            fields: vec![
                Field::new("Time", Values::Time(pods.iter().map(|_| 0).collect())),
                Field::new("pod", Values::Text(text)),
                Field::new(value, Values::Number(numbers.iter().map(|n| Some(*n)).collect())),
            ],
        }
    }

    #[track_caller]
    fn check(transformations: &str, expected: &str) {
        let d = load(&format!("{{\"panels\": [{{\"transformations\": {transformations}}}]}}"), "f").unwrap();
        let mut data = PanelData {
            frames: vec![
                frame("A", &["b", "a"], "Value #A", &[1.0, 2.0]),
                frame("B", &["a", "c"], "Value #B", &[3.0, 4.0]),
            ],
            ..PanelData::default()
        };
        apply(d.panels().next().unwrap(), &mut data);
        let column = |f: &Field| {
            let cells: Vec<String> =
                (0..f.len()).map(|r| key(f, r).map_or("-".into(), |k| k[1..].to_owned())).collect();
            format!("{}[{}]", shown(f), cells.join(","))
        };
        let frames: Vec<String> =
            data.frames.iter().map(|f| f.fields.iter().map(column).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(format!("{}{}", frames.join(" | "), data.notices.join(" ")), expected);
    }

    #[test]
    fn tables_are_merged_joined_and_organized() {
        check(r#"[{"id": "merge"}]"#, "Time[0,0,0] pod[b,a,c] Value #A[1,2,-] Value #B[-,3,4]");
        check(
            r#"[{"id": "joinByField", "options": {"byField": "pod", "mode": "outer"}}]"#,
            "pod[b,a,c] Time 1[0,0,0] Value #A[1,2,-] Time 2[0,0,0] Value #B[-,3,4]",
        );
        check(
            r#"[{"id": "joinByField", "options": {"byField": "pod", "mode": "inner"}},
                {"id": "organize", "options": {"excludeByName": {"Time 1": true, "Time 2": true}, "indexByName": {"Value #B": 0}, "renameByName": {"pod": "Pod"}}}]"#,
            "Value #B[3] Pod[a] Value #A[2]",
        );
        check(
            r#"[{"id": "merge", "disabled": true}, {"id": "filterFieldsByName", "options": {"include": {"pattern": "/pod|Value/"}}},
                {"id": "sortBy", "options": {"sort": [{"field": "pod"}]}}, {"id": "renameByRegex", "options": {"regex": "Value #(.)", "renamePattern": "$1"}}]"#,
            "pod[a,b] A[2,1] | pod[a,c] B[3,4]",
        );
        check(
            r#"[{"id": "merge"}, {"id": "magic"}]"#,
            "Time[0,0,0] pod[b,a,c] Value #A[1,2,-] Value #B[-,3,4]transformation \"magic\" is not applied",
        );
    }
}
