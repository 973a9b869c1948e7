//! The pages of scrape targets: who is scraped, how it went, and why not.

use askama::Template;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Shell, page};

/// Targets on one page; a filter finds the others.
const SHOWN_MAX: usize = 1_000;

/// All targets, by pool.
#[derive(Debug, Clone, Default)]
pub struct TargetsView {
    /// In the order of the configuration.
    pub pools: Vec<PoolView>,
}

/// The targets of one job.
#[derive(Debug, Clone, Default)]
pub struct PoolView {
    /// Name of the job.
    pub name: String,
    /// Active targets.
    pub targets: Vec<TargetView>,
    /// Targets that relabelling dropped.
    pub n_dropped: usize,
}

/// One target.
#[derive(Debug, Clone, Default)]
pub struct TargetView {
    /// What tells it from the others of its job.
    pub id: String,
    /// Address that is scraped.
    pub url: String,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Name and value, `__…` left out.
    pub labels: Vec<(String, String)>,
    /// Time since the last scrape, in words; empty before the first.
    pub last_scrape: String,
    /// Duration of the last scrape, in words.
    pub duration: String,
    /// Samples of the last scrape.
    pub samples: u64,
    /// Interval and timeout, in words.
    pub interval: String,
    /// Why the last scrape failed; empty when it did not.
    pub error: String,
}

/// One target with all that is known of it.
#[derive(Debug, Clone, Default)]
pub struct TargetDetails {
    /// Name of its job.
    pub pool: String,
    /// What the list shows of it.
    pub target: TargetView,
    /// Labels before relabelling, name and value.
    pub discovered: Vec<(String, String)>,
    /// Series that its samples make, as text, some of them.
    pub series: Vec<String>,
    /// Whether it has more series than are shown.
    pub has_more: bool,
    /// PromQL that selects all of them.
    pub selector: String,
    /// Its labels before relabelling as the relabelling page takes them.
    pub discovered_text: String,
}

impl PoolView {
    fn n_up(&self) -> usize {
        self.targets.iter().filter(|t| t.health == "up").count()
    }

    fn is_all_up(&self) -> bool {
        self.n_up() == self.targets.len()
    }
}

#[derive(Template)]
#[template(path = "targets.html")]
struct TargetsPage<'a> {
    shell: Shell,
    pools: Vec<PoolView>,
    names: Vec<&'a str>,
    filter: &'a str,
    health: &'a str,
    pool: &'a str,
    n_hidden: usize,
}

impl TargetsPage<'_> {
    /// Whether a choice of the form has this value.
    fn is(&self, choice: &str, value: &str) -> bool {
        value == if choice == "pool" { self.pool } else { self.health }
    }
}

#[derive(Template)]
#[template(path = "target.html")]
struct TargetPage<'a> {
    shell: Shell,
    view: &'a TargetDetails,
}

/// The list. `query` is the raw query of the request: `search`, `health` and `pool` narrow the list, `theme` picks
/// the theme.
#[must_use]
pub fn render(view: &TargetsView, query: &[(String, String)], headers: &HeaderMap) -> Response {
    let get = |name: &str| query.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
    let (filter, health, pool) = (get("search"), get("health"), get("pool"));
    let needle = filter.to_lowercase();
    let fits = |t: &&TargetView| {
        (health.is_empty() || t.health == health)
            && (needle.is_empty()
                || [&t.url, &t.error].iter().any(|text| text.to_lowercase().contains(&needle))
                || t.labels.iter().any(|(n, v)| format!("{n}={v}").to_lowercase().contains(&needle)))
    };
    let is_narrowed = !needle.is_empty() || !health.is_empty();
    let (mut room, mut n_hidden) = (SHOWN_MAX, 0);
    let mut pools = Vec::new();
    for all in view.pools.iter().filter(|p| pool.is_empty() || p.name == pool) {
        let mut targets: Vec<TargetView> = all.targets.iter().filter(fits).cloned().collect();
        n_hidden += targets.len().saturating_sub(room);
        targets.truncate(room);
        room -= targets.len();
        if !(is_narrowed && targets.is_empty()) {
            pools.push(PoolView { targets, ..all.clone() });
        }
    }
    let names = view.pools.iter().map(|p| p.name.as_str()).collect();
    let shell = Shell::of_page("Targets", "targets", query, headers);
    page(StatusCode::OK, &TargetsPage { shell, pools, names, filter, health, pool, n_hidden })
}

/// One target.
#[must_use]
pub fn render_one(view: &TargetDetails, query: &[(String, String)], headers: &HeaderMap) -> Response {
    let shell = Shell::of_page(&view.target.url, "targets", query, headers);
    page(StatusCode::OK, &TargetPage { shell, view })
}
