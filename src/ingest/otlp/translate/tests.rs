//! Requests in JSON, and the samples they become.

use promontory_config::otlp::{Promotion, Translation};

use super::*;

fn translated(config: &OtlpConfig, delta: DeltaMode, totals: &mut Totals, json: &str) -> Translated {
    let request = ExportRequest::from_json(json.as_bytes()).unwrap_or_else(|e| panic!("{e}: {json}"));
    translate(&request, Rules { config, delta, zero_starts: true, lookback_ms: 300_000, now_ms: 0, totals })
}

/// A request of one resource with these attributes, one scope and one metric.
fn request(resource: &str, metric: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{
            "scope":{{"name":"lib","version":"1.2","attributes":[{{"key":"k","value":{{"stringValue":"v"}}}}]}},
            "schemaUrl":"http://s","metrics":[{metric}]}}]}}]}}"#
    )
}

fn attribute(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
}

fn attributes(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(k, v)| attribute(k, v)).collect::<Vec<_>>().join(",")
}

fn lines(t: &Translated) -> Vec<String> {
    let value = |v: f64| if promontory_model::is_stale(v) { "stale".to_owned() } else { v.to_string() };
    let of = |l: &Labels| l.to_string().replace(", ", ",");
    let samples = t.batch.samples.iter().map(|(l, at, v)| format!("{} {at}:{}", of(l), value(*v)));
    let histograms = t
        .batch
        .histograms
        .iter()
        .map(|(l, at, h)| format!("{} {at}:{}", of(l), promontory_promql::histogram::text(h.value(), h.counts())));
    samples.chain(histograms).collect()
}

#[track_caller]
fn check(config: &OtlpConfig, json: &str, expected: &[&str]) {
    let t = translated(config, DeltaMode::Refuse, &mut Totals::default(), json);
    assert_eq!(lines(&t), expected);
    assert_eq!((t.n_refused, t.reason), (0, None));
}

const POINT: &str = r#""timeUnixNano":"5000000000""#;

#[test]
fn numbers_become_samples() {
    let point = |more: &str| format!("{{{POINT},{more}}}");
    let gauge = format!(
        r#"{{"name":"queue.size","unit":"1","gauge":{{"dataPoints":[{},{},{}]}}}}"#,
        point(r#""asInt":"7""#),
        point(&format!(r#""asDouble":0.5,"attributes":[{}]"#, attributes(&[("k.a", "1"), ("k_a", "2"), ("_u", "x")]))),
        point(r#""flags":1,"attributes":[{"key":"gone","value":{"boolValue":true}}]"#),
    );
    check(
        &OtlpConfig::default(),
        &request("", &gauge),
        &[
            r#"{__name__="queue_size_ratio"} 5000:7"#,
            r#"{__name__="queue_size_ratio",k_a="1;2",key_u="x"} 5000:0.5"#,
            r#"{__name__="queue_size_ratio",gone="true"} 5000:stale"#,
        ],
    );
    let sum = |monotonic| {
        let points = point(r#""asInt":3"#);
        format!(
            r#"{{"name":"req","sum":{{"aggregationTemporality":2,"isMonotonic":{monotonic},"dataPoints":[{points}]}}}}"#
        )
    };
    check(&OtlpConfig::default(), &request("", &sum(true)), &[r#"{__name__="req_total"} 5000:3"#]);
    check(&OtlpConfig::default(), &request("", &sum(false)), &[r#"{__name__="req"} 5000:3"#]);
}

fn one_gauge(more: &str) -> String {
    format!(r#"{{"name":"g","gauge":{{"dataPoints":[{{{POINT},"asInt":1{more}}}]}}}}"#)
}

#[test]
fn resources_become_job_instance_and_target_info() {
    let resource = attributes(&[
        ("service.name", "api"),
        ("service.namespace", "shop"),
        ("service.instance.id", "i1"),
        ("k8s.pod.name", "p"),
        ("empty", ""),
    ]);
    let mut config = OtlpConfig::default();
    let json = request(&resource, &one_gauge(""));
    let info = r#"{__name__="target_info",instance="i1",job="shop/api",k8s_pod_name="p"} 5000:1"#;
    check(&config, &json, &[r#"{__name__="g",instance="i1",job="shop/api"} 5000:1"#, info]);
    config.promote = Promotion::These(vec!["k8s.pod.name".to_owned(), "absent".to_owned()]);
    config.keep_identifying_attributes = true;
    check(
        &config,
        &json,
        &[
            r#"{__name__="g",instance="i1",job="shop/api",k8s_pod_name="p"} 5000:1"#,
            concat!(
                r#"{__name__="target_info",instance="i1",job="shop/api",k8s_pod_name="p","#,
                r#"service_instance_id="i1",service_name="api",service_namespace="shop"} 5000:1"#
            ),
        ],
    );
    config = OtlpConfig {
        promote: Promotion::AllBut(vec!["k8s.pod.name".to_owned(), "service.instance.id".to_owned()]),
        translation: Translation::Unchanged,
        ..OtlpConfig::default()
    };
    check(
        &config,
        &json,
        &[
            r#"{__name__="g",instance="i1",job="shop/api","service.name"="api","service.namespace"="shop"} 5000:1"#,
            r#"{__name__="target_info",instance="i1",job="shop/api","k8s.pod.name"="p"} 5000:1"#,
        ],
    );
    // Without a service there is no target_info, and with nothing else neither.
    let bare = [r#"{__name__="g"} 5000:1"#];
    check(&OtlpConfig::default(), &request(&attribute("k8s.pod.name", "p"), &one_gauge("")), &bare);
    let lone = [r#"{__name__="g",job="api"} 5000:1"#];
    check(&OtlpConfig::default(), &request(&attribute("service.name", "api"), &one_gauge("")), &lone);
}

#[test]
fn labels_of_a_point_go_before_promoted_ones_and_behind_the_identity() {
    let resource = attributes(&[("service.name", "api"), ("zone", "a"), ("color", "red")]);
    let point = format!(r#","attributes":[{}]"#, attributes(&[("zone", "b"), ("job", "mine"), ("__name__", "x")]));
    let config = OtlpConfig { promote: Promotion::AllBut(vec!["service.name".to_owned()]), ..OtlpConfig::default() };
    let t = translated(&config, DeltaMode::Refuse, &mut Totals::default(), &request(&resource, &one_gauge(&point)));
    assert_eq!(lines(&t)[0], r#"{__name__="g",color="red",job="api",zone="b"} 5000:1"#);
}

#[test]
fn scopes_become_labels_on_request() {
    let config = OtlpConfig { promote_scope_metadata: true, ..OtlpConfig::default() };
    check(
        &config,
        &request("", &one_gauge("")),
        &[concat!(
            r#"{__name__="g",otel_scope_k="v",otel_scope_name="lib",otel_scope_schema_url="http://s","#,
            r#"otel_scope_version="1.2"} 5000:1"#
        )],
    );
}

#[test]
fn histograms_become_buckets() {
    let exemplar = r#"{"timeUnixNano":"4000000000","asDouble":0.7,"traceId":"0a","spanId":"0b",
        "filteredAttributes":[{"key":"user.id","value":{"intValue":"5"}}]}"#;
    let point = format!(
        r#"{{{POINT},"count":"9","sum":4.5,"bucketCounts":["1","2","6"],"explicitBounds":[0.5,10],"exemplars":[{exemplar}]}}"#
    );
    let json = request(
        "",
        &format!(r#"{{"name":"lat","unit":"s","histogram":{{"aggregationTemporality":2,"dataPoints":[{point}]}}}}"#),
    );
    let config = OtlpConfig::default();
    check(
        &config,
        &json,
        &[
            r#"{__name__="lat_seconds_sum"} 5000:4.5"#,
            r#"{__name__="lat_seconds_count"} 5000:9"#,
            r#"{__name__="lat_seconds_bucket",le="0.5"} 5000:1"#,
            r#"{__name__="lat_seconds_bucket",le="10"} 5000:3"#,
            r#"{__name__="lat_seconds_bucket",le="+Inf"} 5000:9"#,
        ],
    );
    let t = translated(&config, DeltaMode::Refuse, &mut Totals::default(), &json);
    let [(labels, exemplar)] = &t.batch.exemplars[..] else { panic!("{:?}", t.batch.exemplars) };
    assert_eq!(labels.get("le"), Some("10"));
    assert_eq!(exemplar.labels.to_string(), r#"{span_id="0b", trace_id="0a", user_id="5"}"#);
    assert_eq!((exemplar.timestamp.0, exemplar.value), (4000, 0.7));
    let (name, metadata) = &t.batch.metadata[0];
    assert_eq!(
        (name.as_str(), metadata.kind, metadata.unit.as_str()),
        ("lat_seconds", MetricType::Histogram, "seconds")
    );
    let native = OtlpConfig { convert_histograms_to_nhcb: true, ..config };
    check(
        &native,
        &json,
        &[r#"{__name__="lat_seconds"} 5000:{count:9, sum:4.5, [-Inf,0.5]:1, (0.5,10]:2, (10,+Inf]:6}"#],
    );
}

#[test]
fn exponential_histograms_are_native_and_summaries_have_quantiles() {
    let point = format!(r#"{{{POINT},"count":3,"sum":4.5,"scale":2,"positive":{{"offset":1,"bucketCounts":[3]}}}}"#);
    let exponential =
        format!(r#"{{"name":"lat","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{point}]}}}}"#);
    check(
        &OtlpConfig::default(),
        &request("", &exponential),
        &[r#"{__name__="lat"} 5000:{count:3, sum:4.5, (1.189207115002721,1.4142135623730951]:3}"#],
    );
    let summary = format!(
        r#"{{"name":"sm","summary":{{"dataPoints":[{{{POINT},"count":"2","sum":3,
            "quantileValues":[{{"quantile":0.5,"value":1}},{{"quantile":1,"value":2}}]}}]}}}}"#
    );
    check(
        &OtlpConfig::default(),
        &request("", &summary),
        &[
            r#"{__name__="sm_sum"} 5000:3"#,
            r#"{__name__="sm_count"} 5000:2"#,
            r#"{__name__="sm",quantile="0.5"} 5000:1"#,
            r#"{__name__="sm",quantile="1"} 5000:2"#,
        ],
    );
}

fn deltas(t: u64, v: u64) -> String {
    let number = format!(r#"{{"timeUnixNano":{},"asInt":{v}}}"#, t * 1_000_000);
    let histogram =
        format!(r#"{{"timeUnixNano":{},"count":{v},"sum":1,"positive":{{"bucketCounts":[{v}]}}}}"#, t * 1_000_000);
    request(
        "",
        &format!(
            r#"{{"name":"s","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{number}]}}}},
           {{"name":"h","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[{histogram}]}}}}"#
        ),
    )
}

#[test]
fn differences_are_refused_kept_or_added_up() {
    let config = OtlpConfig::default();
    let mut totals = Totals::default();
    let t = translated(&config, DeltaMode::Refuse, &mut totals, &deltas(1, 2));
    assert_eq!((t.n_points, t.n_refused, lines(&t).len()), (2, 2, 0));
    let reason = t.reason.unwrap();
    assert!(reason.starts_with("invalid temporality and type combination for metric \"s\""), "{reason}");

    let t = translated(&config, DeltaMode::Keep, &mut totals, &deltas(1, 2));
    assert_eq!(lines(&t)[0], r#"{__name__="s_total"} 1:2"#);
    assert_eq!(t.batch.histograms[0].2.value().counter_reset_hint, CounterResetHint::Gauge);
    assert_eq!(t.batch.metadata[0].1.kind, MetricType::Gauge);

    let mut add = |t, v| lines(&translated(&config, DeltaMode::AddUp, &mut totals, &deltas(t, v)));
    assert_eq!(add(1, 2), [r#"{__name__="s_total"} 1:2"#, r#"{__name__="h"} 1:{count:2, sum:1, (1,2]:2}"#]);
    for is_again in [false, true] {
        let totals = [r#"{__name__="s_total"} 2:5"#, r#"{__name__="h"} 2:{count:5, sum:2, (1,2]:5}"#];
        assert_eq!(add(2, 3), totals, "sent again: {is_again}");
    }
    let t = translated(&config, DeltaMode::AddUp, &mut totals, &deltas(1, 2));
    assert_eq!(
        (t.n_refused, t.reason.as_deref()),
        (2, Some("metric \"s\": a difference is older than the one before it"))
    );
}

#[test]
fn target_info_fills_long_spans_with_bounds() {
    let points: Vec<String> =
        [0_u64, 700].iter().map(|s| format!(r#"{{"timeUnixNano":{},"asInt":1}}"#, s * 1_000_000_000)).collect();
    let gauge = format!(r#"{{"name":"g","gauge":{{"dataPoints":[{}]}}}}"#, points.join(","));
    let resource = attributes(&[("service.name", "api"), ("a", "b")]);
    let json = request(&resource, &gauge);
    let t = translated(&OtlpConfig::default(), DeltaMode::Refuse, &mut Totals::default(), &json);
    let times: Vec<i64> = t.batch.samples[2..].iter().map(|s| s.1).collect();
    assert_eq!(times, [0, 150_000, 300_000, 450_000, 600_000, 700_000]);
    let json = json.replace("700000000000", "1700000000000000000");
    let t = translated(&OtlpConfig::default(), DeltaMode::Refuse, &mut Totals::default(), &json);
    assert_eq!(t.batch.samples.len(), 2 + TARGET_INFO_SAMPLES_MAX as usize);
}

#[test]
fn labels_that_are_written_once_do_not_stand_for_gigabytes() {
    let refused = |json: &str, config: &OtlpConfig| {
        let t = translated(config, DeltaMode::Refuse, &mut Totals::default(), json);
        (t.batch.samples.len(), t.n_points, t.n_refused, t.reason.unwrap_or_default())
    };
    let long = attributes(&[("service.name", &"x".repeat(LABELS_BYTES_MAX))]);
    let (n, points, refused_points, reason) = refused(&request(&long, &one_gauge("")), &OtlpConfig::default());
    assert_eq!((points, refused_points), (1, 1));
    assert!(n <= 1 && reason.contains("labels_bytes_max"), "{reason}");

    let bounds: Vec<String> = (0..6_000).map(|i| i.to_string()).collect();
    let counts = vec!["1"; 6_001].join(",");
    let histogram = format!(
        r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{POINT},"explicitBounds":[{}],
            "bucketCounts":[{counts}],"count":6001}}]}}}}"#,
        bounds.join(",")
    );
    let long = attributes(&[("service.name", &"x".repeat(LABELS_BYTES_MAX - 100))]);
    let (n, _, refused_points, reason) = refused(&request(&long, &histogram), &OtlpConfig::default());
    assert_eq!((n, refused_points), (0, 1));
    assert!(reason.contains("batch_labels_bytes_max"), "{reason}");

    let all = OtlpConfig { promote: Promotion::AllBut(Vec::new()), ..OtlpConfig::default() };
    let many: Vec<String> = (0..=SHARED_LABELS_MAX).map(|i| attribute(&format!("a{i}"), "v")).collect();
    let (n, points, refused_points, reason) = refused(&request(&many.join(","), &one_gauge("")), &all);
    assert_eq!((n, points, refused_points), (0, 1, 1));
    assert!(reason.contains("shared_labels_max"), "{reason}");
}

/// Series and times of starts.
fn starts(delta: DeltaMode, metric: &str) -> Vec<String> {
    let t = translated(&OtlpConfig::default(), delta, &mut Totals::default(), &request("", metric));
    let of = |s: &Start| {
        let kind = if s.histogram.is_some() { " histogram" } else { "" };
        format!("{} {}>{}{kind}", s.labels.to_string().replace("__name__=", ""), s.start_ms, s.t_ms)
    };
    t.batch.starts.iter().map(of).collect()
}

#[test]
fn what_counts_is_known_to_have_begun() {
    let since = r#""startTimeUnixNano":"2000000000""#;
    let check = |delta, metric: &str, expected: &[&str]| assert_eq!(starts(delta, metric), expected, "{metric}");
    let sum = |temporality: u8, monotonic: bool, points: &str| {
        format!(
            r#"{{"name":"c","sum":{{"aggregationTemporality":{temporality},"isMonotonic":{monotonic},
                "dataPoints":[{points}]}}}}"#
        )
    };
    let point = format!("{{{POINT},{since},\"asInt\":3}}");
    check(DeltaMode::Refuse, &sum(2, true, &point), &[r#"{"c_total"} 2000>5000"#]);
    check(DeltaMode::Refuse, &sum(2, false, &point), &[]);
    check(DeltaMode::Refuse, &sum(2, true, &format!("{{{POINT},{since},\"flags\":1}}")), &[]);
    check(DeltaMode::Refuse, &format!(r#"{{"name":"g","gauge":{{"dataPoints":[{point}]}}}}"#), &[]);
    // A total counts since its first difference does; differences that are kept as they are have no beginning.
    let next = r#"{"timeUnixNano":"7000000000","startTimeUnixNano":"6000000000","asInt":3}"#;
    let points = format!("{point},{next}");
    check(DeltaMode::AddUp, &sum(1, true, &points), &[r#"{"c_total"} 2000>5000"#, r#"{"c_total"} 2000>7000"#]);
    check(DeltaMode::Keep, &sum(1, true, &points), &[]);
    let histogram = format!(
        r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{POINT},{since},"count":"3","sum":4,
            "bucketCounts":["3"]}}]}}}}"#
    );
    let expected = [r#"{"h_sum"} 2000>5000"#, r#"{"h_count"} 2000>5000"#, r#"{"h_bucket", le="+Inf"} 2000>5000"#];
    check(DeltaMode::Refuse, &histogram, &expected);
    let exponential = format!(
        r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{{POINT},{since},
            "count":"1","zeroCount":"1","sum":0}}]}}}}"#
    );
    check(DeltaMode::Refuse, &exponential, &[r#"{"e"} 2000>5000 histogram"#]);
    let summary = format!(
        r#"{{"name":"s","summary":{{"dataPoints":[{{{POINT},{since},"count":"1","sum":1,
            "quantileValues":[{{"quantile":0.5,"value":1}}]}}]}}}}"#
    );
    check(DeltaMode::Refuse, &summary, &[r#"{"s_sum"} 2000>5000"#, r#"{"s_count"} 2000>5000"#]);
}
