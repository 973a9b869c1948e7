//! The database's figures under Prometheus' names.

use promontory_model::MetricType;
use promontory_storage::{DbStatus, Timed};

use super::figures::{Figures, Labelled};

/// How often something was done and how long all took; there are no quantiles.
fn summary(name: &'static str, help: &'static str, timed: Timed) -> Figures {
    let value = |suffix, value| Labelled { suffix, labels: Vec::new(), value };
    let values = vec![value("_sum", timed.ns as f64 / 1e9), value("_count", timed.n as f64)];
    Figures { name, help, kind: MetricType::Summary, values }
}

/// The figures of a database, read from its status at the time of the scrape.
#[must_use]
pub fn storage_figures(status: &DbStatus) -> Vec<Figures> {
    let s = status;
    let gauge = |name, help, value: u64| Figures::gauge(name, help, value as f64);
    let counter = |name, help, value: u64| Figures::counter(name, help, value as f64);
    let mut figures = vec![
        gauge("prometheus_tsdb_head_series", "Series in the head", s.head_series),
        gauge("promontory_tsdb_head_groups", "Groups of series that share timestamps, in the head", s.head_groups),
        gauge("prometheus_tsdb_head_chunks", "Sealed columns in the head", s.head_chunks),
        gauge("prometheus_tsdb_head_chunks_storage_size_bytes", "Size of the head's segments", s.head_segment_bytes),
        counter("prometheus_tsdb_head_samples_appended", "Samples stored", s.samples_appended)
            .with_label("type", "float"),
        counter(
            "prometheus_tsdb_head_out_of_order_samples_appended",
            "Samples stored out of order",
            s.out_of_order_appended,
        )
        .with_label("type", "float"),
        counter("prometheus_tsdb_head_series_created", "Series created in the head", s.series_created),
        counter("prometheus_tsdb_head_series_removed", "Series dropped from the head", s.series_removed),
        counter("prometheus_tsdb_head_truncations", "Truncations of the head", s.truncations.n),
        summary("prometheus_tsdb_head_gc_duration_seconds", "Time spent in truncations of the head", s.truncations),
        counter("prometheus_tsdb_out_of_order_samples", "Samples refused as out of order", s.out_of_order)
            .with_label("type", "float"),
        counter("prometheus_tsdb_out_of_bound_samples", "Samples refused as out of bounds", s.out_of_bounds)
            .with_label("type", "float"),
        counter("prometheus_tsdb_too_old_samples", "Samples refused as too old", s.too_old).with_label("type", "float"),
        counter("promontory_tsdb_duplicate_samples", "Samples refused as duplicates with another value", s.duplicates),
        counter("prometheus_tsdb_exemplar_exemplars_appended", "Exemplars kept", s.exemplars.appended),
        gauge("prometheus_tsdb_exemplar_exemplars_in_storage", "Exemplars that are kept", s.exemplars.kept),
        gauge("prometheus_tsdb_exemplar_max_exemplars", "Exemplars that are kept at most", s.exemplars.max),
        counter(
            "prometheus_tsdb_exemplar_out_of_order_exemplars",
            "Exemplars refused as older than the newest of their series",
            s.exemplars.out_of_order,
        ),
        gauge(
            "prometheus_tsdb_exemplar_series_with_exemplars_in_storage",
            "Series of the exemplars that are kept",
            s.exemplars.series,
        ),
        Figures::gauge(
            "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds",
            "Time of the newest exemplar",
            s.exemplars.newest.unwrap_or(0) as f64 / 1000.0,
        ),
        gauge("promontory_tsdb_exemplar_bytes", "Memory that exemplars take", s.exemplars.bytes),
        gauge("prometheus_tsdb_symbol_table_size_bytes", "Size of the interned strings", s.symbol_bytes),
        gauge("prometheus_tsdb_wal_storage_size_bytes", "Size of the write-ahead log", s.wal_bytes),
        gauge("prometheus_tsdb_wal_segment_current", "Number of the segment that is written", s.wal_segment),
        counter("promontory_tsdb_wal_written_bytes", "Bytes written to the write-ahead log", s.wal_written_bytes),
        Figures::gauge(
            "promontory_tsdb_wal_bytes_per_sample",
            "Bytes of the write-ahead log that a sample took since the start",
            s.wal_bytes_per_sample(),
        ),
        summary(
            "prometheus_tsdb_wal_fsync_duration_seconds",
            "Time spent in syncs of the write-ahead log",
            Timed { n: s.wal_fsyncs, ns: s.wal_fsync_ns },
        ),
        counter(
            "prometheus_tsdb_wal_corruptions",
            "Damaged places found in the write-ahead log",
            s.start.wal_corruptions,
        ),
        counter(
            "prometheus_tsdb_mmap_chunk_corruptions",
            "Damaged places found in the head's files",
            s.start.head_corruptions,
        ),
        Figures::gauge(
            "prometheus_tsdb_data_replay_duration_seconds",
            "Time that opening the database took",
            s.start.ns as f64 / 1e9,
        ),
        gauge(
            "prometheus_tsdb_clean_start",
            "Whether the database had been closed before it was opened",
            s.start.is_clean.into(),
        ),
        counter("prometheus_tsdb_wal_writes_failed", "Failed writes and syncs of the write-ahead log", s.wal_failures),
        counter("prometheus_tsdb_checkpoint_creations", "Checkpoints begun", s.checkpoints + s.checkpoints_failed),
        counter("prometheus_tsdb_checkpoint_creations_failed", "Checkpoints that failed", s.checkpoints_failed),
        // What a checkpoint names is what the log need not keep.
        counter(
            "prometheus_tsdb_wal_truncations",
            "Removals of what the write-ahead log need not keep, begun",
            s.checkpoints + s.checkpoints_failed,
        ),
        counter(
            "prometheus_tsdb_wal_truncations_failed",
            "Removals of what the write-ahead log need not keep that failed",
            s.checkpoints_failed,
        ),
        counter("prometheus_tsdb_reloads", "Searches for blocks in the data folder", s.searches),
        counter(
            "prometheus_tsdb_reloads_failures",
            "Searches for blocks that failed or found one that cannot be read",
            s.searches_failed,
        ),
        gauge("prometheus_tsdb_blocks_loaded", "Blocks that answer queries", s.blocks_loaded),
        gauge("prometheus_tsdb_storage_blocks_bytes", "Size of the blocks", s.blocks_bytes),
        counter("prometheus_tsdb_compactions", "Blocks cut and merged", s.compactions),
        counter(
            "prometheus_tsdb_compactions_triggered",
            "Cuts and merges of blocks that were due",
            s.compactions + s.compactions_failed,
        ),
        counter("prometheus_tsdb_vertical_compactions", "Merges of blocks that share times", s.merging.overlapping),
        counter("prometheus_tsdb_compactions_failed", "Cuts and merges that failed", s.compactions_failed),
        gauge(
            "prometheus_tsdb_compaction_populating_block",
            "Whether blocks are being merged",
            s.merging.is_running.into(),
        ),
        gauge(
            "promontory_tsdb_compaction_work_bytes",
            "Bytes that the running merge reads, writes and checks",
            s.merging.total_bytes,
        ),
        gauge(
            "promontory_tsdb_compaction_done_bytes",
            "Those of them that the running merge has behind it",
            s.merging.done_bytes,
        ),
        counter("promontory_tsdb_compaction_read_bytes", "Size of all merged blocks", s.merging.read_bytes),
        counter("promontory_tsdb_compaction_written_bytes", "Size of all outputs of merges", s.merging.written_bytes),
        summary(
            "prometheus_tsdb_compaction_duration_seconds",
            "Time spent merging blocks",
            Timed { n: s.merging.merges + s.merging.failures, ns: s.merging.duration_ns },
        ),
        summary("prometheus_tsdb_tombstone_cleanup_seconds", "Time spent cleaning tombstones", s.cleanings),
        counter("prometheus_tsdb_time_retentions", "Blocks removed by age", s.time_retentions),
        counter("prometheus_tsdb_size_retentions", "Blocks removed by size", s.size_retentions),
        Figures::gauge(
            "prometheus_tsdb_retention_limit_seconds",
            "How long samples are kept, 0 for ever",
            s.retention_ms.unwrap_or(0) as f64 / 1e3,
        ),
        gauge(
            "prometheus_tsdb_retention_limit_bytes",
            "How many bytes are kept, 0 without limit",
            s.retention_bytes.unwrap_or(0),
        ),
        Figures::gauge(
            "prometheus_tsdb_retention_limit_percentage",
            "How much of the file system is kept, 0 without limit",
            s.retention_percent.unwrap_or(0.0),
        ),
        gauge("promontory_tsdb_read_only", "Whether the database refuses to write", s.read_only.is_some().into()),
    ];
    let times = [
        (
            "prometheus_tsdb_head_min_time",
            "prometheus_tsdb_head_min_time_seconds",
            "Oldest sample of the head",
            s.head_min_time,
        ),
        (
            "prometheus_tsdb_head_max_time",
            "prometheus_tsdb_head_max_time_seconds",
            "Newest sample of the head",
            s.head_max_time,
        ),
        (
            "prometheus_tsdb_lowest_timestamp",
            "prometheus_tsdb_lowest_timestamp_seconds",
            "Oldest sample",
            s.lowest_timestamp,
        ),
    ];
    let part = |(part, bytes): (&str, u64)| Labelled {
        suffix: "",
        labels: vec![("part", part.to_owned())],
        value: bytes as f64,
    };
    figures.push(Figures {
        name: "promontory_head_bytes",
        help: "Memory of the head",
        kind: MetricType::Gauge,
        values: s.head_memory.parts().map(part).to_vec(),
    });
    for (name, name_seconds, help, time) in times {
        let Some(time) = time else { continue };
        figures.push(Figures::gauge(name, help, time as f64));
        figures.push(Figures::gauge(name_seconds, help, time as f64 / 1e3));
    }
    figures
}
