//! Sealing: open rows and late cells of a group become a chunk in the head segment.
//!
//! A sealed sample stays in the WAL until a manifest names the chunk, so a crash in between loses nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use promontory_model::HistogramSample;

use super::Head;
use super::chunk::{self, Input, Kind};
use super::group::{Group, no_cells};
use super::histogram_chunk;
use super::open::Tile;
use super::row::TILE;
use crate::sample::read_histogram;
use crate::vfs::VfsError;

impl Head {
    /// Seals what is open in a group, rows and late cells; answers whether there was anything.
    pub(crate) fn seal(&self, id: u32, group: &mut Group) -> Result<bool, VfsError> {
        let rows = self.seal_rows(id, group)?;
        let late = self.seal_late(id, group)?;
        let histograms = self.seal_histograms(id, group)?;
        if !group.is_claimed {
            group.rows.give_back();
        }
        Ok(rows || late || histograms)
    }

    pub(crate) fn seal_rows(&self, id: u32, group: &mut Group) -> Result<bool, VfsError> {
        let (Some(first), Some(last)) = (group.rows.first(), group.rows.last()) else { return Ok(false) };
        let rows = group.rows.rows();
        let timestamps: Vec<i64> = rows.iter().map(|row| row.t).collect();
        let input = Input {
            group: id,
            kind: Kind::Rows,
            timestamps: &timestamps,
            n_columns: rows.iter().map(|row| row.n_columns as usize).max().unwrap_or(0),
            first_no: first.no,
            end_no: last.no + 1,
        };
        let mut bytes = Vec::new();
        let mut tile = Tile::default();
        let header = chunk::write(&mut bytes, &input, |column, values, bitmap| {
            if column % TILE == 0 {
                tile.read(rows, column / TILE);
            }
            bitmap.resize(rows.len().div_ceil(8), 0);
            for i in 0..rows.len() {
                if let Some(value) = tile.get(i, column % TILE) {
                    values.push(value);
                    bitmap[i / 8] |= 1 << (i % 8);
                }
            }
        });
        let seqs = rows.iter().map(|row| row.seq).collect();
        let chunk = self.segments.append(&bytes, header, Some(seqs))?;
        group.sealed_rows(chunk);
        Ok(true)
    }

    pub(crate) fn seal_late(&self, id: u32, group: &mut Group) -> Result<bool, VfsError> {
        if group.late.is_empty() {
            return Ok(false);
        }
        let mut timestamps: Vec<i64> = Vec::new();
        let mut seqs: Vec<u64> = Vec::new();
        let mut columns: BTreeMap<u32, Vec<(usize, f64)>> = BTreeMap::new();
        for (&(t, column), cell) in &*group.late {
            if timestamps.last() == Some(&t) {
                // Of a row with cells of several appends the oldest counts: a running query may then see a cell too
                // many, but loses none.
                if let Some(seq) = seqs.last_mut() {
                    *seq = cell.seq.min(*seq);
                }
            } else {
                timestamps.push(t);
                seqs.push(cell.seq);
            }
            columns.entry(column).or_default().push((timestamps.len() - 1, cell.value));
        }
        let n_columns = columns.last_key_value().map_or(0, |(&column, _)| column as usize + 1);
        let input = Input {
            group: id,
            kind: Kind::Late,
            timestamps: &timestamps,
            n_columns,
            first_no: group.late_first_no,
            end_no: group.late_no,
        };
        let mut bytes = Vec::new();
        let header = chunk::write(&mut bytes, &input, |column, values, bitmap| {
            bitmap.resize(timestamps.len().div_ceil(8), 0);
            for &(row, value) in columns.get(&(column as u32)).map_or(&[][..], Vec::as_slice) {
                values.push(value);
                bitmap[row / 8] |= 1 << (row % 8);
            }
        });
        let chunk = self.segments.append(&bytes, header, Some(seqs.into()))?;
        Arc::make_mut(&mut group.late_chunks).push(Arc::new(chunk));
        group.late = no_cells();
        group.late_first_no = group.late_no;
        group.late_wal = None;
        Ok(true)
    }

    pub(crate) fn seal_histograms(&self, id: u32, group: &mut Group) -> Result<bool, VfsError> {
        let Some(histograms) = group.histograms.as_deref_mut().filter(|h| !h.open.is_empty()) else {
            return Ok(false);
        };
        let mut timestamps: Vec<i64> = Vec::new();
        let mut seqs: Vec<u64> = Vec::new();
        let mut columns: BTreeMap<u32, Vec<(usize, HistogramSample)>> = BTreeMap::new();
        for (&(t, column), cell) in &*histograms.open {
            // As with late samples, the oldest append of a time counts.
            if timestamps.last() == Some(&t) {
                if let Some(seq) = seqs.last_mut() {
                    *seq = cell.seq.min(*seq);
                }
            } else {
                timestamps.push(t);
                seqs.push(cell.seq);
            }
            // Its bytes were checked when they were appended or replayed.
            if let Ok(sample) = read_histogram(&cell.bytes) {
                columns.entry(column).or_default().push((timestamps.len() - 1, sample));
            }
        }
        let input = histogram_chunk::Input {
            group: id,
            timestamps: &timestamps,
            columns,
            first_no: histograms.first_no,
            end_no: histograms.next_no,
        };
        let mut bytes = Vec::new();
        let header = histogram_chunk::write(&mut bytes, input);
        histograms.sealed(self.segments.append(&bytes, header, Some(seqs.into()))?);
        Ok(true)
    }
}
