//! `kubernetes_sd_configs`: which objects of which cluster.

use std::path::PathBuf;

use super::settings::{check_url, choice, require_role, settings};
use crate::decode::Fields;
use crate::http_client::{Auth, HttpClientConfig, TlsConfig};

settings! {
    /// Objects of a cluster.
    KubernetesSdConfig {
        /// URL of the API server; empty is that of the cluster in which this server runs.
        api_server: String = String::new(),
        /// What becomes a target.
        role: KubernetesRole = KubernetesRole::Pod,
        /// A file that says how the API server is reached.
        kubeconfig_file: Option<PathBuf> = None,
        /// Where to look; absent is everywhere.
        namespaces: Option<KubernetesNamespaces> = None,
        /// Which objects are wanted; absent is all.
        selectors: Vec<KubernetesSelector> = Vec::new(),
        /// What else is shown of a target's surroundings.
        attach_metadata: Option<AttachMetadata> = None,
        /// How the API server is asked.
        http: HttpClientConfig = HttpClientConfig::default(),
    } check |c, fields| {
        require_role(fields);
        check_url(fields, "api_server", &c.api_server);
        let is_own_client = c.http != HttpClientConfig::default();
        match (&c.kubeconfig_file, c.api_server.is_empty()) {
            (Some(_), false) => fields.map().rule("cannot use kubeconfig_file and api_server simultaneously"),
            (Some(_), true) if is_own_client => {
                fields.map().rule("cannot use a custom HTTP client configuration together with kubeconfig_file");
            }
            (None, true) if c.http.tls != TlsConfig::default() || c.http.auth != Auth::None => {
                fields.map().rule("to use a custom HTTP client configuration the api_server URL must be given");
            }
            _ => {}
        }
        c.check_selectors(fields);
    }
}

impl KubernetesSdConfig {
    /// Label and field selector of objects of `role`; empty is all.
    #[must_use]
    pub fn selectors_of(&self, role: KubernetesRole) -> (String, String) {
        let of = self.selectors.iter().find(|s| s.role == role);
        of.map(|s| (s.label.clone(), s.field.clone())).unwrap_or_default()
    }

    fn check_selectors(&self, fields: &Fields<'_>) {
        let attaches_node = self.attach_metadata.as_ref().is_some_and(|a| a.node);
        let is_allowed = |role: KubernetesRole| {
            use KubernetesRole::{EndpointSlice, Endpoints, Node, Pod, Service};
            role == self.role
                || (role == Node && attaches_node && matches!(self.role, Pod | Endpoints | EndpointSlice))
                || (matches!(role, Pod | Service) && matches!(self.role, Endpoints | EndpointSlice))
        };
        let mut seen = Vec::new();
        for (selector, field) in self.selectors.iter().zip(fields.list("selectors")) {
            if seen.contains(&selector.role) {
                field.rule(format!("duplicated selector role: {}", selector.role.as_str()));
            }
            seen.push(selector.role);
            if !is_allowed(selector.role) {
                let (own, other) = (self.role.as_str(), selector.role.as_str());
                field.rule(format!("{own} role does not support selectors of role {other}"));
            }
        }
    }
}

choice! {
    /// Kinds of objects that are targets.
    KubernetesRole {
        /// Nodes.
        Node = "node",
        /// Pods.
        Pod = "pod",
        /// Services.
        Service = "service",
        /// Endpoints.
        Endpoints = "endpoints",
        /// Slices of endpoints.
        EndpointSlice = "endpointslice",
        /// Ingresses.
        Ingress = "ingress",
    }
}

settings! {
    /// Where to look for objects.
    KubernetesNamespaces {
        /// Whether to look in the namespace in which this server runs.
        own_namespace: bool = false,
        /// Namespaces to look in.
        names: Vec<String> = Vec::new(),
    }
}

settings! {
    /// Which objects of a kind are wanted.
    KubernetesSelector {
        /// The kind.
        role: KubernetesRole = KubernetesRole::Pod,
        /// Selector of labels.
        label: String = String::new(),
        /// Selector of fields.
        field: String = String::new(),
    } check |_c, fields| {
        require_role(fields);
    }
}

settings! {
    /// What is shown of a target's surroundings.
    AttachMetadata {
        /// Name, labels and annotations of the node.
        node: bool = false,
        /// Labels and annotations of the namespace.
        namespace: bool = false,
        /// Name of the deployment that a pod belongs to.
        deployment: bool = false,
        /// Name of the job that a pod belongs to.
        job: bool = false,
        /// Name of the cron job that a pod belongs to.
        cronjob: bool = false,
    }
}
