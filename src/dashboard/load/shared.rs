//! What panels share: a library of panels inside the file, and the queries of another panel.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::dashboard::json::{at, flag, integer, list, set, text};

/// The type of a panel whose content is kept elsewhere.
pub(crate) const LIBRARY: &str = "library-panel";
/// The data source that stands for the result of another panel.
const OTHER_PANEL: &str = "-- Dashboard --";

/// Every panel of `root`, those inside of rows included.
fn each_panel(root: &mut Value, f: &mut dyn FnMut(&mut Value)) {
    let rows = root.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten();
    let inner = rows.filter_map(|r| r.get_mut("panels")).filter_map(Value::as_array_mut).flatten();
    inner.for_each(&mut *f);
    for panel in root.get_mut("panels").and_then(Value::as_array_mut).into_iter().flatten() {
        f(panel);
        panel.get_mut("panels").and_then(Value::as_array_mut).into_iter().flatten().for_each(&mut *f);
    }
}

/// Puts the panels of the file's own library where the file refers to them.
pub(super) fn fill_in_library(root: &mut Value) {
    let library: HashMap<String, Value> = match root.get("__elements") {
        Some(Value::Object(all)) => {
            all.iter().filter_map(|(uid, e)| Some((uid.clone(), e.get("model")?.clone()))).collect()
        }
        Some(Value::Array(all)) => {
            all.iter().filter_map(|e| Some((text(e, "uid")?.to_owned(), e.get("model")?.clone()))).collect()
        }
        _ => HashMap::new(),
    };
    each_panel(root, &mut |panel| {
        let Some(uid) = text(panel, "libraryPanel.uid").map(str::to_owned) else { return };
        // Early files hold the content beside the reference.
        if text(panel, "type").is_some_and(|t| t != "library-panel-ref") {
            return;
        }
        match library.get(&uid).and_then(Value::as_object) {
            Some(model) => {
                for (name, value) in model.iter().filter(|(n, _)| !matches!(n.as_str(), "id" | "gridPos")) {
                    if name != "title" || text(panel, "title").is_none_or(str::is_empty) {
                        set_member(panel, name, value.clone());
                    }
                }
            }
            None => {
                let name = text(panel, "libraryPanel.name").unwrap_or("").to_owned();
                set(panel, "type", json!(LIBRARY));
                if text(panel, "title").is_none_or(str::is_empty) {
                    set(panel, "title", json!(name));
                }
            }
        }
    });
}

fn set_member(panel: &mut Value, name: &str, value: Value) {
    if let Some(members) = panel.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// Gives panels that show the result of another one the queries of that.
pub(super) fn fill_in_queries(root: &mut Value) {
    let refers = |value: &Value| {
        let source = value.get("datasource");
        source.and_then(|d| d.as_str().or_else(|| text(d, "uid"))) == Some(OTHER_PANEL)
    };
    let mut asked = false;
    let mut sources: HashMap<i64, Value> = HashMap::new();
    each_panel(root, &mut |panel| {
        if refers(panel) || list(panel, "targets").iter().any(refers) {
            asked = true;
        } else if let Some(id) = integer(panel, "id") {
            let kept =
                ["targets", "datasource", "transformations", "interval", "maxDataPoints", "timeFrom", "timeShift"];
            let part = kept.iter().filter_map(|k| Some(((*k).to_owned(), panel.get(*k)?.clone())));
            sources.insert(id, Value::Object(part.collect()));
        }
    });
    if !asked {
        return;
    }
    each_panel(root, &mut |panel| {
        let of_panel = refers(panel);
        let targets = list(panel, "targets").to_vec();
        let Some(target) = targets.iter().find(|t| at(t, "panelId").is_some() && (of_panel || refers(t))) else {
            return;
        };
        let Some(source) = integer(target, "panelId").and_then(|id| sources.get(&id)) else { return };
        let own = list(panel, "transformations").to_vec();
        let with_theirs = flag(target, "withTransforms") == Some(true);
        for (name, value) in source.as_object().into_iter().flatten().filter(|(n, _)| *n != "transformations") {
            set_member(panel, name, value.clone());
        }
        if with_theirs {
            let all: Vec<Value> = list(source, "transformations").iter().cloned().chain(own).collect();
            set_member(panel, "transformations", Value::Array(all));
        }
    });
}

#[cfg(test)]
mod tests {
    use crate::dashboard::load::load;

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let d = load(source, "f").unwrap();
        let got: Vec<String> = d
            .panels()
            .map(|p| {
                let exprs: Vec<&str> = p.targets.iter().map(|t| t.expr.as_str()).collect();
                format!("{} {} {:?} {}", p.kind, p.title, exprs, p.transformations.len())
            })
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn panels_show_the_result_of_another() {
        check(
            r#"{"panels": [{"id": 1, "title": "A", "targets": [{"expr": "up"}], "transformations": [{"id": "merge"}]},
                {"id": 2, "title": "B", "type": "stat", "datasource": {"type": "datasource", "uid": "-- Dashboard --"},
                 "targets": [{"panelId": 1, "refId": "A"}]},
                {"id": 3, "title": "C", "datasource": "-- Dashboard --", "transformations": [{"id": "limit"}],
                 "targets": [{"panelId": 1, "withTransforms": true}]},
                {"id": 4, "title": "D", "datasource": "-- Dashboard --", "targets": [{"panelId": 9}]}]}"#,
            &["timeseries A [\"up\"] 1", "stat B [\"up\"] 0", "timeseries C [\"up\"] 2", "timeseries D [] 0"],
        );
    }

    #[test]
    fn panels_of_the_files_own_library_are_filled_in() {
        check(
            r#"{"__elements": {"l1": {"name": "Lib", "model": {"type": "stat", "title": "Of the library", "targets": [{"expr": "x"}]}}},
              "panels": [{"id": 1, "libraryPanel": {"uid": "l1", "name": "Lib"}},
                {"id": 2, "title": "Own", "libraryPanel": {"uid": "l1", "name": "Lib"}},
                {"id": 3, "libraryPanel": {"uid": "gone", "name": "Gone"}}]}"#,
            &["stat Of the library [\"x\"] 0", "stat Own [\"x\"] 0", "library-panel Gone [] 0"],
        );
    }
}
