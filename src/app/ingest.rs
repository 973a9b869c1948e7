//! What the ways in for samples need of flags, and what they tell of themselves.

use std::sync::Arc;

use promontory_model::MetricType;

use super::AppError;
use crate::cli::ServeArgs;
use crate::ingest::{DeltaMode, Ingest, IngestOptions, REPEAT_MS};
use crate::telemetry::{Figures, Labelled};

pub(super) const ADD_UP: &str = "otlp-deltatocumulative";
pub(super) const KEEP: &str = "otlp-native-delta-ingestion";
pub(super) const ZERO_STARTS: &str = "created-timestamp-zero-ingestion";
pub(super) const SEARCH: &str = "search-api";

/// Whether `--enable-feature` has this name.
pub(super) fn has_feature(args: &ServeArgs, name: &str) -> bool {
    args.enable_feature.iter().any(|f| f == name)
}

pub(super) fn options(args: &ServeArgs) -> Result<IngestOptions, AppError> {
    let has = |name: &str| has_feature(args, name);
    for name in args.enable_feature.iter().filter(|n| ![ADD_UP, KEEP, ZERO_STARTS, SEARCH].contains(&n.as_str())) {
        tracing::warn!(name, "--enable-feature: unknown, or always on here; ignored");
    }
    let delta = match (has(ADD_UP), has(KEEP)) {
        (true, true) => {
            let reason = format!("{ADD_UP} and {KEEP} cannot be set together");
            return Err(AppError::Flag { flag: "enable-feature", reason });
        }
        (true, false) => DeltaMode::AddUp,
        (false, true) => DeltaMode::Keep,
        (false, false) => DeltaMode::Refuse,
    };
    Ok(IngestOptions {
        enable_otlp: args.enable_otlp_receiver,
        enable_influx: args.enable_influx_receiver,
        enable_push: args.enable_push,
        enable_import: args.enable_admin_api,
        push_ttl_ms: args.push_ttl.ms(),
        delta,
        zero_starts: has(ZERO_STARTS),
        lookback_ms: args.lookback_delta.ms(),
    })
}

/// Writes pushed metrics again and again until the server stops.
pub(super) async fn repeat_pushed(ingest: Arc<Ingest>) {
    let every = std::time::Duration::from_millis(REPEAT_MS.unsigned_abs());
    loop {
        let ingest = ingest.clone();
        // What ends badly is tried again with the next round.
        let _ = tokio::task::spawn_blocking(move || ingest.repeat_pushed()).await;
        tokio::time::sleep(every).await;
    }
}

/// Samples by the protocol that brought them, and pushed groups.
pub(super) fn figures(ingest: &Ingest) -> Vec<Figures> {
    let values = |pick: fn(u64, u64) -> u64| {
        let labelled = |(protocol, accepted, refused): (crate::ingest::Protocol, u64, u64)| Labelled {
            suffix: "",
            labels: vec![("protocol", protocol.as_str().to_owned())],
            value: pick(accepted, refused) as f64,
        };
        ingest.totals().into_iter().map(labelled).collect()
    };
    let (groups, series) = ingest.pushed_counts();
    vec![
        Figures {
            name: "promontory_ingest_samples_total",
            help: "Samples that were stored, by the protocol that brought them",
            kind: MetricType::Counter,
            values: values(|accepted, _| accepted),
        },
        Figures {
            name: "promontory_ingest_samples_refused_total",
            help: "Samples that were not stored, by the protocol that brought them",
            kind: MetricType::Counter,
            values: values(|_, refused| refused),
        },
        Figures::gauge("promontory_push_groups", "Groups of pushed metrics that are held", groups as f64),
        Figures::gauge("promontory_push_series", "Series of pushed metrics that are held", series as f64),
    ]
}
