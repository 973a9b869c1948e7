//! Tests of the manager and everything below it, over a network inside the process and with stopped time.

use std::fmt::Write as _;
use std::sync::atomic::AtomicUsize;

use promontory_config::discovery::FileSdConfig;
use promontory_config::relabel::{Action as Relabel, RelabelConfig};
use promontory_config::scrape::{NameValidation, ScrapeProtocol};
use promontory_config::{Discovery, TargetGroup};
use promontory_model::{METRIC_NAME, Regex, is_stale};

use super::*;
use crate::scrape::testing::{
    Action, FakeNetwork, START_MS, TokioClock, answer, database, exposition, samples, scrape_config,
};

mod cardinality;
mod histograms;
mod starts;

struct Lab {
    network: Arc<FakeNetwork>,
    db: Db,
    metrics: Arc<ScrapeMetrics>,
    manager: Manager,
}

/// The job `j` with these targets, scraped every 15 s.
fn job(targets: &[&str]) -> ScrapeConfig {
    let group = TargetGroup { targets: targets.iter().map(|t| (*t).to_owned()).collect(), labels: Labels::empty() };
    ScrapeConfig { discovery: vec![Discovery::Static(vec![group])], ..scrape_config("j") }
}

impl Lab {
    fn new() -> Self {
        Self::with(ManagerOptions { seed: 0, zero_starts: false, spread: Spread::here() })
    }

    fn with(options: ManagerOptions) -> Self {
        let (network, clock) = (FakeNetwork::new(), TokioClock::new());
        let (db, metrics) = (database(clock.clone()), Arc::<ScrapeMetrics>::default());
        let manager = Manager::with_connector(db.clone(), clock, metrics.clone(), options, network.clone());
        Self { network, db, metrics, manager }
    }

    /// A lab whose target `t:1` exposes `body`, scraped once.
    async fn scraping(config: &ScrapeConfig, body: &'static str) -> Self {
        let lab = Self::new();
        lab.network.serve("t:1", move |_| vec![exposition(body)]);
        lab.manager.apply(std::slice::from_ref(config));
        lab.secs(15.0).await;
        lab
    }

    /// Lets the target `t:1` answer with `answers` in turn, the last one from then on, and scrapes it for a minute.
    async fn answer(&self, config: &ScrapeConfig, answers: Vec<Box<dyn Fn() -> Vec<Action> + Send + Sync>>) {
        let n = AtomicUsize::new(0);
        self.network.serve("t:1", move |_| {
            let i = n.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            answers[i]()
        });
        self.manager.apply(std::slice::from_ref(config));
        self.secs(15.0 * 4.0).await;
    }

    async fn secs(&self, secs: f64) {
        tokio::time::sleep(StdDuration::from_secs_f64(secs)).await;
    }

    /// Samples of `metric` as `seconds=value`, seconds since the first scrape, a line for each series; labels that
    /// every series of the job has are left out.
    fn history(&self, metric: &str) -> String {
        let all = samples(&self.db);
        let ups = all.iter().filter(|(labels, _)| labels.metric_name() == "up");
        let first = ups.filter_map(|(_, samples)| samples.first()).map(|s| s.0).min().unwrap_or(START_MS);
        let mut out = String::new();
        for (labels, samples) in all.iter().filter(|(labels, _)| labels.metric_name() == metric) {
            let plain = labels.get("job") == Some("j") && labels.get("instance") == Some("t:1");
            let shown = if plain { labels.without(&[METRIC_NAME, "job", "instance"]) } else { labels.without_name() };
            let _ = write!(out, "{shown}");
            for (t, v) in samples {
                let secs = (t - first) as f64 / 1000.0;
                let _ = if is_stale(*v) { write!(out, " {secs}=stale") } else { write!(out, " {secs}={v}") };
            }
            out.push('\n');
        }
        out.trim_end().to_owned()
    }

    #[track_caller]
    fn check(&self, metric: &str, expected: &str) {
        assert_eq!(self.history(metric), expected, "{metric}");
    }

    fn last_error(&self) -> String {
        self.manager.targets().active[0].last_error.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn scrapes_are_stored_on_a_steady_grid_with_their_report() {
    let lab = Lab::scraping(&job(&["t:1"]), "# HELP a text\na 1\nb{x=\"y\"} 2\n").await;
    lab.secs(30.0).await;
    lab.check("a", "{} 0=1 15=1 30=1");
    lab.check("b", "{x=\"y\"} 0=2 15=2 30=2");
    lab.check("up", "{} 0=1 15=1 30=1");
    lab.check("scrape_samples_scraped", "{} 0=2 15=2 30=2");
    lab.check("scrape_samples_post_metric_relabeling", "{} 0=2 15=2 30=2");
    lab.check("scrape_series_added", "{} 0=2 15=0 30=0");
    lab.check("scrape_duration_seconds", "{} 0=0 15=0 30=0");
    lab.check("scrape_timeout_seconds", "");
    let status = lab.manager.targets().active.remove(0);
    assert_eq!((status.url.as_str(), status.health, status.last_samples), ("http://t:1/metrics", Health::Up, 2));
    assert_eq!(status.labels.to_string(), r#"{instance="t:1", job="j"}"#);
    assert_eq!(lab.network.n_connects(), 1);
    let metadata = lab.manager.metadata();
    assert_eq!((metadata.len(), metadata["a"][0].help.as_str()), (1, "text"));
    lab.manager.stop().await;
    lab.secs(120.0).await;
    lab.check("a", "{} 0=1 15=1 30=1");
}

#[tokio::test(start_paused = true)]
async fn a_scrape_that_is_asked_for_comes_beside_the_regular_ones() {
    let lab = Lab::scraping(&job(&["t:1"]), "a 1\n").await;
    let identity = lab.manager.targets().active[0].identity;
    assert!(lab.manager.scrape_now("j", identity));
    assert!(!lab.manager.scrape_now("j", identity ^ 1) && !lab.manager.scrape_now("k", identity));
    lab.secs(15.0).await;
    let n_samples = |lab: &Lab| lab.history("a").split(' ').count() - 1;
    assert_eq!(n_samples(&lab), 3, "{}", lab.history("a"));
    // Neither a new configuration nor time asks again.
    lab.manager.apply(&[ScrapeConfig { extra_scrape_metrics: true, ..job(&["t:1"]) }]);
    lab.secs(15.0).await;
    assert_eq!(n_samples(&lab), 4, "{}", lab.history("a"));
    assert!(lab.history("a").ends_with(" 15=1 30=1"), "{}", lab.history("a"));
}

#[tokio::test(start_paused = true)]
async fn phases_are_the_same_after_a_restart() {
    let mut phases = Vec::new();
    for wait in [0.0, 7.3] {
        let lab = Lab::new();
        lab.secs(wait).await;
        lab.network.serve("t:1", |_| vec![exposition("a 1\n")]);
        lab.manager.apply(&[job(&["t:1"])]);
        lab.secs(15.0).await;
        phases.push(lab.manager.targets().active[0].last_scrape.unwrap().ms().rem_euclid(15_000));
    }
    assert_eq!(phases[0], phases[1]);
}

#[tokio::test(start_paused = true)]
async fn series_end_when_they_vanish_and_come_back() {
    let lab = answering(&job(&["t:1"]), vec![body("a 1\nb 1\n"), body("a 2\n"), body("a 3\nb 3\n")]).await;
    lab.check("a", "{} 0=1 15=2 30=3 45=3");
    lab.check("b", "{} 0=1 15=stale 30=3 45=3");
    lab.check("scrape_series_added", "{} 0=2 15=0 30=1 45=0");
}

/// A lab whose target answers with `answers` in turn, the last one from then on.
async fn answering(config: &ScrapeConfig, answers: Vec<Box<dyn Fn() -> Vec<Action> + Send + Sync>>) -> Lab {
    let lab = Lab::new();
    lab.answer(config, answers).await;
    lab
}

fn body(text: &'static str) -> Box<dyn Fn() -> Vec<Action> + Send + Sync> {
    Box::new(move || vec![exposition(text)])
}

#[tokio::test(start_paused = true)]
async fn failed_scrape_ends_all_series_and_stores_nothing_else() {
    let lab = answering(&job(&["t:1"]), vec![body("a 1\nb 1\n"), body("a 1\nc 1\nb x\n"), body("a 3\n")]).await;
    lab.check("a", "{} 0=1 15=stale 30=3 45=3");
    lab.check("b", "{} 0=1 15=stale");
    lab.check("c", "");
    lab.check("up", "{} 0=1 15=0 30=1 45=1");
    lab.check("scrape_samples_scraped", "{} 0=2 15=2 30=1 45=1");
}

#[tokio::test(start_paused = true)]
async fn empty_body_is_a_success_that_ends_all_series() {
    let lab = answering(&job(&["t:1"]), vec![body("a 1\n"), body("")]).await;
    lab.check("a", "{} 0=1 15=stale");
    lab.check("up", "{} 0=1 15=1 30=1 45=1");
}

#[tokio::test(start_paused = true)]
async fn slow_target_fails_after_its_timeout() {
    let lab = answering(&job(&["t:1"]), vec![body("a 1\n"), Box::new(|| vec![Action::Hang])]).await;
    lab.check("a", "{} 0=1 15=stale");
    lab.check("up", "{} 0=1 15=0 30=0");
    lab.check("scrape_duration_seconds", "{} 0=0 15=10 30=10");
    assert_eq!(lab.last_error(), "Get \"http://t:1/metrics\": context deadline exceeded");
}

#[tokio::test(start_paused = true)]
async fn sample_limit_rolls_the_scrape_back() {
    let mut config = job(&["t:1"]);
    config.limits.samples = Some(4);
    config.extra_scrape_metrics = true;
    let lab = answering(&config, vec![body("a 1\nb 1\nc 1\nd 1\n"), body("a 1\nb 1\nc 1\nd 1\ne 1\n")]).await;
    lab.check("a", "{} 0=1 15=stale");
    lab.check("e", "");
    lab.check("up", "{} 0=1 15=0 30=0 45=0");
    lab.check("scrape_samples_scraped", "{} 0=4 15=5 30=5 45=5");
    lab.check("scrape_samples_post_metric_relabeling", "{} 0=4 15=5 30=5 45=5");
    lab.check("scrape_series_added", "{} 0=4 15=0 30=0 45=0");
    lab.check("scrape_sample_limit", "{} 0=4 15=4 30=4 45=4");
    lab.check("scrape_timeout_seconds", "{} 0=10 15=10 30=10 45=10");
    lab.check("scrape_body_size_bytes", "{} 0=16 15=20 30=20 45=20");
    assert_eq!(lab.last_error(), "sample limit exceeded");
    assert_eq!(lab.metrics.exceeded_sample_limit.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn body_limit_is_reported() {
    let mut config = job(&["t:1"]);
    config.limits.body_bytes = Some(4);
    config.extra_scrape_metrics = true;
    let lab = Lab::scraping(&config, "a 1\n").await;
    assert_eq!(lab.last_error(), "body size limit exceeded");
    lab.check("scrape_body_size_bytes", "{} 0=-1");
    assert_eq!(lab.metrics.exceeded_body_size_limit.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn too_many_targets_are_all_refused() {
    let mut config = job(&["t:1", "t:2"]);
    config.limits.targets = Some(1);
    let lab = Lab::scraping(&config, "a 1\n").await;
    for target in lab.manager.targets().active {
        assert_eq!(target.last_error, "target_limit exceeded (number of targets: 2, limit: 1)");
    }
    lab.check("a", "");
    assert_eq!(lab.network.n_connects(), 0);
    assert_eq!(lab.metrics.exceeded_target_limit.load(Ordering::Relaxed), 1);
}

/// Scrapes once and expects this error.
async fn check_error(config: ScrapeConfig, action: fn() -> Action, expected: &str) {
    let lab = Lab::new();
    lab.network.serve("t:1", move |_| vec![action()]);
    lab.manager.apply(&[config]);
    lab.secs(15.0).await;
    assert_eq!(lab.last_error(), expected);
    lab.check("up", if expected.is_empty() { "{} 0=1" } else { "{} 0=0" });
}

#[tokio::test(start_paused = true)]
async fn bad_lines_fail_the_scrape_with_their_place() {
    let t = || job(&["t:1"]);
    check_error(
        t(),
        || exposition("ok 1\na 0x1F\n"),
        "strconv.ParseFloat: parsing \"0x1F\": invalid syntax while parsing: \"a 0x1F\" at line 2, column 3",
    )
    .await;
    check_error(
        t(),
        || exposition("a 1_000\n"),
        "unsupported character in float while parsing: \"a 1_000\" at line 1, column 3",
    )
    .await;
    check_error(t(), || exposition("a 1e3\nb .5\nc +Inf\nd nan\n  e 1\n#HELP\n# c\n\nf{x=\"y\",} 1\n"), "").await;
    check_error(t(), || exposition(""), "").await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_no_exposition_fail_the_scrape() {
    let t = || job(&["t:1"]);
    check_error(
        t(),
        || answer("200 OK", "", b"a 1\n"),
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
    )
    .await;
    check_error(
        t(),
        || answer("200 OK", "Content-Type: application/json\r\n", b"{}"),
        "received unsupported Content-Type \"application/json\" and no fallback_scrape_protocol specified for target",
    )
    .await;
    check_error(
        t(),
        || answer("500 Internal Server Error", "", b""),
        "server returned HTTP status 500 Internal Server Error",
    )
    .await;
    let fallback =
        ScrapeConfig { fallback_scrape_protocol: Some(ScrapeProtocol::PrometheusText0_0_4), ..job(&["t:1"]) };
    check_error(fallback, || answer("200 OK", "", b"a 1\n"), "").await;
    check_error(
        t(),
        || answer("200 OK", "Content-Type: application/openmetrics-text\r\n", b"a 1\n"),
        "data does not end with # EOF at line 2, column 1",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn bad_labels_fail_the_scrape() {
    let mut limited = job(&["t:1"]);
    limited.limits.labels = Some(3);
    check_error(
        limited,
        || exposition("x{a=\"1\",b=\"2\",c=\"3\"} 1\n"),
        "label_limit exceeded (metric: x, number of labels: 6, limit: 3)",
    )
    .await;
    let legacy = ScrapeConfig { metric_name_validation: NameValidation::Legacy, ..job(&["t:1"]) };
    check_error(
        legacy,
        || exposition("{\"my.metric\",\"k.x\"=\"v\"} 1\n"),
        r#"invalid metric name or label names: {__name__="my.metric", instance="t:1", job="j", "k.x"="v"}"#,
    )
    .await;
    let nameless = ScrapeConfig { metric_relabel_configs: vec![label_drop(METRIC_NAME)], ..job(&["t:1"]) };
    check_error(nameless, || exposition("x 1\n"), "missing metric name (__name__ label)").await;
}

fn label_drop(regex: &str) -> RelabelConfig {
    RelabelConfig { action: Relabel::LabelDrop, regex: Regex::new(regex).unwrap(), ..RelabelConfig::new() }
}

#[tokio::test(start_paused = true)]
async fn series_made_equal_keep_the_first_value() {
    let config = ScrapeConfig { metric_relabel_configs: vec![label_drop("shard")], ..job(&["t:1"]) };
    let lab = Lab::scraping(&config, "m{shard=\"1\"} 1\nm{shard=\"2\"} 2\nn 1\nn 2\n").await;
    lab.check("m", "{} 0=1");
    lab.check("n", "{} 0=1");
    lab.check("up", "{} 0=1");
    lab.check("scrape_samples_post_metric_relabeling", "{} 0=4");
    assert_eq!(lab.metrics.sample_duplicate_timestamp.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn exposed_labels_give_way_or_win() {
    const LINE: &str = "x{job=\"z\",instance=\"\",exported_job=\"q\",l=\"v\"} 1\n";
    let lab = Lab::scraping(&job(&["t:1"]), LINE).await;
    lab.check("x", r#"{exported_exported_job="z", exported_job="q", l="v"} 0=1"#);
    let lab = Lab::scraping(&ScrapeConfig { honor_labels: true, ..job(&["t:1"]) }, LINE).await;
    lab.check("x", r#"{exported_job="q", job="z", l="v"} 0=1"#);
}

#[tokio::test(start_paused = true)]
async fn bounds_of_typed_histograms_are_normalised() {
    let lab = Lab::scraping(&job(&["t:1"]), "u_bucket{le=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\n").await;
    lab.check("u_bucket", "{le=\"1\"} 0=1");
    lab.check("h_bucket", "{le=\"1.0\"} 0=1");
}

#[tokio::test(start_paused = true)]
async fn explicit_timestamps_are_taken_or_ignored() {
    const BODY: &str = "a 1 1700000001000\nb 1 1700000700000\n";
    let lab = Lab::scraping(&job(&["t:1"]), BODY).await;
    assert_eq!(samples(&lab.db).iter().find(|(l, _)| l.metric_name() == "a").unwrap().1, &[(START_MS + 1_000, 1.0)]);
    lab.check("b", "");
    lab.check("up", "{} 0=1");
    assert_eq!(lab.metrics.sample_out_of_bounds.load(Ordering::Relaxed), 1);
    let lab = Lab::scraping(&ScrapeConfig { honor_timestamps: false, ..job(&["t:1"]) }, BODY).await;
    lab.check("a", "{} 0=1");
    lab.check("b", "{} 0=1");
}

#[tokio::test(start_paused = true)]
async fn explicit_timestamps_end_only_when_tracked() {
    for (track, expected) in [(false, 1), (true, 2)] {
        let config = ScrapeConfig { track_timestamps_staleness: track, ..job(&["t:1"]) };
        let lab = answering(&config, vec![body("a 1 1700000001000\n"), body("b 1\n")]).await;
        let all = samples(&lab.db);
        let a = all.iter().find(|(l, _)| l.metric_name() == "a").unwrap().1;
        assert_eq!((a.len(), is_stale(a.last().unwrap().1)), (expected, track));
    }
}

#[tokio::test(start_paused = true)]
async fn removed_target_ends_after_two_intervals_as_of_its_next_scrape() {
    let lab = Lab::scraping(&job(&["t:1"]), "a 1\n").await;
    let since_first = 15.0 - (lab.manager.targets().active[0].last_scrape.unwrap().ms() - START_MS) as f64 / 1000.0;
    lab.manager.apply(&[]);
    lab.secs(31.4 - since_first).await;
    lab.check("a", "{} 0=1");
    assert!(lab.manager.targets().active.is_empty());
    lab.secs(0.2).await;
    lab.check("a", "{} 0=1 15=stale");
    lab.check("up", "{} 0=1 15=stale");
    lab.check("scrape_samples_scraped", "{} 0=1 15=stale");
}

#[tokio::test(start_paused = true)]
async fn target_that_comes_back_goes_on() {
    let two = job(&["t:1", "other:1"]);
    let lab = Lab::scraping(&two, "a 1\n").await;
    lab.manager.apply(&[job(&["other:1"])]);
    lab.secs(5.0).await;
    assert_eq!(lab.manager.targets().active.len(), 1);
    lab.manager.apply(&[two]);
    lab.secs(55.0).await;
    assert!(!lab.history("a").contains("stale"), "{}", lab.history("a"));
    assert_eq!(lab.network.n_connects(), 1);
}

#[tokio::test(start_paused = true)]
async fn reload_touches_only_what_changed() {
    let other = ScrapeConfig { job_name: "k".to_owned(), ..job(&["k:1"]) };
    let lab = Lab::scraping(&job(&["t:1"]), "a 1\nb 1\n").await;
    lab.manager.apply(&[job(&["t:1"]), other.clone()]);
    lab.secs(15.0).await;
    let mut changed = job(&["t:1"]);
    changed.limits.samples = Some(100);
    lab.manager.apply(&[changed.clone(), other.clone()]);
    lab.secs(15.0).await;
    assert!(lab.history("scrape_series_added").contains("{} 0=2 15=0 30=0"));
    changed.metric_relabel_configs = vec![RelabelConfig {
        action: Relabel::Drop,
        source_labels: vec![METRIC_NAME.to_owned()],
        regex: Regex::new("b").unwrap(),
        ..RelabelConfig::new()
    }];
    lab.manager.apply(&[changed, other]);
    lab.secs(15.0).await;
    lab.check("a", "{} 0=1 15=1 30=1 45=1");
    lab.check("b", "{} 0=1 15=1 30=1 45=stale");
    assert_eq!(lab.network.n_connects(), 1);
}

#[tokio::test(start_paused = true)]
async fn dropped_targets_are_counted_and_remembered_up_to_a_limit() {
    let mut config = job(&["t:1", "x:1", "x:2"]);
    config.relabel_configs = vec![RelabelConfig {
        action: Relabel::Drop,
        source_labels: vec!["__address__".to_owned()],
        regex: Regex::new("x:.*").unwrap(),
        ..RelabelConfig::new()
    }];
    config.limits.keep_dropped_targets = Some(1);
    let lab = Lab::scraping(&config, "a 1\n").await;
    let targets = lab.manager.targets();
    assert_eq!((targets.active.len(), targets.dropped.len(), targets.dropped_counts["j"]), (1, 1, 2));
    assert_eq!(targets.dropped[0].discovered.get("__address__"), Some("x:1"));
}

#[tokio::test(start_paused = true)]
async fn targets_follow_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("targets.yml");
    let sd = FileSdConfig { files: vec![file.clone()], refresh_interval: Duration::from_secs(300) };
    let lab = Lab::new();
    lab.network.serve("t:1", |_| vec![exposition("a 1\n")]);
    lab.manager.apply(&[ScrapeConfig { discovery: vec![Discovery::File(sd)], ..scrape_config("j") }]);
    assert!(lab.manager.targets().active.is_empty());
    std::fs::write(&file, "- targets: ['t:1']\n").unwrap();
    lab.secs(5.1).await;
    assert_eq!(lab.manager.targets().active.len(), 1);
    std::fs::write(&file, "- targets: [").unwrap();
    lab.secs(20.0).await;
    assert_eq!(lab.manager.targets().active[0].health, Health::Up);
    assert_eq!(lab.manager.discovery_errors()["j"].len(), 1);
    std::fs::remove_file(&file).unwrap();
    lab.secs(5.1).await;
    assert!(lab.manager.targets().active.is_empty());
}

#[tokio::test(start_paused = true)]
async fn own_metrics_bear_prometheus_names() {
    let lab = Lab::scraping(&job(&["t:1"]), "a 1\n").await;
    lab.secs(30.0).await;
    let families = lab.manager.families();
    let value = |name: &str, suffix: &str| {
        let family = families.iter().find(|f| f.name == name).unwrap();
        family.samples.iter().find(|s| s.suffix == suffix).unwrap().value
    };
    assert_eq!(value("prometheus_target_scrape_pool_targets", ""), 1.0);
    assert_eq!(value("prometheus_sd_discovered_targets", ""), 1.0);
    assert_eq!(value("prometheus_target_interval_length_seconds", "_count"), 2.0);
    assert_eq!(value("prometheus_target_interval_length_seconds", "_sum"), 30.0);
    assert_eq!(value("prometheus_target_scrape_pools_total", ""), 1.0);
}

#[tokio::test(start_paused = true)]
async fn exemplars_of_openmetrics_are_kept() {
    let lab = Lab::new();
    let n = AtomicUsize::new(0);
    lab.network.serve("t:1", move |_| {
        let n = n.fetch_add(1, Ordering::Relaxed);
        // The first series' exemplar has no time and stays the same; that of the second moves on, then goes.
        let stamp = START_MS / 1000 + n as i64;
        let second = if n < 2 { format!(" # {{trace_id=\"t{n}\"}} 0.5 {stamp}.25") } else { String::new() };
        let body = format!(
            "# TYPE a counter\na_total{{x=\"1\"}} 1 # {{trace_id=\"same\"}} 2\na_total{{x=\"2\"}} {n}{second}\n# EOF\n"
        );
        let kind = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        vec![answer("200 OK", kind, body.as_bytes())]
    });
    lab.manager.apply(&[job(&["t:1"])]);
    lab.secs(50.0).await;
    lab.check("a_total", "{x=\"1\"} 0=1 15=1 30=1\n{x=\"2\"} 0=0 15=1 30=2");
    let scraped_ms = samples(&lab.db).into_values().flatten().map(|s| s.0).min().unwrap();
    let found = lab.db.exemplars(&[vec![]], promontory_model::TimeRange::ALL);
    let show = |s: &promontory_storage::SeriesExemplars| {
        let one = |e: &promontory_storage::Exemplar| {
            format!(" {}={}@{}", e.labels.get("trace_id").unwrap(), e.value, e.timestamp.0)
        };
        s.labels.get("x").unwrap().to_owned() + &s.exemplars.iter().map(one).collect::<String>()
    };
    let expected =
        [format!("1 same=2@{scraped_ms}"), format!("2 t0=0.5@{} t1=0.5@{}", START_MS + 250, START_MS + 1250)];
    assert_eq!(found.iter().map(show).collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn reload_says_what_it_changed() {
    let lab = Lab::new();
    let named = |name: &str| ScrapeConfig { job_name: name.to_owned(), ..job(&[]) };
    let changed = |name: &str| ScrapeConfig { honor_labels: true, ..named(name) };
    let counts = |a: Applied| (a.started, a.changed, a.stopped);
    assert_eq!(counts(lab.manager.apply(&[named("a"), named("b"), named("c")])), (3, 0, 0));
    assert_eq!(counts(lab.manager.apply(&[named("a"), named("b"), named("c")])), (0, 0, 0));
    assert_eq!(counts(lab.manager.apply(&[changed("a"), named("b"), named("d")])), (1, 1, 1));
}
