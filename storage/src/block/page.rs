//! A page: mini-blocks of neighbouring columns of a span behind a table that says where each is. Columns of one short
//! number are in the table itself.

use super::mini;
use super::section::Malformed;
use crate::wire::{Reader, put_bytes, put_varint};

/// Entry of a column without a sample, before how many more have none.
const ABSENT: u64 = 0;
/// Low bit of an entry: it is a number, not bytes of a mini-block.
const NUMBER: u64 = 1;

/// Where the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// It has none.
    Absent,
    /// All rows are this number, see [`mini::constant`].
    Constant(u64),
    /// Start and end of its mini-block in the body of the page.
    Bytes(usize, usize),
}

/// A page under construction.
#[derive(Default)]
pub(super) struct PageBuilder {
    /// Timestamps, in the first page of a span only.
    times: Option<Vec<u8>>,
    table: Vec<u8>,
    n_columns: usize,
    /// Columns without a sample that are not in the table yet.
    n_absent: u64,
    minis: Vec<u8>,
}

impl PageBuilder {
    /// Puts the timestamps of a span before its columns.
    pub(super) fn begin_span(&mut self, times: &[u8]) {
        self.times = Some(times.to_vec());
    }

    pub(super) fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Whether there is so much in it that the next mini-block should begin another.
    pub(super) fn is_full(&self) -> bool {
        self.minis.len() >= mini::PAGE_BYTES
    }

    /// Adds a mini-block; no bytes when a column has none.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.n_columns += 1;
        if bytes.is_empty() {
            self.n_absent += 1;
            return;
        }
        self.put_absent();
        match mini::as_constant(bytes) {
            Some(number) => put_varint(&mut self.table, number << 1 | NUMBER),
            None => {
                put_varint(&mut self.table, (bytes.len() as u64) << 1);
                self.minis.extend_from_slice(bytes);
            }
        }
    }

    fn put_absent(&mut self) {
        if self.n_absent > 0 {
            put_varint(&mut self.table, ABSENT);
            put_varint(&mut self.table, self.n_absent - 1);
            self.n_absent = 0;
        }
    }

    /// The body of the page, which is empty afterwards.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.put_absent();
        let mut out = Vec::with_capacity(self.minis.len() + self.table.len() + 64);
        if let Some(times) = self.times.take() {
            put_bytes(&mut out, &times);
        }
        out.append(&mut self.table);
        out.append(&mut self.minis);
        self.n_columns = 0;
        out
    }
}

/// Where the values of each column of a page are.
pub(super) fn parse(body: &[u8], has_times: bool, n_columns: usize) -> Result<Vec<Stored>, Malformed> {
    let mut r = Reader::new(body);
    if has_times {
        r.bytes()?;
    }
    // Runs of absent columns take two bytes whatever their length, so the count of the index bounds them, not the page.
    let mut columns = Vec::with_capacity(n_columns.min(body.len()));
    let mut at = 0usize;
    while columns.len() < n_columns {
        let entry = r.varint()?;
        if entry == ABSENT {
            let more = r.count(n_columns - columns.len() - 1)?;
            columns.resize(columns.len() + 1 + more, Stored::Absent);
        } else if entry & NUMBER != 0 {
            columns.push(Stored::Constant(entry >> 1));
        } else {
            let end = usize::try_from(entry >> 1).ok().and_then(|len| at.checked_add(len));
            let end = end.filter(|end| *end <= body.len()).ok_or_else(|| r.error("length of a mini-block"))?;
            columns.push(Stored::Bytes(at, end));
            at = end;
        }
    }
    if at != r.remaining() {
        return Err(r.error("length of a page").into());
    }
    let base = r.offset();
    for column in &mut columns {
        if let Stored::Bytes(start, end) = column {
            (*start, *end) = (*start + base, *end + base);
        }
    }
    Ok(columns)
}
