//! `storage`: what of the TSDB can change while the server runs.

use promontory_model::Duration;

use crate::Config;
use crate::decode::{Field, Harmless, NotBuilt};

/// The section `storage`; `None` leaves the matter to the flags.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StorageConfig {
    /// How much older than the newest sample of its series a sample may be.
    pub out_of_order_window: Option<Duration>,
    /// How long samples are kept; zero is for ever.
    pub retention_time: Option<Duration>,
    /// How many bytes of blocks are kept; zero is no limit.
    pub retention_bytes: Option<u64>,
    /// How much of the file system is kept, 0 to 100; goes before `retention_bytes`; zero is no limit.
    pub retention_percent: Option<f64>,
    /// How many exemplars are kept; zero keeps none.
    pub exemplars_max: Option<u64>,
}

const TSDB_NOT_BUILT: &[NotBuilt] = &[
    NotBuilt::new("stale_series_compaction_threshold", Harmless::Zero),
    NotBuilt::new("chunk_encoding", Harmless::Empty),
];

pub(crate) fn read(field: &Field<'_>, config: &mut Config) {
    let Some(fields) = field.fields() else { return };
    if let Some(tsdb) = fields.get("tsdb").and_then(|f| f.fields()) {
        config.storage.out_of_order_window = tsdb.get("out_of_order_time_window").and_then(|f| f.duration());
        if let Some(retention) = tsdb.get("retention").and_then(|f| f.fields()) {
            config.storage.retention_time = retention.get("time").and_then(|f| f.duration());
            config.storage.retention_bytes = retention.get("size").and_then(|f| f.bytes());
            config.storage.retention_percent = retention.get("percentage").and_then(|f| f.percent());
            retention.finish(&[]);
        }
        tsdb.finish(&[TSDB_NOT_BUILT]);
    }
    if let Some(exemplars) = fields.get("exemplars").and_then(|f| f.fields()) {
        config.storage.exemplars_max = exemplars.get("max_exemplars").and_then(|f| f.count());
        exemplars.finish(&[]);
    }
    fields.finish(&[]);
}
