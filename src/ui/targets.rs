//! The page of scrape targets: who is scraped, how it went, and why not.

use askama::Template;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Shell, ThemeChoice, page};

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
    view: &'a TargetsView,
    filter: String,
}

/// The page. `query` is the raw query of the request: `search` and `health` narrow the list, `theme` picks the theme.
#[must_use]
pub fn render(view: &TargetsView, query: &[(String, String)], headers: &HeaderMap) -> Response {
    let get = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let filter = get("search").unwrap_or("").to_owned();
    let only = get("health").unwrap_or("");
    let needle = filter.to_lowercase();
    let fits = |t: &TargetView| {
        (only.is_empty() || t.health == only)
            && (needle.is_empty()
                || t.url.to_lowercase().contains(&needle)
                || t.labels.iter().any(|(n, v)| format!("{n}={v}").to_lowercase().contains(&needle)))
    };
    let mut narrowed = view.clone();
    for pool in &mut narrowed.pools {
        pool.targets.retain(fits);
    }
    if !needle.is_empty() || !only.is_empty() {
        narrowed.pools.retain(|p| !p.targets.is_empty());
    }
    let shell = Shell::new("Targets", "targets", ThemeChoice::choose(get("theme"), headers));
    page(StatusCode::OK, &TargetsPage { shell, view: &narrowed, filter })
}
