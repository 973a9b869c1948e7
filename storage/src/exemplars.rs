//! Exemplars: single observations that senders attach to samples, such as a request with the id of its trace.
//!
//! The newest ones of all series are kept, in a ring that is limited in number and in bytes. Each is logged before it
//! is acknowledged, and a checkpoint adds what is new to a file, so that they survive a restart. They know series by
//! labels and outlive them in the head. Nothing here is part of a block.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use promontory_model::{Labels, Matcher, TimeRange, Timestamp};
use rapidhash::fast::RandomState;

use crate::head::lock;

pub(crate) mod bytes;
pub(crate) mod file;

/// Characters of the names and values of an exemplar's labels together.
///
/// # Source
/// OpenMetrics 1.0.0.
pub const EXEMPLAR_LABEL_CHARS_MAX: usize = 128;
/// Bytes that exemplars and the labels of their series may take, whatever their number.
const BYTES_MAX: usize = 128 << 20;
/// Most exemplars, and bytes of labels, that are written together.
const BATCH_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Exemplars that a file may hold beyond twice as many as are kept.
const FILE_SPARE: u64 = 1000;

/// An observation and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// What is known of it, most often the id of a trace.
    pub labels: Labels,
    /// What was observed.
    pub value: f64,
    /// When.
    pub timestamp: Timestamp,
    /// Whether its source said when; else the time is that of the scrape that brought it first.
    pub has_timestamp: bool,
}

impl Exemplar {
    /// Whether this is `other`, seen again.
    fn repeats(&self, other: &Self) -> bool {
        self.labels == other.labels
            && self.value.to_bits() == other.value.to_bits()
            && self.has_timestamp == other.has_timestamp
            && (!self.has_timestamp || self.timestamp == other.timestamp)
    }

    fn is_before(&self, other: &Self) -> bool {
        let labels = || self.labels.cmp(&other.labels);
        self.timestamp.cmp(&other.timestamp).then_with(|| self.value.total_cmp(&other.value)).then_with(labels).is_lt()
    }

    /// Bytes that it takes here.
    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<u32>() + label_bytes(&self.labels)
    }
}

fn label_bytes(labels: &Labels) -> usize {
    labels.as_bytes().len() + 16
}

/// What became of exemplars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExemplarsAppended {
    /// Kept.
    pub accepted: u64,
    /// The same as the newest of their series; senders repeat them.
    pub repeated: u64,
    /// Older than the newest of their series.
    pub out_of_order: u64,
    /// With labels of more than [`EXEMPLAR_LABEL_CHARS_MAX`] characters.
    pub too_long: u64,
}

impl ExemplarsAppended {
    /// Adds the counts of another append.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.repeated += other.repeated;
        self.out_of_order += other.out_of_order;
        self.too_long += other.too_long;
    }
}

/// The exemplars of one series, ascending in time.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplars {
    /// Labels of the series.
    pub labels: Labels,
    /// At least one.
    pub exemplars: Vec<Exemplar>,
}

/// Sizes and counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExemplarStatus {
    /// How many are kept at most.
    pub max: u64,
    /// How many are kept.
    pub kept: u64,
    /// Series that have any.
    pub series: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Time of the newest that was kept, ms.
    pub newest: Option<i64>,
    /// Since the start: kept, and refused because they were older than the newest of their series.
    pub appended: u64,
    /// See `appended`.
    pub out_of_order: u64,
}

/// An exemplar and the labels of its series.
pub(crate) type Labelled = (Labels, Exemplar);

/// All exemplars. The lock is taken before that of the log's buffer, so that numbers ascend there.
#[derive(Debug)]
pub(crate) struct Exemplars {
    /// Changed with `state` locked.
    max: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    series: Vec<OfSeries>,
    free: Vec<u32>,
    by_labels: HashMap<Labels, u32, RandomState>,
    /// Series of each exemplar, oldest first.
    ring: VecDeque<u32>,
    bytes: usize,
    /// Number of the next exemplar.
    next_no: u64,
    /// Numbers below this one are in the file.
    filed_no: u64,
    newest: Option<i64>,
    appended: u64,
    out_of_order: u64,
}

#[derive(Debug)]
struct OfSeries {
    labels: Labels,
    /// Oldest first; empty only when the place is free.
    exemplars: VecDeque<Exemplar>,
}

impl Exemplars {
    /// An empty store of at most `max`; 0 keeps none.
    pub(crate) fn new(max: usize) -> Self {
        Self { max: AtomicUsize::new(max), state: Mutex::default() }
    }

    fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Whether none is kept now.
    pub(crate) fn is_off(&self) -> bool {
        self.max() == 0
    }

    /// Keeps at most `max` from here on; the oldest make room.
    pub(crate) fn set_max(&self, max: usize) {
        let mut state = lock(&self.state);
        self.max.store(max, Ordering::Relaxed);
        state.evict(max);
    }

    /// Keeps what is new of `batch` and hands it, in parts with the number of their first, to `log`.
    pub(crate) fn append(&self, batch: Vec<Labelled>, mut log: impl FnMut(u64, &[Labelled])) -> ExemplarsAppended {
        let mut counts = ExemplarsAppended::default();
        let mut state = lock(&self.state);
        let max = self.max();
        if max == 0 {
            return counts;
        }
        let mut kept = Vec::new();
        for (labels, exemplar) in batch {
            let chars: usize = exemplar.labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
            if chars > EXEMPLAR_LABEL_CHARS_MAX {
                counts.too_long += 1;
                continue;
            }
            let newest = state.newest_of(&labels);
            if newest.is_some_and(|newest| exemplar.repeats(newest)) {
                counts.repeated += 1;
            } else if newest.is_some_and(|newest| exemplar.is_before(newest)) {
                counts.out_of_order += 1;
            } else {
                state.push(max, labels.clone(), exemplar.clone());
                kept.push((labels, exemplar));
            }
        }
        counts.accepted = kept.len() as u64;
        state.appended += counts.accepted;
        state.out_of_order += counts.out_of_order;
        let mut no = state.next_no - counts.accepted;
        for part in parts(&kept) {
            log(no, part);
            no += part.len() as u64;
        }
        counts
    }

    /// Puts back what was kept, numbered from `first_no`; what is there already is left out.
    pub(crate) fn restore(&self, first_no: u64, batch: Vec<Labelled>) {
        let mut state = lock(&self.state);
        let max = self.max();
        for (no, (labels, exemplar)) in (first_no..).zip(batch) {
            if no >= state.next_no {
                state.next_no = no;
                state.push(max, labels, exemplar);
            }
        }
    }

    /// What has been restored up to now came from the file.
    pub(crate) fn restored_file(&self) {
        let mut state = lock(&self.state);
        state.filed_no = state.next_no;
    }

    /// What the file lacks, or everything when the file has too much that is not kept any more.
    pub(crate) fn to_file(&self, n_filed: u64) -> ToFile {
        let state = lock(&self.state);
        let kept = state.ring.len() as u64;
        let oldest_no = state.next_no - kept;
        let lacking = state.next_no - state.filed_no.max(oldest_no);
        // Those of a store that was switched off must not come back when it is on again.
        let is_emptied = kept == 0 && n_filed > 0;
        let is_rewrite = is_emptied || n_filed.saturating_add(lacking) > 2 * kept + FILE_SPARE;
        let n = if is_rewrite { kept } else { lacking };
        ToFile { is_rewrite, first_no: state.next_no - n, exemplars: state.newest(n as usize), end_no: state.next_no }
    }

    /// The file holds all below `end_no`.
    pub(crate) fn filed(&self, end_no: u64) {
        let mut state = lock(&self.state);
        state.filed_no = state.filed_no.max(end_no);
    }

    /// The exemplars inside `range` of the series that pass all matchers of one of `selectors`; by labels.
    pub(crate) fn select(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Vec<SeriesExemplars> {
        let state = lock(&self.state);
        let mut out = Vec::new();
        for (labels, at) in &state.by_labels {
            let passes = |matchers: &Vec<Matcher>| matchers.iter().all(|m| m.matches_labels(labels));
            if !selectors.iter().any(passes) {
                continue;
            }
            let all = &state.series[*at as usize].exemplars;
            let exemplars: Vec<Exemplar> = all.iter().filter(|e| range.contains(e.timestamp)).cloned().collect();
            if !exemplars.is_empty() {
                out.push(SeriesExemplars { labels: labels.clone(), exemplars });
            }
        }
        drop(state);
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        out
    }

    pub(crate) fn status(&self) -> ExemplarStatus {
        let state = lock(&self.state);
        ExemplarStatus {
            max: self.max() as u64,
            kept: state.ring.len() as u64,
            series: state.by_labels.len() as u64,
            bytes: state.bytes as u64,
            newest: state.newest,
            appended: state.appended,
            out_of_order: state.out_of_order,
        }
    }
}

/// What a checkpoint writes.
pub(crate) struct ToFile {
    /// A new file takes the place of the old one.
    pub(crate) is_rewrite: bool,
    pub(crate) first_no: u64,
    pub(crate) exemplars: Vec<Labelled>,
    /// Number after the last.
    pub(crate) end_no: u64,
}

/// Runs that are written together.
pub(crate) fn parts(mut all: &[Labelled]) -> impl Iterator<Item = &[Labelled]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = all.iter().take(BATCH_MAX).take_while(|(labels, exemplar)| {
            let before = bytes;
            bytes += label_bytes(labels) + label_bytes(&exemplar.labels);
            before == 0 || bytes <= BATCH_BYTES_MAX
        });
        let (part, rest) = all.split_at(fits.count());
        all = rest;
        (!part.is_empty()).then_some(part)
    })
}

impl State {
    fn newest_of(&self, labels: &Labels) -> Option<&Exemplar> {
        self.series[*self.by_labels.get(labels)? as usize].exemplars.back()
    }

    fn push(&mut self, max: usize, labels: Labels, exemplar: Exemplar) {
        self.next_no += 1;
        self.newest = self.newest.max(Some(exemplar.timestamp.0));
        self.bytes += exemplar.bytes();
        let at = match self.by_labels.get(&labels) {
            Some(at) => *at,
            None => self.add_series(labels),
        };
        self.series[at as usize].exemplars.push_back(exemplar);
        self.ring.push_back(at);
        self.evict(max);
    }

    /// Makes sure that there are at most `max`, and few enough bytes.
    fn evict(&mut self, max: usize) {
        while self.ring.len() > max || (self.bytes > BYTES_MAX && self.ring.len() > 1) {
            self.evict_oldest();
        }
    }

    fn add_series(&mut self, labels: Labels) -> u32 {
        self.bytes += size_of::<OfSeries>() + 2 * size_of::<Labels>() + label_bytes(&labels);
        let new = OfSeries { labels: labels.clone(), exemplars: VecDeque::new() };
        let at = match self.free.pop() {
            Some(at) => {
                self.series[at as usize] = new;
                at
            }
            None => {
                self.series.push(new);
                self.series.len() as u32 - 1
            }
        };
        self.by_labels.insert(labels, at);
        at
    }

    fn evict_oldest(&mut self) {
        let Some(at) = self.ring.pop_front() else { return };
        let series = &mut self.series[at as usize];
        if let Some(oldest) = series.exemplars.pop_front() {
            self.bytes -= oldest.bytes();
        }
        if series.exemplars.is_empty() {
            self.bytes -= size_of::<OfSeries>() + 2 * size_of::<Labels>() + label_bytes(&series.labels);
            self.by_labels.remove(&series.labels);
            series.labels = Labels::empty();
            self.free.push(at);
        }
    }

    /// The newest `n`, oldest first.
    fn newest(&self, n: usize) -> Vec<Labelled> {
        let from = self.ring.len() - n.min(self.ring.len());
        // How many of each series come before.
        let mut passed: HashMap<u32, usize, RandomState> = HashMap::default();
        for at in self.ring.range(..from) {
            *passed.entry(*at).or_default() += 1;
        }
        let mut out = Vec::with_capacity(self.ring.len() - from);
        for at in self.ring.range(from..) {
            let (series, place) = (&self.series[*at as usize], passed.entry(*at).or_default());
            out.push((series.labels.clone(), series.exemplars[*place].clone()));
            *place += 1;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use promontory_model::MatchOp;

    fn exemplar(t: i64, value: f64, trace: &str) -> Exemplar {
        let labels = Labels::from_pairs([("trace_id", trace)]);
        Exemplar { labels, value, timestamp: Timestamp(t), has_timestamp: true }
    }

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    fn counts(accepted: u64, repeated: u64, out_of_order: u64, too_long: u64) -> ExemplarsAppended {
        ExemplarsAppended { accepted, repeated, out_of_order, too_long }
    }

    #[track_caller]
    fn append(store: &Exemplars, name: &str, e: Exemplar, expected: ExemplarsAppended) {
        assert_eq!(store.append(vec![(series(name), e)], |_, _| {}), expected);
    }

    /// Series and times of everything that is kept.
    fn kept(store: &Exemplars) -> String {
        let all = store.select(&[vec![]], TimeRange::ALL);
        let text = |s: &SeriesExemplars| {
            let times: Vec<String> = s.exemplars.iter().map(|e| e.timestamp.0.to_string()).collect();
            format!("{} {}", s.labels.metric_name(), times.join(" "))
        };
        all.iter().map(text).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn repeats_are_left_out_and_order_is_kept() {
        let store = Exemplars::new(10);
        append(&store, "a", exemplar(10, 1.0, "x"), counts(1, 0, 0, 0));
        append(&store, "a", exemplar(10, 1.0, "x"), counts(0, 1, 0, 0));
        append(&store, "b", exemplar(10, 1.0, "x"), counts(1, 0, 0, 0));
        append(&store, "a", exemplar(9, 5.0, "y"), counts(0, 0, 1, 0));
        append(&store, "a", exemplar(10, 0.5, "y"), counts(0, 0, 1, 0));
        append(&store, "a", exemplar(10, 1.0, "y"), counts(1, 0, 0, 0));
        append(&store, "a", exemplar(11, 0.5, &"é".repeat(120)), counts(1, 0, 0, 0));
        append(&store, "a", exemplar(12, 0.5, &"é".repeat(121)), counts(0, 0, 0, 1));
        assert_eq!(kept(&store), "a 10 10 11; b 10");
        // Without a time of its own it is the same as long as nothing else changes.
        let scraped = |t| Exemplar { has_timestamp: false, ..exemplar(t, 1.0, "z") };
        append(&store, "c", scraped(20), counts(1, 0, 0, 0));
        append(&store, "c", scraped(35), counts(0, 1, 0, 0));
        assert_eq!(kept(&store), "a 10 10 11; b 10; c 20");
    }

    #[test]
    fn the_oldest_make_room() {
        let store = Exemplars::new(3);
        for (name, t) in [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("c", 5)] {
            append(&store, name, exemplar(t, 1.0, "x"), counts(1, 0, 0, 0));
        }
        assert_eq!(kept(&store), "a 3 4; c 5");
        let status = store.status();
        assert_eq!((status.kept, status.series, status.newest, status.appended), (3, 2, Some(5), 5));
        append(&store, "d", exemplar(6, 1.0, "x"), counts(1, 0, 0, 0));
        append(&store, "d", exemplar(7, 1.0, "x"), counts(1, 0, 0, 0));
        append(&store, "d", exemplar(8, 1.0, "x"), counts(1, 0, 0, 0));
        assert_eq!(kept(&store), "d 6 7 8");
        let before = store.status().bytes;
        (9..50).for_each(|t| append(&store, "d", exemplar(t, 1.0, "x"), counts(1, 0, 0, 0)));
        assert_eq!(store.status().bytes, before);
        append(&Exemplars::new(0), "a", exemplar(1, 1.0, "x"), counts(0, 0, 0, 0));
    }

    #[test]
    fn how_many_are_kept_can_change() {
        let store = Exemplars::new(4);
        (1..=5).for_each(|t| append(&store, "a", exemplar(t, 1.0, "x"), counts(1, 0, 0, 0)));
        store.set_max(2);
        assert_eq!(kept(&store), "a 4 5");
        store.set_max(3);
        append(&store, "a", exemplar(6, 1.0, "x"), counts(1, 0, 0, 0));
        assert_eq!((kept(&store).as_str(), store.status().max), ("a 4 5 6", 3));
        let filed = store.to_file(0);
        assert_eq!((filed.first_no, filed.exemplars.len(), filed.is_rewrite), (3, 3, false));
        store.filed(filed.end_no);
        store.set_max(0);
        append(&store, "b", exemplar(7, 1.0, "x"), counts(0, 0, 0, 0));
        let status = store.status();
        assert_eq!((kept(&store).as_str(), status.kept, status.series, status.bytes), ("", 0, 0, 0));
        let none = store.to_file(3);
        assert_eq!((none.exemplars.len(), none.is_rewrite), (0, true));
        assert!(!store.to_file(0).is_rewrite);
    }

    #[test]
    fn selection_is_by_any_selector_and_inclusive_times() {
        let store = Exemplars::new(10);
        for (name, t) in [("a", 1), ("a", 2), ("a", 3), ("b", 2), ("c", 9)] {
            append(&store, name, exemplar(t, 1.0, "x"), counts(1, 0, 0, 0));
        }
        let of = |name: &str| vec![Matcher::new("__name__", MatchOp::Equal, name).unwrap()];
        let found = store.select(&[of("a"), of("b"), of("d")], TimeRange::new(2, 3));
        let sizes: Vec<_> = found.iter().map(|s| (s.labels.metric_name(), s.exemplars.len())).collect();
        assert_eq!(sizes, [("a", 2), ("b", 1)]);
        assert_eq!(store.select(&[], TimeRange::ALL), []);
    }

    #[test]
    fn restoring_in_parts_that_overlap_gives_the_same() {
        let store = Exemplars::new(5);
        let mut log: Vec<(u64, Vec<Labelled>)> = Vec::new();
        for t in 0..9 {
            let batch = ["a", "b"].map(|name| (series(name), exemplar(t, 1.0, "x"))).to_vec();
            store.append(batch, |no, part| log.push((no, part.to_vec())));
        }
        let filed = store.to_file(0);
        assert_eq!((filed.is_rewrite, filed.exemplars.len(), filed.end_no), (false, 5, 18));
        let again = Exemplars::new(5);
        again.restore(filed.first_no, filed.exemplars.clone());
        again.restored_file();
        log.iter().for_each(|(no, part)| again.restore(*no, part.clone()));
        assert_eq!(kept(&again), kept(&store));
        assert_eq!(again.to_file(5).exemplars, []);
        append(&again, "a", exemplar(20, 1.0, "x"), counts(1, 0, 0, 0));
        let more = again.to_file(5);
        assert_eq!((more.first_no, more.exemplars.len(), more.is_rewrite), (18, 1, false));
        let much = again.to_file(FILE_SPARE + 10);
        assert_eq!((much.first_no, much.exemplars.len(), much.is_rewrite), (14, 5, true));
    }

    #[test]
    fn parts_are_small_but_never_empty() {
        let all: Vec<Labelled> = (0..2500).map(|t| (series("a"), exemplar(t, 1.0, "x"))).collect();
        assert_eq!(parts(&all).map(<[_]>::len).collect::<Vec<_>>(), [1000, 1000, 500]);
        let large = (Labels::from_pairs([("a", "x".repeat(BATCH_BYTES_MAX))]), exemplar(1, 1.0, "x"));
        assert_eq!(parts(&[large.clone(), large]).map(<[_]>::len).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(parts(&[]).count(), 0);
    }
}
