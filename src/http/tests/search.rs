//! `/search/…`.

use super::*;

/// Besides `m` and `n` the metrics `a`, `b`, of which metadata are known, and `http_requests_total`.
fn searched(options: HttpOptions) -> World {
    let w = world_with(options);
    let mut writer = w.db.writer();
    for name in ["a", "b", "http_requests_total"] {
        let series = writer.resolve(&Labels::from_pairs([("__name__", name), ("job", "x")])).unwrap();
        writer.append(Timestamp(60_000), &[(series, 1.0)]).unwrap();
    }
    w
}

fn ask(options: HttpOptions, path: &str) -> Answer {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = query.replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace('|', "%7C");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let w = searched(options);
        let got = w.get(&format!("/api/v1/search/{path}?{query}")).await;
        let posted = w.post(&format!("/api/v1/search/{path}"), &query).await;
        assert_eq!(got.text(), posted.text(), "a form says the same");
        got
    })
}

#[track_caller]
fn check(path: &str, expected: &str) {
    let answer = ask(options(), path);
    assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{path}");
    assert_eq!(answer.header("content-type"), "application/x-ndjson; charset=utf-8");
}

const END: &str = "{\"status\":\"success\",\"has_more\":false}\n";
const MORE: &str = "{\"status\":\"success\",\"has_more\":true}\n";

/// A line of results with these names.
fn line(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{{\"name\":\"{name}\"}}")).collect();
    format!("{{\"results\":[{}]}}\n", names.join(","))
}

#[test]
fn names_and_values_are_found_by_a_part_of_them() {
    let long = "http_requests_total";
    check("metric_names", &(line(&["a", "b", long, "m", "n"]) + END));
    check("metric_names?search[]=hreq", &(line(&[long]) + END));
    check("metric_names?search[]=HREQ", &(line(&[]) + END));
    check("metric_names?search[]=HREQ&case_sensitive=f", &(line(&[long]) + END));
    check("metric_names?search[]=hreq&fuzz_threshold=99", &(line(&[]) + END));
    check("metric_names?search[]=m&search[]=n&match[]=m&match[]=n", &(line(&["m", "n"]) + END));
    let alike = "metric_names?search[]=htpt_requests_totla&fuzz_alg=jarowinkler";
    check(alike, &(line(&[]) + END));
    check(&format!("{alike}&fuzz_threshold=90"), &(line(&[long]) + END));
    check("label_names?search[]=jb", &(line(&["job"]) + END));
    check("label_names?search[]=jb&match[]=m", &(line(&[]) + END));
    check("label_values?label=i", &(line(&["0", "1"]) + END));
    check("label_values?label=none", &(line(&[]) + END));
    check("metric_names?start=1&end=2", &(line(&[]) + END));
}

#[test]
fn results_come_in_batches_and_in_the_order_that_is_asked_for() {
    check("metric_names?limit=2", &(line(&["a", "b"]) + MORE));
    check("metric_names?limit=4&batch_size=3", &(line(&["a", "b", "http_requests_total"]) + &line(&["m"]) + MORE));
    check("label_values?label=i&sort_by=alpha&sort_dir=dsc", &(line(&["1", "0"]) + END));
    check("metric_names?limit=1&sort_by=alpha&sort_dir=dsc", &(line(&["n"]) + MORE));
    let scored = "{\"results\":[{\"name\":\"m\",\"score\":1},{\"name\":\"http_requests_total\",\"score\":0.9}]}\n";
    let query = "metric_names?search[]=m&search[]=requests&fuzz_alg=jarowinkler&include_score=1&sort_by=score";
    check(query, &(scored.to_owned() + END));
    let known =
        "{\"results\":[{\"name\":\"a\",\"type\":\"counter\",\"help\":\"one\",\"unit\":\"s\"},{\"name\":\"m\"}]}\n";
    check("metric_names?match[]={__name__=~\"a|m\"}&include_metadata=true", &(known.to_owned() + END));
}

#[track_caller]
fn check_refused(path: &str, expected: &str) {
    let answer = ask(options(), path);
    assert_eq!((answer.status, &answer.json()["errorType"]), (400, &serde_json::json!("bad_data")), "{path}");
    assert!(answer.text().contains(expected), "{path}: {}", answer.text());
}

#[test]
fn searches_that_make_no_sense_say_why() {
    check_refused("metric_names?fuzz_threshold=101", "fuzz_threshold");
    check_refused("metric_names?fuzz_alg=x", "fuzz_alg");
    check_refused("metric_names?case_sensitive=2", "case_sensitive");
    check_refused("metric_names?include_metadata=x", "include_metadata");
    check_refused("metric_names?sort_by=x", "sort_by");
    check_refused("metric_names?sort_by=score", "no score without search[]");
    check_refused("metric_names?sort_dir=asc", "sort_dir");
    check_refused("metric_names?sort_by=score&search[]=a&sort_dir=asc", "sort_dir");
    check_refused("metric_names?sort_by=alpha&sort_dir=x", "sort_dir");
    check_refused("metric_names?limit=-1", "limit");
    check_refused("metric_names?limit=11", "web.search.max-limit (10)");
    check_refused("metric_names?batch_size=x", "batch_size");
    check_refused("metric_names?match[]={", "match[]");
    check_refused("metric_names?start=x", "start");
    check_refused("label_values", "label");
    check_refused(&format!("label_names?{}", "search[]=a&".repeat(33)), "terms_max");
    check_refused(&format!("label_names?search[]={}", "a".repeat(1025)), "term_bytes_max");
}

#[test]
fn searches_have_a_switch_and_a_limit() {
    let answer = ask(HttpOptions { enable_search: false, ..options() }, "metric_names");
    assert_eq!((answer.status, &answer.json()["error"]), (500, &serde_json::json!("search API disabled")));
    let few = HttpOptions { search_results_max: 1, ..options() };
    assert_eq!(ask(few, "metric_names").text(), line(&["a"]) + MORE, "the usual limit is no more than the greatest");
    let endless = HttpOptions { search_results_max: 0, ..options() };
    assert_eq!(ask(endless, "metric_names?limit=1000").status, 200);
}

#[tokio::test]
async fn long_answers_come_in_pieces() {
    let w = World::new(HttpOptions { search_results_max: 0, ..options() });
    let mut writer = w.db.writer();
    for i in 0..3_000 {
        let name = format!("metric_{i:04}_{}", "x".repeat(50));
        let series = writer.resolve(&Labels::from_pairs([("__name__", name)])).unwrap();
        writer.append(Timestamp(60_000), &[(series, 1.0)]).unwrap();
    }
    let answer = w.get("/api/v1/search/metric_names?limit=5000&batch_size=7").await.text();
    let lines: Vec<serde_json::Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let n: usize = lines.iter().filter_map(|line| line["results"].as_array()).map(Vec::len).sum();
    assert_eq!(
        (n, lines.len(), lines.last().unwrap()["has_more"].as_bool()),
        (3_000, 3_000_usize.div_ceil(7) + 1, Some(false))
    );
}
