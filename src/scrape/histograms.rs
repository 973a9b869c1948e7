//! How fine native histograms may be: the job's limits, applied to what a scrape brings.
//!
//! # Source
//! Prometheus: a factor stands for the coarsest schema whose buckets grow by no more than it, a histogram of too many
//! buckets is halved in resolution until it fits.

use promontory_config::scrape::ScrapeConfig;
use promontory_model::HistogramSample;
use promontory_model::histogram::CUSTOM_BUCKETS_SCHEMA;

/// Coarsest and finest schema that is stored.
const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;

/// Limits of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HistogramLimits {
    buckets: Option<u64>,
    schema_max: i32,
}

/// A histogram that stays too large, which fails the whole scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("histogram bucket limit exceeded (number of buckets: {buckets}, limit: {limit})")]
pub(super) struct TooManyBuckets {
    buckets: u64,
    limit: u64,
}

impl HistogramLimits {
    pub(super) fn new(config: &ScrapeConfig) -> Self {
        let factor = config.native_histogram_min_bucket_factor;
        let schema_max = if factor <= 1.0 {
            SCHEMA_MAX
        } else {
            // In range after the clamp, so that the cast is exact.
            (-factor.log2().log2().floor()).clamp(SCHEMA_MIN.into(), SCHEMA_MAX.into()) as i32
        };
        Self { buckets: config.native_histogram_bucket_limit, schema_max }
    }

    /// Merges buckets of `histogram` until it fits.
    pub(super) fn apply(self, histogram: &mut HistogramSample) -> Result<(), TooManyBuckets> {
        if self.schema_max < SCHEMA_MAX {
            histogram.reduce_to(self.schema_max);
        }
        let Some(limit) = self.buckets else { return Ok(()) };
        loop {
            let value = histogram.value();
            let buckets = (value.positive_buckets.len() + value.negative_buckets.len()) as u64;
            if buckets <= limit {
                return Ok(());
            }
            if value.schema == CUSTOM_BUCKETS_SCHEMA || value.schema <= SCHEMA_MIN {
                return Err(TooManyBuckets { buckets, limit });
            }
            histogram.reduce_to(value.schema - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use promontory_model::FloatHistogram;
    use promontory_model::histogram::{Counts, Span};

    use super::*;
    use crate::scrape::testing::scrape_config;

    fn exponential(schema: i32, buckets: &[f64]) -> HistogramSample {
        let custom_values = if schema == CUSTOM_BUCKETS_SCHEMA { vec![1.0, 2.0, 3.0] } else { Vec::new() };
        let value = FloatHistogram {
            schema,
            count: buckets.iter().sum(),
            sum: 1.0,
            positive_spans: vec![Span { offset: 0, length: u32::try_from(buckets.len()).unwrap() }],
            positive_buckets: buckets.to_vec(),
            custom_values,
            ..FloatHistogram::default()
        };
        HistogramSample::new(value, Counts::Integer).unwrap()
    }

    #[track_caller]
    fn check(factor: f64, limit: Option<u64>, mut histogram: HistogramSample, expected: &str) {
        let mut config = scrape_config("j");
        config.native_histogram_min_bucket_factor = factor;
        config.native_histogram_bucket_limit = limit;
        let applied = HistogramLimits::new(&config).apply(&mut histogram);
        let value = histogram.value();
        let got = match applied {
            Ok(()) => format!("{} {:?}", value.schema, value.positive_buckets),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn resolution_is_halved_until_it_fits() {
        check(0.0, None, exponential(8, &[1.0; 4]), "8 [1.0, 1.0, 1.0, 1.0]");
        check(0.0, Some(4), exponential(8, &[1.0; 4]), "8 [1.0, 1.0, 1.0, 1.0]");
        check(0.0, Some(2), exponential(1, &[1.0; 4]), "-1 [1.0, 3.0]");
        check(0.0, Some(1), exponential(-3, &[1.0; 3]), {
            "histogram bucket limit exceeded (number of buckets: 2, limit: 1)"
        });
        check(0.0, Some(3), exponential(CUSTOM_BUCKETS_SCHEMA, &[1.0; 4]), {
            "histogram bucket limit exceeded (number of buckets: 4, limit: 3)"
        });
    }

    #[test]
    fn factor_sets_the_finest_schema() {
        for (factor, schema) in [
            (1.0, 8),
            (1.002, 8),
            (1.0027, 8),
            (1.003, 8),
            (1.006, 7),
            (1.1, 3),
            (1.2, 2),
            (1.5, 1),
            (2.0, 0),
            (4.0, -1),
            (1e9, -4),
        ] {
            let mut config = scrape_config("j");
            config.native_histogram_min_bucket_factor = factor;
            let limits = HistogramLimits::new(&config);
            assert_eq!(limits.schema_max, schema, "{factor}");
        }
    }
}
