//! Transformations on small tables, and on recorded ones of Grafana.

use promontory_model::Labels;
use serde_json::Value;

use crate::dashboard::frame::{Field, Frame, NO_TIME, Trend, Values};
use crate::dashboard::json::{list, string, text};
use crate::dashboard::load::load;
use crate::dashboard::oracle;
use crate::dashboard::query::PanelData;

use super::{APPLIED, apply, one};

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

/// A frame as one line.
fn line(frame: &Frame) -> String {
    let column = |f: &Field| {
        let cells: Vec<String> = (0..f.len()).map(|r| f.cell(r).unwrap_or("-".into())).collect();
        format!("{}[{}]", f.shown(), cells.join(","))
    };
    frame.fields.iter().map(column).collect::<Vec<_>>().join(" ")
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
    apply(d.panels().next().unwrap(), &mut data, &|text| text.replace("$column", "pod"));
    let frames: Vec<String> = data.frames.iter().map(line).collect();
    assert_eq!(format!("{}{}", frames.join(" | "), data.notices.join(" ")), expected);
}

#[test]
fn tables_are_merged_joined_and_organized() {
    check(r#"[{"id": "merge"}]"#, "Time[0,0,0] pod[b,a,c] Value #A[1,2,-] Value #B[-,3,4]");
    check(
        r#"[{"id": "joinByField", "options": {"byField": "$column", "mode": "outer"}}]"#,
        "pod[b,a,c] Time 1[0,0,-] Value #A[1,2,-] Time 2[-,0,0] Value #B[-,3,4]",
    );
    check(
        r#"[{"id": "joinByField", "options": {"byField": "pod", "mode": "inner"}},
            {"id": "organize", "options": {"excludeByName": {"Time 1": true, "Time 2": true}, "indexByName": {"Value #B": 0}, "renameByName": {"pod": "Pod"}}}]"#,
        "Value #B[3] Pod[a] Value #A[2]",
    );
    check(
        r#"[{"id": "merge", "disabled": true}, {"id": "filterFieldsByName", "options": {"include": {"pattern": "/pod|Value/"}}},
            {"id": "sortBy", "options": {"sort": [{"field": "pod"}]}}, {"id": "renameByRegex", "options": {"regex": "Value #(.)", "renamePattern": "$1x"}}]"#,
        "pod[a,b] Ax[2,1] | pod[a,c] Bx[3,4]",
    );
    check(
        r#"[{"id": "merge"}, {"id": "magic"}]"#,
        "Time[0,0,0] pod[b,a,c] Value #A[1,2,-] Value #B[-,3,4]transformation \"magic\" is not applied",
    );
}

#[test]
fn a_transformation_may_be_limited_to_some_queries() {
    check(
        r#"[{"id": "limit", "filter": {"id": "byRefId", "options": "B"}, "options": {"limitField": 1}}]"#,
        "Time[0] pod[a] Value #B[3] | Time[0,0] pod[b,a] Value #A[1,2]",
    );
}

#[test]
fn rows_are_grouped_filtered_and_computed() {
    check(
        r#"[{"id": "groupBy", "options": {"fields": {"Time": {"operation": "groupby"}, "pod": {"operation": "aggregate", "aggregations": ["last", "distinctCount"]}}}}]"#,
        "Time[0] pod (last)[a] pod (distinctCount)[2] | Time[0] pod (last)[c] pod (distinctCount)[2]",
    );
    let filtered = |config: &str| {
        format!(
            r#"[{{"id": "filterByRefId", "options": {{"include": "A"}}}}, {{"id": "filterByValue", "options": {{"type": "exclude", "match": "all", "filters": [{config}]}}}}]"#
        )
    };
    check(
        &filtered(r#"{"fieldName": "pod", "config": {"id": "regex", "options": {"value": "^a"}}}"#),
        "Time[0] pod[b] Value #A[1]",
    );
    check(
        &filtered(r#"{"fieldName": "Value #A", "config": {"id": "between", "options": {"from": 0, "to": 1}}}"#),
        "Time[0] pod[a] Value #A[2]",
    );
    check(
        r#"[{"id": "merge"}, {"id": "calculateField", "options": {"mode": "binary", "binary": {"left": {"matcher": {"id": "byName", "options": "Value #A"}}, "operator": "*", "right": {"fixed": "10"}}, "replaceFields": true}}]"#,
        "Time[0,0,0] Value #A * 10[10,20,NaN]",
    );
}

#[test]
fn series_become_cells_and_configuration() {
    let times: std::sync::Arc<[i64]> = std::sync::Arc::from([1i64, 2]);
    let series = |ref_id: &str, pod: &str, values: [f64; 2]| Frame {
        ref_id: ref_id.into(),
        fields: vec![
            Field::new("Time", Values::Time(times.clone())),
            Field {
                labels: Labels::from_pairs([("pod", pod)]),
                ..Field::new("Value", Values::Number(values.iter().map(|v| Some(*v)).collect()))
            },
        ],
    };
    let frames = vec![series("A", "x", [1.0, 2.0]), series("A", "y", [3.0, 4.0])];
    let table = one("timeSeriesTable", frames, &Value::Null);
    assert_eq!(table.iter().map(line).collect::<Vec<_>>(), ["pod[x,y] Trend #A[2,4]"]);
    let expected = Trend { times: times.clone(), values: vec![Some(1.0), Some(2.0)] };
    assert!(matches!(&table[0].fields[1].values, Values::Trend(all) if all[0] == Some(expected)));
    let options = serde_json::json!({"configRefId": "B", "mappings": [{"fieldName": "Value", "handlerKey": "max"}]});
    let rest = one("configFromData", vec![series("A", "x", [1.0, 2.0]), series("B", "y", [3.0, 4.0])], &options);
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].fields[1].config.as_deref(), Some(&serde_json::json!({"max": 4.0})));
}

/// The recorded form of a column.
fn read_field(value: &Value) -> Field {
    let cells = list(value, "values");
    let number = |v: &Value| match v {
        Value::String(s) if s == "NaN" => Some(f64::NAN),
        other => other.as_f64(),
    };
    let word = |v: &Value| v.as_str().filter(|s| *s != "undefined").map(str::to_owned);
    let labels = value.get("labels").and_then(Value::as_object);
    let labels = labels.map(|o| Labels::from_pairs(o.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or("")))));
    Field {
        display: string(value, "display"),
        labels: labels.unwrap_or_else(Labels::empty),
        ..Field::new(
            &string(value, "name"),
            match text(value, "type") {
                Some("time") => Values::Time(cells.iter().map(|v| v.as_i64().unwrap_or(NO_TIME)).collect()),
                Some("number") => Values::Number(cells.iter().map(number).collect()),
                _ => Values::Text(cells.iter().map(word).collect()),
            },
        )
    }
}

fn read_frames(case: &Value, side: &str) -> Vec<Frame> {
    let frame =
        |f: &Value| Frame { ref_id: string(f, "refId"), fields: list(f, "fields").iter().map(read_field).collect() };
    list(case, side).iter().map(frame).collect()
}

#[test]
fn recorded_transformations_give_the_recorded_frames() {
    let Some(vectors) = oracle::read("transformations.json") else { return };
    let cases: Value = serde_json::from_str(&vectors).unwrap();
    let mut wrong = Vec::new();
    let all = cases.as_array().unwrap();
    for case in all {
        let steps = ["transformations", "config"].iter().map(|k| list(case, k)).find(|l| !l.is_empty()).unwrap_or(&[]);
        let mut frames = read_frames(case, "input");
        for step in steps {
            assert!(APPLIED.contains(&text(step, "id").unwrap()), "{step}");
            frames = one(text(step, "id").unwrap(), frames, step.get("options").unwrap_or(&Value::Null));
        }
        let named = |frames: &[Frame]| -> Vec<String> {
            let names = |f: &Frame| f.fields.iter().map(|g| g.name.as_str()).collect::<Vec<_>>().join(",");
            frames.iter().map(|f| format!("{} as {}", line(f), names(f))).collect()
        };
        let (got, expected) = (named(&frames), named(&read_frames(case, "output")));
        if got != expected {
            wrong.push(format!("{}\n  got  {got:?}\n  want {expected:?}", string(case, "name")));
        }
    }
    eprintln!("transformations: {} compared, {} differ", all.len(), wrong.len());
    assert!(all.len() >= 28 && wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}
