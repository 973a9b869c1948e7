//! Limits on how many series scraping holds.

use promontory_config::{CardinalityConfig, JobCardinality};

use super::*;

fn per_scrape(n: u64) -> CardinalityConfig {
    let default = JobCardinality { series_per_scrape: Some(n), ..JobCardinality::default() };
    CardinalityConfig { default, ..CardinalityConfig::default() }
}

/// A lab with limits whose target `t:1` answers with `answers` in turn.
async fn limited(limits: &CardinalityConfig, config: &ScrapeConfig, answers: &[&'static str]) -> Lab {
    let lab = Lab::new();
    lab.manager.limit_series(limits);
    let n = AtomicUsize::new(0);
    let answers = answers.to_vec();
    lab.network.serve("t:1", move |_| {
        let i = n.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        vec![exposition(answers[i])]
    });
    lab.manager.apply(std::slice::from_ref(config));
    lab.secs(60.0).await;
    lab
}

/// Value of the sample of `name` whose labels hold `label`.
fn metric(lab: &Lab, name: &str, label: &str) -> f64 {
    let families = lab.manager.families();
    let family = families.iter().find(|f| f.name == name).unwrap();
    family.samples.iter().find(|s| label.is_empty() || s.labels.iter().any(|(_, v)| v == label)).unwrap().value
}

#[tokio::test(start_paused = true)]
async fn new_series_are_refused_and_old_ones_kept() {
    let lab = limited(&per_scrape(2), &job(&["t:1"]), &["a 1\nb 1\n", "c 2\na 2\nb 2\nd 2\n"]).await;
    lab.check("a", "{} 0=1 15=2 30=2 45=2");
    lab.check("b", "{} 0=1 15=2 30=2 45=2");
    lab.check("c", "");
    lab.check("up", "{} 0=1 15=1 30=1 45=1");
    lab.check("scrape_series_added", "{} 0=2 15=0 30=0 45=0");
    lab.check("scrape_samples_post_metric_relabeling", "{} 0=2 15=4 30=4 45=4");
    let status = lab.manager.targets().active.remove(0);
    assert_eq!((status.last_refused, status.last_error.as_str()), (2, ""));
    assert_eq!(metric(&lab, "promontory_scrape_series", ""), 2.0);
    assert_eq!(metric(&lab, "promontory_scrape_series_refused_total", "series_per_scrape"), 2.0);
    assert_eq!(metric(&lab, "promontory_scrape_samples_dropped_total", "refused_series"), 6.0);
}

#[tokio::test(start_paused = true)]
async fn room_is_taken_when_old_series_go_or_the_limit_rises() {
    let lab = limited(&per_scrape(1), &job(&["t:1"]), &["a 1\n", "b 2\n"]).await;
    lab.check("b", "");
    // Lines that stay away are remembered for ten scrapes; then the series is none of the target any more.
    lab.secs(150.0).await;
    let history = lab.history("b");
    assert!(history.starts_with("{} 180=2 195=2"), "{history}");
    let lab = limited(&per_scrape(1), &job(&["t:1"]), &["a 1\nb 1\n"]).await;
    lab.manager.limit_series(&CardinalityConfig::default());
    lab.secs(15.0).await;
    lab.check("b", "{} 60=1");
}

#[tokio::test(start_paused = true)]
async fn limits_of_jobs_metrics_and_all_hold_over_targets() {
    let body = "m{x=\"1\"} 1\nm{x=\"2\"} 1\nn 1\n";
    let n_stored = |lab: &Lab| samples(&lab.db).keys().filter(|l| ["m", "n"].contains(&l.metric_name())).count();
    let of_job = JobCardinality { series_per_job: Some(4), ..JobCardinality::default() };
    for (limits, n) in [
        (CardinalityConfig { series: Some(5), ..CardinalityConfig::default() }, 5),
        (CardinalityConfig { series_per_metric: Some(3), ..CardinalityConfig::default() }, 5),
        (CardinalityConfig { jobs: [("j".to_owned(), of_job)].into(), ..CardinalityConfig::default() }, 4),
        (CardinalityConfig { jobs: [("k".to_owned(), of_job)].into(), ..CardinalityConfig::default() }, 6),
    ] {
        let lab = Lab::new();
        lab.manager.limit_series(&limits);
        for host in ["t:1", "t:2"] {
            lab.network.serve(host, move |_| vec![exposition(body)]);
        }
        lab.manager.apply(&[job(&["t:1", "t:2"])]);
        lab.secs(45.0).await;
        assert_eq!(n_stored(&lab), n, "{limits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn new_relabelling_does_not_lose_series_at_the_limit() {
    let config = job(&["t:1"]);
    let lab = limited(&per_scrape(2), &config, &["a 1\nb 1\n"]).await;
    let rule = RelabelConfig { target_label: "l".to_owned(), replacement: "v".to_owned(), ..RelabelConfig::new() };
    lab.manager.apply(&[ScrapeConfig { metric_relabel_configs: vec![rule], ..config }]);
    lab.secs(15.0).await;
    lab.check("a", "{} 0=1 15=1 30=1 45=1 60=stale\n{l=\"v\"} 60=1");
    lab.check("b", "{} 0=1 15=1 30=1 45=1 60=stale\n{l=\"v\"} 60=1");
}
