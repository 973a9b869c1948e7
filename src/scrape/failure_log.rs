//! The file to which a job adds a line for each scrape that fails, so that whoever runs an exporter can see why without
//! the server's own log.

use std::path::PathBuf;

use promontory_model::Timestamp;
use serde_json::json;

use crate::json_log::{JsonLog, shown};

/// The open file of one job.
#[derive(Debug)]
pub(super) struct FailureLog(JsonLog);

impl FailureLog {
    /// Opens the file at `path`, which is made if need be.
    pub(super) fn open(path: PathBuf) -> Self {
        Self(JsonLog::open(path, "scrape_failure_log_file"))
    }

    /// Opens it again.
    pub(super) fn reopen(&self) {
        self.0.reopen();
    }

    /// Adds a line.
    pub(super) fn write(&self, now: Timestamp, job: &str, target: &str, error: &str) {
        self.0.write(&json!({
            "time": shown(now),
            "level": "ERROR",
            "msg": error,
            "job_name": job,
            "target": target,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_failed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("failures.log");
        FailureLog::open(path.clone()).write(Timestamp(1_700_000_000_123), "j", "http://h:1/metrics", "it said \"no\"");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"level\":\"ERROR\",\"msg\":\"it said \\\"no\\\"\",\"job_name\":\"j\",\
             \"target\":\"http://h:1/metrics\"}\n"
        );
    }
}
