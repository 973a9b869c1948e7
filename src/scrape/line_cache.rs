//! What a target exposed last time, line by line, so that the same line is not understood twice.
//!
//! The order of an exposition is stable: the line expected next is compared byte by byte up to its value, and on a
//! match nothing is parsed, hashed or allocated but the number. A line elsewhere is looked for a few lines on, then
//! by a hash of its bytes, and only a line never seen goes through the parser and relabelling. Lines that relabelling
//! drops are remembered as well. A line under another `TYPE` counts as another line where the type changes labels.
//!
//! A scrape is `read`, then `resolve`d, then either `commit`ted or `abort`ed; nothing of it reaches storage before.
//! Series whose lines were in the last committed scrape and are not in this one have ended. Lines that stay away are
//! forgotten, so memory follows what the target exposes. It knows no storage: references are whatever the caller's
//! table hands out.

mod keys;
mod starts;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU32;
use std::ops::Range;

use hashbrown::HashTable;
use promontory_model::{Labels, MetricType};
use rapidhash::fast::RandomState;

use keys::{Keys, Placed};
pub use starts::Started;

use super::exposition::{Format, Item, Metadata, ParseError, Parser, Tail};
use super::metadata::Families;
use super::sample_labels::{SampleLabels, SampleLabelsError};

/// Lines compared ahead of the expected one before the table is asked.
const RESYNC_LINES: usize = 16;
/// Scrapes for which a line that stays away is remembered.
const AWAY_SCRAPES_MAX: u32 = 10;
/// Lines that may be remembered besides twice those of the last scrape that went well.
const SPARE_LINES: usize = 1_000;
/// Keys are written anew when more than one in so many lines, and at least so many, is forgotten or out of order.
const STRAY_SHARE_MAX: usize = 8;
const STRAY_LINES_MIN: usize = 64;

/// Bytes of keys that 32-bit offsets reach.
const KEY_BYTES_MAX: usize = u32::MAX as usize;

/// A table of series that hands out references.
pub trait SeriesTable {
    /// Refers to a series. Each is given out once, also where two are of one series.
    type Ref: Copy + Eq + Hash + std::fmt::Debug;
    /// Why a series cannot be had.
    type Error;

    /// The reference of the series with these labels, which is created if need be; `None` if it is one too many.
    ///
    /// # Errors
    /// Whatever keeps the table from taking it.
    fn resolve(&mut self, labels: &Labels) -> Result<Option<Self::Ref>, Self::Error>;

    /// Gives a reference back.
    fn release(&mut self, series: Self::Ref);

    /// Equal for references of one series.
    fn identity(&self, series: Self::Ref) -> u32;
}

/// How lines are taken.
#[derive(Debug, Clone)]
pub struct LineRules {
    /// From exposed to stored labels.
    pub labels: SampleLabels,
    /// Whether explicit timestamps are taken.
    pub honor_timestamps: bool,
    /// Whether series with explicit timestamps end with a marker too.
    pub track_timestamps_staleness: bool,
}

/// Samples of one scrape; kept by the caller and used again for the next one.
#[derive(Debug)]
pub struct Batch<R> {
    /// Samples without timestamps of known series.
    pub row: Vec<(R, f64)>,
    /// Samples with timestamps in ms of known series.
    pub timed: Vec<(R, i64, f64)>,
    /// Histograms of known series: explicit timestamp in ms, and which of those beside the body it is.
    pub histograms: Vec<(R, Option<i64>, NonZeroU32)>,
    /// Exemplars of samples of known series: explicit timestamp of the sample in ms, and where in the body they are.
    pub exemplars: Vec<(R, Option<i64>, NonZeroU32)>,
    /// Series that the last committed scrape had and this one has not.
    pub stale: Vec<R>,
    /// Numbers for the report series.
    pub counts: Counts,
    /// Whether lines `_created` of counters, histograms and summaries say since when these count; else they are samples.
    pub takes_starts: bool,
    new: Vec<NewLine>,
    /// Lines that say since when something counts and said something else, or nothing, before.
    restarts: Vec<u32>,
}

impl<R> Default for Batch<R> {
    fn default() -> Self {
        Self {
            row: Vec::new(),
            timed: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            stale: Vec::new(),
            counts: Counts::default(),
            takes_starts: false,
            new: Vec::new(),
            restarts: Vec::new(),
        }
    }
}

impl<R> Batch<R> {
    /// Forgets the samples.
    pub fn clear(&mut self) {
        self.row.clear();
        self.timed.clear();
        self.histograms.clear();
        self.exemplars.clear();
    }

    /// The histograms that the scrape just read brings, those of new series included, before these are resolved.
    pub fn histogram_numbers(&self) -> impl Iterator<Item = NonZeroU32> {
        self.histograms.iter().map(|h| h.2).chain(self.new.iter().filter_map(|new| new.tail.histogram))
    }

    /// Puts what `tail` says of `series` in, at `timestamp`.
    fn push(&mut self, series: R, tail: Tail, timestamp: Option<i64>)
    where
        R: Copy,
    {
        match (tail.histogram, timestamp) {
            (None, None) => self.row.push((series, tail.value)),
            (None, Some(t)) => self.timed.push((series, t, tail.value)),
            (Some(number), _) => self.histograms.push((series, timestamp, number)),
        }
        if let Some(at) = tail.exemplar {
            self.exemplars.push((series, timestamp, at));
        }
    }
}

/// What a scrape held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Sample lines.
    pub scraped: u64,
    /// Of them, those that relabelling kept.
    pub kept: u64,
    /// Of them, repeated lines without timestamp; they are not in the batch.
    pub duplicates: u64,
    /// Of them, those of series that the scrape before did not have.
    pub added: u64,
    /// Of them, those of series that the table refused.
    pub refused: u64,
    /// Lines that were not where they were expected.
    pub missed: u64,
}

#[derive(Debug)]
struct NewLine {
    line: u32,
    labels: Labels,
    tail: Tail,
}

/// A body that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It breaks the format.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A sample's labels are refused.
    #[error(transparent)]
    Labels(#[from] SampleLabelsError),
    /// Keys are found by 32-bit offsets.
    #[error("remembered lines would exceed {limit} bytes")]
    Full {
        /// Bytes of keys that can be remembered.
        limit: usize,
    },
}

/// What a remembered line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What<R> {
    /// A sample that is not resolved yet.
    Unresolved,
    /// A sample of this series.
    Series(R),
    /// A sample that relabelling drops.
    Dropped,
    /// A sample of a series that the table refused.
    Refused,
    /// A `TYPE` line.
    Type(MetricType),
    /// A `HELP` or `UNIT` line.
    Text,
    /// Says since when the series count that belong to it.
    Start,
    /// Forgotten; its key may still be referred to.
    Forgotten,
}

/// A line that the target has exposed.
#[derive(Debug, Clone, Copy)]
struct Line<R> {
    what: What<R>,
    /// Number of the scrape that held it last.
    seen: u32,
    /// Where it was in `order`.
    place: u32,
    context: Context,
    /// Whether the series ends with a marker when the line goes.
    tracked: bool,
}

/// What of the declared type changes labels of the lines below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    Plain,
    Histogram,
    Summary,
}

impl From<MetricType> for Context {
    fn from(kind: MetricType) -> Self {
        match kind {
            MetricType::Histogram => Self::Histogram,
            MetricType::Summary => Self::Summary,
            _ => Self::Plain,
        }
    }
}

/// The cache of one target.
#[derive(Debug)]
pub struct LineCache<R> {
    lines: Vec<Line<R>>,
    /// Forgotten lines that no key refers to.
    vacant: Vec<u32>,
    n_forgotten: usize,
    keys: Keys,
    /// Lines of the scrape being read whose keys refer to a line that did not stand before them.
    n_astray: usize,
    table: HashTable<u32>,
    hasher: RandomState,
    /// Lines of the last committed scrape, in its order.
    order: Vec<u32>,
    /// Lines of the scrape being read, from when it first departed from `order`.
    departed: Option<Vec<u32>>,
    spare_order: Vec<u32>,
    /// Number of the scrape being read.
    scrape: u32,
    /// Number of the last committed scrape.
    committed: u32,
    /// Lines in use after the last commit.
    n_committed: usize,
    /// Scrape that held the longest absent line last.
    oldest_away: Option<u32>,
    /// Whether series of `order` have samples that no marker has ended.
    live: bool,
    /// Whether the table is asked again for series that it refused.
    retries: bool,
    forced_flushes: u64,
    /// Since when, in ms, by the line that says so or, where it is said beside the lines, by that of the series.
    starts: HashMap<u32, i64>,
}

impl<R: Copy + Eq + Hash + std::fmt::Debug> Default for LineCache<R> {
    fn default() -> Self {
        Self::new()
    }
}

/// Progress of `read`.
struct Reading<'a, R> {
    body: &'a [u8],
    parser: Parser<'a>,
    rules: &'a LineRules,
    batch: &'a mut Batch<R>,
    at: usize,
    kind: MetricType,
    /// Index in `order` of the line expected next.
    expected: usize,
    /// The line read last.
    before: Option<Placed>,
}

impl<R: Copy + Eq + Hash + std::fmt::Debug> LineCache<R> {
    /// A cache that remembers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lines: Vec::new(),
            vacant: Vec::new(),
            n_forgotten: 0,
            keys: Keys::default(),
            n_astray: 0,
            table: HashTable::new(),
            hasher: RandomState::new(),
            order: Vec::new(),
            departed: None,
            spare_order: Vec::new(),
            scrape: 0,
            committed: 0,
            n_committed: 0,
            oldest_away: None,
            live: false,
            retries: false,
            forced_flushes: 0,
            starts: HashMap::new(),
        }
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line<R>>()
            + self.keys.heap_bytes()
            + self.table.allocation_size()
            + (self.order.capacity() + self.spare_order.capacity() + self.vacant.capacity()) * size_of::<u32>()
    }

    /// Number of remembered lines.
    #[must_use]
    pub fn n_lines(&self) -> usize {
        self.lines.len() - self.n_forgotten
    }

    /// How often lines had to be forgotten because scrapes that failed brought ever new ones.
    #[must_use]
    pub fn forced_flushes(&self) -> u64 {
        self.forced_flushes
    }

    /// Says whether the scrapes to come ask the table again for series that it refused.
    pub fn retry_refused(&mut self, retries: bool) {
        self.retries = retries;
    }

    /// Reads a body into `batch`, replacing its content.
    ///
    /// # Errors
    /// [`ReadError`]; `batch.counts` then covers what was read, and the scrape is to be aborted.
    pub fn read(
        &mut self,
        body: &[u8],
        format: Format,
        rules: &LineRules,
        batch: &mut Batch<R>,
        families: &Families,
    ) -> Result<(), ReadError> {
        batch.clear();
        batch.stale.clear();
        batch.new.clear();
        batch.restarts.clear();
        batch.counts = Counts::default();
        self.scrape = self.scrape.wrapping_add(1);
        self.departed = None;
        self.n_astray = 0;
        if self.keys.n_bytes().saturating_add(body.len()) > KEY_BYTES_MAX {
            return Err(ReadError::Full { limit: KEY_BYTES_MAX });
        }
        let parser = Parser::new(body, format);
        let mut r = Reading { body, parser, rules, batch, at: 0, kind: MetricType::Unknown, expected: 0, before: None };
        loop {
            if let Some(&line) = self.order.get(r.expected)
                && self.take_if_here(line, &mut r)
            {
                r.expected += 1;
                if let Some(departed) = &mut self.departed {
                    departed.push(line);
                }
                continue;
            }
            let blank = r.parser.silent_end(r.at);
            if blank > r.at {
                r.at = blank;
                continue;
            }
            if r.at < body.len() && self.take_known(&mut r) {
                continue;
            }
            if !self.take_new(&mut r, families)? {
                break;
            }
        }
        if r.expected < self.order.len() && self.departed.is_none() {
            self.depart(r.expected);
        }
        Ok(())
    }

    /// Turns the new lines of `batch` into series.
    ///
    /// # Errors
    /// What the table answers; the scrape is then to be aborted.
    pub fn resolve<T: SeriesTable<Ref = R>>(&mut self, batch: &mut Batch<R>, table: &mut T) -> Result<(), T::Error> {
        let mut all = std::mem::take(&mut batch.new);
        for new in all.drain(..) {
            let line = &mut self.lines[new.line as usize];
            let series = match line.what {
                // Twice in the same scrape, with different timestamps.
                What::Series(series) => Some(series),
                What::Refused => None,
                _ => table.resolve(&new.labels)?,
            };
            let Some(series) = series else {
                line.what = What::Refused;
                batch.counts.refused += 1;
                batch.counts.added = batch.counts.added.saturating_sub(1);
                continue;
            };
            line.what = What::Series(series);
            batch.push(series, new.tail, new.tail.timestamp_ms);
        }
        batch.new = all;
        Ok(())
    }

    /// Makes the scrape just read the last one: fills `batch.stale` with the series that have ended, and forgets
    /// lines that stayed away.
    pub fn commit<T: SeriesTable<Ref = R>>(&mut self, batch: &mut Batch<R>, table: &mut T, families: &Families) {
        batch.stale.clear();
        let was_live = std::mem::replace(&mut self.live, true);
        self.committed = self.scrape;
        let keep_from = self.scrape.saturating_sub(AWAY_SCRAPES_MAX);
        let Some(next) = self.departed.take() else {
            if self.oldest_away.is_some_and(|seen| seen < keep_from) {
                self.forget_before(keep_from, table, families);
            }
            self.tidy();
            return;
        };
        let previous = std::mem::replace(&mut self.order, next);
        if was_live {
            self.find_ended(&previous, &mut batch.stale, table);
        }
        for (place, line) in self.order.iter().enumerate() {
            self.lines[*line as usize].place = u32::try_from(place).unwrap_or(u32::MAX);
        }
        self.spare_order = previous;
        self.spare_order.clear();
        let crowded = self.n_lines() > 2 * self.order.len() + SPARE_LINES;
        self.forget_before(if crowded { self.scrape } else { keep_from }, table, families);
        self.n_committed = self.n_lines();
    }

    /// Gives the scrape up, or notes that there was none: all series of the last committed scrape have ended and are
    /// put into `stale`, the first time.
    pub fn abort<T: SeriesTable<Ref = R>>(&mut self, stale: &mut Vec<R>, table: &mut T, families: &Families) {
        stale.clear();
        self.departed = None;
        // What was found of them may not have reached storage.
        self.starts.clear();
        self.end_live(stale, table);
        if self.n_lines() > 2 * self.n_committed + SPARE_LINES {
            self.forced_flushes += 1;
            self.forget_before(self.committed, table, families);
        }
    }

    /// Puts the series whose samples no marker has ended yet into `out`, each once; from now on they count as ended.
    pub fn end_live<T: SeriesTable<Ref = R>>(&mut self, out: &mut Vec<R>, table: &T) {
        if !std::mem::replace(&mut self.live, false) {
            return;
        }
        let mut seen = HashSet::new();
        for line in &self.order {
            let line = &self.lines[*line as usize];
            if let What::Series(series) = line.what
                && line.tracked
                && seen.insert(table.identity(series))
            {
                out.push(series);
            }
        }
    }

    /// Gives up the cache because its lines would now be read in another way. Series whose samples no marker has
    /// ended yet are put into `live`, and are the caller's to release; all others are released.
    pub fn retire<T: SeriesTable<Ref = R>>(mut self, live: &mut Vec<R>, table: &mut T) {
        let first = live.len();
        self.end_live(live, table);
        let kept: HashSet<R> = live[first..].iter().copied().collect();
        for line in &self.lines {
            if let What::Series(series) = line.what
                && !kept.contains(&series)
            {
                table.release(series);
            }
        }
    }

    /// Takes the line at hand if it is `line`.
    fn take_if_here(&mut self, line: u32, r: &mut Reading<'_, R>) -> bool {
        let known = &self.lines[line as usize];
        if known.context != Context::from(r.kind)
            && matches!(known.what, What::Series(_) | What::Dropped | What::Refused | What::Start)
        {
            return false;
        }
        match self.keys.find(line, r.body, r.at, r.before) {
            Some((key_end, is_astray)) if self.take(line, key_end, r) => {
                self.n_astray += usize::from(is_astray);
                true
            }
            _ => false,
        }
    }

    /// Takes the line at hand, whose key is that of `line`.
    fn take(&mut self, line: u32, key_end: usize, r: &mut Reading<'_, R>) -> bool {
        let placed = Placed { line, at: r.at };
        let known = &mut self.lines[line as usize];
        match known.what {
            What::Type(kind) => {
                r.kind = kind;
                r.at = key_end;
            }
            What::Text => r.at = key_end,
            What::Start if r.batch.takes_starts => {
                let Some((tail, next)) = r.parser.tail_after(key_end) else { return false };
                known.seen = self.scrape;
                r.at = next;
                r.before = Some(placed);
                self.note_start(line, tail.value, r.batch);
                return true;
            }
            What::Series(series) => {
                let Some((tail, next)) = r.parser.tail_after(key_end) else { return false };
                r.at = next;
                r.batch.counts.scraped += 1;
                r.before = Some(placed);
                self.take_sample(line, series, tail, r);
                return true;
            }
            What::Dropped => {
                let Some((_, next)) = r.parser.tail_after(key_end) else { return false };
                r.at = next;
                r.batch.counts.scraped += 1;
            }
            What::Refused if !self.retries => {
                let Some((_, next)) = r.parser.tail_after(key_end) else { return false };
                r.at = next;
                r.batch.counts.scraped += 1;
                r.batch.counts.kept += 1;
                r.batch.counts.refused += 1;
            }
            What::Unresolved | What::Refused | What::Start | What::Forgotten => return false,
        }
        known.seen = self.scrape;
        r.before = Some(placed);
        true
    }

    /// Puts a sample of the known `line` into the batch.
    fn take_sample(&mut self, line: u32, series: R, tail: Tail, r: &mut Reading<'_, R>) {
        let known = &mut self.lines[line as usize];
        r.batch.counts.kept += 1;
        let timestamp = tail.timestamp_ms.filter(|_| r.rules.honor_timestamps);
        if known.seen == self.scrape && timestamp.is_none() {
            r.batch.counts.duplicates += 1;
            return;
        }
        r.batch.counts.added += u64::from(known.seen < self.committed);
        known.seen = self.scrape;
        known.tracked = timestamp.is_none() || r.rules.track_timestamps_staleness;
        r.batch.push(series, tail, timestamp);
    }

    /// Takes the line at hand if it is a known one at another place.
    fn take_known(&mut self, r: &mut Reading<'_, R>) -> bool {
        let ahead = self.order.len().min(r.expected + 1 + RESYNC_LINES);
        for place in r.expected + 1..ahead {
            let line = self.order[place];
            if self.take_if_here(line, r) {
                r.batch.counts.missed += 1;
                self.depart(r.expected);
                self.push_departed(line);
                r.expected = place + 1;
                return true;
            }
        }
        let Some(key_end) = r.parser.key_end(r.at) else { return false };
        let Some(line) = self.find_line(&r.body[r.at..key_end], Context::from(r.kind)) else { return false };
        if !self.take(line, key_end, r) {
            return false;
        }
        r.batch.counts.missed += 1;
        self.depart(r.expected);
        self.push_departed(line);
        let place = self.lines[line as usize].place as usize;
        if self.order.get(place) == Some(&line) {
            r.expected = place + 1;
        }
        true
    }

    /// Parses the line at hand and remembers it; false at the end.
    fn take_new(&mut self, r: &mut Reading<'_, R>, families: &Families) -> Result<bool, ReadError> {
        r.parser.skip_to(r.at, r.kind);
        let item = r.parser.next_item()?;
        r.at = r.parser.position();
        let context = Context::from(r.kind);
        r.kind = r.parser.kind();
        match item {
            Item::End => return Ok(false),
            Item::Metadata { line, family, text } => {
                let what = What::of(&text);
                families.set(family, text);
                // Without its line end the key could be the beginning of a longer line.
                if r.body[..line.end].last() == Some(&b'\n') {
                    r.batch.counts.missed += 1;
                    self.depart(r.expected);
                    self.insert(line, what, Context::Plain, false, r);
                }
            }
            Item::Sample { key, tail } if r.batch.takes_starts && starts::is_start(r.kind, r.parser.labels()) => {
                r.batch.counts.missed += 1;
                self.depart(r.expected);
                let line = self.insert(key, What::Start, context, false, r);
                self.note_start(line, tail.value, r.batch);
            }
            Item::Sample { key, mut tail } => {
                r.batch.counts.missed += 1;
                r.batch.counts.scraped += 1;
                self.depart(r.expected);
                // Known, but with nothing between labels and value.
                if let Some(line) = self.find_line(&r.body[key.clone()], context)
                    && let What::Series(series) = self.lines[line as usize].what
                {
                    r.before = Some(Placed { line, at: key.start });
                    self.take_sample(line, series, tail, r);
                    self.push_departed(line);
                    return Ok(true);
                }
                let labels = r.rules.labels.apply(r.parser.labels())?;
                if !r.rules.honor_timestamps {
                    tail.timestamp_ms = None;
                }
                let Some(labels) = labels else {
                    self.insert(key, What::Dropped, context, false, r);
                    return Ok(true);
                };
                r.batch.counts.kept += 1;
                if tail.timestamp_ms.is_none() && self.was_just_added(&r.body[key.clone()], context) {
                    r.batch.counts.duplicates += 1;
                    return Ok(true);
                }
                r.batch.counts.added += 1;
                let tracked = tail.timestamp_ms.is_none() || r.rules.track_timestamps_staleness;
                let line = self.insert(key, What::Unresolved, context, tracked, r);
                r.batch.new.push(NewLine { line, labels, tail });
            }
        }
        Ok(true)
    }

    /// Whether this line, not resolved yet, is already in the scrape being read.
    fn was_just_added(&self, key: &[u8], context: Context) -> bool {
        self.find_line(key, context).is_some_and(|line| {
            let line = &self.lines[line as usize];
            line.what == What::Unresolved && line.seen == self.scrape
        })
    }

    fn find_line(&self, key: &[u8], context: Context) -> Option<u32> {
        let hash = self.hash(key);
        let same = |line: &u32| {
            self.keys.hash(*line) == hash && self.lines[*line as usize].context == context && self.keys.is(*line, key)
        };
        self.table.find(spread(hash), same).copied()
    }

    fn hash(&self, key: &[u8]) -> u32 {
        // The upper half, which is as good as the lower one.
        (self.hasher.hash_one(key) >> 32) as u32
    }

    /// Remembers the line whose key is `key` of the body, as the next one of the scrape being read.
    fn insert(
        &mut self,
        key: Range<usize>,
        what: What<R>,
        context: Context,
        tracked: bool,
        r: &mut Reading<'_, R>,
    ) -> u32 {
        let index = match self.find_line(&r.body[key.clone()], context) {
            // A line of an earlier, aborted scrape is still waiting for its series.
            Some(index) => {
                let known = &mut self.lines[index as usize];
                known.what = what;
                known.seen = self.scrape;
                known.tracked = tracked;
                index
            }
            None => {
                self.insert_unknown(key.clone(), Line { what, seen: self.scrape, place: u32::MAX, context, tracked }, r)
            }
        };
        self.push_departed(index);
        r.before = Some(Placed { line: index, at: key.start });
        index
    }

    fn insert_unknown(&mut self, key: Range<usize>, line: Line<R>, r: &Reading<'_, R>) -> u32 {
        let index = match self.vacant.pop() {
            Some(index) => {
                self.lines[index as usize] = line;
                self.n_forgotten -= 1;
                index
            }
            None => {
                self.lines.push(line);
                u32::try_from(self.lines.len() - 1).expect("a line takes bytes, of which there are fewer than 2^32")
            }
        };
        let hash = self.hash(&r.body[key.clone()]);
        self.keys.set(index, r.body, key.start, key.end, r.before, hash);
        let keys = &self.keys;
        self.table.insert_unique(spread(hash), index, |line| spread(keys.hash(*line)));
        index
    }

    /// From here on the scrape is not in the remembered order.
    fn depart(&mut self, taken: usize) {
        if self.departed.is_none() {
            let mut departed = std::mem::take(&mut self.spare_order);
            departed.clear();
            departed.extend_from_slice(&self.order[..taken.min(self.order.len())]);
            self.departed = Some(departed);
        }
    }

    fn push_departed(&mut self, line: u32) {
        if let Some(departed) = &mut self.departed {
            departed.push(line);
        }
    }

    /// Series of `previous` that no line of this scrape stands for.
    fn find_ended<T: SeriesTable<Ref = R>>(&self, previous: &[u32], ended: &mut Vec<R>, table: &T) {
        let mut gone = HashSet::new();
        for line in previous {
            let line = &self.lines[*line as usize];
            if let What::Series(series) = line.what
                && line.seen != self.scrape
                && line.tracked
                && gone.insert(table.identity(series))
            {
                ended.push(series);
            }
        }
        if ended.is_empty() {
            return;
        }
        // Relabelling may have made one series of several lines.
        for line in &self.order {
            if let What::Series(series) = self.lines[*line as usize].what {
                gone.remove(&table.identity(series));
            }
        }
        ended.retain(|series| gone.contains(&table.identity(*series)));
    }

    /// Forgets lines last seen before scrape `from`, and gives back their series.
    fn forget_before<T: SeriesTable<Ref = R>>(&mut self, from: u32, table: &mut T, families: &Families) {
        self.oldest_away = None;
        let mut key = Vec::new();
        for index in 0..self.lines.len() {
            let line = self.lines[index];
            if line.what == What::Forgotten || line.seen == self.scrape {
                continue;
            }
            if line.seen >= from {
                self.oldest_away = Some(self.oldest_away.map_or(line.seen, |seen| seen.min(line.seen)));
                continue;
            }
            let id = u32::try_from(index).expect("lines are counted in 32 bits");
            match line.what {
                What::Series(series) => table.release(series),
                What::Type(_) | What::Text => {
                    self.keys.copy(id, &mut key);
                    families.forget(&key);
                }
                _ => {}
            }
            if let Ok(entry) = self.table.find_entry(spread(self.keys.hash(id)), |i| *i == id) {
                entry.remove();
            }
            self.starts.remove(&id);
            self.lines[index].what = What::Forgotten;
            self.n_forgotten += 1;
        }
        self.tidy();
        self.trim();
    }

    /// Gives back memory that a scrape far larger than the last ones, or doubling, has left unused.
    fn trim(&mut self) {
        let n = self.lines.len();
        if self.lines.capacity() > n + n / 4 {
            self.lines.shrink_to(n + n / 8);
        }
        if self.order.capacity() > self.order.len() + self.order.len() / 4 {
            self.order.shrink_to_fit();
        }
        if self.spare_order.capacity() > self.order.len() + self.order.len() / 4 {
            self.spare_order = Vec::new();
        }
        self.keys.trim();
    }

    /// Writes the keys anew if too many of them are dead or refer to lines that stand elsewhere.
    fn tidy(&mut self) {
        let n_dead = self.n_forgotten - self.vacant.len();
        if n_dead + self.n_astray < STRAY_LINES_MIN.max(self.lines.len() / STRAY_SHARE_MAX) {
            return;
        }
        self.n_astray = 0;
        let ordered = self.order.iter().copied().chain(0u32..);
        let present = ordered.take(self.order.len() + self.lines.len());
        let present = present.filter(|line| self.lines[*line as usize].what != What::Forgotten);
        let mut taken = HashSet::with_capacity(self.order.len());
        let all: Vec<u32> = present.filter(|line| taken.insert(*line)).collect();
        self.keys.rewrite(all.into_iter());
        self.vacant.clear();
        let forgotten = (0u32..).zip(&self.lines).filter(|(_, line)| line.what == What::Forgotten);
        self.vacant.extend(forgotten.map(|(line, _)| line));
    }
}

/// Bits of a 32-bit hash over all that the table looks at.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<R> What<R> {
    fn of(text: &Metadata) -> Self {
        match text {
            Metadata::Type(kind) => Self::Type(*kind),
            _ => Self::Text,
        }
    }
}

#[cfg(test)]
mod tests;
