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

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use promontory_model::{Labels, MetricType};
use rapidhash::fast::RandomState;

use super::exposition::{Format, Item, ParseError, Parser, Tail};
use super::metadata::Families;
use super::sample_labels::{SampleLabels, SampleLabelsError};

/// Lines compared ahead of the expected one before the table is asked.
const RESYNC_LINES: usize = 16;
/// Scrapes for which a line that stays away is remembered.
const AWAY_SCRAPES_MAX: u32 = 10;
/// Lines that may be remembered besides twice those of the last scrape that went well.
const SPARE_LINES: usize = 1_000;
/// Dead bytes of keys below which they are not worth moving the others.
const DEAD_KEY_BYTES_MIN: usize = 64 << 10;

/// Bytes of keys that 32-bit offsets reach.
const KEY_BYTES_MAX: usize = u32::MAX as usize;

/// A table of series that hands out references.
pub trait SeriesTable {
    /// Refers to a series. Each is given out once, also where two are of one series.
    type Ref: Copy + Eq + Hash + std::fmt::Debug;
    /// Why a series cannot be had.
    type Error;

    /// The reference of the series with these labels, which is created if need be.
    ///
    /// # Errors
    /// Whatever keeps the table from taking it.
    fn resolve(&mut self, labels: &Labels) -> Result<Self::Ref, Self::Error>;

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
    /// Series that the last committed scrape had and this one has not.
    pub stale: Vec<R>,
    /// Numbers for the report series.
    pub counts: Counts,
    new: Vec<NewLine>,
}

impl<R> Default for Batch<R> {
    fn default() -> Self {
        Self { row: Vec::new(), timed: Vec::new(), stale: Vec::new(), counts: Counts::default(), new: Vec::new() }
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
    /// A `TYPE` line.
    Type(MetricType),
    /// A `HELP` or `UNIT` line.
    Text,
    /// Free for another line.
    Vacant,
}

/// A line that the target has exposed.
#[derive(Debug, Clone, Copy)]
struct Line<R> {
    key_start: u32,
    key_len: u32,
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
    vacant: Vec<u32>,
    keys: Vec<u8>,
    dead_key_bytes: usize,
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
    forced_flushes: u64,
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
}

impl<R: Copy + Eq + Hash + std::fmt::Debug> LineCache<R> {
    /// A cache that remembers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lines: Vec::new(),
            vacant: Vec::new(),
            keys: Vec::new(),
            dead_key_bytes: 0,
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
            forced_flushes: 0,
        }
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line<R>>()
            + self.keys.capacity()
            + self.table.allocation_size()
            + (self.order.capacity() + self.spare_order.capacity() + self.vacant.capacity()) * size_of::<u32>()
    }

    /// Number of remembered lines.
    #[must_use]
    pub fn n_lines(&self) -> usize {
        self.lines.len() - self.vacant.len()
    }

    /// How often lines had to be forgotten because scrapes that failed brought ever new ones.
    #[must_use]
    pub fn forced_flushes(&self) -> u64 {
        self.forced_flushes
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
        batch.row.clear();
        batch.timed.clear();
        batch.stale.clear();
        batch.new.clear();
        batch.counts = Counts::default();
        self.scrape = self.scrape.wrapping_add(1);
        self.departed = None;
        if self.keys.len().saturating_add(body.len()) > KEY_BYTES_MAX {
            return Err(ReadError::Full { limit: KEY_BYTES_MAX });
        }
        let parser = Parser::new(body, format);
        let mut r = Reading { body, parser, rules, batch, at: 0, kind: MetricType::Unknown, expected: 0 };
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
        for new in batch.new.drain(..) {
            let line = &mut self.lines[new.line as usize];
            let series = match line.what {
                // Twice in the same scrape, with different timestamps.
                What::Series(series) => series,
                _ => table.resolve(&new.labels)?,
            };
            line.what = What::Series(series);
            match new.tail.timestamp_ms {
                Some(t) => batch.timed.push((series, t, new.tail.value)),
                None => batch.row.push((series, new.tail.value)),
            }
        }
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

    fn key(&self, line: &Line<R>) -> &[u8] {
        &self.keys[line.key_start as usize..line.key_start as usize + line.key_len as usize]
    }

    /// Takes the line at hand if it is `line`.
    fn take_if_here(&mut self, line: u32, r: &mut Reading<'_, R>) -> bool {
        let known = &self.lines[line as usize];
        if known.context != Context::from(r.kind) && matches!(known.what, What::Series(_) | What::Dropped) {
            return false;
        }
        let key = &self.keys[known.key_start as usize..known.key_start as usize + known.key_len as usize];
        if !r.body[r.at..].starts_with(key) {
            return false;
        }
        let key_end = r.at + key.len();
        self.take(line, key_end, r)
    }

    /// Takes the line at hand, whose key is that of `line`.
    fn take(&mut self, line: u32, key_end: usize, r: &mut Reading<'_, R>) -> bool {
        let known = &mut self.lines[line as usize];
        match known.what {
            What::Type(kind) => {
                r.kind = kind;
                r.at = key_end;
            }
            What::Text => r.at = key_end,
            What::Series(series) => {
                let Some((tail, next)) = r.parser.tail_after(key_end) else { return false };
                r.at = next;
                r.batch.counts.scraped += 1;
                self.take_sample(line, series, tail, r);
                return true;
            }
            What::Dropped => {
                let Some((_, next)) = r.parser.tail_after(key_end) else { return false };
                r.at = next;
                r.batch.counts.scraped += 1;
            }
            What::Unresolved | What::Vacant => return false,
        }
        known.seen = self.scrape;
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
        match timestamp {
            None => r.batch.row.push((series, tail.value)),
            Some(t) => r.batch.timed.push((series, t, tail.value)),
        }
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
                    let line = self.insert(&r.body[line], what, Context::Plain, false);
                    self.push_departed(line);
                }
            }
            Item::Sample { key, mut tail } => {
                r.batch.counts.missed += 1;
                r.batch.counts.scraped += 1;
                self.depart(r.expected);
                // Known, but with nothing between labels and value.
                if let Some(line) = self.find_line(&r.body[key.clone()], context)
                    && let What::Series(series) = self.lines[line as usize].what
                {
                    self.take_sample(line, series, tail, r);
                    self.push_departed(line);
                    return Ok(true);
                }
                let labels = r.rules.labels.apply(r.parser.labels())?;
                if !r.rules.honor_timestamps {
                    tail.timestamp_ms = None;
                }
                let Some(labels) = labels else {
                    let line = self.insert(&r.body[key], What::Dropped, context, false);
                    self.push_departed(line);
                    return Ok(true);
                };
                r.batch.counts.kept += 1;
                if tail.timestamp_ms.is_none() && self.was_just_added(&r.body[key.clone()], context) {
                    r.batch.counts.duplicates += 1;
                    return Ok(true);
                }
                r.batch.counts.added += 1;
                let tracked = tail.timestamp_ms.is_none() || r.rules.track_timestamps_staleness;
                let line = self.insert(&r.body[key], What::Unresolved, context, tracked);
                self.push_departed(line);
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
        let hash = self.hasher.hash_one(key);
        let same = |i: &u32| {
            let line = &self.lines[*i as usize];
            line.context == context && self.key(line) == key
        };
        self.table.find(hash, same).copied()
    }

    fn insert(&mut self, key: &[u8], what: What<R>, context: Context, tracked: bool) -> u32 {
        // A line of an earlier, aborted scrape may still be waiting for its series.
        if let Some(line) = self.find_line(key, context) {
            let known = &mut self.lines[line as usize];
            known.what = what;
            known.seen = self.scrape;
            known.tracked = tracked;
            return line;
        }
        let key_start = u32::try_from(self.keys.len()).expect("read refused a body whose keys could exceed 32 bits");
        let key_len = u32::try_from(key.len()).expect("read refused a body whose keys could exceed 32 bits");
        self.keys.extend_from_slice(key);
        let line = Line { key_start, key_len, what, seen: self.scrape, place: u32::MAX, context, tracked };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.lines[index as usize] = line;
                index
            }
            None => {
                self.lines.push(line);
                u32::try_from(self.lines.len() - 1).expect("a line takes bytes, of which there are fewer than 2^32")
            }
        };
        let (hasher, lines, keys) = (&self.hasher, &self.lines, &self.keys);
        let hash_of = |i: &u32| {
            let line = &lines[*i as usize];
            hasher.hash_one(&keys[line.key_start as usize..line.key_start as usize + line.key_len as usize])
        };
        self.table.insert_unique(hasher.hash_one(key), index, hash_of);
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
        for index in 0..self.lines.len() {
            let line = self.lines[index];
            if line.what == What::Vacant || line.seen == self.scrape {
                continue;
            }
            if line.seen >= from {
                self.oldest_away = Some(self.oldest_away.map_or(line.seen, |seen| seen.min(line.seen)));
                continue;
            }
            match line.what {
                What::Series(series) => table.release(series),
                What::Type(_) | What::Text => families.forget(self.key(&line)),
                _ => {}
            }
            self.remove(index, line);
        }
        if self.dead_key_bytes > DEAD_KEY_BYTES_MIN && self.dead_key_bytes > self.keys.len() / 2 {
            self.compact_keys();
        }
    }

    fn remove(&mut self, index: usize, line: Line<R>) {
        let hash = self.hasher.hash_one(self.key(&line));
        let id = u32::try_from(index).unwrap_or(u32::MAX);
        if let Ok(entry) = self.table.find_entry(hash, |i| *i == id) {
            entry.remove();
        }
        self.dead_key_bytes += line.key_len as usize;
        self.lines[index].what = What::Vacant;
        self.lines[index].key_len = 0;
        self.vacant.push(id);
    }

    fn compact_keys(&mut self) {
        let mut keys = Vec::with_capacity(self.keys.len() - self.dead_key_bytes);
        for line in &mut self.lines {
            let start = keys.len();
            keys.extend_from_slice(&self.keys[line.key_start as usize..(line.key_start + line.key_len) as usize]);
            line.key_start = u32::try_from(start).expect("the keys only became fewer");
        }
        self.keys = keys;
        self.dead_key_bytes = 0;
    }
}

impl<R> What<R> {
    fn of(text: &super::exposition::Metadata) -> Self {
        match text {
            super::exposition::Metadata::Type(kind) => Self::Type(*kind),
            _ => Self::Text,
        }
    }
}

#[cfg(test)]
mod tests;
