//! A family of OpenMetrics text: what its type, and the samples before, allow a sample to be.

use std::borrow::Cow;
use std::collections::HashSet;
use std::mem;

use super::line::{self, Kind, Labels, Sample};

/// Takes a fault in a line that is not the one being read.
pub(super) type Report<'r> = &'r mut dyn FnMut(usize, String);

/// What lines have said of a family.
#[derive(Debug)]
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    /// Its first line.
    pub(super) line: usize,
    kind: Option<Kind>,
    has_help: bool,
    unit: Option<&'a str>,
    /// Labels of the metrics that there were, as they are told apart.
    metrics: HashSet<Labels<'a>>,
    metric: Option<Metric<'a>>,
}

/// The metric of the lines before: its samples stand together.
#[derive(Debug)]
struct Metric<'a> {
    labels: Labels<'a>,
    /// Time of its newest point, in seconds.
    time: Option<f64>,
    /// Samples of that point: the end of the name, and the label that tells samples of a point apart.
    samples: HashSet<(&'a str, Cow<'a, str>)>,
    point: Point,
}

/// What a histogram had at one time.
#[derive(Debug, Default)]
struct Point {
    line: usize,
    /// Bound and value of its last bucket.
    bucket: Option<(f64, f64)>,
    has_negative_bound: bool,
    count: Option<f64>,
    sum: Option<f64>,
}

impl<'a> Family<'a> {
    pub(super) fn new(name: &'a str, line: usize) -> Self {
        Self { name, line, kind: None, has_help: false, unit: None, metrics: HashSet::new(), metric: None }
    }

    /// Its type, known when its samples begin.
    pub(super) fn kind(&self) -> Kind {
        self.kind.unwrap_or_default()
    }

    /// Whether it has no metadata.
    pub(super) fn is_only_samples(&self) -> bool {
        self.kind.is_none() && !self.has_help && self.unit.is_none()
    }

    /// What stands behind the family's name in the name of a sample, if it may be one of the family.
    pub(super) fn suffix_of(&self, sample: &'a str) -> Option<&'a str> {
        sample.strip_prefix(self.name).filter(|suffix| self.kind().suffixes().contains(suffix))
    }

    /// The names that no other family may have.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let suffixes = self.kind().suffixes().iter().filter(|suffix| !suffix.is_empty());
        std::iter::once(&"").chain(suffixes).map(|suffix| format!("{}{suffix}", self.name))
    }

    pub(super) fn set_kind(&mut self, kind: Kind) -> Result<(), String> {
        self.descriptor("TYPE", self.kind.is_some())?;
        self.kind = Some(kind);
        Ok(())
    }

    pub(super) fn set_help(&mut self) -> Result<(), String> {
        self.descriptor("HELP", self.has_help)?;
        self.has_help = true;
        Ok(())
    }

    pub(super) fn set_unit(&mut self, unit: &'a str) -> Result<(), String> {
        self.descriptor("UNIT", self.unit.is_some())?;
        self.unit = Some(unit);
        let is_end = self.name.strip_suffix(unit).is_some_and(|name| name.ends_with('_'));
        if unit.is_empty() || is_end {
            return Ok(());
        }
        Err(format!("the name of the family `{}` must end with its unit: `_{unit}`", self.name))
    }

    /// Whether a line of metadata may stand here.
    fn descriptor(&self, keyword: &str, is_there: bool) -> Result<(), String> {
        if is_there {
            return Err(format!("`# {keyword}` of the family `{}` is there twice", self.name));
        }
        if self.metric.is_some() {
            return Err(format!("`# {keyword}` of the family `{}` must stand before its samples", self.name));
        }
        Ok(())
    }

    /// Ends the family: what can only be told when all of it is there.
    pub(super) fn finish(&mut self, report: Report<'_>) {
        if let Some(metric) = self.metric.take() {
            metric.point.finish(self.kind(), report);
        }
        let has_unit = self.unit.is_some_and(|unit| !unit.is_empty());
        if has_unit && matches!(self.kind(), Kind::Info | Kind::StateSet) {
            report(self.line, format!("the family `{}` of type {} cannot have a unit", self.name, self.kind().name()));
        }
    }

    /// Takes a sample of the family.
    pub(super) fn sample(&mut self, line: usize, sample: &Sample<'a>, report: Report<'_>) -> Result<(), String> {
        let kind = self.kind();
        let suffix = self.suffix_of(sample.name).unwrap_or_default();
        let own_label = match (kind, suffix) {
            (Kind::Histogram | Kind::GaugeHistogram, "_bucket") => Some("le"),
            (Kind::Summary, "") => Some("quantile"),
            (Kind::StateSet, _) => Some(self.name),
            _ => None,
        };
        let mut labels = sample.labels.clone();
        labels.sort_unstable();
        let own = match own_label.map(|own| (own, labels.iter().position(|(name, _)| *name == own))) {
            Some((_, Some(at))) => labels.remove(at).1,
            Some((own, None)) => {
                return Err(format!("`{}` of a {} must have the label `{own}`", sample.name, kind.name()));
            }
            None => Cow::Borrowed(""),
        };
        let is_new = self.place(line, labels, sample, (suffix, own.clone()), report)?;
        match (kind, &mut self.metric) {
            (Kind::Summary, _) if own_label.is_some() => check_quantile(&own)?,
            (Kind::Histogram | Kind::GaugeHistogram, Some(metric)) if is_new => {
                metric.point.take(suffix, &own, sample.value)?
            }
            _ => {}
        }
        if sample.has_exemplar && !takes_exemplars(kind, suffix) {
            let text = "cannot have an exemplar; `_total` of a counter and `_bucket` of a histogram can";
            return Err(format!("`{}` of type {} {text}", sample.name, kind.name()));
        }
        check_value(kind, suffix, sample)
    }

    /// Finds the metric of a sample and the time at which it stands; false if the same sample was there at that time.
    fn place(
        &mut self,
        line: usize,
        labels: Labels<'a>,
        sample: &Sample<'a>,
        key: (&'a str, Cow<'a, str>),
        report: Report<'_>,
    ) -> Result<bool, String> {
        let kind = self.kind();
        let point = || Point { line, ..Point::default() };
        if self.metric.as_ref().is_none_or(|metric| metric.labels != labels) {
            let metric =
                Metric { labels: labels.clone(), time: sample.time, samples: HashSet::from([key]), point: point() };
            if let Some(before) = self.metric.replace(metric) {
                before.point.finish(kind, report);
            }
            if !self.metrics.insert(labels) {
                return Err(format!("samples of one metric of `{}` must stand together", self.name));
            }
            return Ok(true);
        }
        let Some(metric) = &mut self.metric else { return Ok(true) };
        match (metric.time, sample.time) {
            (None, None) => {
                let is_new = metric.samples.insert(key);
                let text = || format!("`{}` is there twice with the same labels and without timestamps", sample.name);
                is_new.then_some(true).ok_or_else(text)
            }
            (Some(before), Some(time)) if time < before => {
                Err(format!("the timestamp {time} is before {before}, that of the same metric above"))
            }
            (Some(before), Some(time)) if time > before => {
                metric.time = Some(time);
                metric.samples = HashSet::from([key]);
                mem::replace(&mut metric.point, point()).finish(kind, report);
                Ok(true)
            }
            // Times that were closer than their digits tell.
            (Some(_), Some(_)) => Ok(metric.samples.insert(key)),
            (before, _) => {
                metric.time = before.or(sample.time);
                Err(format!("either all samples of a metric have timestamps or none; see `{}`", sample.name))
            }
        }
    }
}

impl Point {
    /// Takes a sample of a histogram, whose bound is `bound` if it is a bucket.
    fn take(&mut self, suffix: &str, bound: &str, value: f64) -> Result<(), String> {
        match suffix {
            "_count" | "_gcount" => self.count = Some(value),
            "_sum" | "_gsum" => self.sum = Some(value),
            "_bucket" => {
                let number = line::number(bound).filter(|b| !b.is_nan());
                let Some(le) = number.filter(|b| *b != f64::INFINITY || bound == "+Inf") else {
                    return Err(format!("`le` must be a number or `+Inf`, not `{bound}`"));
                };
                let before = self.bucket.replace((le, value));
                self.has_negative_bound |= le < 0.0;
                match before {
                    Some((before, _)) if le <= before => {
                        return Err(format!("buckets must stand in the order of `le`; {bound} comes behind {before}"));
                    }
                    Some((_, before)) if value < before => {
                        return Err(format!(
                            "a bucket counts what those below it count too; {value} is less than {before}"
                        ));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, kind: Kind, report: Report<'_>) {
        if !matches!(kind, Kind::Histogram | Kind::GaugeHistogram) {
            return;
        }
        let (count, sum) = if kind == Kind::Histogram { ("_count", "_sum") } else { ("_gcount", "_gsum") };
        let mut say = |text: String| report(self.line, text);
        match (self.bucket, self.count) {
            (Some((f64::INFINITY, all)), Some(counted)) if all != counted => {
                say(format!("`{count}` is {counted} and the bucket `+Inf` {all}; they must be equal"));
            }
            (Some((f64::INFINITY, _)), _) => {}
            _ => say("a histogram must have a bucket with `le=\"+Inf\"`".to_owned()),
        }
        match (self.count, self.sum) {
            (Some(_), None) if !(self.has_negative_bound && kind == Kind::Histogram) => {
                say(format!("a histogram with `{count}` must have `{sum}`"));
            }
            (None, Some(_)) => say(format!("a histogram with `{sum}` must have `{count}`")),
            _ => {}
        }
        if self.has_negative_bound && self.sum.is_some() && kind == Kind::Histogram {
            say("a histogram with a negative `le` cannot have `_sum`, which would not be a counter".to_owned());
        }
        if !self.has_negative_bound && self.sum.is_some_and(|sum| sum < 0.0) {
            say(format!("`{sum}` cannot be negative where no `le` is"));
        }
    }
}

fn takes_exemplars(kind: Kind, suffix: &str) -> bool {
    matches!((kind, suffix), (Kind::Counter, "_total") | (Kind::Histogram | Kind::GaugeHistogram, "_bucket"))
}

/// Whether a type allows the value.
fn check_value(kind: Kind, suffix: &str, sample: &Sample<'_>) -> Result<(), String> {
    let v = sample.value;
    let wanted = match (kind, suffix) {
        (Kind::Info, _) if v != 1.0 => "1",
        (Kind::StateSet, _) if v != 0.0 && v != 1.0 => "0 or 1",
        (_, "_created") if !v.is_finite() => "a time in seconds",
        (Kind::Counter, "_total") | (Kind::Summary, "_sum") if v.is_nan() || v < 0.0 => "a number that is not negative",
        (Kind::Histogram | Kind::GaugeHistogram, "_sum" | "_gsum") if v.is_nan() => "a number",
        (_, "_bucket" | "_count" | "_gcount") if v < 0.0 || v.fract() != 0.0 => "a whole number that is not negative",
        (Kind::Summary, "") if v < 0.0 => "a number that is not negative",
        _ => return Ok(()),
    };
    Err(format!("`{}` of type {} must be {wanted}, not {v}", sample.name, kind.name()))
}

fn check_quantile(text: &str) -> Result<(), String> {
    match line::number(text) {
        Some(quantile) if (0.0..=1.0).contains(&quantile) => Ok(()),
        _ => Err(format!("`quantile` must be a number from 0 to 1, not `{text}`")),
    }
}
