//! `file_sd_configs`: targets in YAML or JSON files, read again when they change.
//!
//! Change is seen by length and time of modification, because not every file system notifies; every file is also read
//! at each refresh interval. A file that cannot be read or understood keeps the groups it had; one that is gone has
//! none.
//!
//! Files are read by a thread of their own, which may hang where a file system does: whoever polls waits for it shortly,
//! and takes what it found at another time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::{Duration, SystemTime};

use promontory_config::TargetGroup;
use promontory_config::discovery::{FileSdConfig, load_targets};
use promontory_model::Timestamp;

use super::Polled;

/// Label that names the file of a target.
const FILE_PATH: &str = "__meta_filepath";

/// Time for which a poll waits for the files. Local ones take less than a millisecond.
const WAIT: Duration = Duration::from_millis(50);
/// Looks that are not waited for after one that took longer.
const UNWAITED: u32 = 60;

/// One `file_sd_configs` entry.
#[derive(Debug)]
pub(super) struct FileDiscovery {
    config: Arc<FileSdConfig>,
    seen: Seen,
    /// A look that has not ended.
    looking: Option<Receiver<(Seen, Polled)>>,
    /// How many of the next looks are not waited for.
    n_unwaited: u32,
    /// What is wrong besides the files: that they cannot be read in time.
    problem: Option<String>,
}

/// What the last look found.
#[derive(Debug, Clone, Default)]
struct Seen {
    known: BTreeMap<PathBuf, Known>,
    /// When all files were read last.
    refreshed: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    stamp: Option<Stamp>,
    groups: Arc<Vec<TargetGroup>>,
    error: Option<String>,
}

/// What changes when a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
}

impl FileDiscovery {
    pub(super) fn new(config: FileSdConfig) -> Self {
        let config = Arc::new(config);
        Self { config, seen: Seen::default(), looking: None, n_unwaited: 0, problem: None }
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &TargetGroup> {
        self.seen.known.values().flat_map(|known| known.groups.iter())
    }

    pub(super) fn errors(&self) -> impl Iterator<Item = &str> {
        self.seen.known.values().filter_map(|known| known.error.as_deref()).chain(self.problem.as_deref())
    }

    /// Whether all looks that began have ended.
    pub(super) fn has_looked(&self) -> bool {
        self.looking.is_none()
    }

    /// Takes what a look found, and begins the next one.
    pub(super) fn poll(&mut self, now: Timestamp, polled: &mut Polled) {
        match self.looking.as_ref().map(Receiver::try_recv) {
            Some(Ok(found)) => self.take(found, polled),
            Some(Err(TryRecvError::Empty)) => {
                let file = self.config.files.first().map(|file| file.display().to_string()).unwrap_or_default();
                let problem = format!("files of targets like {file} take long to read; targets stay as they were");
                if self.problem.is_none() {
                    tracing::warn!("{problem}");
                }
                self.problem = Some(problem);
                return;
            }
            Some(Err(TryRecvError::Disconnected)) | None => {}
        }
        let (sender, receiver) = sync_channel(1);
        let (config, mut seen) = (self.config.clone(), self.seen.clone());
        let look = move || {
            let polled = seen.look(&config, now);
            // Nobody waits any more when the job is gone.
            let _ = sender.send((seen, polled));
        };
        if let Err(error) = std::thread::Builder::new().name("file-discovery".to_owned()).spawn(look) {
            polled.errors.push(format!("start a thread that reads files of targets: {error}"));
        }
        let is_waited = self.n_unwaited == 0;
        self.n_unwaited = self.n_unwaited.saturating_sub(1);
        match receiver.recv_timeout(if is_waited { WAIT } else { Duration::ZERO }) {
            Ok(found) => self.take(found, polled),
            Err(RecvTimeoutError::Timeout) => {
                if is_waited {
                    self.n_unwaited = UNWAITED;
                }
                self.looking = Some(receiver);
            }
            Err(RecvTimeoutError::Disconnected) => {}
        }
    }

    fn take(&mut self, (seen, found): (Seen, Polled), polled: &mut Polled) {
        self.seen = seen;
        (self.looking, self.problem) = (None, None);
        polled.is_changed |= found.is_changed;
        polled.errors.extend(found.errors);
    }
}

impl Seen {
    /// Reads what has changed, or everything when that is due.
    fn look(&mut self, config: &FileSdConfig, now: Timestamp) -> Polled {
        let mut polled = Polled::default();
        let interval = config.refresh_interval;
        // A clock that was set back makes it due too.
        let is_due = self.refreshed.is_none_or(|at| now < at || now >= at.saturating_add(interval));
        if is_due {
            self.refreshed = Some(now);
        }
        let paths = paths(config);
        let n_known = self.known.len();
        self.known.retain(|path, _| paths.contains(path));
        polled.is_changed |= self.known.len() != n_known;
        for path in paths {
            let known = self.known.entry(path.clone()).or_default();
            let stamp = stamp(&path);
            if !is_due && stamp.is_some() && known.stamp == stamp {
                continue;
            }
            known.stamp = stamp;
            match read_targets(&path) {
                Ok(groups) => {
                    known.error = None;
                    polled.is_changed |= *known.groups != groups;
                    known.groups = Arc::new(groups);
                }
                Err(error) => {
                    polled.errors.push(error.clone());
                    known.error = Some(error);
                }
            }
        }
        polled
    }
}

/// The files that exist now. A path without `*` is listed only while there is a file.
fn paths(config: &FileSdConfig) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = config.files.iter().flat_map(|pattern| matching_files(pattern)).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), len: metadata.len() })
}

/// The groups in the file at `path`, or what is wrong with it.
pub(crate) fn read_targets(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let mut groups = load_targets(path).map_err(|e| e.to_string())?;
    for group in &mut groups {
        group.labels = group.labels.to_builder().set(FILE_PATH, &path.to_string_lossy()).build();
    }
    Ok(groups)
}

/// The files that `pattern`, whose last component may hold `*`, stands for.
pub(crate) fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains('*') {
        return if pattern.exists() { vec![pattern.to_owned()] } else { Vec::new() };
    }
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let matching = names.filter(|candidate| matches_stars(&name, candidate));
    // Joined to the pattern's own folder, so that a relative pattern gives relative paths.
    matching.map(|found| pattern.with_file_name(found)).collect()
}

/// Whether `name` is `pattern` with each `*` standing for any text.
fn matches_stars(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery(folder: &Path, pattern: &str) -> FileDiscovery {
        let refresh_interval = promontory_model::Duration::from_secs(300);
        FileDiscovery::new(FileSdConfig { files: vec![folder.join(pattern)], refresh_interval })
    }

    #[track_caller]
    fn check(discovery: &mut FileDiscovery, now_secs: i64, changed: bool, n_errors: usize, expected: &[&str]) {
        let mut polled = Polled::default();
        discovery.poll(Timestamp(now_secs * 1000), &mut polled);
        // A machine that is busy may take longer than a poll waits.
        while let Some(looking) = discovery.looking.take() {
            let found = looking.recv().unwrap();
            discovery.take(found, &mut polled);
        }
        let targets: Vec<&str> = discovery.groups().flat_map(|g| &g.targets).map(String::as_str).collect();
        assert_eq!((polled.is_changed, polled.errors.len(), targets.as_slice()), (changed, n_errors, expected));
    }

    #[test]
    fn files_are_followed_as_they_come_change_break_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let mut discovery = discovery(folder.path(), "*.yml");
        check(&mut discovery, 0, false, 0, &[]);
        write("a.yml", "- targets: ['a:1']\n  labels: {x: y}\n");
        write("b.json", "[{\"targets\": [\"no:1\"]}]");
        check(&mut discovery, 5, true, 0, &["a:1"]);
        let label = discovery.groups().next().unwrap().labels.get(FILE_PATH).unwrap().to_owned();
        assert_eq!(label, folder.path().join("a.yml").to_string_lossy());
        check(&mut discovery, 10, false, 0, &["a:1"]);
        write("a.yml", "- targets: ['a:1', 'a:2']\n");
        write("b.yml", "- targets: ['b:1']\n");
        check(&mut discovery, 15, true, 0, &["a:1", "a:2", "b:1"]);
        write("a.yml", "- targets: [");
        check(&mut discovery, 20, false, 1, &["a:1", "a:2", "b:1"]);
        assert_eq!(discovery.errors().count(), 1);
        check(&mut discovery, 25, false, 0, &["a:1", "a:2", "b:1"]);
        check(&mut discovery, 400, false, 1, &["a:1", "a:2", "b:1"]);
        write("a.yml", "- targets: ['a:3']\n");
        std::fs::remove_file(folder.path().join("b.yml")).unwrap();
        check(&mut discovery, 405, true, 0, &["a:3"]);
        assert_eq!(discovery.errors().count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_read_to_its_end_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe.yml");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let mut discovery = discovery(folder.path(), "*.yml");
        let mut poll = || {
            let mut polled = Polled::default();
            discovery.poll(Timestamp(0), &mut polled);
            let said: Vec<String> = discovery.errors().map(str::to_owned).collect();
            (polled.is_changed, discovery.groups().count(), said)
        };
        assert_eq!(poll(), (false, 0, Vec::new()));
        let (_, _, said) = poll();
        assert!(said[0].ends_with("take long to read; targets stay as they were"), "{said:?}");
        std::fs::write(&path, "- targets: ['a:1']\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "- targets: ['a:2']\n").unwrap();
        loop {
            if let (true, n_groups, said) = poll() {
                assert_eq!((n_groups, said), (1, Vec::new()));
                return;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn json_is_read_and_a_missing_file_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut discovery = discovery(folder.path(), "a.json");
        check(&mut discovery, 0, false, 0, &[]);
        std::fs::write(folder.path().join("a.json"), "[{\"targets\": [\"a:1\"], \"labels\": {\"x\": \"y\"}}]").unwrap();
        check(&mut discovery, 5, true, 0, &["a:1"]);
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, expected) in [
            ("*.yml", "a.yml", true),
            ("*.yml", ".yml", true),
            ("a*b*.yml", "axxbyy.yml", true),
            ("a*b*.yml", "ab.yml", true),
            ("a*a.yml", "a.yml", false),
            ("*.yml", "a.yaml", false),
            ("a.yml", "a.yml", true),
            ("a.yml", "aa.yml", false),
        ] {
            assert_eq!(matches_stars(pattern, name), expected, "{pattern} {name}");
        }
    }
}
