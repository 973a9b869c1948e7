//! Scrapes that bring histograms: by protocol buffers, and made of classic series.

use promontory_config::HistogramModes;

use super::*;
use crate::scrape::exposition::both_body;
use crate::scrape::testing::histograms;

const PROTOBUF: &str =
    "Content-Type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited\r\n";

fn protobuf(n: u64) -> Box<dyn Fn() -> Vec<Action> + Send + Sync> {
    Box::new(move || vec![answer("200 OK", PROTOBUF, &both_body(n))])
}

fn with(modes: HistogramModes) -> ScrapeConfig {
    ScrapeConfig { histograms: modes, ..job(&["t:1"]) }
}

const NATIVE: HistogramModes = HistogramModes { native: true, always_classic: false, to_custom: false };

/// Histograms of `m` as `seconds=count buckets`, seconds since the first scrape.
fn shown(lab: &Lab) -> String {
    let first = samples(&lab.db).into_iter().filter(|(labels, _)| labels.metric_name() == "up");
    let first = first.map(|(_, samples)| samples[0].0).next().unwrap();
    let mut out = String::new();
    for (labels, found) in histograms(&lab.db) {
        let _ = write!(out, "{labels}");
        for (t, h) in found {
            let _ =
                write!(out, " {}={} {:?}", (t - first) as f64 / 1000.0, h.value().count, h.value().positive_buckets);
        }
    }
    out
}

const SERIES: &str = r#"{__name__="m", instance="t:1", job="j"}"#;

#[tokio::test(start_paused = true)]
async fn native_histograms_are_stored_and_end() {
    let answers = vec![protobuf(1), protobuf(2), body("a 1\n")];
    let lab = answering(&with(NATIVE), answers).await;
    assert_eq!(shown(&lab), format!("{SERIES} 0=4 [2.0, 1.0] 15=8 [4.0, 2.0]"));
    lab.check("m", "{} 30=stale");
    lab.check("m_count", "");
    lab.check("scrape_samples_scraped", "{} 0=1 15=1 30=1 45=1");
    lab.check("scrape_series_added", "{} 0=1 15=0 30=1 45=0");
    assert_eq!(lab.last_error(), "");
}

#[tokio::test(start_paused = true)]
async fn classic_series_of_protocol_buffers_are_like_those_of_text() {
    let text = "# TYPE m histogram\nm_bucket{le=\"1.0\"} 6\nm_bucket{le=\"+Inf\"} 8\nm_sum 2.5\nm_count 8\n";
    let lab = answering(&with(HistogramModes::default()), vec![protobuf(1), body(text), protobuf(3)]).await;
    lab.check("m_bucket", "{le=\"+Inf\"} 0=4 15=8 30=12 45=12\n{le=\"1.0\"} 0=3 15=6 30=9 45=9");
    lab.check("m_count", "{} 0=4 15=8 30=12 45=12");
    lab.check("scrape_series_added", "{} 0=4 15=0 30=0 45=0");
    assert_eq!(shown(&lab), "");
    assert_eq!(lab.manager.metadata()["m"][0].kind, MetricType::Histogram);
}

#[tokio::test(start_paused = true)]
async fn classic_histograms_become_ones_with_custom_buckets() {
    let text = "# TYPE m histogram\nm_bucket{le=\"1\"} 6\nm_bucket{le=\"+Inf\"} 8\nm_sum 2.5\nm_count 8\n";
    let custom = HistogramModes { to_custom: true, ..HistogramModes::default() };
    let lab = answering(&with(custom), vec![body(text), body(text), body("# TYPE m histogram\n")]).await;
    assert_eq!(shown(&lab), format!("{SERIES} 0=8 [6.0, 2.0] 15=8 [6.0, 2.0]"));
    lab.check("m_count", "");
    lab.check("m", "{} 30=stale");
    let both = HistogramModes { always_classic: true, ..custom };
    let lab = answering(&with(both), vec![body(text)]).await;
    lab.check("m_count", "{} 0=8 15=8 30=8 45=8");
    assert!(shown(&lab).starts_with(SERIES));
}

#[tokio::test(start_paused = true)]
async fn label_of_a_target_says_how_its_histograms_are_taken() {
    let target_label = "__scrape_native_histograms__".to_owned();
    let rule = RelabelConfig { target_label, replacement: "true".to_owned(), ..RelabelConfig::new() };
    let config = ScrapeConfig { relabel_configs: vec![rule], ..with(HistogramModes::default()) };
    let lab = answering(&config, vec![protobuf(1)]).await;
    assert!(shown(&lab).starts_with(SERIES));
}

#[tokio::test(start_paused = true)]
async fn too_many_buckets_fail_the_scrape() {
    let wide = ScrapeConfig { native_histogram_bucket_limit: Some(1), ..with(NATIVE) };
    // Two neighbouring buckets become one at the next coarser schema, or the one after.
    let lab = answering(&wide, vec![protobuf(1)]).await;
    assert!(shown(&lab).contains("0=4 [3.0]"), "{}", shown(&lab));
    let custom = HistogramModes { to_custom: true, ..HistogramModes::default() };
    let config = ScrapeConfig { native_histogram_bucket_limit: Some(1), ..with(custom) };
    let lab = answering(&config, vec![protobuf(1)]).await;
    assert_eq!(lab.last_error(), "histogram bucket limit exceeded (number of buckets: 2, limit: 1)");
    assert_eq!(shown(&lab), "");
    lab.check("up", "{} 0=0 15=0 30=0 45=0");
    assert_eq!(lab.metrics.exceeded_bucket_limit.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn broken_protocol_buffers_fail_the_scrape() {
    let cut = both_body(1)[..7].to_vec();
    let torn: Box<dyn Fn() -> Vec<Action> + Send + Sync> = Box::new(move || vec![answer("200 OK", PROTOBUF, &cut)]);
    let lab = answering(&with(NATIVE), vec![protobuf(1), torn]).await;
    assert_eq!(lab.last_error(), "protobuf: message at byte 0 ends after the body");
    lab.check("m", "{} 15=stale");
    lab.check("up", "{} 0=1 15=0 30=0 45=0");
}
