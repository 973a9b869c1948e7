//! What the HTTP API asks of the server: translates between the parts' own types.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use promontory_config::Discovery;
use promontory_config::relabel::{self, RelabelConfig};
use promontory_config::scrape::ScrapeConfig;
use promontory_model::{Labels, Matcher, MetricMetadata, MetricType, TimeRange};
use promontory_promql::cache::CacheStats;
use promontory_promql::engine::EngineOptions;
use promontory_storage::block::BlockMeta;
use serde_json::Value;

use super::{Shared, self_metrics, visible};
use crate::cli;
use crate::http::{
    ActiveTarget, Backend, BlockInfo, BuildInfo, DroppedTarget, Exemplar, Features, Health, Notification, QueryCost,
    Readiness, RelabelStep, RuntimeInfo, SeriesExemplars, TargetMetadata, Targets, TsdbStatus,
};
use crate::listener::ConnectionCounts;
use crate::scrape;
use crate::telemetry::{Figures, Labelled, QuerySlice};

/// What clients read as Prometheus' version, to decide what they may ask for: that of the API, then our own.
const API_VERSION: &str = concat!("3.14.0+promontory.", env!("CARGO_PKG_VERSION"));

pub(super) struct ServerBackend(pub(super) Arc<Shared>);

impl Backend for ServerBackend {
    fn readiness(&self) -> Readiness {
        if self.0.stopping.load(Ordering::Relaxed) {
            return Readiness::Stopping;
        }
        match self.0.db.read_only() {
            Some(reason) => Readiness::ReadOnly(reason),
            None => Readiness::Ready,
        }
    }

    fn targets(&self) -> Targets {
        let targets = self.0.manager.targets();
        let active = targets.active.into_iter().map(|t| ActiveTarget {
            labels: visible(&t.labels),
            discovered_labels: t.discovered,
            scrape_pool: t.job,
            global_url: t.url.clone(),
            scrape_url: t.url,
            last_error: t.last_error,
            last_scrape_ms: t.last_scrape.map(|at| at.ms()),
            last_scrape_seconds: t.last_scrape_seconds,
            health: match t.health {
                scrape::Health::Up => Health::Up,
                scrape::Health::Down => Health::Down,
                scrape::Health::Unknown => Health::Unknown,
            },
            scrape_interval: t.interval.to_string(),
            scrape_timeout: t.timeout.to_string(),
        });
        let dropped = targets.dropped.into_iter();
        Targets {
            active: active.collect(),
            dropped: dropped.map(|t| DroppedTarget { discovered_labels: t.discovered, scrape_pool: t.job }).collect(),
            dropped_counts: targets.dropped_counts,
        }
    }

    fn scrape_pools(&self) -> Vec<String> {
        let config = self.0.config.load();
        let mut names: Vec<_> = config.scrape_configs.iter().map(|c| c.job_name.clone()).collect();
        names.sort_unstable();
        names
    }

    fn scrape_pool_yaml(&self, pool: &str) -> Option<String> {
        let config = self.0.config.load();
        config.scrape_configs.iter().find(|job| job.job_name == pool).map(ScrapeConfig::to_yaml)
    }

    fn relabel_steps(&self, pool: &str, labels: &Labels) -> Option<Vec<RelabelStep>> {
        let config = self.0.config.load();
        let rules = &config.scrape_configs.iter().find(|job| job.job_name == pool)?.relabel_configs;
        let outputs = relabel::steps(labels, rules);
        Some(rules.iter().zip(outputs).map(|(rule, output)| RelabelStep { rule: rule_json(rule), output }).collect())
    }

    fn targets_metadata(&self) -> Vec<TargetMetadata> {
        let of_target = |t: scrape::TargetMetadata| TargetMetadata {
            labels: visible(&t.labels),
            families: t.families.into_iter().collect(),
        };
        self.0.manager.targets_metadata().into_iter().map(of_target).collect()
    }

    fn external_labels(&self) -> Labels {
        self.0.config.load().global.external_labels.clone()
    }

    fn metadata(&self) -> BTreeMap<String, Vec<MetricMetadata>> {
        // What targets say now goes before what they said.
        let mut all = self.0.db.metadata();
        all.extend(self.0.manager.metadata());
        all
    }

    fn exemplars(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Vec<SeriesExemplars> {
        let shown =
            |e: promontory_storage::Exemplar| Exemplar { labels: e.labels, value: e.value, t_ms: e.timestamp.0 };
        let of_series = |s: promontory_storage::SeriesExemplars| SeriesExemplars {
            labels: s.labels,
            exemplars: s.exemplars.into_iter().map(shown).collect(),
        };
        self.0.db.exemplars(selectors, range).into_iter().map(of_series).collect()
    }

    fn config_yaml(&self) -> String {
        self.0.config.load().to_yaml()
    }

    fn flags(&self) -> BTreeMap<String, String> {
        cli::flag_values(&self.0.args)
    }

    fn build_info(&self) -> BuildInfo {
        BuildInfo {
            version: API_VERSION.to_owned(),
            compiler: format!("rust {}", env!("CARGO_PKG_RUST_VERSION")),
            ..BuildInfo::default()
        }
    }

    fn runtime_info(&self) -> RuntimeInfo {
        let status = self.0.db.status();
        RuntimeInfo {
            start_ms: self.0.start_ms,
            cwd: std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default(),
            hostname: host_name(),
            reload_config_success: !self.0.config_failed.load(Ordering::Relaxed),
            last_config_ms: self.0.config_loaded_ms.load(Ordering::Relaxed),
            wal_segment: status.wal_segment,
            corruption_count: status.start.wal_corruptions,
            task_count: self.0.runtime.metrics().num_alive_tasks() as u64,
            parallelism: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory_limit_bytes: self.0.args.query_max_memory,
            storage_retention: self.0.retention_text(),
        }
    }

    fn tsdb(&self, limit: usize) -> TsdbStatus {
        let c = self.0.db.cardinality(limit);
        let list = |counts: Vec<promontory_storage::Count>| counts.into_iter().map(|c| (c.name, c.value)).collect();
        TsdbStatus {
            num_series: c.series,
            num_label_pairs: c.label_pairs,
            chunk_count: c.chunks,
            min_time_ms: c.min_time.unwrap_or(0),
            max_time_ms: c.max_time.unwrap_or(0),
            series_by_metric: list(c.series_by_metric),
            values_by_label: list(c.values_by_label),
            bytes_by_label: list(c.bytes_by_label),
            series_by_pair: list(c.series_by_pair),
        }
    }

    fn blocks(&self) -> Vec<BlockInfo> {
        let info = |b: BlockMeta| BlockInfo {
            ulid: b.ulid.to_string(),
            min_ms: b.range.mint.0,
            max_ms: b.range.maxt.0,
            samples: b.n_samples,
            series: b.n_series,
            chunks: b.n_mini_blocks,
            level: b.level.into(),
            sources: b.sources.iter().map(ToString::to_string).collect(),
        };
        self.0.db.block_metas().into_iter().map(info).collect()
    }

    fn self_metrics(&self) -> Vec<(String, Value)> {
        self_metrics::families(&self.0.telemetry.render("").1)
    }

    fn features(&self) -> Features {
        let args = &self.0.args;
        let of = |pairs: &[(&str, bool)]| pairs.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect();
        let has = |name: &str| args.enable_feature.iter().any(|f| f == name);
        let mechanisms = Discovery::MECHANISMS.iter().map(|name| ((*name).to_owned(), true));
        Features::from([
            (
                "api",
                of(&[
                    ("import", args.enable_admin_api),
                    ("influx_receiver", args.enable_influx_receiver),
                    ("otlp_write_receiver", args.enable_otlp_receiver),
                    ("push", args.enable_push),
                    ("remote_write_receiver", args.enable_remote_write_receiver),
                ]),
            ),
            (
                "otlp_receiver",
                of(&[
                    ("delta_conversion", has(super::ingest::ADD_UP)),
                    ("native_delta_ingestion", has(super::ingest::KEEP)),
                ]),
            ),
            (
                "prometheus",
                of(&[("agent_mode", false), ("auto_reload_config", args.config_auto_reload), ("server_mode", true)]),
            ),
            (
                "scrape",
                of(&[
                    ("extra_scrape_metrics", true),
                    ("start_timestamp_zero_ingestion", has(super::ingest::ZERO_STARTS)),
                ]),
            ),
            ("service_discovery_providers", mechanisms.collect()),
            ("tsdb", of(&[("exemplar_storage", true), ("isolation", true), ("native_histograms", true)])),
            ("ui", of(&[("dashboards", true)])),
        ])
    }

    fn notifications(&self) -> Vec<Notification> {
        let shared = &self.0;
        let now_ms = shared.clock.now().ms();
        let mut since = shared.notified.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = [
            shared.config_failed.load(Ordering::Relaxed).then(|| "Configuration reload has failed.".to_owned()),
            shared.db.read_only().map(|reason| format!("Storage is read-only: {reason}")),
        ];
        let texts: Vec<String> = texts.into_iter().flatten().collect();
        since.retain(|text, _| texts.contains(text));
        let of = |text: String| Notification { since_ms: *since.entry(text.clone()).or_insert(now_ms), text };
        texts.into_iter().map(of).collect()
    }

    fn reload(&self) -> Result<(), String> {
        self.0.reload().map_err(|errors| errors.to_string())
    }

    fn quit(&self) -> bool {
        self.0.quit()
    }

    fn engine_options(&self) -> EngineOptions {
        self.0.engine_options()
    }

    fn federated(&self, has_failed: bool, n_warnings: usize) {
        let meter = &self.0.telemetry.federation;
        meter.errors.inc_by(u64::from(has_failed));
        meter.warnings.inc_by(n_warnings as u64);
    }

    fn query_began(&self) {
        self.0.telemetry.queries.active.inc();
    }

    fn query_ended(&self, cost: QueryCost) {
        let queries = &self.0.telemetry.queries;
        queries.active.dec();
        queries.samples.inc_by(cost.samples_read);
        queries.observe(QuerySlice::QueueTime, cost.queue_seconds);
        queries.observe(QuerySlice::InnerEval, cost.run_seconds);
    }

    fn logs_queries(&self) -> bool {
        self.0.query_log.load().is_some()
    }

    fn log_query(&self, line: &serde_json::Value) {
        if let Some(log) = &*self.0.query_log.load()
            && !log.write(line)
        {
            self.0.telemetry.queries.log_failures.inc();
        }
    }

    fn metrics(&self, accept: &str) -> (&'static str, String) {
        self.0.telemetry.render(accept)
    }
}

/// A relabelling rule as Prometheus' API shows it.
fn rule_json(rule: &RelabelConfig) -> Value {
    let mut fields = serde_json::Map::new();
    if !rule.source_labels.is_empty() {
        fields.insert("sourceLabels".to_owned(), rule.source_labels.clone().into());
    }
    let texts = [
        ("separator", rule.separator.as_str()),
        ("regex", rule.regex.pattern()),
        ("targetLabel", &rule.target_label),
        ("replacement", &rule.replacement),
        ("action", rule.action.as_str()),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        fields.insert(name.to_owned(), text.into());
    }
    if rule.modulus > 0 {
        fields.insert("modulus".to_owned(), rule.modulus.into());
    }
    Value::Object(fields)
}

/// Figures of the cache of range queries.
pub(super) fn cache_figures(stats: CacheStats) -> Vec<Figures> {
    let outcomes = [("hit", stats.hits), ("miss", stats.misses), ("uncacheable", stats.passed)];
    let labelled = |(outcome, n): (&str, u64)| Labelled {
        suffix: "",
        labels: vec![("outcome", outcome.to_owned())],
        value: n as f64,
    };
    vec![
        Figures {
            name: "promontory_query_result_cache_queries_total",
            help: "Range queries by what the cache of answers had for them",
            kind: MetricType::Counter,
            values: outcomes.into_iter().map(labelled).collect(),
        },
        Figures::counter(
            "promontory_query_result_cache_reused_steps_total",
            "Steps that were taken from kept answers",
            stats.steps_reused as f64,
        ),
        Figures::gauge("promontory_query_result_cache_bytes", "Bytes of kept answers", stats.bytes as f64),
        Figures::gauge("promontory_query_result_cache_entries", "Kept answers", stats.answers as f64),
    ]
}

/// Figures of connections.
pub(super) fn connection_figures(counts: &ConnectionCounts) -> Vec<Figures> {
    vec![
        Figures::gauge("promontory_connections", "Connections that are open", counts.open as f64),
        Figures::counter(
            "promontory_connections_refused_total",
            "Connections that were refused because there were web.max-connections of them",
            counts.refused as f64,
        ),
        Figures::counter(
            "promontory_connections_evicted_total",
            "Connections on which nothing happened and that were closed to make room for others",
            counts.evicted as f64,
        ),
    ]
}

/// The scraper's figures as the registry takes them.
pub(super) fn scrape_figures(manager: &scrape::Manager) -> Vec<Figures> {
    let labelled = |s: scrape::own_metrics::Sample| Labelled { suffix: s.suffix, labels: s.labels, value: s.value };
    let families = manager.families().into_iter();
    families
        .map(|f| Figures {
            name: f.name,
            help: f.help,
            kind: f.kind,
            values: f.samples.into_iter().map(labelled).collect(),
        })
        .collect()
}

/// Name of the machine, or empty where the system does not tell.
pub(super) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|n| n.trim().to_owned()).unwrap_or_default()
}
