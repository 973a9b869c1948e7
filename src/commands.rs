//! The commands that end by themselves: checks, tests, looks into a data folder.
//!
//! Each writes its report to `out` and answers whether all was well; the process ends with 1 when not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use promontory_promql::engine::{Engine, EngineOptions};
use promontory_promql::promqltest::{self, Evaluator};
use promontory_promql::reference::{Reference, ReferenceOptions};

use crate::cli::TestPromqlArgs;

mod check;
mod progress;
pub mod promql;
pub mod push;
pub mod query;
pub mod tsdb;

pub use check::{
    Checked, check_config, check_metrics, check_openmetrics, check_rules, check_service_discovery, check_web_config,
};

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The report could not be written, a closed pipe for example.
    #[error("write the report: {0}")]
    Report(#[from] io::Error),
    /// The system refuses threads or sockets.
    #[error("start the network threads: {0}")]
    Runtime(io::Error),
    /// The configuration does not load.
    #[error("{0}")]
    Config(#[from] promontory_config::ConfigErrors),
    /// The configuration has no such job.
    #[error("{}: no job {job:?}; there are {}", file.display(), known.join(", "))]
    NoJob {
        /// The configuration.
        file: PathBuf,
        /// What was asked for.
        job: String,
        /// Its jobs.
        known: Vec<String>,
    },
    /// A file could not be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Bytes of one exposition that a command reads.
const EXPOSITION_BYTES_MAX: u64 = 1 << 30;

/// Reads the exposition in `file`, or on standard input.
///
/// # Errors
/// When it cannot be read, or is longer than any that is read.
pub fn read_exposition(file: Option<&Path>) -> io::Result<Vec<u8>> {
    match file {
        Some(file) => read_at_most(fs::File::open(file)?, EXPOSITION_BYTES_MAX),
        None => read_at_most(io::stdin().lock(), EXPOSITION_BYTES_MAX),
    }
}

fn read_at_most(source: impl io::Read, max: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    source.take(max + 1).read_to_end(&mut body)?;
    if body.len() as u64 > max {
        return Err(io::Error::other(format!("more than the limit of {max} bytes for one exposition")));
    }
    Ok(body)
}

/// Checks dashboards; prints what is not honoured by file and panel, and `N panels: N drawn, N placeholders` last.
///
/// Well is when every file is a dashboard.
///
/// # Errors
/// [`CommandError::Report`].
pub fn check_dashboards(files: &[PathBuf], out: &mut dyn Write) -> Result<bool, CommandError> {
    let mut all_good = true;
    let (mut panels, mut drawn) = (0, 0);
    for file in files {
        let mut report = String::new();
        let checked = fs::read_to_string(file).map_err(|e| e.to_string());
        match checked.and_then(|text| crate::dashboard::check(&text, &mut report)) {
            Ok(found) => {
                panels += found.panels;
                drawn += found.drawn;
                let (n, remarks) = (found.panels, found.remarks);
                writeln!(
                    out,
                    "{}: {n} {}, {remarks} {}",
                    file.display(),
                    plural(n, "panel"),
                    plural(remarks, "remark")
                )?;
                out.write_all(report.as_bytes())?;
            }
            Err(message) => {
                all_good = false;
                eprintln!("{}: {message}", file.display());
            }
        }
    }
    writeln!(out, "{panels} panels: {drawn} drawn, {} placeholders", panels - drawn)?;
    Ok(all_good)
}

/// What scripts of Prometheus expect of an evaluator.
const SCRIPT_OPTIONS: EngineOptions = EngineOptions {
    lookback_ms: 5 * 60_000,
    max_samples: 10_000,
    memory_bytes_max: 1 << 30,
    subquery_step_ms: 60_000,
    delayed_name_removal: true,
    threads: 1,
};

/// Bytes of one test script.
const SCRIPT_BYTES_MAX: u64 = 16 << 20;

/// Runs PromQL test scripts; prints failures, a line per file, and `N passed, N failed` last.
///
/// With a floor, well is when no file passes fewer evals than the floor names for it; else when none fails.
///
/// # Errors
/// [`CommandError`] when a script, a folder or the floor cannot be read.
pub fn test_promql(args: &TestPromqlArgs, out: &mut dyn Write) -> Result<bool, CommandError> {
    let evaluator: Box<dyn Evaluator> = match args.evaluator {
        crate::cli::Evaluator::Engine => Box::new(Engine::new(SCRIPT_OPTIONS)),
        crate::cli::Evaluator::Reference => Box::new(Reference::new(ReferenceOptions::CONFORMANCE)),
    };
    let name = match args.evaluator {
        crate::cli::Evaluator::Engine => "engine",
        crate::cli::Evaluator::Reference => "reference",
    };
    let floor = args.floor.as_deref().map(|file| read_floor(file, name)).transpose()?;
    let (mut passed, mut failed, mut below) = (0, 0, Vec::new());
    for file in scripts(&args.files)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let report = promqltest::run_file(&read(&file)?, &name, evaluator.as_ref());
        if !args.summary {
            for failure in &report.failures {
                let at = format!("{}:{}", file.display(), failure.line);
                writeln!(out, "{at}: {}\n  expected: {}\n  got: {}", failure.query, failure.expected, failure.got)?;
            }
        }
        writeln!(out, "{name:<32} {:>5} passed {:>5} failed", report.passed, report.failed())?;
        if let Some(least) = floor.as_ref().and_then(|f| f.get(&name)).filter(|least| report.passed < **least) {
            below.push(format!("{name}: {} passed, the floor is {least}", report.passed));
        }
        passed += report.passed;
        failed += report.failed();
    }
    for line in &below {
        writeln!(out, "below the floor: {line}")?;
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(if floor.is_some() { below.is_empty() } else { failed == 0 })
}

/// The files themselves, and the `*.test` files of folders, sorted.
fn scripts(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CommandError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let error = |source| CommandError::Read { path: path.clone(), source };
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(error)? {
            inside.push(entry.map_err(error)?.path());
        }
        inside.retain(|p| p.extension().is_some_and(|e| e == "test"));
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, CommandError> {
    let error = |source| CommandError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(error)?.len();
    if bytes > SCRIPT_BYTES_MAX {
        let source = io::Error::other(format!("{bytes} bytes, a script may have {SCRIPT_BYTES_MAX}"));
        return Err(error(source));
    }
    fs::read_to_string(path).map_err(error)
}

/// Lines of evaluator, script and count; those of `evaluator`. `#` begins a comment.
fn read_floor(path: &Path, evaluator: &str) -> Result<BTreeMap<String, usize>, CommandError> {
    let mut floor = BTreeMap::new();
    for (i, line) in read(path)?.lines().enumerate() {
        let words: Vec<_> = line.split('#').next().unwrap_or("").split_whitespace().collect();
        match (words.as_slice(), words.last().map(|count| count.parse())) {
            ([], _) => {}
            ([of, script, _], Some(Ok(count))) => {
                if *of == evaluator {
                    floor.insert((*script).to_owned(), count);
                }
            }
            _ => {
                let reason = format!("line {}: expected evaluator, script and count, got {line:?}", i + 1);
                return Err(CommandError::Read { path: path.to_owned(), source: io::Error::other(reason) });
            }
        }
    }
    Ok(floor)
}

/// Prints what a shell needs to complete commands and flags.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut crate::cli::command(), "promontory", &mut &mut *out);
}

/// Writes a man page for each command into `folder`, or prints that of all.
///
/// # Errors
/// [`CommandError`] when a page cannot be written.
pub fn man(folder: Option<&Path>, out: &mut dyn Write) -> Result<(), CommandError> {
    let command = crate::cli::command();
    let Some(folder) = folder else { return Ok(clap_mangen::Man::new(command).render(&mut &mut *out)?) };
    clap_mangen::generate_to(command, folder)?;
    Ok(())
}

/// `1 job`, `2 jobs`.
fn plural(n: usize, noun: &str) -> String {
    if n == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_read_to_the_limit() {
        assert_eq!(read_at_most(&b"a 1\n"[..], 4).unwrap(), b"a 1\n");
        let error = read_at_most(io::repeat(b'#'), 9).unwrap_err();
        assert_eq!(error.to_string(), "more than the limit of 9 bytes for one exposition");
    }

    #[test]
    fn floors_are_read_per_evaluator_and_hold() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("a.test");
        fs::write(&script, "eval instant at 0 1 + 1\n  2\n\neval instant at 0 1 + 1\n  3\n").unwrap();
        let floor = dir.path().join("floor.txt");
        let mut args = TestPromqlArgs {
            files: vec![dir.path().to_owned()],
            evaluator: crate::cli::Evaluator::Reference,
            floor: Some(floor.clone()),
            summary: true,
        };
        let mut out = Vec::new();
        fs::write(&floor, "# a comment\nreference a.test 1\nengine a.test 2\n").unwrap();
        assert!(test_promql(&args, &mut out).unwrap());
        assert!(String::from_utf8(out).unwrap().ends_with("\n1 passed, 1 failed\n"));
        args.evaluator = crate::cli::Evaluator::Engine;
        assert!(!test_promql(&args, &mut Vec::new()).unwrap());
        fs::write(&floor, "engine a.test\n").unwrap();
        assert!(test_promql(&args, &mut Vec::new()).unwrap_err().to_string().contains("line 1"));
    }
}
