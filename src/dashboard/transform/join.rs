//! Several frames to one: merged by what they share, joined on a column, or put side by side.

use std::collections::HashMap;

use promontory_model::Labels;
use serde_json::Value;

use crate::dashboard::frame::{Field, Frame, NO_TIME, Values};
use crate::dashboard::json::{string, text};

use super::{ROWS_MAX, gather, key, like};

/// One table of all frames: rows that agree on the columns which all frames have are one.
pub(super) fn merge(mut frames: Vec<Frame>) -> Vec<Frame> {
    frames.retain(|f| f.len() > 0);
    if frames.len() < 2 {
        return frames;
    }
    let first = &frames[0];
    let in_all = |name: &str| frames.iter().all(|f| f.fields.iter().any(|g| g.name == name));
    let common: Vec<&str> = first.fields.iter().map(|f| f.name.as_str()).filter(|n| in_all(n)).collect();
    let mut columns: Vec<Field> = Vec::new();
    for field in frames.iter().flat_map(|f| &f.fields) {
        if !columns.iter().any(|c| c.name == field.name) {
            // The rows of a column come from several series, so it has the name of none.
            let plain = Field { display: field.name.clone(), labels: Labels::empty(), ..field.with(like(field)) };
            columns.push(plain);
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
            let fits = |place: usize| rows[place][i].is_none() && agree(&frames, &rows[place], frame, row);
            match places.iter().find(|p| fits(**p)) {
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
    vec![Frame { ref_id: first.ref_id.clone(), fields: columns }]
}

/// Whether a row of `frame` has the values of a merged row in every column that both have.
fn agree(frames: &[Frame], merged: &[Option<usize>], frame: &Frame, row: usize) -> bool {
    frame.fields.iter().all(|field| {
        let mut known = frames.iter().zip(merged).filter_map(|(other, r)| {
            let column = other.fields.iter().find(|f| f.name == field.name)?;
            Some((column, (*r)?))
        });
        known.all(|(column, r)| key(column, r) == key(field, row))
    })
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
                    _ => NO_TIME,
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
        Values::Trend(_) => Values::Trend(
            rows.iter()
                .map(|row| match pick(row).map(|(f, r)| (&f.values, r)) {
                    Some((Values::Trend(all), r)) => all[r].clone(),
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

/// How a join treats keys that not every frame has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One row per key.
    Outer,
    /// Only keys of all frames.
    Inner,
    /// A row per pair of equal keys, then what found no partner.
    OuterTabular,
}

/// Puts frames side by side on the values of one column.
pub(super) fn join(frames: Vec<Frame>, options: &Value) -> Vec<Frame> {
    let by = string(options, "byField");
    let mode = match text(options, "mode") {
        Some("inner") => Mode::Inner,
        Some("outerTabular") => Mode::OuterTabular,
        _ => Mode::Outer,
    };
    join_by(frames, &by, mode)
}

/// The outer join on time that calculations over several series need.
pub(super) fn join_on_time(frames: Vec<Frame>) -> Vec<Frame> {
    join_by(frames, "", Mode::Outer)
}

fn join_by(frames: Vec<Frame>, by: &str, mode: Mode) -> Vec<Frame> {
    let find = |f: &Frame| match by {
        "" => f.fields.iter().position(Field::is_time),
        name => f.fields.iter().position(|g| g.shown() == name || g.name == name),
    };
    let parts: Vec<(Frame, usize)> = frames.into_iter().filter_map(|f| find(&f).map(|k| (f, k))).collect();
    let Some((first, first_key)) = parts.first() else { return Vec::new() };
    if parts.len() == 1 {
        return parts.into_iter().map(|(f, _)| f).collect();
    }
    let rows = match mode {
        Mode::OuterTabular => tabular_rows(&parts),
        Mode::Outer | Mode::Inner => keyed_rows(&parts, mode),
    };
    let key_fields: Vec<Option<&Field>> = parts.iter().map(|(f, k)| Some(&f.fields[*k])).collect();
    let key_field = &first.fields[*first_key];
    let mut out = vec![key_field.with(fill(key_field, &key_fields, &rows))];
    for (i, (frame, column)) in parts.iter().enumerate() {
        let own: Vec<Option<usize>> = rows.iter().map(|r| r[i]).collect();
        for (_, field) in frame.fields.iter().enumerate().filter(|(j, _)| j != column) {
            out.push(field.with(gather(field, &own)));
        }
    }
    number_names(&mut out, |f| f.is_time() || f.shown() == f.name);
    vec![Frame { ref_id: first.ref_id.clone(), fields: out }]
}

/// A name that several columns have gets a number. Names of series are left alone.
fn number_names(fields: &mut [Field], counts: impl Fn(&Field) -> bool) {
    let names: Vec<Option<String>> = fields.iter().map(|f| counts(f).then(|| f.shown().to_owned())).collect();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (i, (field, name)) in fields.iter_mut().zip(&names).enumerate() {
        let Some(name) = name else { continue };
        // The first column is the key and keeps its name.
        if i > 0 && names.iter().skip(1).flatten().filter(|n| *n == name).count() > 1 {
            let n = seen.entry(name).or_default();
            *n += 1;
            field.display = format!("{name} {n}");
        }
    }
}

/// One row per key: the last row of each frame that has it.
fn keyed_rows(parts: &[(Frame, usize)], mode: Mode) -> Vec<Vec<Option<usize>>> {
    let mut rows: Vec<Vec<Option<usize>>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (i, (frame, column)) in parts.iter().enumerate() {
        for row in 0..frame.len() {
            let Some(k) = key(&frame.fields[*column], row) else { continue };
            let place = *places.entry(k).or_insert(rows.len());
            if place == rows.len() {
                if rows.len() >= ROWS_MAX {
                    break;
                }
                rows.push(vec![None; parts.len()]);
            }
            if let Some(target) = rows.get_mut(place) {
                target[i].get_or_insert(row);
            }
        }
    }
    if mode == Mode::Inner {
        rows.retain(|r| r.iter().all(Option::is_some));
    }
    if parts[0].0.fields[parts[0].1].is_time() {
        let time = |r: &Vec<Option<usize>>| {
            r.iter().zip(parts).find_map(|(row, (f, k))| match (&f.fields[*k].values, row) {
                (Values::Time(all), Some(row)) => all.get(*row).copied(),
                _ => None,
            })
        };
        rows.sort_by_key(time);
    }
    rows
}

/// Pairs of rows with equal keys, frame after frame; what has no partner comes last.
fn tabular_rows(parts: &[(Frame, usize)]) -> Vec<Vec<Option<usize>>> {
    let cell = |i: usize, row: usize| key(&parts[i].0.fields[parts[i].1], row);
    let mut rows: Vec<Vec<Option<usize>>> = (0..parts[0].0.len().min(ROWS_MAX)).map(|r| vec![Some(r)]).collect();
    for (i, (frame, _)) in parts.iter().enumerate().skip(1) {
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
        for row in 0..frame.len() {
            by_key.entry(cell(i, row).unwrap_or_default()).or_default().push(row);
        }
        let (mut paired, mut alone) = (Vec::new(), Vec::new());
        let mut used = vec![false; frame.len()];
        for row in rows {
            let k = row.iter().enumerate().find_map(|(j, r)| cell(j, (*r)?)).unwrap_or_default();
            match by_key.get(&k) {
                Some(partners) => {
                    for partner in partners {
                        if paired.len() < ROWS_MAX {
                            used[*partner] = true;
                            paired.push(row.iter().copied().chain([Some(*partner)]).collect());
                        }
                    }
                }
                None => alone.push(row.iter().copied().chain([None]).collect()),
            }
        }
        let missing = used.iter().enumerate().filter(|(_, used)| !**used);
        let missing = missing.map(|(r, _)| vec![None; i].into_iter().chain([Some(r)]).collect::<Vec<_>>());
        rows = paired.into_iter().chain(alone).chain(missing).take(ROWS_MAX).collect();
    }
    rows
}

/// All columns beside each other, short ones filled up with empty cells.
pub(super) fn concatenate(frames: Vec<Frame>) -> Vec<Frame> {
    if frames.len() < 2 {
        return frames;
    }
    let n = frames.iter().map(Frame::len).max().unwrap_or(0).min(ROWS_MAX);
    let rows: Vec<Option<usize>> = (0..n).map(Some).collect();
    let fields = frames.iter().flat_map(|f| &f.fields);
    let mut out: Vec<Field> = fields.map(|f| f.with(gather(f, &rows))).collect();
    let names: Vec<String> = out.iter().map(|f| f.shown().to_owned()).collect();
    for i in 0..out.len() {
        let is_shared = names.iter().filter(|n| **n == names[i]).count() > 1;
        if is_shared && !out[i].is_time() && out[i].shown() == out[i].name {
            let n = names[..=i].iter().filter(|n| **n == names[i]).count();
            out[i].display = format!("{} {n}", names[i]);
        }
    }
    vec![Frame { ref_id: String::new(), fields: out }]
}
