//! The configurations in `examples/configs`: they load, and relabelling makes of known pods the targets they promise.

use std::path::{Path, PathBuf};

use promontory::scrape::target::{Target, discovered};
use promontory_config::scrape::ScrapeConfig;
use promontory_model::Labels;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configs").join(name)
}

#[track_caller]
fn job(name: &str) -> ScrapeConfig {
    let config = promontory_config::load(&file("kubernetes-model-serving.yml")).unwrap_or_else(|e| panic!("{e}"));
    config.scrape_configs.into_iter().find(|job| job.job_name == name).expect("the job is in the example")
}

/// A target of role `pod`: container, name and number of the port, and labels without `__meta_kubernetes_`.
fn pod(container: &str, port: Option<(&str, u16)>, own: &[(&str, &str)]) -> (String, Labels) {
    let mut labels = Labels::empty().to_builder();
    let mut set = |name: &str, value: &str| {
        labels.set(&format!("__meta_kubernetes_{name}"), value);
    };
    set("namespace", "ml");
    for (name, value) in [("name", "llm-0"), ("ip", "10.0.0.5"), ("phase", "Running"), ("node_name", "gpu1")] {
        set(&format!("pod_{name}"), value);
    }
    set("pod_container_name", container);
    set("pod_container_init", "false");
    if let Some((name, number)) = port {
        set("pod_container_port_name", name);
        set("pod_container_port_number", &number.to_string());
    }
    own.iter().for_each(|(name, value)| set(name, value));
    let address = port.map_or_else(|| "10.0.0.5".to_owned(), |(_, number)| format!("10.0.0.5:{number}"));
    (address, labels.build())
}

#[track_caller]
fn check(job_name: &str, pods: &[(String, Labels)], expected: &[&str]) {
    let config = job(job_name);
    let mut got = Vec::new();
    for (address, labels) in pods {
        match Target::new(&discovered(address, labels, &config), &config) {
            Ok(Some(target)) => got.push(format!("{} {}", target.url, target.labels.without(&["job"]))),
            Ok(None) => {}
            Err(error) => got.push(format!("{address} {error}")),
        }
    }
    got.sort();
    got.dedup();
    assert_eq!(got, expected, "{job_name}");
}

#[test]
fn every_example_loads() {
    for entry in std::fs::read_dir(file("")).unwrap() {
        let path = entry.unwrap().path();
        promontory_config::load(&path).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn every_metrics_port_of_a_kserve_pod_is_a_target() {
    let own = [("pod_label_serving_kserve_io_inferenceservice", "llama"), ("pod_label_component", "predictor")];
    let pods = [
        pod("kserve-container", Some(("user-port", 8080)), &own),
        pod("kserve-container", Some(("h2c", 9000)), &own),
        pod("queue-proxy", Some(("http-autometric", 9090)), &own),
        pod("queue-proxy", Some(("http-usermetric", 9091)), &own),
        pod("queue-proxy", Some(("queue-port", 8012)), &own),
        pod("agent", Some(("agent", 9088)), &own),
        pod("agent", None, &own),
        pod("storage-initializer", Some(("metrics", 1)), &[("pod_container_init", "true")]),
        pod("kserve-container", Some(("metrics", 8081)), &[("pod_phase", "Succeeded")]),
    ];
    let target = |port: u16, container: &str| {
        format!(
            r#"http://10.0.0.5:{port}/metrics {{component="predictor", container="{container}", inferenceservice="llama", instance="10.0.0.5:{port}", namespace="ml", pod="llm-0"}}"#
        )
    };
    let expected = [
        target(8080, "kserve-container"),
        target(9088, "agent"),
        target(9090, "queue-proxy"),
        target(9091, "queue-proxy"),
    ];
    check("kserve", &pods, &expected.each_ref().map(String::as_str));
}

#[test]
fn model_servers_are_scraped_at_their_own_port() {
    let ports = |name: &str| [8000, 8001, 8002, 8080, 8082].map(|n| pod(name, Some(("p", n)), &[]));
    let target = |port: u16| {
        format!(r#"http://10.0.0.5:{port}/metrics {{instance="10.0.0.5:{port}", namespace="ml", pod="llm-0"}}"#)
    };
    check("triton", &ports("triton-server"), &[&target(8002)]);
    check("torchserve", &ports("torchserve"), &[&target(8082)]);
}

#[test]
fn dcgm_keeps_its_own_labels_and_is_known_by_its_node() {
    assert!(job("dcgm").honor_labels);
    let pods = [pod("exporter", Some(("metrics", 9400)), &[]), pod("exporter", Some(("x", 1)), &[])];
    check("dcgm", &pods, &[r#"http://10.0.0.5:9400/metrics {instance="gpu1"}"#]);
}

#[test]
fn annotations_choose_port_path_and_scheme() {
    let asked = ("pod_annotation_prometheus_io_scrape", "true");
    let pods = [pod("a", Some(("http", 80)), &[]), pod("b", None, &[])];
    check("annotated-pods", &pods, &[]);
    let own = [
        asked,
        ("pod_annotation_prometheus_io_port", "9000"),
        ("pod_annotation_prometheus_io_path", "/stats"),
        ("pod_annotation_prometheus_io_scheme", "https"),
    ];
    let pods = [pod("a", Some(("http", 80)), &own), pod("a", Some(("x", 81)), &own), pod("b", None, &own)];
    let expected = r#"https://10.0.0.5:9000/stats {instance="10.0.0.5:9000", namespace="ml", pod="llm-0"}"#;
    check("annotated-pods", &pods, &[expected]);
    let pods = [pod("a", Some(("http", 80)), &[asked]), pod("b", None, &[asked])];
    check(
        "annotated-pods",
        &pods,
        &[r#"http://10.0.0.5:80/metrics {container="a", instance="10.0.0.5:80", namespace="ml", pod="llm-0"}"#],
    );
}
