//! What becomes of a row: stored whole when it is newer than all rows of its group, else judged sample by sample.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use promontory_model::HistogramSample;

use super::group::{Group, GroupCell, LateCell};
use super::histograms::HistogramCell;
use super::row::Row;
use super::{Head, lock};
use crate::sample::{Value, put_histogram};
use crate::status::Appended;
use crate::wal::{page, record};

/// Late cells of a group after which it is sealed.
const LATE_CELLS_MAX: usize = 4096;
/// Bytes of open rows, per column of the group, after which it is sealed: values that do not compress would fill the
/// memory of the server before there are enough rows of them.
const OPEN_BYTES_PER_COLUMN: usize = 56;
/// Groups are not sealed for fewer bytes or rows.
const OPEN_BYTES_MIN: usize = 4096;
const SEAL_ROWS_MIN: usize = 4;
/// Rows of a group that are open at most while few of its series have two samples in them.
const SPARSE_ROWS_MAX: usize = 256;
/// As long as all open rows take no more than this, none are sealed for their bytes: a column of few rows costs nearly
/// as much to encode as one of many.
const OPEN_BYTES_FREE: usize = 16 << 20;
/// Bytes that may wait for the committer; a writer that finds more writes them itself.
const LOG_BYTES_MAX: usize = 4 << 20;

/// Time bounds of one append, by Prometheus' rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Oldest time that counts as in order.
    in_order_min: i64,
    /// Oldest time that may come out of order; `None` when none may.
    late_min: Option<i64>,
    rows_max: usize,
}

impl Bounds {
    pub(crate) fn of(head: &Head) -> Self {
        let options = &head.options;
        let floor = head.append_floor();
        let behind = |ms: i64| head.max_t().map_or(i64::MIN, |t| t.saturating_sub(ms)).max(floor);
        let window = head.window_ms();
        Self {
            in_order_min: behind(options.block_ms / 2),
            late_min: (window > 0).then(|| behind(window)),
            rows_max: options.rows_max,
        }
    }
}

impl Bounds {
    /// The same, with nothing before `floor`.
    pub(crate) fn not_before(self, floor: i64) -> Self {
        Self { in_order_min: self.in_order_min.max(floor), late_min: self.late_min.map(|min| min.max(floor)), ..self }
    }

    /// The same without samples out of order.
    pub(crate) fn in_order_only(self) -> Self {
        Self { late_min: None, ..self }
    }
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Store,
    AlreadyThere,
    Duplicate,
    OutOfOrder,
    OutOfBounds,
    TooOld,
}

impl Outcome {
    fn count(self, counts: &mut Appended) {
        *match self {
            Self::Store | Self::AlreadyThere => &mut counts.accepted,
            Self::Duplicate => &mut counts.duplicates,
            Self::OutOfOrder => &mut counts.out_of_order,
            Self::OutOfBounds => &mut counts.out_of_bounds,
            Self::TooOld => &mut counts.too_old,
        } += 1;
    }
}

/// Counts the time and value of a sample that came again in a row that was just appended, as if it came right after it.
/// Nothing is stored: what may be stored at that time and column is there.
pub(crate) fn count_repeat(
    head: &Head,
    cell: &GroupCell,
    column: u32,
    (t, value): (i64, &Value),
    bounds: Bounds,
    counts: &mut Appended,
) {
    let before = counts.accepted;
    judge(head, &lock(&cell.state), column, t, value, bounds).count(counts);
    if matches!(value, Value::Histogram(_)) {
        counts.histograms += counts.accepted - before;
    }
}

/// Appends `row` and `histograms` of the same time to a group and their records to the WAL. No column is in both.
/// `records` is scratch space.
pub(crate) fn append_row(
    head: &Head,
    cell: &GroupCell,
    row: Row,
    histograms: &[(u32, HistogramSample)],
    bounds: Bounds,
    counts: &mut Appended,
    records: &mut Vec<u8>,
) {
    let mut group = lock(&cell.state);
    let (t, before) = (row.t, counts.accepted);
    let oldest = bounds.late_min.unwrap_or(i64::MAX).min(bounds.in_order_min);
    let is_newest = t > group.newest_t() && t >= oldest;
    let seq = row.seq;
    match (is_newest, row.n_present()) {
        (_, 0) => {}
        (true, n) => {
            counts.accepted += n;
            append_newest(head, cell.id, &mut group, row, bounds, records);
        }
        (false, _) => append_cells(head, cell.id, &mut group, &row, bounds, counts, records),
    }
    if !histograms.is_empty() {
        let at = HistogramsAt { t, seq, is_newest, histograms };
        let floats = counts.accepted;
        append_histograms(head, cell.id, &mut group, at, bounds, counts, records);
        counts.histograms += counts.accepted - floats;
    }
    if counts.accepted > before {
        head.saw_time(t);
    }
}

fn append_newest(head: &Head, id: u32, group: &mut Group, mut row: Row, bounds: Bounds, records: &mut Vec<u8>) {
    if is_full(head, group, bounds.rows_max)
        && let Err(e) = head.seal_rows(id, group)
    {
        // The rows stay open and in the WAL; sealing is tried again when writing works.
        head.health.failed(&e);
    }
    if group.rows.is_empty() {
        group.opened_ns = head.clock.monotonic_ns();
    }
    row.no = group.next_no;
    group.next_no += 1;
    group.last_t = row.t;
    records.clear();
    group.rows.push(&row, |written| page::put_record(records, |out| record::put_row(out, id, &written)));
    let segment = head.log(records);
    group.rows_wal.get_or_insert(segment);
}

/// Whether the open rows of a group are due to be sealed, by number or by bytes.
fn is_full(head: &Head, group: &Group, rows_max: usize) -> bool {
    let rows = &group.rows;
    let is_large = || {
        let bytes_max = open_bytes_max(group.columns.len());
        rows.bytes() > bytes_max && head.open_bytes().saturating_add(rows.bytes()) > OPEN_BYTES_FREE
    };
    has_many_rows(group, rows_max) || (rows.len() >= SEAL_ROWS_MIN && is_large())
}

/// Whether the open rows of a group are due to be sealed by their number. Where few series have two samples in them, what
/// is known of a chunk would take more memory than they do.
pub(crate) fn has_many_rows(group: &Group, rows_max: usize) -> bool {
    let rows = &group.rows;
    let is_sparse = || rows.len() < SPARSE_ROWS_MAX && rows.n_samples() < 2 * group.columns.len();
    rows.len() >= rows_max && !is_sparse()
}

/// Bytes of open rows after which a group is sealed.
pub(crate) fn open_bytes_max(n_columns: usize) -> usize {
    (n_columns * OPEN_BYTES_PER_COLUMN).max(OPEN_BYTES_MIN)
}

/// Judges each sample; those that are taken fill an open row or become late cells.
fn append_cells(
    head: &Head,
    id: u32,
    group: &mut Group,
    row: &Row,
    bounds: Bounds,
    counts: &mut Appended,
    records: &mut Vec<u8>,
) {
    let mut taken: Vec<(u32, f64)> = Vec::new();
    let rest = Rest::of(group, row.t, bounds);
    for column in row.columns() {
        let value = row.values[column];
        if rest.as_ref().is_some_and(|rest| rest.has(group, column as u32)) {
            Outcome::Store.count(counts);
            taken.push((column as u32, value));
            continue;
        }
        group.ask(column as u32);
        let outcome = judge(head, group, column as u32, row.t, &Value::Float(value), bounds);
        outcome.count(counts);
        if matches!(outcome, Outcome::Store) {
            taken.push((column as u32, value));
        }
    }
    if taken.is_empty() {
        return;
    }
    records.clear();
    if let Some(i) = group.rows.at(row.t).filter(|&i| group.rows.is_cheap_to_patch(i, head.options.patch_values_max)) {
        group.rows.patch(i, &taken, |patch| page::put_record(records, |out| record::put_patch(out, id, patch)));
        head.log(records);
        return;
    }
    let cells: Vec<(i64, u32, f64)> = taken.iter().map(|&(column, value)| (row.t, column, value)).collect();
    if group.late.is_empty() {
        group.opened_ns = if group.rows.is_empty() { head.clock.monotonic_ns() } else { group.opened_ns };
    }
    page::put_record(records, |out| record::put_late(out, id, group.late_no, &cells));
    let segment = head.log(records);
    group.late_wal.get_or_insert(segment);
    group.late_no += cells.len() as u64;
    head.counters.late_appended.fetch_add(cells.len() as u64, Ordering::Relaxed);
    for (t, column, value) in cells {
        group.add_late((t, column), LateCell { value, seq: row.seq });
    }
    if group.late.len() >= LATE_CELLS_MAX
        && let Err(e) = head.seal_late(id, group)
    {
        head.health.failed(&e);
    }
}

/// The rest of the newest row, a scrape that its sender cut in two: nothing of the group is as new but that row, so
/// columns without a sample there take one without a search for their last.
struct Rest {
    t: i64,
    /// Columns that have a float there.
    presence: Vec<u64>,
}

impl Rest {
    /// `None` where what comes at `t` is something else.
    fn of(group: &Group, t: i64, bounds: Bounds) -> Option<Self> {
        let is_rest = t >= bounds.in_order_min
            && group.rows.last().is_some_and(|row| row.t == t)
            && group.earlier.is_empty()
            && group.histograms.as_ref().is_none_or(|histograms| histograms.are_open_from(t))
            && group.late.range((t, 0)..).next().is_none()
            && group.late_chunks.iter().chain(&*group.chunks).all(|chunk| chunk.header.maxt < t);
        is_rest.then(|| Self { t, presence: group.rows.last_presence() })
    }

    /// Whether the sample of a column is part of it: the row has none there.
    fn has(&self, group: &Group, column: u32) -> bool {
        let word = self.presence.get(column as usize / 64).copied().unwrap_or(0);
        word >> (column % 64) & 1 == 0
            && group.histograms.as_ref().is_none_or(|histograms| !histograms.open.contains_key(&(self.t, column)))
    }
}

/// Histograms of one append at one time.
struct HistogramsAt<'a> {
    t: i64,
    seq: u64,
    /// Whether nothing of the group, but the row of this append, is as new.
    is_newest: bool,
    histograms: &'a [(u32, HistogramSample)],
}

/// Stores the histograms that may be stored.
fn append_histograms(
    head: &Head,
    id: u32,
    group: &mut Group,
    at: HistogramsAt<'_>,
    bounds: Bounds,
    counts: &mut Appended,
    records: &mut Vec<u8>,
) {
    let t = at.t;
    let is_due = group.histograms.as_ref().is_some_and(|h| h.is_full(bounds.rows_max) && t > h.last_t);
    if is_due && let Err(e) = head.seal_histograms(id, group) {
        head.health.failed(&e);
    }
    let mut taken: Vec<(u32, Arc<[u8]>)> = Vec::with_capacity(at.histograms.len());
    let mut bytes = Vec::new();
    let rest = if at.is_newest { None } else { Rest::of(group, t, bounds) };
    for (column, sample) in at.histograms {
        if at.is_newest || rest.as_ref().is_some_and(|rest| rest.has(group, *column)) {
            counts.accepted += 1;
        } else {
            group.ask(*column);
            let outcome = judge(head, group, *column, t, &Value::Histogram(sample.clone()), bounds);
            outcome.count(counts);
            if !matches!(outcome, Outcome::Store) {
                continue;
            }
        }
        bytes.clear();
        put_histogram(&mut bytes, sample);
        taken.push((*column, bytes.as_slice().into()));
    }
    if taken.is_empty() {
        return;
    }
    let has_nothing_open = group.rows.is_empty() && group.late.is_empty();
    let histograms = group.histograms.get_or_insert_default();
    if has_nothing_open && histograms.open.is_empty() {
        group.opened_ns = head.clock.monotonic_ns();
    }
    if t <= histograms.last_t {
        head.counters.late_appended.fetch_add(taken.len() as u64, Ordering::Relaxed);
    }
    let mut rest = taken.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(_, cell)| {
            let before = bytes;
            bytes += cell.len();
            before == 0 || bytes <= page::PAGE_BYTES
        });
        let (part, after) = rest.split_at(fits.count());
        rest = after;
        let first_no = histograms.next_no;
        records.clear();
        let cells = part.iter().map(|(column, bytes)| (t, *column, &**bytes));
        page::put_record(records, |out| record::put_histograms(out, id, first_no, cells));
        let segment = head.log(records);
        let cell = |bytes: &Arc<[u8]>| HistogramCell { bytes: Arc::clone(bytes), seq: at.seq };
        histograms.insert(segment, first_no, part.iter().map(|(column, bytes)| ((t, *column), cell(bytes))));
    }
}

/// What becomes of one sample.
///
/// # Source
/// Prometheus `tsdb/head_append.go`, `appendable`; differs in that an out-of-order sample that is stored already with
/// the same bits is accepted.
fn judge(head: &Head, group: &Group, column: u32, t: i64, value: &Value, bounds: Bounds) -> Outcome {
    let same = |old: Value| if old.same_bits(value) { Outcome::AlreadyThere } else { Outcome::Duplicate };
    if t >= bounds.in_order_min {
        match last(head, group, column) {
            None => return Outcome::Store,
            Some((last, _)) if t > last => return Outcome::Store,
            Some((last, old)) if t == last => return same(old),
            Some(_) => {}
        }
    }
    match bounds.late_min {
        Some(min) if t >= min => find(head, group, column, t).map_or(Outcome::Store, same),
        Some(_) => Outcome::TooOld,
        None if t < bounds.in_order_min => Outcome::OutOfBounds,
        None => Outcome::OutOfOrder,
    }
}

/// Whether a sample at `t` could be in order and newer than all of its column.
pub(crate) fn is_newest(head: &Head, cell: &GroupCell, column: u32, t: i64, bounds: Bounds) -> bool {
    if t < bounds.in_order_min {
        return false;
    }
    let mut group = lock(&cell.state);
    // Open rows answer for most, without a memory for each column of what lies elsewhere.
    if group.rows.newest(column).is_some_and(|(last, _)| t <= last) {
        return false;
    }
    group.ask(column);
    last(head, &group, column).is_none_or(|(last, _)| t > last)
}

/// The newest sample of a column, also where its series was before. Earlier places have lower groups, so their locks
/// may be taken while this group's is held.
fn last(head: &Head, group: &Group, column: u32) -> Option<(i64, Value)> {
    let earlier = group.earlier.get(&column).map_or(&[][..], Vec::as_slice);
    let earlier = earlier.iter().filter_map(|p| lock(&head.group(p.group)?.state).last(p.column));
    group.last(column).into_iter().chain(earlier).max_by_key(|(t, _)| *t)
}

/// The sample of a column at `t`, also where its series was before.
fn find(head: &Head, group: &Group, column: u32, t: i64) -> Option<Value> {
    let earlier = group.earlier.get(&column).map_or(&[][..], Vec::as_slice);
    let mut earlier = earlier.iter().filter_map(|p| lock(&head.group(p.group)?.state).find(p.column, t));
    group.find(column, t).or_else(|| earlier.next())
}

impl Head {
    /// Hands framed records to the WAL; gives a segment at or before the one they will lie in.
    pub(crate) fn log(&self, records: &[u8]) -> u64 {
        self.wal().map_or(0, |wal| wal.push_framed(records))
    }

    /// Writes what waits for the committer when it has become too much.
    pub(crate) fn relieve_log(&self) {
        if let Some(wal) = self.wal()
            && wal.buffered_bytes() > LOG_BYTES_MAX
            && let Err(e) = wal.flush()
        {
            self.health.failed(&e);
        }
    }
}
