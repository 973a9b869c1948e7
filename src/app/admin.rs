//! The admin API over the database.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use jiff::Timestamp;
use promontory_model::{Cancel, Matcher, ReadError, TimeRange};
use promontory_storage::clock::Clock;
use promontory_storage::{Db, SnapshotOf};

use crate::http::Admin;

/// Changes stored samples on request.
pub(super) struct DbAdmin {
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
}

impl Admin for DbAdmin {
    fn delete_series(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Result<(), String> {
        self.db.delete_series(selectors, range).map_err(|e| e.to_string())?;
        tracing::info!(selectors = selectors.len(), mint = range.mint.0, maxt = range.maxt.0, "series deleted");
        Ok(())
    }

    fn count_series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<(u64, u64), ReadError> {
        let found = self.db.count_series(selectors, range, cancel)?;
        Ok((found.series, found.samples))
    }

    fn clean_tombstones(&self) -> Result<(), String> {
        let blocks = self.db.clean_tombstones().map_err(|e| e.to_string())?;
        tracing::info!(blocks, "deleted samples cleaned out of their blocks");
        Ok(())
    }

    fn snapshot(&self, skip_head: bool) -> Result<String, String> {
        let now = self.clock.now();
        let time = Timestamp::from_millisecond(now.ms()).map_err(|e| e.to_string())?;
        // Two of one millisecond differ in the random part.
        let random = std::hash::RandomState::new().hash_one(self.clock.monotonic_ns());
        let name = format!("{}-{random:016x}", time.strftime("%Y%m%dT%H%M%SZ"));
        let of = if skip_head { SnapshotOf::Blocks } else { SnapshotOf::Everything };
        let path = self.db.write_snapshot(&name, of).map_err(|e| e.to_string())?;
        tracing::info!(folder = %path.display(), "snapshot made");
        Ok(name)
    }
}
