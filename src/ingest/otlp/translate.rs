//! Metrics of resources as labelled samples.
//!
//! # Source
//! OpenTelemetry's "Prometheus and OpenMetrics Compatibility" and what Prometheus 3.14 does; different are the
//! threshold of the zero bucket, which is taken over, and the names of attributes of exemplars, which are translated.

use std::borrow::Cow;

use promontory_config::OtlpConfig;
use promontory_model::histogram::{CounterResetHint, HistogramSample};
use promontory_model::{Labels, METRIC_NAME, MetricMetadata, MetricType, Timestamp, stale_nan};
use promontory_storage::{EXEMPLAR_LABEL_CHARS_MAX, Exemplar};

use super::delta::{At, Totals};
use super::message::{
    self, CUMULATIVE, DELTA, ExponentialPoint, ExportRequest, HistogramPoint, KeyValue, Metric, NO_RECORDED_VALUE,
    NumberPoint, ResourceMetrics, Scope, SummaryPoint,
};
use super::names::{self, Kind};
use super::{DeltaMode, histogram, value};
use crate::ingest::store::{Batch, Start};
use crate::ingest::{BATCH_LABELS_BYTES_MAX, LABELS_BYTES_MAX};

/// Samples of `target_info` of one resource of a request.
const TARGET_INFO_SAMPLES_MAX: i64 = 1_000;

/// Labels that all points of a scope get from it and its resource.
const SHARED_LABELS_MAX: usize = 1_000;
/// Bytes of what a series has beside the labels of its point: the ending of its name, a bound.
const SERIES_BYTES: usize = 64;

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";
const IDENTIFYING: [&str; 3] = [SERVICE_NAMESPACE, SERVICE_NAME, SERVICE_INSTANCE];

/// What a request becomes.
#[derive(Debug, Default)]
pub(super) struct Translated {
    pub(super) batch: Batch,
    pub(super) n_points: u64,
    /// Points that become nothing, and why the first of them does.
    pub(super) n_refused: u64,
    pub(super) reason: Option<String>,
}

/// What a translation depends on.
pub(super) struct Rules<'a> {
    pub(super) config: &'a OtlpConfig,
    pub(super) delta: DeltaMode,
    /// Whether series begin with a zero at the time since which points say that they count.
    pub(super) zero_starts: bool,
    pub(super) lookback_ms: i64,
    pub(super) now_ms: i64,
    pub(super) totals: &'a mut Totals,
}

/// Translates all of a request.
pub(super) fn translate(request: &ExportRequest, rules: Rules<'_>) -> Translated {
    let out = Translated::default();
    let mut work = Work { rules, out, labels_bytes: 0, earliest_ms: i64::MAX, latest_ms: i64::MIN };
    for resource in &request.resource_metrics {
        work.resource(resource);
    }
    work.out
}

/// Name and value of a label.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

struct Work<'a> {
    rules: Rules<'a>,
    out: Translated,
    /// Bytes of the labels of all series so far.
    labels_bytes: usize,
    /// Times of the points of the resource so far.
    earliest_ms: i64,
    latest_ms: i64,
}

/// Labels that all series of a scope share.
struct Shared<'a> {
    /// Only where a point has no label of the name.
    promoted: Vec<Pair<'a>>,
    /// Before what a point says.
    fixed: Vec<Pair<'a>>,
}

/// A metric, as far as its points need it.
struct Family<'a> {
    shared: &'a Shared<'a>,
    /// Name in the request, for messages.
    original: &'a str,
    name: String,
    is_delta: bool,
    /// Whether its points count something, so that it matters since when.
    counts: bool,
}

/// The labels of a point, sorted by name.
struct Base<'a>(Vec<Pair<'a>>);

impl Base<'_> {
    fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The series of this name, with one more label.
    fn series(&self, name: &str, extra: Option<(&str, &str)>) -> Labels {
        let is_own = |n: &str| n == METRIC_NAME || extra.is_some_and(|(e, _)| e == n);
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(self.0.len() + 2);
        pairs.extend(self.0.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).filter(|(n, _)| !is_own(n)));
        pairs.push((METRIC_NAME, name));
        pairs.extend(extra);
        pairs.sort_unstable_by_key(|(n, _)| *n);
        Labels::from_sorted(pairs)
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<Cow<'a, str>> {
    attributes.iter().find(|a| a.key == key).map(text_of)
}

fn text_of(attribute: &KeyValue) -> Cow<'_, str> {
    attribute.value.as_ref().map_or(Cow::Borrowed(""), value::text)
}

fn ms(nanoseconds: u64) -> i64 {
    (nanoseconds / 1_000_000) as i64
}

/// Without an exponent, as bounds are written in labels.
fn bound_text(bound: f64) -> String {
    match bound {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        bound => bound.to_string(),
    }
}

impl Work<'_> {
    fn resource(&mut self, resource: &ResourceMetrics) {
        (self.earliest_ms, self.latest_ms) = (i64::MAX, i64::MIN);
        let attributes = resource.resource.as_ref().map_or(&[][..], |r| &r.attributes);
        let identity = self.identity(attributes);
        for scope in &resource.scope_metrics {
            let mut fixed = identity.clone();
            if self.rules.config.promote_scope_metadata
                && let Some(of) = scope.scope.as_ref().filter(|s| !s.name.is_empty())
            {
                fixed.splice(0..0, self.scope_labels(of, &scope.schema_url));
            }
            let shared = Shared { promoted: self.promoted(attributes), fixed };
            let n_shared = shared.promoted.len() + shared.fixed.len();
            if n_shared > SHARED_LABELS_MAX {
                let n: usize = scope.metrics.iter().map(n_points).sum();
                self.out.n_points += n as u64;
                let max = SHARED_LABELS_MAX;
                self.refuse(n, || {
                    format!("{n_shared} labels from resource and scope, more than {max} (shared_labels_max)")
                });
                continue;
            }
            for metric in &scope.metrics {
                self.metric(metric, &shared);
            }
        }
        if self.latest_ms >= self.earliest_ms {
            self.target_info(attributes, identity);
        }
    }

    /// `job` and `instance`.
    fn identity<'r>(&self, attributes: &'r [KeyValue]) -> Vec<Pair<'r>> {
        let job = attribute(attributes, SERVICE_NAME).map(|name| match attribute(attributes, SERVICE_NAMESPACE) {
            Some(namespace) => Cow::Owned(format!("{namespace}/{name}")),
            None => name,
        });
        let instance = attribute(attributes, SERVICE_INSTANCE);
        let pair = |name: &'static str| move |value| (Cow::Borrowed(name), value);
        job.map(pair("job")).into_iter().chain(instance.map(pair("instance"))).collect()
    }

    fn promoted<'r>(&self, attributes: &'r [KeyValue]) -> Vec<Pair<'r>> {
        let config = self.rules.config;
        let wanted = attributes.iter().filter(|a| config.promote.has(&a.key));
        wanted.filter_map(|a| Some((Cow::Owned(names::label_name(config, &a.key)?), text_of(a)))).collect()
    }

    fn scope_labels<'r>(&self, scope: &'r Scope, schema_url: &'r str) -> Vec<Pair<'r>> {
        let config = self.rules.config;
        let of_attribute = |a: &'r KeyValue| -> Option<Pair<'r>> {
            Some((Cow::Owned(names::label_name(config, &format!("otel_scope_{}", a.key))?), text_of(a)))
        };
        let mut pairs: Vec<Pair<'r>> = scope.attributes.iter().filter_map(of_attribute).collect();
        // Behind attributes, so that these do not replace them.
        for (name, value) in [
            ("otel_scope_name", scope.name.as_str()),
            ("otel_scope_version", &scope.version),
            ("otel_scope_schema_url", schema_url),
        ] {
            pairs.push((Cow::Borrowed(name), Cow::Borrowed(value)));
        }
        pairs
    }

    /// Labels of a point. Attributes whose names become one are joined in the order of their names.
    fn base<'p>(&self, attributes: &'p [KeyValue], shared: &'p Shared<'_>, but: &[&str]) -> Base<'p> {
        let mut sorted: Vec<&KeyValue> = attributes.iter().filter(|a| !but.contains(&a.key.as_str())).collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        let mut pairs: Vec<Pair<'p>> = Vec::with_capacity(sorted.len() + shared.promoted.len() + shared.fixed.len());
        let mut at: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        for attribute in sorted {
            let Some(name) = names::label_name(self.rules.config, &attribute.key) else { continue };
            let value = text_of(attribute);
            match at.get(&name) {
                Some(&i) if !pairs[i].1.is_empty() => pairs[i].1.to_mut().extend([";", &*value]),
                Some(&i) => pairs[i].1 = value,
                None => {
                    at.insert(name.clone(), pairs.len());
                    pairs.push((Cow::Owned(name), value));
                }
            }
        }
        for (name, value) in &shared.promoted {
            match at.get(name.as_ref()) {
                Some(&i) if !pairs[i].1.is_empty() => {}
                Some(&i) => pairs[i].1 = Cow::Borrowed(value),
                None => {
                    at.insert(name.clone().into_owned(), pairs.len());
                    pairs.push((Cow::Borrowed(name), Cow::Borrowed(value)));
                }
            }
        }
        for (name, value) in &shared.fixed {
            match at.get(name.as_ref()) {
                Some(&i) => pairs[i].1 = Cow::Borrowed(value),
                None => {
                    at.insert(name.clone().into_owned(), pairs.len());
                    pairs.push((Cow::Borrowed(name), Cow::Borrowed(value)));
                }
            }
        }
        pairs.retain(|(_, value)| !value.is_empty());
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Base(pairs)
    }

    fn refuse(&mut self, n_points: usize, reason: impl FnOnce() -> String) {
        self.out.n_refused += n_points as u64;
        self.out.reason.get_or_insert_with(reason);
    }

    /// Whether there is room for so many series of a point, which is refused otherwise.
    fn has_room(&mut self, family: &Family<'_>, base: &Base<'_>, n_series: usize) -> bool {
        let bytes = base.bytes() + family.name.len() + SERIES_BYTES;
        let all = self.labels_bytes.saturating_add(bytes.saturating_mul(n_series));
        let (max, limit) = match bytes > LABELS_BYTES_MAX {
            true => (LABELS_BYTES_MAX, "labels_bytes_max"),
            false if all > BATCH_LABELS_BYTES_MAX => (BATCH_LABELS_BYTES_MAX, "batch_labels_bytes_max"),
            false => {
                self.labels_bytes = all;
                return true;
            }
        };
        self.refuse(1, || format!("metric {:?}: more than {max} bytes of labels ({limit})", family.original));
        false
    }

    fn metric(&mut self, metric: &Metric, shared: &Shared<'_>) {
        let (temporality, kind, name_kind) = if let Some(sum) = &metric.sum {
            let is_counter = sum.is_monotonic && (sum.aggregation_temporality == CUMULATIVE || self.adds_up());
            let kind = if is_counter { MetricType::Counter } else { MetricType::Gauge };
            (sum.aggregation_temporality, kind, if sum.is_monotonic { Kind::Counter } else { Kind::Other })
        } else if let Some(h) = &metric.histogram {
            (h.aggregation_temporality, MetricType::Histogram, Kind::Other)
        } else if let Some(h) = &metric.exponential_histogram {
            (h.aggregation_temporality, MetricType::Histogram, Kind::Other)
        } else if metric.summary.is_some() {
            (CUMULATIVE, MetricType::Summary, Kind::Other)
        } else {
            (CUMULATIVE, MetricType::Gauge, Kind::Gauge)
        };
        let n_points = n_points(metric);
        self.out.n_points += n_points as u64;
        let config = self.rules.config;
        let is_delta = temporality == DELTA;
        if temporality != CUMULATIVE && !(is_delta && self.rules.delta != DeltaMode::Refuse) {
            let more = if is_delta { "; differences need --enable-feature=otlp-deltatocumulative" } else { "" };
            return self.refuse(n_points, || {
                format!("invalid temporality and type combination for metric {:?}{more}", metric.name)
            });
        }
        let Some(name) = names::metric_name(config, &metric.name, &metric.unit, name_kind) else {
            return self.refuse(n_points, || format!("nothing is left of the name of metric {:?}", metric.name));
        };
        let unit = names::unit_name(config, &metric.unit);
        let help = metric.description.clone();
        self.out.batch.metadata.push((name.clone(), MetricMetadata { kind, unit, help }));
        let counts = kind != MetricType::Gauge && (!is_delta || self.adds_up());
        let family = Family { shared, original: &metric.name, name, is_delta, counts };
        let numbers = metric.gauge.iter().flat_map(|g| &g.data_points);
        for point in numbers.chain(metric.sum.iter().flat_map(|s| &s.data_points)) {
            self.number(&family, point);
        }
        for point in metric.histogram.iter().flat_map(|h| &h.data_points) {
            self.histogram(&family, point);
        }
        for point in metric.exponential_histogram.iter().flat_map(|h| &h.data_points) {
            self.exponential(&family, point);
        }
        for point in metric.summary.iter().flat_map(|s| &s.data_points) {
            self.summary(&family, point);
        }
    }

    fn adds_up(&self) -> bool {
        self.rules.delta == DeltaMode::AddUp
    }

    /// When a point is, and since when it counts, if that is of interest.
    fn at(&mut self, family: &Family<'_>, time_ns: u64, start_ns: u64, flags: u32) -> At {
        let t_ms = ms(time_ns);
        (self.earliest_ms, self.latest_ms) = (self.earliest_ms.min(t_ms), self.latest_ms.max(t_ms));
        let is_of_interest = self.rules.zero_starts && family.counts && flags & NO_RECORDED_VALUE == 0;
        At { t_ms, start_ms: if is_of_interest { ms(start_ns) } else { 0 } }
    }

    /// Takes note that what a series says at `at` it has counted for some time.
    fn start(&mut self, labels: &Labels, at: At, histogram: Option<&HistogramSample>) {
        let At { t_ms, start_ms } = at;
        if start_ms > 0 {
            let start = Start { labels: labels.clone(), t_ms, start_ms, histogram: histogram.cloned() };
            self.out.batch.starts.push(start);
        }
    }

    fn number(&mut self, family: &Family<'_>, point: &NumberPoint) {
        let base = self.base(&point.attributes, family.shared, &[]);
        let at = self.at(family, point.time_unix_nano, point.start_time_unix_nano, point.flags);
        let v = match point.as_int {
            _ if point.flags & NO_RECORDED_VALUE != 0 => stale_nan(),
            Some(v) => v as f64,
            None => point.as_double.unwrap_or(0.0),
        };
        if !self.has_room(family, &base, 1) {
            return;
        }
        let labels = base.series(&family.name, None);
        for exemplar in &point.exemplars {
            let exemplar = self.exemplar(exemplar);
            self.out.batch.exemplars.push((labels.clone(), exemplar));
        }
        self.sample(family, labels, at, v);
    }

    /// A number that becomes a sample, or is added to those before it. Counts as a refused point when it cannot be.
    fn sample(&mut self, family: &Family<'_>, labels: Labels, mut at: At, mut v: f64) {
        if family.is_delta && self.adds_up() {
            match self.rules.totals.add_float(&labels, at, v, self.rules.now_ms) {
                Ok(Some(total)) => (v, at.start_ms) = total,
                Ok(None) => return,
                Err(e) => return self.refuse(1, || format!("metric {:?}: {e}", family.original)),
            }
        }
        self.start(&labels, at, None);
        self.out.batch.samples.push((labels, at.t_ms, v));
    }

    fn histogram(&mut self, family: &Family<'_>, point: &HistogramPoint) {
        let base = self.base(&point.attributes, family.shared, &[]);
        let at = self.at(family, point.time_unix_nano, point.start_time_unix_nano, point.flags);
        if self.rules.config.convert_histograms_to_nhcb {
            let converted = histogram::custom(point);
            return self.native(family, &base, at, converted, &point.exemplars);
        }
        if !self.has_room(family, &base, point.explicit_bounds.len() + 3) {
            return;
        }
        let name = &family.name;
        let is_stale = point.flags & NO_RECORDED_VALUE != 0;
        let or_stale = |v: f64| if is_stale { stale_nan() } else { v };
        if let Some(sum) = point.sum {
            self.sample(family, base.series(&format!("{name}_sum"), None), at, or_stale(sum));
        }
        self.sample(family, base.series(&format!("{name}_count"), None), at, or_stale(point.count as f64));
        let bucket = format!("{name}_bucket");
        let mut buckets = Vec::new();
        let mut count = 0_u64;
        let finite = point.explicit_bounds.iter().zip(&point.bucket_counts).filter(|(b, _)| b.is_finite());
        let finite: Vec<(f64, u64)> = finite.map(|(b, n)| (*b, *n)).collect();
        let all = finite.into_iter().map(|(b, n)| (b, Some(n))).chain([(f64::INFINITY, None)]);
        for (bound, n) in all {
            count = n.map_or(point.count, |n| count.saturating_add(n));
            let labels = base.series(&bucket, Some(("le", &bound_text(bound))));
            if !point.exemplars.is_empty() {
                buckets.push((bound, labels.clone()));
            }
            self.sample(family, labels, at, or_stale(count as f64));
        }
        // Each belongs to the bucket that it fell into.
        let exemplars = point.exemplars.iter().map(|from| self.exemplar(from)).filter(|e| !e.value.is_nan());
        let mut placed: Vec<(usize, Exemplar)> =
            exemplars.map(|e| (buckets.partition_point(|(bound, _)| *bound < e.value), e)).collect();
        placed.sort_by_key(|(at, _)| *at);
        let labelled = placed.into_iter().filter_map(|(at, e)| Some((buckets.get(at)?.1.clone(), e)));
        self.out.batch.exemplars.extend(labelled);
    }

    fn exponential(&mut self, family: &Family<'_>, point: &ExponentialPoint) {
        let base = self.base(&point.attributes, family.shared, &[]);
        let at = self.at(family, point.time_unix_nano, point.start_time_unix_nano, point.flags);
        self.native(family, &base, at, histogram::exponential(point), &point.exemplars);
    }

    fn native(
        &mut self,
        family: &Family<'_>,
        base: &Base<'_>,
        mut at: At,
        converted: Result<HistogramSample, histogram::Unfit>,
        exemplars: &[message::Exemplar],
    ) {
        let mut h = match converted {
            Ok(h) => h,
            Err(e) => return self.refuse(1, || format!("metric {:?}: {e}", family.original)),
        };
        if !self.has_room(family, base, 1) {
            return;
        }
        let labels = base.series(&family.name, None);
        for exemplar in exemplars {
            let exemplar = self.exemplar(exemplar);
            self.out.batch.exemplars.push((labels.clone(), exemplar));
        }
        if family.is_delta && !self.adds_up() {
            h.value_mut().counter_reset_hint = CounterResetHint::Gauge;
        } else if family.is_delta {
            match self.rules.totals.add_histogram(&labels, at, h, self.rules.now_ms) {
                Ok(Some(total)) => (h, at.start_ms) = total,
                Ok(None) => return,
                Err(e) => return self.refuse(1, || format!("metric {:?}: {e}", family.original)),
            }
        }
        self.start(&labels, at, Some(&h));
        self.out.batch.histograms.push((labels, at.t_ms, h));
    }

    fn summary(&mut self, family: &Family<'_>, point: &SummaryPoint) {
        let base = self.base(&point.attributes, family.shared, &[]);
        let at = self.at(family, point.time_unix_nano, point.start_time_unix_nano, point.flags);
        if !self.has_room(family, &base, point.quantile_values.len() + 2) {
            return;
        }
        let is_stale = point.flags & NO_RECORDED_VALUE != 0;
        let or_stale = |v: f64| if is_stale { stale_nan() } else { v };
        let name = &family.name;
        self.sample(family, base.series(&format!("{name}_sum"), None), at, or_stale(point.sum));
        self.sample(family, base.series(&format!("{name}_count"), None), at, or_stale(point.count as f64));
        // Quantiles do not count.
        let at = At { start_ms: 0, ..at };
        for q in &point.quantile_values {
            let labels = base.series(name, Some(("quantile", &bound_text(q.quantile))));
            self.sample(family, labels, at, or_stale(q.value));
        }
    }

    fn exemplar(&self, from: &message::Exemplar) -> Exemplar {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let mut pairs: Vec<(String, Cow<'_, str>)> = Vec::new();
        let mut chars = 0;
        for (name, bytes) in [("trace_id", &from.trace_id), ("span_id", &from.span_id)] {
            if !bytes.is_empty() {
                let value = hex(bytes);
                chars += name.len() + value.len();
                pairs.push((name.to_owned(), Cow::Owned(value)));
            }
        }
        let n_ids = pairs.len();
        for attribute in &from.filtered_attributes {
            let Some(name) = names::label_name(self.rules.config, &attribute.key) else { continue };
            let value = text_of(attribute);
            chars += name.chars().count() + value.chars().count();
            pairs.push((name, value));
        }
        // Too long with them, it is kept without the attributes.
        if chars > EXEMPLAR_LABEL_CHARS_MAX {
            pairs.truncate(n_ids);
        }
        let value = from.as_int.map_or(from.as_double.unwrap_or(0.0), |v| v as f64);
        let timestamp = Timestamp(ms(from.time_unix_nano));
        Exemplar { labels: Labels::from_pairs(pairs), value, timestamp, has_timestamp: true }
    }

    /// The other attributes of the resource, as labels of a series that queries join with.
    fn target_info(&mut self, attributes: &[KeyValue], identity: Vec<Pair<'_>>) {
        let config = self.rules.config;
        let has_more = attributes.iter().any(|a| !IDENTIFYING.contains(&a.key.as_str()));
        if identity.iter().all(|(_, value)| value.is_empty()) || !has_more {
            return;
        }
        let shared = Shared { promoted: Vec::new(), fixed: identity };
        let but: &[&str] = if config.keep_identifying_attributes { &[] } else { &IDENTIFYING };
        let labels = self.base(attributes, &shared, but).series("target_info", None);
        let step = (self.rules.lookback_ms / 2).max(1);
        let (latest, farthest) = (self.latest_ms, self.latest_ms.saturating_sub(step * (TARGET_INFO_SAMPLES_MAX - 1)));
        let mut t = self.earliest_ms.max(farthest);
        while t < latest {
            self.out.batch.samples.push((labels.clone(), t, 1.0));
            t += step;
        }
        self.out.batch.samples.push((labels, latest, 1.0));
        let help = "Target metadata".to_owned();
        let metadata = MetricMetadata { kind: MetricType::Gauge, unit: String::new(), help };
        self.out.batch.metadata.push(("target_info".to_owned(), metadata));
    }
}

fn n_points(metric: &Metric) -> usize {
    metric.gauge.as_ref().map_or(0, |m| m.data_points.len())
        + metric.sum.as_ref().map_or(0, |m| m.data_points.len())
        + metric.histogram.as_ref().map_or(0, |m| m.data_points.len())
        + metric.exponential_histogram.as_ref().map_or(0, |m| m.data_points.len())
        + metric.summary.as_ref().map_or(0, |m| m.data_points.len())
}

#[cfg(test)]
mod tests;
