//! The second schema of Grafana (`elements` and `layout`) to the classic one.
//!
//! Panels stand in `elements` by name, a layout says where. Layouts inside of layouts become rows; a tab is a row, too,
//! closed but for the first. Both spellings of the schema are read, that of `v2alpha1` and that of `v2beta1`.

use serde_json::{Map, Value, json};

use crate::dashboard::json::{at, flag, integer, list, set, string, text};

/// Layouts inside of layouts that are followed.
const DEPTH_MAX: usize = 8;
/// Columns of the grid, and the height of a panel whose layout names none.
const COLUMNS: i64 = 24;
const AUTO_HEIGHT: i64 = 9;

/// Whether `root` is of the second schema.
pub(super) fn is_v2(root: &Value) -> bool {
    at(root, "elements").is_some_and(Value::is_object) && at(root, "layout").is_some_and(Value::is_object)
}

/// The same dashboard in the classic schema.
pub(super) fn to_classic(root: &Value) -> Value {
    let mut out = Map::new();
    for name in ["title", "description", "tags", "links", "uid", "version", "promontory"] {
        if let Some(value) = root.get(name) {
            out.insert(name.to_owned(), value.clone());
        }
    }
    let mut out = Value::Object(out);
    for (from, to) in [
        ("timeSettings.from", "time.from"),
        ("timeSettings.to", "time.to"),
        ("timeSettings.timezone", "timezone"),
        ("timeSettings.autoRefresh", "refresh"),
    ] {
        if let Some(value) = at(root, from) {
            set(&mut out, to, value.clone());
        }
    }
    let shared = match text(root, "cursorSync") {
        Some("Crosshair") => 1,
        Some("Tooltip") => 2,
        _ => 0,
    };
    set(&mut out, "graphTooltip", json!(shared));
    let variables = list(root, "variables").iter().filter_map(variable).collect();
    set(&mut out, "templating.list", Value::Array(variables));
    let annotations = list(root, "annotations").iter().map(annotation).collect();
    set(&mut out, "annotations.list", Value::Array(annotations));
    let mut placed = Placed { elements: root.get("elements").unwrap_or(&Value::Null), panels: Vec::new(), y: 0 };
    placed.layout(root.get("layout").unwrap_or(&Value::Null), 0);
    set(&mut out, "panels", Value::Array(placed.panels));
    out
}

/// Panels in their places, one below the other.
struct Placed<'a> {
    elements: &'a Value,
    panels: Vec<Value>,
    /// First free line of the grid.
    y: i64,
}

impl Placed<'_> {
    fn layout(&mut self, layout: &Value, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        let parts = |name: &str| list(layout, &format!("spec.{name}"));
        match text(layout, "kind").unwrap_or("") {
            "RowsLayout" => parts("rows").iter().for_each(|r| self.row(r, flag(r, "spec.collapse"), depth)),
            "TabsLayout" => parts("tabs").iter().enumerate().for_each(|(i, t)| self.row(t, Some(i > 0), depth)),
            "AutoGridLayout" | "ResponsiveGridLayout" => {
                let columns = integer(layout, "spec.maxColumnCount").unwrap_or(3).clamp(1, COLUMNS);
                self.even(parts("items"), columns);
            }
            _ => self.grid(parts("items")),
        }
    }

    /// The head of a row with what stands below it; closed rows carry their panels.
    fn row(&mut self, row: &Value, collapsed: Option<bool>, depth: usize) {
        let is_closed = collapsed.unwrap_or(false);
        let begin = self.panels.len();
        if flag(row, "spec.hideHeader") != Some(true) {
            let repeat = string(row, "spec.repeat.value");
            self.panels.push(json!({
                "type": "row", "title": string(row, "spec.title"), "collapsed": is_closed, "repeat": repeat,
                "gridPos": {"x": 0, "y": self.y, "w": COLUMNS, "h": 1},
            }));
            self.y += 1;
        }
        self.layout(row.get("spec").and_then(|s| s.get("layout")).unwrap_or(&Value::Null), depth + 1);
        if is_closed && self.panels.len() > begin + 1 && text(&self.panels[begin], "type") == Some("row") {
            // Rows know no rows inside; those of a closed one stand open below it.
            let is_plain = |p: &Value| text(p, "type") != Some("row");
            let n = self.panels[begin + 1..].iter().take_while(|p| is_plain(p)).count();
            let inside: Vec<Value> = self.panels.drain(begin + 1..begin + 1 + n).collect();
            set(&mut self.panels[begin], "panels", Value::Array(inside));
        }
    }

    fn grid(&mut self, items: &[Value]) {
        let top = self.y;
        let mut bottom = top;
        for item in items {
            let number = |name: &str, default: i64| integer(item, &format!("spec.{name}")).unwrap_or(default);
            if text(item, "kind") == Some("GridLayoutRow") {
                self.y = bottom;
                let title = string(item, "spec.title");
                let collapsed = flag(item, "spec.collapsed").unwrap_or(false);
                let below = json!({"spec": {"title": title, "repeat": at(item, "spec.repeat").cloned(),
                    "layout": {"kind": "GridLayout", "spec": {"items": list(item, "spec.elements")}}}});
                self.row(&below, Some(collapsed), DEPTH_MAX - 1);
                bottom = bottom.max(self.y);
                continue;
            }
            let place = [number("x", 0), top + number("y", 0), number("width", 12), number("height", 8)];
            bottom = bottom.max(place[1] + place[3]);
            self.panel(item, place);
        }
        self.y = bottom;
    }

    fn even(&mut self, items: &[Value], columns: i64) {
        let w = COLUMNS / columns;
        for (i, item) in (0i64..).zip(items) {
            self.panel(item, [i % columns * w, self.y + i / columns * AUTO_HEIGHT, w, AUTO_HEIGHT]);
        }
        let lines = (items.len() as i64 + columns - 1) / columns;
        self.y += lines * AUTO_HEIGHT;
    }

    fn panel(&mut self, item: &Value, [x, y, w, h]: [i64; 4]) {
        let Some(element) = text(item, "spec.element.name").and_then(|n| self.elements.get(n)) else { return };
        let mut panel = panel(element);
        set(&mut panel, "gridPos", json!({"x": x, "y": y, "w": w, "h": h}));
        if let Some(variable) = text(item, "spec.repeat.value") {
            set(&mut panel, "repeat", json!(variable));
            set(&mut panel, "repeatDirection", json!(text(item, "spec.repeat.direction").unwrap_or("h")));
            if let Some(most) = integer(item, "spec.repeat.maxPerRow") {
                set(&mut panel, "maxPerRow", json!(most));
            }
        }
        self.panels.push(panel);
    }
}

/// The kind of thing that a `kind` stands for, which newer files have as `group`.
fn group<'a>(value: &'a Value, general: &str) -> Option<&'a str> {
    text(value, "kind").filter(|k| *k != general).or_else(|| text(value, "group"))
}

fn panel(element: &Value) -> Value {
    let mut out = json!({});
    for name in ["id", "title", "description", "links", "transparent", "libraryPanel"] {
        if let Some(value) = element.get("spec").and_then(|s| s.get(name)) {
            set(&mut out, name, value.clone());
        }
    }
    if text(element, "kind") == Some("LibraryPanel") {
        return out;
    }
    let viz = at(element, "spec.vizConfig").unwrap_or(&Value::Null);
    set(&mut out, "type", json!(group(viz, "VizConfig").unwrap_or("timeseries")));
    for name in ["options", "fieldConfig"] {
        if let Some(value) = at(viz, &format!("spec.{name}")) {
            set(&mut out, name, value.clone());
        }
    }
    let targets = list(element, "spec.data.spec.queries").iter().map(target).collect();
    set(&mut out, "targets", Value::Array(targets));
    let transformation = |t: &Value| {
        let mut one = t.get("spec").cloned().unwrap_or(Value::Null);
        if text(&one, "id").is_none() {
            set(&mut one, "id", json!(group(t, "Transformation").unwrap_or("")));
        }
        one
    };
    let all = list(element, "spec.data.spec.transformations").iter().map(transformation).collect();
    set(&mut out, "transformations", Value::Array(all));
    if let Some(options) = at(element, "spec.data.spec.queryOptions").and_then(Value::as_object) {
        for (name, value) in options {
            set(&mut out, name, value.clone());
        }
    }
    out
}

/// The fields of a query, flat, with its data source.
fn query(value: &Value) -> Value {
    let mut out = at(value, "spec").cloned().unwrap_or(json!({}));
    let kind = group(value, "DataQuery").unwrap_or("");
    if out.is_object() && at(&out, "datasource").is_none() {
        set(&mut out, "datasource", json!({"type": kind, "uid": string(value, "datasource.name")}));
    }
    out
}

fn target(value: &Value) -> Value {
    let mut out = query(at(value, "spec.query").unwrap_or(&Value::Null));
    if !out.is_object() {
        out = json!({});
    }
    set(&mut out, "refId", json!(string(value, "spec.refId")));
    set(&mut out, "hide", json!(flag(value, "spec.hidden").unwrap_or(false)));
    if let Some(source) = at(value, "spec.datasource") {
        set(&mut out, "datasource", source.clone());
    }
    out
}

fn annotation(value: &Value) -> Value {
    let mut out = at(value, "spec").cloned().unwrap_or(json!({}));
    let found = at(value, "spec.query").map(query);
    if let (Some(query), true) = (found, out.is_object()) {
        for (name, member) in query.as_object().into_iter().flatten() {
            if out.get(name).is_none() {
                set(&mut out, name, member.clone());
            }
        }
    }
    out
}

/// Names of orders, each at its number.
const SORTS: [&str; 9] = [
    "disabled",
    "alphabeticalAsc",
    "alphabeticalDesc",
    "numericalAsc",
    "numericalDesc",
    "alphabeticalCaseInsensitiveAsc",
    "alphabeticalCaseInsensitiveDesc",
    "naturalAsc",
    "naturalDesc",
];

fn variable(value: &Value) -> Option<Value> {
    let mut out = value.get("spec")?.clone();
    let kind = text(value, "kind")?.trim_end_matches("Variable").to_ascii_lowercase();
    set(&mut out, "type", json!(if kind == "text" { "textbox" } else { kind.as_str() }));
    if kind == "query" {
        let inner = at(value, "spec.query").unwrap_or(&Value::Null);
        let words = ["spec.query", "spec.expr", "spec.__legacyStringValue"].into_iter().find_map(|p| text(inner, p));
        let new = words.map_or_else(|| at(inner, "spec").cloned().unwrap_or(Value::Null), |w| json!(w));
        set(&mut out, "query", new);
    }
    if let Some(number) = text(&out, "sort").and_then(|s| SORTS.iter().position(|n| *n == s)) {
        set(&mut out, "sort", json!(number));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::dashboard::load::load;

    #[test]
    fn both_spellings_of_the_second_schema_are_read() {
        let old = r#"{"kind": "prometheus", "spec": {"expr": "up"}}"#;
        let new = r#"{"kind": "DataQuery", "group": "prometheus", "version": "v0", "spec": {"expr": "up"}}"#;
        for (query, viz) in [
            (old, r#"{"kind": "stat", "spec": {"options": {}, "fieldConfig": {"defaults": {"unit": "s"}}}}"#),
            (new, r#"{"kind": "VizConfig", "group": "stat", "spec": {"fieldConfig": {"defaults": {"unit": "s"}}}}"#),
        ] {
            let text = format!(
                r#"{{"apiVersion": "dashboard.grafana.app/v2beta1", "kind": "Dashboard", "metadata": {{"name": "the-uid"}}, "spec": {{
                    "title": "Second", "cursorSync": "Crosshair", "timeSettings": {{"from": "now-3h", "to": "now", "autoRefresh": "10s"}},
                    "elements": {{"panel-1": {{"kind": "Panel", "spec": {{"id": 1, "title": "A", "vizConfig": {viz}, "data": {{"kind": "QueryGroup", "spec": {{
                        "queries": [{{"kind": "PanelQuery", "spec": {{"refId": "A", "hidden": false, "query": {query}}}}}],
                        "transformations": [{{"kind": "limit", "spec": {{"id": "limit", "options": {{}}}}}}], "queryOptions": {{"interval": "1m"}}}}}}}}}}}},
                    "layout": {{"kind": "RowsLayout", "spec": {{"rows": [{{"kind": "RowsLayoutRow", "spec": {{"title": "R", "collapse": true, "layout":
                        {{"kind": "GridLayout", "spec": {{"items": [{{"kind": "GridLayoutItem", "spec": {{"x": 6, "y": 0, "width": 6, "height": 4,
                            "element": {{"kind": "ElementReference", "name": "panel-1"}}}}}}]}}}}}}}}]}}}},
                    "variables": [{{"kind": "QueryVariable", "spec": {{"name": "job", "sort": "naturalAsc", "query": {{"kind": "prometheus", "spec": {{"query": "label_values(job)"}}}}}}}},
                        {{"kind": "TextVariable", "spec": {{"name": "box", "query": "x"}}}}]}}}}"#
            );
            let d = load(&text, "f").unwrap();
            assert_eq!(
                (d.uid.as_str(), d.title.as_str(), d.from.as_str(), d.refresh.as_str()),
                ("the-uid", "Second", "now-3h", "10s")
            );
            assert_eq!(d.graph_tooltip, 1);
            let names: Vec<String> =
                d.variables.iter().map(|v| format!("{} {:?} {} {}", v.name, v.kind, v.query, v.sort)).collect();
            assert_eq!(names, ["job Query label_values(job) 7", "box Textbox x 0"]);
            assert!(d.sections[0].row.as_ref().is_some_and(|r| r.collapsed && r.title == "R"));
            let p = d.panels().next().unwrap();
            assert_eq!((p.kind.as_str(), p.targets[0].expr.as_str(), p.interval.as_str()), ("stat", "up", "1m"));
            assert_eq!((p.grid.x, p.grid.w, p.grid.h, p.transformations.len()), (6, 6, 4, 1));
        }
    }

    #[test]
    fn tabs_and_even_grids_become_rows() {
        let text = r#"{"title": "T", "elements": {"a": {"kind": "Panel", "spec": {"id": 1}}, "b": {"kind": "Panel", "spec": {"id": 2}}},
            "layout": {"kind": "TabsLayout", "spec": {"tabs": [
                {"kind": "TabsLayoutTab", "spec": {"title": "One", "layout": {"kind": "AutoGridLayout", "spec": {"maxColumnCount": 2, "items": [
                    {"spec": {"element": {"name": "a"}}}, {"spec": {"element": {"name": "b"}}}, {"spec": {"element": {"name": "gone"}}}]}}}},
                {"kind": "TabsLayoutTab", "spec": {"title": "Two", "layout": {"kind": "GridLayout", "spec": {"items": []}}}}]}}}"#;
        let d = load(text, "f").unwrap();
        let rows: Vec<(String, bool)> =
            d.sections.iter().flat_map(|s| &s.row).map(|r| (r.title.clone(), r.collapsed)).collect();
        assert_eq!(rows, [("One".to_owned(), false), ("Two".to_owned(), true)]);
        let places: Vec<(i64, i64)> = d.panels().map(|p| (p.grid.x, p.grid.w)).collect();
        assert_eq!(places, [(0, 12), (12, 12)]);
    }
}
