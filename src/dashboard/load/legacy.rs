//! Old forms to new ones: `rows`, the `graph` and `singlestat` panels, and options of early versions.
//!
//! Works on JSON, so that the reader knows one form only. Panels of plugins that mean what one of ours does become
//! that one in `plugins`, old tables in `table`.
//!
//! # Source
//! The mapping is that of Grafana's own migrations.

mod plugins;
mod table;

use serde_json::{Map, Value, json};

use crate::dashboard::json::{as_number, at, flag, integer, list, number, scalar_text, set, string, strings, text};

/// Brings a whole dashboard up to date.
pub(super) fn upgrade(root: &mut Value) {
    if root.get("panels").and_then(Value::as_array).is_none_or(Vec::is_empty) && root.get("rows").is_some() {
        let panels = rows_to_panels(root);
        set(root, "panels", Value::Array(panels));
    }
    let Some(panels) = root.get_mut("panels").and_then(Value::as_array_mut) else { return };
    panels.retain(|p| !is_saved_copy(p));
    for panel in panels {
        upgrade_panel(panel);
        if let Some(nested) = panel.get_mut("panels").and_then(Value::as_array_mut) {
            nested.retain(|p| !is_saved_copy(p));
            nested.iter_mut().for_each(upgrade_panel);
        }
    }
}

/// Whether a panel is a copy of one that repeats. Early files hold the copies of their last reader.
fn is_saved_copy(panel: &Value) -> bool {
    let repeats = !string(panel, "repeat").is_empty() && flag(panel, "repeatedByRow") != Some(true);
    integer(panel, "repeatPanelId").is_some() && !repeats
}

/// Rows of panels with a span of twelfths become rows of the grid.
fn rows_to_panels(root: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    let mut y = 0i64;
    let rows = list(root, "rows");
    let titled = rows.iter().any(|r| flag(r, "showTitle") == Some(true) || flag(r, "collapse") == Some(true));
    for row in rows.iter().filter(|r| integer(r, "repeatRowId").is_none() || !string(r, "repeat").is_empty()) {
        let height = row_height(row);
        if titled || rows.len() > 1 && !string(row, "title").is_empty() && flag(row, "showTitle") != Some(false) {
            out.push(json!({
                "type": "row", "title": string(row, "title"), "collapsed": false,
                "repeat": row.get("repeat").cloned().unwrap_or(Value::Null),
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            }));
            y += 1;
        }
        let (mut x, mut line) = (0, height);
        let mut collapsed = Vec::new();
        for panel in list(row, "panels") {
            let w = (number(panel, "span").unwrap_or(4.0) * 2.0).round().clamp(1.0, 24.0) as i64;
            let h = panel.get("height").and_then(pixels).map_or(height, grid_units);
            if x + w > 24 {
                (x, y, line) = (0, y + line, height);
            }
            line = line.max(h);
            let mut panel = panel.clone();
            set(&mut panel, "gridPos", json!({"x": x, "y": y, "w": w, "h": h}));
            x += w;
            collapsed.push(panel);
        }
        if x > 0 {
            y += line;
        }
        if flag(row, "collapse") == Some(true)
            && let Some(head) = out.last_mut()
        {
            set(head, "collapsed", Value::Bool(true));
            set(head, "panels", Value::Array(collapsed));
        } else {
            out.extend(collapsed);
        }
    }
    out
}

fn pixels(value: &Value) -> Option<f64> {
    as_number(value).or_else(|| value.as_str()?.trim_end_matches("px").trim().parse().ok())
}

fn grid_units(px: f64) -> i64 {
    (px / 38.0).ceil().clamp(3.0, 60.0) as i64
}

fn row_height(row: &Value) -> i64 {
    grid_units(row.get("height").and_then(pixels).unwrap_or(250.0))
}

fn upgrade_panel(panel: &mut Value) {
    if let Some(most) = integer(panel, "minSpan").filter(|s| *s > 0 && integer(panel, "maxPerRow").is_none()) {
        // Copies of equal width fill a line; the least width was told in columns of the grid.
        let most = [24, 12, 8, 6, 4, 3, 2, 1].into_iter().find(|n| n * most <= 24).unwrap_or(1);
        set(panel, "maxPerRow", json!(most));
    }
    match text(panel, "type") {
        Some("graph") => graph(panel),
        Some("singlestat" | "grafana-singlestat-panel" | "blackmirror1-singlestat-math-panel") => singlestat(panel),
        Some("table-old") => table::upgrade(panel),
        Some("table") if table::is_old(panel) => table::upgrade(panel),
        Some("heatmap") => heatmap(panel),
        Some("text") => {
            for key in ["mode", "content"] {
                if at(panel, &format!("options.{key}")).is_none()
                    && let Some(old) = panel.get(key).cloned()
                {
                    set(panel, &format!("options.{key}"), old);
                }
            }
        }
        Some("gauge" | "stat" | "bargauge") => field_options(panel),
        Some(_) => plugins::upgrade(panel),
        None => {}
    }
}

/// `options.fieldOptions` of version 6 to `fieldConfig` and `reduceOptions`.
fn field_options(panel: &mut Value) {
    let Some(old) = at(panel, "options.fieldOptions").cloned() else { return };
    if at(panel, "options.reduceOptions").is_none() {
        set(
            panel,
            "options.reduceOptions",
            json!({"calcs": strings(&old, "calcs"), "values": flag(&old, "values").unwrap_or(false)}),
        );
    }
    if at(panel, "fieldConfig.defaults").is_none()
        && let Some(defaults) = at(&old, "defaults").cloned()
    {
        set(panel, "fieldConfig.defaults", defaults);
    }
}

fn heatmap(panel: &mut Value) {
    let is_old = at(panel, "options.yAxis").is_none() && at(panel, "yAxis").is_some();
    if !is_old {
        return;
    }
    let calculate = text(panel, "dataFormat").is_none_or(|f| f != "tsbuckets");
    set(panel, "options.calculate", Value::Bool(calculate));
    for (from, to) in [
        ("yAxis.format", "options.yAxis.unit"),
        ("yAxis.decimals", "options.yAxis.decimals"),
        ("color.colorScheme", "options.color.scheme"),
        ("color.exponent", "options.color.exponent"),
        ("color.cardColor", "options.color.fill"),
    ] {
        if let Some(value) = at(panel, from).cloned() {
            set(panel, to, value);
        }
    }
    for (axis, sizes) in
        [("xBuckets", ["xBucketSize", "xBucketNumber"]), ("yBuckets", ["yBucketSize", "yBucketNumber"])]
    {
        let given = |name: &str| panel.get(name).and_then(scalar_text).filter(|v| !v.is_empty());
        let found = ["size", "count"].into_iter().zip(sizes).find_map(|(mode, name)| Some((mode, given(name)?)));
        if let Some((mode, value)) = found {
            set(panel, &format!("options.calculation.{axis}"), json!({"mode": mode, "value": value}));
        }
    }
    if let Some(scheme) = text(panel, "options.color.scheme").map(|s| s.trim_start_matches("interpolate").to_owned()) {
        set(panel, "options.color.scheme", Value::String(scheme));
    }
    if text(panel, "color.mode") == Some("opacity") {
        set(panel, "options.color.mode", json!("opacity"));
    }
}

/// Properties of one y axis of the old graph.
fn axis(yaxis: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    if let Some(unit) = text(yaxis, "format").filter(|u| !u.is_empty()) {
        out.insert("unit".into(), json!(unit));
    }
    for key in ["min", "max", "decimals"] {
        if let Some(v) = number(yaxis, key) {
            out.insert(key.into(), json!(v));
        }
    }
    if let Some(label) = text(yaxis, "label").filter(|l| !l.is_empty()) {
        out.insert("custom.axisLabel".into(), json!(label));
    }
    if flag(yaxis, "show") == Some(false) {
        out.insert("custom.axisPlacement".into(), json!("hidden"));
    }
    if let Some(base) = integer(yaxis, "logBase").filter(|b| *b > 1) {
        out.insert("custom.scaleDistribution".into(), json!({"type": "log", "log": if base == 2 { 2 } else { 10 }}));
    }
    out
}

fn regex_or_name(alias: &str) -> (&'static str, Value) {
    if alias.len() > 2 && alias.starts_with('/') { ("byRegexp", json!(alias)) } else { ("byName", json!(alias)) }
}

/// A graph whose horizontal axis is not the time: a bar per series, or how often values occur.
fn graph_without_time(panel: &mut Value, mode: &str) {
    let old = panel.clone();
    let mut defaults = json!({"color": {"mode": "palette-classic"}});
    for (path, value) in axis(list(&old, "yaxes").first().unwrap_or(&Value::Null)) {
        set(&mut defaults, &path, value);
    }
    set(panel, "fieldConfig", json!({"defaults": defaults, "overrides": graph_overrides(&old)}));
    let (kind, options) = match mode {
        "histogram" => (
            "histogram",
            json!({"bucketCount": number(&old, "xaxis.buckets"), "legend": graph_options(&old)["legend"]}),
        ),
        _ => {
            let calc = strings(&old, "xaxis.values").first().map_or("sum", |c| calc_of(c)).to_owned();
            (
                "bargauge",
                json!({"reduceOptions": {"calcs": [calc], "values": false}, "orientation": "auto", "displayMode": "basic"}),
            )
        }
    };
    set(panel, "options", options);
    set(panel, "type", json!(kind));
}

/// The calculation that an old panel calls so.
fn calc_of(name: &str) -> &str {
    match name {
        "current" => "lastNotNull",
        "avg" => "mean",
        "total" => "sum",
        other => other,
    }
}

fn graph(panel: &mut Value) {
    if let Some(mode @ ("series" | "histogram")) = text(panel, "xaxis.mode").map(str::to_owned).as_deref() {
        return graph_without_time(panel, mode);
    }
    let old = panel.clone();
    let mut defaults = json!({});
    for (path, value) in axis(list(&old, "yaxes").first().unwrap_or(&Value::Null)) {
        set(&mut defaults, &path, value);
    }
    let lines = flag(&old, "lines").unwrap_or(true);
    let bars = flag(&old, "bars").unwrap_or(false);
    let points = flag(&old, "points").unwrap_or(false);
    let style = if bars {
        "bars"
    } else if lines || !points {
        "line"
    } else {
        "points"
    };
    set(&mut defaults, "custom.drawStyle", json!(style));
    set(&mut defaults, "custom.lineWidth", json!(if lines { number(&old, "linewidth").unwrap_or(1.0) } else { 0.0 }));
    let fill = if bars { 100.0 } else { (number(&old, "fill").unwrap_or(0.0) * 10.0).clamp(0.0, 100.0) };
    set(&mut defaults, "custom.fillOpacity", json!(fill));
    if let Some(gradient) = number(&old, "fillGradient").filter(|g| *g > 0.0) {
        set(&mut defaults, "custom.gradientMode", json!("opacity"));
        set(&mut defaults, "custom.fillOpacity", json!((gradient * 10.0).clamp(0.0, 100.0)));
    }
    set(&mut defaults, "custom.showPoints", json!(if points { "always" } else { "never" }));
    if let Some(radius) = number(&old, "pointradius").filter(|_| points) {
        set(&mut defaults, "custom.pointSize", json!(2.0 + 2.0 * radius));
    }
    if flag(&old, "steppedLine") == Some(true) {
        set(&mut defaults, "custom.lineInterpolation", json!("stepAfter"));
    }
    set(&mut defaults, "custom.spanNulls", json!(text(&old, "nullPointMode") == Some("connected")));
    if flag(&old, "stack") == Some(true) {
        let mode = if flag(&old, "percentage") == Some(true) { "percent" } else { "normal" };
        set(&mut defaults, "custom.stacking", json!({"mode": mode, "group": "A"}));
    }
    graph_thresholds(&old, &mut defaults);
    // Where a file already carries a field configuration (links, mostly), it goes on top.
    if let Some(links) = at(&old, "fieldConfig.defaults.links").cloned() {
        set(&mut defaults, "links", links);
    }
    set(panel, "fieldConfig", json!({"defaults": defaults, "overrides": graph_overrides(&old)}));
    set(panel, "options", graph_options(&old));
    set(panel, "type", json!("timeseries"));
}

fn graph_options(old: &Value) -> Value {
    let shown = flag(old, "legend.show").unwrap_or(true);
    let mut calcs = Vec::new();
    if flag(old, "legend.values") == Some(true) {
        for (flag_name, calc) in
            [("min", "min"), ("max", "max"), ("avg", "mean"), ("current", "lastNotNull"), ("total", "sum")]
        {
            if flag(old, &format!("legend.{flag_name}")) == Some(true) {
                calcs.push(calc);
            }
        }
    }
    let sort_by = match text(old, "legend.sort") {
        Some("current") => "Last *",
        Some("avg") => "Mean",
        Some("max") => "Max",
        Some("min") => "Min",
        Some("total") => "Total",
        _ => "",
    };
    json!({
        "legend": {
            "showLegend": shown,
            "displayMode": if flag(old, "legend.alignAsTable") == Some(true) { "table" } else { "list" },
            "placement": if flag(old, "legend.rightSide") == Some(true) { "right" } else { "bottom" },
            "calcs": calcs, "sortBy": sort_by, "sortDesc": flag(old, "legend.sortDesc").unwrap_or(false),
        },
        "tooltip": {
            "mode": if flag(old, "tooltip.shared") == Some(false) { "single" } else { "multi" },
            "sort": match integer(old, "tooltip.sort") { Some(1) => "asc", Some(2) => "desc", _ => "none" },
        },
    })
}

fn graph_overrides(old: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    if let Some(colors) = old.get("aliasColors").and_then(Value::as_object) {
        for (alias, color) in colors {
            out.push(json!({"matcher": {"id": "byName", "options": alias}, "properties": [
                {"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}));
        }
    }
    let right = axis(list(old, "yaxes").get(1).unwrap_or(&Value::Null));
    for series in list(old, "seriesOverrides") {
        let Some(alias) = text(series, "alias") else { continue };
        let (id, options) = regex_or_name(alias);
        let mut properties = Vec::new();
        let mut push = |id: &str, value: Value| properties.push(json!({"id": id, "value": value}));
        if integer(series, "yaxis") == Some(2) {
            for (path, value) in &right {
                push(path, value.clone());
            }
            push("custom.axisPlacement", json!("right"));
        }
        if text(series, "transform") == Some("negative-Y") {
            push("custom.transform", json!("negative-Y"));
        }
        if let Some(fill) = number(series, "fill") {
            push("custom.fillOpacity", json!((fill * 10.0).clamp(0.0, 100.0)));
        }
        if let Some(other) = text(series, "fillBelowTo") {
            push("custom.fillBelowTo", json!(other));
        }
        if let Some(width) = number(series, "linewidth") {
            push("custom.lineWidth", json!(width));
        }
        if flag(series, "dashes") == Some(true) {
            let dash = [number(series, "dashLength").unwrap_or(10.0), number(series, "spaceLength").unwrap_or(10.0)];
            push("custom.lineStyle", json!({"fill": "dash", "dash": dash}));
        }
        if let Some(color) = text(series, "color") {
            push("color", json!({"mode": "fixed", "fixedColor": color}));
        }
        match series.get("stack") {
            Some(Value::Bool(on)) => {
                push("custom.stacking", json!({"mode": if *on { "normal" } else { "none" }, "group": "A"}));
            }
            Some(Value::String(group)) => push("custom.stacking", json!({"mode": "normal", "group": group})),
            _ => {}
        }
        if flag(series, "lines") == Some(false) {
            push("custom.lineWidth", json!(0));
        }
        if flag(series, "bars") == Some(true) {
            push("custom.drawStyle", json!("bars"));
            push("custom.fillOpacity", json!(100));
        }
        if flag(series, "points") == Some(true) {
            push("custom.showPoints", json!("always"));
        }
        if flag(series, "steppedLine") == Some(true) {
            push("custom.lineInterpolation", json!("stepAfter"));
        }
        if flag(series, "legend") == Some(false) {
            push("custom.hideFrom", json!({"legend": true, "viz": false, "tooltip": false}));
        }
        out.push(json!({"matcher": {"id": id, "options": options}, "properties": properties}));
    }
    for (flag_name, reducer) in [("hideZero", "allIsZero"), ("hideEmpty", "allIsNull")] {
        if flag(old, &format!("legend.{flag_name}")) == Some(true) {
            out.push(json!({"matcher": {"id": "byValue", "options": {"reducer": reducer, "op": "gte", "value": 0}},
                "properties": [{"id": "custom.hideFrom", "value": {"legend": true, "tooltip": true, "viz": false}}]}));
        }
    }
    out
}

/// Thresholds above or below a value become steps, transparent where the old panel drew nothing.
fn graph_thresholds(old: &Value, defaults: &mut Value) {
    let mut steps: Vec<(f64, Value)> = Vec::new();
    let (mut area, mut line) = (false, false);
    for threshold in list(old, "thresholds") {
        let Some(value) = number(threshold, "value") else { continue };
        let color = match text(threshold, "colorMode") {
            Some("ok") => json!("green"),
            Some("warning") => json!("orange"),
            Some("custom") => threshold.get("fillColor").cloned().unwrap_or(json!("red")),
            _ => json!("red"),
        };
        area |= flag(threshold, "fill").unwrap_or(false);
        line |= flag(threshold, "line").unwrap_or(false);
        if text(threshold, "op") == Some("lt") {
            steps.push((f64::NEG_INFINITY, color));
            steps.push((value, json!("transparent")));
        } else {
            steps.push((value, color));
        }
    }
    if steps.is_empty() {
        return;
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    if steps[0].0 != f64::NEG_INFINITY {
        steps.insert(0, (f64::NEG_INFINITY, json!("transparent")));
    }
    let steps: Vec<Value> = steps
        .into_iter()
        .map(|(v, color)| json!({"value": if v.is_finite() { json!(v) } else { Value::Null }, "color": color}))
        .collect();
    set(defaults, "thresholds", json!({"mode": "absolute", "steps": steps}));
    let style = match (area, line) {
        (true, true) => "line+area",
        (true, false) => "area",
        (false, true) => "line",
        _ => "off",
    };
    set(defaults, "custom.thresholdsStyle.mode", json!(style));
}

fn singlestat(panel: &mut Value) {
    let old = panel.clone();
    if at(&old, "options.reduceOptions").is_some() {
        set(panel, "type", json!("stat"));
        return;
    }
    let calc = calc_of(text(&old, "valueName").unwrap_or("avg"));
    let is_gauge = flag(&old, "gauge.show").unwrap_or(false);
    let mut defaults = json!({});
    for (from, to) in [("format", "unit"), ("decimals", "decimals")] {
        if let Some(v) = at(&old, from).cloned() {
            set(&mut defaults, to, v);
        }
    }
    if is_gauge {
        set(&mut defaults, "min", json!(number(&old, "gauge.minValue").unwrap_or(0.0)));
        set(&mut defaults, "max", json!(number(&old, "gauge.maxValue").unwrap_or(100.0)));
    }
    let colors = strings(&old, "colors");
    let limits: Vec<f64> = string(&old, "thresholds").split(',').filter_map(|t| t.trim().parse().ok()).collect();
    if !colors.is_empty() {
        let steps: Vec<Value> = colors
            .iter()
            .take(limits.len() + 1)
            .enumerate()
            .map(|(i, c)| json!({"color": c, "value": if i == 0 { Value::Null } else { json!(limits[i - 1]) }}))
            .collect();
        set(&mut defaults, "thresholds", json!({"mode": "absolute", "steps": steps}));
    }
    set(&mut defaults, "mappings", Value::Array(singlestat_mappings(&old)));
    if let Some(text) = text(&old, "nullText").filter(|t| !t.is_empty()) {
        set(&mut defaults, "noValue", json!(text));
    }
    let background = flag(&old, "colorBackground").unwrap_or(false);
    let colored = flag(&old, "colorValue").unwrap_or(false);
    set(panel, "fieldConfig", json!({"defaults": defaults, "overrides": []}));
    // A column matters in a table only; other panels have kept one from earlier days.
    let is_table = list(&old, "targets").iter().any(|t| text(t, "format") == Some("table"));
    let column = text(&old, "tableColumn").filter(|c| is_table && !c.is_empty());
    let fields = column.map(|c| format!("/^{}$/", regex::escape(c))).unwrap_or_default();
    set(
        panel,
        "options",
        json!({
            "reduceOptions": {"calcs": [if calc == "name" { "lastNotNull" } else { calc }], "values": false, "fields": fields},
            "colorMode": if background { "background" } else if colored { "value" } else { "none" },
            "graphMode": if flag(&old, "sparkline.show") == Some(true) { "area" } else { "none" },
            "textMode": if calc == "name" { "name" } else { "value" },
            "showThresholdMarkers": flag(&old, "gauge.thresholdMarkers").unwrap_or(true),
            "prefix": string(&old, "prefix"), "postfix": postfix(&old),
        }),
    );
    set(panel, "type", json!(if is_gauge { "gauge" } else { "stat" }));
}

/// The text behind the number. An `s` once made a plural of a unit of time, which units do themselves now.
fn postfix(old: &Value) -> &str {
    let is_time = matches!(text(old, "format"), Some("s" | "ms" | "m" | "h" | "d" | "dtdurations" | "dtdurationms"));
    text(old, "postfix").filter(|p| !(is_time && p.trim() == "s")).unwrap_or("")
}

/// Replacements of an old panel. It keeps those of values and those of ranges, and says which of them count.
fn singlestat_mappings(old: &Value) -> Vec<Value> {
    let by_range = match integer(old, "mappingType") {
        Some(kind) => kind == 2,
        None => list(old, "valueMaps").is_empty(),
    };
    if by_range { range_mappings(list(old, "rangeMaps")) } else { value_mappings(list(old, "valueMaps")) }
}

fn null_mapping(shown: &str) -> Value {
    json!({"type": "special", "options": {"match": "null", "result": {"text": shown}}})
}

fn value_mappings(maps: &[Value]) -> Vec<Value> {
    let mapping = |map: &Value| {
        let value = at(map, "value").and_then(scalar_text).unwrap_or_default();
        let shown = string(map, "text");
        if value == "null" {
            return null_mapping(&shown);
        }
        json!({"type": "value", "options": {value: {"text": shown}}})
    };
    maps.iter().map(mapping).collect()
}

fn range_mappings(maps: &[Value]) -> Vec<Value> {
    let mapping = |map: &Value| {
        let shown = string(map, "text");
        // Every panel begins with a range from null to null, which stands for no value and not for all.
        if text(map, "from") == Some("null") || text(map, "to") == Some("null") {
            return null_mapping(&shown);
        }
        json!({"type": "range", "options": {
            "from": number(map, "from"), "to": number(map, "to"), "result": {"text": shown}}})
    };
    maps.iter().map(mapping).collect()
}
