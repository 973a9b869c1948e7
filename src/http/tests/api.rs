//! The endpoints, their parameters and their errors.

use std::io::Read as _;
use std::sync::atomic::Ordering;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::*;

#[track_caller]
fn check_data(answer: &Answer, expected: serde_json::Value) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    assert_eq!((&body["status"], &body["data"]), (&json!("success"), &expected));
}

#[track_caller]
fn check_error(answer: &Answer, status: u16, kind: &str, message: &str) {
    let body = answer.json();
    assert_eq!(body, json!({"status": "error", "errorType": kind, "error": message}));
    assert_eq!(answer.status, status);
}

#[tokio::test]
async fn instant_queries_answer_at_their_time() {
    let w = world();
    let expected = json!({"resultType": "vector", "result": [
        {"metric": {"__name__": "m", "i": "0"}, "value": [45.5, "40"]},
        {"metric": {"__name__": "m", "i": "1"}, "value": [45.5, "40"]},
    ]});
    check_data(&w.get("/api/v1/query?query=m&time=45.5").await, expected.clone());
    check_data(&w.post("/api/v1/query", "query=m&time=45.5").await, expected.clone());
    check_data(&w.post("/api/v1/query?query=zzz{&time=3", "query=m&time=45.5").await, expected);
    check_data(&w.get("/api/v1/query?query=2e-7").await, json!({"resultType": "scalar", "result": [100, "0.0000002"]}));
    let text = w.get("/api/v1/query?query=%22x%22&time=1970-01-01T00:00:01.25Z").await;
    check_data(&text, json!({"resultType": "string", "result": [1.25, "x"]}));
    let recent = w.get("/api/v1/query?query=n&time=55&lookback_delta=5s").await;
    check_data(&recent, json!({"resultType": "vector", "result": []}));
}

#[tokio::test]
async fn range_queries_answer_a_matrix() {
    let w = world();
    let answer = w.get("/api/v1/query_range?query=m%7Bi=%221%22%7D&start=10&end=50&step=20").await;
    let expected = json!({"resultType": "matrix", "result": [
        {"metric": {"__name__": "m", "i": "1"}, "values": [[10, "10"], [30, "30"], [50, "50"]]},
    ]});
    check_data(&answer, expected);
}

#[tokio::test]
async fn bad_queries_say_what_is_wrong() {
    let w = world();
    for (path, message) in [
        ("query", "invalid parameter \"query\": unknown position: parse error: no expression found in input"),
        ("query?query=sum(up", "invalid parameter \"query\": 1:7: parse error: unclosed left parenthesis"),
        (
            "query?query=x&time=x",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        ("query?query=x&timeout=abc", "invalid parameter \"timeout\": cannot parse \"abc\" to a valid duration"),
        (
            "query?query=x&lookback_delta=x",
            "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
        ),
        ("query?query=x&limit=-1", "invalid parameter \"limit\": limit must be non-negative"),
        ("query_range?query=x&end=1&step=1", "invalid parameter \"start\": cannot parse \"\" to a valid timestamp"),
        (
            "query_range?query=x&start=2&end=1&step=1",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        ("query_range?query=x&start=1&end=2", "invalid parameter \"step\": cannot parse \"\" to a valid duration"),
        (
            "query_range?query=x&start=1&end=2&step=0",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a \
             positive integer",
        ),
        (
            "query_range?query=x&start=0&end=11001&step=1",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
             (?step=XX)",
        ),
        (
            "query_range?query=x[5m]&start=0&end=1&step=1",
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or \
             instant Vector",
        ),
    ] {
        check_error(&w.get(&format!("/api/v1/{path}")).await, 400, "bad_data", message);
    }
    assert_eq!(w.get("/api/v1/query_range?query=1&start=0&end=11000&step=1").await.status, 200);
    let answer = w.get("/api/v1/label/%FF/values").await;
    assert_eq!((answer.status, &answer.json()["errorType"]), (400, &json!("bad_data")));
    let long = format!("query={}", "x".repeat(QUERY_BYTES_MAX + 1));
    let answer = w.post("/api/v1/query", &long).await;
    assert!(answer.status == 400 && answer.text().contains("query_bytes_max"), "{}", answer.text());
    let longer = "x".repeat(FORM_BYTES_MAX + 1);
    let answer = w.post("/api/v1/query", &longer).await;
    assert!(answer.status == 400 && answer.text().contains("form_bytes_max"), "{}", answer.text());
}

#[tokio::test]
async fn failures_of_evaluation_have_their_codes() {
    let w = world();
    let message =
        "query processing would load too many samples into memory in query execution: query.max-samples is 500";
    let many = "/api/v1/query_range?query=m&start=0&end=10000&step=1";
    check_error(&w.get(many).await, 422, "execution", message);
    let answer = w.get("/api/v1/query?query=boom").await;
    assert_eq!((answer.status, &answer.json()["errorType"]), (500, &json!("internal")));
    assert_eq!(w.get("/api/v1/query?query=m").await.status, 200);
}

#[tokio::test]
async fn remarks_are_limited_and_carry_places() {
    let w = world();
    let body = w.get("/api/v1/query?query=quantile(2,m)&time=90").await.json();
    let warning = "PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)";
    assert_eq!(body["warnings"], json!([warning]));
    let body = w.get("/api/v1/query?query=rate(m%5B1m%5D)&time=90").await.json();
    let info = body["infos"][0].as_str().unwrap();
    assert!(info.starts_with("PromQL info: metric might not be a counter") && info.ends_with(" (1:6)"), "{info}");
    let many: Vec<_> = (2..14).map(|i| format!("quantile({i},m)")).collect();
    let body = w.post("/api/v1/query", &format!("query={}&time=90", many.join("%2B"))).await.json();
    let warnings = body["warnings"].as_array().unwrap();
    assert_eq!((warnings.len(), &warnings[10]), (11, &json!("2 more warning annotations omitted")));
    let body = w.get("/api/v1/query?query=m&limit=1").await.json();
    assert_eq!(body["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(body["warnings"], json!(["results truncated due to limit"]));
    assert!(w.get("/api/v1/query?query=m&limit=2").await.json().get("warnings").is_none());
}

#[tokio::test]
async fn statistics_come_on_request() {
    let w = world();
    assert!(w.get("/api/v1/query?query=m").await.json()["data"].get("stats").is_none());
    let stats = &w.get("/api/v1/query?query=m&stats=all").await.json()["data"]["stats"];
    let read = stats["samples"]["samplesRead"].as_u64().unwrap();
    assert!(read > 0 && stats["samples"]["peakSamples"].as_u64().unwrap() > 0);
    assert_eq!(w.backend.samples_read.load(Ordering::SeqCst), 2 * read);
    assert!(stats["timings"]["execTotalTime"].is_number());
    let body = w.get("/api/v1/query?query=m&stats=foo").await.json();
    assert!(body["warnings"][0].as_str().unwrap().starts_with("value \"foo\" for parameter \"stats\" is deprecated"));
}

#[tokio::test]
async fn queries_are_logged() {
    let w = world();
    w.get("/api/v1/query?query=m&time=50").await;
    w.post("/api/v1/query_range", "query=sum(m)&start=10&end=90&step=15").await;
    w.get("/api/v1/query?query=m%20%2B%20on()%20m").await;
    w.get("/api/v1/query?query=m%2B").await;
    let mut lines = w.backend.logged.lock().unwrap().clone();
    for line in &mut lines {
        if let Some(timings) = line["stats"]["timings"].as_object_mut() {
            timings.values_mut().for_each(|seconds| *seconds = json!(seconds.as_f64().unwrap() >= 0.0));
        }
    }
    let shown = |query: &str, start: &str, end: &str, step: i64| {
        json!({"query": query, "start": format!("1970-01-01T00:0{start}Z"), "end": format!("1970-01-01T00:0{end}Z"),
            "step": step})
    };
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0]["params"], shown("m", "0:50.000", "0:50.000", 0));
    assert_eq!(lines[0]["httpRequest"], json!({"clientIP": "", "method": "GET", "path": "/api/v1/query"}));
    assert_eq!(lines[0]["stats"]["timings"]["execTotalTime"], json!(true));
    assert!(lines[0]["stats"]["samples"]["totalQueryableSamples"].as_u64().unwrap() > 0);
    assert_eq!(lines[1]["params"], shown("sum(m)", "0:10.000", "1:30.000", 15));
    assert_eq!(lines[1]["httpRequest"]["method"], json!("POST"));
    assert_eq!(
        (&lines[1]["msg"], &lines[1]["time"]),
        (&json!("promql query logged"), &json!("1970-01-01T00:01:40.000Z"))
    );
    assert!(lines[2]["error"].as_str().unwrap().contains("many-to-many"), "{}", lines[2]);
}

#[tokio::test]
async fn queries_end_at_their_deadline_and_give_their_place_back() {
    let w = world();
    let message = "query timed out in expression evaluation";
    check_error(&w.get("/api/v1/query?query=hang&timeout=10ms").await, 503, "timeout", message);
    while w.hanging.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(w.get("/api/v1/query?query=m").await.status, 200);
    for timeout in ["0", "-1"] {
        let answer = w.get(&format!("/api/v1/query?query=m&timeout={timeout}")).await;
        check_error(&answer, 503, "timeout", "query timed out in query queue");
    }
}

#[tokio::test]
async fn queries_beyond_the_limit_wait_and_end_with_their_clients() {
    let w = world();
    let two = async { tokio::join!(w.get("/api/v1/query?query=hang"), w.get("/api/v1/query?query=hang")) };
    let mut two = Box::pin(two);
    tokio::select! {
        _ = &mut two => panic!("a hanging query ended"),
        () = async { while w.hanging.load(Ordering::SeqCst) < 2 { tokio::task::yield_now().await } } => {}
    }
    let waiting = w.get("/api/v1/query?query=m&timeout=10ms").await;
    check_error(&waiting, 503, "timeout", "query timed out in query queue");
    // Dropping the requests is what the server does when the connections close.
    drop(two);
    assert_eq!(w.backend.active.load(Ordering::SeqCst), 0);
    assert_eq!(w.get("/api/v1/query?query=m").await.status, 200);
}

#[tokio::test]
async fn a_query_ends_when_its_connection_closes() {
    let w = world();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, w.router.clone()).into_future());
    let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
    client.write_all(b"GET /api/v1/query?query=hang HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    while w.hanging.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    while w.hanging.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*w.stopped.lock().unwrap(), [Cancelled::ByUser]);
    server.abort();
}

#[tokio::test]
async fn labels_and_values_are_listed() {
    let w = world();
    check_data(&w.get("/api/v1/labels").await, json!(["__name__", "http.status", "i", "job"]));
    check_data(&w.post("/api/v1/labels", "match[]=m").await, json!(["__name__", "i"]));
    check_data(&w.get("/api/v1/labels?match[]=n&match[]=m").await, json!(["__name__", "http.status", "i", "job"]));
    check_data(&w.get("/api/v1/label/__name__/values").await, json!(["m", "n"]));
    check_data(&w.get("/api/v1/label/i/values?match[]=%7Bi=%220%22%7D").await, json!(["0"]));
    check_data(&w.get("/api/v1/label/U__http_2e_status/values").await, json!(["200"]));
    check_data(&w.get("/api/v1/label/http.status/values").await, json!(["200"]));
    check_data(&w.get("/api/v1/label/none/values").await, json!([]));
    let cut = w.get("/api/v1/label/i/values?limit=1").await.json();
    assert_eq!((&cut["data"], &cut["warnings"][0]), (&json!(["0"]), &json!("results truncated due to limit")));
    let message = "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher";
    check_error(&w.get("/api/v1/labels?match[]=%7Ba=~%22.*%22%7D").await, 400, "bad_data", message);
}

#[tokio::test]
async fn series_are_listed_once_and_sorted() {
    let w = world();
    let both = json!([{"__name__": "m", "i": "0"}, {"__name__": "m", "i": "1"}]);
    check_data(&w.get("/api/v1/series?match[]=m").await, both.clone());
    check_data(&w.post("/api/v1/series", "match[]=m&match[]=%7Bi=%221%22%7D").await, both);
    check_data(&w.get("/api/v1/series?match[]=m&limit=1").await, json!([{"__name__": "m", "i": "0"}]));
    check_data(&w.get("/api/v1/series?match[]=absent").await, json!([]));
    check_error(&w.get("/api/v1/series").await, 400, "bad_data", "no match[] parameter provided");
    let answer = w.get("/api/v1/series?match[]=a%7B").await;
    assert!(answer.status == 400 && answer.text().contains("invalid parameter \\\"match[]\\\": 1:"));
}

#[tokio::test]
async fn targets_are_filtered_by_state_and_pool() {
    let w = world();
    let all = w.get("/api/v1/targets").await.json()["data"].clone();
    assert_eq!(
        all["activeTargets"][0],
        json!({
            "discoveredLabels": {"__address__": "a:1", "job": "x"}, "labels": {"job": "x"}, "scrapePool": "x",
            "scrapeUrl": "http://a:1/metrics", "globalUrl": "http://host:1/metrics", "lastError": "",
            "lastScrape": "2023-11-14T22:13:20.5Z", "lastScrapeDuration": 0.25, "health": "up",
            "scrapeInterval": "15s", "scrapeTimeout": "10s",
        })
    );
    assert_eq!(all["activeTargets"][1]["lastScrape"], "0001-01-01T00:00:00Z");
    assert_eq!(all["droppedTargetCounts"], json!({"x": 0, "y": 1}));
    let active = w.get("/api/v1/targets?state=Active&scrapePool=y").await.json()["data"].clone();
    assert_eq!(active["activeTargets"].as_array().unwrap().len(), 1);
    assert_eq!((&active["droppedTargets"], &active["droppedTargetCounts"]), (&json!([]), &json!(null)));
    let none = json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": null});
    check_data(&w.get("/api/v1/targets?state=zzz").await, none);
    let metadata = w.get("/api/v1/targets/metadata?match_target=%7Bjob=%22y%22%7D&metric=b").await;
    check_data(&metadata, json!([{"target": {"job": "y"}, "type": "counter", "help": "three", "unit": "s"}]));
    let metadata = w.get("/api/v1/targets/metadata?limit=1").await.json()["data"].clone();
    assert_eq!((metadata.as_array().unwrap().len(), &metadata[0]["metric"]), (2, &json!("a")));
    assert_eq!(w.get("/api/v1/targets/metadata/?limit=1").await.status, 301);
    assert_eq!(w.get("/version").await.json()["version"], "3.14.0");
    check_data(&w.get("/api/v1/status/walreplay").await, json!({"min": 0, "max": 0, "current": 0}));
    check_data(&w.get("/api/v1/scrape_pools").await, json!({"scrapePools": ["x", "y"]}));
    check_data(&w.get("/api/v1/scrape_pools/config?scrapePool=x").await, json!({"yaml": "job_name: x\n"}));
    let steps = w.get("/api/v1/targets/relabel_steps?scrapePool=x&labels=%7B%22a%22:%22b%22%7D").await;
    let kept = json!({"rule": {"action": "replace"}, "output": {"a": "b"}, "keep": true});
    let dropped = json!({"rule": {"action": "drop"}, "output": {}, "keep": false});
    check_data(&steps, json!({ "steps": [kept, dropped] }));
    for (path, text) in [
        ("scrape_pools/config", "no scrapePool parameter provided"),
        ("scrape_pools/config?scrapePool=z", "there is no scrape pool \"z\""),
        ("targets/relabel_steps?scrapePool=x", "no labels parameter provided"),
        ("targets/relabel_steps?scrapePool=z&labels=%7B%7D", "there is no scrape pool \"z\""),
        ("targets/relabel_steps?scrapePool=x&labels=1", "invalid parameter \"labels\""),
    ] {
        let answer = w.get(&format!("/api/v1/{path}")).await;
        let error = answer.json()["error"].clone();
        assert!(answer.status == 400 && error.as_str().unwrap().contains(text), "{path}: {error}");
    }
}

#[tokio::test]
async fn metadata_is_limited_by_metric_and_entry() {
    let w = world();
    let entry = |help: &str| json!({"type": "counter", "help": help, "unit": "s"});
    let all = json!({"a": [entry("one"), entry("two")], "b": [entry("three")]});
    check_data(&w.get("/api/v1/metadata").await, all);
    check_data(&w.get("/api/v1/metadata?metric=b").await, json!({"b": [entry("three")]}));
    check_data(&w.get("/api/v1/metadata?limit=1&limit_per_metric=1").await, json!({"a": [entry("one")]}));
    check_error(&w.get("/api/v1/metadata?limit=x").await, 400, "bad_data", "limit must be a number");
}

#[tokio::test]
async fn status_tells_about_the_server() {
    let w = world();
    check_data(&w.get("/api/v1/status/config").await, json!({"yaml": "global: {}\n"}));
    check_data(&w.get("/api/v1/status/flags").await, json!({"query.timeout": "2m"}));
    assert_eq!(w.get("/api/v1/status/buildinfo").await.json()["data"]["version"], "3.14.0");
    let runtime = w.get("/api/v1/status/runtimeinfo").await.json()["data"].clone();
    assert_eq!((&runtime["serverTime"], &runtime["storageRetention"]), (&json!("1970-01-01T00:01:40Z"), &json!("15d")));
    let tsdb = w.get("/api/v1/status/tsdb?limit=2").await.json()["data"].clone();
    assert_eq!(tsdb["headStats"]["numSeries"], 3);
    assert_eq!(tsdb["seriesCountByMetricName"], json!([{"name": "m0", "value": 0}, {"name": "m1", "value": 1}]));
    check_error(&w.get("/api/v1/status/tsdb?limit=0").await, 400, "bad_data", "limit must be a positive number");
    check_data(&w.get("/api/v1/rules").await, json!({"groups": []}));
    check_data(&w.get("/api/v1/alerts").await, json!({"alerts": []}));
}

#[tokio::test]
async fn exemplars_of_all_selectors_of_a_query_are_listed() {
    let w = world();
    let answer = w.get("/api/v1/query_exemplars?query=rate(m[5m])/on()n&start=1.5&end=3").await;
    assert_eq!(
        answer.text(),
        r#"{"status":"success","data":[{"seriesLabels":{"__name__":"m"},"exemplars":[{"labels":{"trace_id":"a"},"value":"0.5","timestamp":1.500},{"labels":{"trace_id":"b\"c"},"value":"+Inf","timestamp":2}]},{"seriesLabels":{"__name__":"n"},"exemplars":[{"labels":{},"value":"1e+21","timestamp":3}]}]}"#,
    );
    check_data(&w.post("/api/v1/query_exemplars", "query=m&start=5").await, json!([]));
    assert_eq!(w.get("/api/v1/query_exemplars?query=1").await.status, 204);
    let order = "end timestamp must not be before start timestamp";
    check_error(&w.get("/api/v1/query_exemplars?query=m&start=2&end=1").await, 400, "bad_data", order);
    assert_eq!(w.get("/api/v1/query_exemplars?query=m{").await.status, 400);
}

#[tokio::test]
async fn queries_are_formatted_and_parsed() {
    let w = world();
    check_data(&w.get("/api/v1/format_query?query=sum(m)by(i)").await, json!("sum by (i) (m)"));
    let tree = w.post("/api/v1/parse_query", "query=-1").await.json()["data"].clone();
    assert!(tree["type"].is_string(), "{tree}");
    assert_eq!(w.get("/api/v1/format_query?query=(").await.status, 400);
}

#[tokio::test]
async fn forms_may_come_in_parts() {
    let w = world();
    let send = async |url: &str, parts: &[(&str, &str)]| {
        let part = |(name, value): &(&str, &str)| {
            format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = parts.iter().map(part).collect::<String>() + "--X--\r\n";
        let request = Request::post(url).header("content-type", "multipart/form-data; boundary=X");
        w.send(request.body(Body::from(body)).unwrap()).await
    };
    let scalar = json!({"resultType": "scalar", "result": [1, "2"]});
    check_data(&send("/api/v1/query", &[("query", "1 + 1"), ("time", "1")]).await, scalar.clone());
    check_data(&send("/api/v1/query?query=2", &[("query", "3"), ("time", "1")]).await, scalar);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_plain_text() {
    let w = world();
    let answer = w.get("/api/v1/").await;
    assert_eq!((answer.status, answer.text()), (404, "404 page not found\n".to_owned()));
    let answer = w.get("/api/v1/x").await;
    assert_eq!((answer.status, answer.text()), (404, "404 page not found\n".to_owned()));
    let answer = w.post("/api/v1/targets", "").await;
    assert_eq!((answer.status, answer.text()), (405, "Method Not Allowed\n".to_owned()));
    let answer = w.post("/-/ready", "").await;
    assert_eq!((answer.status, answer.text()), (405, "Method Not Allowed\n".to_owned()));
    let answer = w.get("/api/v1//labels/").await;
    assert_eq!((answer.status, answer.header("location")), (301, "/api/v1/labels"));
    let answer = w.get("/-/reload").await;
    assert_eq!((answer.status, answer.text()), (405, "Only POST or PUT requests allowed".to_owned()));
}

#[tokio::test]
async fn other_origins_may_read_where_the_flag_allows() {
    let strict = World::new(HttpOptions { cors_origin: Regex::new("https?://ok").unwrap(), ..options() });
    for (origin, allowed) in [("http://ok", "http://ok"), ("http://ok.evil", "")] {
        let answer = strict.get_with("/api/v1/labels", &[("origin", origin)]).await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{origin}");
        assert_eq!(answer.header("access-control-allow-methods"), "GET, POST, OPTIONS");
    }
    let request = Request::options("/api/v1/query").header("origin", "http://ok").body(Body::empty()).unwrap();
    let preflight = strict.send(request).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, "http://ok"));
    let plain = strict.get("/api/v1/labels").await;
    assert!(plain.headers.get("access-control-allow-methods").is_none());
    assert!(plain.headers.get_all("vary").iter().any(|v| v == "Origin"));
}

#[tokio::test]
async fn answers_are_compressed_on_request() {
    let w = world();
    let path = "/api/v1/query_range?query=m&start=10&end=90&step=10";
    let plain = w.get(path).await;
    let packed = w.get_with(path, &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain.text());
}

#[tokio::test]
async fn nothing_that_needs_data_is_answered_before_the_data_is_there() {
    let w = world();
    w.backend.starting.store(true, Ordering::SeqCst);
    for path in ["/api/v1/query?query=m", "/-/ready"] {
        let answer = w.get(path).await;
        assert_eq!((answer.status, answer.text()), (503, "Service Unavailable".to_owned()));
        assert_eq!(answer.header("x-prometheus-stopping"), "false");
    }
    assert_eq!(w.get("/-/healthy").await.text(), "Prometheus Server is Healthy.\n");
    assert_eq!(w.get("/metrics").await.status, 200);
    w.backend.starting.store(false, Ordering::SeqCst);
    assert_eq!(w.get("/-/ready").await.text(), "Prometheus Server is Ready.\n");
}

#[tokio::test]
async fn lifecycle_needs_its_flag() {
    let off = World::new(HttpOptions { enable_lifecycle: false, ..options() });
    for path in ["/-/reload", "/-/quit"] {
        let answer = off.post(path, "").await;
        assert_eq!((answer.status, answer.text()), (403, "Lifecycle API is not enabled.".to_owned()));
    }
    assert_eq!(off.backend.reloads.load(Ordering::SeqCst), 0);
    let on = world();
    assert_eq!((on.post("/-/reload", "").await.status, on.backend.reloads.load(Ordering::SeqCst)), (200, 1));
    on.backend.reload_fails.store(true, Ordering::SeqCst);
    let failed = on.post("/-/reload", "").await;
    assert_eq!((failed.status, failed.text()), (500, "failed to reload config: x.yml:1:1: no".to_owned()));
    assert_eq!(on.post("/-/quit", "").await.text(), "Requesting termination... Goodbye!");
    assert_eq!(on.post("/-/quit", "").await.text(), "Termination already in progress.");
}

#[tokio::test]
async fn own_metrics_are_negotiated_by_their_owner() {
    let w = world();
    let metrics = w.get_with("/metrics", &[("accept", "application/openmetrics-text")]).await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4");
    assert_eq!(metrics.text(), "# application/openmetrics-text\nup 1\n");
}

#[tokio::test]
async fn range_queries_may_be_answered_from_kept_steps_or_not() {
    let w = world();
    // Samples are settled after two minutes.
    w.clock.advance(600_000);
    let query = "/api/v1/query_range?query=m&start=10&end=90&step=10";
    let first = w.get(query).await.text();
    assert_eq!(w.get(query).await.text(), first);
    assert_eq!(w.get(&format!("{query}&nocache=1")).await.text(), first);
    let stats = w.results.stats();
    assert_eq!((stats.misses, stats.hits), (1, 1), "{stats:?}");
}

#[tokio::test]
async fn the_admin_api_has_the_shapes_of_prometheus() {
    let w = world();
    let deleted = w.post("/api/v1/admin/tsdb/delete_series", "match[]=m&match[]={a=\"b\"}&start=1&end=2.5").await;
    assert_eq!((deleted.status, deleted.text().as_str()), (204, ""));
    let all = w.post("/api/v1/admin/tsdb/delete_series?match[]=m", "").await;
    assert_eq!(all.status, 204);
    let asked = w.backend.admin_asked.lock().unwrap().clone();
    assert_eq!(asked, ["delete 2 1000 2500".to_owned(), format!("delete 1 {} {}", i64::MIN, i64::MAX)]);

    let put = Request::put("/api/v1/admin/tsdb/delete_series").header("content-type", FORM);
    assert_eq!(w.send(put.body(Body::from("match[]=m")).unwrap()).await.status, 204, "a form is read of PUT too");
    let counted = w.post("/api/v1/admin/tsdb/delete_series", "match[]=m&dry_run=true").await;
    assert_eq!(counted.text(), r#"{"status":"success","data":{"series":2,"samples":18}}"#);
    assert_eq!(w.backend.admin_asked.lock().unwrap().len(), 3);

    let none = w.post("/api/v1/admin/tsdb/delete_series", "").await;
    let expected = r#"{"status":"error","errorType":"bad_data","error":"no match[] parameter provided"}"#;
    assert_eq!((none.status, none.text().as_str()), (400, expected));
    let failed = w.post("/api/v1/admin/tsdb/clean_tombstones", "").await;
    let expected = r#"{"status":"error","errorType":"internal","error":"disk full"}"#;
    assert_eq!((failed.status, failed.text().as_str()), (500, expected));
    for (query, expected) in [("", "false"), ("?skip_head=true", "true"), ("?skip_head=0", "false")] {
        let made = w.post(&format!("/api/v1/admin/tsdb/snapshot{query}"), "").await;
        let expected = format!(r#"{{"status":"success","data":{{"name":"20260102T030405Z-{expected}"}}}}"#);
        assert_eq!((made.status, made.text()), (200, expected));
    }
    assert_eq!(w.post("/api/v1/admin/tsdb/snapshot?skip_head=x", "").await.status, 400);
    assert_eq!(w.get("/api/v1/admin/tsdb/snapshot").await.status, 405);
}

#[tokio::test]
async fn the_admin_api_needs_its_flag() {
    let w = World::without_admin();
    let expected = r#"{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#;
    for path in ["delete_series?match[]=m", "clean_tombstones", "snapshot"] {
        let answer = w.post(&format!("/api/v1/admin/tsdb/{path}"), "").await;
        assert_eq!((answer.status, answer.text().as_str()), (500, expected), "{path}");
    }
}

#[tokio::test]
async fn plans_are_explained_and_measured() {
    let w = world();
    let plan = w.get("/api/v1/explain?query=sum(m)&time=90").await.json();
    let operators = plan["data"]["operators"].as_array().unwrap().clone();
    assert_eq!(operators.len(), 2, "{plan}");
    assert_eq!((&operators[0]["name"], &operators[0]["detail"]), (&json!("select"), &json!("{__name__=\"m\"}")));
    assert_eq!(operators[0]["estimate"]["series"], 2);
    assert_eq!((&operators[1]["spans"], &operators[1]["cost"]), (&json!([[0, 6]]), &json!(null)));
    let measured = w.get("/api/v1/explain?query=sum(m)&start=10&end=90&step=10&analyze=1").await.json();
    assert_eq!(measured["data"]["operators"][1]["cost"]["values"], 9, "{measured}");
    let stats = w.get("/api/v1/query_range?query=sum(m)&start=10&end=90&step=10&stats=all").await.json();
    assert_eq!(stats["data"]["stats"]["operators"][1]["cost"]["samplesRead"], 18, "{stats}");
}

#[tokio::test]
async fn probable_mistakes_are_named() {
    let w = world();
    let found = w.get("/api/v1/lint?query=m%7Bi%3D~%221%22,j%3D%22x%22%7D&time=90").await.json();
    let rules: Vec<_> =
        found["data"]["suggestions"].as_array().unwrap().iter().map(|s| s["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["literal-regex", "no-series"], "{found}");
    assert_eq!(found["data"]["types"], json!([{ "span": [0, 15], "type": "instant vector" }]));
}

#[tokio::test]
async fn words_names_and_values_are_completed() {
    let w = world();
    let texts = |answer: &serde_json::Value| -> Vec<String> {
        let all = answer["data"]["candidates"].as_array().unwrap();
        all.iter().map(|c| c["text"].as_str().unwrap().to_owned()).collect()
    };
    let names = w.get("/api/v1/complete?query=m").await.json();
    assert!(texts(&names).starts_with(&["m".to_owned(), "min".to_owned()]), "{names}");
    let labels = w.get("/api/v1/complete?query=m%7B").await.json();
    assert_eq!((texts(&labels), &labels["data"]["replace"]), (vec!["i".to_owned()], &json!([2, 2])));
    let values = w.get("/api/v1/complete?query=sum(m%7Bi%3D%22%22%7D)&at=9").await.json();
    assert_eq!(texts(&values), ["0", "1"], "{values}");
    let bad = w.get("/api/v1/complete?query=m&at=x").await;
    assert_eq!((bad.status, bad.json()["errorType"].clone()), (400, json!("bad_data")));
}
