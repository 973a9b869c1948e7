//! Reads all of a block and checks that its parts agree.

use std::path::Path;

use promontory_model::{Cancel, ReadError};
use roaring::RoaringBitmap;

use super::reader::OpenBlock;
use super::section::File;
use super::{BlockError, BlockMeta, BlockReader, INDEX_FILE};
use crate::vfs::Vfs;

/// What a check has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// What the block says of itself; its counts have been found true.
    pub meta: BlockMeta,
    /// Bytes of encoded timestamps.
    pub timestamp_bytes: u64,
    /// Bytes of mini-blocks, summaries included.
    pub value_bytes: u64,
}

/// Checks the block in the folder `path`: every CRC, every order and reference, every summary against its values.
///
/// Costs a full decode of the block; memory grows with its label pairs and widest group only.
///
/// # Errors
/// [`BlockError`] naming the first place that is wrong.
pub fn verify(vfs: &dyn Vfs, path: &Path) -> Result<VerifyReport, BlockError> {
    verify_watched(vfs, path, &Cancel::new(), &|_| {})
}

/// As [`verify`], but can be stopped, and calls `progress` with the data bytes that were checked since the last call.
pub(crate) fn verify_watched(
    vfs: &dyn Vfs,
    path: &Path,
    cancel: &Cancel,
    progress: &dyn Fn(u64),
) -> Result<VerifyReport, BlockError> {
    let reader = BlockReader::open(vfs, path)?;
    let block = reader.inner();
    let index_path = path.join(INDEX_FILE);
    let file = File { path: &index_path, bytes: &[] };
    let columns = check_series(block, file)?;
    let mut report = VerifyReport { meta: block.meta.clone(), timestamp_bytes: 0, value_bytes: 0 };
    let mut found = Counts::default();
    for (group, columns) in columns.iter().enumerate() {
        cancel.check().map_err(ReadError::from)?;
        let before = found.data_end;
        check_group(block, group as u32, columns, &mut found, &mut report)?;
        progress(found.data_end - before);
    }
    let meta = &block.meta;
    let counts = |samples, minis, pages, data_end| {
        format!("{samples} samples, {minis} mini-blocks, {pages} pages, {data_end} data bytes")
    };
    let expected = counts(meta.n_samples, meta.n_mini_blocks, meta.n_pages, meta.data_bytes);
    let found = counts(found.samples, found.minis, found.pages, found.data_end);
    if expected != found {
        return Err(file.corrupt(0, "counts of the block", expected, found).into());
    }
    Ok(report)
}

#[derive(Default)]
struct Counts {
    samples: u64,
    minis: u64,
    pages: u64,
    data_end: u64,
}

/// Checks dictionaries, postings and the table of series against each other; gives the columns of each group.
fn check_series(block: &OpenBlock, file: File<'_>) -> Result<Vec<RoaringBitmap>, ReadError> {
    let index = block.index()?;
    let cancel = Cancel::new();
    let mut columns = vec![RoaringBitmap::new(); index.n_groups as usize];
    let mut n_pairs = 0u64;
    let mut problem = None;
    index.for_series(&index.all(), &cancel, |number, entry| {
        n_pairs += entry.labels.len() as u64;
        if !columns[entry.group as usize].insert(entry.column) {
            problem.get_or_insert_with(|| file.corrupt(0, "column of two series", "one series", number));
        }
    })?;
    if let Some(problem) = problem {
        return Err(problem);
    }
    // Every posting says of its series what the table says: the same number of pairs in all, and each a pair of it.
    let mut n_posted = 0u64;
    let mut of_value = RoaringBitmap::new();
    let mut of_name = RoaringBitmap::new();
    let mut named = RoaringBitmap::new();
    for position in 0..index.names().len() {
        let postings = index.postings(position)?;
        let mut last: Option<String> = None;
        let mut values = Vec::new();
        index.dictionary(position)?.scan(0, |_, value| {
            if value.is_empty() || last.as_deref().is_some_and(|l| l >= value) {
                return Err(file.corrupt(0, "order of label values", format!("after {last:?}"), value));
            }
            last = Some(value.to_owned());
            values.push(value.to_owned());
            Ok(true)
        })?;
        of_name.clear();
        for (i, value) in values.iter().enumerate() {
            of_value.clear();
            postings.add(i, &mut of_value)?;
            n_posted += of_value.len();
            if of_value.is_empty() || !of_name.is_disjoint(&of_value) {
                return Err(file.corrupt(0, "series of a label value", "some, each with one value", value));
            }
            of_name |= &of_value;
        }
        named.clear();
        postings.add(values.len(), &mut named)?;
        if named != of_name {
            return Err(file.corrupt(0, "series of a label name", of_name.len(), named.len()));
        }
        check_values(block, file, position, values.len(), &named)?;
    }
    if n_posted != n_pairs {
        return Err(file.corrupt(0, "label pairs in postings", n_pairs, n_posted));
    }
    Ok(columns)
}

/// Every series of the name has the value whose postings hold it.
fn check_values(
    block: &OpenBlock,
    file: File<'_>,
    name: usize,
    n_values: usize,
    named: &RoaringBitmap,
) -> Result<(), ReadError> {
    let index = block.index()?;
    let mut value_of = vec![u32::MAX; index.n_series as usize];
    let postings = index.postings(name)?;
    let mut of_value = RoaringBitmap::new();
    for i in 0..n_values {
        of_value.clear();
        postings.add(i, &mut of_value)?;
        of_value.iter().for_each(|s| value_of[s as usize] = i as u32);
    }
    index.for_rows(named, &Cancel::new(), |number, row| {
        let found = row.labels.iter().find(|(n, _)| *n as usize == name).map(|(_, value)| *value);
        let expected = value_of[number as usize];
        if found == Some(expected) {
            return Ok(());
        }
        Err(file.corrupt(0, "label value of a series", format!("number {expected}"), format!("{found:?}")))
    })
}

fn check_group(
    block: &OpenBlock,
    group: u32,
    columns: &RoaringBitmap,
    found: &mut Counts,
    report: &mut VerifyReport,
) -> Result<(), ReadError> {
    let file = block.data_file();
    let entry = block.group(group)?;
    let all: RoaringBitmap = (0..entry.n_columns as u32).collect();
    if *columns != all {
        return Err(file.corrupt(0, "columns of a group", entry.n_columns, columns.len()));
    }
    if (entry.data_offset, entry.first_page) != (found.data_end, found.pages) {
        let expected = format!("page {} at {}", found.pages, found.data_end);
        let got = format!("page {} at {}", entry.first_page, entry.data_offset);
        return Err(file.corrupt(0, "first page of a group", expected, got));
    }
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for (i, span) in entry.spans.iter().enumerate() {
        found.pages += span.pages.len() as u64;
        found.data_end += span.pages.iter().map(|p| p.len as u64).sum::<u64>();
        let mut reader = block.span(&entry, i);
        times.clear();
        reader.timestamps(&mut times)?;
        report.timestamp_bytes += reader.encoded_timestamps()?.1.len() as u64;
        for column in 0..entry.n_columns {
            let Some((base, mini)) = reader.mini_block(column)? else {
                continue;
            };
            report.value_bytes += reader.encoded(column)?.map_or(0, |b| b.len() as u64);
            values.clear();
            reader.values(column, &mut values)?;
            let (mut rows, mut histograms) = (Vec::new(), Vec::new());
            mini.histograms(&mut rows, &mut histograms).map_err(|e| file.malformed(base, e))?;
            found.samples += (values.len() + histograms.len()) as u64;
            found.minis += 1;
        }
    }
    Ok(())
}
