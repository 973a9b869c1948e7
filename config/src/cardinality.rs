//! `cardinality`: how many series scraping may hold. A section of this server, not of Prometheus.
//!
//! Unlike `sample_limit`, which fails whole scrapes, these limits refuse new series alone and leave what is there
//! as it is.

use std::collections::BTreeMap;

use crate::Config;
use crate::decode::{Field, Fields};

/// The section `cardinality`; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CardinalityConfig {
    /// Series of all jobs.
    pub series: Option<u64>,
    /// Series of one metric, of all jobs.
    pub series_per_metric: Option<u64>,
    /// Limits of jobs without their own.
    pub default: JobCardinality,
    /// Limits of some jobs, by name.
    pub jobs: BTreeMap<String, JobCardinality>,
}

/// Limits of one job; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobCardinality {
    /// Series of all targets of the job.
    pub series_per_job: Option<u64>,
    /// Series of one target.
    pub series_per_scrape: Option<u64>,
}

impl CardinalityConfig {
    /// The limits of the job `name`.
    #[must_use]
    pub fn of_job(&self, name: &str) -> JobCardinality {
        self.jobs.get(name).copied().unwrap_or(self.default)
    }
}

pub(crate) fn read(field: &Field<'_>, config: &mut Config) {
    let Some(fields) = field.fields() else { return };
    let default = read_job(&fields, JobCardinality::default());
    let mut jobs = BTreeMap::new();
    for (name, job) in fields.get("jobs").iter().flat_map(Field::entries) {
        let Some(own) = job.fields() else { continue };
        jobs.insert(name.to_owned(), read_job(&own, default));
        own.finish(&[]);
    }
    config.cardinality = CardinalityConfig {
        series: limit(&fields, "series"),
        series_per_metric: limit(&fields, "series_per_metric"),
        default,
        jobs,
    };
    fields.finish(&[]);
}

/// The limits of a job; what is absent is inherited, and 0 takes a limit away.
fn read_job(fields: &Fields<'_>, inherited: JobCardinality) -> JobCardinality {
    let own = |name, inherited| match fields.get(name) {
        Some(field) => field.u64().filter(|n| *n > 0),
        None => inherited,
    };
    JobCardinality {
        series_per_job: own("series_per_job", inherited.series_per_job),
        series_per_scrape: own("series_per_scrape", inherited.series_per_scrape),
    }
}

fn limit(fields: &Fields<'_>, name: &'static str) -> Option<u64> {
    fields.get(name).and_then(|f| f.u64()).filter(|n| *n > 0)
}
