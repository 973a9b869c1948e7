//! Series that begin with a zero at the time from which their target says that they count.

use promontory_config::HistogramModes;

use super::*;
use crate::scrape::exposition::created_body;
use crate::scrape::testing::histograms;

const OPENMETRICS: &str = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";
const PROTOBUF: &str = "Content-Type: application/vnd.google.protobuf\r\n";
/// A minute before the clock starts.
const BEFORE_S: i64 = START_MS / 1000 - 60;

/// A page of OpenMetrics whose metrics have counted since `created_s`.
fn page(n: u64, created_s: i64) -> String {
    format!(
        "# TYPE c counter\nc_total{{a=\"x\"}} {n}\nc_created{{a=\"x\"}} {created_s}.5\nc_total{{a=\"y\"}} 7\n\
         # TYPE h histogram\nh_bucket{{le=\"1\"}} {n}\nh_bucket{{le=\"+Inf\"}} {n}\nh_sum 2\nh_count {n}\nh_created \
         {created_s}\n# TYPE s summary\ns{{quantile=\"0.5\"}} 4\ns_sum 2\ns_count {n}\ns_created {created_s}\n\
         # TYPE g_created gauge\ng_created 3\n# EOF\n"
    )
}

fn open(n: u64, created_s: i64) -> Box<dyn Fn() -> Vec<Action> + Send + Sync> {
    Box::new(move || vec![answer("200 OK", OPENMETRICS, page(n, created_s).as_bytes())])
}

async fn lab(config: &ScrapeConfig, answers: Vec<Box<dyn Fn() -> Vec<Action> + Send + Sync>>) -> Lab {
    let lab = Lab::with(ManagerOptions { seed: 0, zero_starts: true, spread: Spread::here() });
    lab.answer(config, answers).await;
    lab
}

impl Lab {
    /// Samples of `metric` before the first scrape, `seconds=value` by the clock.
    fn begins(&self, metric: &str) -> String {
        let mut out = Vec::new();
        for (labels, samples) in samples(&self.db).iter().filter(|(labels, _)| labels.metric_name() == metric) {
            let shown = labels.without(&[METRIC_NAME, "job", "instance"]);
            let early = samples.iter().filter(|(t, _)| *t < START_MS);
            let early = early.map(|(t, v)| format!(" {}={v}", (t - START_MS) as f64 / 1000.0));
            out.push(format!("{shown}{}", early.collect::<String>()));
        }
        out.join("\n")
    }
}

#[tokio::test(start_paused = true)]
async fn series_of_openmetrics_begin_with_zero() {
    let lab = lab(&job(&["t:1"]), vec![open(5, BEFORE_S), open(6, BEFORE_S)]).await;
    // What has no start time of its own has no zero.
    assert_eq!(lab.begins("c_total"), "{a=\"x\"} -59.5=0\n{a=\"y\"}");
    assert_eq!(lab.begins("h_bucket"), "{le=\"+Inf\"} -60=0\n{le=\"1.0\"} -60=0");
    assert_eq!(lab.begins("h_count"), "{} -60=0");
    assert_eq!(lab.begins("s_count"), "{} -60=0");
    assert_eq!(lab.begins("s_sum"), "{} -60=0");
    assert_eq!(lab.begins("s"), "{quantile=\"0.5\"}");
    assert_eq!(lab.begins("c_created"), "");
    lab.check("g_created", "{} 0=3 15=3 30=3 45=3");
    lab.check("scrape_samples_scraped", "{} 0=10 15=10 30=10 45=10");
    lab.check("scrape_series_added", "{} 0=10 15=0 30=0 45=0");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_begins_anew_has_zeros_again() {
    let again_s = START_MS / 1000 + 24;
    let lab = lab(&job(&["t:1"]), vec![open(5, BEFORE_S), open(6, BEFORE_S), open(1, again_s)]).await;
    let all = samples(&lab.db);
    let (_, counted) = all.iter().find(|(labels, _)| labels.metric_name() == "h_count").unwrap();
    let first = counted[1].0;
    let shown: Vec<_> = counted.iter().map(|(t, v)| ((t - first) / 1000, *v)).collect();
    let zero_s = (again_s * 1000 - first) / 1000;
    assert!((15..30).contains(&zero_s), "{zero_s}");
    assert_eq!(shown[1..], [(0, 5.0), (15, 6.0), (zero_s, 0.0), (30, 1.0), (45, 1.0)]);
}

#[tokio::test(start_paused = true)]
async fn start_times_that_lie_behind_or_ahead_change_nothing() {
    let lab = lab(&job(&["t:1"]), vec![open(5, BEFORE_S), open(6, BEFORE_S - 7), open(7, BEFORE_S + 7_200)]).await;
    assert_eq!(lab.begins("h_count"), "{} -60=0");
    assert!(lab.history("h_count").ends_with(" 0=5 15=6 30=7 45=7"), "{}", lab.history("h_count"));
    assert_eq!(lab.last_error(), "");
}

#[tokio::test(start_paused = true)]
async fn start_times_are_samples_unless_they_are_wanted() {
    let lab = answering(&job(&["t:1"]), vec![open(5, BEFORE_S)]).await;
    assert_eq!(lab.begins("h_count"), "{}");
    lab.check("h_created", &format!("{{}} 0={BEFORE_S} 15={BEFORE_S} 30={BEFORE_S} 45={BEFORE_S}"));
}

#[tokio::test(start_paused = true)]
async fn histograms_of_both_kinds_begin_empty() {
    let body = |n| -> Box<dyn Fn() -> Vec<Action> + Send + Sync> {
        Box::new(move || vec![answer("200 OK", PROTOBUF, &created_body(n, BEFORE_S))])
    };
    let modes = HistogramModes { native: true, always_classic: true, to_custom: false };
    let config = ScrapeConfig { histograms: modes, ..job(&["t:1"]) };
    let native = lab(&config, vec![body(1), body(2)]).await;
    assert_eq!(native.begins("c_created"), "{} -59.5=0");
    assert_eq!(native.begins("m_count"), "{} -59.5=0");
    assert_eq!(native.begins("s_count"), "{} -59.5=0");
    assert_eq!(native.begins("s"), "{quantile=\"1.0\"}");
    let first_two = |lab: &Lab| {
        let (_, found) = histograms(&lab.db).into_iter().next().unwrap();
        let shown = found.iter().take(2).map(|(t, h)| ((t - START_MS).min(0), h.value().count, h.value().schema));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(first_two(&native), [(-59_500, 0.0, 1), (0, 4.0, 1)]);
    let config = ScrapeConfig {
        histograms: HistogramModes { native: false, always_classic: false, to_custom: true },
        ..job(&["t:1"])
    };
    let custom = lab(&config, vec![open(5, BEFORE_S)]).await;
    assert_eq!(first_two(&custom), [(-60_000, 0.0, -53), (0, 5.0, -53)]);
    assert_eq!(custom.begins("c_total"), "{a=\"x\"} -59.5=0\n{a=\"y\"}");
    assert_eq!(custom.begins("h_created"), "");
}
