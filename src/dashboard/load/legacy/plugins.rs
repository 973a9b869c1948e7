//! Panels of plugins that show what one of our panels shows: they become that one, with what their options say of
//! units, colours and calculations. What has no likeness keeps its type and says that it is not drawn.

use serde_json::{Value, json};

use crate::dashboard::json::{at, flag, list, number, scalar_text, set, string, text};

use super::{calc_of, field_options, range_mappings, singlestat, value_mappings};

pub(super) fn upgrade(panel: &mut Value) {
    let Some(kind) = text(panel, "type").map(str::to_owned) else { return };
    match kind.as_str() {
        "grafana-piechart-panel" => piechart(panel),
        "natel-discrete-panel" => discrete(panel),
        "flant-statusmap-panel" => statusmap(panel),
        "grafana-polystat-panel" => polystat(panel),
        "vonage-status-panel" | "btplc-status-dot-panel" | "marcusolsson-hexmap-panel" => boxes(panel),
        "blackmirror1-statusbygroup-panel" | "farski-blendstat-panel" => singlestat(panel),
        "michaeldmoore-multistat-panel" | "corpglory-progresslist-panel" => {
            field_options(panel);
            set(panel, "type", json!("bargauge"));
        }
        "briangann-gauge-panel" => gauge(panel),
        "briangann-datatable-panel" => set(panel, "type", json!("table")),
        "mtanda-histogram-panel" => set(panel, "type", json!("histogram")),
        "savantly-heatmap-panel" => set(panel, "type", json!("heatmap")),
        "candlestick" => set(panel, "type", json!("timeseries")),
        "alertlist" => alerts(panel),
        _ => {}
    }
}

fn become_panel(panel: &mut Value, kind: &str, defaults: Value, overrides: Vec<Value>, options: Value) {
    set(panel, "fieldConfig", json!({"defaults": defaults, "overrides": overrides}));
    set(panel, "options", options);
    set(panel, "type", json!(kind));
}

/// What single values are, by the name that the plugin has for the calculation.
fn single(calc: &str) -> Value {
    json!({"calcs": [calc_of(calc)], "values": false})
}

fn unit(panel: &Value, path: &str, defaults: &mut Value) {
    if let Some(unit) = text(panel, path).filter(|u| !u.is_empty()) {
        set(defaults, "unit", json!(unit));
    }
    if let Some(decimals) = number(panel, "decimals") {
        set(defaults, "decimals", json!(decimals));
    }
}

fn piechart(panel: &mut Value) {
    let mut defaults = json!({});
    unit(panel, "format", &mut defaults);
    let colors = panel.get("aliasColors").and_then(Value::as_object).into_iter().flatten();
    let overrides = colors
        .map(|(name, color)| {
            let color = json!({"mode": "fixed", "fixedColor": color});
            json!({"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": color}]})
        })
        .collect();
    let values: Vec<&str> = [("legend.values", "value"), ("legend.percentage", "percent")]
        .into_iter()
        .filter(|(path, _)| flag(panel, path) == Some(true))
        .map(|(_, name)| name)
        .collect();
    let place = text(panel, "legendType").unwrap_or("Under graph");
    let options = json!({
        "pieType": text(panel, "pieType").unwrap_or("pie"),
        "reduceOptions": single(text(panel, "valueName").unwrap_or("current")),
        "displayLabels": if place == "On graph" { json!(["name"]) } else { json!([]) },
        "legend": {
            "showLegend": flag(panel, "legend.show").unwrap_or(true) && place != "On graph", "values": values,
            "placement": if place == "Right side" { "right" } else { "bottom" },
        },
    });
    become_panel(panel, "piechart", defaults, overrides, options);
}

/// Mappings with the colours that a panel keeps by the text which is shown.
fn colored(mappings: Vec<Value>, colors: &[Value]) -> Vec<Value> {
    let color_of = |shown: &str| colors.iter().find(|c| text(c, "text") == Some(shown)).and_then(|c| text(c, "color"));
    let paint = |mut mapping: Value| {
        let result = match text(&mapping, "type") {
            Some("value") => mapping["options"].as_object_mut().and_then(|o| o.values_mut().next()),
            _ => mapping.pointer_mut("/options/result"),
        };
        if let Some(result) = result
            && let Some(color) = text(result, "text").and_then(color_of).map(str::to_owned)
        {
            result["color"] = json!(color);
        }
        mapping
    };
    let mut out: Vec<Value> = mappings.into_iter().map(paint).collect();
    // A value that nothing replaces is shown as it is, and has its colour by that.
    let own = |c: &Value| Some(json!({"type": "value", "options": {text(c, "text")?: {"color": text(c, "color")?}}}));
    out.extend(colors.iter().filter_map(own));
    out
}

fn discrete(panel: &mut Value) {
    let mut defaults = json!({"color": {"mode": "thresholds"}});
    unit(panel, "units", &mut defaults);
    let mut mappings = value_mappings(list(panel, "valueMaps"));
    mappings.extend(range_mappings(list(panel, "rangeMaps")));
    set(&mut defaults, "mappings", Value::Array(colored(mappings, list(panel, "colorMaps"))));
    become_panel(panel, "state-timeline", defaults, Vec::new(), json!({"mergeValues": true, "showValue": "auto"}));
}

fn statusmap(panel: &mut Value) {
    // Versions differ in where they keep their settings.
    let old = at(panel, "color").or(at(panel, "options.color")).cloned().unwrap_or(Value::Null);
    let mut defaults = json!({"color": {"mode": "continuous-GrYlRd"}});
    if text(&old, "mode") == Some("discrete") {
        let mapping = |rule: &Value| {
            let mut result = json!({"color": string(rule, "color")});
            if let Some(words) = text(rule, "tooltip").filter(|t| !t.is_empty()) {
                result["text"] = json!(words);
            }
            Some(json!({"type": "value", "options": {at(rule, "value").and_then(scalar_text)?: result}}))
        };
        let mappings: Vec<Value> = list(&old, "thresholds").iter().filter_map(mapping).collect();
        let steps = json!([{"color": "text", "value": null}]);
        defaults = json!({"color": {"mode": "thresholds"}, "thresholds": {"steps": steps}, "mappings": mappings});
    }
    become_panel(panel, "status-history", defaults, Vec::new(), json!({"showValue": "never"}));
}

/// The look of a coloured box per series.
fn box_options(calc: &str) -> Value {
    json!({"reduceOptions": single(calc), "colorMode": "background", "graphMode": "none", "textMode": "value_and_name"})
}

fn polystat(panel: &mut Value) {
    let old = at(panel, "polystat").or(at(panel, "options")).cloned().unwrap_or(Value::Null);
    let mut defaults = json!({});
    if let Some(unit) = text(&old, "globalUnitFormat") {
        set(&mut defaults, "unit", json!(unit));
    }
    if let Some(decimals) = number(&old, "globalDecimals") {
        set(&mut defaults, "decimals", json!(decimals));
    }
    let first = text(&old, "globalFillColor").unwrap_or("#299c46");
    let mut steps = vec![json!({"color": first, "value": null})];
    let rules = list(&old, "globalThresholdsConfig").iter().chain(list(panel, "savedThresholds"));
    steps.extend(rules.map(|r| json!({"color": string(r, "color"), "value": number(r, "value")})));
    set(&mut defaults, "thresholds", json!({"mode": "absolute", "steps": steps}));
    let options = box_options(text(&old, "globalOperatorName").unwrap_or("avg"));
    become_panel(panel, "stat", defaults, Vec::new(), options);
}

fn boxes(panel: &mut Value) {
    let defaults = at(panel, "fieldConfig.defaults").cloned().unwrap_or(json!({}));
    become_panel(panel, "stat", defaults, Vec::new(), box_options("current"));
}

fn gauge(panel: &mut Value) {
    let bound = |name: &str, open: f64| number(panel, name).unwrap_or(open);
    let mut defaults = json!({"min": bound("minValue", 0.0), "max": bound("maxValue", 100.0)});
    unit(panel, "unitFormat", &mut defaults);
    let options = json!({"reduceOptions": single(text(panel, "operatorName").unwrap_or("avg"))});
    become_panel(panel, "gauge", defaults, Vec::new(), options);
}

/// What a list of alerts says when it is empty.
const NO_ALERTS: &str =
    "No alert fires. Rules are not evaluated here; shown are the series ALERTS that servers which do so send.";

/// The list of alerts: rules are evaluated elsewhere, and what they find comes as the series `ALERTS`.
fn alerts(panel: &mut Value) {
    let name = text(panel, "options.alertName").map(str::trim).filter(|n| !n.is_empty());
    let by_name = name.map(|n| {
        let pattern = regex::escape(n).replace('\\', "\\\\").replace('"', "\\\"");
        format!(", alertname=~\"(?i).*{pattern}.*\"")
    });
    let states = match flag(panel, "options.stateFilter.pending") {
        Some(false) => "firing",
        _ => "firing|pending",
    };
    let expr = format!("ALERTS{{alertstate=~\"{states}\"{}}}", by_name.unwrap_or_default());
    let target = json!({"refId": "A", "expr": expr, "instant": true, "format": "table"});
    let columns = json!({
        "excludeByName": {"Time": true, "Value": true, "__name__": true},
        "indexByName": {"alertstate": 0, "alertname": 1, "severity": 2},
    });
    set(panel, "targets", json!([target]));
    set(panel, "datasource", Value::Null);
    set(panel, "transformations", json!([{"id": "organize", "options": columns}]));
    let colors = json!([{"type": "value", "options": {"firing": {"color": "red"}, "pending": {"color": "orange"}}}]);
    let properties =
        json!([{"id": "mappings", "value": colors}, {"id": "custom.cellOptions", "value": {"type": "color-text"}}]);
    let state = json!({"matcher": {"id": "byName", "options": "alertstate"}, "properties": properties});
    become_panel(panel, "table", json!({"noValue": NO_ALERTS}), vec![state], json!({"showHeader": true}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(panel: Value, expected: &[(&str, Value)]) {
        let mut panel = panel;
        upgrade(&mut panel);
        for (path, value) in expected {
            assert_eq!(at(&panel, path).cloned().unwrap_or(Value::Null), *value, "{path}: {panel}");
        }
    }

    #[test]
    fn plugins_become_the_panels_that_show_the_same() {
        check(
            json!({"type": "grafana-piechart-panel", "pieType": "donut", "format": "bytes", "valueName": "avg",
                "legendType": "Right side", "legend": {"show": true, "values": true, "percentage": true},
                "aliasColors": {"a": "#ff0000"}}),
            &[
                ("type", json!("piechart")),
                ("options.pieType", json!("donut")),
                ("options.reduceOptions.calcs", json!(["mean"])),
                ("options.legend.placement", json!("right")),
                ("options.legend.values", json!(["value", "percent"])),
                ("fieldConfig.defaults.unit", json!("bytes")),
            ],
        );
        let up = json!({"type": "value", "options": {"1": {"text": "UP", "color": "#00ff00"}}});
        let raw = json!({"type": "value", "options": {"UP": {"color": "#00ff00"}}});
        check(
            json!({"type": "natel-discrete-panel", "valueMaps": [{"value": "1", "text": "UP"}],
                "rangeMaps": [], "colorMaps": [{"text": "UP", "color": "#00ff00"}]}),
            &[("type", json!("state-timeline")), ("fieldConfig.defaults.mappings", json!([up, raw]))],
        );
        check(
            json!({"type": "flant-statusmap-panel", "color": {"mode": "discrete", "thresholds": [
                {"value": 1, "color": "green", "tooltip": "ok"}]}}),
            &[
                ("type", json!("status-history")),
                (
                    "fieldConfig.defaults.mappings",
                    json!([{"type": "value", "options": {"1": {"color": "green", "text": "ok"}}}]),
                ),
            ],
        );
        check(
            json!({"type": "grafana-polystat-panel", "polystat": {"globalUnitFormat": "s", "globalOperatorName": "max"}}),
            &[
                ("type", json!("stat")),
                ("options.reduceOptions.calcs", json!(["max"])),
                ("fieldConfig.defaults.unit", json!("s")),
            ],
        );
        check(json!({"type": "jdbranham-diagram-panel"}), &[("type", json!("jdbranham-diagram-panel"))]);
    }

    #[test]
    fn alerts_are_asked_for_by_state_and_name() {
        let expr = |options: Value| {
            let mut panel = json!({"type": "alertlist", "options": options});
            upgrade(&mut panel);
            let expr = string(&panel["targets"][0], "expr");
            assert!(promontory_promql::parser::parse(&expr).is_ok(), "{expr}");
            expr
        };
        assert_eq!(expr(json!({})), r#"ALERTS{alertstate=~"firing|pending"}"#);
        assert_eq!(
            expr(json!({"alertName": "a\"b.c", "stateFilter": {"pending": false}})),
            r#"ALERTS{alertstate=~"firing", alertname=~"(?i).*a\"b\\.c.*"}"#
        );
    }
}
