//! `info`: adds the labels of info series that describe the same target.
//!
//! Info series are looked up in the store while evaluating, at the time that the enriched series look at. A base
//! series and an info series belong together when `instance` and `job` agree. Of several info series of one name the
//! one with the newest sample counts, step by step; so a base series may become several.

use std::collections::{BTreeMap, HashMap};

use promontory_model::{Labels, METRIC_NAME, MatchOp, Matcher};

use super::exec::Exec;
use super::pool;
use super::select::{Context, Leaf, Newest, Part, Scratch};
use super::vector::{Series, Vector};
use crate::error::QueryError;
use crate::kernels::is_absent;
use crate::plan::{Grid, Selector, When};

/// The labels that say which target a series is about.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Values of an identifying label beyond which the store is not asked for each of them.
const VALUES_MAX: usize = 500;

/// `input` with the labels of its info series.
pub(crate) fn enrich(
    exec: &mut Exec<'_>,
    input: &Vector,
    matchers: &[Matcher],
    when: When,
    grid: Grid,
) -> Result<Vector, QueryError> {
    let names = name_matchers(matchers)?;
    let is_info = |s: &Series| names.iter().all(|m| m.matches(s.labels.metric_name()));
    let data: Vec<&Matcher> = matchers.iter().filter(|m| m.name() != METRIC_NAME).collect();
    let mut all = names.clone();
    all.extend(data.iter().map(|m| (*m).clone()));
    all.extend(identifying_matchers(input.series.iter().filter(|s| !is_info(s)))?);
    let selector = Selector { matchers: all, when, extension: None, detects_resets: false };
    let times = info_times(exec, &selector, grid)?;
    let enricher =
        Enricher { info: InfoSeries::new(&times), data: &data, must_match: data.iter().any(|m| !m.matches_empty()) };
    let mut out = Vector::new(input.n_steps);
    for (i, series) in input.series.iter().enumerate() {
        if is_info(series) {
            out.push_row(series.clone(), input.row(i), input.histograms(i).to_vec());
        } else {
            enricher.series(input, i, &mut out)?;
        }
    }
    out.merge_equal_labels()?;
    Ok(out)
}

/// Which metrics are info metrics: `target_info` unless said otherwise, and any `…_info` where only others are
/// excluded.
fn name_matchers(matchers: &[Matcher]) -> Result<Vec<Matcher>, QueryError> {
    let mut names: Vec<Matcher> = matchers.iter().filter(|m| m.name() == METRIC_NAME).cloned().collect();
    if names.is_empty() {
        return Ok(vec![Matcher::equal(METRIC_NAME, "target_info")]);
    }
    if names.iter().all(|m| matches!(m.op(), MatchOp::NotEqual | MatchOp::NotRegex)) {
        names.push(pattern(METRIC_NAME, ".+_info")?);
    }
    Ok(names)
}

fn pattern(name: &str, pattern: &str) -> Result<Matcher, QueryError> {
    Matcher::new(name, MatchOp::Regex, pattern)
        .map_err(|e| execution(&format!("select info series: {}: {}", e.pattern, e.reason)))
}

/// Leaves out info series of targets that no base series has.
fn identifying_matchers<'a>(base: impl Iterator<Item = &'a Series>) -> Result<Vec<Matcher>, QueryError> {
    let base: Vec<&Series> = base.collect();
    let mut out = Vec::new();
    for label in IDENTIFYING {
        let mut values: Vec<&str> = base.iter().map(|s| s.labels.get(label).unwrap_or("")).collect();
        values.sort_unstable();
        values.dedup();
        if values.len() <= VALUES_MAX {
            let escaped: Vec<String> = values.iter().map(|v| escape(v)).collect();
            out.push(pattern(label, &escaped.join("|"))?);
        }
    }
    Ok(out)
}

/// A pattern that matches `text` alone.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The time of the newest sample of each info series at each step.
fn info_times(exec: &mut Exec<'_>, selector: &Selector, grid: Grid) -> Result<Vector, QueryError> {
    // Names are needed here whatever becomes of them elsewhere.
    let ctx = Context { delayed_names: true, ..exec.ctx };
    let mut read = |newest: Newest| -> Result<Vector, QueryError> {
        let leaf = Leaf::instant(ctx, selector, grid, &[], newest, None, &mut exec.annotations)?;
        let mut all = Vector::new(grid.n);
        let run = |i: usize, scratch: &mut Scratch| -> Result<Vec<Part>, QueryError> {
            leaf.chunks(i).map(|chunk| leaf.run(ctx, chunk, scratch)).collect()
        };
        pool::in_order(leaf.n_tasks(), leaf.threads(ctx), run, |parts| {
            parts.into_iter().for_each(|part| all.append(part.vector));
            Ok(())
        })?;
        Ok(all)
    };
    if read(Newest::Value)?.has_histograms() {
        return Err(execution("this should be an info metric, with float samples"));
    }
    read(Newest::Time)
}

fn identity(labels: &Labels) -> Labels {
    labels.only(&IDENTIFYING)
}

/// Info series by target, then by name.
struct InfoSeries<'a> {
    times: &'a Vector,
    by_target: HashMap<Labels, BTreeMap<String, Vec<usize>>>,
}

impl<'a> InfoSeries<'a> {
    fn new(times: &'a Vector) -> Self {
        let mut by_target: HashMap<Labels, BTreeMap<String, Vec<usize>>> = HashMap::new();
        for (i, s) in times.series.iter().enumerate() {
            let names = by_target.entry(identity(&s.labels)).or_default();
            names.entry(s.labels.metric_name().to_owned()).or_default().push(i);
        }
        Self { times, by_target }
    }

    /// The series with the newest sample among those of one name.
    fn newest(&self, series: &[usize], step: usize) -> Result<Option<usize>, QueryError> {
        let mut best: Option<(usize, f64)> = None;
        for i in series {
            let t = self.times.row(*i)[step];
            match best {
                _ if is_absent(t) => {}
                Some((other, newest)) if newest == t => {
                    let (a, b) = (&self.times.series[other].labels, &self.times.series[*i].labels);
                    let ms = (t * 1000.0) as i64;
                    let text = format!("found duplicate series for info metric: existing {a} @ {ms}, new {b} @ {ms}");
                    return Err(execution(&text));
                }
                Some((_, newest)) if newest > t => {}
                _ => best = Some((*i, t)),
            }
        }
        Ok(best.map(|(i, _)| i))
    }
}

struct Enricher<'a> {
    info: InfoSeries<'a>,
    data: &'a [&'a Matcher],
    /// Some matcher of a data label asks for a value: without info series a sample goes.
    must_match: bool,
}

impl Enricher<'_> {
    /// Adds base series `i` with the labels that hold at each step.
    fn series(&self, input: &Vector, i: usize, out: &mut Vector) -> Result<(), QueryError> {
        let base = &input.series[i];
        let names = self.info.by_target.get(&identity(&base.labels));
        let mut rows: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut found = Vec::new();
        for step in (0..input.n_steps).filter(|step| input.is_present(i, *step)) {
            found.clear();
            for series in names.iter().flat_map(|n| n.values()) {
                found.extend(self.info.newest(series, step)?);
            }
            if found.is_empty() && self.must_match {
                continue;
            }
            let row = match rows.get(&found) {
                Some(row) => *row,
                None => {
                    let labels = self.labels(&base.labels, &found)?;
                    out.push(Series { labels, drop_name: base.drop_name });
                    rows.insert(found.clone(), out.len() - 1);
                    out.len() - 1
                }
            };
            out.row_mut(row)[step] = input.row(i)[step];
            if let Some(h) = input.histogram(i, step) {
                let n = out.len();
                out.histograms.resize(n, Vec::new());
                out.histograms[row].push((step as u32, h.clone()));
            }
        }
        Ok(())
    }

    /// The base series' labels and those of its info series; its own stay, info series must not contradict.
    fn labels(&self, base: &Labels, found: &[usize]) -> Result<Labels, QueryError> {
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for info in found {
            for (name, value) in &self.info.times.series[*info].labels {
                let asked_for = self.data.is_empty() || self.data.iter().any(|m| m.name() == name);
                if name == METRIC_NAME || !asked_for || base.get(name).is_some() {
                    continue;
                }
                if added.insert(name, value).is_some_and(|old| old != value) {
                    return Err(execution(&format!("conflicting label: {name}")));
                }
            }
        }
        let mut labels = base.to_builder();
        for (name, value) in added {
            labels.set(name, value);
        }
        Ok(labels.build())
    }
}

fn execution(message: &str) -> QueryError {
    QueryError::Execution { message: message.to_owned(), span: None }
}
