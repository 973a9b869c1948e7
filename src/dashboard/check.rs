//! What of a dashboard's file is drawn and what is not, panel by panel.

use std::fmt::Write as _;

use serde_json::Value;

use super::json::{at, flag, text};
use super::load::{LoadError, load};
use super::model::{Dashboard, Expression, Panel, VariableKind};
use super::panels::is_drawn;
use super::transform::APPLIED;

/// How many panels a dashboard has, and how many of them are drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckedPanels {
    /// All but rows.
    pub panels: usize,
    /// Those that show their data.
    pub drawn: usize,
    /// What is not honoured, over all panels.
    pub remarks: usize,
}

/// Checks the text of a dashboard's file. Appends a line for everything that is not honoured to `report`.
///
/// # Errors
/// Why the text is no dashboard.
pub fn check(source: &str, report: &mut String) -> Result<CheckedPanels, String> {
    let dashboard = load(source, "file").map_err(|e: LoadError| e.to_string())?;
    let mut found = CheckedPanels::default();
    let mut say = |line: String| {
        found.remarks += 1;
        let _ = writeln!(report, "  {line}");
    };
    dashboard_remarks(&dashboard, &mut say);
    for panel in dashboard.panels() {
        found.panels += 1;
        let mut remarks = Vec::new();
        if is_drawn(panel) {
            found.drawn += 1;
            panel_remarks(panel, &mut remarks);
        } else {
            remarks.push(match &panel.foreign_source {
                Some(source) => format!("shows a placeholder: the data source {source:?} is not ours"),
                None => format!("shows a placeholder: panels of type {:?} are not drawn", panel.kind),
            });
        }
        found.remarks += remarks.len();
        for remark in remarks {
            let _ = writeln!(report, "  panel {} {:?} ({}): {remark}", panel.id, panel.title, panel.kind);
        }
    }
    Ok(found)
}

fn dashboard_remarks(dashboard: &Dashboard, say: &mut dyn FnMut(String)) {
    for v in dashboard.variables.iter().filter(|v| v.kind == VariableKind::Other) {
        say(format!("variable {:?}: its type is not known", v.name));
    }
}

/// Properties, and values of them, that have no effect here: name, what of its values has none, how it is told.
type Rule = (&'static str, fn(&Value) -> bool, &'static str);

const RULES: [Rule; 2] = [
    ("custom.inspect", |v| v == true, "cells cannot be inspected"),
    ("custom.scaleDistribution.type", |v| v == "ordinal", "the axis is linear"),
];

/// Options of panels, told likewise.
const OPTION_RULES: [Rule; 2] = [
    ("annotations.multiLane", |v| v == true, "events stand in one line"),
    ("timezone", |v| v.as_array().is_some_and(|a| a.len() > 1), "one time zone is shown"),
];

const MATCHERS: [&str; 7] = ["byName", "byRegexp", "byNames", "byFrameRefID", "byType", "byValue", ""];

fn panel_remarks(panel: &Panel, out: &mut Vec<String>) {
    for t in panel.transformations.iter().filter(|t| flag(t, "disabled") != Some(true)) {
        let id = text(t, "id").unwrap_or("");
        if !APPLIED.contains(&id) {
            out.push(format!("transformation {id:?} is not applied"));
        }
    }
    for target in &panel.targets {
        match &target.computed {
            Some(Expression::Math(math)) if math.is_empty() => {
                out.push(format!("expression {} is empty", target.ref_id))
            }
            Some(Expression::Unknown(kind)) => {
                out.push(format!("expression {} ({kind}) is not evaluated", target.ref_id))
            }
            _ => {}
        }
    }
    for (path, concerns, remark) in RULES {
        let by_default = at(&panel.field_config.defaults, path).is_some_and(concerns);
        let mut properties = panel.field_config.overrides.iter().flat_map(|o| &o.properties);
        if by_default || properties.any(|(id, value)| id == path && concerns(value)) {
            out.push(format!("{path}: {remark}"));
        }
    }
    for (path, concerns, remark) in OPTION_RULES {
        if at(&panel.options, path).is_some_and(concerns) {
            out.push(format!("options.{path}: {remark}"));
        }
    }
    if panel.kind == "heatmap" && text(&panel.options, "showValue") == Some("always") {
        out.push("options.showValue: values are not written into cells".to_owned());
    }
    for matcher in panel.field_config.overrides.iter().map(|o| o.matcher.as_str()) {
        if !MATCHERS.contains(&matcher) {
            out.push(format!("overrides by {matcher:?} are not applied"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect(panels: &str, counts: (usize, usize), lines: &[&str]) {
        let mut report = String::new();
        let found = check(&format!("{{\"title\": \"T\", \"panels\": [{panels}]}}"), &mut report).unwrap();
        assert_eq!((found.panels, found.drawn), counts);
        assert_eq!(found.remarks, lines.len());
        assert_eq!(report.lines().map(str::trim).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn what_has_no_effect_is_said_by_panel() {
        expect(r#"{"id": 1, "type": "row"}, {"id": 2, "type": "stat"}"#, (1, 1), &[]);
        expect(
            r#"{"id": 7, "type": "nodeGraph", "title": "G"}, {"id": 8, "targets": [{"datasource": {"type": "loki"}, "expr": "x"}]}"#,
            (2, 0),
            &[
                "panel 7 \"G\" (nodeGraph): shows a placeholder: panels of type \"nodeGraph\" are not drawn",
                "panel 8 \"\" (timeseries): shows a placeholder: the data source \"loki\" is not ours",
            ],
        );
        expect(
            r#"{"id": 3, "transformations": [{"id": "magic"}, {"id": "other", "disabled": true}, {"id": "merge"}],
                "options": {"annotations": {"multiLane": true}},
                "fieldConfig": {"defaults": {"custom": {"inspect": true}}, "overrides": [{"matcher": {"id": "byMagic"}, "properties": []}]}}"#,
            (1, 1),
            &[
                "panel 3 \"\" (timeseries): transformation \"magic\" is not applied",
                "panel 3 \"\" (timeseries): custom.inspect: cells cannot be inspected",
                "panel 3 \"\" (timeseries): options.annotations.multiLane: events stand in one line",
                "panel 3 \"\" (timeseries): overrides by \"byMagic\" are not applied",
            ],
        );
    }

    #[test]
    fn a_broken_file_is_said() {
        assert_eq!(
            check("[]", &mut String::new()),
            Err("not a dashboard: the file does not hold an object".to_owned())
        );
    }
}
