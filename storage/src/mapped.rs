//! Read-only views of whole files. The only `unsafe` of the database lies here.
//!
//! A view never changes its length. What is behind it may be a memory map or owned bytes; readers cannot tell.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

/// The bytes of a file as they were when it was mapped; clones share them.
#[derive(Clone)]
pub struct Mapped(Arc<Bytes>);

enum Bytes {
    Map(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Mapped {
    /// A view of bytes in memory.
    #[must_use]
    pub fn owned(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Bytes::Owned(bytes)))
    }

    /// Maps the bytes that `file` has now.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::owned(Vec::new()));
        }
        // SAFETY: a map is sound as long as nobody shortens or changes the mapped bytes. Our files only grow at
        // their end, are cut only at open before they are mapped, and are removed (which keeps the pages) rather
        // than overwritten; the lock file keeps other processes of ours out. What remains is a stranger who
        // truncates a data file of a running server: the process then gets SIGBUS, and a stranger who writes into
        // one: readers may see changing bytes, which every reader treats as hostile and checks by CRC.
        #[expect(unsafe_code, reason = "memory maps cannot be had without; see the SAFETY comment")]
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Self(Arc::new(Bytes::Map(map))))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Bytes::Map(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({} bytes)", self.len())
    }
}
