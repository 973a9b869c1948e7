//! `docker_sd_configs` and `dockerswarm_sd_configs`: containers of a Docker daemon; services, tasks and nodes of a swarm.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use promontory_config::TargetGroup;
use promontory_config::discovery::{DockerSdConfig, DockerSwarmSdConfig, Filter, SwarmRole};
use promontory_config::http_client::{HttpClientConfig, TlsConfig};
use serde_json::Value;

use super::api::{Api, url};
use super::error::SdError;
use super::meta::{Meta, items, join, text_at};
use super::provider::{Refresh, Surroundings};
use crate::client::{UnixConnector, Url};

/// A Docker daemon.
#[derive(Debug)]
struct Daemon {
    api: Api,
    base: Result<Url, String>,
}

impl Daemon {
    /// At `host`: `unix://`, `tcp://`, `http://` or `https://`.
    fn new(host: &str, http: &HttpClientConfig, surroundings: &Surroundings) -> Self {
        if let Some(path) = host.strip_prefix("unix://") {
            let connector = Arc::new(UnixConnector(PathBuf::from(path)));
            let over_socket = Surroundings { connector, ..surroundings.clone() };
            return Self { api: Api::new(http, &over_socket), base: parse("http://docker".to_owned()) };
        }
        let scheme = if http.tls == TlsConfig::default() { "http" } else { "https" };
        let text = host.strip_prefix("tcp://").map_or_else(|| host.to_owned(), |rest| format!("{scheme}://{rest}"));
        Self { api: Api::new(http, surroundings), base: parse(text) }
    }

    async fn list(&mut self, path: &str, filters: &[Filter]) -> Result<Vec<Value>, SdError> {
        let base = url(self.base.as_ref().map_or_else(|text| text.clone(), Url::to_string).as_str())?;
        let filters: serde_json::Map<String, Value> =
            filters.iter().map(|f| (f.name.clone(), Value::from(f.values.clone()))).collect();
        let filters = Value::Object(filters).to_string();
        let params: &[(&str, &str)] = if filters == "{}" { &[] } else { &[("filters", &filters)] };
        self.api.get(base.with(path, params)).await
    }

    /// Labels of each network, by its id; their names begin with `prefix`.
    async fn networks(&mut self, prefix: &'static str) -> Result<BTreeMap<String, Meta>, SdError> {
        let all = self.list("/networks", &[]).await?;
        let about = |network: &Value| {
            let mut meta = Meta::new(prefix);
            meta.set_all(
                network,
                &[
                    ("network_id", "/Id"),
                    ("network_ingress", "/Ingress"),
                    ("network_internal", "/Internal"),
                    ("network_name", "/Name"),
                    ("network_scope", "/Scope"),
                ],
            );
            meta.set_map("network_label", network, "/Labels");
            (text_at(network, "/Id"), meta)
        };
        Ok(all.iter().map(about).collect())
    }
}

fn parse(text: String) -> Result<Url, String> {
    Url::parse(&text).map_err(|_| text)
}

/// One `docker_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Docker {
    config: DockerSdConfig,
    daemon: Daemon,
}

impl Docker {
    pub(super) fn new(config: &DockerSdConfig, surroundings: &Surroundings) -> Self {
        let daemon = Daemon::new(&config.host, &config.http, surroundings);
        Self { config: config.clone(), daemon }
    }

    fn container(
        &self,
        container: &Value,
        all: &BTreeMap<String, &Value>,
        networks: &BTreeMap<String, Meta>,
        out: &mut Vec<TargetGroup>,
    ) {
        let mut about = Meta::new("__meta_docker_");
        about.set_all(
            container,
            &[
                ("container_id", "/Id"),
                ("container_image", "/Image"),
                ("container_image_id", "/ImageID"),
                ("container_name", "/Names/0"),
                ("container_network_mode", "/HostConfig/NetworkMode"),
            ],
        );
        about.set_map("container_label", container, "/Labels");
        let empty = serde_json::Map::new();
        let joined = networks_of(container, all).and_then(Value::as_object).unwrap_or(&empty);
        let mut joined: Vec<(&String, &Value)> = joined.iter().filter(|(_, network)| !network.is_null()).collect();
        joined.sort_by_key(|(name, _)| *name);
        if self.config.match_first_network {
            joined.truncate(1);
        }
        for (_, network) in joined {
            let ip = text_at(network, "/IPAddress");
            let mut meta = about.clone();
            if let Some(known) = networks.get(&text_at(network, "/NetworkID")) {
                meta.add(known);
            }
            meta.set("network_ip", &ip);
            let ports = items(container, "/Ports").iter().filter(|port| text_at(port, "/Type") == "tcp");
            let mut has_port = false;
            for port in ports {
                has_port = true;
                let private = text_at(port, "/PrivatePort");
                let mut meta = meta.clone();
                meta.set("port_private", &private);
                if !matches!(text_at(port, "/PublicPort").as_str(), "" | "0") {
                    meta.set("port_public", text_at(port, "/PublicPort")).set("port_public_ip", text_at(port, "/IP"));
                }
                out.push(meta.target(join(&ip, private)));
            }
            if !has_port {
                let is_host = text_at(container, "/HostConfig/NetworkMode") == "host";
                let address =
                    if is_host { self.config.host_networking_host.clone() } else { join(&ip, self.config.port) };
                out.push(meta.target(address));
            }
        }
    }
}

/// The networks of a container, which may be those of another one.
fn networks_of<'a>(container: &'a Value, all: &BTreeMap<String, &'a Value>) -> Option<&'a Value> {
    let mut container = container;
    // Containers that use each other's network in a circle end this too.
    for _ in 0..all.len() {
        let mode = text_at(container, "/HostConfig/NetworkMode");
        match mode.strip_prefix("container:") {
            Some(other) => container = all.get(other)?,
            None => break,
        }
    }
    container.pointer("/NetworkSettings/Networks")
}

impl Refresh for Docker {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let filters = self.config.filters.clone();
        let containers = self.daemon.list("/containers/json", &filters).await?;
        let networks = self.daemon.networks("__meta_docker_").await?;
        let all: BTreeMap<String, &Value> = containers.iter().map(|c| (text_at(c, "/Id"), c)).collect();
        let mut out = Vec::new();
        for container in &containers {
            self.container(container, &all, &networks, &mut out);
        }
        Ok(out)
    }
}

/// Begins labels of a swarm.
const SWARM: &str = "__meta_dockerswarm_";

/// One `dockerswarm_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Swarm {
    config: DockerSwarmSdConfig,
    daemon: Daemon,
}

impl Swarm {
    pub(super) fn new(config: &DockerSwarmSdConfig, surroundings: &Surroundings) -> Self {
        let daemon = Daemon::new(&config.host, &config.http, surroundings);
        Self { config: config.clone(), daemon }
    }

    async fn services(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let networks = self.daemon.networks(SWARM).await?;
        let filters = self.config.filters.clone();
        let mut out = Vec::new();
        for service in self.daemon.list("/services", &filters).await? {
            let mut about = about_service(&service);
            about.set_all(
                &service,
                &[
                    ("service_task_container_hostname", "/Spec/TaskTemplate/ContainerSpec/Hostname"),
                    ("service_task_container_image", "/Spec/TaskTemplate/ContainerSpec/Image"),
                    ("service_updating_status", "/UpdateStatus/State"),
                ],
            );
            for address in items(&service, "/Endpoint/VirtualIPs") {
                let Some(ip) = ip_of(&text_at(address, "/Addr")) else { continue };
                let mut meta = about.clone();
                if let Some(known) = networks.get(&text_at(address, "/NetworkID")) {
                    meta.add(known);
                }
                let mut has_port = false;
                for port in tcp_ports(&service, "/Endpoint/Ports") {
                    has_port = true;
                    let mut meta = meta.clone();
                    meta.set("service_endpoint_port_name", text_at(port, "/Name"));
                    meta.set("service_endpoint_port_publish_mode", text_at(port, "/PublishMode"));
                    out.push(meta.target(join(&ip, text_at(port, "/PublishedPort"))));
                }
                if !has_port {
                    out.push(meta.target(join(&ip, self.config.port)));
                }
            }
        }
        Ok(out)
    }

    async fn tasks(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let networks = self.daemon.networks(SWARM).await?;
        let services: BTreeMap<String, Value> =
            self.daemon.list("/services", &[]).await?.into_iter().map(|s| (text_at(&s, "/ID"), s)).collect();
        let nodes: BTreeMap<String, Value> =
            self.daemon.list("/nodes", &[]).await?.into_iter().map(|n| (text_at(&n, "/ID"), n)).collect();
        let filters = self.config.filters.clone();
        let mut out = Vec::new();
        for task in self.daemon.list("/tasks", &filters).await? {
            let mut meta = Meta::new(SWARM);
            meta.set_all(
                &task,
                &[
                    ("task_container_id", "/Status/ContainerStatus/ContainerID"),
                    ("task_desired_state", "/DesiredState"),
                    ("task_id", "/ID"),
                    ("task_slot", "/Slot"),
                    ("task_state", "/Status/State"),
                ],
            );
            meta.set_map("container_label", &task, "/Spec/ContainerSpec/Labels");
            let service = services.get(&text_at(&task, "/ServiceID"));
            if let Some(service) = service {
                meta.add(&about_service(service));
            }
            let node = nodes.get(&text_at(&task, "/NodeID"));
            if let Some(node) = node {
                meta.add(&about_node(node));
            }
            for port in tcp_ports(&task, "/Status/PortStatus/Ports") {
                let mut meta = meta.clone();
                meta.set("task_port_publish_mode", text_at(port, "/PublishMode"));
                let host = node.map(|node| text_at(node, "/Status/Addr")).unwrap_or_default();
                out.push(meta.target(join(&host, text_at(port, "/PublishedPort"))));
            }
            for attachment in items(&task, "/NetworksAttachments") {
                let mut meta = meta.clone();
                if let Some(known) = networks.get(&text_at(attachment, "/Network/ID")) {
                    meta.add(known);
                }
                for ip in items(attachment, "/Addresses").iter().filter_map(|a| ip_of(a.as_str()?)) {
                    let mut has_port = false;
                    for port in service.into_iter().flat_map(|service| tcp_ports(service, "/Endpoint/Ports")) {
                        has_port = true;
                        let mut meta = meta.clone();
                        meta.set("task_port_publish_mode", text_at(port, "/PublishMode"));
                        out.push(meta.target(join(&ip, text_at(port, "/TargetPort"))));
                    }
                    if !has_port {
                        out.push(meta.target(join(&ip, self.config.port)));
                    }
                }
            }
        }
        Ok(out)
    }

    async fn nodes(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let filters = self.config.filters.clone();
        let nodes = self.daemon.list("/nodes", &filters).await?;
        let target = |node: &Value| {
            let mut meta = about_node(node);
            meta.set_all(
                node,
                &[
                    ("node_engine_version", "/Description/Engine/EngineVersion"),
                    ("node_manager_address", "/ManagerStatus/Addr"),
                    ("node_manager_leader", "/ManagerStatus/Leader"),
                    ("node_manager_reachability", "/ManagerStatus/Reachability"),
                ],
            );
            meta.target(join(&text_at(node, "/Status/Addr"), self.config.port))
        };
        Ok(nodes.iter().map(target).collect())
    }
}

fn about_service(service: &Value) -> Meta {
    let mut meta = Meta::new(SWARM);
    meta.set_all(service, &[("service_id", "/ID"), ("service_name", "/Spec/Name")]);
    for (mode, pointer) in [("global", "/Spec/Mode/Global"), ("replicated", "/Spec/Mode/Replicated")] {
        if service.pointer(pointer).is_some_and(|m| !m.is_null()) {
            meta.set("service_mode", mode);
        }
    }
    meta.set_map("service_label", service, "/Spec/Labels");
    meta
}

fn about_node(node: &Value) -> Meta {
    let mut meta = Meta::new(SWARM);
    meta.set_all(
        node,
        &[
            ("node_address", "/Status/Addr"),
            ("node_availability", "/Spec/Availability"),
            ("node_hostname", "/Description/Hostname"),
            ("node_id", "/ID"),
            ("node_platform_architecture", "/Description/Platform/Architecture"),
            ("node_platform_os", "/Description/Platform/OS"),
            ("node_role", "/Spec/Role"),
            ("node_status", "/Status/State"),
        ],
    );
    meta.set_map("node_label", node, "/Spec/Labels");
    meta
}

fn tcp_ports<'a>(item: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    items(item, pointer).iter().filter(|port| text_at(port, "/Protocol") == "tcp")
}

/// The address in `10.0.0.2/24`.
fn ip_of(text: &str) -> Option<String> {
    let ip = text.split('/').next().unwrap_or_default();
    (!ip.is_empty()).then(|| ip.to_owned())
}

impl Refresh for Swarm {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        match self.config.role {
            SwarmRole::Services => self.services().await,
            SwarmRole::Tasks => self.tasks().await,
            SwarmRole::Nodes => self.nodes().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::client::testing::{FakeNetwork, serve};
    use crate::discovery::testing::{Lab, json, routes};

    const CONTAINERS: &str = r#"[
        {"Id": "c1", "Names": ["/vllm"], "Image": "vllm/vllm-openai", "ImageID": "sha256:1", "Labels": {"com.x/y": "z"},
         "Ports": [{"PrivatePort": 8000, "PublicPort": 18000, "IP": "0.0.0.0", "Type": "tcp"},
                   {"PrivatePort": 53, "Type": "udp"}],
         "HostConfig": {"NetworkMode": "bridge"},
         "NetworkSettings": {"Networks": {"z": {"NetworkID": "n2", "IPAddress": "172.18.0.2"},
                                          "bridge": {"NetworkID": "n1", "IPAddress": "172.17.0.2"}}}},
        {"Id": "c2", "Names": ["/dcgm"], "Ports": [], "HostConfig": {"NetworkMode": "host"},
         "NetworkSettings": {"Networks": {"host": {"NetworkID": "n3", "IPAddress": ""}}}},
        {"Id": "c3", "Names": ["/side"], "Ports": [], "HostConfig": {"NetworkMode": "container:c1"},
         "NetworkSettings": {"Networks": {}}}]"#;
    const NETWORKS: &str =
        r#"[{"Id": "n1", "Name": "bridge", "Scope": "local", "Internal": false, "Ingress": false, "Labels": {}}]"#;

    fn expected() -> [&'static str; 3] {
        [
            concat!(
                r#"172.17.0.2:80 {__meta_docker_container_id="c3", __meta_docker_container_name="/side", "#,
                r#"__meta_docker_container_network_mode="container:c1", __meta_docker_network_id="n1", "#,
                r#"__meta_docker_network_ingress="false", __meta_docker_network_internal="false", "#,
                r#"__meta_docker_network_ip="172.17.0.2", __meta_docker_network_name="bridge", "#,
                r#"__meta_docker_network_scope="local"}"#
            ),
            concat!(
                r#"172.17.0.2:8000 {__meta_docker_container_id="c1", __meta_docker_container_image="vllm/vllm-openai", "#,
                r#"__meta_docker_container_image_id="sha256:1", __meta_docker_container_label_com_x_y="z", "#,
                r#"__meta_docker_container_name="/vllm", __meta_docker_container_network_mode="bridge", "#,
                r#"__meta_docker_network_id="n1", __meta_docker_network_ingress="false", "#,
                r#"__meta_docker_network_internal="false", __meta_docker_network_ip="172.17.0.2", "#,
                r#"__meta_docker_network_name="bridge", __meta_docker_network_scope="local", "#,
                r#"__meta_docker_port_private="8000", __meta_docker_port_public="18000", "#,
                r#"__meta_docker_port_public_ip="0.0.0.0"}"#
            ),
            concat!(
                r#"localhost {__meta_docker_container_id="c2", __meta_docker_container_name="/dcgm", "#,
                r#"__meta_docker_container_network_mode="host"}"#
            ),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn containers_are_targets() {
        let mut lab =
            Lab::new("docker_sd_configs: [{host: 'tcp://d:2375', filters: [{name: status, values: [running]}]}]");
        let query = "GET /containers/json?filters=%7B%22status%22%3A%5B%22running%22%5D%7D ";
        lab.network.serve("d:2375", routes(&[(query, CONTAINERS), ("GET /networks ", NETWORKS)]));
        lab.check(1, &expected()).await;
    }

    #[tokio::test]
    async fn the_daemon_is_asked_over_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answers = routes(&[("GET /containers/json ", CONTAINERS), ("GET /networks ", NETWORKS)]);
                tokio::spawn(serve(stream, Arc::new(answers)));
            }
        });
        let fields = format!("docker_sd_configs: [{{host: 'unix://{}'}}]", path.display());
        let network = FakeNetwork::new();
        let mut lab = Lab::over(&fields, network.clone(), network);
        while lab.shown().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(lab.shown(), expected());
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_keep_the_targets() {
        let only = r#"[{"Id": "c", "NetworkSettings": {"Networks": {"b": {"IPAddress": "1.2.3.4"}}}}]"#;
        let lab = Lab::new("docker_sd_configs: [{host: 'http://d:2375', refresh_interval: 30s}]");
        // The networks are asked for after the containers, and answered alike.
        lab.check_keeps("d:2375", move |_: &str| json(only), Lab::bad_answers(), "1.2.3.4:80 ", 30).await;
    }

    const SERVICES: &str = r#"[{"ID": "s1", "Spec": {"Name": "llm", "Mode": {"Replicated": {"Replicas": 1}}, "Labels": {"a": "b"},
        "TaskTemplate": {"ContainerSpec": {"Image": "img"}}},
        "Endpoint": {"Ports": [{"Name": "m", "Protocol": "tcp", "TargetPort": 8000, "PublishedPort": 18000, "PublishMode": "ingress"}],
                     "VirtualIPs": [{"NetworkID": "n1", "Addr": "10.0.0.3/24"}]}}]"#;
    const NODES: &str = r#"[{"ID": "node1", "Spec": {"Role": "manager", "Availability": "active", "Labels": {}},
        "Description": {"Hostname": "h", "Platform": {"Architecture": "x86_64", "OS": "linux"}, "Engine": {"EngineVersion": "27"}},
        "Status": {"State": "ready", "Addr": "192.168.0.7"}, "ManagerStatus": {"Leader": true, "Reachability": "reachable", "Addr": "192.168.0.7:2377"}}]"#;
    const TASKS: &str = r#"[{"ID": "t1", "ServiceID": "s1", "NodeID": "node1", "Slot": 2, "DesiredState": "running",
        "Status": {"State": "running", "ContainerStatus": {"ContainerID": "c"},
                   "PortStatus": {"Ports": [{"Protocol": "tcp", "PublishedPort": 19000, "PublishMode": "host"}]}},
        "Spec": {"ContainerSpec": {"Labels": {"x": "y"}}},
        "NetworksAttachments": [{"Network": {"ID": "n1"}, "Addresses": ["10.0.0.4/24"]}]}]"#;

    async fn swarm(role: &str) -> Vec<String> {
        let mut lab = Lab::new(&format!("dockerswarm_sd_configs: [{{host: 'http://d:1', role: {role}}}]"));
        let table = [
            ("GET /services ", SERVICES),
            ("GET /nodes ", NODES),
            ("GET /tasks ", TASKS),
            ("GET /networks ", NETWORKS),
        ];
        lab.network.serve("d:1", routes(&table));
        lab.secs(1).await;
        lab.shown().iter().map(|line| line.replace("__meta_dockerswarm_", "")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn services_tasks_and_nodes_of_a_swarm_are_targets() {
        let network = r#"network_id="n1", network_ingress="false", network_internal="false", network_name="bridge", network_scope="local", "#;
        assert_eq!(
            swarm("services").await,
            [format!(
                r#"10.0.0.3:18000 {{{network}service_endpoint_port_name="m", service_endpoint_port_publish_mode="ingress", service_id="s1", service_label_a="b", service_mode="replicated", service_name="llm", service_task_container_image="img"}}"#
            )]
        );
        assert_eq!(
            swarm("nodes").await,
            [concat!(
                r#"192.168.0.7:80 {node_address="192.168.0.7", node_availability="active", node_engine_version="27", "#,
                r#"node_hostname="h", node_id="node1", node_manager_address="192.168.0.7:2377", node_manager_leader="true", "#,
                r#"node_manager_reachability="reachable", node_platform_architecture="x86_64", node_platform_os="linux", "#,
                r#"node_role="manager", node_status="ready"}"#
            )]
        );
        let tasks = swarm("tasks").await;
        let task = r#"task_container_id="c", task_desired_state="running", task_id="t1", task_port_publish_mode="#;
        assert_eq!(tasks.len(), 2);
        assert!(
            tasks[0].starts_with("10.0.0.4:8000 {container_label_x=\"y\", ") && tasks[0].contains(network),
            "{tasks:?}"
        );
        assert!(tasks[0].contains(&format!("{task}\"ingress\"")), "{tasks:?}");
        assert!(
            tasks[1].starts_with("192.168.0.7:19000 {") && tasks[1].contains(&format!("{task}\"host\"")),
            "{tasks:?}"
        );
    }
}
