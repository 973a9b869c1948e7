//! Every role against an API server that lists and watches.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::client::testing::{Action, answer};
use crate::discovery::testing::{Lab, json};

const API: &str = "k8s:6443";

/// An API server: lists by path, and lines of watches, each after its seconds.
#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<Served>>);

#[derive(Default)]
struct Served {
    lists: Vec<(String, String)>,
    watches: Vec<(String, Vec<(u64, String)>)>,
    requests: Vec<String>,
}

impl ApiServer {
    fn list(&self, path: &str, items: &str) -> &Self {
        let body = format!(r#"{{"kind": "List", "metadata": {{"resourceVersion": "10"}}, "items": [{items}]}}"#);
        let mut served = self.0.lock().unwrap();
        served.lists.retain(|(known, _)| known != path);
        served.lists.push((path.to_owned(), body));
        self
    }

    /// The next watch of `path` says these lines and then nothing more; an empty line ends it.
    fn watch(&self, path: &str, lines: &[(u64, &str)]) -> &Self {
        let lines = lines.iter().map(|(after, line)| (*after, (*line).to_owned())).collect();
        self.0.lock().unwrap().watches.push((path.to_owned(), lines));
        self
    }

    fn answer(&self, head: &str) -> Vec<Action> {
        let line = head.lines().next().unwrap();
        let target = line.split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap();
        let mut served = self.0.lock().unwrap();
        served.requests.push(target.to_owned());
        if !query.contains("watch=true") {
            return match served.lists.iter().find(|(known, _)| known == path) {
                Some((_, body)) => json(body),
                None => vec![answer("403 Forbidden", "", b"no access")],
            };
        }
        let at = served.watches.iter().position(|(known, _)| known == path);
        let lines = at.map(|at| served.watches.remove(at).1).unwrap_or_default();
        let mut actions = vec![Action::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec())];
        for (after, line) in lines {
            actions.push(Action::Pause(std::time::Duration::from_secs(after)));
            if line.is_empty() {
                actions.push(Action::Send(b"0\r\n\r\n".to_vec()));
                return actions;
            }
            // In two pieces, as a network would.
            let (a, b) = line.split_at(line.len() / 2);
            actions.push(Action::Send(format!("{:x}\r\n{a}\r\n{:x}\r\n{b}\n\r\n", a.len(), b.len() + 1).into_bytes()));
        }
        actions.push(Action::Hang);
        actions
    }

    fn requests(&self, start: &str) -> Vec<String> {
        self.0.lock().unwrap().requests.iter().filter(|r| r.starts_with(start)).cloned().collect()
    }
}

fn lab(fields: &str, server: &ApiServer) -> Lab {
    let lab = Lab::new(&format!("kubernetes_sd_configs: [{{api_server: 'http://{API}', {fields}}}]"));
    let server = server.clone();
    lab.network.serve(API, move |head| server.answer(head));
    lab
}

/// The targets with `__meta_kubernetes_` left out of names.
fn short(lab: &mut Lab) -> Vec<String> {
    lab.shown().iter().map(|line| line.replace("__meta_kubernetes_", "")).collect()
}

#[track_caller]
fn assert_lines(got: &[String], expected: &[&str]) {
    assert_eq!(got.join("\n"), expected.join("\n"));
}

const POD: &str = r#"{"metadata": {"name": "llm-0", "namespace": "ml", "uid": "u1", "labels": {"app.kubernetes.io/name": "llm"},
    "annotations": {"prometheus.io/scrape": "true"},
    "ownerReferences": [{"kind": "ReplicaSet", "name": "llm-5d", "controller": true}]},
    "spec": {"nodeName": "gpu1", "containers": [
        {"name": "kserve", "image": "i1", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"},
                                                    {"name": "metrics", "containerPort": 8082, "protocol": "TCP"}]},
        {"name": "sidecar", "image": "i2"}],
        "initContainers": [{"name": "fetch", "image": "i3"}]},
    "status": {"podIP": "10.0.0.5", "hostIP": "192.168.0.1", "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "kserve", "containerID": "containerd://c1"}]}}"#;

const POD_LABELS: &str = concat!(
    r#"pod_host_ip="192.168.0.1", pod_ip="10.0.0.5", pod_label_app_kubernetes_io_name="llm", "#,
    r#"pod_labelpresent_app_kubernetes_io_name="true", pod_name="llm-0", pod_node_name="gpu1", "#,
    r#"pod_phase="Running", pod_ready="true", pod_uid="u1"}"#
);

#[tokio::test(start_paused = true)]
async fn every_port_of_every_container_of_a_pod_is_a_target() {
    let server = ApiServer::default();
    server.list("/api/v1/pods", &format!(r#"{POD}, {{"metadata": {{"name": "new", "namespace": "ml"}}}}"#));
    let mut lab = lab("role: pod", &server);
    lab.secs(1).await;
    let about = r#"{namespace="ml", pod_annotation_prometheus_io_scrape="true", pod_annotationpresent_prometheus_io_scrape="true", "#;
    let owner = r#"pod_controller_kind="ReplicaSet", pod_controller_name="llm-5d", "#;
    let container = |id: &str, image: &str, init: bool, name: &str, port: &str| {
        format!(
            r#"{about}{id}pod_container_image="{image}", pod_container_init="{init}", pod_container_name="{name}", {port}{owner}{POD_LABELS}"#
        )
    };
    let port = |name: &str, number: u16| {
        format!(
            r#"pod_container_port_name="{name}", pod_container_port_number="{number}", pod_container_port_protocol="TCP", "#
        )
    };
    let id = r#"pod_container_id="containerd://c1", "#;
    assert_lines(
        &short(&mut lab),
        &[
            &format!("10.0.0.5 {}", container("", "i2", false, "sidecar", "")),
            &format!("10.0.0.5 {}", container("", "i3", true, "fetch", "")),
            &format!("10.0.0.5:8080 {}", container(id, "i1", false, "kserve", &port("http", 8080))),
            &format!("10.0.0.5:8082 {}", container(id, "i1", false, "kserve", &port("metrics", 8082))),
        ],
    );
}

const NODE: &str = r#"{"metadata": {"name": "gpu1", "labels": {"zone": "a"}}, "spec": {"providerID": "aws:///i-1"},
    "status": {"addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "192.168.0.1"},
                             {"type": "InternalIP", "address": "fd00::1"}],
        "conditions": [{"type": "Ready", "status": "True"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}}"#;

#[tokio::test(start_paused = true)]
async fn nodes_services_and_ingresses_are_targets() {
    let server = ApiServer::default();
    server.list("/api/v1/nodes", NODE);
    let mut nodes = lab("role: node", &server);
    nodes.secs(1).await;
    assert_lines(
        &short(&mut nodes),
        &[concat!(
            r#"192.168.0.1:10250 {node_address_Hostname="h", node_address_InternalIP="192.168.0.1", "#,
            r#"node_condition_ready="true", node_label_zone="a", node_labelpresent_zone="true", node_name="gpu1", "#,
            r#"node_provider_id="aws:///i-1", instance="gpu1"}"#,
        )],
    );
    server.list(
        "/api/v1/namespaces/ml/services",
        r#"{"metadata": {"name": "llm", "namespace": "ml"}, "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}]}}},
           {"metadata": {"name": "ext", "namespace": "ml"}, "spec": {"type": "ExternalName", "externalName": "x.test",
            "clusterIP": "", "ports": [{"port": 81, "protocol": "TCP"}]}}"#,
    );
    let mut services = lab("role: service, namespaces: {names: [ml]}", &server);
    services.secs(1).await;
    assert_lines(
        &short(&mut services),
        &[
            concat!(
                r#"ext.ml.svc:81 {namespace="ml", service_external_name="x.test", service_name="ext", "#,
                r#"service_port_number="81", service_port_protocol="TCP", service_type="ExternalName"}"#
            ),
            concat!(
                r#"llm.ml.svc:80 {namespace="ml", service_cluster_ip="10.96.0.1", service_loadbalancer_ip="1.1.1.1,2.2.2.2", "#,
                r#"service_name="llm", service_port_name="http", service_port_number="80", service_port_protocol="TCP", "#,
                r#"service_type="LoadBalancer"}"#
            ),
        ],
    );
    server.list(
        "/apis/networking.k8s.io/v1/ingresses",
        r#"{"metadata": {"name": "in", "namespace": "ml"}, "spec": {"ingressClassName": "nginx",
            "tls": [{"hosts": ["*.test"]}], "rules": [{"host": "a.test", "http": {"paths": [{"path": "/v1"}, {"path": ""}]}},
            {"host": "b.c.test"}]}}"#,
    );
    let mut ingresses = lab("role: ingress", &server);
    ingresses.secs(1).await;
    let ingress = |host: &str, path: &str, scheme: &str| {
        format!(
            r#"{host} {{ingress_class_name="nginx", ingress_host="{host}", ingress_name="in", ingress_path="{path}", ingress_scheme="{scheme}", namespace="ml"}}"#
        )
    };
    assert_lines(
        &short(&mut ingresses),
        &[&ingress("a.test", "/", "https"), &ingress("a.test", "/v1", "https"), &ingress("b.c.test", "/", "http")],
    );
}

/// One label of each target.
fn column(lab: &mut Lab, labels: &[&str]) -> Vec<String> {
    lab.shown();
    let groups = lab.job.groups();
    let mut lines: Vec<String> = groups
        .map(|g| {
            let values: Vec<&str> =
                labels.iter().map(|l| g.labels.get(&format!("__meta_kubernetes_{l}")).unwrap_or("-")).collect();
            format!("{} {}", g.targets[0], values.join(" "))
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test(start_paused = true)]
async fn endpoints_bring_their_pods_services_and_nodes() {
    let server = ApiServer::default();
    let service = r#"{"metadata": {"name": "llm", "namespace": "ml", "labels": {"team": "x"}}, "spec": {"ipFamilies": ["IPv4", "IPv6"]}}"#;
    let target = r#""targetRef": {"kind": "Pod", "name": "llm-0", "namespace": "ml"}"#;
    server.list("/api/v1/pods", POD).list("/api/v1/services", service).list("/api/v1/nodes", NODE);
    server.list(
        "/api/v1/endpoints",
        &format!(
            r#"{{"metadata": {{"name": "llm", "namespace": "ml"}}, "subsets": [{{
                "addresses": [{{"ip": "10.0.0.5", "nodeName": "gpu1", {target}}}],
                "notReadyAddresses": [{{"ip": "10.0.0.9", "hostname": "h"}}],
                "ports": [{{"name": "http", "port": 8080, "protocol": "TCP"}}]}}]}}"#
        ),
    );
    let labels = [
        "endpoint_ready",
        "endpoint_port_name",
        "pod_container_name",
        "pod_container_port_name",
        "service_label_team",
        "node_label_zone",
    ];
    let mut lab_of_endpoints = lab("role: endpoints, attach_metadata: {node: true}", &server);
    lab_of_endpoints.secs(1).await;
    let expected = [
        "10.0.0.5:8080 true http kserve http x a",
        "10.0.0.5:8082 - - kserve metrics x a",
        "10.0.0.9:8080 false http - - x -",
    ];
    assert_lines(&column(&mut lab_of_endpoints, &labels), &expected);
    let slice = |name: &str, family: &str, address: &str| {
        format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "ml", "labels": {{"kubernetes.io/service-name": "llm"}}}},
                "addressType": "{family}", "endpoints": [{{"addresses": ["{address}"], "nodeName": "gpu1", "zone": "z",
                "conditions": {{"ready": true, "serving": true, "terminating": null}}, {target}}}],
                "ports": [{{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "h2c"}}]}},
               {{"metadata": {{"name": "empty{name}", "namespace": "ml"}}, "endpoints": null, "ports": null}}"#
        )
    };
    let slices = format!("{}, {}", slice("a", "IPv4", "10.0.0.5"), slice("b", "IPv6", "fd00::5"));
    server.list("/apis/discovery.k8s.io/v1/endpointslices", &slices);
    let mut slices = lab("role: endpointslice", &server);
    slices.secs(1).await;
    let labels = [
        "endpointslice_name",
        "endpointslice_endpoint_conditions_ready",
        "endpointslice_endpoint_conditions_terminating",
        "endpointslice_port_app_protocol",
        "endpointslice_endpoint_zone",
        "pod_container_port_name",
        "service_name",
    ];
    assert_lines(
        &column(&mut slices, &labels),
        &["10.0.0.5:8080 a true - h2c z http llm", "10.0.0.5:8082 a - - - - metrics llm"],
    );
}

#[tokio::test(start_paused = true)]
async fn owners_of_controllers_and_namespaces_are_attached() {
    let server = ApiServer::default();
    server.list("/api/v1/pods", POD);
    server.list("/api/v1/namespaces", r#"{"metadata": {"name": "ml", "labels": {"tenant": "t"}}}"#);
    server.list(
        "/apis/apps/v1/replicasets",
        r#"{"metadata": {"name": "llm-5d", "namespace": "ml", "ownerReferences": [{"kind": "Deployment", "name": "llm", "controller": true}]}}"#,
    );
    let mut lab = lab("role: pod, attach_metadata: {namespace: true, deployment: true}", &server);
    lab.secs(1).await;
    let found = column(&mut lab, &["pod_deployment_name", "namespace_label_tenant"]);
    assert_eq!((found.len(), found[0].as_str()), (4, "10.0.0.5 llm t"));
}

fn event(kind: &str, name: &str, version: u32) -> String {
    format!(
        r#"{{"type": "{kind}", "object": {{"metadata": {{"name": "{name}", "namespace": "ml", "resourceVersion": "{version}"}},
            "spec": {{"containers": [{{"name": "c"}}]}}, "status": {{"podIP": "{name}"}}}}}}"#
    )
    .replace('\n', " ")
}

fn bare(name: &str) -> String {
    format!(
        r#"{{"metadata": {{"name": "{name}", "namespace": "ml"}}, "spec": {{"containers": [{{"name": "c"}}]}}, "status": {{"podIP": "{name}"}}}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn changes_arrive_and_a_watch_is_continued_where_it_ended() {
    let server = ApiServer::default();
    let pods = "/api/v1/pods";
    server.list(pods, &bare("a"));
    server.watch(
        pods,
        &[(20, &event("ADDED", "b", 11)), (1, &event("MODIFIED", "a", 12)), (0, &event("DELETED", "a", 13)), (20, "")],
    );
    let bookmark = r#"{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}}"#;
    server.watch(pods, &[(1, bookmark), (1, "")]);
    let gone = r#"{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}"#;
    server.watch(pods, &[(1, gone)]);
    let mut lab = lab("role: pod, selectors: [{role: pod, label: 'x=y', field: 'spec.nodeName=n'}]", &server);
    lab.secs(1).await;
    assert_eq!(column(&mut lab, &["pod_name"]), ["a a"]);
    lab.secs(30).await;
    assert_eq!(column(&mut lab, &["pod_name"]), ["b b"]);
    // The third watch is told that its version is gone, so everything is listed anew.
    server.list(pods, &bare("c"));
    lab.secs(30).await;
    assert_eq!((column(&mut lab, &["pod_name"]), lab.job.errors()), (vec!["c c".to_owned()], Vec::new()));
    let requests = server.requests("/api/v1/pods");
    let versions: Vec<&str> = requests
        .iter()
        .map(|r| r.split("resourceVersion=").nth(1).map_or("list", |v| v.split('&').next().unwrap()))
        .collect();
    assert_eq!(versions, ["list", "10", "13", "20", "list", "10"]);
    assert!(
        requests.iter().all(|r| r.ends_with("labelSelector=x%3Dy&fieldSelector=spec.nodeName%3Dn")),
        "{requests:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_of_every_kind_keep_the_targets() {
    let server = ApiServer::default();
    let pods = "/api/v1/pods";
    server.list(pods, &bare("a"));
    // Garbage, an event nobody knows, an error of the server.
    server.watch(pods, &[(10, r#"{"type": "#)]).watch(pods, &[(1, r#"{"type": "NEW", "object": {}}"#)]);
    server.watch(pods, &[(1, r#"{"type": "ERROR", "object": {"code": 500, "message": "no etcd"}}"#)]);
    let mut lab = lab("role: pod", &server);
    lab.secs(1).await;
    for _ in 0..40 {
        lab.secs(1).await;
        assert_eq!(column(&mut lab, &["pod_name"]), ["a a"]);
    }
    let families = lab.providers.families();
    let failures = families.iter().find(|f| f.name == "prometheus_sd_kubernetes_failures_total").unwrap();
    assert_eq!((failures.samples[0].2, lab.job.errors()), (3.0, Vec::new()));
    // Then the server is gone, refuses, and comes back.
    let n = Arc::new(AtomicUsize::new(0));
    let (count, back) = (n.clone(), server.clone());
    server.watch(pods, &[(1, "")]);
    let mut late =
        super::super::testing::Lab::new(&format!("kubernetes_sd_configs: [{{api_server: 'http://{API}', role: pod}}]"));
    late.network.serve(API, move |head| match count.fetch_add(1, Ordering::SeqCst) {
        0 => vec![Action::Close],
        1 => vec![answer("403 Forbidden", "", b"pods is forbidden")],
        2 => vec![answer("410 Gone", "", b"")],
        3 => json(r#"{"items": []}"#),
        _ => back.answer(head),
    });
    late.secs(2).await;
    assert_eq!((late.shown().len(), late.job.errors().len()), (0, 1));
    late.secs(60).await;
    assert_eq!((column(&mut late, &["pod_name"]), late.job.errors()), (vec!["a a".to_owned()], Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages_and_is_shared() {
    let server = ApiServer::default();
    let second = server.clone();
    let mut lab = Lab::new(&format!(
        "kubernetes_sd_configs:\n- {{api_server: 'http://{API}', role: pod}}\n- {{api_server: 'http://{API}', role: pod, attach_metadata: {{job: true}}}}"
    ));
    lab.network.serve(API, move |head| {
        if head.contains("watch=true") || head.contains("continue=p2") {
            second.list("/api/v1/pods", &bare("b"));
            return second.answer(head);
        }
        second.0.lock().unwrap().requests.push("first".to_owned());
        json(&format!(r#"{{"metadata": {{"resourceVersion": "10", "continue": "p2"}}, "items": [{}]}}"#, bare("a")))
    });
    lab.secs(1).await;
    assert_eq!(column(&mut lab, &["pod_name"]), ["a a", "a a", "b b", "b b"]);
    assert_eq!(server.requests("").len(), 3, "two pages and one watch for both entries");
}
