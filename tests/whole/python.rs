//! Clients of other projects in Python against the running server; `tests/whole/python/install` puts them into
//! `target/python`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::client;
use crate::server::{Server, flag};

/// The interpreter with the clients; says loudly when a test is skipped for want of it.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    if python.is_file() {
        return Some(python);
    }
    let remedy = "tests/whole/python/install was not run";
    assert!(std::env::var_os("PEERS_REQUIRED").is_none(), "{remedy}, and PEERS_REQUIRED is set");
    eprintln!("SKIPPED: {remedy}");
    None
}

fn run(python: &Path, script: &str, args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/python").join(script);
    let output = Command::new(python).arg(&script).args(args).output().expect("python starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{} {args:?}:\n{said}", script.display());
    // Exporters log a refusal and go on.
    assert!(!said.contains("Failed to export"), "{} {args:?}:\n{said}", script.display());
}

/// A server without targets.
fn server(dir: &Path, more: &str, flags: &[&str]) -> Server {
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, more).expect("a writable folder");
    let (config, data) = (flag("config.file", &config), flag("storage.tsdb.path", &dir.join("data")));
    let args: Vec<&str> = [config.as_str(), &data].into_iter().chain(flags.iter().copied()).collect();
    Server::start(&args)
}

/// Series and newest values of an instant query, sorted.
fn values(server: &Server, query: &str) -> Vec<String> {
    let path = client::with_params("/api/v1/query", &[("query", query)]);
    let answer = client::get(server.addr, &path).expect("the server answers").json();
    let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {answer}")).clone();
    let mut lines: Vec<String> = result
        .iter()
        .map(|series| {
            let value = series["value"].get(1).unwrap_or(&series["histogram"][1]["count"]);
            format!("{} {}", series["metric"], value.as_str().unwrap_or("?"))
        })
        .collect();
    lines.sort();
    lines
}

#[track_caller]
fn check(server: &Server, query: &str, expected: &[&str]) {
    assert_eq!(values(server, query), expected, "{query}");
}

#[test]
fn metrics_of_the_opentelemetry_sdk_arrive() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = "otlp: {promote_resource_attributes: [k8s.pod.name]}\n";
    let flags = ["--web.enable-otlp-receiver", "--enable-feature=otlp-deltatocumulative"];
    let server = server(dir.path(), config, &flags);
    let url = format!("http://{}", server.addr);
    for mode in ["plain", "gzip", "delta"] {
        run(&python, "otlp.py", &[&url, mode]);
        let check = |query: &str, expected: &[&str]| {
            check(&server, &query.replace('$', &format!("instance=\"{mode}\",job=\"shop/checkout\"")), expected);
        };
        let pod = r#"{"http_method":"GET","k8s_pod_name":"pod-1","ok":"true"} 20"#;
        check("sum by (http_method, ok, k8s_pod_name) (http_server_requests_total{$})", &[pod]);
        check("sum(http_server_active{$})", &["{} 6"]);
        check("sum(gpu_utilization_ratio{$,gpu=\"0\"})", &["{} 0.75"]);
        check("sum(gpu_energy_joules_total{$})", &["{} 1234.5"]);
        check("sum(http_server_duration_seconds_count{$})", &["{} 20"]);
        check("sum(http_server_duration_seconds_sum{$}) > bool 2.19", &["{} 1"]);
        check("sum(http_server_duration_seconds_bucket{$,le=\"5\"})", &["{} 20"]);
        check(
            "histogram_count(tokens{$})",
            &[&format!(r#"{{"instance":"{mode}","job":"shop/checkout","k8s_pod_name":"pod-1"}} 20"#)],
        );
        check("histogram_sum(sum(tokens{$}))", &["{} 2046"]);
        check("count(target_info{$,k8s_pod_name=\"pod-1\",telemetry_sdk_language=\"python\"})", &["{} 1"]);
    }
    let metadata = client::get(server.addr, "/api/v1/metadata?metric=http_server_duration_seconds");
    let metadata = metadata.expect("the server answers").json();
    let entry = &metadata["data"]["http_server_duration_seconds"][0];
    assert_eq!((entry["type"].as_str(), entry["unit"].as_str()), (Some("histogram"), Some("seconds")), "{metadata}");
}

#[test]
fn influx_and_push_clients_write_and_the_api_client_reads() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), "", &["--web.enable-influx-receiver", "--web.enable-push"]);
    let (addr, url) = (server.addr.to_string(), format!("http://{}", server.addr));
    run(&python, "influx.py", &[&addr]);
    check(&server, "sum by (host, db) (cpu_usage_idle{zone=\"\"})", &[r#"{"db":"telegraf","host":"a b"} 97.5"#]);
    check(&server, "count({__name__=~\"cpu_(cores|up)\", zone=\"z\"})", &["{} 2"]);
    check(&server, "sum(mem_used_percent{db=\"metrics\"})", &["{} 249757"]);
    run(&python, "push.py", &[&addr]);
    let of = r#""instance":"db/1","job":"backup","path":"/var/tmp""#;
    check(&server, "sum by (instance, job, path) (backup_files_total)", &[&format!("{{{of}}} 3")]);
    check(&server, "sum(backup_seconds_bucket{le=\"10.0\"})", &["{} 1"]);
    check(&server, "backup_last_success_timestamp_seconds * 0 + 1", &[&format!("{{{of}}} 1")]);
    check(&server, "count({job=\"gone\"})", &[]);
    check(&server, "count(push_time_seconds{job=\"backup\"})", &["{} 1"]);
    run(&python, "api.py", &[&url]);
}
