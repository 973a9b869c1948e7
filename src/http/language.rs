//! What editors and the curious ask of a query: `/explain`, `/lint` and `/complete`. Prometheus has none of these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use promontory_model::{
    Cancel, METRIC_NAME, Matcher, MetricMetadata, MetricType, ReadError, Select, Snapshot, TimeRange,
};
use promontory_promql::ast::Span;
use promontory_promql::complete::{Wanted, WordKind, complete};
use promontory_promql::engine::{Operator, Times};
use promontory_promql::lint::{Catalog, Suggestion, lint, types};
use serde_json::{Value, json};

use super::Http;
use super::answer::{ApiError, success_value};
use super::params::Params;
use super::query::{Settings, parse, read_steps};

/// Names or values in one answer of a completion.
const CANDIDATES_MAX: usize = 1_000;
/// How far back a completion and the check for series that do not exist look, ms.
const RECENT_MS: i64 = 3_600_000;

/// `/api/v1/explain`: the operators of a query; with `analyze=1` it is evaluated and each of them measured. At one
/// time, or at the steps of `start`, `end` and `step`.
pub(crate) async fn explain(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let settings = Settings::read(&http, &params)?;
    let (expr, _) = parse(&params)?;
    let times = match params.get("step") {
        "" => Times::At(params.time("time")?.unwrap_or_else(|| http.clock.now().0)),
        _ => Times::Range(read_steps(&params)?),
    };
    let measure = matches!(params.get("analyze"), "1" | "true");
    let run = http.clone();
    let ran = http
        .run(settings.timeout_ms, move |cancel| {
            let engine = settings.engine(&run);
            if !measure {
                return Ok(json!({ "operators": operators(&engine.explain(&*run.data, &expr, times, cancel)?) }));
            }
            let now = || run.clock.monotonic_ns();
            let (output, measured) = engine.analyze(&*run.data, &expr, times, &now, cancel)?;
            Ok(json!({
                "operators": operators(&measured),
                "samplesRead": output.stats.samples_read,
                "peakBytes": output.stats.bytes_peak,
                "seriesSelected": output.stats.series_selected,
            }))
        })
        .await?;
    Ok(success_value(&ran.value))
}

/// The operators as JSON.
pub(crate) fn operators(all: &[Operator]) -> Value {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let one = |o: &Operator| {
        json!({
            "id": o.id,
            "name": o.name,
            "detail": o.detail,
            "inputs": o.inputs,
            "readers": o.readers,
            "steps": o.steps,
            "spans": o.spans.iter().map(|s| span(*s)).collect::<Vec<_>>(),
            "estimate": o.estimate.map(|e| json!({ "series": e.series, "samples": e.samples })),
            "cost": o.cost.map(|c| json!({
                "series": c.series,
                "values": c.values,
                "bytes": c.bytes,
                "samplesRead": c.samples_read,
                "ownSeconds": seconds(c.own_ns),
                "totalSeconds": seconds(c.total_ns),
            })),
        })
    };
    Value::Array(all.iter().map(one).collect())
}

fn span(s: Span) -> Value {
    json!([s.start, s.end])
}

/// `/api/v1/lint`: probable mistakes of a query, and the type of each of its expressions.
pub(crate) async fn suggestions(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let settings = Settings::read(&http, &params)?;
    let (expr, _) = parse(&params)?;
    let now_ms = params.time("time")?.unwrap_or_else(|| http.clock.now().0);
    let run = http.clone();
    let ran = http
        .run(settings.timeout_ms, move |cancel| {
            let snapshot = run.data.snapshot()?;
            let range = TimeRange::new(now_ms.saturating_sub(RECENT_MS), now_ms);
            let metadata = run.backend.metadata();
            let known = Known { metadata: &metadata, snapshot: &*snapshot, range, cancel };
            let found = lint(&expr, &known);
            cancel.check().map_err(ReadError::from)?;
            Ok(json!({
                "suggestions": found.iter().map(suggestion).collect::<Vec<_>>(),
                "types": types(&expr).iter().map(|t| json!({
                    "span": span(t.span), "type": t.value_type.as_str(),
                })).collect::<Vec<_>>(),
            }))
        })
        .await?;
    Ok(success_value(&ran.value))
}

fn suggestion(s: &Suggestion) -> Value {
    json!({ "rule": s.rule, "span": span(s.span), "message": s.message, "replacement": s.replacement })
}

/// What targets say of metrics, and what the index has.
pub(crate) struct Known<'a> {
    pub(crate) metadata: &'a BTreeMap<String, Vec<MetricMetadata>>,
    pub(crate) snapshot: &'a dyn Snapshot,
    pub(crate) range: TimeRange,
    pub(crate) cancel: &'a Cancel,
}

impl Catalog for Known<'_> {
    fn metric_type(&self, name: &str) -> Option<MetricType> {
        // Targets that disagree tell nothing.
        let mut types = self.metadata.get(name)?.iter().map(|m| m.kind);
        let first = types.next()?;
        types.all(|t| t == first).then_some(first).filter(|t| *t != MetricType::Unknown)
    }

    fn any_series(&self, matchers: &[Matcher]) -> Option<bool> {
        let select = Select { range: self.range, matchers, cancel: self.cancel };
        Some(!self.snapshot.series(&select, 1).ok()?.labels.is_empty())
    }

    fn interval_ms(&self, matchers: &[Matcher]) -> Option<i64> {
        let select = Select { range: self.range, matchers, cancel: self.cancel };
        let selection = self.snapshot.select(&select).ok()?;
        let batch = selection.batches.first()?;
        let mut columns = promontory_model::Columns::default();
        batch.read(0..1.min(batch.n_series()), self.range, &mut columns).ok()?;
        let times = columns.timestamps();
        let mut distances: Vec<i64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        let middle = distances.len() / 2;
        (!distances.is_empty()).then(|| *distances.select_nth_unstable(middle).1)
    }
}

/// `/api/v1/complete`: what belongs at byte `at` of `query` (its end when absent), among the series of the last hour
/// or from `start` to `end`.
pub(crate) async fn completion(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let settings = Settings::read(&http, &params)?;
    let text = params.query()?.to_owned();
    let at = match params.get("at") {
        "" => text.len(),
        at => at.parse().map_err(|_| ApiError::parameter("at", format_args!("{at:?} is not a number of bytes")))?,
    };
    let limit = params.limit("limit")?.unwrap_or(CANDIDATES_MAX).min(CANDIDATES_MAX);
    let end_ms = params.time("end")?.unwrap_or_else(|| http.clock.now().0);
    let start_ms = params.time("start")?.unwrap_or_else(|| end_ms.saturating_sub(RECENT_MS)).min(end_ms);
    let found = complete(&text, at);
    let begun = text[found.replace.start as usize..found.replace.end as usize].to_owned();
    let run = http.clone();
    let ran = http
        .run(settings.timeout_ms, move |cancel| {
            let snapshot = run.data.snapshot()?;
            let range = TimeRange::new(start_ms, end_ms);
            let lookup = Lookup { snapshot: &*snapshot, range, cancel, begun: &begun, limit };
            let metadata = run.backend.metadata();
            let (wanted, mut candidates) = lookup.stored(&found.wanted, &metadata)?;
            let mut words = found.wanted.words();
            words.retain(|w| contains(w.text, &begun));
            words.sort_by_key(|w| !w.text.starts_with(&begun));
            candidates.extend(
                words
                    .into_iter()
                    .map(|w| json!({ "text": w.text, "kind": kind(w.kind), "usage": w.usage, "doc": w.doc })),
            );
            Ok(json!({ "replace": span(found.replace), "wanted": wanted, "candidates": candidates }))
        })
        .await?;
    Ok(success_value(&ran.value))
}

fn kind(kind: WordKind) -> &'static str {
    match kind {
        WordKind::Function => "function",
        WordKind::Aggregation => "aggregation",
        WordKind::Keyword => "keyword",
        WordKind::Symbol => "symbol",
        WordKind::Duration => "duration",
    }
}

/// Whether a candidate goes with what was begun: people remember the middle of names.
fn contains(candidate: &str, begun: &str) -> bool {
    candidate.to_ascii_lowercase().contains(&begun.to_ascii_lowercase())
}

/// Looks up names and values.
struct Lookup<'a> {
    snapshot: &'a dyn Snapshot,
    range: TimeRange,
    cancel: &'a Cancel,
    begun: &'a str,
    limit: usize,
}

impl Lookup<'_> {
    fn stored(
        &self,
        wanted: &Wanted,
        metadata: &BTreeMap<String, Vec<MetricMetadata>>,
    ) -> Result<(&'static str, Vec<Value>), ApiError> {
        let plain = |kind: &'static str| {
            move |names: Vec<String>| names.into_iter().map(|n| json!({ "text": n, "kind": kind })).collect::<Vec<_>>()
        };
        Ok(match wanted {
            Wanted::Expression => {
                let names = self.values(METRIC_NAME, &[])?;
                let metric = |name: String| match metadata.get(&name).and_then(|all| all.first()) {
                    Some(m) => {
                        json!({ "text": name, "kind": "metric", "usage": m.kind.as_str(), "doc": m.help })
                    }
                    None => json!({ "text": name, "kind": "metric" }),
                };
                ("expression", names.into_iter().map(metric).collect())
            }
            Wanted::LabelName { matchers } => ("label", plain("label")(self.names(&[matchers.as_slice()])?)),
            Wanted::SeriesLabel { selectors } => {
                let sets: Vec<&[Matcher]> = selectors.iter().map(Vec::as_slice).collect();
                ("label", plain("label")(self.names(if sets.is_empty() { &[&[]] } else { &sets })?))
            }
            Wanted::LabelValue { label, matchers, .. } => ("value", plain("value")(self.values(label, matchers)?)),
            Wanted::Operator { .. } => ("operator", Vec::new()),
            Wanted::Grouping => ("grouping", Vec::new()),
            Wanted::MatchOperator => ("match operator", Vec::new()),
            Wanted::Duration => ("duration", Vec::new()),
            Wanted::EndOfMatcher => ("end of matcher", Vec::new()),
            Wanted::Nothing => ("nothing", Vec::new()),
        })
    }

    fn values(&self, name: &str, matchers: &[Matcher]) -> Result<Vec<String>, ApiError> {
        let select = Select { range: self.range, matchers, cancel: self.cancel };
        // What was begun may be the middle of a value, so that all are looked at.
        let limit = if self.begun.is_empty() { self.limit } else { usize::MAX };
        let mut values = self.snapshot.label_values(name, &select, limit)?;
        self.cut(&mut values);
        Ok(values)
    }

    fn names(&self, sets: &[&[Matcher]]) -> Result<Vec<String>, ApiError> {
        let mut found = BTreeSet::new();
        for matchers in sets {
            let select = Select { range: self.range, matchers, cancel: self.cancel };
            found.extend(self.snapshot.label_names(&select)?);
        }
        let mut names: Vec<String> = found.into_iter().filter(|n| n != METRIC_NAME).collect();
        self.cut(&mut names);
        Ok(names)
    }

    /// Those that go with what was begun; first what begins like it.
    fn cut(&self, names: &mut Vec<String>) {
        names.retain(|n| contains(n, self.begun));
        names.sort_by_cached_key(|n| (!n.starts_with(self.begun), n.clone()));
        names.truncate(self.limit);
    }
}
