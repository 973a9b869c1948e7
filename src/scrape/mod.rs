//! Scraping: fetches what targets expose and appends it to the database.
//!
//! One task per target on the runtime; everything else here is plain code. It knows storage and configuration,
//! and nothing of HTTP serving, dashboards or PromQL.

pub mod exposition;
pub mod line_cache;
pub mod manager;
pub mod metadata;
pub mod own_metrics;
pub mod sample_labels;
pub mod target;

mod census;
mod failure_log;
mod histograms;
mod negotiate;
mod pool;
mod scrape_loop;
mod scratch;
mod threads;

pub use manager::{
    Applied, DroppedTarget, Manager, ManagerOptions, TargetMetadata, TargetStatus, Targets, offset_seed,
};
pub use own_metrics::ScrapeMetrics;
pub use scrape_loop::Health;
pub use threads::{ScrapeThreads, Spread};

#[cfg(test)]
pub(crate) mod testing;
