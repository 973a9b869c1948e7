//! The old table panel: its styles to overrides, its ways to put series together to transformations.

use serde_json::{Value, json};

use crate::dashboard::json::{as_number, at, flag, integer, list, number, set, string, strings, text};

use super::{calc_of, range_mappings, regex_or_name, value_mappings};

/// Whether a panel of type `table` is of the time when that was another panel.
pub(super) fn is_old(panel: &Value) -> bool {
    at(panel, "styles").is_some_and(Value::is_array) && at(panel, "options").is_none()
}

pub(super) fn upgrade(panel: &mut Value) {
    let old = panel.clone();
    let is_reduced = text(&old, "transform") == Some("timeseries_aggregations");
    let mut defaults = json!({});
    let mut overrides = Vec::new();
    for style in list(&old, "styles") {
        let properties = properties(style);
        match string(style, "pattern").as_str() {
            "" => {}
            // The last style of most tables, for all columns that no other one names.
            "/.*/" => properties.into_iter().for_each(|(id, value)| set(&mut defaults, id, value)),
            pattern => overrides.push(over(pattern, is_reduced, properties)),
        }
    }
    set(panel, "fieldConfig", json!({"defaults": defaults, "overrides": overrides}));
    set(panel, "options", options(&old, is_reduced));
    if let Some(transformation) = transformation(&old) {
        set(panel, "transformations", json!([transformation]));
    }
    set(panel, "type", json!("table"));
}

fn over(pattern: &str, is_reduced: bool, properties: Vec<(&str, Value)>) -> Value {
    let name = if is_reduced { column_name(pattern) } else { pattern };
    let (id, options) = regex_or_name(name);
    let properties: Vec<Value> = properties.into_iter().map(|(id, v)| json!({"id": id, "value": v})).collect();
    json!({"matcher": {"id": id, "options": options}, "properties": properties})
}

/// The name that a column of calculations has now.
fn column_name(old: &str) -> &str {
    match old {
        "Metric" => "Field",
        "Current" => "Last *",
        "Avg" => "Mean",
        other => other,
    }
}

fn options(old: &Value, is_reduced: bool) -> Value {
    let mut out = json!({"showHeader": flag(old, "showHeader").unwrap_or(true)});
    // Columns were sorted by their number, which is known where the panel itself makes them.
    let sorted = integer(old, "sort.col").and_then(|c| usize::try_from(c).ok()).filter(|_| is_reduced);
    let columns = list(old, "columns");
    let name = sorted.and_then(|c| match c {
        0 => Some("Metric"),
        c => text(columns.get(c - 1)?, "text"),
    });
    if let Some(name) = name {
        let rule = json!({"displayName": column_name(name), "desc": flag(old, "sort.desc").unwrap_or(false)});
        set(&mut out, "sortBy", json!([rule]));
    }
    out
}

fn transformation(old: &Value) -> Option<Value> {
    let id = match text(old, "transform")? {
        "timeseries_to_rows" => "seriesToRows",
        "timeseries_to_columns" => "joinByField",
        "timeseries_aggregations" => {
            let calcs: Vec<&str> = list(old, "columns").iter().filter_map(|c| text(c, "value")).map(calc_of).collect();
            return Some(json!({"id": "reduce", "options": {"reducers": calcs, "includeTimeField": false}}));
        }
        "table" => "merge",
        _ => return None,
    };
    Some(json!({"id": id, "options": {}}))
}

/// Properties of the columns that a style names.
fn properties(style: &Value) -> Vec<(&'static str, Value)> {
    let mut out: Vec<(&'static str, Value)> = Vec::new();
    if let Some(alias) = text(style, "alias").filter(|a| !a.is_empty()) {
        out.push(("displayName", json!(alias)));
    }
    if let Some(align @ ("left" | "center" | "right")) = text(style, "align") {
        out.push(("custom.align", json!(align)));
    }
    if let Some(url) = text(style, "linkUrl").filter(|u| !u.is_empty() && flag(style, "link") == Some(true)) {
        let title = cells(&string(style, "linkTooltip"));
        let link = json!({"title": title, "url": cells(url), "targetBlank": flag(style, "linkTargetBlank")});
        out.push(("links", json!([link])));
    }
    match text(style, "type") {
        Some("hidden") => out.push(("custom.hidden", json!(true))),
        Some("date") => {
            let format = text(style, "dateFormat").filter(|f| !f.is_empty()).unwrap_or("YYYY-MM-DD HH:mm:ss");
            out.push(("unit", json!(format!("time: {format}"))));
        }
        Some("number") => {
            out.extend(text(style, "unit").map(|unit| ("unit", json!(unit))));
            out.extend(number(style, "decimals").map(|d| ("decimals", json!(d))));
            colors(style, &mut out);
        }
        Some("string") => colors(style, &mut out),
        _ => {}
    }
    let mappings = match integer(style, "mappingType") {
        Some(2) => range_mappings(list(style, "rangeMaps")),
        _ => value_mappings(list(style, "valueMaps")),
    };
    if !mappings.is_empty() {
        out.push(("mappings", Value::Array(mappings)));
    }
    out
}

/// Thresholds and what of a cell they colour.
fn colors(style: &Value, out: &mut Vec<(&'static str, Value)>) {
    let cell = match text(style, "colorMode") {
        Some("cell") => json!({"type": "color-background", "mode": "basic"}),
        Some("row") => json!({"type": "color-background", "mode": "basic", "applyToRow": true}),
        Some("value") => json!({"type": "color-text"}),
        _ => return,
    };
    let bounds = list(style, "thresholds").iter().filter_map(as_number).map(|b| json!(b));
    let bounds = std::iter::once(Value::Null).chain(bounds);
    let steps = strings(style, "colors").into_iter().zip(bounds).map(|(color, v)| json!({"color": color, "value": v}));
    out.push(("thresholds", json!({"mode": "absolute", "steps": steps.collect::<Vec<_>>()})));
    out.push(("color.mode", json!("thresholds")));
    out.push(("custom.cellOptions", cell));
}

/// An address with the old names of cells, `$__cell` and `$__cell_2`, by their present ones.
fn cells(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let is_braced = rest.starts_with("${__cell");
        let Some(after) = rest.strip_prefix("${__cell").or_else(|| rest.strip_prefix("$__cell")) else {
            out.push('$');
            rest = &rest[1..];
            continue;
        };
        let digits: String = after.strip_prefix('_').unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
        rest = if digits.is_empty() { after } else { &after[1 + digits.len()..] };
        let end = if is_braced { rest.find('}').unwrap_or(rest.len()) } else { 0 };
        let format = &rest[..end];
        rest = &rest[end..];
        if is_braced {
            rest = rest.strip_prefix('}').unwrap_or(rest);
        }
        match digits.as_str() {
            "" => out.push_str(&format!("${{__value.text{format}}}")),
            n => out.push_str(&format!("${{__data.fields[{n}]{format}}}")),
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(panel: &Value, path: &str, expected: Value) {
        let mut panel = panel.clone();
        upgrade(&mut panel);
        assert_eq!(at(&panel, path).cloned().unwrap_or(Value::Null), expected, "{path}");
    }

    #[test]
    fn styles_become_overrides() {
        let old = |style: Value| json!({"type": "table", "transform": "table", "styles": [style, {"pattern": "/.*/", "type": "string"}]});
        let plain = old(json!({
            "pattern": "Value #A", "alias": "Use", "type": "number", "unit": "percentunit", "decimals": 1}));
        let properties = json!([{"id": "displayName", "value": "Use"}, {"id": "unit", "value": "percentunit"},
            {"id": "decimals", "value": 1.0}]);
        let over = json!([{"matcher": {"id": "byName", "options": "Value #A"}, "properties": properties}]);
        check(&plain, "fieldConfig.overrides", over);
        check(&plain, "transformations", json!([{"id": "merge", "options": {}}]));
        let mut colored = old(json!({"pattern": "Value", "type": "number", "colorMode": "cell",
            "colors": ["green", "red"], "thresholds": ["0.8"]}));
        upgrade(&mut colored);
        let text = colored["fieldConfig"]["overrides"].to_string();
        assert!(text.contains(r#"{"color":"red","value":0.8}"#) && text.contains("color-background"), "{text}");
    }

    #[test]
    fn calculations_are_columns() {
        let panel = json!({"type": "table-old", "transform": "timeseries_aggregations", "sort": {"col": 1, "desc": true},
            "columns": [{"text": "Avg", "value": "avg"}, {"text": "Current", "value": "current"}],
            "styles": [{"pattern": "Metric", "alias": "Pod", "type": "string"}]});
        let options = json!({"reducers": ["mean", "lastNotNull"], "includeTimeField": false});
        check(&panel, "transformations", json!([{"id": "reduce", "options": options}]));
        check(&panel, "options.sortBy", json!([{"displayName": "Mean", "desc": true}]));
        check(&panel, "type", json!("table"));
    }

    #[test]
    fn links_name_cells_as_they_are_called_now() {
        for (old, new) in [
            ("/d/x?var-a=$__cell", "/d/x?var-a=${__value.text}"),
            ("/d/x?var-a=${__cell:raw}&b=$__cell_2&c=$c", "/d/x?var-a=${__value.text:raw}&b=${__data.fields[2]}&c=$c"),
            ("$__cell_", "${__value.text}_"),
            ("${__cell_1", "${__data.fields[1]}"),
        ] {
            assert_eq!(cells(old), new);
        }
    }
}
