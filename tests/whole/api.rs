//! Calls of the HTTP API, valid, odd and wrong, to the real Prometheus and to us, over the same samples: the same
//! status, the same type of error, the same shape of the answer, and where samples are asked the same answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::both::Both;
use crate::client;
use crate::peers::{label_text, now_ms};
use crate::server::wait_until;
use crate::write;

const MINUTE: i64 = 60_000;
const FORM: &str = "application/x-www-form-urlencoded";

/// Calls that 3.14 answers otherwise than 2.42, by a part of their text, and why. Each must differ: what no longer does
/// is to be removed.
const CHANGED: &[(&str, &str)] = &[
    ("requests_total[1m:30s]", "2.42 takes in the older edge of a window"),
    ("time=NaN", "what is no time is refused here; Prometheus answers for a time of long ago"),
    ("time=Inf", "as well"),
    ("time=1e30", "as well"),
    ("time=-1e30", "as well"),
    ("GET labels?start=NaN", "as well"),
    ("lookback_delta=1s", "2.42 knows no such parameter"),
    ("lookback_delta=x", "as well"),
    ("limit_per_metric=x", "as well"),
    ("GET label/U__", "3.x understands names that are escaped so"),
    ("GET label/0/", "3.x takes names of any characters"),
    ("GET label/a.b/", "as well"),
    ("GET label/%C3%A4/", "as well"),
    ("GET label/%20/", "as well"),
    ("GET label/job%2Fx/", "an escaped slash is part of the name here"),
    ("stats=", "3.x also counts the samples read; memory and operators are ours"),
    ("GET label//values", "2.42 sends to the address without the second slash, we refuse an empty name"),
    ("~GET status/flags", "flags are those of each program"),
    ("~GET status/runtimeinfo", "3.x also tells the memory limit, the machine's name and time"),
    ("GET status/tsdb?limit=", "2.42 has no such limit"),
    ("POST write garbage", "3.x refuses a content type that it does not know"),
    ("~GET targets", "3.x also counts dropped targets"),
];

/// Parameters of a query at one time: with each the whole answer is compared.
const QUERIES: &[&str] = &[
    "up",
    "up{job=\"a\"}",
    "up{job=~\"a|b\",instance!=\"\"}",
    "sum by (job) (up)",
    "rate(requests_total[2m])",
    "topk(1, requests_total)",
    "1",
    "\"text\"",
    "1 / 0",
    "-1 / 0",
    "0 / 0",
    "1e-7",
    "1e21",
    "123456789.125",
    "vector(time())",
    "nothing",
    "up[1m]",
    "requests_total[1m:30s]",
    "up == bool 1",
    "absent(nothing{x=\"y\"})",
    "label_replace(up, \"x\", \"$1\", \"job\", \"(.*)\")",
    "count_values(\"v\", up)",
    "{__name__=~\"up|requests_total\"}",
    "up offset 1m",
    "up @ {now}",
    "up @ end()",
    "weird{text=\"a\\\"b\\\\c\\n\"}",
    "scalar(up{job=\"a\"})",
    "sort_desc(requests_total)",
    "histogram_quantile(0.9, latency_bucket)",
];

/// Queries that are refused.
const WRONG_QUERIES: &[&str] = &[
    "",
    "up{",
    "up{}}",
    "{}",
    "{x=\"\"}",
    "{x=~\".*\"}",
    "sum(",
    "sum by (up",
    "rate(up)",
    "rate(up[1m], 1)",
    "no_such_function(up)",
    "up[0s]",
    "up[1x]",
    "1 and 1",
    "up + \"a\"",
    "up{job=~\"(\"}",
    "label_replace(up, \"x\", \"$1\", \"job\", \"(\")",
    "up * on(job) requests_total",
    "up @ up",
    "up offset",
    "\"open",
    "histogram_quantile(\"a\", up)",
    "bottomk(up)",
    "sum(up) by (job) by (job)",
    "up[5m] + 1",
    "up[1m:]  offset 1d @ foo",
    "1 == 1",
    "up unless ignoring(job) group_left up",
    "#only a comment",
    "up[1m][1m]",
];

/// Everything else: method, path and form; after the method may stand, in brackets, the type that the form claims to be.
const CALLS: &[&str] = &[
    // Instant queries.
    "GET query?query=up&time=x",
    "GET query?query=up&time=2026-01-02T03:04:05Z",
    "GET query?query=up&time=2026-01-02T03:04:05.678%2B01:00",
    "GET query?query=up&time=1.5",
    "GET query?query=up&time=-1",
    "GET query?query=up&time=NaN",
    "GET query?query=up&time={now}&timeout=1s",
    "GET query?query=up&time={now}&timeout=abc",
    "GET query?query=up&time={now}&timeout=-1s",
    "GET query?query=up&time={now}&stats=true",
    "GET query?query=up&time={now}&stats=all",
    "GET query?query=up&time={now}&unknown=1",
    "GET query",
    "GET query?time={now}",
    "POST query query=up&time={now}",
    "POST query?query=nothing&time={now} query=up",
    "POST query?query=up&time={now}",
    "GET query?query=up&query=weird&time={now}&time=x",
    "POST query?query=weird&time=x query=up&query=weird&time={now}",
    "POST query?query=weird&time={now} query=&query=up",
    "GET query?query=up&time={now}&timeout=0",
    "GET query?query=up&time={now}&timeout=1e10",
    "GET query?query=up&time={now}&lookback_delta=1s",
    "GET query?query=up&time={now}&lookback_delta=20",
    "GET query?query=up&time={now}&lookback_delta=0",
    "GET query?query=up&time={now}&lookback_delta=-1",
    "GET query?query=up&time={now}&lookback_delta=x",
    "GET query?query=up&time={now}&limit=0",
    "GET query?query=up&time=1e3",
    "GET query?query=up&time=99999999999999",
    "GET query?query=up&time=1e30",
    "GET query?query=up&time=-1e30",
    "GET query?query=up&time=Inf",
    "GET query?query=up&time=2026-01-02",
    "GET query?query=up%zz&time={now}",
    "GET query?query=up;time=1",
    "GET query?=up&time={now}",
    "GET query?QUERY=up&time={now}",
    "POST[text/plain] query query=up&time={now}",
    "POST[text/plain] query?query=up&time={now} query=weird",
    "POST[application/json] query?query=up&time={now} {}",
    "POST[application/x-www-form-urlencoded;charset=utf-8] query query=up&time={now}",
    "POST[APPLICATION/X-WWW-Form-Urlencoded] query query=up&time={now}",
    "POST[multipart/form-data] query?query=up&time={now} query=weird",
    "POST[/] query?query=up&time={now} query=weird",
    "PUT query?query=up",
    "DELETE query?query=up",
    "OPTIONS query",
    // Range queries.
    "GET query_range?query=up&start={past}&end={now}&step=60",
    "GET query_range?query=up&start={past}&end={now}&step=1m",
    "GET query_range?query=up&start={past}&end={now}&step=7.5",
    "GET query_range?query=rate(requests_total[2m])&start={past}&end={now}&step=30",
    "GET query_range?query=sum(up)&start={past}&end={past}&step=1",
    "GET query_range?query=1&start={past}&end={now}&step=60",
    "GET query_range?query=time()&start={past}&end={now}&step=60",
    "GET query_range?query=up&start={now}&end={past}&step=60",
    "GET query_range?query=up&start={past}&end={now}&step=0",
    "GET query_range?query=up&start={past}&end={now}&step=-1",
    "GET query_range?query=up&start={past}&end={now}&step=x",
    "GET query_range?query=up&start={past}&end={now}",
    "GET query_range?query=up&start={past}&step=60",
    "GET query_range?query=up&end={now}&step=60",
    "GET query_range?query=up&start=x&end={now}&step=60",
    "GET query_range?query=up&start={past}&end=x&step=60",
    "GET query_range?query=up&start=0&end={now}&step=1",
    "GET query_range?query=up[1m]&start={past}&end={now}&step=60",
    "GET query_range?query=%22a%22&start={past}&end={now}&step=60",
    "GET query_range?query=up{&start={past}&end={now}&step=60",
    "GET query_range?query=up&start={past}&end={now}&step=60&timeout=x",
    "GET query_range?query=up&start={past}&end={now}&step=60&stats=all",
    "GET query_range?query=nothing&start={past}&end={now}&step=60",
    "GET query_range?query=up&start={past}&end={now}&step=60&step=x&start=x",
    "GET query_range?query=up&start={past}&end={now}&step=",
    "GET query_range?query=up&start={past}&end={now}&step=NaN",
    "GET query_range?query=up&start={past}&end={now}&step=Inf",
    "GET query_range?query=up&start={past}&end={now}&step=1e10",
    "GET query_range?query=up&start={past}&end={now}&step=9223372036",
    "GET query_range?query=up&start={past}&end={now}&step=1e-9",
    "GET query_range?query=up&start={past}&end={now}&step=0.0545",
    "GET query_range?query=up&start={past}&end={now}&step=0.0546",
    "GET query_range?query=up&start={past}&end={now}&step=1w",
    "GET query_range?query=up&start={past}&end={now}&step=1m30s",
    "GET query_range?query=up&start={past}&end={now}&step=1.5m",
    "GET query_range?query=up&start={now}&end={now}&step=0.001",
    "GET query_range?query=up&start={past}.5&end={now}&step=60",
    "GET query_range?query=up&start=-60&end=60&step=30",
    "GET query_range?query=up&start={past}&end={now}&step=60&lookback_delta=1s",
    "GET query_range?query=up&start={past}&end={now}&step=60&timeout=0",
    "GET query_range?query=up&start={past}&end={now}&step=60&limit=0",
    "POST[text/plain] query_range query=up&start={past}&end={now}&step=60",
    "POST query_range query=up&start={past}&end={now}&step=60",
    "POST query_range?step=60 query=up&start={past}&end={now}",
    "PUT query_range?query=up&start={past}&end={now}&step=60",
    // Exemplars.
    "GET query_exemplars?query=up&start={past}&end={now}",
    "GET query_exemplars?query=up",
    "GET query_exemplars?query=1",
    "GET query_exemplars?query=up{",
    "GET query_exemplars?query=up&start={now}&end={past}",
    "GET query_exemplars",
    "POST query_exemplars query=rate(requests_total[1m])",
    // Formatting.
    "GET format_query?query=sum(up)by(job)",
    "GET format_query?query=up{job=\"a\"}/on(instance)group_left()up",
    "GET format_query?query=up{",
    "GET format_query",
    "POST format_query query=1%2B1",
    // Labels.
    "GET labels",
    "GET labels?start={past}&end={now}",
    "GET labels?match[]=up",
    "GET labels?match[]=up&match[]=weird",
    "GET labels?match[]=nothing",
    "GET labels?match[]=up{",
    "GET labels?match[]={}",
    "GET labels?match[]=",
    "GET labels?start=x",
    "GET labels?end=x",
    "GET labels?start={now}&end={past}",
    "GET labels?start=1&end=2",
    "GET labels?match[]=up&match[]=",
    "GET labels?match[]=up&match[]={",
    "GET labels?match[]=1",
    "GET labels?match[]=rate(up[1m])",
    "GET labels?match[]={__name__=\"up\"}",
    "GET labels?start=NaN",
    "GET labels?start=",
    "GET labels?limit=0",
    "GET labels?x=%zz",
    "POST labels match[]=up&match[]=weird",
    "POST[text/plain] labels match[]=weird",
    "POST labels match[]=",
    "POST labels?match[]=weird match[]=up",
    "POST labels match[]=requests_total",
    "PUT labels",
    "GET label/job/values",
    "GET label/__name__/values",
    "GET label/__name__/values?match[]=up",
    "GET label/__name__/values?match[]={job=\"a\"}&match[]=weird",
    "GET label/job/values?start={past}&end={now}",
    "GET label/job/values?start=1&end=2",
    "GET label/job/values?start=x",
    "GET label/job/values?match[]={",
    "GET label/nothing/values",
    "GET label/text/values",
    "GET label/U__job/values",
    "GET label/U__text_2e_x/values",
    "GET label/U__/values",
    "GET label/0/values",
    "GET label/a.b/values",
    "GET label/%C3%A4/values",
    "GET label/%FF/values",
    "GET label/job%2Fx/values",
    "GET label/%20/values",
    "GET label/job/values?match[]=",
    "GET label/job/values?match[]=up&match[]=",
    "GET label/job/values?match[]=1",
    "GET label/job/values?limit=0",
    "GET label/job/values?start={now}&end={past}",
    "GET label//values",
    "GET label/job/",
    "GET label/job",
    "POST label/job/values",
    // Series.
    "GET series",
    "GET series?match[]=up",
    "GET series?match[]=up&match[]=weird",
    "GET series?match[]=up&match[]=up{job=\"a\"}",
    "GET series?match[]={__name__=~\".%2B\"}",
    "GET series?match[]=nothing",
    "GET series?match[]={}",
    "GET series?match[]={x=\"\"}",
    "GET series?match[]=up{",
    "GET series?match[]=sum(up)",
    "GET series?match[]=up&start={past}&end={now}",
    "GET series?match[]=up&start=1&end=2",
    "GET series?match[]=up&start=x",
    "GET series?match[]=up&end=x",
    "GET series?match[]=",
    "GET series?match[]=up&match[]=",
    "GET series?match[]=up&match[]={",
    "GET series?match[]=up[1m]",
    "GET series?match[]=up+offset+1m",
    "GET series?match[]=up&limit=0",
    "GET series?match[]=up&start={now}&end={past}",
    "GET series?match[]=up&x=%zz",
    "GET series?match[]=up;x",
    "GET series?match[]=%FF",
    "POST series match[]=up&match[]=weird&start={past}",
    "POST series?match[]=weird match[]=up",
    "POST[text/plain] series match[]=up",
    "POST[application/json] series?match[]=up {}",
    "POST series match[]=up",
    "POST series",
    "PUT series?match[]=up",
    // Targets, metadata, rules, alerts.
    "~GET targets",
    "~GET targets?state=active",
    "~GET targets?state=ACTIVE",
    "~GET targets?state=dropped",
    "~GET targets?state=any",
    "~GET targets?state=zzz",
    "~GET targets?scrapePool=down",
    "~GET targets?scrapePool=none",
    "POST targets",
    "GET targets/metadata",
    "GET targets/metadata?metric=up",
    "GET targets/metadata?limit=1",
    "GET targets/metadata?limit=x",
    "GET targets/metadata?match_target={job=\"down\"}",
    "GET targets/metadata?match_target={",
    "GET scrape_pools",
    "POST scrape_pools",
    "GET metadata",
    "GET metadata?metric=up",
    "GET metadata?limit=1",
    "GET metadata?limit=x",
    "GET metadata?limit=-1",
    "GET metadata?limit=0",
    "GET metadata?limit_per_metric=0",
    "GET metadata?limit_per_metric=x",
    "GET metadata?metric=",
    "GET metadata?metric=a&metric=up",
    "GET rules",
    "GET rules?type=alert",
    "GET rules?type=record",
    "GET rules?type=x",
    "GET alerts",
    "GET alertmanagers",
    "POST alerts",
    // Status.
    "~GET status/config",
    "~GET status/flags",
    "~GET status/runtimeinfo",
    "~GET status/buildinfo",
    "~GET status/tsdb",
    "~GET status/tsdb?limit=1",
    "GET status/tsdb?limit=0",
    "GET status/tsdb?limit=-1",
    "GET status/tsdb?limit=x",
    "~GET status/walreplay",
    "GET status",
    "GET status/nothing",
    "POST status/config",
    // Administration: off.
    "POST admin/tsdb/delete_series?match[]=up",
    "PUT admin/tsdb/delete_series?match[]=up",
    "POST admin/tsdb/delete_series",
    "POST admin/tsdb/clean_tombstones",
    "POST admin/tsdb/snapshot",
    "POST admin/tsdb/snapshot?skip_head=x",
    "GET admin/tsdb/snapshot",
    "GET admin/tsdb",
    // Remote write and read.
    "POST write",
    "POST write garbage",
    "GET write",
    "POST read",
    "POST read garbage",
    "GET read",
    // Elsewhere.
    "GET ",
    "GET nothing",
    "GET query/",
    "GET /-/healthy",
    "GET /-/ready",
    "POST /-/healthy",
    "GET /-/reload",
    "POST /-/reload",
    "PUT /-/reload",
    "GET /-/quit",
    "POST /-/quit",
    "~GET /version",
    "GET /federate",
    "GET /federate?match[]=up",
    "GET /federate?match[]=up&match[]=weird",
    "GET /federate?match[]={__name__=~\"requests_.*\"}",
    "GET /federate?match[]=nothing",
    "GET /federate?match[]=up{",
    "GET /federate?match[]=",
    "GET /federate?match[]={}",
    "GET /federate?match[]=up[1m]",
    "GET /federate?match[]=up&match[]=up",
    "POST /federate?match[]=up",
];

/// `text` with its places for times filled and what a URL cannot hold encoded.
fn fill(text: &str, now_s: i64) -> String {
    let times = text.replace("{now}", &now_s.to_string()).replace("{past}", &(now_s - 600).to_string());
    times
        .replace(' ', "%20")
        .replace('"', "%22")
        .replace('\\', "%5C")
        .replace('{', "%7B")
        .replace('}', "%7D")
        .replace('|', "%7C")
}

/// A call and how its answers are compared.
struct Call {
    text: String,
    method: String,
    path: String,
    form: String,
    content_type: String,
    is_volatile: bool,
}

fn calls(now_s: i64) -> Vec<Call> {
    let mut out = Vec::new();
    let mut put = |text: &str, query: Option<&str>| {
        let is_volatile = text.starts_with('~');
        let mut words = text.trim_start_matches('~').splitn(3, ' ');
        let (method, path, form) = (words.next(), words.next(), words.next());
        let path = path.unwrap_or("");
        let mut path = if path.starts_with('/') { path.to_owned() } else { format!("/api/v1/{path}") };
        let mut form = fill(form.unwrap_or(""), now_s);
        path = fill(&path, now_s);
        if let Some(query) = query {
            let query = query.replace("{now}", &now_s.to_string());
            let encoded = client::with_params("", &[("query", &query)]);
            let encoded = encoded.trim_start_matches('?');
            if form.is_empty() { path.push_str(encoded) } else { form.push_str(encoded) }
        }
        let text = format!("{text} {}", query.unwrap_or(""));
        let method = method.unwrap_or("GET");
        let (method, content_type) = method.split_once('[').unwrap_or((method, FORM));
        let (method, content_type) = (method.to_owned(), content_type.trim_end_matches(']').to_owned());
        out.push(Call { text, method, path, form, content_type, is_volatile });
    };
    for query in QUERIES.iter().chain(WRONG_QUERIES) {
        put("GET query?time={now}&", Some(query));
    }
    for query in WRONG_QUERIES {
        put("POST query_range start={past}&end={now}&step=60&", Some(query));
    }
    CALLS.iter().for_each(|text| put(text, None));
    out
}

/// Prometheus may reset a connection whose body it has not read before its answer is read.
const THEIR_TRIES: usize = 5;

/// What matters of an answer, as lines that are compared.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u16,
    /// `json`, `text` or nothing.
    kind: &'static str,
    error_type: String,
    lines: BTreeSet<String>,
}

fn outcome(addr: SocketAddr, call: &Call, tries: usize) -> Outcome {
    let typed = [("Content-Type", call.content_type.as_str())];
    let headers = if call.form.is_empty() { &[][..] } else { &typed };
    let asked = || client::request(addr, &call.method, &call.path, headers, call.form.as_bytes());
    let answer = (1..tries).find_map(|_| asked().ok()).map_or_else(asked, Ok);
    let answer = answer.unwrap_or_else(|e| panic!("{}: no answer of {addr}: {e}", call.text));
    let status = answer.status;
    let Ok(json) = serde_json::from_slice::<Value>(&answer.body) else {
        let text = answer.text();
        let is_page = !(200..300).contains(&status) || !call.path.starts_with("/federate");
        let lines = if is_page { BTreeSet::new() } else { text.lines().map(str::to_owned).collect() };
        let kind = if answer.body.is_empty() || status >= 300 { "" } else { "text" };
        return Outcome { status, kind, error_type: String::new(), lines };
    };
    let error_type = json["errorType"].as_str().unwrap_or("").to_owned();
    let mut lines = BTreeSet::new();
    if error_type.is_empty() {
        let data = json.get("data").unwrap_or(&json);
        match call.is_volatile {
            true => shape("", data, &mut lines),
            false => whole(data, &mut lines),
        }
    }
    Outcome { status, kind: "json", error_type, lines }
}

/// Paths to all values with their types; the items of a list share theirs.
fn shape(path: &str, value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if path.ends_with("Labels") || path.ends_with("labels") => {
            out.insert(format!("{path}: {} labels", map.len().min(1)));
        }
        Value::Object(map) => map.iter().for_each(|(key, value)| shape(&format!("{path}.{key}"), value, out)),
        Value::Array(items) => {
            out.insert(format!("{path}: list"));
            items.iter().for_each(|value| shape(&format!("{path}[]"), value, out));
        }
        Value::String(_) => out.extend([format!("{path}: text")]),
        Value::Number(_) => out.extend([format!("{path}: number")]),
        Value::Bool(_) => out.extend([format!("{path}: bool")]),
        Value::Null => out.extend([format!("{path}: null")]),
    }
}

/// The data itself, the items of lists in any order; statistics by their shape.
fn whole(data: &Value, out: &mut BTreeSet<String>) {
    match data {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("stats", _) => shape("stats", value, out),
                    (_, Value::Array(items)) if key == "result" => {
                        out.insert(format!("{key}: list"));
                        out.extend(items.iter().map(series_line));
                    }
                    _ => out.extend([format!("{key}: {value}")]),
                }
            }
        }
        Value::Array(items) => {
            out.insert("list".to_owned());
            out.extend(items.iter().map(Value::to_string));
        }
        _ => out.extend([data.to_string()]),
    }
}

fn series_line(item: &Value) -> String {
    match item.get("metric") {
        Some(metric) => format!("{} {} {}", label_text(metric), item["value"], item["values"]),
        None => item.to_string(),
    }
}

/// The same samples in both, a fraction of a second off every step.
fn samples(now: i64) -> Vec<write::TimeSeries> {
    let mut request = Vec::new();
    let mut add = |labels: &[(&str, &str)], value: &dyn Fn(i64) -> f64| {
        let rows: Vec<(i64, f64)> = (0..60).map(|i| (now - 15 * MINUTE + i * 15_000 + 137, value(i))).collect();
        request.push(write::series(labels, &rows));
    };
    for job in ["a", "b"] {
        let instance = format!("{job}:80");
        add(&[("__name__", "up"), ("instance", &instance), ("job", job)], &|_| 1.0);
        add(&[("__name__", "requests_total"), ("instance", &instance), ("job", job)], &|i| (i * 7 % 400) as f64 / 3.0);
        for (le, part) in [("0.1", 0.5), ("1", 0.75), ("+Inf", 1.0)] {
            let labels = [("__name__", "latency_bucket"), ("instance", instance.as_str()), ("job", job), ("le", le)];
            add(&labels, &|i| i as f64 * part);
        }
    }
    add(&[("__name__", "weird"), ("text", "a\"b\\c\n")], &|i| if i % 2 == 0 { f64::INFINITY } else { 1e-300 });
    request
}

/// Both with a job whose target is down, and with the same samples; the time of the newest, a whole minute, in s.
pub(crate) fn filled() -> Option<(Both, i64)> {
    let config =
        "scrape_configs:\n- job_name: down\n  scrape_interval: 1w\n  static_configs: [{targets: ['127.0.0.1:1']}]\n";
    let both = Both::start(config, &[])?;
    // Its jobs come some seconds after it is ready.
    wait_until("the jobs of prometheus", Duration::from_secs(60), &mut || {
        client::get(both.theirs, "/api/v1/targets").is_ok_and(|r| r.text().contains("127.0.0.1:1"))
    });
    let now = now_ms() / MINUTE * MINUTE;
    both.write(samples(now));
    Some((both, now / 1000))
}

#[test]
fn calls_are_answered_as_by_prometheus() {
    let Some((both, now_s)) = filled() else { return };
    let calls = calls(now_s);
    let (mut equal, mut differing, mut changed) = (0, Vec::new(), BTreeSet::new());
    for call in &calls {
        let (theirs, ours) = (outcome(both.theirs, call, THEIR_TRIES), outcome(both.ours.addr, call, 1));
        if theirs == ours {
            equal += 1;
        } else if let Some((part, _)) = CHANGED.iter().find(|(part, _)| call.text.contains(part)) {
            changed.insert(*part);
        } else {
            let only = |a: &Outcome, b: &Outcome| a.lines.difference(&b.lines).take(5).cloned().collect::<Vec<_>>();
            let short = |o: &Outcome| format!("{} {} {}", o.status, o.kind, o.error_type);
            differing.push(format!(
                "{}\n  prometheus {} {:?}\n  ours       {} {:?}",
                call.text,
                short(&theirs),
                only(&theirs, &ours),
                short(&ours),
                only(&ours, &theirs)
            ));
        }
    }
    println!("{equal} of {} calls equal, {} changed by version", calls.len(), changed.len());
    assert!(differing.is_empty(), "{} calls differ:\n{}", differing.len(), differing.join("\n"));
    let stale: Vec<_> = CHANGED.iter().filter(|(part, _)| !changed.contains(part)).collect();
    assert!(stale.is_empty(), "no longer different: {stale:?}");
}
