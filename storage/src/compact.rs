//! Merging blocks: what to merge next, and the merge itself.
//!
//! Fewer blocks mean fewer indexes to search and fewer headers; the samples themselves hardly shrink. A merge never
//! changes a sample, checks its output in full before that gets its name, and deletes nothing: the caller removes the
//! inputs once readers see the output, and a crash in between leaves inputs that [`crate::block::obsolete`] finds.

mod merge;
mod plan;

use promontory_model::ReadError;

use crate::block::{BlockError, BlockMeta};
use crate::ulid::Ulid;

pub use merge::compact;
pub(crate) use merge::{Job, compact_watched, work_bytes};
pub use plan::{Plan, PlanOptions, Why, plan};

/// A finished merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compacted {
    /// The new block; `None` when all samples were deleted.
    pub meta: Option<BlockMeta>,
    /// Blocks that are obsolete now.
    pub inputs: Vec<Ulid>,
    /// Mini-blocks that were copied without decoding.
    pub n_copied: u64,
    /// Mini-blocks that were written anew.
    pub n_rewritten: u64,
    /// Samples that were in more than one input at the same time; that of the older block has stayed.
    pub n_duplicates: u64,
    /// Samples that were deleted before and are gone now.
    pub n_deleted: u64,
}

/// Why a merge failed; the inputs are untouched and there is no output.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompactError {
    /// An input could not be read or the output not be written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// An input was removed meanwhile, by retention.
    #[error("merge blocks: an input was removed meanwhile")]
    InputsGone,
    /// The output does not hold what the inputs held.
    #[error("check merged block {ulid}: {what}, expected {expected}, found {found}")]
    Mismatch {
        /// Output.
        ulid: Ulid,
        /// What differs.
        what: &'static str,
        /// What the inputs say.
        expected: u64,
        /// What the output says.
        found: u64,
    },
}

impl From<ReadError> for CompactError {
    fn from(e: ReadError) -> Self {
        Self::Block(BlockError::Read(e))
    }
}

#[cfg(test)]
mod tests;
