//! The write-ahead log: what is appended is here before it is acknowledged, until it is sealed.
//!
//! Writers push records into a buffer and never wait for a disk. [`Wal::flush`] hands the buffer to the operating
//! system, [`Wal::sync`] makes it durable. Segments are numbered; a record lies in the segment whose number
//! [`Wal::push`] gave or in a later one; a segment has no file before it has a record. After a failed write the records
//! stay in the buffer and the file is cut back to its last whole page, so that the next flush tries again. After a
//! failed sync nobody knows what is durable, and every later sync fails too.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::canary::{Bug, is_planted};
use crate::clock::Clock;
use crate::head::lock;
use crate::vfs::{Vfs, VfsError, VfsFile};
use crate::wal::page::FileHeader;

pub(crate) mod page;
pub(crate) mod record;

/// Bytes of the buffer that are kept for reuse after a flush.
const SPARE_BYTES_MAX: usize = 4 << 20;

/// The log that is being written. Lock order: `syncing`, `file`, `buffer`.
#[derive(Debug)]
pub(crate) struct Wal {
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    segment_bytes: u64,
    /// Records that no flush took yet.
    buffer: Mutex<Buffer>,
    /// The segment at the end.
    file: Mutex<Tail>,
    /// Held during a sync, so that who finds nothing to sync has waited for the sync that took it.
    syncing: Mutex<Syncing>,
    pub(crate) counters: WalCounters,
}

/// What a log ends with that is continued.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// Number of the last segment; 0 when there is none.
    pub(crate) segment: u64,
    /// Its length, if it is needed.
    pub(crate) bytes: u64,
    /// Segments that may not be durable. Records of later ones build on theirs, so the first sync takes them along.
    pub(crate) unsynced: Vec<PathBuf>,
}

#[derive(Debug)]
struct Syncing {
    /// The failure of a sync, for those who waited for it.
    failed: Option<VfsError>,
    /// As [`End::unsynced`].
    unsynced: Vec<PathBuf>,
}

#[derive(Debug, Default)]
struct Buffer {
    records: Vec<u8>,
    segment: u64,
}

#[derive(Debug)]
struct Tail {
    /// `None` as long as the segment has no record.
    file: Option<Arc<dyn VfsFile>>,
    segment: u64,
    /// Bytes of the segment before, if it was needed when this one began.
    previous_bytes: u64,
    /// Bytes of this segment.
    len: u64,
    /// Bytes of earlier segments that still exist.
    older_bytes: u64,
    /// Records that a failed write left; they go out before the buffer.
    pending: Vec<u8>,
    pages: Vec<u8>,
    encoder: Encoder,
    is_dirty: bool,
    /// Set when even cutting back failed: nothing may follow what may be half a page.
    is_broken: bool,
}

struct Encoder(snap::raw::Encoder);

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct WalCounters {
    pub(crate) written_bytes: AtomicU64,
    pub(crate) fsyncs: AtomicU64,
    pub(crate) fsync_ns: AtomicU64,
    pub(crate) failures: AtomicU64,
}

/// Name of a segment.
pub(crate) fn segment_name(segment: u64) -> String {
    format!("{segment:08}.wal")
}

/// Number of the segment with this name.
pub(crate) fn segment_of(name: &str) -> Option<u64> {
    name.strip_suffix(".wal").filter(|n| n.len() >= 8)?.parse().ok()
}

impl Wal {
    /// Continues behind `end` in `dir`; `older_bytes` is what all segments take that are there.
    pub(crate) fn start(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: PathBuf,
        end: End,
        segment_bytes: u64,
        older_bytes: u64,
    ) -> Self {
        let segment = end.segment + 1;
        let tail = Tail {
            file: None,
            segment,
            previous_bytes: end.bytes,
            len: 0,
            older_bytes,
            pending: Vec::new(),
            pages: Vec::new(),
            encoder: Encoder(snap::raw::Encoder::new()),
            is_dirty: false,
            is_broken: false,
        };
        Self {
            vfs,
            clock,
            dir,
            segment_bytes,
            buffer: Mutex::new(Buffer { records: Vec::new(), segment }),
            file: Mutex::new(tail),
            syncing: Mutex::new(Syncing { failed: None, unsynced: end.unsynced }),
            counters: WalCounters::default(),
        }
    }

    /// Adds a record that `write` appends. Gives a segment at or before the one it will lie in.
    pub(crate) fn push(&self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let mut buffer = lock(&self.buffer);
        page::put_record(&mut buffer.records, write);
        buffer.segment
    }

    /// Adds records that are framed already.
    pub(crate) fn push_framed(&self, records: &[u8]) -> u64 {
        let mut buffer = lock(&self.buffer);
        buffer.records.extend_from_slice(records);
        buffer.segment
    }

    /// Bytes that wait for a flush.
    pub(crate) fn buffered_bytes(&self) -> usize {
        lock(&self.buffer).records.len()
    }

    /// Bytes of memory allocated.
    pub(crate) fn memory(&self) -> usize {
        let tail = lock(&self.file);
        tail.pending.capacity() + tail.pages.capacity() + lock(&self.buffer).records.capacity()
    }

    /// Number of the segment at the end.
    pub(crate) fn segment(&self) -> u64 {
        lock(&self.file).segment
    }

    /// The segment at the end and how much of it the operating system has.
    pub(crate) fn written(&self) -> (u64, u64) {
        let tail = lock(&self.file);
        (tail.segment, tail.len)
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        let tail = lock(&self.file);
        tail.older_bytes + tail.len
    }

    /// Hands everything pushed before to the operating system.
    pub(crate) fn flush(&self) -> Result<(), VfsError> {
        if self.is_full() {
            self.sync()?;
            let mut syncing = lock(&self.syncing);
            let mut tail = lock(&self.file);
            if tail.len >= self.segment_bytes {
                self.end_segment(&mut syncing, &mut tail)?;
            }
        }
        let mut tail = lock(&self.file);
        self.count_failure(self.flush_tail(&mut tail))
    }

    fn count_failure<T>(&self, result: Result<T, VfsError>) -> Result<T, VfsError> {
        if result.is_err() {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn flush_tail(&self, tail: &mut Tail) -> Result<(), VfsError> {
        {
            let mut buffer = lock(&self.buffer);
            if tail.pending.is_empty() {
                std::mem::swap(&mut tail.pending, &mut buffer.records);
            } else {
                tail.pending.append(&mut buffer.records);
            }
        }
        if tail.pending.is_empty() {
            return Ok(());
        }
        let file = self.file_of(tail)?;
        let mut pages = std::mem::take(&mut tail.pages);
        pages.clear();
        page::put_pages(&mut pages, &tail.pending, &mut tail.encoder.0);
        let result = file.write_all(&pages);
        let n = pages.len() as u64;
        if pages.capacity() <= SPARE_BYTES_MAX {
            tail.pages = pages;
        }
        tail.is_dirty = true;
        if let Err(e) = result {
            tail.is_broken = true;
            // The error to report is the first; whether the repair works is seen by the next flush.
            let _ = repair(tail, &*file);
            return Err(e);
        }
        tail.len += n;
        tail.pending.clear();
        if tail.pending.capacity() > SPARE_BYTES_MAX {
            tail.pending = Vec::new();
        }
        self.counters.written_bytes.fetch_add(n, Ordering::Relaxed);
        Ok(())
    }

    /// The file at the end, without what a failed write left; created when the segment has none yet.
    fn file_of(&self, tail: &mut Tail) -> Result<Arc<dyn VfsFile>, VfsError> {
        if let Some(file) = &tail.file {
            let file = Arc::clone(file);
            repair(tail, &*file)?;
            return Ok(file);
        }
        let file = self.vfs.create(&self.dir.join(segment_name(tail.segment)))?;
        let header = FileHeader { segment: tail.segment, previous_bytes: tail.previous_bytes };
        file.write_all(&header.encode())?;
        if !is_planted(Bug::WalNameNotSynced) {
            self.vfs.sync_dir(&self.dir)?;
        }
        let file: Arc<dyn VfsFile> = Arc::from(file);
        tail.file = Some(Arc::clone(&file));
        tail.len = page::FILE_HEADER_BYTES as u64;
        tail.is_dirty = true;
        Ok(file)
    }

    /// Makes everything flushed durable. Does not hold up flushes.
    pub(crate) fn sync(&self) -> Result<(), VfsError> {
        let mut syncing = lock(&self.syncing);
        if let Some(e) = &syncing.failed {
            return Err(e.clone());
        }
        for path in std::mem::take(&mut syncing.unsynced) {
            let result = self.vfs.open_append(&path).and_then(|file| self.sync_file(&*file));
            self.count_sync(&mut syncing, result)?;
        }
        let file = {
            let mut tail = lock(&self.file);
            if !std::mem::take(&mut tail.is_dirty) {
                return Ok(());
            }
            tail.file.clone()
        };
        let Some(file) = file else { return Ok(()) };
        self.count_sync(&mut syncing, self.sync_file(&*file))
    }

    /// Takes note of a sync that failed: nobody knows what is durable since.
    fn count_sync(&self, syncing: &mut Syncing, result: Result<(), VfsError>) -> Result<(), VfsError> {
        syncing.failed = result.as_ref().err().cloned();
        self.count_failure(result)
    }

    fn sync_file(&self, file: &dyn VfsFile) -> Result<(), VfsError> {
        let start = self.clock.monotonic_ns();
        let result = if is_planted(Bug::WalNotSynced) { Ok(()) } else { file.sync() };
        self.counters.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.counters.fsync_ns.fetch_add(self.clock.monotonic_ns().saturating_sub(start), Ordering::Relaxed);
        result
    }

    /// Flushes, then begins the next segment unless this one is empty; gives the number of the segment at the end. The
    /// segments before it are durable.
    pub(crate) fn rotate(&self) -> Result<u64, VfsError> {
        // Most is synced before flushes have to wait for the rest.
        self.sync()?;
        let mut syncing = lock(&self.syncing);
        let mut tail = lock(&self.file);
        self.count_failure(self.flush_tail(&mut tail))?;
        self.end_segment(&mut syncing, &mut tail)?;
        Ok(tail.segment)
    }

    fn is_full(&self) -> bool {
        lock(&self.file).len >= self.segment_bytes
    }

    /// What is pushed from now on lies in another segment; the caller has synced most of this one.
    fn end_segment(&self, syncing: &mut Syncing, tail: &mut Tail) -> Result<(), VfsError> {
        let Some(file) = tail.file.clone() else { return Ok(()) };
        if let Some(e) = &syncing.failed {
            return Err(e.clone());
        }
        self.count_failure(repair(tail, &*file))?;
        if tail.is_dirty {
            self.count_sync(syncing, self.sync_file(&*file))?;
        }
        tail.older_bytes += tail.len;
        tail.previous_bytes = tail.len;
        tail.segment += 1;
        tail.len = 0;
        tail.file = None;
        tail.is_dirty = false;
        lock(&self.buffer).segment = tail.segment;
        Ok(())
    }

    /// Removes segments before `segment`, oldest first.
    pub(crate) fn remove_before(&self, segment: u64) -> Result<(), VfsError> {
        let mut freed = 0;
        for entry in self.vfs.read_dir(&self.dir)? {
            if segment_of(&entry.name).is_some_and(|n| n < segment) {
                self.vfs.remove_file(&self.dir.join(&entry.name))?;
                freed += entry.len;
            }
        }
        let mut tail = lock(&self.file);
        tail.older_bytes = tail.older_bytes.saturating_sub(freed);
        Ok(())
    }
}

/// Cuts what a failed write left behind the last whole page.
fn repair(tail: &mut Tail, file: &dyn VfsFile) -> Result<(), VfsError> {
    if tail.is_broken {
        file.truncate(tail.len)?;
        tail.is_broken = false;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use promontory_model::Timestamp;

    use super::*;
    use crate::clock::ManualClock;
    use crate::vfs::SimVfs;
    use crate::vfs::sim::Op;

    fn wal(vfs: &SimVfs) -> Wal {
        vfs.create_dir_all(Path::new("wal")).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        Wal::start(Arc::new(vfs.clone()), clock, "wal".into(), End::default(), 100, 0)
    }

    #[test]
    fn segments_without_records_have_no_files() {
        let vfs = SimVfs::new();
        let wal = wal(&vfs);
        assert_eq!((wal.rotate().unwrap(), wal.bytes()), (1, 0));
        assert_eq!(vfs.files(Path::new("wal")).len(), 0);
        wal.push(|out| out.push(7));
        assert_eq!((wal.rotate().unwrap(), wal.rotate().unwrap()), (2, 2));
        assert_eq!(vfs.files(Path::new("wal")), [Path::new("wal/00000001.wal")]);
        for _ in 0..10 {
            wal.push(|out| out.push(7));
            wal.flush().unwrap();
        }
        assert!(vfs.files(Path::new("wal")).len() > 2, "full segments end");
        wal.remove_before(wal.segment()).unwrap();
        assert_eq!(vfs.files(Path::new("wal")).len(), 1);
    }

    /// Who waits for a sync that fails must not find that there is nothing left to sync.
    #[test]
    fn after_a_failed_sync_none_succeeds() {
        let vfs = SimVfs::new();
        let wal = wal(&vfs);
        wal.push(|out| out.push(7));
        wal.flush().unwrap();
        vfs.fail_next(Op::Sync, std::io::ErrorKind::Other);
        assert!(wal.sync().is_err());
        assert!(wal.sync().is_err() && wal.rotate().is_err());
        assert_eq!(wal.counters.failures.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_segment_that_could_not_be_created_is_created_later() {
        let vfs = SimVfs::new();
        let wal = wal(&vfs);
        wal.push(|out| out.push(7));
        for space in [0, 5, 20] {
            vfs.set_space(Some(space));
            assert!(wal.flush().unwrap_err().is_no_space());
        }
        vfs.set_space(None);
        wal.flush().unwrap();
        let mut records = Vec::new();
        let bytes = crate::vfs::read(&vfs, Path::new("wal/00000001.wal")).unwrap();
        let damage = page::read_segment(1, &bytes, |_, r| records.push(r.to_vec()));
        assert_eq!((damage.places, damage.torn_at), (vec![], None));
        assert_eq!(records, [[7]]);
    }
}
