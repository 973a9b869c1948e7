//! Service discovery: what was discovered, and what relabelling makes of it, rule by rule.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use promontory_config::relabel::{self, RelabelConfig};
use promontory_config::scrape::ScrapeConfig;
use promontory_model::Labels;
use promontory_model::labels::Quoted;

use super::{Pairs, pairs, param};
use crate::app::{Shared, visible};
use crate::scrape::target::{Target, discovered};
use crate::ui::discovery::{self, DiscoveredView, DiscoveryView, PoolView, RelabelView, StepView};

pub(super) async fn discovery_page(
    State(shared): State<Arc<Shared>>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response {
    let found = shared.manager.targets();
    let mut errors = shared.manager.discovery_errors();
    let config = shared.config.load();
    let pools = config.scrape_configs.iter().map(|job| {
        let active = found.active.iter().filter(|t| t.job == job.job_name).map(|t| DiscoveredView {
            before: pairs(&t.discovered),
            before_text: label_lines(&t.discovered),
            after: pairs(&visible(&t.labels)),
            why: String::new(),
        });
        let dropped = found.dropped.iter().filter(|t| t.job == job.job_name).map(|t| DiscoveredView {
            before: pairs(&t.discovered),
            before_text: label_lines(&t.discovered),
            after: Vec::new(),
            why: why_dropped(&t.discovered, &job.relabel_configs),
        });
        let n_dropped = found.dropped_counts.get(&job.job_name).copied().unwrap_or(0);
        let targets: Vec<DiscoveredView> = active.chain(dropped).collect();
        PoolView {
            name: job.job_name.clone(),
            n_active: targets.iter().filter(|t| t.why.is_empty()).count(),
            n_dropped: usize::try_from(n_dropped).unwrap_or(usize::MAX),
            errors: errors.remove(&job.job_name).unwrap_or_default(),
            targets,
        }
    });
    discovery::render(&DiscoveryView { pools: pools.collect() }, &query, &headers)
}

/// The rule that drops labels.
fn why_dropped(labels: &Labels, rules: &[RelabelConfig]) -> String {
    let steps = relabel::steps(labels, rules);
    match steps.iter().position(Option::is_none).and_then(|i| Some((i, rules.get(i)?))) {
        Some((i, rule)) => format!("relabel_configs[{i}]: {rule}"),
        None => "relabelling left no label".to_owned(),
    }
}

/// One `name="value"` per line.
pub(super) fn label_lines(labels: &Labels) -> String {
    labels.iter().map(|(name, value)| format!("{name}={}\n", Quoted(value))).collect()
}

/// The labels of such lines; values may do without quotes.
fn read_label_lines(text: &str) -> Result<Labels, String> {
    let mut pairs = Vec::new();
    for (i, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        let at = |what: &str| format!("labels, line {}: {what}", i + 1);
        let (name, value) = line.split_once('=').ok_or_else(|| at("expected name=\"value\""))?;
        let value = match value.trim() {
            quoted if quoted.starts_with('"') => {
                serde_json::from_str(quoted).map_err(|_| at("the quotes of the value do not match"))?
            }
            plain => plain.to_owned(),
        };
        pairs.push((name.trim().to_owned(), value));
    }
    Ok(Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))))
}

/// Rules as the form shows them.
fn rules_text(rules: &[RelabelConfig]) -> String {
    rules.iter().map(|rule| format!("- {rule}\n")).collect()
}

pub(super) async fn relabel_page(
    State(shared): State<Arc<Shared>>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response {
    let config = shared.config.load();
    let named = param(&query, "pool").unwrap_or_default();
    let job = config.scrape_configs.iter().find(|job| job.job_name == named).or(config.scrape_configs.first());
    let of_samples = param(&query, "of") == Some("samples");
    let mut view = RelabelView {
        pools: config.scrape_configs.iter().map(|job| job.job_name.clone()).collect(),
        of_samples,
        ..RelabelView::default()
    };
    match job {
        Some(job) => {
            view.pool.clone_from(&job.job_name);
            let rules = if of_samples { &job.metric_relabel_configs } else { &job.relabel_configs };
            view.rules = match param(&query, "rules").filter(|_| param(&query, "load").is_none()) {
                Some(text) => text.to_owned(),
                None => rules_text(rules),
            };
            view.labels = match param(&query, "labels") {
                Some(text) if !text.trim().is_empty() => text.to_owned(),
                _ => label_lines(&example(&shared, job, of_samples)),
            };
            if let Err(problem) = run(&mut view, job) {
                view.problem = problem;
            }
        }
        None => "no jobs: the configuration has no scrape_configs".clone_into(&mut view.problem),
    }
    discovery::render_relabel(&view, &query, &headers)
}

/// Labels to begin with: those of a target of the job, or of one that it could have.
fn example(shared: &Shared, job: &ScrapeConfig, of_samples: bool) -> Labels {
    let found = shared.manager.targets();
    let active = found.active.into_iter().find(|t| t.job == job.job_name);
    if of_samples {
        let mut labels = active.map_or_else(Labels::empty, |t| visible(&t.labels)).to_builder();
        return labels.set(promontory_model::METRIC_NAME, "example_requests_total").build();
    }
    let dropped = || found.dropped.into_iter().find(|t| t.job == job.job_name).map(|t| t.discovered);
    active.map(|t| t.discovered).or_else(dropped).unwrap_or_else(|| discovered("localhost:8000", &Labels::empty(), job))
}

/// Runs the rules of the form over its labels.
fn run(view: &mut RelabelView, job: &ScrapeConfig) -> Result<(), String> {
    let mut labels = read_label_lines(&view.labels)?;
    if let Some(address) = labels.get("__address__").filter(|_| !view.of_samples) {
        // As for any target: what the job says of path, scheme and times is there before the first rule.
        labels = discovered(address, &labels, job);
    }
    let rules = relabel::parse(&view.rules, job.metric_name_validation).map_err(|errors| errors.to_string())?;
    let mut before = Some(labels.clone());
    for (rule, after) in rules.iter().zip(relabel::steps(&labels, &rules)) {
        view.steps.push(step(rule, before.as_ref(), after.as_ref()));
        before = after;
    }
    view.is_kept = before.is_some();
    (view.outcome, view.result) = match before {
        None if view.of_samples => ("The sample is not stored.".to_owned(), Vec::new()),
        None => ("The target is not scraped.".to_owned(), Vec::new()),
        Some(after) if view.of_samples => ("The sample is stored as".to_owned(), pairs(&after)),
        Some(_) => match Target::new(&labels, &ScrapeConfig { relabel_configs: rules, ..job.clone() }) {
            Ok(Some(target)) => {
                (format!("{} is scraped every {}, as", target.url, target.interval), pairs(&target.labels))
            }
            Ok(None) => {
                view.is_kept = false;
                ("The target is not scraped: no label is left.".to_owned(), Vec::new())
            }
            Err(error) => {
                view.is_kept = false;
                (format!("The target cannot be scraped: {error}."), Vec::new())
            }
        },
    };
    Ok(())
}

fn step(rule: &RelabelConfig, before: Option<&Labels>, after: Option<&Labels>) -> StepView {
    let mut view = StepView { rule: rule.to_string(), ..StepView::default() };
    match (before, after) {
        (None, _) => view.is_skipped = true,
        (Some(_), None) => view.is_drop = true,
        (Some(before), Some(after)) => {
            let set = after.iter().filter(|(name, value)| before.get(name) != Some(value));
            let old = |name: &str| before.get(name).map(str::to_owned);
            view.set = set.map(|(name, value)| (name.to_owned(), old(name), value.to_owned())).collect();
            view.removed = pairs(&before.filtered(|name| after.get(name).is_none()));
        }
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_back_from_their_lines() {
        let labels = Labels::from_pairs([("a", "1"), ("b", "x \"y\"\n\\z")]);
        assert_eq!(read_label_lines(&label_lines(&labels)), Ok(labels));
        let plain = read_label_lines(" job = vllm \n\n__address__=h:1").unwrap();
        assert_eq!(plain, Labels::from_pairs([("job", "vllm"), ("__address__", "h:1")]));
        assert_eq!(read_label_lines("a=\"1\"\nb"), Err("labels, line 2: expected name=\"value\"".to_owned()));
    }

    #[test]
    fn a_step_says_what_its_rule_did() {
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let rule = RelabelConfig::new();
        let (a, b) = (labels(&[("a", "1"), ("b", "2")]), labels(&[("a", "3"), ("c", "4")]));
        let changed = step(&rule, Some(&a), Some(&b));
        let text = |t: &str| t.to_owned();
        assert_eq!(changed.set, [(text("a"), Some(text("1")), text("3")), (text("c"), None, text("4"))]);
        assert_eq!(changed.removed, [(text("b"), text("2"))]);
        assert!(step(&rule, Some(&a), None).is_drop && step(&rule, None, None).is_skipped);
    }
}
