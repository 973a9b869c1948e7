//! A source of samples: its series get short references, and its rows go to their groups.
//!
//! A row is staged with one store per sample, then handed over to its group whole. What does not arrive as whole rows in
//! the order of time takes the slow path, sample by sample (`super::append`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use promontory_model::{HistogramSample, Labels, Timestamp};

use super::append::{Bounds, append_row, count_repeat, is_newest};
use super::group::GroupCell;
use super::index::Place;
use super::row::{COLUMNS_MAX, Row};
use super::{Head, lock};
use crate::error::AppendError;
use crate::exemplars::{Exemplar, ExemplarsAppended};
use crate::sample::Value;
use crate::status::Appended;
use crate::wal::{page, record};

/// A series of one [`GroupWriter`]: a slot that is valid until released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u32);

/// The oldest times that could be appended at some moment.
#[derive(Debug, Clone, Copy)]
pub struct TimeBounds(Bounds);

/// A slot that was released.
const FREE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Index into `lanes`; `FREE` when released.
    lane: u32,
    column: u32,
}

/// A group this writer appends to, and the row that is being filled.
#[derive(Debug)]
struct Lane {
    cell: Arc<GroupCell>,
    staged: Row,
    /// Histograms of the row, by column when they are handed over.
    staged_histograms: Vec<(u32, HistogramSample)>,
    /// Columns that this writer's slots reach.
    width: usize,
    /// Whether `staged` holds samples.
    is_touched: bool,
}

/// Appends the samples of one source: a scrape target, a sender of remote write.
///
/// What is appended is seen by queries at once, and safe when [`crate::Db::commit`] returned after it. Dropping the
/// writer releases its series.
#[derive(Debug)]
pub struct GroupWriter {
    head: Arc<Head>,
    slots: Vec<Slot>,
    /// Series of each slot.
    series: Vec<u32>,
    free: Vec<u32>,
    lanes: Vec<Lane>,
    /// Samples of series that the row being filled names again: lane, column, value.
    repeats: Vec<(u32, u32, Value)>,
    /// Lane of each group.
    lane_of: HashMap<u32, u32>,
    /// Group that new series of this writer go to.
    home: Option<Arc<GroupCell>>,
    /// Layout of the head for which `slots` are right.
    layout: u64,
    /// Records on their way to the WAL.
    records: Vec<u8>,
    /// Bytes that the head counts for this writer.
    counted_bytes: u64,
}

impl GroupWriter {
    pub(crate) fn new(head: Arc<Head>) -> Self {
        let layout = head.layout();
        Self {
            head,
            slots: Vec::new(),
            series: Vec::new(),
            free: Vec::new(),
            lanes: Vec::new(),
            repeats: Vec::new(),
            lane_of: HashMap::new(),
            home: None,
            layout,
            records: Vec::new(),
            counted_bytes: 0,
        }
    }

    /// The reference of the series with these labels, which is created when new. Each call must be paired with one
    /// [`GroupWriter::release`]; two calls with equal labels give two references of one series.
    ///
    /// # Errors
    /// [`AppendError`] when the labels are empty or too long, or the head takes no more series.
    pub fn resolve(&mut self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        if labels.is_empty() {
            return Err(AppendError::EmptyLabels);
        }
        let head = Arc::clone(&self.head);
        head.check_writable()?;
        let allowed = head.options.labels_bytes_max;
        let bytes = labels.as_bytes().len();
        if bytes > allowed {
            return Err(AppendError::LabelsTooLong { bytes, allowed });
        }
        let _gate = head.gate_shared();
        self.follow_layout();
        let (series, place) = head.resolve(labels, || self.home_with_room())?;
        self.adopt(place);
        let slot = self.slot_at(place)?;
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                self.series[id as usize] = series;
                id
            }
            None => {
                self.slots.push(slot);
                self.series.push(series);
                (self.slots.len() - 1) as u32
            }
        };
        self.count_bytes();
        head.relieve_log();
        Ok(SeriesRef(id))
    }

    /// Tells the head of the memory for references.
    fn count_bytes(&mut self) {
        let slots = self.slots.capacity() * size_of::<Slot>() + (self.series.capacity() + self.free.capacity()) * 4;
        let bytes = (slots + self.lanes.capacity() * size_of::<Lane>()) as u64;
        let counter = &self.head.counters.writer_bytes;
        counter.fetch_add(bytes.wrapping_sub(self.counted_bytes), Ordering::Relaxed);
        self.counted_bytes = bytes;
    }

    /// A number that all references of one series share, as long as this writer holds one of them; `None` for an
    /// unknown reference.
    #[must_use]
    pub fn identity(&self, series: SeriesRef) -> Option<u32> {
        self.slots.get(series.0 as usize).filter(|slot| slot.lane != FREE)?;
        self.series.get(series.0 as usize).copied()
    }

    /// Whether this is a reference of the series with these labels.
    #[must_use]
    pub fn has_labels(&self, series: SeriesRef, labels: &Labels) -> bool {
        self.identity(series).is_some_and(|series| self.head.index().has_labels(series, labels))
    }

    /// Forgets a series: its reference is no longer valid, and the head may drop it once its samples are in blocks.
    /// An unknown reference is ignored.
    pub fn release(&mut self, series: SeriesRef) {
        let id = series.0 as usize;
        if self.slots.get(id).is_none_or(|s| s.lane == FREE) {
            return;
        }
        self.slots[id].lane = FREE;
        self.free.push(series.0);
        self.head.index_mut().release(self.series[id]);
    }

    /// Appends one row: samples that share the time `t`. Queries see all of them or none.
    ///
    /// Samples that break a rule of time are counted and left out; the others are stored.
    ///
    /// # Errors
    /// [`AppendError::UnknownSeries`] and [`AppendError::ReadOnly`]: nothing was stored.
    pub fn append(&mut self, t: Timestamp, samples: &[(SeriesRef, f64)]) -> Result<Appended, AppendError> {
        self.append_within(t, samples, &[], |bounds| bounds)
    }

    /// As [`GroupWriter::append`], with histograms that share the time. Of a float and a histogram of one series the
    /// float is stored, and the histogram counted as a duplicate.
    ///
    /// # Errors
    /// As [`GroupWriter::append`].
    pub fn append_with_histograms(
        &mut self,
        t: Timestamp,
        samples: &[(SeriesRef, f64)],
        histograms: &[(SeriesRef, HistogramSample)],
    ) -> Result<Appended, AppendError> {
        self.append_within(t, samples, histograms, |bounds| bounds)
    }

    /// As [`GroupWriter::append`], but leaves out what is older than its series' last sample even inside the window
    /// for out-of-order samples: for staleness markers of a source that is gone, whose series may live on elsewhere.
    ///
    /// # Errors
    /// As [`GroupWriter::append`].
    pub fn append_in_order(&mut self, t: Timestamp, samples: &[(SeriesRef, f64)]) -> Result<Appended, AppendError> {
        self.append_within(t, samples, &[], Bounds::in_order_only)
    }

    fn append_within(
        &mut self,
        t: Timestamp,
        samples: &[(SeriesRef, f64)],
        histograms: &[(SeriesRef, HistogramSample)],
        narrow: impl FnOnce(Bounds) -> Bounds,
    ) -> Result<Appended, AppendError> {
        let head = Arc::clone(&self.head);
        head.check_writable()?;
        let _gate = head.gate_shared();
        self.follow_layout();
        let mut counts = Appended::default();
        let staged = self.stage(samples.iter().copied());
        if let Err(e) = staged.and_then(|()| self.stage_histograms(histograms.iter().map(|(s, h)| (*s, h)))) {
            self.unstage();
            return Err(e);
        }
        let seq = head.next_seq();
        // Under the gate, so that a block that is being cut misses no sample.
        let bounds = narrow(Bounds::of(&head));
        self.append_staged(t.0, seq, bounds, &mut counts);
        head.changes.appended(t.0, t.0);
        self.count(counts);
        Ok(counts)
    }

    /// Appends samples that each have their own time, in any order. Queries see all of them or none.
    ///
    /// # Errors
    /// As [`GroupWriter::append`].
    pub fn append_at(&mut self, samples: &[(SeriesRef, Timestamp, f64)]) -> Result<Appended, AppendError> {
        self.append_at_with_histograms(samples, &[])
    }

    /// As [`GroupWriter::append_at`], with histograms.
    ///
    /// # Errors
    /// As [`GroupWriter::append`].
    pub fn append_at_with_histograms(
        &mut self,
        samples: &[(SeriesRef, Timestamp, f64)],
        histograms: &[(SeriesRef, Timestamp, HistogramSample)],
    ) -> Result<Appended, AppendError> {
        self.append_at_within(self.time_bounds(), samples, histograms)
    }

    /// The oldest times that may be appended now. A request that is appended in pieces takes them once, as Prometheus
    /// does, so that its older samples are not late because of its newer ones.
    #[must_use]
    pub fn time_bounds(&self) -> TimeBounds {
        TimeBounds(Bounds::of(&self.head))
    }

    /// As [`GroupWriter::append_at_with_histograms`], by the bounds of an earlier moment.
    ///
    /// # Errors
    /// As [`GroupWriter::append`].
    pub fn append_at_within(
        &mut self,
        bounds: TimeBounds,
        samples: &[(SeriesRef, Timestamp, f64)],
        histograms: &[(SeriesRef, Timestamp, HistogramSample)],
    ) -> Result<Appended, AppendError> {
        let counts = self.append_at_bounded(bounds.0, samples, histograms)?;
        self.count(counts);
        Ok(counts)
    }

    /// Appends the samples with which series begin, each at the time from which its series counts. What is not newer
    /// than all samples of its series is left out and counted nowhere: then the beginning is known or past. Answers how
    /// many were stored.
    ///
    /// # Errors
    /// As [`GroupWriter::append`].
    pub fn append_starts(
        &mut self,
        samples: &[(SeriesRef, Timestamp, f64)],
        histograms: &[(SeriesRef, Timestamp, HistogramSample)],
    ) -> Result<u64, AppendError> {
        let bounds = Bounds::of(&self.head).in_order_only();
        // Senders say it with every sample. What is known is left out first, for each time that is left makes a row.
        let head = Arc::clone(&self.head);
        let gate = head.gate_shared();
        self.follow_layout();
        let samples: Vec<_> = samples.iter().filter(|s| self.may_begin(s.0, s.1, bounds)).copied().collect();
        let histograms: Vec<_> = histograms.iter().filter(|h| self.may_begin(h.0, h.1, bounds)).cloned().collect();
        drop(gate);
        if samples.is_empty() && histograms.is_empty() {
            return Ok(0);
        }
        let Appended { accepted, histograms, .. } = self.append_at_bounded(bounds, &samples, &histograms)?;
        self.count(Appended { accepted, histograms, ..Appended::default() });
        Ok(accepted)
    }

    /// Whether `t` may be newer than all samples of a series. True of an unknown one, which an append refuses.
    fn may_begin(&self, series: SeriesRef, t: Timestamp, bounds: Bounds) -> bool {
        let Ok(slot) = self.slot(series) else { return true };
        is_newest(&self.head, &self.lanes[slot.lane as usize].cell, slot.column, t.0, bounds)
    }

    fn append_at_bounded(
        &mut self,
        bounds: Bounds,
        samples: &[(SeriesRef, Timestamp, f64)],
        histograms: &[(SeriesRef, Timestamp, HistogramSample)],
    ) -> Result<Appended, AppendError> {
        let head = Arc::clone(&self.head);
        head.check_writable()?;
        let _gate = head.gate_shared();
        self.follow_layout();
        // Under the gate, so that a block that is being cut misses no sample.
        let bounds = bounds.not_before(head.append_floor());
        let seq = head.next_seq();
        let mut counts = Appended::default();
        if let Some(&(_, t, _)) = samples.first()
            && histograms.is_empty()
            && samples.iter().all(|s| s.1 == t)
        {
            if let Err(e) = self.stage(samples.iter().map(|&(s, _, v)| (s, v))) {
                self.unstage();
                return Err(e);
            }
            self.append_staged(t.0, seq, bounds, &mut counts);
            head.changes.appended(t.0, t.0);
            return Ok(counts);
        }
        for series in samples.iter().map(|s| s.0).chain(histograms.iter().map(|h| h.0)) {
            self.slot(series)?;
        }
        let mut sorted: Vec<(i64, SeriesRef, f64)> = samples.iter().map(|&(s, t, v)| (t.0, s, v)).collect();
        sorted.sort_by_key(|&(t, _, _)| t);
        let mut sorted_histograms: Vec<&(SeriesRef, Timestamp, HistogramSample)> = histograms.iter().collect();
        sorted_histograms.sort_by_key(|h| h.1);
        let (mut floats, mut histograms) = (sorted.as_slice(), sorted_histograms.as_slice());
        while let Some(t) = floats.first().map(|f| f.0).into_iter().chain(histograms.first().map(|h| h.1.0)).min() {
            let row;
            (row, floats) = floats.split_at(floats.iter().take_while(|f| f.0 == t).count());
            self.stage(row.iter().map(|&(_, s, v)| (s, v)))?;
            let row;
            (row, histograms) = histograms.split_at(histograms.iter().take_while(|h| h.1.0 == t).count());
            self.stage_histograms(row.iter().map(|h| (h.0, &h.2)))?;
            self.append_staged(t, seq, bounds, &mut counts);
            head.changes.appended(t, t);
        }
        Ok(counts)
    }

    fn slot(&self, series: SeriesRef) -> Result<Slot, AppendError> {
        match self.slots.get(series.0 as usize) {
            Some(slot) if slot.lane != FREE => Ok(*slot),
            _ => Err(AppendError::UnknownSeries(series.0)),
        }
    }

    /// The head keeps series that moved known under their new place; references follow.
    fn follow_layout(&mut self) {
        let layout = self.head.layout();
        if self.layout == layout {
            return;
        }
        self.layout = layout;
        let head = Arc::clone(&self.head);
        let index = head.index();
        self.lanes.clear();
        self.lane_of.clear();
        self.home = self.home.take().map(|home| head.newest_of(home));
        for id in 0..self.slots.len() {
            if self.slots[id].lane == FREE {
                continue;
            }
            let place = index.place(self.series[id]);
            if let Ok(slot) = self.slot_at(place) {
                self.slots[id] = slot;
            }
        }
    }

    /// The group for a new series.
    fn home_with_room(&mut self) -> Result<Arc<GroupCell>, AppendError> {
        let columns_max = (self.head.options.columns_max as usize).min(COLUMNS_MAX);
        if let Some(home) = &self.home
            && lock(&home.state).columns.len() < columns_max
        {
            return Ok(Arc::clone(home));
        }
        let cell = self.head.new_group()?;
        lock(&cell.state).is_claimed = true;
        if let Some(full) = self.home.replace(Arc::clone(&cell)) {
            lock(&full.state).is_claimed = false;
        }
        Ok(cell)
    }

    /// A writer without a home takes over that of a series it found, if no other writer lives there: so a target that
    /// comes back continues its group.
    fn adopt(&mut self, place: Place) {
        if self.home.is_none()
            && let Some(cell) = self.head.group(place.group)
        {
            let mut group = lock(&cell.state);
            if !group.is_claimed {
                group.is_claimed = true;
                drop(group);
                self.home = Some(cell);
            }
        }
    }

    fn slot_at(&mut self, place: Place) -> Result<Slot, AppendError> {
        let lane = self.lane(place.group)?;
        let width = &mut self.lanes[lane as usize].width;
        *width = (*width).max(place.column as usize + 1);
        Ok(Slot { lane, column: place.column })
    }

    fn lane(&mut self, group: u32) -> Result<u32, AppendError> {
        if let Some(&lane) = self.lane_of.get(&group) {
            return Ok(lane);
        }
        let cell = self.head.group(group).ok_or(AppendError::IndexFull)?;
        let lane = self.lanes.len() as u32;
        self.lanes.push(Lane {
            cell,
            staged: Row::default(),
            staged_histograms: Vec::new(),
            width: 0,
            is_touched: false,
        });
        self.lane_of.insert(group, lane);
        Ok(lane)
    }

    /// Keeps exemplars of this writer's series; those of one series ascend in time.
    ///
    /// # Errors
    /// As [`GroupWriter::append`].
    pub fn append_exemplars(
        &mut self,
        exemplars: Vec<(SeriesRef, Exemplar)>,
    ) -> Result<ExemplarsAppended, AppendError> {
        let head = Arc::clone(&self.head);
        head.check_writable()?;
        if exemplars.is_empty() || head.exemplars.is_off() {
            return Ok(ExemplarsAppended::default());
        }
        let index = head.index();
        let mut batch = Vec::with_capacity(exemplars.len());
        for (series, exemplar) in exemplars {
            self.slot(series)?;
            batch.push((index.labels(self.series[series.0 as usize]), exemplar));
        }
        drop(index);
        let appended = head.exemplars.append(batch, |first_no, part| {
            self.records.clear();
            page::put_record(&mut self.records, |out| record::put_exemplars(out, first_no, part));
            head.log(&self.records);
        });
        head.relieve_log();
        Ok(appended)
    }

    /// Puts the samples into the rows of their lanes: one store each.
    fn stage(&mut self, samples: impl Iterator<Item = (SeriesRef, f64)>) -> Result<(), AppendError> {
        for (series, value) in samples {
            let slot = self.slot(series)?;
            let lane = &mut self.lanes[slot.lane as usize];
            if !lane.is_touched {
                lane.is_touched = true;
                lane.staged.values.resize(lane.width, 0.0);
                lane.staged.presence.resize(lane.width.div_ceil(64), 0);
            }
            let column = slot.column as usize;
            if lane.staged.is_present(column) {
                self.repeats.push((slot.lane, slot.column, Value::Float(value)));
                continue;
            }
            lane.staged.set(column, value);
        }
        Ok(())
    }

    /// Puts the histograms beside the rows of their lanes, after the floats of the same row.
    fn stage_histograms<'a>(
        &mut self,
        histograms: impl Iterator<Item = (SeriesRef, &'a HistogramSample)>,
    ) -> Result<(), AppendError> {
        for (series, sample) in histograms {
            let slot = self.slot(series)?;
            let lane = &mut self.lanes[slot.lane as usize];
            lane.is_touched = true;
            if lane.staged.is_present(slot.column as usize) {
                self.repeats.push((slot.lane, slot.column, Value::Histogram(sample.clone())));
            } else {
                lane.staged_histograms.push((slot.column, sample.clone()));
            }
        }
        Ok(())
    }

    fn unstage(&mut self) {
        self.repeats.clear();
        for lane in &mut self.lanes {
            lane.staged = Row::default();
            lane.staged_histograms.clear();
            lane.is_touched = false;
        }
    }

    fn append_staged(&mut self, t: i64, seq: u64, bounds: Bounds, counts: &mut Appended) {
        for i in 0..self.lanes.len() {
            if !self.lanes[i].is_touched {
                continue;
            }
            self.lanes[i].is_touched = false;
            let mut row = std::mem::take(&mut self.lanes[i].staged);
            row.t = t;
            row.seq = seq;
            let cell = Arc::clone(&self.lanes[i].cell);
            let mut histograms = std::mem::take(&mut self.lanes[i].staged_histograms);
            if !histograms.is_empty() {
                histograms.sort_by_key(|(column, _)| *column);
                let mut repeats = Vec::new();
                histograms.dedup_by(|again, first| {
                    let is_repeat = again.0 == first.0;
                    if is_repeat {
                        repeats.push((i as u32, again.0, Value::Histogram(again.1.clone())));
                    }
                    is_repeat
                });
                self.repeats.append(&mut repeats);
            }
            append_row(&self.head, &cell, row, &histograms, bounds, counts, &mut self.records);
        }
        for (lane, column, value) in self.repeats.drain(..) {
            let cell = &self.lanes[lane as usize].cell;
            count_repeat(&self.head, cell, column, (t, &value), bounds, counts);
        }
        self.head.relieve_log();
    }

    fn count(&self, counts: Appended) {
        let c = &self.head.counters;
        c.samples.fetch_add(counts.accepted, Ordering::Relaxed);
        if counts.refused() > 0 {
            c.duplicates.fetch_add(counts.duplicates, Ordering::Relaxed);
            c.out_of_order.fetch_add(counts.out_of_order, Ordering::Relaxed);
            c.out_of_bounds.fetch_add(counts.out_of_bounds, Ordering::Relaxed);
            c.too_old.fetch_add(counts.too_old, Ordering::Relaxed);
        }
    }
}

impl Drop for GroupWriter {
    fn drop(&mut self) {
        let mut index = self.head.index_mut();
        for (slot, &series) in self.slots.iter().zip(&self.series) {
            if slot.lane != FREE {
                index.release(series);
            }
        }
        drop(index);
        self.head.counters.writer_bytes.fetch_sub(self.counted_bytes, Ordering::Relaxed);
        if let Some(home) = self.home.take() {
            lock(&self.head.newest_of(home).state).is_claimed = false;
        }
    }
}
