//! Calculations: rows grouped, series reduced, columns computed from others.

use std::collections::HashMap;

use promontory_model::Labels;
use serde_json::{Value, json};

use crate::dashboard::frame::{Field, Frame, Values};
use crate::dashboard::json::{at, flag, list, scalar_text, set, string, strings, text};
use crate::dashboard::reduce::{reduce, title};

use super::{gather, join, key};

/// One row per distinct key, with calculations over the other columns.
pub(super) fn group(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let rule = |f: &Field| options.get("fields")?.get(f.shown());
    let operation = |f: &Field| rule(f).and_then(|r| text(r, "operation"));
    let mut out = Vec::new();
    for frame in frames {
        let keys: Vec<&Field> = frame.fields.iter().filter(|f| operation(f) == Some("groupby")).collect();
        if keys.is_empty() {
            continue;
        }
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut places: HashMap<Vec<Option<String>>, usize> = HashMap::new();
        for row in 0..frame.len() {
            let k: Vec<Option<String>> = keys.iter().map(|f| key(f, row)).collect();
            let place = *places.entry(k).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Vec::new());
            }
            groups[place].push(row);
        }
        let firsts: Vec<Option<usize>> = groups.iter().map(|g| g.first().copied()).collect();
        let mut fields: Vec<Field> = keys.iter().map(|f| f.with(gather(f, &firsts))).collect();
        for field in frame.fields.iter().filter(|f| operation(f) == Some("aggregate")) {
            for calc in rule(field).map(|r| strings(r, "aggregations")).unwrap_or_default() {
                let name = format!("{} ({calc})", field.shown());
                fields.push(Field::new(&name, reduce_groups(field, &calc, &groups)));
            }
        }
        out.push(Frame { ref_id: frame.ref_id.clone(), fields });
    }
    out
}

/// `calc` over each group of rows, with the type that the result has.
fn reduce_groups(field: &Field, calc: &str, groups: &[Vec<usize>]) -> Values {
    let pick = match calc {
        "first" | "firstNotNull" => Some(false),
        "last" | "lastNotNull" | "current" => Some(true),
        _ => None,
    };
    match (&field.values, pick) {
        (Values::Number(all), _) => {
            let values = |g: &Vec<usize>| g.iter().map(|r| all[*r]).collect::<Vec<_>>();
            Values::Number(groups.iter().map(|g| reduce(calc, &values(g))).collect())
        }
        (_, Some(is_last)) => {
            let row = |g: &Vec<usize>| if is_last { g.last().copied() } else { g.first().copied() };
            gather(field, &groups.iter().map(row).collect::<Vec<_>>())
        }
        (_, None) => {
            // Numbers of texts: how many there are, and otherwise nothing that could be summed.
            let cells = |g: &Vec<usize>| -> Vec<Option<String>> { g.iter().map(|r| field.cell(*r)).collect() };
            let number = |g: &Vec<usize>| {
                let cells = cells(g);
                match calc {
                    "count" => Some(cells.iter().flatten().count() as f64),
                    "countAll" => Some(cells.len() as f64),
                    "distinctCount" => {
                        let mut all: Vec<&String> = cells.iter().flatten().collect();
                        all.sort();
                        all.dedup();
                        Some(all.len() as f64)
                    }
                    "changeCount" => Some(cells.windows(2).filter(|w| w[0] != w[1]).count() as f64),
                    "sum" | "total" => Some(0.0),
                    _ => None,
                }
            };
            Values::Number(groups.iter().map(number).collect())
        }
    }
}

/// Series to rows of calculations, or each frame to its one row.
pub(super) fn reduced(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let mut calcs = strings(options, "reducers");
    if calcs.is_empty() {
        calcs.push("max".to_owned());
    }
    let with_time = flag(options, "includeTimeField").unwrap_or(false);
    if text(options, "mode") == Some("reduceFields") {
        return frames.into_iter().map(|f| reduce_fields(f, &calcs, with_time)).collect();
    }
    let with_labels = flag(options, "labelsToFields").unwrap_or(false);
    let fields: Vec<&Field> = frames.iter().flat_map(|f| &f.fields).filter(|f| f.is_number()).collect();
    if fields.is_empty() {
        return Vec::new();
    }
    let name = |f: &&Field| Some(if with_labels { f.name.clone() } else { f.shown().to_owned() });
    let mut out = vec![Field::new("Field", Values::Text(fields.iter().map(name).collect()))];
    if with_labels {
        for label in label_names(&fields) {
            let column = fields.iter().map(|f| f.labels.get(&label).map(str::to_owned)).collect();
            out.push(Field::new(&label, Values::Text(column)));
        }
    }
    for calc in &calcs {
        let column = fields.iter().map(|f| reduce(calc, f.numbers().unwrap_or(&[]))).collect();
        out.push(Field::new(title(calc), Values::Number(column)));
    }
    vec![Frame { ref_id: frames[0].ref_id.clone(), fields: out }]
}

/// All label names of these columns, sorted.
pub(super) fn label_names(fields: &[&Field]) -> Vec<String> {
    let mut names: Vec<String> = fields.iter().flat_map(|f| f.labels.iter().map(|(n, _)| n.to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

fn reduce_fields(frame: Frame, calcs: &[String], with_time: bool) -> Frame {
    let all = [(0..frame.len()).collect::<Vec<usize>>()];
    let mut fields = Vec::new();
    for field in frame.fields.iter().filter(|f| with_time || !f.is_time()) {
        for calc in calcs {
            let mut reduced = field.with(reduce_groups(field, calc, &all));
            if calcs.len() > 1 {
                reduced.display = format!("{} {}", title(calc), field.shown());
            }
            fields.push(reduced);
        }
    }
    Frame { ref_id: frame.ref_id, fields }
}

/// Adds a column that is computed from others, row by row.
pub(super) fn calculate(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    // Several series become one table first; several tables are computed each by itself.
    let is_series = frames.len() > 1 && frames.iter().all(|f| f.fields.iter().any(Field::is_time));
    let frames = if is_series { join::join_on_time(frames) } else { frames };
    frames.into_iter().map(|f| calculate_one(f, options)).collect()
}

fn calculate_one(mut frame: Frame, options: &Value) -> Frame {
    let mode = text(options, "mode").unwrap_or("reduceRow");
    let computed = match mode {
        "binary" => binary(&frame, options),
        "unary" => unary(&frame, options),
        "index" => Some(("Row".to_owned(), index(&frame, options))),
        "cumulativeFunctions" => cumulative(&frame, options),
        _ => Some(reduce_row(&frame, options)),
    };
    let Some((default_name, values)) = computed else { return frame };
    let alias = string(options, "alias");
    let name = if alias.is_empty() { default_name } else { alias };
    let new = Field::new(&name, Values::Number(values));
    if flag(options, "replaceFields") == Some(true) {
        frame.fields.retain(Field::is_time);
        frame.fields.truncate(1);
    }
    frame.fields.push(new);
    frame
}

fn reduce_row(frame: &Frame, options: &Value) -> (String, Vec<Option<f64>>) {
    let include = strings(options, "reduce.include");
    let calc = text(options, "reduce.reducer").unwrap_or("sum");
    let is_included = |f: &&Field| include.is_empty() || include.iter().any(|n| n == f.shown());
    let columns: Vec<&[Option<f64>]> = frame.fields.iter().filter(is_included).filter_map(Field::numbers).collect();
    let row = |r: usize| columns.iter().map(|c| c[r]).collect::<Vec<_>>();
    (title(calc).to_owned(), (0..frame.len()).map(|r| reduce(calc, &row(r))).collect())
}

/// A side of a calculation: a column or a number, and how it is called.
fn operand<'a>(frame: &'a Frame, side: &Value) -> Option<(Operand<'a>, String)> {
    let name = match side {
        Value::Object(_) => match at(side, "fixed").and_then(scalar_text) {
            Some(fixed) => fixed,
            None => text(side, "matcher.options")?.to_owned(),
        },
        other => scalar_text(other)?,
    };
    if let Some(field) = frame.fields.iter().find(|f| f.shown() == name || f.name == name) {
        return Some((Operand::Column(field.numbers()?), name));
    }
    Some((Operand::Fixed(name.trim().parse().ok()?), name))
}

enum Operand<'a> {
    Column(&'a [Option<f64>]),
    Fixed(f64),
}

impl Operand<'_> {
    /// A missing cell is no number, and neither is what is computed from it.
    fn at(&self, row: usize) -> f64 {
        match self {
            Self::Column(all) => all.get(row).copied().flatten().unwrap_or(f64::NAN),
            Self::Fixed(v) => *v,
        }
    }
}

fn binary(frame: &Frame, options: &Value) -> Option<(String, Vec<Option<f64>>)> {
    let (left, left_name) = operand(frame, at(options, "binary.left")?)?;
    let (right, right_name) = operand(frame, at(options, "binary.right")?)?;
    let operator = text(options, "binary.operator").unwrap_or("+");
    let compute = |a: f64, b: f64| match operator {
        "-" => a - b,
        "*" => a * b,
        "/" => a / b,
        "**" => a.powf(b),
        "%" => a % b,
        _ => a + b,
    };
    let values = (0..frame.len()).map(|r| Some(compute(left.at(r), right.at(r)))).collect();
    Some((format!("{left_name} {operator} {right_name}"), values))
}

fn unary(frame: &Frame, options: &Value) -> Option<(String, Vec<Option<f64>>)> {
    let (column, name) = operand(frame, at(options, "unary.fieldName")?)?;
    let operator = text(options, "unary.operator").unwrap_or("abs");
    let compute = |v: f64| match operator {
        "exp" => v.exp(),
        "ln" => v.ln(),
        "floor" => v.floor(),
        "ceil" => v.ceil(),
        "round" => v.round(),
        _ => v.abs(),
    };
    Some((format!("{operator}({name})"), (0..frame.len()).map(|r| Some(compute(column.at(r)))).collect()))
}

fn index(frame: &Frame, options: &Value) -> Vec<Option<f64>> {
    let n = frame.len();
    let is_share = flag(options, "index.asPercentile") == Some(true);
    (0..n).map(|r| Some(if is_share { r as f64 / n as f64 } else { r as f64 })).collect()
}

fn cumulative(frame: &Frame, options: &Value) -> Option<(String, Vec<Option<f64>>)> {
    let (column, name) = operand(frame, at(options, "cumulative.field")?)?;
    let is_mean = text(options, "cumulative.reducer") == Some("mean");
    let mut sum = 0.0;
    let values = (0..frame.len()).map(|r| {
        let v = column.at(r);
        sum += if v.is_nan() { 0.0 } else { v };
        Some(if is_mean { sum / (r + 1) as f64 } else { sum })
    });
    Some((format!("cumulative({name})"), values.collect()))
}

/// The frame of one query becomes properties of the fields of the others, such as their maximum.
pub(super) fn config_from_data(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let Some(ref_id) = text(options, "configRefId") else { return frames };
    let (source, mut rest): (Vec<Frame>, Vec<Frame>) = frames.into_iter().partition(|f| f.ref_id == ref_id);
    let mut config = json!({});
    for field in source.iter().flat_map(|f| &f.fields) {
        let rule = list(options, "mappings")
            .iter()
            .find(|m| text(m, "fieldName").is_some_and(|n| n == field.shown() || n == field.name));
        let handler = match rule {
            Some(rule) => string(rule, "handlerKey"),
            None => field.shown().to_lowercase(),
        };
        let calc = rule.and_then(|r| text(r, "reducerId")).unwrap_or("lastNotNull");
        let v = field.numbers().and_then(|all| reduce(calc, all));
        let word = (0..field.len()).rev().find_map(|r| field.cell(r));
        match (handler.as_str(), v, word) {
            ("min" | "max" | "decimals", Some(v), _) => set(&mut config, &handler, json!(v)),
            ("unit", _, Some(word)) => set(&mut config, "unit", json!(word)),
            ("displayname" | "displayName", _, Some(word)) => set(&mut config, "displayName", json!(word)),
            ("color", _, Some(word)) => set(&mut config, "color", json!({"mode": "fixed", "fixedColor": word})),
            ("threshold1", Some(v), _) => {
                let color = rule.and_then(|r| text(r, "handlerArguments.threshold.color")).unwrap_or("red");
                let steps = json!([{"color": "green", "value": null}, {"color": color, "value": v}]);
                set(&mut config, "thresholds", json!({"mode": "absolute", "steps": steps}));
            }
            _ => {}
        }
    }
    let only = text(options, "applyTo.options").filter(|_| text(options, "applyTo.id") == Some("byName"));
    for field in rest.iter_mut().flat_map(|f| &mut f.fields).filter(|f| f.is_number()) {
        if only.is_none_or(|n| n == field.shown()) {
            field.config = Some(Box::new(config.clone()));
        }
    }
    rest
}

/// Labels without those of these names.
pub(super) fn without(labels: &Labels, names: &[String]) -> Labels {
    labels.filtered(|n| !names.iter().any(|k| k == n))
}
