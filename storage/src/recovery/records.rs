//! Records of the log on their way from the thread that reads files to those that apply them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of records that are sent together.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that may wait.
const BATCHES_MAX: usize = 32;

/// Records in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Segment, offset of the page and end in `bytes` of each.
    records: Vec<(u64, u64, usize)>,
    bytes: Vec<u8>,
}

impl Batch {
    /// Segment, offset of the page and bytes of each record.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64, &[u8])> {
        let mut start = 0;
        self.records.iter().map(move |&(segment, offset, end)| {
            let record = &self.bytes[start..end];
            start = end;
            (segment, offset, record)
        })
    }
}

/// Takes records to one thread.
pub(super) struct Sender {
    batch: Batch,
    to: SyncSender<Batch>,
}

pub(super) fn channel() -> (Sender, Receiver<Batch>) {
    let (to, from) = sync_channel(BATCHES_MAX);
    (Sender { batch: Batch::default(), to }, from)
}

impl Sender {
    pub(super) fn send(&mut self, segment: u64, offset: u64, record: &[u8]) {
        self.batch.bytes.extend_from_slice(record);
        self.batch.records.push((segment, offset, self.batch.bytes.len()));
        if self.batch.bytes.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        // Nobody listens only when the other thread panicked, which whoever joins it hears.
        let _ = self.to.send(std::mem::take(&mut self.batch));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.flush();
    }
}
