//! Head segments: files of sealed chunks. They grow at the end and are removed whole.
//!
//! What a manifest names of them is durable; what lies behind is cut at open, for the WAL still has it. A chunk's
//! checksum is verified when it is first read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use promontory_model::ReadError;

use super::chunk::{Body, HEADER_BYTES, Header, Kind, MAGIC};
use super::file_header;
use super::histogram_chunk;
use super::lock;
use crate::canary::{Bug, is_planted};
use crate::vfs::{Mapped, Vfs, VfsError, VfsFile};
use crate::wire::WireError;

/// Start of every segment: magic, version, checksum.
pub(crate) const FILE_HEADER_BYTES: usize = file_header::BYTES;
const FILE_MAGIC: [u8; 6] = *b"PMTHSG";

/// Header of a segment file.
pub(crate) fn file_header() -> [u8; FILE_HEADER_BYTES] {
    file_header::of(FILE_MAGIC)
}

/// Name of a segment.
pub(crate) fn segment_name(id: u64) -> String {
    file_header::name(id, "seg")
}

/// Number of the segment with this name.
pub(crate) fn segment_of(name: &str) -> Option<u64> {
    file_header::number(name, "seg")
}

/// A segment for reading.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    vfs: Arc<dyn Vfs>,
    /// Bytes written.
    len: AtomicU64,
    /// A view of the file as it was when last needed.
    view: Mutex<Mapped>,
}

impl Segment {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: &Path, id: u64, len: u64) -> Self {
        let path = dir.join(segment_name(id));
        Self { id, path, vfs, len: AtomicU64::new(len), view: Mutex::new(Mapped::owned(Vec::new())) }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// A view that reaches at least to `end`, which has been written.
    pub(crate) fn view(&self, end: u64) -> Result<Mapped, ReadError> {
        let mut view = lock(&self.view);
        if (view.len() as u64) < end {
            *view = self.vfs.map_read(&self.path)?;
        }
        Ok(view.clone())
    }

    /// Gives back the view. What was read through it counts as memory of this process as long as it is mapped.
    fn drop_view(&self) {
        *lock(&self.view) = Mapped::owned(Vec::new());
    }

    pub(crate) fn corrupt(&self, offset: u64, what: &'static str, expected: &str, found: String) -> ReadError {
        ReadError::corrupt(&self.path, offset, what, expected, found)
    }
}

/// A sealed chunk.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) header: Header,
    segment: Arc<Segment>,
    /// Where its header starts.
    offset: u64,
    is_verified: AtomicBool,
    /// Append of each row while a snapshot may be older than some of them.
    seqs: Mutex<Option<Arc<[u64]>>>,
}

/// Bytes of a chunk's body.
pub(crate) struct ChunkBytes {
    view: Mapped,
    start: usize,
    end: usize,
}

impl ChunkBytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.view[self.start..self.end]
    }
}

impl Chunk {
    pub(crate) fn new(header: Header, segment: Arc<Segment>, offset: u64, seqs: Option<Arc<[u64]>>) -> Self {
        Self { header, segment, offset, is_verified: AtomicBool::new(false), seqs: Mutex::new(seqs) }
    }

    pub(crate) fn segment_id(&self) -> u64 {
        self.segment.id
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>()
            + 3 * size_of::<usize>()
            + lock(&self.seqs).as_ref().map_or(0, |seqs| 16 + size_of_val(&**seqs))
    }

    /// Appends of its rows; `None` when every snapshot sees all of them.
    pub(crate) fn seqs(&self) -> Option<Arc<[u64]>> {
        lock(&self.seqs).clone()
    }

    /// Forgets the appends of its rows when all are at or before `oldest`; answers whether none are kept now.
    pub(crate) fn forget_seqs(&self, oldest: u64) -> bool {
        let mut seqs = lock(&self.seqs);
        if seqs.as_ref().is_some_and(|s| s.iter().all(|&seq| seq <= oldest)) {
            *seqs = None;
        }
        seqs.is_none()
    }

    /// The body's bytes, verified on first use.
    pub(crate) fn bytes(&self) -> Result<ChunkBytes, ReadError> {
        let start = self.offset + HEADER_BYTES as u64;
        let end = start + u64::from(self.header.body_len);
        let view = self.segment.view(end)?;
        let (start, end) = (start as usize, end as usize);
        let Some(body) = view.get(start..end) else {
            let found = format!("{} bytes", view.len());
            return Err(self.segment.corrupt(self.offset, "length of the segment", &format!("{end} bytes"), found));
        };
        if !self.is_verified.load(Ordering::Relaxed) {
            let found = crc32fast::hash(body);
            if found != self.header.body_crc && !is_planted(Bug::ChunkCrcIgnored) {
                let expected = format!("{:08x}", self.header.body_crc);
                return Err(self.segment.corrupt(self.offset, "crc of a chunk", &expected, format!("{found:08x}")));
            }
            self.is_verified.store(true, Ordering::Relaxed);
        }
        Ok(ChunkBytes { view, start, end })
    }

    /// The first time at or after `floor`.
    pub(crate) fn first_t(&self, floor: i64) -> Result<Option<i64>, ReadError> {
        if self.header.mint >= floor || self.header.maxt < floor {
            return Ok((self.header.mint >= floor).then_some(self.header.mint));
        }
        let bytes = self.bytes()?;
        let mut times = Vec::new();
        match self.header.kind {
            Kind::Rows | Kind::Late => {
                self.body(&bytes)?.timestamps(&mut times).map_err(|e| self.malformed(e))?;
            }
            Kind::Histograms => times = histogram_chunk::Body::of(self, &bytes)?.into_timestamps(),
        }
        Ok(times.into_iter().find(|&t| t >= floor))
    }

    pub(crate) fn body<'a>(&self, bytes: &'a ChunkBytes) -> Result<Body<'a>, ReadError> {
        Body::new(&self.header, bytes.as_slice()).map_err(|e| self.malformed(e))
    }

    pub(crate) fn malformed(&self, e: WireError) -> ReadError {
        self.segment.corrupt(self.offset + e.offset as u64, e.what, "a chunk", "other bytes".to_owned())
    }
}

/// The segment that grows, and those before it.
#[derive(Debug)]
pub(crate) struct Segments {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Ascending ids; the last one may be open.
    all: Vec<Arc<Segment>>,
    open: Option<Open>,
    next_id: u64,
    /// Files that changed since the last sync.
    dirty: Vec<Arc<dyn VfsFile>>,
    is_dir_dirty: bool,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn VfsFile>,
    segment: Arc<Segment>,
    is_dirty: bool,
    /// Set when a failed write could not be taken back.
    is_broken: bool,
}

impl Segments {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        segment_bytes: u64,
        all: Vec<Arc<Segment>>,
        next_id: u64,
    ) -> Self {
        let state = State { all, open: None, next_id, dirty: Vec::new(), is_dir_dirty: false };
        Self { vfs, dir, segment_bytes, state: Mutex::new(state) }
    }

    /// Writes a chunk at the end.
    pub(crate) fn append(&self, bytes: &[u8], header: Header, seqs: Option<Arc<[u64]>>) -> Result<Chunk, VfsError> {
        let mut state = lock(&self.state);
        let open = self.open(&mut state)?;
        if open.is_broken {
            open.file.truncate(open.segment.len())?;
            open.is_broken = false;
        }
        let offset = open.segment.len();
        if let Err(e) = open.file.write_all(bytes) {
            open.is_broken = open.file.truncate(offset).is_err();
            return Err(e);
        }
        open.is_dirty = true;
        open.segment.len.store(offset + bytes.len() as u64, Ordering::Release);
        Ok(Chunk::new(header, Arc::clone(&open.segment), offset, seqs))
    }

    fn open<'a>(&self, state: &'a mut State) -> Result<&'a mut Open, VfsError> {
        let is_full = state.open.as_ref().is_some_and(|o| o.segment.len() >= self.segment_bytes);
        if is_full && let Some(full) = state.open.take() {
            state.dirty.push(full.file);
        }
        if state.open.is_none() {
            let id = state.next_id;
            let segment = Arc::new(Segment::new(Arc::clone(&self.vfs), &self.dir, id, FILE_HEADER_BYTES as u64));
            let file = self.vfs.create(&segment.path)?;
            file.write_all(&file_header())?;
            state.next_id += 1;
            state.is_dir_dirty = true;
            state.all.push(Arc::clone(&segment));
            state.open = Some(Open { file: Arc::from(file), segment, is_dirty: true, is_broken: false });
        }
        Ok(state.open.as_mut().expect("opened above"))
    }

    /// Makes everything written before durable, and gives id and length of all segments as they were then.
    pub(crate) fn sync(&self) -> Result<Vec<(u64, u64)>, VfsError> {
        let (lengths, dirty, is_dir_dirty) = {
            let mut state = lock(&self.state);
            let lengths = state.all.iter().map(|s| (s.id, s.len())).collect();
            let mut dirty = std::mem::take(&mut state.dirty);
            if let Some(open) = &mut state.open
                && std::mem::take(&mut open.is_dirty)
            {
                dirty.push(Arc::clone(&open.file));
            }
            (lengths, dirty, std::mem::take(&mut state.is_dir_dirty))
        };
        let result = (|| {
            for file in dirty.iter().filter(|_| !is_planted(Bug::ChunksNotSynced)) {
                file.sync()?;
            }
            if is_dir_dirty { self.vfs.sync_dir(&self.dir) } else { Ok(()) }
        })();
        result.map(|()| lengths)
    }

    /// Takes segments that `keep` refuses out of the list; the open one stays. Their files are removed by
    /// [`Segments::remove_files`] once no manifest names them.
    pub(crate) fn retire(&self, keep: impl Fn(u64) -> bool) -> Vec<PathBuf> {
        let mut state = lock(&self.state);
        let open = state.open.as_ref().map(|o| o.segment.id);
        let (kept, gone): (Vec<_>, Vec<_>) = state.all.drain(..).partition(|s| keep(s.id) || Some(s.id) == open);
        state.all = kept;
        gone.into_iter().map(|s| s.path.clone()).collect()
    }

    /// Gives back what was mapped to read nearly everything once, as a cut does; who reads again maps again.
    pub(crate) fn drop_views(&self) {
        lock(&self.state).all.iter().for_each(|segment| segment.drop_view());
    }

    /// Removes files of retired segments.
    pub(crate) fn remove_files(&self, paths: &[PathBuf]) -> Result<(), VfsError> {
        for path in paths {
            self.vfs.remove_file(path)?;
        }
        Ok(())
    }

    /// Ends the open segment, so that truncation can remove it later.
    pub(crate) fn finish_open(&self) {
        let mut state = lock(&self.state);
        if let Some(open) = state.open.take() {
            state.dirty.push(open.file);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.state).all.iter().map(|s| s.len()).sum()
    }

    pub(crate) fn next_id(&self) -> u64 {
        lock(&self.state).next_id
    }
}

/// Finds the chunks of a segment that a manifest names. `damaged` hears of offsets where no chunk could be found.
///
/// Headers are read one by one: a chunk is several pages long, and to map them all for 64 bytes of each takes longer.
pub(crate) fn scan(
    segment: &Arc<Segment>,
    mut damaged: impl FnMut(u64, &'static str),
) -> Result<Vec<Chunk>, ReadError> {
    let file = segment.vfs.open_read(&segment.path)?;
    let len = segment.len().min(file.len()?);
    let mut out = Vec::new();
    let mut start = [0; FILE_HEADER_BYTES];
    if len >= FILE_HEADER_BYTES as u64 {
        file.read_exact_at(0, &mut start)?;
    }
    if start != file_header() {
        damaged(0, "header of the segment");
    }
    let mut at = len.min(FILE_HEADER_BYTES as u64);
    let mut header = [0; HEADER_BYTES];
    while at < len {
        if len - at >= HEADER_BYTES as u64 {
            file.read_exact_at(at, &mut header)?;
        }
        let end = |h: &Header| at + HEADER_BYTES as u64 + u64::from(h.body_len);
        let found = Header::read(&header).filter(|h| len - at >= HEADER_BYTES as u64 && end(h) <= len);
        if let Some(found) = found {
            let next = end(&found);
            out.push(Chunk::new(found, Arc::clone(segment), at, None));
            at = next;
            continue;
        }
        damaged(at, "header of a chunk");
        at = next_header(segment, at + 1, len)?;
    }
    Ok(out)
}

/// Where the next good header of a chunk lies, from `at` on; `len` when there is none.
fn next_header(segment: &Segment, at: u64, len: u64) -> Result<u64, ReadError> {
    let view = segment.vfs.map_read(&segment.path)?;
    let bytes = &view[..view.len().min(len as usize)];
    let magic = MAGIC.to_le_bytes();
    let places = bytes.windows(magic.len()).enumerate().skip(at as usize).filter(|(_, w)| *w == magic);
    let is_good = |at: usize| {
        let end = |h: &Header| at + HEADER_BYTES + h.body_len as usize;
        Header::read(&bytes[at..]).is_some_and(|h| end(&h) <= bytes.len())
    };
    Ok(places.map(|(at, _)| at).find(|&at| is_good(at)).map_or(len, |at| at as u64))
}

#[cfg(test)]
mod tests {
    use super::super::chunk::{Input, Kind, write};
    use super::*;
    use crate::vfs::SimVfs;

    fn chunk(group: u32) -> (Vec<u8>, Header) {
        let mut bytes = Vec::new();
        let input = Input { group, kind: Kind::Rows, timestamps: &[1, 2], n_columns: 1, first_no: 0, end_no: 2 };
        let header = write(&mut bytes, &input, |_, values, _| values.extend([1.0, f64::from(group)]));
        (bytes, header)
    }

    fn written() -> (SimVfs, Vec<(u64, u64)>) {
        let vfs = SimVfs::new();
        vfs.create_dir_all(Path::new("head")).unwrap();
        let segments = Segments::new(Arc::new(vfs.clone()), "head".into(), 200, vec![], 1);
        for group in 0..5 {
            let (bytes, header) = chunk(group);
            segments.append(&bytes, header, None).unwrap().bytes().map(drop).unwrap();
        }
        let lengths = segments.sync().unwrap();
        (vfs, lengths)
    }

    fn found(vfs: &SimVfs, lengths: &[(u64, u64)]) -> (Vec<u32>, usize) {
        let mut damage = 0;
        let mut groups = Vec::new();
        for &(id, len) in lengths {
            let segment = Arc::new(Segment::new(Arc::new(vfs.clone()), Path::new("head"), id, len));
            groups.extend(scan(&segment, |_, _| damage += 1).unwrap().iter().map(|c| c.header.group));
        }
        (groups, damage)
    }

    #[test]
    fn chunks_are_found_again_over_several_segments() {
        let (vfs, lengths) = written();
        assert!(lengths.len() > 1);
        assert_eq!(found(&vfs, &lengths), (vec![0, 1, 2, 3, 4], 0));
    }

    #[test]
    fn a_damaged_header_costs_one_chunk_and_a_damaged_body_fails_its_reads() {
        let (vfs, lengths) = written();
        let path = Path::new("head").join(segment_name(1));
        vfs.corrupt(&path, |bytes| bytes[FILE_HEADER_BYTES + 20] ^= 1);
        assert_eq!(found(&vfs, &lengths), (vec![1, 2, 3, 4], 1));
        let segment = Arc::new(Segment::new(Arc::new(vfs.clone()), Path::new("head"), 2, lengths[1].1));
        vfs.corrupt(&segment.path, |bytes| bytes[FILE_HEADER_BYTES + HEADER_BYTES] ^= 1);
        let chunks = scan(&segment, |_, _| panic!("headers are whole")).unwrap();
        assert!(matches!(chunks[0].bytes(), Err(ReadError::Corrupt { what: "crc of a chunk", .. })));
    }

    #[test]
    fn a_full_disk_leaves_no_half_chunk() {
        let (vfs, _) = written();
        let segments = Segments::new(Arc::new(vfs.clone()), "head".into(), 1000, vec![], 9);
        let (bytes, header) = chunk(7);
        segments.append(&bytes, header.clone(), None).unwrap();
        let used: u64 = vfs.files(Path::new("")).iter().map(|f| vfs.map_read(f).unwrap().len() as u64).sum();
        vfs.set_space(Some(used + 10));
        assert!(segments.append(&bytes, header.clone(), None).unwrap_err().is_no_space());
        vfs.set_space(None);
        segments.append(&bytes, header, None).unwrap();
        assert_eq!(found(&vfs, &segments.sync().unwrap()), (vec![7, 7], 0));
    }
}
