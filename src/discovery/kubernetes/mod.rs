//! `kubernetes_sd_configs`: objects of a cluster are targets.
//!
//! Each kind of object is listed and watched once for all jobs that want the same of it; changes of many objects
//! within [`CHANGES_TOGETHER`] are one change of the targets.

mod cluster;
mod object;
mod targets;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use promontory_config::discovery::{KubernetesRole as Role, KubernetesSdConfig};

use super::error::SdError;
use super::provider::Publisher;
use cluster::Cluster;
use targets::Known;
pub(crate) use watch::Watches;
use watch::{Objects, Watch, What};

/// Time in which changes are gathered; nobody looks more often.
const CHANGES_TOGETHER: Duration = Duration::from_secs(5);
/// Pause after the way to the API server was not found.
const RETRY: Duration = Duration::from_secs(10);

/// Follows the objects that `config` asks for, for ever.
pub(super) async fn run(config: KubernetesSdConfig, out: Publisher) {
    let cluster = loop {
        match Cluster::of(&config, |name| std::env::var(name).ok()) {
            Ok(cluster) => break cluster,
            Err(error) => {
                out.fail(&error);
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    let watched = Watched::new(&config, &cluster, &out);
    let mut changes: Vec<_> = watched.all().map(|watch| watch.changes()).collect();
    loop {
        match watched.known(&config) {
            (Some(known), None) => out.publish(targets::groups(config.role, &known)),
            (Some(known), Some(error)) => {
                out.publish_despite(targets::groups(config.role, &known), &SdError::Watch { error });
            }
            (None, Some(error)) => out.fail(&SdError::Watch { error }),
            (None, None) => {}
        }
        let is_complete = watched.all().all(|watch| watch.objects().0.is_some());
        any_changed(&mut changes).await;
        // The first answer is wanted at once.
        if is_complete {
            tokio::time::sleep(CHANGES_TOGETHER).await;
        }
        changes.iter_mut().for_each(|c| c.mark_unchanged());
    }
}

/// Waits until one of them has changed.
async fn any_changed(changes: &mut [tokio::sync::watch::Receiver<u64>]) {
    let mut waiting: Vec<_> = changes.iter_mut().map(|c| Box::pin(c.changed())).collect();
    std::future::poll_fn(|context| {
        let is_any = waiting.iter_mut().any(|w| w.as_mut().poll(context).is_ready());
        if is_any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// The watches of one entry.
struct Watched {
    own: Vec<Arc<Watch>>,
    pods: Vec<Arc<Watch>>,
    services: Vec<Arc<Watch>>,
    nodes: Option<Arc<Watch>>,
    namespaces: Option<Arc<Watch>>,
    replica_sets: Option<Vec<Arc<Watch>>>,
    jobs: Option<Vec<Arc<Watch>>>,
}

impl Watched {
    fn new(config: &KubernetesSdConfig, cluster: &Cluster, out: &Publisher) -> Self {
        let mut namespaces = config.namespaces.as_ref().map(|n| n.names.clone()).unwrap_or_default();
        if config.namespaces.as_ref().is_some_and(|n| n.own_namespace) {
            namespaces.extend(cluster.own_namespace.clone());
        }
        let start = |path: String, role: Role, name: &'static str| {
            let what = What::new(cluster, path, name, config.selectors_of(role));
            out.surroundings.watches.get(&what, &out.surroundings)
        };
        let unselected = |path: String, name: &'static str| {
            let what = What::new(cluster, path, name, (String::new(), String::new()));
            out.surroundings.watches.get(&what, &out.surroundings)
        };
        // One for each namespace, or one for all of them.
        let paths = |group: &str, kind: &str| -> Vec<String> {
            if namespaces.is_empty() {
                return vec![format!("{group}/{kind}")];
            }
            namespaces.iter().map(|n| format!("{group}/namespaces/{n}/{kind}")).collect()
        };
        let all = |group: &str, kind: &str, role: Role, name: &'static str| -> Vec<Arc<Watch>> {
            paths(group, kind).into_iter().map(|path| start(path, role, name)).collect()
        };
        let pods = || all("/api/v1", "pods", Role::Pod, "pod");
        let services = || all("/api/v1", "services", Role::Service, "service");
        let own = match config.role {
            Role::Node => vec![start("/api/v1/nodes".to_owned(), Role::Node, "node")],
            Role::Pod => pods(),
            Role::Service => services(),
            Role::Endpoints => all("/api/v1", "endpoints", Role::Endpoints, "endpoints"),
            Role::EndpointSlice => {
                all("/apis/discovery.k8s.io/v1", "endpointslices", Role::EndpointSlice, "endpointslice")
            }
            Role::Ingress => all("/apis/networking.k8s.io/v1", "ingresses", Role::Ingress, "ingress"),
        };
        let of_endpoints = matches!(config.role, Role::Endpoints | Role::EndpointSlice);
        let attach = config.attach_metadata.as_ref();
        let is_attached =
            |wanted: fn(&promontory_config::discovery::AttachMetadata) -> bool| attach.is_some_and(wanted);
        Self {
            own,
            pods: if of_endpoints { pods() } else { Vec::new() },
            services: if of_endpoints { services() } else { Vec::new() },
            nodes: is_attached(|a| a.node).then(|| start("/api/v1/nodes".to_owned(), Role::Node, "node")),
            namespaces: is_attached(|a| a.namespace).then(|| unselected("/api/v1/namespaces".to_owned(), "namespace")),
            replica_sets: is_attached(|a| a.deployment).then(|| {
                paths("/apis/apps/v1", "replicasets").into_iter().map(|path| unselected(path, "replicaset")).collect()
            }),
            jobs: is_attached(|a| a.cronjob)
                .then(|| paths("/apis/batch/v1", "jobs").into_iter().map(|path| unselected(path, "job")).collect()),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Watch>> {
        let lists =
            [Some(&self.own), Some(&self.pods), Some(&self.services), self.replica_sets.as_ref(), self.jobs.as_ref()];
        lists.into_iter().flatten().flatten().chain(&self.nodes).chain(&self.namespaces)
    }

    /// All objects, once every watch has listed its own; and what is wrong with any of them.
    fn known(&self, config: &KubernetesSdConfig) -> (Option<Known>, Option<String>) {
        let mut error = None;
        let mut is_complete = true;
        let mut of = |watch: &Arc<Watch>| -> Objects {
            let (objects, wrong) = watch.objects();
            error = error.take().or(wrong);
            is_complete &= objects.is_some();
            objects.unwrap_or_default()
        };
        let mut each = |watches: &[Arc<Watch>]| watches.iter().map(&mut of).collect::<Vec<_>>();
        let known = Known {
            own: each(&self.own),
            pods: each(&self.pods),
            services: each(&self.services),
            nodes: self.nodes.as_ref().map(|n| each(std::slice::from_ref(n)).remove(0)),
            namespaces: self.namespaces.as_ref().map(|n| each(std::slice::from_ref(n)).remove(0)),
            replica_sets: self.replica_sets.as_ref().map(|r| each(r)),
            jobs: self.jobs.as_ref().map(|j| each(j)),
            attach_job: config.attach_metadata.as_ref().is_some_and(|a| a.job),
            is_node_selected: config.selectors.iter().any(|s| s.role == Role::Node),
        };
        (is_complete.then_some(known), error)
    }
}

#[cfg(test)]
mod tests;
