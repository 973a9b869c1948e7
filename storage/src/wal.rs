//! The write-ahead log: what is appended is here before it is acknowledged, until it is sealed.
//!
//! Writers push records into a buffer and never wait for a disk. [`Wal::flush`] hands the buffer to the operating
//! system, [`Wal::sync`] makes it durable. Segments are numbered; a record lies in the segment whose number
//! [`Wal::push`] gave or in a later one. After a failed write the records stay in the buffer and the file is cut back
//! to its last whole page, so that the next flush tries again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::clock::Clock;
use crate::head::lock;
use crate::vfs::{Vfs, VfsError, VfsFile};

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
    syncing: Mutex<()>,
    pub(crate) counters: WalCounters,
}

#[derive(Debug, Default)]
struct Buffer {
    records: Vec<u8>,
    segment: u64,
}

#[derive(Debug)]
struct Tail {
    file: Arc<dyn VfsFile>,
    segment: u64,
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

fn new_segment(vfs: &dyn Vfs, dir: &Path, segment: u64) -> Result<Arc<dyn VfsFile>, VfsError> {
    let file = vfs.create(&dir.join(segment_name(segment)))?;
    file.write_all(&page::file_header())?;
    vfs.sync_dir(dir)?;
    Ok(Arc::from(file))
}

impl Wal {
    /// Begins segment `segment` in `dir`; `older_bytes` is what the segments before it take.
    pub(crate) fn start(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: PathBuf,
        segment: u64,
        segment_bytes: u64,
        older_bytes: u64,
    ) -> Result<Self, VfsError> {
        let file = new_segment(&*vfs, &dir, segment)?;
        let tail = Tail {
            file,
            segment,
            len: page::FILE_HEADER_BYTES as u64,
            older_bytes,
            pending: Vec::new(),
            pages: Vec::new(),
            encoder: Encoder(snap::raw::Encoder::new()),
            is_dirty: true,
            is_broken: false,
        };
        Ok(Self {
            vfs,
            clock,
            dir,
            segment_bytes,
            buffer: Mutex::new(Buffer { records: Vec::new(), segment }),
            file: Mutex::new(tail),
            syncing: Mutex::default(),
            counters: WalCounters::default(),
        })
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

    /// Number of the segment at the end.
    pub(crate) fn segment(&self) -> u64 {
        lock(&self.file).segment
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        let tail = lock(&self.file);
        tail.older_bytes + tail.len
    }

    /// Hands everything pushed before to the operating system.
    pub(crate) fn flush(&self) -> Result<(), VfsError> {
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
        if tail.len >= self.segment_bytes {
            self.rotate_tail(tail)?;
        }
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
        self.repair(tail)?;
        let mut pages = std::mem::take(&mut tail.pages);
        pages.clear();
        page::put_pages(&mut pages, &tail.pending, &mut tail.encoder.0);
        let result = tail.file.write_all(&pages);
        let n = pages.len() as u64;
        if pages.capacity() <= SPARE_BYTES_MAX {
            tail.pages = pages;
        }
        tail.is_dirty = true;
        if let Err(e) = result {
            tail.is_broken = true;
            // The error to report is the first; whether the repair works is seen by the next flush.
            let _ = self.repair(tail);
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

    /// Cuts what a failed write left behind the last whole page.
    fn repair(&self, tail: &mut Tail) -> Result<(), VfsError> {
        if tail.is_broken {
            tail.file.truncate(tail.len)?;
            tail.is_broken = false;
        }
        Ok(())
    }

    /// Makes everything flushed durable. Does not hold up flushes.
    pub(crate) fn sync(&self) -> Result<(), VfsError> {
        let _syncing = lock(&self.syncing);
        let file = {
            let mut tail = lock(&self.file);
            if !tail.is_dirty {
                return Ok(());
            }
            tail.is_dirty = false;
            Arc::clone(&tail.file)
        };
        self.count_failure(self.sync_file(&*file))
    }

    fn sync_file(&self, file: &dyn VfsFile) -> Result<(), VfsError> {
        let start = self.clock.monotonic_ns();
        let result = file.sync();
        self.counters.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.counters.fsync_ns.fetch_add(self.clock.monotonic_ns().saturating_sub(start), Ordering::Relaxed);
        result
    }

    /// Flushes, then begins the next segment and gives its number; the one before is durable.
    pub(crate) fn rotate(&self) -> Result<u64, VfsError> {
        let mut tail = lock(&self.file);
        let result = self.flush_tail(&mut tail).and_then(|()| self.rotate_tail(&mut tail));
        self.count_failure(result)?;
        Ok(tail.segment)
    }

    fn rotate_tail(&self, tail: &mut Tail) -> Result<(), VfsError> {
        self.repair(tail)?;
        self.sync_file(&*tail.file)?;
        let file = new_segment(&*self.vfs, &self.dir, tail.segment + 1)?;
        tail.older_bytes += tail.len;
        tail.segment += 1;
        tail.len = page::FILE_HEADER_BYTES as u64;
        tail.file = file;
        tail.is_dirty = true;
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
