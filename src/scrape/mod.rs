//! Scraping: fetches what targets expose and appends it to the database.
//!
//! One task per target on the runtime; everything else here is plain code. It knows storage and configuration,
//! and nothing of HTTP serving, dashboards or PromQL.

pub mod exposition;
pub mod line_cache;
pub mod metadata;
pub mod sample_labels;

#[cfg(test)]
pub(crate) mod testing;
