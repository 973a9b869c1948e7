//! The file to which a job adds a line for each scrape that fails, so that whoever runs an exporter can see why without
//! the server's own log.
//!
//! A line is one JSON object and one write, so jobs may share a file. It is opened anew at each reload, after which
//! somebody may have moved it away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use promontory_model::Timestamp;
use serde_json::json;

/// The open file of one job.
#[derive(Debug)]
pub(super) struct FailureLog {
    path: PathBuf,
    /// Protects the file alone, for the length of a write. None while it cannot be opened.
    file: Mutex<Option<File>>,
}

impl FailureLog {
    /// Opens the file at `path`, which is made if need be.
    pub(super) fn open(path: PathBuf) -> Self {
        let log = Self { path, file: Mutex::default() };
        log.reopen();
        log
    }

    /// Opens it again.
    pub(super) fn reopen(&self) {
        let opened = OpenOptions::new().create(true).append(true).open(&self.path);
        let file = opened.map_err(|error| self.lost(&error)).ok();
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// Adds a line.
    pub(super) fn write(&self, now: Timestamp, job: &str, target: &str, error: &str) {
        let time = jiff::Timestamp::from_millisecond(now.ms()).unwrap_or_default();
        let line = json!({
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            "level": "ERROR",
            "msg": error,
            "job_name": job,
            "target": target,
        });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = file.as_mut()
            && let Err(error) = open.write_all(format!("{line}\n").as_bytes())
        {
            // A full disk would bring a warning with every scrape.
            *file = None;
            self.lost(&error);
        }
    }

    fn lost(&self, error: &io::Error) {
        let file = self.path.display();
        tracing::warn!(%file, %error, "failed scrapes are not logged until the next reload (scrape_failure_log_file)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_and_the_file_may_move_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("failures.log");
        let log = FailureLog::open(path.clone());
        log.write(Timestamp(1_700_000_000_123), "j", "http://h:1/metrics", "it said \"no\"");
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            first,
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"level\":\"ERROR\",\"msg\":\"it said \\\"no\\\"\",\"job_name\":\"j\",\
             \"target\":\"http://h:1/metrics\"}\n"
        );
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        log.reopen();
        log.write(Timestamp(0), "j", "t", "e");
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(std::fs::read_to_string(dir.path().join("old")).unwrap(), first);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        FailureLog::open(dir.path().to_owned()).write(Timestamp(0), "j", "t", "e");
    }
}
