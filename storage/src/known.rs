//! What a database has already, for those who add samples of the past: of two samples at one time the older block's is
//! read, whichever came first, so nothing may be written twice.

use std::collections::HashMap;
use std::sync::Arc;

use promontory_model::{Columns, Labels, ReadError, Select, SeriesBatch, TimeRange};
use rapidhash::fast::RandomState;

use crate::blocks::Block;
use crate::db::Inner;
use crate::select::{self, NamedSource};

/// What the database has at some times, in its own blocks and the head.
#[derive(Default)]
pub(crate) struct Known {
    batches: Vec<Arc<dyn SeriesBatch>>,
    /// Batch and series in it.
    places: HashMap<Labels, (u32, u32), RandomState>,
}

impl Known {
    /// Foreign blocks in the data folder do not count: who imports them wants them in blocks of ours.
    pub(crate) fn in_range(db: &Inner, select: &Select<'_>) -> Result<Self, ReadError> {
        let sources = {
            let _gate = db.head.gate_alone();
            let blocks = db.blocks().iter().cloned().filter_map(Block::native).collect::<Vec<_>>();
            let mut sources: Vec<NamedSource> =
                blocks.into_iter().map(|b| NamedSource { source: b as _, name: None }).collect();
            if db.head.max_t().is_some() {
                sources.push(NamedSource { source: Arc::new(db.head.snapshot()) as _, name: None });
            }
            sources
        };
        let batches = select::select(&sources, select)?.batches;
        let mut places = HashMap::default();
        for (number, batch) in batches.iter().enumerate() {
            places.extend((0..batch.n_series()).map(|i| (batch.labels(i), (number as u32, i as u32))));
        }
        Ok(Self { batches, places })
    }

    /// The samples of a series between the first and the last of `times`, as the only column; none when it is not known.
    pub(crate) fn samples(&self, labels: &Labels, times: &[i64]) -> Result<Columns, ReadError> {
        let mut out = Columns::default();
        if let (Some(&(batch, i)), Some(&mint), Some(&maxt)) = (self.places.get(labels), times.first(), times.last()) {
            let i = i as usize;
            self.batches[batch as usize].read(i..i + 1, TimeRange::new(mint, maxt), &mut out)?;
        }
        Ok(out)
    }
}
