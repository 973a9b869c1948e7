//! The pages of service discovery: what was discovered, what relabelling made of it, and rule by rule why.

use askama::Template;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Shell, page};

/// Targets on one page; a filter finds the others.
const SHOWN_MAX: usize = 500;

/// Name and value of a label.
type Pair = (String, String);

/// What was discovered, by job.
#[derive(Debug, Clone, Default)]
pub struct DiscoveryView {
    /// In the order of the configuration.
    pub pools: Vec<PoolView>,
}

/// What was discovered for one job.
#[derive(Debug, Clone, Default)]
pub struct PoolView {
    /// Name of the job.
    pub name: String,
    /// Targets that are scraped, then dropped ones.
    pub targets: Vec<DiscoveredView>,
    /// Targets that are scraped.
    pub n_active: usize,
    /// Targets that relabelling dropped.
    pub n_dropped: usize,
    /// What went wrong where targets come from; the targets from before stay.
    pub errors: Vec<String>,
}

/// One discovered target.
#[derive(Debug, Clone, Default)]
pub struct DiscoveredView {
    /// Labels before relabelling.
    pub before: Vec<Pair>,
    /// The same as the relabelling page takes them.
    pub before_text: String,
    /// Labels of its series; empty when it was dropped.
    pub after: Vec<Pair>,
    /// The rule that dropped it; empty when it is scraped.
    pub why: String,
}

/// A set of labels on its way through rules.
#[derive(Debug, Clone, Default)]
pub struct RelabelView {
    /// Names of all jobs.
    pub pools: Vec<String>,
    /// The job whose rules and defaults are used.
    pub pool: String,
    /// Whether the rules are those of samples, not of targets.
    pub of_samples: bool,
    /// The labels at the beginning, one `name="value"` per line.
    pub labels: String,
    /// The rules as YAML.
    pub rules: String,
    /// What is wrong with labels or rules; then there are no steps.
    pub problem: String,
    /// What each rule did.
    pub steps: Vec<StepView>,
    /// Labels at the end; empty when a rule dropped them.
    pub result: Vec<Pair>,
    /// What becomes of them, in words.
    pub outcome: String,
    /// Whether they are kept.
    pub is_kept: bool,
}

/// What one rule did.
#[derive(Debug, Clone, Default)]
pub struct StepView {
    /// The rule.
    pub rule: String,
    /// Labels that it set: name, value before if any, value after.
    pub set: Vec<(String, Option<String>, String)>,
    /// Labels that it removed, with their values.
    pub removed: Vec<Pair>,
    /// Whether it dropped the whole set.
    pub is_drop: bool,
    /// Whether a rule before it did.
    pub is_skipped: bool,
}

impl StepView {
    fn is_idle(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty() && !self.is_drop && !self.is_skipped
    }
}

#[derive(Template)]
#[template(path = "discovery.html")]
struct DiscoveryPage<'a> {
    shell: Shell,
    pools: Vec<PoolView>,
    names: Vec<&'a str>,
    filter: &'a str,
    state: &'a str,
    pool: &'a str,
    n_hidden: usize,
}

impl DiscoveryPage<'_> {
    /// Whether a choice of the form has this value.
    fn is(&self, choice: &str, value: &str) -> bool {
        value == if choice == "pool" { self.pool } else { self.state }
    }
}

#[derive(Template)]
#[template(path = "relabel.html")]
struct RelabelPage<'a> {
    shell: Shell,
    view: &'a RelabelView,
}

/// What was discovered. `search`, `pool` and `state` (`active`, `dropped`) of the address narrow the list.
#[must_use]
pub fn render(view: &DiscoveryView, query: &[Pair], headers: &HeaderMap) -> Response {
    let get = |name: &str| query.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
    let (filter, state, pool) = (get("search"), get("state"), get("pool"));
    let needle = filter.to_lowercase();
    let fits = |t: &&DiscoveredView| {
        (state.is_empty() || (state == "dropped") != t.why.is_empty())
            && (needle.is_empty()
                || t.before.iter().chain(&t.after).any(|(n, v)| format!("{n}={v}").to_lowercase().contains(&needle)))
    };
    let (mut room, mut n_hidden) = (SHOWN_MAX, 0);
    let mut pools = Vec::new();
    for all in view.pools.iter().filter(|p| pool.is_empty() || p.name == pool) {
        let mut targets: Vec<DiscoveredView> = all.targets.iter().filter(fits).cloned().collect();
        n_hidden += targets.len().saturating_sub(room);
        targets.truncate(room);
        room -= targets.len();
        if !targets.is_empty() || (needle.is_empty() && state.is_empty()) {
            pools.push(PoolView { targets, ..all.clone() });
        }
    }
    let names = view.pools.iter().map(|p| p.name.as_str()).collect();
    let shell = Shell::of_page("Service discovery", "targets", query, headers);
    page(StatusCode::OK, &DiscoveryPage { shell, pools, names, filter, state, pool, n_hidden })
}

/// Labels on their way through rules.
#[must_use]
pub fn render_relabel(view: &RelabelView, query: &[Pair], headers: &HeaderMap) -> Response {
    let shell = Shell::of_page("Relabelling", "targets", query, headers);
    page(StatusCode::OK, &RelabelPage { shell, view })
}
