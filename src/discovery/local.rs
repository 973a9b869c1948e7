//! `local_sd_configs`: exporters that run on this machine, found by asking the ports that they are known to use.
//!
//! A port is a target when its page has metrics of a known exporter, which then names the job. A target that no longer
//! answers stays for [`LOOKS_KEPT`] looks, so that its `up` is seen to be 0, and is then forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use promontory_config::TargetGroup;
use promontory_config::discovery::{LocalExporter, LocalSdConfig};
use promontory_config::http_client::HttpClientConfig;

use super::api::url;
use super::error::SdError;
use super::meta::{Meta, join};
use super::provider::{Refresh, Surroundings};
use crate::client::{Call, Client, JobClient, Offer};

/// Looks after which a target that does not answer any more is forgotten.
const LOOKS_KEPT: u32 = 20;
/// Time for one page.
const PAGE_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes of one page.
const PAGE_BYTES_MAX: u64 = 16 << 20;
/// Path of pages unless an exporter has another.
const METRICS: &str = "/metrics";

/// What is known of an exporter.
#[derive(Debug, Clone)]
struct Exporter {
    job: String,
    ports: Vec<u16>,
    path: String,
    /// How names of its metrics begin.
    prefixes: Vec<String>,
}

/// Job, ports, path, beginnings of metric names.
type Row = (&'static str, &'static [u16], &'static str, &'static [&'static str]);

/// Exporters known without configuration; `docs/discovery.md` lists them too.
#[rustfmt::skip]
const EXPORTERS: &[Row] = &[
    ("vllm", &[8000], METRICS, &["vllm:"]),
    ("sglang", &[30000], METRICS, &["sglang:", "sglang_"]),
    ("tgi", &[8080, 3000, 80], METRICS, &["tgi_"]),
    ("tei", &[8080, 3000, 80], METRICS, &["te_"]),
    ("triton", &[8002], METRICS, &["nv_inference_"]),
    ("trtllm", &[8000], "/prometheus/metrics", &["trtllm_"]),
    ("llamacpp", &[8080], METRICS, &["llamacpp:"]),
    ("lmdeploy", &[23333], METRICS, &["lmdeploy:"]),
    ("ollama", &[11434], METRICS, &["ollama_"]),
    ("torchserve", &[8082], METRICS, &["ts_inference_"]),
    ("tensorflow-serving", &[8501], "/monitoring/prometheus/metrics", &[":tensorflow:"]),
    ("mlserver", &[8082], METRICS, &["model_infer_request_"]),
    ("bentoml", &[3000], METRICS, &["bentoml_"]),
    ("litellm", &[4000], METRICS, &["litellm_"]),
    ("ray", &[8080, 44217, 44227], METRICS, &["ray_"]),
    ("dcgm", &[9400], METRICS, &["DCGM_FI_"]),
    ("nvidia-smi", &[9835], METRICS, &["nvidia_smi_"]),
    ("node", &[9100], METRICS, &["node_"]),
    ("process", &[9256], METRICS, &["namedprocess_"]),
    ("cadvisor", &[8080], METRICS, &["cadvisor_"]),
    ("qdrant", &[6333], METRICS, &["collections_", "qdrant_"]),
    ("milvus", &[9091], METRICS, &["milvus_"]),
    ("weaviate", &[2112], METRICS, &["weaviate_"]),
];

/// One `local_sd_configs` entry.
#[derive(Debug)]
pub(super) struct Local {
    config: LocalSdConfig,
    exporters: Vec<Exporter>,
    job: JobClient,
    client: Client,
    /// By port and path.
    found: BTreeMap<(u16, String), Found>,
}

#[derive(Debug)]
struct Found {
    job: String,
    n_missed: u32,
}

impl Local {
    pub(super) fn new(config: &LocalSdConfig, surroundings: &Surroundings) -> Self {
        let texts = |all: &[&str]| all.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        let known = EXPORTERS.iter().map(|(job, ports, path, prefixes)| Exporter {
            job: (*job).to_owned(),
            ports: ports.to_vec(),
            path: (*path).to_owned(),
            prefixes: texts(prefixes),
        });
        let own = config.exporters.iter().map(|e: &LocalExporter| Exporter {
            job: e.job.clone(),
            ports: e.ports.clone(),
            path: e.path.clone(),
            prefixes: vec![e.prefix.clone()],
        });
        let is_wanted = |e: &Exporter| config.jobs.is_empty() || config.jobs.contains(&e.job);
        let exporters = own.chain(known.filter(is_wanted)).collect();
        let offer = Offer { accept: "text/plain".to_owned(), gzip: true, body_bytes_max: Some(PAGE_BYTES_MAX) };
        let http = HttpClientConfig { follow_redirects: false, ..HttpClientConfig::default() };
        let job = JobClient::new(http, offer, surroundings.connector.clone());
        Self { config: config.clone(), exporters, job, client: Client::new(), found: BTreeMap::new() }
    }

    /// Which exporter answers at `port` and `path`, if any.
    async fn look(&mut self, port: u16, path: &str) -> Option<String> {
        let call = Call::get(url(&format!("http://{}{path}", join(&self.config.host, port))).ok()?);
        let mut page = Vec::new();
        self.client.fetch(&self.job, &call, PAGE_TIME_MAX, &mut page).await.ok()?;
        recognise(&self.exporters, &page).map(|exporter| exporter.job.clone())
    }

    fn targets(&self) -> Vec<TargetGroup> {
        let target = |((port, path), found): (&(u16, String), &Found)| {
            let mut meta = Meta::new("__meta_local_");
            meta.set("exporter", &found.job).set("port", port.to_string()).set_whole("job", &found.job);
            if path != METRICS {
                meta.set_whole("__metrics_path__", path);
            }
            meta.target(join(&self.config.host, port))
        };
        self.found.iter().map(target).collect()
    }
}

impl Refresh for Local {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, SdError> {
        let mut asked: Vec<(u16, String)> =
            self.exporters.iter().flat_map(|e| e.ports.iter().map(|port| (*port, e.path.clone()))).collect();
        asked.sort();
        asked.dedup();
        for (port, path) in asked {
            match self.look(port, &path).await {
                Some(job) => drop(self.found.insert((port, path), Found { job, n_missed: 0 })),
                None => {
                    if let Some(found) = self.found.get_mut(&(port, path)) {
                        found.n_missed += 1;
                    }
                }
            }
        }
        self.found.retain(|_, found| found.n_missed <= LOOKS_KEPT);
        Ok(self.targets())
    }
}

/// The exporter that most lines of `page` belong to.
fn recognise<'a>(exporters: &'a [Exporter], page: &[u8]) -> Option<&'a Exporter> {
    let mut counts = vec![0_u32; exporters.len()];
    for line in page.split(|b| *b == b'\n').filter(|line| line.first().is_some_and(|b| *b != b'#')) {
        for (count, exporter) in counts.iter_mut().zip(exporters) {
            *count += u32::from(exporter.prefixes.iter().any(|prefix| line.starts_with(prefix.as_bytes())));
        }
    }
    let best = (0..exporters.len()).rev().max_by_key(|i| counts[*i])?;
    (counts[best] > 0).then(|| &exporters[best])
}

#[cfg(test)]
mod tests {
    use crate::client::testing::{Action, answer, exposition};
    use crate::discovery::testing::Lab;

    const VLLM: &str =
        "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1\nprocess_cpu_seconds_total 2\n";

    #[tokio::test(start_paused = true)]
    async fn exporters_are_known_by_their_metrics() {
        let mut lab = Lab::new(
            "local_sd_configs: [{refresh_interval: 10s, exporters: [{job: mine, ports: [7000], path: /m, prefix: my_}]}]",
        );
        lab.network.serve("127.0.0.1:8000", |head| match head.starts_with("GET /metrics ") {
            true => vec![exposition(VLLM)],
            false => vec![answer("404 Not Found", "", b"")],
        });
        // Another exporter than the port is known for, a page of something else, one that never answers.
        lab.network.serve("127.0.0.1:8080", |_| vec![exposition("node_load1 1\nnode_load5 1\nvllm:x 1\n")]);
        lab.network.serve("127.0.0.1:3000", |_| vec![answer("200 OK", "Content-Type: text/html\r\n", b"<html>\n")]);
        lab.network.serve("127.0.0.1:9400", |_| vec![Action::Hang]);
        lab.network.serve("127.0.0.1:7000", |head| {
            assert!(head.starts_with("GET /m "), "{head}");
            vec![exposition("my_x 1\n")]
        });
        let found = [
            r#"127.0.0.1:7000 {__meta_local_exporter="mine", __meta_local_port="7000", __metrics_path__="/m", job="mine"}"#,
            r#"127.0.0.1:8000 {__meta_local_exporter="vllm", __meta_local_port="8000", job="vllm"}"#,
            r#"127.0.0.1:8080 {__meta_local_exporter="node", __meta_local_port="8080", job="node"}"#,
        ];
        lab.check(5, &found).await;
        // What ends stays for a while.
        for port in [7000, 8080] {
            lab.network.serve(&format!("127.0.0.1:{port}"), |_| vec![Action::Close]);
        }
        lab.check(120, &found).await;
        lab.check(300, &found[1..2]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn only_wanted_jobs_are_looked_for() {
        let mut lab = Lab::new("local_sd_configs: [{jobs: [dcgm], host: localhost}]");
        lab.network.serve("localhost:8000", |_| panic!("not asked for"));
        lab.network.serve("localhost:9400", |_| vec![exposition("DCGM_FI_DEV_GPU_TEMP{gpu=\"0\"} 40\n")]);
        lab.check(1, &[r#"localhost:9400 {__meta_local_exporter="dcgm", __meta_local_port="9400", job="dcgm"}"#]).await;
    }
}
