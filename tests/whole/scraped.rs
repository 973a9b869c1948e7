//! The real Prometheus and the server with the same jobs, heavy of relabelling, over the same exporter: the same targets
//! and dropped ones, the same labels, errors, series and values.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::Value;

use crate::both::{Both, Points, compare};
use crate::client::{self, with_params};
use crate::server::wait_until_or;

/// How long both may take to show the same.
const AGREE_MAX: Duration = Duration::from_secs(60);
/// Labels before relabelling that are compared. Prometheus 2.42 does not know all, and writes those that relabelling adds
/// over the others.
const DISCOVERED: [&str; 2] = ["__address__", "job"];

const PAGE: &str = r#"# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method="GET",code="200",path="/a"} 10
http_requests_total{method="POST",code="500",path="/b"} 3
http_requests_total{method="POST",code="503",path="/b\"c\\d"} 4
# TYPE temperature gauge
temperature{sensor="x",Zone="EU-West",zone="eu-west"} 21.5
temperature{sensor="y",Zone="US",zone="other"} -1
temperature{sensor="",zone="empty"} NaN
# TYPE rpc_seconds histogram
rpc_seconds_bucket{le="0.5"} 1
rpc_seconds_bucket{le="+Inf"} 2
rpc_seconds_sum 1.5
rpc_seconds_count 2
# TYPE build_info gauge
build_info{version="1.2.3",branch="main",secret="x"} 1
"#;

/// Labels that targets have, too.
const CLASHING: &str = r#"clash{job="own",instance="mine",exported_job="more",env="here"} 1
clash{job="",instance="only"} 2
clash_plain 3
"#;

const DISCOVERED_JSON: &str = r#"[
  {"targets": ["ADDR"], "labels": {"n": "1", "meta_cloud_zone": "z1", "meta_cloud_rack": "r7", "env": "prod"}},
  {"targets": ["ADDR"], "labels": {"n": "2", "meta_cloud_zone": "z2", "env": "dev"}},
  {"targets": ["ADDR"], "labels": {"n": "3", "meta_cloud_zone": "Z2", "env": "Prod", "same": "prod"}}
]"#;

/// The jobs; `ADDR` is the exporter, `MANY` twelve static groups of it, `FOLDER` that of the lists of targets.
const CONFIG: &str = r#"
global: {scrape_interval: 1s, scrape_timeout: 1s, external_labels: {region: eu}}
scrape_configs:
- job_name: replaces
  params: {module: [a, b], other: [c]}
  static_configs:
  - {targets: ['ADDR'], labels: {team: ml, __metrics_path__: /metrics}}
  - {targets: ['ADDR'], labels: {team: Web, instance: own}}
  relabel_configs:
  - {source_labels: [__address__], regex: '(.*):(\d+)', target_label: host, replacement: '$1'}
  - {source_labels: [__address__], regex: '(.*):(\d+)', target_label: joined, replacement: '$1_x-${1}_x'}
  - {source_labels: [team, job], separator: '/', regex: '(?P<team>[^/]+)/(?P<job>.+)', target_label: named, replacement: '${job}.$team'}
  - {source_labels: [team], regex: ml, target_label: __param_module, replacement: relabelled}
  - {source_labels: [team], regex: ml, target_label: job, replacement: 'jobs of $0'}
  - {source_labels: [team], regex: 'w.*', target_label: no_match}
  - {source_labels: [team], regex: '(?i)w.*', target_label: 'of_$0'}
  - {target_label: constant, replacement: always}
  - {source_labels: [missing], target_label: gone}
- job_name: keeps
  file_sd_configs: [{files: ['FOLDER/*.json'], refresh_interval: 1s}]
  relabel_configs:
  - {source_labels: [env], regex: 'prod|Prod', action: keep}
  - {source_labels: [env, n], separator: '', regex: Prod3, action: DROP}
  - {action: labelmap, regex: meta_cloud_(.+)}
  - {action: labelmap, regex: meta_(.+), replacement: 'cloud_of_$1'}
  - {action: labeldrop, regex: meta_.*}
- job_name: hashes
  static_configs: MANY
  relabel_configs:
  - {source_labels: [n], modulus: 4, target_label: __tmp_shard, action: hashmod}
  - {source_labels: [__tmp_shard], regex: '[12]', action: keep}
  - {source_labels: [__tmp_shard], target_label: shard}
  - {source_labels: [n, job], modulus: 1000003, target_label: large, action: hashmod}
- job_name: cases
  file_sd_configs: [{files: ['FOLDER/targets.json']}]
  relabel_configs:
  - {source_labels: [env], target_label: lower, action: lowercase}
  - {source_labels: [meta_cloud_zone], target_label: upper, action: uppercase}
  - {source_labels: [env], target_label: same, action: dropequal}
  - {source_labels: [lower], target_label: env, action: keepequal}
- job_name: equals
  static_configs: MANY
  relabel_configs:
  - {source_labels: [n], target_label: half, action: keepequal}
- job_name: honours
  honor_labels: true
  metrics_path: /clashing
  static_configs: [{targets: ['ADDR'], labels: {env: target}}]
- job_name: renames
  metrics_path: /clashing
  static_configs: [{targets: ['ADDR'], labels: {env: target, exported_env: kept}}]
- job_name: samples
  static_configs: [{targets: ['ADDR'], labels: {n: '1'}}]
  metric_relabel_configs:
  - {source_labels: [__name__], regex: 'http_.*|temperature|build_info', action: keep}
  - {source_labels: [__name__, code], regex: http_requests_total;503, action: drop}
  - {source_labels: [method], target_label: verb, action: lowercase}
  - {source_labels: [code], regex: '(.)..', target_label: class, replacement: '${1}xx'}
  - {source_labels: [__name__], regex: temperature, target_label: __name__, replacement: celsius}
  - {source_labels: [Zone], target_label: zone_of, action: lowercase}
  - {source_labels: [zone], regex: other, target_label: zone, replacement: ''}
  - {source_labels: [path, method], modulus: 7, target_label: shard, action: hashmod}
  - {action: labelmap, regex: (version|branch), replacement: 'build_$1'}
  - {action: labeldrop, regex: 'secret|version|branch|instance'}
- job_name: merges
  static_configs: [{targets: ['ADDR']}]
  metric_relabel_configs:
  - {source_labels: [__name__], regex: http_requests_total, action: keep}
  - {action: labelkeep, regex: __name__|job|instance|method}
- job_name: moves
  static_configs: [{targets: ['elsewhere:1', 'no', 'path:1'], labels: {to: 'ADDR'}}]
  relabel_configs:
  - {source_labels: [__address__], target_label: instance}
  - {source_labels: [instance], regex: path:1, target_label: __metrics_path__, replacement: /clashing}
  - {source_labels: [instance], regex: no, target_label: __scrape_interval__, replacement: 2s}
  - {source_labels: [instance], regex: no, target_label: __scrape_timeout__, replacement: 1s500ms}
  - {source_labels: [to], target_label: __address__}
  - {action: labelkeep, regex: '__.*|instance|job'}
- job_name: doubles
  static_configs: [{targets: ['ADDR', 'ADDR']}, {targets: ['ADDR'], labels: {x: y}}, {targets: ['ADDR'], labels: {x: z}}]
  relabel_configs: [{action: labeldrop, regex: x}]
- job_name: too_many_samples
  sample_limit: 3
  static_configs: [{targets: ['ADDR']}]
- job_name: too_many_samples_but_dropped
  sample_limit: 3
  static_configs: [{targets: ['ADDR']}]
  metric_relabel_configs: [{source_labels: [__name__], regex: temperature, action: keep}]
- job_name: too_many_labels
  label_limit: 5
  static_configs: [{targets: ['ADDR'], labels: {n: '1'}}]
- job_name: too_long_names
  label_name_length_limit: 7
  static_configs: [{targets: ['ADDR']}]
- job_name: too_long_values
  label_value_length_limit: 16
  static_configs: [{targets: ['ADDR']}]
- job_name: too_many_targets
  target_limit: 11
  static_configs: MANY
- job_name: too_large
  body_size_limit: 100B
  static_configs: [{targets: ['ADDR']}]
- job_name: not_there
  metrics_path: /nothing
  static_configs: [{targets: ['ADDR']}]
"#;

/// Serves the pages until the test ends.
fn exporter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut request) {
                    let request = String::from_utf8_lossy(&request[..n]).into_owned();
                    let (status, body) = match request.split(['?', ' ']).nth(1) {
                        Some("/metrics") => ("200 OK", PAGE),
                        Some("/clashing") => ("200 OK", CLASHING),
                        _ => ("404 Not Found", ""),
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

/// A label set in the order of names.
fn labels(value: &Value) -> String {
    let pairs: BTreeMap<_, _> = value.as_object().into_iter().flatten().collect();
    pairs.into_iter().fold(String::new(), |mut out, (name, value)| {
        let _ = write!(out, "{name}={value} ");
        out
    })
}

fn discovered(target: &Value) -> String {
    DISCOVERED.map(|name| target["discoveredLabels"][name].to_string()).join(" of ")
}

/// Targets, one line each, sorted: active ones with URL, times, labels, health and error; dropped ones of each job.
fn targets(addr: SocketAddr) -> Vec<String> {
    let data = client::get(addr, "/api/v1/targets").expect("an answer").json()["data"].take();
    let list = |name: &str| data[name].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for t in list("activeTargets") {
        // Nothing of the text but the host differs between the machines on which this runs.
        let text = |name: &str| t[name].as_str().unwrap_or_default();
        lines.push(format!(
            "{} {} {}/{} {{{}}} was {}: {} {:?}",
            text("scrapePool"),
            text("scrapeUrl"),
            text("scrapeInterval"),
            text("scrapeTimeout"),
            labels(&t["labels"]),
            discovered(&t),
            text("health"),
            text("lastError")
        ));
    }
    lines.extend(list("droppedTargets").iter().map(|t| format!("dropped {}", discovered(t))));
    lines.sort();
    lines
}

fn series(addr: SocketAddr) -> Vec<String> {
    let path = with_params("/api/v1/series", &[("match[]", "{job=~\".+\"}"), ("match[]", "{__name__=~\"clash.*\"}")]);
    let answer = client::get(addr, &path).expect("an answer").json();
    let mut all: Vec<_> = answer["data"].as_array().into_iter().flatten().map(labels).collect();
    all.sort();
    all
}

/// The newest value of every series but of those that measure time.
fn values(addr: SocketAddr) -> Points<f64> {
    let query = "{__name__!~\"scrape_duration_seconds\",job=~\".+\"} or {__name__=~\"clash.*\"}";
    let answer = client::get(addr, &with_params("/api/v1/query", &[("query", query)])).expect("an answer").json();
    let found = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
    let value = |v: &Value| v["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN);
    Ok(found.iter().map(|v| (labels(&v["metric"]), BTreeMap::from([(0, value(v))]))).collect())
}

/// Lines that only one of two sorted lists has.
fn difference(theirs: &[String], ours: &[String]) -> Vec<String> {
    let only = |of: &[String], who: &str, not_in: &[String]| -> Vec<String> {
        of.iter().filter(|line| !not_in.contains(line)).map(|line| format!("{who}: {line}")).collect()
    };
    let mut all = only(theirs, "prometheus", ours);
    all.extend(only(ours, "ours", theirs));
    if all.is_empty() && theirs.len() != ours.len() {
        all.push(format!("{} lines of prometheus, {} of ours", theirs.len(), ours.len()));
    }
    all
}

#[test]
fn jobs_heavy_of_relabelling_give_what_they_give_in_prometheus() {
    let addr = exporter().to_string();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text.replace("ADDR", &addr)).expect("a writable folder");
    };
    write("targets.json", DISCOVERED_JSON);
    write("more.json", "[{\"targets\": [\"ADDR\"], \"labels\": {\"env\": \"prod\", \"n\": \"4\"}}]");
    let many: Vec<_> =
        (0..12).map(|n| format!("{{targets: ['{addr}'], labels: {{n: '{n}', half: '{}'}}}}", n / 2 * 2)).collect();
    let config = CONFIG.replace("ADDR", &addr).replace("MANY", &format!("[{}]", many.join(", ")));
    let Some(both) = Both::start(&config.replace("FOLDER", &dir.path().display().to_string()), &[]) else { return };
    let (mut found, mut said) = ((0, Vec::new()), String::new());
    let agreed = wait_until_or(AGREE_MAX, &mut || {
        let (theirs, ours) = (targets(both.theirs), targets(both.ours.addr));
        let n_targets = theirs.len();
        let mut differing = difference(&theirs, &ours);
        let (theirs, ours) = (series(both.theirs), series(both.ours.addr));
        differing.extend(difference(&theirs, &ours));
        let same = |a: &f64, b: &f64| a == b || (a.is_nan() && b.is_nan());
        let (n_values, values) = compare(values(both.theirs), values(both.ours.addr), same);
        differing.extend(values);
        let waits = theirs.is_empty() || targets(both.theirs).iter().any(|t| t.contains(": unknown"));
        said = format!("{n_targets} targets, {} series, {n_values} values; {} differ", theirs.len(), differing.len());
        found = (n_values, differing);
        !waits && found.1.is_empty()
    });
    eprintln!("{said}");
    assert!(agreed, "{}", found.1[..found.1.len().min(30)].join("\n"));
    assert!(found.0 > 300, "only {} values were compared", found.0);
}
