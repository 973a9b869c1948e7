//! The commands that end by themselves: checks, tests, looks into a data folder.
//!
//! Each writes its report to `out` and answers whether all was well; the process ends with 1 when not.

use std::io::{self, Write};
use std::path::PathBuf;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The report could not be written, a closed pipe for example.
    #[error("write the report: {0}")]
    Report(#[from] io::Error),
    /// A file could not be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Checks configuration files; prints all errors of each.
///
/// # Errors
/// [`CommandError::Report`].
pub fn check_config(files: &[PathBuf], out: &mut dyn Write) -> Result<bool, CommandError> {
    let mut all_good = true;
    for file in files {
        match promontory_config::load(file) {
            Ok(config) => {
                let n_jobs = config.scrape_configs.len();
                writeln!(out, "{}: ok, {n_jobs} scrape {}", file.display(), plural(n_jobs, "job"))?;
            }
            Err(errors) => {
                all_good = false;
                tracing::debug!(file = %file.display(), "configuration refused");
                eprintln!("{errors}");
            }
        }
    }
    Ok(all_good)
}

/// `1 job`, `2 jobs`.
fn plural(n: usize, noun: &str) -> String {
    if n == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_configuration_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, "scrape_configs:\n- job_name: a\n").unwrap();
        let mut out = Vec::new();
        assert!(check_config(&[file.clone()], &mut out).unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), format!("{}: ok, 1 scrape job\n", file.display()));
        assert!(!check_config(&[dir.path().join("missing.yml")], &mut Vec::new()).unwrap());
    }
}
