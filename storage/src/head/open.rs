//! The open rows of a group: those that are not sealed yet, oldest first.
//!
//! They are kept as bytes, each told from the rows before it (`super::row`), for as plain values they would take half
//! of the memory that a series may have; beside them lies the state that the next row is written against. Readers hold
//! copies, which share the bytes, and these never change: a row that gains a sample is replaced.

use std::borrow::Cow;
use std::sync::Arc;

use super::row::{Body, Row, TILE, put_body, put_extended};
use crate::wire::WireError;

/// A row that is not sealed.
#[derive(Debug, Clone)]
pub(crate) struct OpenRow {
    /// Number of the row in its group.
    pub(crate) no: u64,
    pub(crate) t: i64,
    /// Append that wrote the row; readers skip rows that are newer than their snapshot.
    pub(crate) seq: u64,
    /// Columns that the row reaches; those beyond are absent.
    pub(crate) n_columns: u32,
    /// The row is written against nothing, and those behind it not against those before it.
    is_keyframe: bool,
    bytes: RowBytes,
}

/// Longest body of a row that lies in the row itself: that of a group of one or two series.
const INLINE_MAX: usize = 14;
/// Rows that room is made for at once.
const ROWS_AT_ONCE: usize = 4;

/// The body of a row. Readers share what is not short.
#[derive(Debug, Clone)]
enum RowBytes {
    Inline(u8, [u8; INLINE_MAX]),
    /// A thin pointer, so that a row is a quarter smaller.
    Shared(Arc<Box<[u8]>>),
}

impl RowBytes {
    fn of(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE_MAX];
        match inline.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Self::Inline(bytes.len() as u8, inline)
            }
            None => Self::Shared(Arc::new(bytes.into())),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline(len, bytes) => &bytes[..usize::from(*len)],
            Self::Shared(bytes) => bytes,
        }
    }

    /// Bytes allocated beside the row.
    fn memory(&self) -> usize {
        match self {
            Self::Inline(..) => 0,
            Self::Shared(bytes) => bytes.len() + size_of::<Box<[u8]>>() + 2 * size_of::<usize>(),
        }
    }
}

impl OpenRow {
    fn body(&self) -> Body<'_> {
        Body::new(self.bytes.as_slice(), self.n_columns as usize).expect("looked at when the row was taken")
    }

    fn len(&self) -> usize {
        self.bytes.as_slice().len()
    }
}

/// Open rows and the state after the last.
#[derive(Debug, Default)]
pub(crate) struct OpenRows {
    rows: Vec<OpenRow>,
    state: Vec<f64>,
    /// Bytes of all bodies.
    bytes: usize,
    /// Samples of all rows.
    n_samples: usize,
    /// How often samples were added since the newest row came.
    n_patches: u64,
}

/// What is written of a row: its body, and whether it is written against nothing.
pub(crate) struct Written<'a> {
    pub(crate) row: &'a Row,
    pub(crate) is_keyframe: bool,
    /// Patches between the row before and this one; none of a keyframe, which is not written against them.
    pub(crate) n_patches: u64,
    pub(crate) body: &'a [u8],
}

/// Samples added to a row that lacks them.
#[derive(Debug, PartialEq)]
pub(crate) struct Patch<'a> {
    pub(crate) row_no: u64,
    pub(crate) t: i64,
    /// Patches of the group between its newest row and this one: what comes next is written against all of them, so that
    /// a missing one must be noticed.
    pub(crate) no: u64,
    pub(crate) cells: Cells<'a>,
}

/// The samples of a patch.
#[derive(Debug, PartialEq)]
pub(crate) enum Cells<'a> {
    /// Of the newest row, from a tile on, told from the state after it.
    Newest { first_tile: usize, body: Body<'a> },
    /// Of an older row: column, value.
    Older(Cow<'a, [(u32, f64)]>),
}

impl Cells<'_> {
    /// Columns up to the last one with a sample.
    pub(crate) fn n_columns(&self) -> usize {
        match self {
            Self::Newest { first_tile, body } => first_tile * TILE + body.n_columns(),
            Self::Older(cells) => cells.iter().map(|(column, _)| *column as usize + 1).max().unwrap_or(0),
        }
    }
}

impl OpenRows {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of the rows, without what each takes beside them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Samples of all rows.
    pub(crate) fn n_samples(&self) -> usize {
        self.n_samples
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        let bytes: usize = self.rows.iter().map(|row| row.bytes.memory()).sum();
        self.rows.capacity() * size_of::<OpenRow>() + bytes + self.state.capacity() * size_of::<f64>()
    }

    /// The rows for a reader.
    pub(crate) fn rows(&self) -> &[OpenRow] {
        &self.rows
    }

    pub(crate) fn first(&self) -> Option<&OpenRow> {
        self.rows.first()
    }

    pub(crate) fn last(&self) -> Option<&OpenRow> {
        self.rows.last()
    }

    /// Index of the row at `t`.
    pub(crate) fn at(&self, t: i64) -> Option<usize> {
        self.rows.binary_search_by_key(&t, |row| row.t).ok()
    }

    /// Index of the row with this number.
    pub(crate) fn numbered(&self, no: u64) -> Option<usize> {
        self.rows.binary_search_by_key(&no, |row| row.no).ok()
    }

    /// Adds a row, newer than the others, once `log` has taken what is written of it.
    pub(crate) fn push(&mut self, row: &Row, log: impl FnOnce(Written<'_>)) {
        let is_keyframe = self.rows.is_empty();
        if is_keyframe {
            self.state.fill(0.0);
        }
        let mut body = Vec::with_capacity(self.last().map_or(0, OpenRow::len) + 64);
        put_body(&mut body, row, &mut self.state);
        let n_patches = if is_keyframe { 0 } else { self.n_patches };
        log(Written { row, is_keyframe, n_patches, body: &body });
        self.n_patches = 0;
        self.keep(row, is_keyframe, &body);
    }

    fn keep(&mut self, row: &Row, is_keyframe: bool, body: &[u8]) {
        self.bytes += body.len();
        self.n_samples += row.n_present() as usize;
        let (no, t, seq, n_columns) = (row.no, row.t, row.seq, row.values.len() as u32);
        self.add(OpenRow { no, t, seq, n_columns, is_keyframe, bytes: RowBytes::of(body) });
    }

    fn add(&mut self, row: OpenRow) {
        if self.rows.len() == self.rows.capacity() {
            // Most groups have few open rows, and many groups may have few series.
            self.rows.reserve_exact(ROWS_AT_ONCE.max(self.rows.len() / 4));
        }
        self.rows.push(row);
    }

    /// Takes back a row that was logged. Unless it is a keyframe, the row before it is the last one here.
    ///
    /// # Errors
    /// When the bytes are not a row; nothing changes then.
    pub(crate) fn replay(&mut self, no: u64, t: i64, is_keyframe: bool, body: Body<'_>) -> Result<(), WireError> {
        if is_keyframe {
            self.state.fill(0.0);
        }
        let n_columns = body.n_columns();
        if self.state.len() < body.n_tiles() * TILE {
            self.state.resize(body.n_tiles() * TILE, 0.0);
        }
        let mut n_samples = 0;
        for (tile, state) in self.state.chunks_mut(TILE).take(body.n_tiles()).enumerate() {
            match body.read_tile(tile, state) {
                Ok(present) => n_samples += present.count_ones() as usize,
                Err(e) => {
                    self.restore_state();
                    return Err(e);
                }
            }
        }
        self.n_samples += n_samples;
        let bytes = RowBytes::of(body.bytes());
        self.bytes += body.bytes().len();
        self.add(OpenRow { no, t, seq: 0, n_columns: n_columns as u32, is_keyframe, bytes });
        self.n_patches = 0;
        Ok(())
    }

    /// Patches since the newest row.
    pub(crate) fn n_patches(&self) -> u64 {
        self.n_patches
    }

    /// Finds the state anew from the rows.
    fn restore_state(&mut self) {
        let n_columns = self.rows.iter().map(|row| row.n_columns as usize).max().unwrap_or(0);
        self.state.clear();
        self.state.resize(n_columns, 0.0);
        let mut tile = Tile::default();
        for (i, state) in self.state.chunks_mut(TILE).enumerate() {
            tile.read(&self.rows, i);
            state.copy_from_slice(&tile.state[..state.len()]);
        }
    }

    /// Which columns have a sample in the newest row.
    pub(crate) fn last_presence(&self) -> Vec<u64> {
        let Some(last) = self.rows.last() else { return Vec::new() };
        let body = last.body();
        (0..body.n_tiles()).map(|tile| body.read_tile_head(tile).expect("decoded when the row was taken")).collect()
    }

    /// Calls `each` with column and value of the samples of the newest row, which no patch has changed.
    pub(crate) fn for_each_in_last(&self, mut each: impl FnMut(u32, f64)) {
        for (tile, mut rest) in self.last_presence().into_iter().enumerate() {
            while rest != 0 {
                let column = tile * TILE + rest.trailing_zeros() as usize;
                each(column as u32, self.state[column]);
                rest &= rest - 1;
            }
        }
    }

    /// The value that the next one of a column is told from: its newest, once it has one.
    pub(crate) fn state(&self, column: u32) -> f64 {
        self.state.get(column as usize).copied().unwrap_or(0.0)
    }

    /// The sample of a column in the row at `index`.
    pub(crate) fn get(&self, index: usize, column: u32) -> Option<f64> {
        let column = column as usize;
        if !self.rows[index].body().is_present(column) {
            return None;
        }
        let mut tile = Tile::default();
        tile.read(&self.rows[..=index], column / TILE);
        tile.get(index, column % TILE)
    }

    /// Time and value of the newest sample of a column.
    pub(crate) fn newest(&self, column: u32) -> Option<(i64, f64)> {
        self.newest_after(column, i64::MIN)
    }

    /// The same among the rows after `t`: a history of one series may find many rows, none of which has it.
    pub(crate) fn newest_after(&self, column: u32, t: i64) -> Option<(i64, f64)> {
        let column = column as usize;
        let mut rows = self.rows.iter().enumerate().rev().take_while(|(_, row)| row.t > t);
        let (index, row) = rows.find(|(_, row)| row.body().is_present(column))?;
        // No later row of the same keyframe has a sample of the column, so the state is that of this one.
        if !self.rows[index + 1..].iter().any(|row| row.is_keyframe) {
            return Some((row.t, self.state[column]));
        }
        self.get(index, column as u32).map(|value| (row.t, value))
    }

    /// Whether a sample can be added to the row at `index` without writing more than `values_max` values anew.
    pub(crate) fn is_cheap_to_patch(&self, index: usize, values_max: usize) -> bool {
        index + 1 == self.rows.len() || self.rows.len() * self.state.len() <= values_max
    }

    /// Adds samples to the row at `index`, which lacks them, once `log` has taken what is written of them.
    pub(crate) fn patch(&mut self, index: usize, cells: &[(u32, f64)], log: impl FnOnce(&Patch<'_>)) {
        let OpenRow { no: row_no, t, .. } = self.rows[index];
        let no = self.n_patches;
        self.n_patches += 1;
        if index + 1 < self.rows.len() {
            log(&Patch { row_no, t, no, cells: Cells::Older(cells.into()) });
            self.patch_older(index, cells);
            return;
        }
        let first_tile = cells.iter().map(|(column, _)| *column as usize / TILE).min().unwrap_or(0);
        let mut rest = Row::default();
        cells.iter().for_each(|&(column, value)| rest.set(column as usize - first_tile * TILE, value));
        let state = self.state.get(first_tile * TILE..).unwrap_or_default();
        let mut state = state[..state.len().min(rest.values.len())].to_vec();
        let mut bytes = Vec::with_capacity(4 * cells.len());
        put_body(&mut bytes, &rest, &mut state);
        let body = Body::new(&bytes, rest.values.len()).expect("written above");
        log(&Patch { row_no, t, no, cells: Cells::Newest { first_tile, body } });
        self.extend_last(first_tile, body).expect("written above");
    }

    /// Takes back a patch that was logged.
    ///
    /// # Errors
    /// When the row or an earlier patch is missing, or the bytes are not samples; nothing changes then.
    pub(crate) fn replay_patch(&mut self, patch: &Patch<'_>) -> Result<(), WireError> {
        let missing = |what| Err(WireError { what, offset: 0 });
        let Some(index) = self.numbered(patch.row_no) else { return missing("the row is missing") };
        if patch.no != self.n_patches {
            return missing("samples that were added before are missing");
        }
        match &patch.cells {
            Cells::Newest { .. } if index + 1 < self.rows.len() => return missing("the row is not the newest"),
            Cells::Newest { first_tile, body } => {
                if let Err(e) = self.extend_last(*first_tile, *body) {
                    self.restore_state();
                    return Err(e);
                }
            }
            Cells::Older(cells) => self.patch_older(index, cells),
        }
        self.n_patches += 1;
        Ok(())
    }

    /// Adds samples to the newest row: the rest of a scrape that a sender cut in two.
    fn extend_last(&mut self, first_tile: usize, rest: Body<'_>) -> Result<(), WireError> {
        let Some((last, earlier)) = self.rows.split_last() else { return Ok(()) };
        let mut body = Vec::with_capacity(last.len() + rest.bytes().len());
        let mut tile = Tile::default();
        let before = |at: usize| {
            if last.is_keyframe {
                return [0.0; TILE];
            }
            tile.read(earlier, at);
            tile.state
        };
        put_extended(&mut body, last.body(), (first_tile, rest), &mut self.state, before)?;
        let n_columns = last.n_columns.max((first_tile * TILE + rest.n_columns()) as u32);
        let row = OpenRow { n_columns, bytes: RowBytes::of(&body), ..last.clone() };
        let n_present = |row: &OpenRow| -> usize {
            let body = row.body();
            let tiles = (0..body.n_tiles()).map(|tile| body.read_tile_head(tile).unwrap_or(0));
            tiles.map(|present| present.count_ones() as usize).sum()
        };
        self.n_samples += n_present(&row) - n_present(last);
        self.bytes = self.bytes - last.len() + row.len();
        let at = self.rows.len() - 1;
        self.rows[at] = row;
        Ok(())
    }

    /// The rows are written anew: a sample that comes late changes what those after it are written against.
    fn patch_older(&mut self, index: usize, cells: &[(u32, f64)]) {
        let mut rows: Vec<(Row, bool)> = self.plain();
        for &(column, value) in cells {
            rows[index].0.set(column as usize, value);
        }
        let mut body = Vec::new();
        self.rows.clear();
        (self.bytes, self.n_samples) = (0, 0);
        for (row, is_keyframe) in rows {
            if is_keyframe {
                self.state.fill(0.0);
            }
            body.clear();
            put_body(&mut body, &row, &mut self.state);
            self.keep(&row, is_keyframe, &body);
        }
    }

    /// All rows as plain values, each with whether it is a keyframe.
    fn plain(&self) -> Vec<(Row, bool)> {
        let empty = |row: &OpenRow| {
            let n = row.n_columns as usize;
            let (values, presence) = (vec![0.0; n], vec![0; n.div_ceil(TILE)]);
            (Row { no: row.no, t: row.t, seq: row.seq, values, presence }, row.is_keyframe)
        };
        let mut out: Vec<(Row, bool)> = self.rows.iter().map(empty).collect();
        let mut tile = Tile::default();
        for i in 0..out.iter().map(|(row, _)| row.presence.len()).max().unwrap_or(0) {
            tile.read(&self.rows, i);
            for (index, (row, _)) in out.iter_mut().enumerate() {
                tile.for_each(index, |column, value| row.set(i * TILE + column, value));
            }
        }
        out
    }

    /// Forgets the rows: they are sealed, or in a block. Memory for the state stays; the next row needs it.
    pub(crate) fn clear(&mut self) {
        self.rows = Vec::new();
        (self.bytes, self.n_samples) = (0, 0);
        self.n_patches = 0;
    }

    /// Gives back the memory for the state, of a group that may not get another row.
    pub(crate) fn give_back(&mut self) {
        if self.rows.is_empty() {
            *self = Self::default();
        }
    }
}

/// Samples of 64 adjacent columns in rows that follow one another from a keyframe on.
#[derive(Debug)]
pub(crate) struct Tile {
    /// By row.
    present: Vec<u64>,
    /// By row and column.
    values: Vec<f64>,
    /// After the last row.
    state: [f64; TILE],
}

impl Default for Tile {
    fn default() -> Self {
        Self { present: Vec::new(), values: Vec::new(), state: [0.0; TILE] }
    }
}

impl Tile {
    /// Decodes tile `tile` of `rows`, the first of which must be the first open one of its group.
    pub(crate) fn read(&mut self, rows: &[OpenRow], tile: usize) {
        self.present.clear();
        self.values.clear();
        self.state.fill(0.0);
        for row in rows {
            if row.is_keyframe {
                self.state.fill(0.0);
            }
            let present = row.body().read_tile(tile, &mut self.state).expect("decoded when the row was taken");
            self.present.push(present);
            self.values.extend_from_slice(&self.state);
        }
    }

    /// The sample in row `row` of the tile's column `column`.
    pub(crate) fn get(&self, row: usize, column: usize) -> Option<f64> {
        (self.present[row] >> column & 1 == 1).then(|| self.values[row * TILE + column])
    }

    /// Calls `each` with column, counted from the tile's first, and value of all samples of a row.
    fn for_each(&self, row: usize, mut each: impl FnMut(usize, f64)) {
        let mut rest = self.present[row];
        while rest != 0 {
            let column = rest.trailing_zeros() as usize;
            each(column, self.values[row * TILE + column]);
            rest &= rest - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::row::tests::{row, value};
    use super::*;

    fn bits(values: &[Option<f64>], n: usize) -> Vec<Option<u64>> {
        (0..n).map(|c| values.get(c).copied().flatten().map(f64::to_bits)).collect()
    }

    #[track_caller]
    fn check(open: &OpenRows, model: &[Vec<Option<f64>>]) {
        let n = model.iter().map(Vec::len).max().unwrap_or(0);
        for (index, values) in model.iter().enumerate() {
            let got: Vec<_> = (0..n).map(|c| open.get(index, c as u32).map(f64::to_bits)).collect();
            assert_eq!(got, bits(values, n));
        }
        for c in 0..n {
            let newest = model.iter().enumerate().rev().find_map(|(i, r)| Some((i as i64, r.get(c).copied()??)));
            let bits = |newest: Option<(i64, f64)>| newest.map(|(t, v)| (t, v.to_bits()));
            assert_eq!(bits(open.newest(c as u32)), bits(newest));
            for t in -1..model.len() as i64 {
                let after = newest.filter(|(newest, _)| *newest > t);
                assert_eq!(bits(open.newest_after(c as u32, t)), bits(after));
            }
        }
    }

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_pushed_patched_and_replayed(
            model in proptest::collection::vec(proptest::collection::vec(value(), 0..140), 1..6),
            patch in proptest::collection::vec((any::<prop::sample::Index>(), 0u32..150, any::<f64>()), 0..4),
        ) {
            let mut model = model;
            let (mut open, mut again) = (OpenRows::default(), OpenRows::default());
            for (i, values) in model.iter().enumerate() {
                open.push(&row(i as u64, i as i64, values), |w| {
                    let body = Body::new(w.body, w.row.values.len()).unwrap();
                    again.replay(w.row.no, w.row.t, w.is_keyframe, body).unwrap();
                });
            }
            check(&open, &model);
            for (index, column, value) in patch {
                let index = index.index(model.len());
                let values = &mut model[index];
                if values.get(column as usize).copied().flatten().is_some() {
                    continue;
                }
                values.resize(values.len().max(column as usize + 1), None);
                values[column as usize] = Some(value);
                open.patch(index, &[(column, value)], |patch| again.replay_patch(patch).unwrap());
            }
            check(&open, &model);
            check(&again, &model);
            // What follows is written against the same.
            let next = row(9, 9, &[Some(1.0); 150]);
            open.push(&next, |w| {
                let body = Body::new(w.body, w.row.values.len()).unwrap();
                again.replay(w.row.no, w.row.t, w.is_keyframe, body).unwrap();
            });
            model.push(vec![Some(1.0); 150]);
            prop_assert_eq!(again.get(model.len() - 1, 149), Some(1.0));
            for index in 0..model.len() {
                for column in 0..150 {
                    prop_assert_eq!(
                        open.get(index, column).map(f64::to_bits), again.get(index, column).map(f64::to_bits));
                }
            }
        }

        #[test]
        fn a_damaged_row_leaves_the_others_as_they_were(
            model in proptest::collection::vec(proptest::collection::vec(value(), 1..140), 2..4),
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut open = OpenRows::default();
            for (i, values) in model.iter().enumerate() {
                open.push(&row(i as u64, i as i64, values), |_| {});
            }
            let before = open.state.clone();
            if let Ok(body) = Body::new(&bytes, 70)
                && open.replay(9, 9, false, body).is_err()
            {
                check(&open, &model);
                for (a, b) in open.state.iter().zip(&before) {
                    prop_assert_eq!(a.to_bits(), b.to_bits());
                }
            }
        }
    }
}
