//! The dashboards that come with the binary, in Grafana's JSON like everybody's.

/// File name and text of each.
pub(crate) const BUILTIN: [(&str, &str); 3] = [
    ("vllm.json", include_str!("builtin/vllm.json")),
    ("self.json", include_str!("builtin/self.json")),
    ("node.json", include_str!("builtin/node.json")),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use promontory_promql::parser;
    use serde_json::Value;

    use super::*;

    fn dashboards() -> impl Iterator<Item = (&'static str, Value)> {
        BUILTIN.iter().map(|&(file, text)| (file, serde_json::from_str(text).unwrap()))
    }

    fn panels(dashboard: &Value) -> &[Value] {
        dashboard["panels"].as_array().unwrap()
    }

    #[test]
    fn uids_are_the_ones_that_links_use() {
        let uids: Vec<_> = dashboards().map(|(_, d)| d["uid"].as_str().unwrap().to_owned()).collect();
        assert_eq!(uids, ["promontory-vllm", "promontory-self", "promontory-node"]);
    }

    #[test]
    fn every_query_parses_with_its_variables_filled_in() {
        for (file, dashboard) in dashboards() {
            for panel in panels(&dashboard) {
                for target in panel["targets"].as_array().into_iter().flatten() {
                    let expr = target["expr"].as_str().unwrap();
                    let filled = expr.replace("[$rate]", "[1m]").replace("\"$model_name\"", "\"a|b\"");
                    let filled = filled.replace("\"$instance\"", "\".*\"").replace("\"$job\"", "\".*\"");
                    assert!(!filled.contains('$'), "{file}: a variable is left in {filled}");
                    assert!(parser::parse(&filled).is_ok(), "{file}: {filled}: {:?}", parser::parse(&filled));
                }
            }
        }
    }

    #[test]
    fn panels_fill_the_grid_without_overlap() {
        for (file, dashboard) in dashboards() {
            let (mut cells, mut ids) = (BTreeSet::new(), BTreeSet::new());
            for panel in panels(&dashboard) {
                let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
                assert!(at("x") + at("w") <= 24, "{file}: {} is too wide", panel["title"]);
                for (x, y) in (0..at("w")).flat_map(|x| (0..at("h")).map(move |y| (x, y))) {
                    assert!(cells.insert((at("x") + x, at("y") + y)), "{file}: {} overlaps", panel["title"]);
                }
                assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: id of {} is taken", panel["title"]);
                let described = panel["type"] == "row" || panel["description"].as_str().is_some_and(|d| !d.is_empty());
                assert!(described, "{file}: {} has no description", panel["title"]);
            }
            let rows = cells.iter().map(|(_, y)| y).max().unwrap() + 1;
            assert_eq!(cells.len() as u64, 24 * rows, "{file}: no gaps");
        }
    }
}
