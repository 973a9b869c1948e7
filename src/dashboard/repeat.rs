//! Panels and rows that repeat over the values of a variable.

use std::sync::Arc;

use super::interpolate::Binding;
use super::load::place;
use super::model::{Dashboard, Grid, Panel, Row};
use super::variables::Variables;

/// Copies of one panel or row.
const COPIES_MAX: usize = 100;

/// A section ready to draw.
#[derive(Debug, Clone)]
pub(crate) struct Expanded {
    pub(crate) row: Option<Row>,
    /// The row's values of variables.
    pub(crate) scoped: Vec<(String, Binding)>,
    pub(crate) panels: Vec<Copy>,
    /// Unique on the page.
    pub(crate) key: String,
}

/// A panel with the values of the variables that it repeats over.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) panel: Arc<Panel>,
    /// The place of this copy.
    pub(crate) grid: Grid,
    pub(crate) scoped: Vec<(String, Binding)>,
    /// The panel's id, and the number of the copy after a dash.
    pub(crate) key: String,
}

/// The values over which `name` repeats, and what `$name` is inside each copy.
fn copies(name: &str, variables: &Variables) -> Vec<Binding> {
    let Some(variable) = variables.get(name) else { return Vec::new() };
    let text = |value: &str| variable.options.iter().find(|o| o.value == value).map(|o| o.text.clone());
    variable
        .values()
        .into_iter()
        .take(COPIES_MAX)
        .map(|v| Binding { text: text(&v).unwrap_or_else(|| v.clone()), values: vec![v], multi: true, raw_all: None })
        .collect()
}

/// The dashboard's sections with all copies.
pub(crate) fn expand(dashboard: &Dashboard, variables: &Variables) -> Vec<Expanded> {
    let mut out = Vec::new();
    for section in &dashboard.sections {
        let id = section.row.as_ref().map_or(0, |r| r.id);
        let repeat = section.row.as_ref().map_or("", |r| r.repeat.as_str());
        let values = if repeat.is_empty() { Vec::new() } else { copies(repeat, variables) };
        if values.is_empty() {
            let key = id.to_string();
            out.push(Expanded {
                row: section.row.clone(),
                scoped: Vec::new(),
                panels: panels(&section.panels, &[], "", variables),
                key,
            });
            continue;
        }
        for (i, value) in values.into_iter().enumerate() {
            let scoped = vec![(repeat.to_owned(), value)];
            let suffix = if i == 0 { String::new() } else { format!("-r{i}") };
            let panels = panels(&section.panels, &scoped, &suffix, variables);
            out.push(Expanded { row: section.row.clone(), scoped, panels, key: format!("{id}{suffix}") });
        }
    }
    out
}

fn panels(all: &[Arc<Panel>], scoped: &[(String, Binding)], suffix: &str, variables: &Variables) -> Vec<Copy> {
    let mut out: Vec<Copy> = Vec::new();
    let mut is_moved = false;
    for panel in all {
        let values = if panel.repeat.is_empty() { Vec::new() } else { copies(&panel.repeat, variables) };
        if values.is_empty() {
            let key = format!("{}{suffix}", panel.id);
            out.push(Copy { panel: panel.clone(), grid: panel.grid, scoped: scoped.to_vec(), key });
            continue;
        }
        is_moved = true;
        let per_row = panel.max_per_row.unwrap_or(4).clamp(1, 24).min(values.len() as i64);
        for (i, value) in values.into_iter().enumerate() {
            let mut grid = panel.grid;
            if !panel.repeat_vertical {
                grid.w = 24 / per_row;
                grid.x = (i as i64 % per_row) * grid.w;
            }
            let mut scoped = scoped.to_vec();
            scoped.push((panel.repeat.clone(), value));
            let number = if i == 0 { String::new() } else { format!("-{i}") };
            out.push(Copy { panel: panel.clone(), grid, scoped, key: format!("{}{suffix}{number}", panel.id) });
        }
    }
    if is_moved {
        place(out.iter_mut().map(|c| &mut c.grid));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::load::load;
    use crate::dashboard::testing::{Synthetic, window};
    use promontory_model::Cancel;

    #[test]
    fn panels_and_rows_repeat_over_values() {
        let d = load(
            r#"{"title": "T", "templating": {"list": [{"name": "v", "type": "custom", "query": "a,b,c", "multi": true, "includeAll": true}]},
              "panels": [{"id": 1, "repeat": "v", "maxPerRow": 2, "gridPos": {"w": 24, "h": 4}},
                {"id": 2, "gridPos": {"y": 4, "w": 24, "h": 4}},
                {"id": 3, "type": "row", "repeat": "v", "gridPos": {"y": 8}}, {"id": 4, "gridPos": {"y": 9}}]}"#,
            "f",
        )
        .unwrap();
        let vars = super::super::variables::resolve(&d.variables, &|_| None, &window(), &Synthetic, &Cancel::new());
        let got: Vec<String> = expand(&d, &vars)
            .iter()
            .flat_map(|s| {
                let row = s.row.iter().map(|_| format!("row {} {}", s.key, s.scoped[0].1.values[0]));
                let panels = s.panels.iter().map(|c| {
                    let v = c.scoped.first().map_or("", |(_, b)| b.values[0].as_str());
                    format!("{}:{v}@{},{}", c.key, c.grid.x, c.grid.y)
                });
                row.chain(panels).collect::<Vec<_>>()
            })
            .collect();
        let expected = [
            "1:a@0,0",
            "1-1:b@12,0",
            "1-2:c@0,4",
            "2:@0,8",
            "row 3 a",
            "4:a@0,0",
            "row 3-r1 b",
            "4-r1:b@0,0",
            "row 3-r2 c",
            "4-r2:c@0,0",
        ];
        assert_eq!(got, expected);
    }
}
