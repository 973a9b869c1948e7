//! A file to which lines of JSON are added, for who wants to see more of something than the server's own log has.
//!
//! A line is one write, so several may share a file. It is opened anew at each reload, after which somebody may have
//! moved it away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use promontory_model::Timestamp;
use serde_json::Value;

/// The open file.
#[derive(Debug)]
pub(crate) struct JsonLog {
    path: PathBuf,
    /// The setting that names it.
    setting: &'static str,
    /// Protects the file alone, for the length of a write. None while it cannot be opened.
    file: Mutex<Option<File>>,
}

impl JsonLog {
    /// Opens the file at `path`, which is made if need be and which the configuration names in `setting`.
    pub(crate) fn open(path: PathBuf, setting: &'static str) -> Self {
        let log = Self { path, setting, file: Mutex::default() };
        log.reopen();
        log
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it again.
    pub(crate) fn reopen(&self) {
        let opened = OpenOptions::new().create(true).append(true).open(&self.path);
        let file = opened.map_err(|error| self.lost(&error)).ok();
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// Adds a line; answers whether it could.
    pub(crate) fn write(&self, line: &Value) -> bool {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = file.as_mut() else { return false };
        if let Err(error) = open.write_all(format!("{line}\n").as_bytes()) {
            // A full disk would bring a warning with every line.
            *file = None;
            self.lost(&error);
            return false;
        }
        true
    }

    fn lost(&self, error: &io::Error) {
        let (file, setting) = (self.path.display(), self.setting);
        tracing::warn!(%file, setting, %error, "nothing is added to this file until the next reload");
    }
}

/// A time as these files have it: RFC 3339 with milliseconds, in UTC.
pub(crate) fn shown(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(time.ms()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_added_and_the_file_may_move_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let log = JsonLog::open(path.clone(), "x");
        assert!(log.write(&json!({"a": "it said \"no\"\n"})));
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(first, "{\"a\":\"it said \\\"no\\\"\\n\"}\n");
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        log.reopen();
        assert!(log.write(&json!({})));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(std::fs::read_to_string(dir.path().join("old")).unwrap(), first);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!JsonLog::open(dir.path().to_owned(), "x").write(&json!({})));
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(shown(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    }
}
