//! From objects to targets, role by role.

use std::collections::BTreeMap;
use std::sync::Arc;

use promontory_config::TargetGroup;
use promontory_config::discovery::KubernetesRole as Role;

use super::object::{Container, Metadata, Object, Port, Reference};
use super::watch::Objects;
use crate::discovery::meta::{Meta, join};

/// Begins every label.
const PREFIX: &str = "__meta_kubernetes_";
/// Label by which a slice of endpoints names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Kinds of addresses of a node, the wanted ones first.
const NODE_ADDRESSES: [&str; 6] =
    ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

/// All objects that targets of one entry are made of. What is not attached is `None`.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of the role itself.
    pub(super) own: Vec<Objects>,
    pub(super) pods: Vec<Objects>,
    pub(super) services: Vec<Objects>,
    pub(super) nodes: Option<Objects>,
    pub(super) namespaces: Option<Objects>,
    pub(super) replica_sets: Option<Vec<Objects>>,
    pub(super) jobs: Option<Vec<Objects>>,
    /// Whether the pod's controller is shown where it is a job.
    pub(super) attach_job: bool,
    /// Whether only some nodes are known, so that pods on others are none of ours.
    pub(super) is_node_selected: bool,
}

fn find<'a>(all: &'a [Objects], namespace: &str, name: &str) -> Option<&'a Arc<Object>> {
    let key = format!("{namespace}/{name}");
    all.iter().find_map(|objects| objects.get(&key))
}

/// All targets of `role`.
pub(super) fn groups(role: Role, known: &Known) -> Vec<TargetGroup> {
    let mut out = Vec::new();
    for object in known.own.iter().flat_map(BTreeMap::values) {
        match role {
            Role::Node => node(object, &mut out),
            Role::Service => service(object, known, &mut out),
            Role::Pod => pod(object, known, &mut out),
            Role::Endpoints => endpoints(object, known, &mut out),
            Role::EndpointSlice => endpoint_slice(object, known, &mut out),
            Role::Ingress => ingress(object, known, &mut out),
        }
    }
    out
}

/// Name, labels and annotations of an object.
fn about(meta: &mut Meta, role: &str, metadata: &Metadata) {
    meta.set(&format!("{role}_name"), &metadata.name);
    tags(meta, role, metadata);
}

fn tags(meta: &mut Meta, role: &str, metadata: &Metadata) {
    for (kind, pairs) in [("label", &metadata.labels), ("annotation", &metadata.annotations)] {
        for (key, value) in pairs {
            meta.set_under(&format!("{role}_{kind}"), key, value);
            meta.set_under(&format!("{role}_{kind}present"), key, "true");
        }
    }
}

/// What all targets of a namespaced object have.
fn in_namespace(role: &str, object: &Object, known: &Known) -> Meta {
    let mut meta = Meta::new(PREFIX);
    meta.set("namespace", &object.metadata.namespace);
    about(&mut meta, role, &object.metadata);
    attach_namespace(&mut meta, &object.metadata.namespace, known);
    meta
}

fn attach_namespace(meta: &mut Meta, namespace: &str, known: &Known) {
    if let Some(found) = known.namespaces.as_ref().and_then(|all| all.get(&format!("/{namespace}"))) {
        tags(meta, "namespace", &found.metadata);
    }
}

fn attach_node(meta: &mut Meta, name: &str, known: &Known) {
    if let Some(found) = known.nodes.as_ref().and_then(|all| all.get(&format!("/{name}"))) {
        about(meta, "node", &found.metadata);
    }
}

fn node(object: &Object, out: &mut Vec<TargetGroup>) {
    let mut meta = Meta::new(PREFIX);
    about(&mut meta, "node", &object.metadata);
    meta.set("node_provider_id", &object.spec.provider_id);
    meta.set_whole("instance", &object.metadata.name);
    for condition in &object.status.conditions {
        meta.set_under("node_condition", &condition.kind.to_lowercase(), condition.status.to_lowercase());
    }
    let first = |kind: &str| object.status.addresses.iter().find(|a| a.kind == kind);
    for address in &object.status.addresses {
        if first(&address.kind).is_some_and(|a| std::ptr::eq(a, address)) {
            meta.set_under("node_address", &address.kind, &address.address);
        }
    }
    // A node without any address cannot be reached.
    if let Some(address) = NODE_ADDRESSES.iter().find_map(|kind| first(kind)) {
        out.push(meta.target(join(&address.address, object.status.daemon_endpoints.kubelet_endpoint.port)));
    }
}

fn service(object: &Object, known: &Known, out: &mut Vec<TargetGroup>) {
    let mut meta = in_namespace("service", object, known);
    let spec = &object.spec;
    meta.set("service_type", &spec.kind);
    if spec.kind == "ExternalName" {
        meta.set("service_external_name", &spec.external_name);
    } else {
        meta.set("service_cluster_ip", &spec.cluster_ip);
    }
    if spec.kind == "LoadBalancer" {
        let ips: Vec<&str> = object.status.load_balancer.ingress.iter().map(|i| i.ip.as_str()).collect();
        meta.set("service_loadbalancer_ip", ips.join(","));
    }
    for port in &spec.ports {
        let number = port.port.unwrap_or_default();
        let mut meta = meta.clone();
        meta.set("service_port_name", &port.name);
        meta.set("service_port_number", number.to_string());
        meta.set("service_port_protocol", &port.protocol);
        let Metadata { name, namespace, .. } = &object.metadata;
        out.push(meta.target(join(&format!("{name}.{namespace}.svc"), number)));
    }
}

/// Labels of a pod, which are also those of targets that it is behind.
fn about_pod(meta: &mut Meta, object: &Object, known: &Known) {
    about(meta, "pod", &object.metadata);
    let (metadata, status) = (&object.metadata, &object.status);
    let ready =
        status.conditions.iter().find(|c| c.kind == "Ready").map_or("unknown".to_owned(), |c| c.status.to_lowercase());
    meta.set("pod_ip", &status.pod_ip).set("pod_ready", ready).set("pod_phase", &status.phase);
    meta.set("pod_node_name", &object.spec.node_name).set("pod_host_ip", &status.host_ip).set("pod_uid", &metadata.uid);
    let Some(controller) = metadata.controller() else { return };
    meta.set("pod_controller_kind", &controller.kind).set("pod_controller_name", &controller.name);
    let above = |all: &Option<Vec<Objects>>, kind: &str| {
        let all = all.as_ref()?;
        let owner = find(all, &metadata.namespace, &controller.name)?.metadata.controller()?;
        (owner.kind == kind).then(|| owner.name.clone())
    };
    match controller.kind.as_str() {
        "ReplicaSet" => {
            drop(above(&known.replica_sets, "Deployment").map(|name| meta.set("pod_deployment_name", name).build()))
        }
        "Job" => {
            if known.attach_job {
                meta.set("pod_job_name", &controller.name);
            }
            if let Some(name) = above(&known.jobs, "CronJob") {
                meta.set("pod_cronjob_name", name);
            }
        }
        _ => {}
    }
}

/// Each container with its id, and whether it only prepares the pod.
fn containers(object: &Object) -> impl Iterator<Item = (&Container, &str, bool)> {
    let id = |container: &Container, all: &'_ [super::object::ContainerStatus]| {
        all.iter().position(|status| status.name == container.name)
    };
    let (spec, status) = (&object.spec, &object.status);
    let own = spec.containers.iter().map(move |c| {
        (c, id(c, &status.container_statuses).map_or("", |i| status.container_statuses[i].container_id.as_str()), false)
    });
    let init = spec.init_containers.iter().map(move |c| {
        let at = id(c, &status.init_container_statuses);
        (c, at.map_or("", |i| status.init_container_statuses[i].container_id.as_str()), true)
    });
    own.chain(init)
}

fn about_container(meta: &mut Meta, container: &Container, id: &str, is_init: bool) {
    meta.set("pod_container_name", &container.name).set("pod_container_image", &container.image);
    meta.set("pod_container_id", id).set_bool("pod_container_init", is_init);
}

fn about_container_port(meta: &mut Meta, port: &super::object::ContainerPort) {
    meta.set("pod_container_port_name", &port.name);
    meta.set("pod_container_port_number", port.container_port.to_string());
    meta.set("pod_container_port_protocol", &port.protocol);
}

fn is_on_unknown_node(object: &Object, known: &Known) -> bool {
    let key = format!("/{}", object.spec.node_name);
    known.is_node_selected && known.nodes.as_ref().is_some_and(|nodes| !nodes.contains_key(&key))
}

fn pod(object: &Object, known: &Known, out: &mut Vec<TargetGroup>) {
    // A pod gets its address when it is scheduled.
    if object.status.pod_ip.is_empty() || is_on_unknown_node(object, known) {
        return;
    }
    let mut meta = Meta::new(PREFIX);
    meta.set("namespace", &object.metadata.namespace);
    attach_namespace(&mut meta, &object.metadata.namespace, known);
    attach_node(&mut meta, &object.spec.node_name, known);
    about_pod(&mut meta, object, known);
    for (container, id, is_init) in containers(object) {
        let mut meta = meta.clone();
        about_container(&mut meta, container, id, is_init);
        if container.ports.is_empty() {
            out.push(meta.target(&object.status.pod_ip));
        }
        for port in &container.ports {
            let mut meta = meta.clone();
            about_container_port(&mut meta, port);
            out.push(meta.target(join(&object.status.pod_ip, port.container_port)));
        }
    }
}

/// Pods behind the endpoints of one object, and which of their ports are endpoints.
type Behind<'a> = BTreeMap<String, (&'a Arc<Object>, Vec<u16>)>;

/// Adds the pod that `target` refers to and remembers it in `behind`.
fn attach_pod<'a>(
    meta: &mut Meta,
    target: Option<&Reference>,
    namespace: &str,
    port: Option<u16>,
    known: &'a Known,
    behind: &mut Behind<'a>,
) {
    let Some(target) = target.filter(|target| target.kind == "Pod") else { return };
    let namespace = if target.namespace.is_empty() { namespace } else { &target.namespace };
    let Some(pod) = find(&known.pods, namespace, &target.name) else { return };
    about_pod(meta, pod, known);
    let (_, ports) = behind.entry(pod.metadata.key()).or_insert((pod, Vec::new()));
    let Some(port) = port else { return };
    ports.push(port);
    for (container, id, is_init) in containers(pod) {
        if let Some(found) = container.ports.iter().find(|p| p.container_port == port) {
            about_container(meta, container, id, is_init);
            about_container_port(meta, found);
            break;
        }
    }
}

/// Ports of containers that are no endpoints.
fn uncovered(base: &Meta, behind: Behind<'_>, known: &Known, out: &mut Vec<TargetGroup>) {
    for (pod, ports) in behind.into_values().filter(|(pod, _)| !pod.status.pod_ip.is_empty()) {
        for (container, id, is_init) in containers(pod) {
            for port in container.ports.iter().filter(|p| !ports.contains(&p.container_port)) {
                let mut meta = base.clone();
                attach_node(&mut meta, &pod.spec.node_name, known);
                about_pod(&mut meta, pod, known);
                about_container(&mut meta, container, id, is_init);
                about_container_port(&mut meta, port);
                out.push(meta.target(join(&pod.status.pod_ip, port.container_port)));
            }
        }
    }
}

fn attach_service(meta: &mut Meta, namespace: &str, name: &str, known: &Known) {
    if let Some(service) = find(&known.services, namespace, name) {
        about(meta, "service", &service.metadata);
    }
}

fn endpoints(object: &Object, known: &Known, out: &mut Vec<TargetGroup>) {
    let Metadata { namespace, name, .. } = &object.metadata;
    let mut base = in_namespace("endpoints", object, known);
    attach_service(&mut base, namespace, name, known);
    let mut behind = Behind::new();
    for subset in &object.subsets {
        let ready = subset.addresses.iter().map(|a| (a, true));
        let all: Vec<_> = ready.chain(subset.not_ready_addresses.iter().map(|a| (a, false))).collect();
        for (port, (address, is_ready)) in subset.ports.iter().flat_map(|port| all.iter().map(move |a| (port, a))) {
            let mut meta = base.clone();
            meta.set("endpoint_port_name", &port.name).set("endpoint_port_protocol", &port.protocol);
            meta.set_bool("endpoint_ready", *is_ready);
            meta.set("endpoint_node_name", &address.node_name).set("endpoint_hostname", &address.hostname);
            about_reference(&mut meta, "endpoint", address.target_ref.as_ref());
            attach_node(&mut meta, node_of(address.target_ref.as_ref(), &address.node_name), known);
            attach_pod(&mut meta, address.target_ref.as_ref(), namespace, port.port, known, &mut behind);
            out.push(meta.target(join(&address.ip, port.port.unwrap_or_default())));
        }
    }
    uncovered(&base, behind, known, out);
}

fn about_reference(meta: &mut Meta, role: &str, target: Option<&Reference>) {
    if let Some(target) = target {
        meta.set(&format!("{role}_address_target_kind"), &target.kind);
        meta.set(&format!("{role}_address_target_name"), &target.name);
    }
}

fn node_of<'a>(target: Option<&'a Reference>, name: &'a str) -> &'a str {
    target.filter(|target| target.kind == "Node").map_or(name, |target| &target.name)
}

fn endpoint_slice(object: &Object, known: &Known, out: &mut Vec<TargetGroup>) {
    let Metadata { namespace, labels, .. } = &object.metadata;
    let service = labels.get(SERVICE_NAME).map(String::as_str).unwrap_or_default();
    if is_secondary(object, find(&known.services, namespace, service)) {
        return;
    }
    let mut base = in_namespace("endpointslice", object, known);
    base.set("endpointslice_address_type", &object.address_type);
    attach_service(&mut base, namespace, service, known);
    let mut behind = Behind::new();
    // A slice without ports stands for any port.
    let any = [Port::default()];
    let ports = if object.ports.is_empty() { &any[..] } else { &object.ports };
    for endpoint in &object.endpoints {
        for (port, address) in ports.iter().flat_map(|port| endpoint.addresses.iter().map(move |a| (port, a))) {
            let mut meta = base.clone();
            let number = port.port.map(|n| n.to_string()).unwrap_or_default();
            meta.set("endpointslice_port", &number).set("endpointslice_port_name", &port.name);
            meta.set("endpointslice_port_protocol", &port.protocol);
            meta.set("endpointslice_port_app_protocol", &port.app_protocol);
            let c = &endpoint.conditions;
            for (name, value) in [("ready", c.ready), ("serving", c.serving), ("terminating", c.terminating)] {
                if let Some(value) = value {
                    meta.set_bool(&format!("endpointslice_endpoint_conditions_{name}"), value);
                }
            }
            meta.set("endpointslice_endpoint_hostname", &endpoint.hostname);
            meta.set("endpointslice_endpoint_node_name", &endpoint.node_name);
            meta.set("endpointslice_endpoint_zone", &endpoint.zone);
            for (key, value) in &endpoint.deprecated_topology {
                meta.set_under("endpointslice_endpoint_topology", key, value);
                meta.set_under("endpointslice_endpoint_topology_present", key, "true");
            }
            about_reference(&mut meta, "endpointslice", endpoint.target_ref.as_ref());
            attach_node(&mut meta, node_of(endpoint.target_ref.as_ref(), &endpoint.node_name), known);
            attach_pod(&mut meta, endpoint.target_ref.as_ref(), namespace, port.port, known, &mut behind);
            out.push(match port.port {
                Some(port) => meta.target(join(address, port)),
                None => meta.target(address),
            });
        }
    }
    uncovered(&base, behind, known, out);
}

/// Whether a service with addresses of two families has this slice for the second.
fn is_secondary(slice: &Object, service: Option<&Arc<Object>>) -> bool {
    let families = service.map(|s| s.spec.ip_families.as_slice()).unwrap_or_default();
    families.len() > 1 && families[0] != slice.address_type
}

fn ingress(object: &Object, known: &Known, out: &mut Vec<TargetGroup>) {
    let mut base = in_namespace("ingress", object, known);
    base.set("ingress_class_name", &object.spec.ingress_class_name);
    let tls: Vec<&String> = object.spec.tls.iter().flat_map(|tls| &tls.hosts).collect();
    for rule in &object.spec.rules {
        let scheme = if tls.iter().any(|pattern| matches_host(pattern, &rule.host)) { "https" } else { "http" };
        let mut paths: Vec<&str> = rule.http.iter().flat_map(|http| &http.paths).map(|p| p.path.as_str()).collect();
        if paths.is_empty() {
            paths.push("");
        }
        for path in paths {
            let mut meta = base.clone();
            meta.set("ingress_scheme", scheme).set("ingress_host", &rule.host);
            meta.set("ingress_path", if path.is_empty() { "/" } else { path });
            out.push(meta.target(&rule.host));
        }
    }
}

/// Whether `host` is `pattern`, whose first label may be `*`.
fn matches_host(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(first, after)| !first.is_empty() && after == rest),
        None => pattern == host,
    }
}
