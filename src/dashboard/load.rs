//! Grafana's dashboard JSON to a [`Dashboard`].
//!
//! Tolerant: whatever a file leaves out has its default, unknown members are ignored, and only text that is no JSON
//! or holds no dashboard is an error.

mod legacy;
mod shared;
mod v2;

pub(crate) use shared::LIBRARY;

use std::sync::Arc;

use serde_json::Value;

use super::json::{self, at, flag, integer, list, string, strings, text};
use super::model::{
    AnnotationDef, Dashboard, Expression, FieldConfig, Format, Grid, Link, Needs, Override, Panel, Row, Section,
    Target, VariableDef, VariableKind,
};

/// Why a file is no dashboard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    /// The text is not JSON.
    #[error("{line}:{column}: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// JSON, but no dashboard.
    #[error("not a dashboard: {0}")]
    Shape(&'static str),
}

/// Panels that one dashboard may hold.
const PANELS_MAX: usize = 2_000;

/// Reads a dashboard. `fallback_uid` names it when the file does not.
pub(crate) fn load(source: &str, fallback_uid: &str) -> Result<Dashboard, LoadError> {
    let mut root: Value = serde_json::from_str(source).map_err(|e| {
        let message = e.to_string();
        let message = message.split(" at line ").next().unwrap_or("").to_owned();
        LoadError::Syntax { line: e.line(), column: e.column(), message }
    })?;
    root = unwrapped(root);
    if !root.is_object() {
        return Err(LoadError::Shape("the file does not hold an object"));
    }
    if v2::is_v2(&root) {
        root = v2::to_classic(&root);
    }
    if !["panels", "rows", "title", "templating"].iter().any(|k| root.get(k).is_some()) {
        return Err(LoadError::Shape("none of `title`, `panels`, `rows` is there"));
    }
    resolve_inputs(&mut root);
    shared::fill_in_library(&mut root);
    legacy::upgrade(&mut root);
    shared::fill_in_queries(&mut root);
    Ok(dashboard(&root, fallback_uid))
}

/// The dashboard inside of what an API or a resource of Kubernetes wraps around it.
pub(crate) fn unwrapped(mut root: Value) -> Value {
    let name = text(&root, "metadata.name").map(str::to_owned);
    let is_resource = text(&root, "kind") == Some("Dashboard");
    for member in ["dashboard", "spec"] {
        if let Some(inner) = root.get_mut(member).filter(|d| d.is_object() && (is_resource || member != "spec")) {
            let mut inner = inner.take();
            if let Some(name) = name.filter(|_| is_resource && text(&inner, "uid").is_none_or(str::is_empty)) {
                json::set(&mut inner, "uid", Value::String(name));
            }
            return inner;
        }
    }
    root
}

/// What a file asks of whoever imports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) description: String,
    /// What it is without an answer.
    pub(crate) value: String,
    /// Kind of a data source; empty for a plain value.
    pub(crate) source_kind: String,
}

/// What `root` asks.
pub(crate) fn inputs(root: &Value) -> Vec<Input> {
    let input = |input: &Value| {
        let name = text(input, "name")?.to_owned();
        let is_source = text(input, "type") == Some("datasource");
        Some(Input {
            label: text(input, "label").filter(|l| !l.is_empty()).unwrap_or(&name).to_owned(),
            description: string(input, "description"),
            value: at(input, "value").and_then(json::scalar_text).unwrap_or_default(),
            source_kind: if is_source {
                text(input, "pluginId").unwrap_or("prometheus").to_owned()
            } else {
                String::new()
            },
            name,
        })
    };
    list(root, "__inputs").iter().filter_map(input).collect()
}

/// Answers what a file asks, and takes the questions out of it.
pub(crate) fn with_inputs(root: &mut Value, answer: &dyn Fn(&str) -> Option<String>) {
    if let Some(all) = root.get_mut("__inputs").and_then(Value::as_array_mut) {
        for input in all.iter_mut().filter(|i| text(i, "type") != Some("datasource")) {
            if let Some(value) = text(input, "name").and_then(answer) {
                json::set(input, "value", Value::String(value));
            }
        }
    }
    resolve_inputs(root);
    if let Some(members) = root.as_object_mut() {
        for name in ["__inputs", "__requires", "__elements"] {
            members.remove(name);
        }
    }
}

/// Puts the values of `__inputs` in the place of their `${NAME}`; data sources become ours.
fn resolve_inputs(root: &mut Value) {
    let inputs: Vec<(String, String)> = list(root, "__inputs")
        .iter()
        .filter_map(|input| {
            let name = text(input, "name")?;
            let value = match text(input, "type") {
                Some("datasource") => match text(input, "pluginId") {
                    Some("prometheus") | None => "promontory".to_owned(),
                    Some(other) => other.to_owned(),
                },
                _ => at(input, "value").and_then(json::scalar_text)?,
            };
            Some((format!("${{{name}}}"), value))
        })
        .collect();
    if inputs.is_empty() {
        return;
    }
    json::map_strings(root, &mut |s| {
        if !s.contains("${") {
            return None;
        }
        let replaced = inputs.iter().fold(s.to_owned(), |s, (name, value)| s.replace(name.as_str(), value));
        Some(replaced)
    });
}

fn dashboard(root: &Value, fallback_uid: &str) -> Dashboard {
    let uid = text(root, "uid").filter(|u| !u.trim().is_empty()).unwrap_or(fallback_uid).to_owned();
    let title = text(root, "title").filter(|t| !t.trim().is_empty()).unwrap_or(fallback_uid).to_owned();
    let refresh = text(root, "refresh").filter(|r| *r != "auto").unwrap_or("").to_owned();
    Dashboard {
        uid,
        title,
        description: string(root, "description"),
        tags: strings(root, "tags"),
        version: integer(root, "version").unwrap_or(0).clamp(0, 1 << 40),
        timezone: text(root, "timezone").unwrap_or("browser").to_owned(),
        refresh,
        from: time_text(root, "time.from").unwrap_or_else(|| "now-6h".to_owned()),
        to: time_text(root, "time.to").unwrap_or_else(|| "now".to_owned()),
        graph_tooltip: integer(root, "graphTooltip").and_then(|v| u8::try_from(v).ok()).unwrap_or(0),
        variables: list(root, "templating.list").iter().filter_map(variable).collect(),
        sections: sections(root),
        links: list(root, "links").iter().map(link).collect(),
        annotations: list(root, "annotations.list").iter().filter_map(annotation).collect(),
        needs: text(root, "promontory.needs").map(|selector| Needs {
            selector: selector.to_owned(),
            hint: string(root, "promontory.hint"),
            scrape: string(root, "promontory.scrape"),
        }),
    }
}

/// An annotation that a query of ours gives.
fn annotation(value: &Value) -> Option<AnnotationDef> {
    let expr = text(value, "expr").or_else(|| text(value, "target.expr")).filter(|e| !e.trim().is_empty())?;
    if source_kind(value).is_some() {
        return None;
    }
    let keys = string(value, "tagKeys");
    Some(AnnotationDef {
        name: text(value, "name").unwrap_or("Annotations").to_owned(),
        expr: expr.to_owned(),
        step: text(value, "step").or_else(|| text(value, "target.interval")).unwrap_or("").to_owned(),
        color: text(value, "iconColor").unwrap_or("red").to_owned(),
        title_format: string(value, "titleFormat"),
        text_format: string(value, "textFormat"),
        tag_keys: keys.split(',').map(|k| k.trim().to_owned()).filter(|k| !k.is_empty()).collect(),
        // Older files hold it as text.
        use_value_for_time: flag(value, "useValueForTime").unwrap_or(text(value, "useValueForTime") == Some("on")),
        is_on: flag(value, "enable").unwrap_or(true),
        is_fixed: flag(value, "hide").unwrap_or(false),
    })
}

fn time_text(root: &Value, path: &str) -> Option<String> {
    at(root, path).and_then(json::scalar_text)
}

/// Panels in reading order, cut at the rows.
fn sections(root: &Value) -> Vec<Section> {
    let mut all: Vec<&Value> = list(root, "panels").iter().filter(|p| p.is_object()).take(PANELS_MAX).collect();
    // Among panels with a place one without has Grafana's own; where none has one, they are given more room.
    let is_placed = all.iter().any(|p| at(p, "gridPos").is_some());
    let size = if is_placed { (6, 3) } else { (12, 8) };
    all.sort_by_key(|p| (integer(p, "gridPos.y").unwrap_or(0), integer(p, "gridPos.x").unwrap_or(0)));
    let mut ids = Ids::new(root);
    let mut sections: Vec<(Option<Row>, Vec<Panel>)> = vec![(None, Vec::new())];
    for value in all {
        if text(value, "type") == Some("row") {
            let row = Row {
                id: ids.of(value),
                title: string(value, "title"),
                collapsed: flag(value, "collapsed").unwrap_or(false),
                repeat: string(value, "repeat"),
            };
            let mut nested: Vec<&Value> = list(value, "panels").iter().filter(|p| p.is_object()).collect();
            nested.sort_by_key(|p| (integer(p, "gridPos.y").unwrap_or(0), integer(p, "gridPos.x").unwrap_or(0)));
            let is_collapsed = row.collapsed;
            sections.push((Some(row), nested.iter().take(PANELS_MAX).map(|p| panel(p, size, &mut ids)).collect()));
            if is_collapsed {
                // What follows a closed row does not belong to it.
                sections.push((None, Vec::new()));
            }
        } else if let Some((_, panels)) = sections.last_mut() {
            panels.push(panel(value, size, &mut ids));
        }
    }
    sections.retain(|(row, panels)| row.is_some() || !panels.is_empty());
    let placed = |(row, mut panels): (Option<Row>, Vec<Panel>)| {
        place(panels.iter_mut().map(|p| &mut p.grid));
        Section { row, panels: panels.into_iter().map(Arc::new).collect() }
    };
    sections.into_iter().map(placed).collect()
}

/// Ids of panels: those of the file, and fresh ones where it has none or uses one twice.
struct Ids {
    used: std::collections::HashSet<i64>,
    next: i64,
}

impl Ids {
    fn new(root: &Value) -> Self {
        let largest = list(root, "panels")
            .iter()
            .flat_map(|p| std::iter::once(p).chain(list(p, "panels")))
            .filter_map(|p| integer(p, "id"))
            .max()
            .unwrap_or(0);
        Self { used: std::collections::HashSet::new(), next: largest.clamp(0, 1 << 40) + 1 }
    }

    fn of(&mut self, panel: &Value) -> i64 {
        if let Some(id) = integer(panel, "id").filter(|id| *id >= 0)
            && self.used.insert(id)
        {
            return id;
        }
        self.next += 1;
        self.used.insert(self.next - 1);
        self.next - 1
    }
}

/// Makes positions relative to the section and moves panels up into free space, as Grafana's grid does.
pub(crate) fn place<'a>(grids: impl Iterator<Item = &'a mut Grid>) {
    let mut bottom = [0i64; 24];
    for grid in grids {
        grid.w = grid.w.clamp(1, 24);
        grid.h = grid.h.clamp(1, 100);
        grid.x = grid.x.clamp(0, 24 - grid.w);
        let columns = grid.x as usize..(grid.x + grid.w) as usize;
        grid.y = bottom[columns.clone()].iter().copied().max().unwrap_or(0);
        bottom[columns].fill(grid.y + grid.h);
    }
}

fn panel(value: &Value, (w, h): (i64, i64), ids: &mut Ids) -> Panel {
    let grid = Grid {
        x: integer(value, "gridPos.x").unwrap_or(0),
        y: integer(value, "gridPos.y").unwrap_or(0),
        w: integer(value, "gridPos.w").unwrap_or(w),
        h: integer(value, "gridPos.h").unwrap_or(h),
    };
    let source = source_kind(value);
    let mut targets: Vec<Target> = Vec::new();
    let mut foreign = None;
    for (i, t) in list(value, "targets").iter().enumerate() {
        match source_kind(t).or_else(|| source.clone()) {
            Some(kind) if kind != "__expr__" => foreign = foreign.or(Some(kind)),
            _ => targets.extend(target(t, i)),
        }
    }
    Panel {
        id: ids.of(value),
        kind: text(value, "type").unwrap_or("timeseries").to_owned(),
        title: string(value, "title"),
        description: string(value, "description"),
        transparent: flag(value, "transparent").unwrap_or(false),
        grid,
        foreign_source: foreign.filter(|_| targets.iter().all(|t| t.computed.is_some())),
        targets,
        field_config: field_config(value),
        options: at(value, "options").cloned().unwrap_or(Value::Null),
        transformations: list(value, "transformations").to_vec(),
        interval: string(value, "interval"),
        max_data_points: integer(value, "maxDataPoints").filter(|n| *n > 0),
        time_from: string(value, "timeFrom"),
        time_shift: string(value, "timeShift"),
        hide_time_override: flag(value, "hideTimeOverride").unwrap_or(false),
        repeat: string(value, "repeat"),
        repeat_vertical: text(value, "repeatDirection") == Some("v"),
        max_per_row: integer(value, "maxPerRow").filter(|n| *n > 0),
        links: list(value, "links").iter().map(link).collect(),
    }
}

/// The kind of a data source that is surely not ours.
fn source_kind(value: &Value) -> Option<String> {
    let kind = text(value, "datasource.type")?;
    let ours = matches!(kind, "" | "prometheus" | "promontory" | "datasource" | "grafana" | "mixed")
        || kind.contains("prometheus")
        || kind.contains("victoriametrics-metrics")
        || kind.starts_with('$');
    (!ours).then(|| kind.to_owned())
}

fn target(value: &Value, index: usize) -> Option<Target> {
    let letter = char::from(b'A' + u8::try_from(index % 26).unwrap_or(0));
    let is_computed = ["datasource.type", "datasource.uid"].iter().any(|p| text(value, p) == Some("__expr__"));
    let computed = is_computed.then(|| expression(value));
    let expr = string(value, "expr");
    if expr.trim().is_empty() && computed.is_none() {
        return None;
    }
    let instant = flag(value, "instant").unwrap_or(false);
    Some(Target {
        ref_id: text(value, "refId").filter(|r| !r.is_empty()).map_or_else(|| letter.to_string(), str::to_owned),
        expr,
        legend: string(value, "legendFormat"),
        format: match text(value, "format") {
            Some("table") => Format::Table,
            Some("heatmap") => Format::Heatmap,
            _ => Format::TimeSeries,
        },
        instant,
        range: flag(value, "range").unwrap_or(!instant) || !instant,
        hide: flag(value, "hide").unwrap_or(false),
        interval: string(value, "interval"),
        interval_factor: integer(value, "intervalFactor").filter(|f| (1..=1000).contains(f)).unwrap_or(1),
        computed,
    })
}

/// What is computed of other queries.
fn expression(value: &Value) -> Expression {
    let of = string(value, "expression");
    let of = of.trim();
    match text(value, "type").unwrap_or("math") {
        "math" => Expression::Math(of.to_owned()),
        "reduce" => Expression::Reduce { of: name_of(of), calc: text(value, "reducer").unwrap_or("mean").to_owned() },
        "resample" => Expression::Same(name_of(of)),
        "threshold" => {
            let condition = list(value, "conditions").first().unwrap_or(&Value::Null);
            let bound = list(condition, "evaluator.params").first().and_then(json::as_number).unwrap_or(0.0);
            match text(condition, "evaluator.type") {
                Some("gt") => Expression::Above { of: name_of(of), bound },
                Some("lt") => Expression::Below { of: name_of(of), bound },
                other => Expression::Unknown(format!("threshold {}", other.unwrap_or("without a condition"))),
            }
        }
        other => Expression::Unknown(other.to_owned()),
    }
}

/// The query that `A`, `$A` or `${A}` names.
fn name_of(text: &str) -> String {
    text.trim_start_matches('$').trim_matches(['{', '}']).to_owned()
}

fn field_config(panel: &Value) -> FieldConfig {
    FieldConfig {
        defaults: at(panel, "fieldConfig.defaults").cloned().unwrap_or(Value::Null),
        overrides: list(panel, "fieldConfig.overrides")
            .iter()
            .map(|o| Override {
                matcher: string(o, "matcher.id"),
                options: at(o, "matcher.options").cloned().unwrap_or(Value::Null),
                properties: list(o, "properties")
                    .iter()
                    .filter_map(|p| Some((text(p, "id")?.to_owned(), p.get("value").cloned().unwrap_or(Value::Null))))
                    .collect(),
            })
            .collect(),
    }
}

pub(crate) fn link(value: &Value) -> Link {
    Link {
        title: text(value, "title").unwrap_or("Link").to_owned(),
        url: string(value, "url"),
        tags: (text(value, "type") == Some("dashboards")).then(|| strings(value, "tags")),
        as_dropdown: flag(value, "asDropdown").unwrap_or(false),
        new_tab: flag(value, "targetBlank").unwrap_or(false),
        keep_time: flag(value, "keepTime").unwrap_or(false),
        include_vars: flag(value, "includeVars").unwrap_or(false),
    }
}

fn variable(value: &Value) -> Option<VariableDef> {
    let name = text(value, "name")?.to_owned();
    let kind = match text(value, "type").unwrap_or("query") {
        "query" => VariableKind::Query,
        "datasource" => VariableKind::Datasource,
        "custom" => VariableKind::Custom,
        "constant" => VariableKind::Constant,
        "textbox" => VariableKind::Textbox,
        "interval" => VariableKind::Interval,
        "adhoc" => VariableKind::Adhoc,
        _ => VariableKind::Other,
    };
    let auto = flag(value, "auto").unwrap_or(false);
    Some(VariableDef {
        label: text(value, "label").filter(|l| !l.is_empty()).unwrap_or(&name).to_owned(),
        kind,
        query: Some(variable_query(value))
            .filter(|q| !q.trim().is_empty())
            .unwrap_or_else(|| saved_options(value, kind)),
        regex: string(value, "regex"),
        sort: integer(value, "sort").unwrap_or(0),
        multi: flag(value, "multi").unwrap_or(false),
        include_all: flag(value, "includeAll").unwrap_or(false),
        all_value: string(value, "allValue"),
        current: if kind == VariableKind::Adhoc { filters(value) } else { current(value) },
        hide: integer(value, "hide") == Some(2) || text(value, "hide") == Some("hideVariable"),
        auto_count: auto.then(|| integer(value, "auto_count").unwrap_or(30).clamp(1, 10_000)),
        auto_min: text(value, "auto_min").unwrap_or("10s").to_owned(),
        name,
    })
}

/// The query text, which is a string, an object with one, or an object with label and metric only.
fn variable_query(value: &Value) -> String {
    match value.get("query") {
        Some(Value::String(s)) => s.clone(),
        Some(query @ Value::Object(_)) => match (text(query, "query"), text(query, "label"), text(query, "metric")) {
            (Some(q), _, _) => q.to_owned(),
            (None, Some(label), Some(metric)) => format!("label_values({metric}, {label})"),
            (None, Some(label), None) => format!("label_values({label})"),
            _ => string(value, "definition"),
        },
        _ => string(value, "definition"),
    }
}

/// The choices that a file holds of a variable without a query, as the query that would give them.
fn saved_options(value: &Value, kind: VariableKind) -> String {
    if !matches!(kind, VariableKind::Custom | VariableKind::Interval) {
        return String::new();
    }
    let escaped = |text: String| text.replace(',', "\\,");
    let option = |o: &Value| {
        let value = escaped(at(o, "value").and_then(json::scalar_text).filter(|v| v != "$__all")?);
        let text = at(o, "text").and_then(json::scalar_text).map_or_else(|| value.clone(), escaped);
        Some(if text == value { value } else { format!("{text} : {value}") })
    };
    list(value, "options").iter().filter_map(option).collect::<Vec<_>>().join(",")
}

/// The saved conditions of an ad hoc variable, each as its address has it.
fn filters(value: &Value) -> Vec<String> {
    let filter = |f: &Value| Some(format!("{}|{}|{}", text(f, "key")?, text(f, "operator")?, text(f, "value")?));
    list(value, "filters").iter().filter_map(filter).collect()
}

fn current(value: &Value) -> Vec<String> {
    match at(value, "current.value") {
        Some(Value::Array(all)) => all.iter().filter_map(json::scalar_text).collect(),
        Some(one) => json::scalar_text(one).filter(|s| !s.is_empty()).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_file_stand_in_for_a_missing_query() {
        let text = r#"{"title": "T", "templating": {"list": [
            {"name": "i", "type": "custom", "options": [{"text": "All", "value": "$__all"}, {"text": "30s", "value": "30s"}, {"text": "a,b", "value": 5}]},
            {"name": "j", "type": "custom", "query": "x,y", "options": [{"text": "z", "value": "z"}]},
            {"name": "k", "type": "query", "query": "", "options": [{"text": "z", "value": "z"}]}]}}"#;
        let queries: Vec<String> = load(text, "f").unwrap().variables.into_iter().map(|v| v.query).collect();
        assert_eq!(queries, ["30s,a\\,b : 5", "x,y", ""]);
    }

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let got = match load(source, "file") {
            Ok(d) => {
                let panels: Vec<String> = d
                    .sections
                    .iter()
                    .flat_map(|s| {
                        let row = s.row.iter().map(|r| format!("[{}]", r.title));
                        row.chain(s.panels.iter().map(|p| {
                            format!("{}#{}@{},{},{}x{}", p.kind, p.id, p.grid.x, p.grid.y, p.grid.w, p.grid.h)
                        }))
                    })
                    .collect();
                format!("{} {}: {}", d.uid, d.title, panels.join(" "))
            }
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn broken_files_say_where() {
        check("{\n  \"title\": oops }", "2:12: expected value");
        check("[1]", "not a dashboard: the file does not hold an object");
        check("{\"a\": 1}", "not a dashboard: none of `title`, `panels`, `rows` is there");
    }

    #[test]
    fn panels_get_defaults_ids_and_places() {
        check(
            r#"{"title": "T", "panels": [{}, {"id": 1, "gridPos": {"x": 20, "y": 9, "w": 12, "h": 4}}]}"#,
            "file T: timeseries#2@0,0,6x3 timeseries#1@12,0,12x4",
        );
        check(r#"{"title": "T", "panels": [{}, {}]}"#, "file T: timeseries#1@0,0,12x8 timeseries#2@0,8,12x8");
        check(
            r#"{"dashboard": {"uid": "u", "title": "T", "panels": [
                {"type": "row", "id": 1, "title": "R", "gridPos": {"y": 5}, "collapsed": true, "panels": [{"type": "stat", "id": 3}]},
                {"type": "text", "id": 3, "gridPos": {"x": 0, "y": 0, "w": 24, "h": 2}}]}}"#,
            "u T: text#3@0,0,24x2 [R] stat#4@0,0,6x3",
        );
    }

    #[test]
    fn old_rows_become_a_grid() {
        check(
            r#"{"title": "T", "rows": [{"title": "One", "showTitle": true, "height": "250px", "panels": [
                {"type": "graph", "span": 8}, {"type": "singlestat", "span": 4}, {"type": "text", "span": 12}]}]}"#,
            "file T: [One] timeseries#2@0,0,16x7 stat#3@16,0,8x7 text#4@0,7,24x7",
        );
    }

    #[test]
    fn inputs_resolve_to_our_source() {
        let d = load(
            r#"{"title": "T", "__inputs": [{"name": "DS_X", "type": "datasource", "pluginId": "prometheus"},
                {"name": "VAR_J", "type": "constant", "value": "node"}],
              "panels": [{"datasource": "${DS_X}", "targets": [{"expr": "up{job=\"${VAR_J}\"}"}]}]}"#,
            "f",
        )
        .unwrap();
        let panel = d.panels().next().unwrap();
        assert_eq!((panel.targets[0].expr.as_str(), panel.targets[0].ref_id.as_str()), ("up{job=\"node\"}", "A"));
    }
}
