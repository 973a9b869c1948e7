//! Puts a selection together from several sources, so that each series appears once with all of its samples.
//!
//! Series whose parts lie in the same sequence of groups become one batch. Its rows are those of the groups, one after
//! the other when they do not overlap in time (the usual case: blocks, then head), else their union; where two
//! parts have a sample of one series at the same time, the part of the earlier source stays.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use promontory_model::{
    Columns, HistogramSample, LabelGroups, Labels, Projection, ReadError, Select, Selection, SeriesBatch, SeriesList,
    TimeRange,
};
use rapidhash::fast::RandomState;

use crate::label_table::{LabelTable, SetId};
use crate::sample::{Origin, keep_hint_after};
use crate::source::{GroupColumns, SelectedGroup, Source};

/// A source and what a selection says when it cannot be read: `None` fails the query.
pub(crate) struct NamedSource {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) name: Option<String>,
}

/// The series of all sources that pass the matchers. Sources come oldest first.
pub(crate) fn select(sources: &[NamedSource], select: &Select<'_>) -> Result<Selection, ReadError> {
    selected(sources, select, LabelTable::default())
}

/// As [`select`]; labels may be empty.
pub(crate) fn select_unlabelled(sources: &[NamedSource], select: &Select<'_>) -> Result<Selection, ReadError> {
    // Where series of several sources are to be joined, their labels say which.
    let is_alone = sources.iter().filter(|s| s.source.range().overlaps(select.range)).count() <= 1;
    selected(sources, select, if is_alone { LabelTable::anonymous() } else { LabelTable::default() })
}

fn selected(sources: &[NamedSource], select: &Select<'_>, mut table: LabelTable) -> Result<Selection, ReadError> {
    let mut warnings = Vec::new();
    let mut groups = Vec::new();
    for named in sources {
        select.cancel.check()?;
        if !named.source.range().overlaps(select.range) {
            continue;
        }
        match (named.source.select(select, &mut table), &named.name) {
            (Ok(found), _) => groups.extend(found),
            (Err(e @ ReadError::Cancelled(_)), _) | (Err(e), None) => return Err(e),
            (Err(e), Some(name)) => warnings.push(format!("{name} is left out: {e}")),
        }
    }
    Ok(Selection { batches: batches(groups, table), warnings })
}

/// Runs `ask` on each source in range; sorted and without repetition.
pub(crate) fn names(
    sources: &[NamedSource],
    select: &Select<'_>,
    ask: impl Fn(&dyn Source, &mut Vec<String>) -> Result<(), ReadError>,
) -> Result<Vec<String>, ReadError> {
    let mut out = Vec::new();
    for named in sources {
        select.cancel.check()?;
        if named.source.range().overlaps(select.range) {
            ask(&*named.source, &mut out)?;
        }
    }
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

/// Label sets of the series in range; any `limit` of them when there are more. Fails and warns as [`select`].
pub(crate) fn series(sources: &[NamedSource], select: &Select<'_>, limit: usize) -> Result<SeriesList, ReadError> {
    let mut out = SeriesList::default();
    for named in sources {
        select.cancel.check()?;
        if !named.source.range().overlaps(select.range) {
            continue;
        }
        match (named.source.series(select, limit, &mut out.labels), &named.name) {
            (Ok(()), _) => {}
            (Err(e @ ReadError::Cancelled(_)), _) | (Err(e), None) => return Err(e),
            (Err(e), Some(name)) => out.warnings.push(format!("{name} is left out: {e}")),
        }
    }
    out.labels.sort_unstable();
    out.labels.dedup();
    out.labels.truncate(limit);
    Ok(out)
}

/// Puts the parts of each series together: series with the same sequence of groups become one batch.
fn batches(groups: Vec<SelectedGroup>, table: LabelTable) -> Vec<Arc<dyn SeriesBatch>> {
    let table = Arc::new(table);
    if is_each_once(&groups, table.len()) {
        return groups.into_iter().map(|group| whole_group(group, &table)).collect();
    }
    let parts = Parts::of(&groups, table.len());
    // The batches begun so far, by their sequence of groups.
    let mut batch_of: HashMap<Vec<u32>, usize, RandomState> = HashMap::default();
    let mut out: Vec<Batch> = Vec::new();
    let (mut key, mut last) = (Vec::new(), None);
    for set in table.sets() {
        let of_series = parts.of_set(set);
        if of_series.is_empty() {
            continue;
        }
        let in_groups = of_series.iter().map(|(group, _)| group);
        // Neighbours mostly lie in the same groups.
        let at = match last.filter(|_| in_groups.clone().eq(key.iter())) {
            Some(at) => at,
            None => {
                key.clear();
                key.extend(in_groups);
                *batch_of.entry(key.clone()).or_insert_with(|| {
                    let of = |g: &u32| Part { group: Arc::clone(&groups[*g as usize].group), columns: Vec::new() };
                    let parts = key.iter().map(of).collect();
                    out.push(Batch { table: Arc::clone(&table), sets: Vec::new(), parts });
                    out.len() - 1
                })
            }
        };
        last = Some(at);
        let batch = &mut out[at];
        batch.sets.push(set);
        for (part, (_, column)) in batch.parts.iter_mut().zip(of_series) {
            part.columns.push(*column);
        }
    }
    out.into_iter().map(|b| Arc::new(b) as Arc<dyn SeriesBatch>).collect()
}

/// Whether no series has more than one part.
fn is_each_once(groups: &[SelectedGroup], n_sets: usize) -> bool {
    let mut seen = vec![false; n_sets];
    let mut series = groups.iter().flat_map(|g| &g.series);
    series.all(|s| !std::mem::replace(&mut seen[s.set.index()], true))
}

/// Group and column of all parts of all series.
struct Parts {
    /// Those of a series one after the other, in the order of groups.
    parts: Vec<(u32, u32)>,
    /// Where those of each set end.
    ends: Vec<usize>,
}

impl Parts {
    fn of(groups: &[SelectedGroup], n_sets: usize) -> Self {
        let mut ends = vec![0; n_sets];
        groups.iter().flat_map(|g| &g.series).for_each(|s| ends[s.set.index()] += 1);
        let mut total = 0;
        // First the place of the next part of each set, which in the end is where its parts end.
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        let mut parts = vec![(0, 0); total];
        for (number, group) in groups.iter().enumerate() {
            for s in &group.series {
                let at = &mut ends[s.set.index()];
                parts[*at] = (number as u32, s.column);
                *at += 1;
            }
        }
        Self { parts, ends }
    }

    fn of_set(&self, set: SetId) -> &[(u32, u32)] {
        let start = set.index().checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.parts[start..self.ends[set.index()]]
    }
}

fn whole_group(selected: SelectedGroup, table: &Arc<LabelTable>) -> Arc<dyn SeriesBatch> {
    let (sets, columns) = selected.series.into_iter().map(|s| (s.set, s.column)).unzip();
    Arc::new(Batch { table: Arc::clone(table), sets, parts: vec![Part { group: selected.group, columns }] })
}

struct Part {
    group: Arc<dyn GroupColumns>,
    /// Column of each series of the batch.
    columns: Vec<u32>,
}

/// Series whose parts lie in the same groups.
struct Batch {
    table: Arc<LabelTable>,
    /// The labels of each series.
    sets: Vec<SetId>,
    parts: Vec<Part>,
}

impl SeriesBatch for Batch {
    fn n_series(&self) -> usize {
        self.sets.len()
    }

    fn rows_max(&self, range: TimeRange) -> usize {
        self.parts.iter().map(|p| p.group.rows_max(range)).sum()
    }

    fn labels(&self, i: usize) -> Labels {
        self.table.labels(self.sets[i])
    }

    fn project(&self, projection: &Projection, groups: &mut LabelGroups, out: &mut Vec<u32>) {
        self.table.project(&self.sets, projection, groups, out);
    }

    fn read(&self, series: Range<usize>, range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
        if let [part] = self.parts.as_slice() {
            return part.group.read(&part.columns[series], range, out);
        }
        if self.read_in_place(series.clone(), range, out)? {
            return Ok(());
        }
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            if part.group.rows_max(range) == 0 {
                continue;
            }
            let mut columns = Columns::default();
            part.group.read(&part.columns[series.clone()], range, &mut columns)?;
            if columns.n_rows() > 0 {
                parts.push(columns);
            }
        }
        merge(parts, series.len(), out);
        Ok(())
    }
}

impl Batch {
    /// Reads parts that follow each other in time into their places; says `false` when they do not, or when only a
    /// merge knows which rows there are.
    fn read_in_place(&self, series: Range<usize>, range: TimeRange, out: &mut Columns) -> Result<bool, ReadError> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            if part.group.rows_max(range) == 0 {
                continue;
            }
            let Some(rows) = part.group.rows(range)? else { return Ok(false) };
            if !rows.times().is_empty() {
                parts.push((rows, &part.columns[series.clone()]));
            }
        }
        parts.sort_by_key(|(rows, _)| rows.times().first().copied());
        if parts.windows(2).any(|w| w[0].0.times().last() >= w[1].0.times().first()) {
            return Ok(false);
        }
        out.reset(series.len(), parts.iter().flat_map(|(rows, _)| rows.times().iter().copied()));
        let mut start = 0;
        for (rows, columns) in parts {
            if !rows.fill(columns, start, out)? {
                return Ok(false);
            }
            start += rows.times().len();
        }
        Ok(true)
    }
}

/// Union of the rows of `parts`; on equal times the earlier part stays.
fn merge(mut parts: Vec<Columns>, n_columns: usize, out: &mut Columns) {
    if parts.len() <= 1 {
        match parts.pop() {
            Some(only) => *out = only,
            None => out.reset(n_columns, []),
        }
        return;
    }
    // Where a part may cover what a later one has, order decides; disjoint parts may stand in any order.
    let bounds = |c: &Columns| (c.timestamps().first().copied(), c.timestamps().last().copied());
    let mut by_time: Vec<&Columns> = parts.iter().collect();
    by_time.sort_by_key(|c| bounds(c).0);
    if by_time.windows(2).all(|w| bounds(w[0]).1 < bounds(w[1]).0) {
        out.reset(n_columns, by_time.iter().flat_map(|c| c.timestamps().iter().copied()));
        let mut start = 0;
        for part in by_time {
            let rows: Vec<u32> = (start as u32..(start + part.n_rows()) as u32).collect();
            for i in 0..n_columns {
                out.values_mut(i)[start..start + part.n_rows()].copy_from_slice(part.column(i).values);
                if part.column(i).presence.is_some() {
                    for (row, &at) in rows.iter().enumerate() {
                        if !part.column(i).is_present(row) {
                            out.set_absent(i, at as usize);
                        }
                    }
                }
            }
            start += part.n_rows();
        }
        let offsets = by_time_offsets(&parts);
        push_histograms(&parts, &offsets, n_columns, out);
        return;
    }
    let mut times: Vec<i64> = parts.iter().flat_map(|c| c.timestamps().iter().copied()).collect();
    times.sort_unstable();
    times.dedup();
    out.reset(n_columns, times.iter().copied());
    let rows: Vec<Vec<u32>> = parts
        .iter()
        .map(|c| c.timestamps().iter().map(|t| times.partition_point(|x| x < t) as u32).collect())
        .collect();
    for i in 0..n_columns {
        out.clear_column(i);
        // Backwards, so that what an earlier part has overwrites.
        for (part, rows) in parts.iter().zip(&rows).rev() {
            let column = part.column(i);
            for (row, &at) in rows.iter().enumerate() {
                if column.is_present(row) {
                    out.set_present(i, at as usize, column.values[row]);
                }
            }
        }
    }
    push_histograms(&parts, &rows, n_columns, out);
}

/// Rows of the output for each row of each part, when the parts are disjoint.
fn by_time_offsets(parts: &[Columns]) -> Vec<Vec<u32>> {
    let first = |c: &Columns| c.timestamps().first().copied();
    parts
        .iter()
        .map(|part| {
            let before: usize = parts.iter().filter(|p| first(p) < first(part)).map(Columns::n_rows).sum();
            (before as u32..(before + part.n_rows()) as u32).collect()
        })
        .collect()
}

/// Histograms take the place of what is at their row; on equal times the earlier part stays.
fn push_histograms(parts: &[Columns], rows: &[Vec<u32>], n_columns: usize, out: &mut Columns) {
    for i in 0..n_columns {
        let mut found: Vec<(u32, Origin, HistogramSample)> = Vec::new();
        for (number, (part, rows)) in parts.iter().zip(rows).enumerate() {
            let samples = part.column(i).histogram_samples().enumerate();
            found.extend(samples.map(|(place, (row, sample))| (rows[row], (number, place), sample)));
        }
        found.sort_by_key(|(row, at, _)| (*row, at.0));
        found.dedup_by_key(|(row, _, _)| *row);
        let is_float = |(part, rows): (&Columns, &Vec<u32>), wanted: u32| {
            rows.binary_search(&wanted).is_ok_and(|row| part.column(i).is_present(row))
        };
        let mut before = None;
        for (row, at, mut sample) in found {
            if !parts.iter().zip(rows).take(at.0).any(|part| is_float(part, row)) {
                keep_hint_after(before.replace(at), at, &mut sample);
                out.push_histogram_sample(i, row as usize, sample);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SelectedSeries;
    use promontory_model::{Cancel, Timestamp};

    /// Rows of (time, value per column).
    struct Fixed(Vec<(i64, Vec<Option<f64>>)>);

    impl GroupColumns for Fixed {
        fn rows_max(&self, range: TimeRange) -> usize {
            self.0.iter().filter(|(t, _)| range.contains(Timestamp(*t))).count()
        }

        fn read(&self, columns: &[u32], range: TimeRange, out: &mut Columns) -> Result<(), ReadError> {
            let rows: Vec<_> = self.0.iter().filter(|(t, _)| range.contains(Timestamp(*t))).collect();
            out.reset(columns.len(), rows.iter().map(|(t, _)| *t));
            for (i, &column) in columns.iter().enumerate() {
                for (row, (_, values)) in rows.iter().enumerate() {
                    match values[column as usize] {
                        Some(v) => out.set_present(i, row, v),
                        None => out.set_absent(i, row),
                    }
                }
            }
            Ok(())
        }
    }

    type Samples = Vec<(i64, Option<f64>)>;

    struct One(Vec<(&'static str, Samples)>);

    impl Source for One {
        fn range(&self) -> TimeRange {
            TimeRange::ALL
        }

        fn select(&self, _: &Select<'_>, table: &mut LabelTable) -> Result<Vec<SelectedGroup>, ReadError> {
            let mut times: Vec<i64> = self.0.iter().flat_map(|(_, s)| s.iter().map(|(t, _)| *t)).collect();
            times.sort_unstable();
            times.dedup();
            let value = |s: &[(i64, Option<f64>)], t| s.iter().find(|(x, _)| *x == t).and_then(|(_, v)| *v);
            let rows = times.iter().map(|&t| (t, self.0.iter().map(|(_, s)| value(s, t)).collect())).collect();
            let mut series = Vec::new();
            for (i, (name, _)) in self.0.iter().enumerate() {
                let set = table.insert(&Labels::from_pairs([("s", *name)]))?;
                series.push(SelectedSeries { set, column: i as u32 });
            }
            Ok(vec![SelectedGroup { group: Arc::new(Fixed(rows)), series }])
        }

        fn label_names(&self, _: &Select<'_>, out: &mut Vec<String>) -> Result<(), ReadError> {
            out.push("s".into());
            Ok(())
        }

        fn label_values(&self, _: &str, _: &Select<'_>, _: usize, out: &mut Vec<String>) -> Result<(), ReadError> {
            out.extend(self.0.iter().map(|(name, _)| (*name).to_owned()));
            Ok(())
        }
    }

    #[track_caller]
    fn check(sources: Vec<One>, range: TimeRange, expected: &[&str]) {
        let sources: Vec<_> = sources.into_iter().map(|s| NamedSource { source: Arc::new(s), name: None }).collect();
        let cancel = Cancel::new();
        let found = select(&sources, &Select { range, matchers: &[], cancel: &cancel }).unwrap();
        let mut got = Vec::new();
        let mut columns = Columns::default();
        for batch in found.batches {
            batch.read(0..batch.n_series(), range, &mut columns).unwrap();
            for i in 0..batch.n_series() {
                let column = columns.column(i);
                let samples: Vec<String> = (0..columns.n_rows())
                    .filter(|&row| column.is_present(row))
                    .map(|row| format!("{}:{}", columns.timestamps()[row], column.values[row]))
                    .collect();
                got.push(format!("{} {}", batch.labels(i), samples.join(" ")));
            }
        }
        got.sort();
        assert_eq!(got, expected);
    }

    #[test]
    fn parts_are_joined_per_series() {
        let old = || One(vec![("a", vec![(1, Some(1.0)), (2, Some(2.0))]), ("b", vec![(1, Some(10.0))])]);
        let new = || One(vec![("b", vec![(5, Some(50.0))]), ("a", vec![(5, Some(5.0)), (6, None), (7, Some(7.0))])]);
        check(vec![old(), new()], TimeRange::ALL, &["{s=\"a\"} 1:1 2:2 5:5 7:7", "{s=\"b\"} 1:10 5:50"]);
        check(vec![old(), new()], TimeRange::new(2, 5), &["{s=\"a\"} 2:2 5:5", "{s=\"b\"} 5:50"]);
        check(vec![new(), old()], TimeRange::ALL, &["{s=\"a\"} 1:1 2:2 5:5 7:7", "{s=\"b\"} 1:10 5:50"]);
    }

    #[test]
    fn on_equal_times_the_earlier_source_stays() {
        let a = One(vec![("a", vec![(1, Some(1.0)), (3, Some(3.0))])]);
        let b = One(vec![("a", vec![(2, Some(20.0)), (3, Some(30.0)), (4, Some(40.0))]), ("c", vec![(2, Some(0.5))])]);
        check(vec![a, b], TimeRange::ALL, &["{s=\"a\"} 1:1 2:20 3:3 4:40", "{s=\"c\"} 2:0.5"]);
    }
}
