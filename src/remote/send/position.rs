//! What has to be remembered of a destination: how far its samples were taken.
//!
//! A file of a few lines with a checksum, replaced by rename after each round of requests. It is synced now and then: the
//! death of the process loses nothing of it, that of the machine makes some samples be sent twice.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_storage::FeedPosition;
use promontory_storage::vfs::{Vfs, VfsError};

/// Rounds after which the file is synced.
const SYNC_AFTER: u32 = 50;

const HEADER: &str = "promontory remote write 1";

/// How far a destination has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// What lies before it in the log was sent, or is part of `by_time`.
    pub(super) log: FeedPosition,
    /// Newest time that was sent.
    pub(super) newest: i64,
    /// Times that are to be sent from the store before the log goes on: first and last.
    pub(super) by_time: Option<(i64, i64)>,
    /// Times of samples whose series the head had forgotten before they were read from the log.
    pub(super) forgotten: Option<(i64, i64)>,
}

/// The file of a destination.
#[derive(Debug)]
pub(super) struct PositionFile {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    key: String,
    n_stored: u32,
}

impl PositionFile {
    pub(super) fn new(vfs: Arc<dyn Vfs>, dir: &Path, key: &str) -> Self {
        Self { vfs, path: dir.join(file_name(key)), key: key.to_owned(), n_stored: 0 }
    }

    /// What was stored; `None` where nothing good was.
    pub(super) fn load(&self) -> Option<Progress> {
        let bytes = promontory_storage::vfs::read(&*self.vfs, &self.path).ok()?;
        let read = std::str::from_utf8(&bytes).ok().and_then(|text| read(text, &self.key));
        if read.is_none() {
            tracing::warn!(file = %self.path.display(), "how far remote write came is not readable; it begins anew");
        }
        read
    }

    pub(super) fn store(&mut self, progress: &Progress) -> Result<(), VfsError> {
        let tmp = self.path.with_extension("tmp");
        let file = self.vfs.create(&tmp)?;
        file.write_all(write(progress, &self.key).as_bytes())?;
        let is_synced = self.n_stored.is_multiple_of(SYNC_AFTER);
        if is_synced {
            file.sync()?;
        }
        self.vfs.rename(&tmp, &self.path)?;
        if is_synced && let Some(dir) = self.path.parent() {
            self.vfs.sync_dir(dir)?;
        }
        self.n_stored = self.n_stored.wrapping_add(1);
        Ok(())
    }
}

/// Name of the file of a destination.
pub(super) fn file_name(key: &str) -> String {
    // FNV-1a: the name must be the same after a restart.
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}.position")
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

fn write(progress: &Progress, key: &str) -> String {
    let FeedPosition { needed, segment, offset, records } = progress.log;
    let mut text =
        format!("{HEADER}\nkey {key:?}\nlog {needed} {segment} {offset} {records}\nnewest {}\n", progress.newest);
    for (name, span) in [("by-time", progress.by_time), ("forgotten", progress.forgotten)] {
        if let Some((first, last)) = span {
            let _ = writeln!(text, "{name} {first} {last}");
        }
    }
    let sum = checksum(&text);
    text + "crc32c " + &sum + "\n"
}

fn read(text: &str, key: &str) -> Option<Progress> {
    let (body, sum) = text.strip_suffix('\n')?.rsplit_once("crc32c ")?;
    let mut lines = body.lines();
    if sum != checksum(body) || lines.next()? != HEADER || lines.next()? != format!("key {key:?}") {
        return None;
    }
    let mut progress = Progress { log: FeedPosition::default(), newest: i64::MIN, by_time: None, forgotten: None };
    for line in lines {
        let (name, numbers) = line.split_once(' ')?;
        let numbers: Option<Vec<i128>> = numbers.split(' ').map(|n| n.parse().ok()).collect();
        let numbers = numbers?;
        let time = |i: usize| numbers.get(i).and_then(|n| i64::try_from(*n).ok());
        let number = |i: usize| numbers.get(i).and_then(|n| u64::try_from(*n).ok());
        match name {
            "log" => {
                progress.log =
                    FeedPosition { needed: number(0)?, segment: number(1)?, offset: number(2)?, records: number(3)? };
            }
            "newest" => progress.newest = time(0)?,
            "by-time" => progress.by_time = Some((time(0)?, time(1)?)),
            "forgotten" => progress.forgotten = Some((time(0)?, time(1)?)),
            _ => return None,
        }
    }
    Some(progress)
}

#[cfg(test)]
mod tests {
    use promontory_storage::vfs::SimVfs;

    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_damage_is_seen() {
        let vfs = Arc::new(SimVfs::new());
        vfs.create_dir_all(Path::new("d")).unwrap();
        let mut file = PositionFile::new(vfs.clone(), Path::new("d"), "http://h/w");
        assert_eq!(file.load(), None);
        let log = FeedPosition { needed: 1, segment: 2, offset: u64::MAX, records: 4 };
        let mut progress = Progress { log, newest: i64::MIN, by_time: None, forgotten: None };
        for span in [None, Some((-5, i64::MAX))] {
            (progress.by_time, progress.forgotten) = (span, span);
            file.store(&progress).unwrap();
            assert_eq!(file.load(), Some(progress));
        }
        assert_eq!(PositionFile::new(vfs.clone(), Path::new("d"), "other").load(), None);
        let path = Path::new("d").join(file_name("http://h/w"));
        vfs.corrupt(&path, |bytes| bytes[40] ^= 1);
        assert_eq!(file.load(), None);
    }
}
