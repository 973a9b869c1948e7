//! How the API server of a cluster is reached: as configured, as a kubeconfig file says, or from inside the cluster.

use std::path::{Path, PathBuf};

use promontory_config::discovery::KubernetesSdConfig;
use promontory_config::http_client::{Auth, HttpClientConfig, Source};
use promontory_config::kubeconfig;

use crate::client::Url;
use crate::discovery::api::url;
use crate::discovery::error::SdError;

/// What a pod is given about its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A way to an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) base: Url,
    pub(super) http: HttpClientConfig,
    /// Namespace of this server where it runs inside of the cluster.
    pub(super) own_namespace: Option<String>,
}

impl Cluster {
    /// The cluster that `config` means; `env` tells variables of the environment.
    pub(super) fn of(config: &KubernetesSdConfig, env: impl Fn(&str) -> Option<String>) -> Result<Self, SdError> {
        let own_namespace = read(&Path::new(SERVICE_ACCOUNT).join("namespace")).ok().map(|n| n.trim().to_owned());
        if let Some(file) = &config.kubeconfig_file {
            let text = read(file)?;
            let access = kubeconfig::parse(&text, file).map_err(|e| SdError::File {
                op: "understand",
                path: file.clone(),
                reason: e.to_string(),
            })?;
            let http = HttpClientConfig { auth: access.auth, tls: access.tls, ..config.http.clone() };
            return Ok(Self { base: url(&access.server)?, http, own_namespace: access.namespace.or(own_namespace) });
        }
        if !config.api_server.is_empty() {
            return Ok(Self { base: url(&config.api_server)?, http: config.http.clone(), own_namespace });
        }
        let (Some(host), Some(port)) = (env("KUBERNETES_SERVICE_HOST"), env("KUBERNETES_SERVICE_PORT")) else {
            return Err(SdError::Missing {
                what: "this server does not run inside of a Kubernetes cluster",
                remedy: "set api_server or kubeconfig_file",
            });
        };
        let mut http = config.http.clone();
        let file = |name: &str| PathBuf::from(SERVICE_ACCOUNT).join(name);
        if http.auth == Auth::None {
            http.auth =
                Auth::Authorization { kind: "Bearer".to_owned(), credentials: Some(Source::File(file("token"))) };
        }
        if http.tls.ca.is_none() {
            http.tls.ca = Some(Source::File(file("ca.crt")));
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Ok(Self { base: url(&format!("https://{host}:{port}"))?, http, own_namespace })
    }
}

fn read(path: &Path) -> Result<String, SdError> {
    let failed = |e: std::io::Error| SdError::File { op: "read", path: path.to_owned(), reason: e.to_string() };
    std::fs::read_to_string(path).map_err(failed)
}
