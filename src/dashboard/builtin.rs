//! The dashboards that come with the binary, in Grafana's JSON like everybody's.

/// File name and text of each.
pub(crate) const BUILTIN: [(&str, &str); 12] = [
    ("vllm.json", include_str!("builtin/vllm.json")),
    ("tgi.json", include_str!("builtin/tgi.json")),
    ("sglang.json", include_str!("builtin/sglang.json")),
    ("triton.json", include_str!("builtin/triton.json")),
    ("kserve.json", include_str!("builtin/kserve.json")),
    ("ray-serve.json", include_str!("builtin/ray-serve.json")),
    ("llm-gateway.json", include_str!("builtin/llm-gateway.json")),
    ("model-quality.json", include_str!("builtin/model-quality.json")),
    ("dcgm.json", include_str!("builtin/dcgm.json")),
    ("kubernetes.json", include_str!("builtin/kubernetes.json")),
    ("node.json", include_str!("builtin/node.json")),
    ("self.json", include_str!("builtin/self.json")),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use promontory_promql::parser;
    use serde_json::Value;

    use super::*;
    use crate::dashboard::check;
    use crate::dashboard::load::load;

    fn dashboards() -> impl Iterator<Item = (&'static str, Value)> {
        BUILTIN.iter().map(|&(file, text)| (file, serde_json::from_str(text).unwrap()))
    }

    fn panels(dashboard: &Value) -> &[Value] {
        dashboard["panels"].as_array().unwrap()
    }

    #[test]
    fn uids_are_the_ones_that_links_use() {
        for (file, dashboard) in dashboards() {
            assert_eq!(dashboard["uid"], format!("promontory-{}", file.trim_end_matches(".json")));
        }
    }

    #[test]
    fn every_panel_is_drawn_as_its_file_says() {
        for (file, text) in BUILTIN {
            let mut report = String::new();
            let found = check(text, &mut report).unwrap();
            assert_eq!((found.drawn, found.remarks), (found.panels, 0), "{file}: {report}");
        }
    }

    #[test]
    fn each_says_what_it_needs_and_how_that_is_scraped() {
        for (file, text) in BUILTIN.into_iter().filter(|(file, _)| *file != "self.json") {
            let needs = load(text, file).unwrap().needs.unwrap_or_else(|| panic!("{file}: needs nothing"));
            assert!(parser::parse(&needs.selector).is_ok(), "{file}: {}", needs.selector);
            assert!(needs.scrape.starts_with("scrape_configs:\n  - job_name: "), "{file}: {}", needs.scrape);
            assert!(needs.hint.ends_with('.'), "{file}: {}", needs.hint);
        }
    }

    #[test]
    fn every_query_parses_with_its_variables_filled_in() {
        for (file, dashboard) in dashboards() {
            for panel in panels(&dashboard) {
                for target in panel["targets"].as_array().into_iter().flatten() {
                    let expr = target["expr"].as_str().unwrap();
                    let mut filled = expr.replace("[$rate]", "[1m]").replace("[$__range]", "[1h]");
                    for variable in dashboard["templating"]["list"].as_array().unwrap() {
                        filled = filled.replace(&format!("\"${}\"", variable["name"].as_str().unwrap()), "\"a|b\"");
                    }
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
