//! Expositions of jobs that end before anybody could scrape them, under the Pushgateway's paths.
//!
//! A group of metrics is held until its time to live has passed or somebody deletes it. As long as it is held its
//! values are written again and again, as if it were scraped, and when it goes its series end with staleness markers.
//! Groups lie in the data folder too and are held on after a restart; what their time to live says counts from the push.

mod kept;
mod path;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use promontory_model::histogram::Counts;
use promontory_model::stale_nan;
use promontory_model::{Duration, FloatHistogram, HistogramSample, Labels, METRIC_NAME, MetricMetadata, MetricType};
use promontory_storage::vfs::{Vfs, VfsError};
use serde::Deserialize;

use super::Ingest;
use super::body::Refused;
use super::exposition::{self, Encoding, Family, Value};
use super::store::{Batch, Protocol};
use kept::{Folder, Found};

/// Groups that are held.
pub(crate) const GROUPS_MAX: usize = 10_000;
/// Series of one group.
pub(crate) const GROUP_SERIES_MAX: usize = 100_000;
/// Series of all groups.
pub(crate) const PUSHED_SERIES_MAX: usize = 1_000_000;
/// Bytes of labels and values of one group.
pub(crate) const GROUP_BYTES_MAX: usize = 64 << 20;
/// Bytes of labels and values of all groups.
pub(crate) const PUSHED_BYTES_MAX: usize = 512 << 20;
/// Time between two writes of a group that is held.
pub const REPEAT_MS: i64 = 15_000;

const PUSH_TIME: &str = "push_time_seconds";
const FAILURE_TIME: &str = "push_failure_time_seconds";

/// What an address may say.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Params {
    /// How long the group is held, `0s` until it is deleted.
    ttl: Option<String>,
}

/// Series by the name of their family.
type Families = BTreeMap<String, Vec<(Labels, Value)>>;

/// What is held.
#[derive(Debug)]
pub(super) struct Pushed {
    /// Held while a file of a group is written, which is that of the group as it is then. Taken before `groups`.
    folder: Mutex<Folder>,
    /// Held while samples of groups are appended, so that their order is that of the requests.
    groups: Mutex<Groups>,
}

#[derive(Debug, Default)]
struct Groups {
    by_key: BTreeMap<Labels, Group>,
    /// Number of the next new group.
    next: u64,
}

impl Pushed {
    pub(super) fn new(vfs: Arc<dyn Vfs>, data_dir: &Path) -> Self {
        Self { folder: Mutex::new(Folder::new(vfs, data_dir)), groups: Mutex::default() }
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file of a group what the group is now.
    fn keep(&self, key: &Labels, number: u64) -> Result<(), VfsError> {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.groups().by_key.get(key).filter(|g| g.number == number).map(|g| kept::encode(key, g));
        match bytes {
            Some(bytes) => folder.store(number, &bytes),
            None => folder.remove(number),
        }
    }
}

#[derive(Debug, Default)]
struct Group {
    /// That of its file; another one when a group of the same labels comes later.
    number: u64,
    families: Families,
    /// Series, and bytes of their labels and values.
    size: (usize, usize),
    pushed_ms: i64,
    failed_ms: i64,
    ttl_ms: Option<i64>,
    /// Time of its newest samples.
    written_ms: i64,
}

impl Group {
    /// Counts series and bytes anew.
    fn measure(&mut self) {
        let all = self.families.values();
        self.size = all.map(|list| size(list)).fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
    }

    /// When its time to live has passed.
    fn end_ms(&self) -> Option<i64> {
        Some(self.pushed_ms.max(self.failed_ms).saturating_add(self.ttl_ms?))
    }

    fn has_ended(&self, now_ms: i64) -> bool {
        self.end_ms().is_some_and(|end_ms| now_ms >= end_ms)
    }

    /// The time of the next samples: now, but after those before.
    fn next_ms(&mut self, now_ms: i64) -> i64 {
        self.written_ms = now_ms.max(self.written_ms + 1);
        self.written_ms
    }

    /// Adds the present values.
    fn write(&mut self, key: &Labels, now_ms: i64, batch: &mut Batch) {
        let t = self.next_ms(now_ms);
        for (labels, value) in self.families.values().flatten() {
            match value {
                Value::Float(v) => batch.samples.push((labels.clone(), t, *v)),
                Value::Histogram(h) => batch.histograms.push((labels.clone(), t, h.clone())),
            }
        }
        for (name, ms) in [(PUSH_TIME, self.pushed_ms), (FAILURE_TIME, self.failed_ms)] {
            batch.samples.push((named(key, name), t, ms as f64 / 1000.0));
        }
    }

    /// Adds the end of all series.
    fn end(&mut self, key: &Labels, now_ms: i64, batch: &mut Batch) {
        let t = self.next_ms(now_ms);
        for (labels, value) in self.families.values().flatten() {
            end_series(labels.clone(), value, t, batch);
        }
        for name in [PUSH_TIME, FAILURE_TIME] {
            batch.samples.push((named(key, name), t, stale_nan()));
        }
    }
}

/// Number of series and their bytes.
fn size(list: &[(Labels, Value)]) -> (usize, usize) {
    let of_one = |(labels, value): &(Labels, Value)| {
        let of_value = match value {
            Value::Float(_) => 0,
            Value::Histogram(h) => {
                let h = h.value();
                let spans = h.positive_spans.len() + h.negative_spans.len();
                let buckets = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
                size_of::<FloatHistogram>() + size_of::<f64>() * (spans + buckets)
            }
        };
        size_of::<(Labels, Value)>() + labels.as_bytes().len() + of_value
    };
    (list.len(), list.iter().map(of_one).sum())
}

fn end_series(labels: Labels, value: &Value, t: i64, batch: &mut Batch) {
    if let Value::Histogram(h) = value {
        let marker = FloatHistogram { sum: stale_nan(), schema: h.value().schema, ..FloatHistogram::default() };
        if let Ok(marker) = HistogramSample::new(marker, Counts::Integer) {
            batch.histograms.push((labels, t, marker));
        }
    } else {
        batch.samples.push((labels, t, stale_nan()));
    }
}

fn named(key: &Labels, name: &str) -> Labels {
    let mut labels = key.to_builder();
    labels.set(METRIC_NAME, name);
    labels.build()
}

/// `/metrics/job/…`
pub(super) async fn push(
    State(ingest): State<Arc<Ingest>>,
    method: Method,
    uri: Uri,
    Query(params): Query<Params>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !ingest.options.enable_push {
        let reason = "pushing needs to be enabled with --web.enable-push";
        return Refused::new(StatusCode::NOT_FOUND, reason).into_response();
    }
    let key = match path::group(uri.path()) {
        Ok(key) => key,
        Err(reason) => return Refused::bad(reason).into_response(),
    };
    let encoding = Encoding::of(&headers);
    let work = move |ingest: &Ingest, bytes: &[u8]| match method {
        Method::DELETE => ingest.delete_group(&key).map(|()| StatusCode::ACCEPTED),
        method => {
            let replaces = if method == Method::PUT { Replaces::Group } else { Replaces::Families };
            ingest.push_group(&key, replaces, params.ttl.as_deref(), encoding, bytes).map(|()| StatusCode::OK)
        }
    };
    match ingest.take_in(&headers, body, work).await {
        Ok(status) => status.into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// What of a group a push takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replaces {
    /// All of it.
    Group,
    /// Families of the same names.
    Families,
}

impl Ingest {
    /// Holds the groups again that were held before the last stop.
    pub(super) fn restore_pushed(&self) {
        let folder = self.pushed.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, next) = folder.load();
        let now_ms = self.store.now_ms();
        let mut groups = self.pushed.groups();
        groups.next = next;
        for Found { number, key, group } in found {
            // What ended so long ago that no query sees it any more needs no markers.
            let is_over = group.end_ms().is_some_and(|end| end.saturating_add(self.options.lookback_ms) <= now_ms);
            if is_over || groups.by_key.contains_key(&key) {
                if let Err(error) = folder.remove(number) {
                    tracing::warn!(%error, "file of a pushed group that has ended stays");
                }
                continue;
            }
            groups.by_key.insert(key, group);
        }
        if !groups.by_key.is_empty() {
            tracing::info!(groups = groups.by_key.len(), "pushed groups are held again");
        }
    }

    /// Writes the values of all groups once more, and ends those whose time has passed.
    pub fn repeat_pushed(&self) {
        let mut groups = self.pushed.groups();
        if groups.by_key.is_empty() {
            return;
        }
        let now_ms = self.store.now_ms();
        let mut batch = Batch::default();
        let mut ended = Vec::new();
        groups.by_key.retain(|key, group| {
            let has_ended = group.has_ended(now_ms);
            if has_ended {
                group.end(key, now_ms, &mut batch);
                ended.push((key.clone(), group.number));
            } else {
                group.write(key, now_ms, &mut batch);
            }
            !has_ended
        });
        if let Err(error) = self.store.append(Protocol::Push, batch) {
            tracing::warn!(%error, "pushed metrics are not written again");
        }
        drop(groups);
        for (key, number) in ended {
            if let Err(error) = self.pushed.keep(&key, number) {
                tracing::warn!(%error, "file of a pushed group that has ended stays");
            }
        }
    }

    fn push_group(
        &self,
        key: &Labels,
        replaces: Replaces,
        ttl: Option<&str>,
        encoding: Encoding,
        bytes: &[u8],
    ) -> Result<(), Refused> {
        let ttl_ms = match ttl {
            None => self.options.push_ttl_ms,
            Some(text) => {
                Duration::parse(text).map(Duration::ms).map_err(|e| Refused::bad(format_args!("ttl: {e}")))?
            }
        };
        let ttl_ms = Some(ttl_ms).filter(|ms| *ms > 0);
        let read = exposition::read(bytes, encoding, GROUP_SERIES_MAX).and_then(|families| labelled(families, key));
        let changed = self.change_group(key, replaces, ttl_ms, read);
        // A push that failed has changed a group that is there, too.
        let number = self.pushed.groups().by_key.get(key).map(|group| group.number);
        let kept = number.map_or(Ok(()), |number| self.pushed.keep(key, number));
        changed?;
        kept.map_err(|e| Refused::later(format_args!("keep the group for a restart: {e}")))
    }

    fn change_group(
        &self,
        key: &Labels,
        replaces: Replaces,
        ttl_ms: Option<i64>,
        read: Result<Labelled, String>,
    ) -> Result<(), Refused> {
        let now_ms = self.store.now_ms();
        let mut groups = self.pushed.groups();
        let (families, metadata) = match read {
            Ok(read) => read,
            Err(reason) => {
                // That a push failed is seen from a group that is there.
                if let Some(group) = groups.by_key.get_mut(key) {
                    group.failed_ms = now_ms;
                }
                return Err(Refused::bad(reason));
            }
        };
        let is_kept = |name: &str| replaces == Replaces::Families && !families.contains_key(name);
        groups.check_room(key, &families, is_kept)?;
        let next = groups.next;
        let group = groups.by_key.entry(key.clone()).or_insert_with(|| Group { number: next, ..Group::default() });
        let is_new = group.number == next;
        let (kept, replaced) = std::mem::take(&mut group.families).into_iter().partition(|(name, _)| is_kept(name));
        let gone = BTreeMap::into_values(replaced).flatten();
        group.families = kept;
        group.families.extend(families);
        group.measure();
        (group.pushed_ms, group.ttl_ms) = (now_ms, ttl_ms);
        let mut batch = Batch { metadata, ..Batch::default() };
        group.write(key, now_ms, &mut batch);
        let present: BTreeSet<&Labels> = group.families.values().flatten().map(|(labels, _)| labels).collect();
        for (labels, value) in gone.filter(|(labels, _)| !present.contains(labels)) {
            end_series(labels, &value, group.written_ms, &mut batch);
        }
        groups.next += u64::from(is_new);
        let stored = self.store.append(Protocol::Push, batch).map_err(Refused::later)?;
        match stored.refused() {
            0 => Ok(()),
            _ => Err(Refused::bad(stored.reasons())),
        }
    }

    fn delete_group(&self, key: &Labels) -> Result<(), Refused> {
        let mut groups = self.pushed.groups();
        let Some(mut group) = groups.by_key.remove(key) else { return Ok(()) };
        let mut batch = Batch::default();
        group.end(key, self.store.now_ms(), &mut batch);
        let ended = self.store.append(Protocol::Push, batch);
        drop(groups);
        let forgotten = self.pushed.keep(key, group.number);
        ended.map_err(Refused::later)?;
        forgotten.map_err(|e| Refused::later(format_args!("remove the group's file: {e}")))
    }

    /// Groups that are held and their series.
    #[must_use]
    pub fn pushed_counts(&self) -> (usize, usize) {
        let groups = self.pushed.groups();
        (groups.by_key.len(), groups.by_key.values().map(|group| group.size.0).sum())
    }
}

impl Groups {
    /// Refuses families for which there is no room.
    fn check_room(&self, key: &Labels, families: &Families, is_kept: impl Fn(&str) -> bool) -> Result<(), Refused> {
        let no_room = |what: String| Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, what));
        if !self.by_key.contains_key(key) && self.by_key.len() >= GROUPS_MAX {
            return no_room(format!("more than {GROUPS_MAX} groups (groups_max); delete some"));
        }
        let add = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        let kept = self.by_key.get(key).into_iter().flat_map(|g| &g.families).filter(|(name, _)| is_kept(name));
        let of_group = kept.map(|(_, list)| list).chain(families.values()).map(|list| size(list)).fold((0, 0), add);
        let others = self.by_key.iter().filter(|(k, _)| *k != key).map(|(_, g)| g.size).fold((0, 0), add);
        let all = add(of_group, others);
        let limits = [
            (of_group.0, GROUP_SERIES_MAX, "series of a group (group_series_max)"),
            (of_group.1, GROUP_BYTES_MAX, "bytes of a group (group_bytes_max)"),
            (all.0, PUSHED_SERIES_MAX, "series of all groups (pushed_series_max); delete some"),
            (all.1, PUSHED_BYTES_MAX, "bytes of all groups (pushed_bytes_max); delete some"),
        ];
        match limits.into_iter().find(|(n, max, _)| n > max) {
            Some((_, max, what)) => no_room(format!("more than {max} {what}")),
            None => Ok(()),
        }
    }
}

type Labelled = (Families, Vec<(String, MetricMetadata)>);

/// The families with the labels of the group, which go before those of the exposition.
fn labelled(families: BTreeMap<String, Family>, key: &Labels) -> Result<Labelled, String> {
    let mut out = BTreeMap::new();
    let mut metadata = Vec::new();
    let mut bytes = 0;
    for (name, family) in families {
        if name == PUSH_TIME || name == FAILURE_TIME {
            return Err(format!("{name} is made here and cannot be pushed"));
        }
        let mut series: Vec<(Labels, Value)> = Vec::with_capacity(family.samples.len());
        for sample in family.samples {
            if sample.timestamp_ms.is_some() {
                return Err("pushed metrics must not have timestamps".to_owned());
            }
            // The labels of the group stand in its address once, and in each series.
            bytes += key.as_bytes().len() + sample.labels.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
            if bytes > GROUP_BYTES_MAX {
                return Err(format!("more than {GROUP_BYTES_MAX} bytes of a group (group_bytes_max)"));
            }
            let mut labels = key.to_builder();
            for (n, v) in &sample.labels {
                if key.get(n).is_none() {
                    labels.set(n, v);
                }
            }
            series.push((labels.build(), sample.value));
        }
        let mut seen = BTreeSet::new();
        if let Some((twice, _)) = series.iter().find(|(labels, _)| !seen.insert(labels)) {
            return Err(format!("metric {twice} was there before with the same name and label values"));
        }
        drop(seen);
        if family.metadata != MetricMetadata::default() {
            metadata.push((name.clone(), family.metadata));
        }
        out.insert(name, series);
    }
    for (name, help) in [
        (PUSH_TIME, "Last Unix time when this group was changed by a push"),
        (FAILURE_TIME, "Last Unix time when changing this group by a push failed"),
    ] {
        let help = help.to_owned();
        metadata.push((name.to_owned(), MetricMetadata { kind: MetricType::Gauge, unit: String::new(), help }));
    }
    Ok((out, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::testing::{Fixture, labels};

    const NOW_MS: i64 = 1_700_000_000_000;

    async fn send(f: &Fixture, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, body) = Fixture::send(f.ingest.router(), method, path, &[], body.to_owned()).await;
        (status, String::from_utf8(body).unwrap())
    }

    fn ok() -> (u16, String) {
        (200, String::new())
    }

    #[tokio::test]
    async fn put_replaces_the_group_and_post_the_families() {
        let f = Fixture::new(NOW_MS);
        let path = "/metrics/job/j/instance/i";
        assert_eq!(send(&f, "PUT", path, "a{x=\"1\",job=\"other\"} 1\nb 2\n").await, ok());
        assert_eq!(f.values("a"), [format!("{{__name__=\"a\",instance=\"i\",job=\"j\",x=\"1\"}} {NOW_MS}:1")]);
        f.set_now(NOW_MS + 10);
        assert_eq!(send(&f, "POST", path, "a{x=\"2\"} 3").await, ok());
        assert_eq!(
            f.values("a"),
            [
                format!("{{__name__=\"a\",instance=\"i\",job=\"j\",x=\"1\"}} {NOW_MS}:1 {}:stale", NOW_MS + 10),
                format!("{{__name__=\"a\",instance=\"i\",job=\"j\",x=\"2\"}} {}:3", NOW_MS + 10),
            ]
        );
        assert_eq!(f.ingest.pushed_counts(), (1, 2), "b is still there");
        f.set_now(NOW_MS + 20);
        assert_eq!(send(&f, "PUT", path, "c 1\n").await, ok());
        assert_eq!(f.ingest.pushed_counts(), (1, 1));
        assert!(f.values("b")[0].ends_with(&format!("{}:stale", NOW_MS + 20)));
        f.set_now(NOW_MS + 30);
        assert_eq!(send(&f, "DELETE", path, "").await.0, 202);
        assert_eq!(f.ingest.pushed_counts(), (0, 0));
        assert!(f.values("push_time_seconds")[0].ends_with(&format!("{}:stale", NOW_MS + 30)));
        assert_eq!(send(&f, "DELETE", path, "").await.0, 202);
    }

    #[tokio::test]
    async fn groups_are_written_again_until_their_time_has_passed() {
        let f = Fixture::new(NOW_MS);
        assert_eq!(send(&f, "POST", "/metrics/job/j?ttl=1m", "a 1\n").await, ok());
        assert_eq!(send(&f, "POST", "/metrics/job/k?ttl=0s", "a 2\n").await, ok());
        f.ingest.repeat_pushed();
        f.set_now(NOW_MS + 30_000);
        f.ingest.repeat_pushed();
        f.set_now(NOW_MS + 60_000);
        f.ingest.repeat_pushed();
        f.set_now(NOW_MS + 75_000);
        f.ingest.repeat_pushed();
        let at = |s: i64| NOW_MS + s;
        assert_eq!(
            f.values("a"),
            [
                format!("{{__name__=\"a\",job=\"j\"}} {}:1 {}:1 {}:1 {}:stale", at(0), at(1), at(30_000), at(60_000)),
                format!(
                    "{{__name__=\"a\",job=\"k\"}} {}:2 {}:2 {}:2 {}:2 {}:2",
                    at(0),
                    at(1),
                    at(30_000),
                    at(60_000),
                    at(75_000)
                ),
            ]
        );
        assert_eq!(send(&f, "POST", "/metrics/job/j?ttl=x", "a 1\n").await.0, 400);
    }

    #[tokio::test]
    async fn what_is_wrong_changes_nothing_but_the_time_of_failure() {
        let f = Fixture::new(NOW_MS);
        let path = "/metrics/job/j";
        assert_eq!(send(&f, "PUT", path, "a 1\n").await, ok());
        f.set_now(NOW_MS + 5_000);
        for (body, why) in [
            ("a 1 1700000000000\n", "pushed metrics must not have timestamps\n"),
            ("a 1\na 2\n", "metric {__name__=\"a\", job=\"j\"} was there before with the same name and label values\n"),
            ("push_time_seconds 1\n", "push_time_seconds is made here and cannot be pushed\n"),
        ] {
            assert_eq!(send(&f, "PUT", path, body).await, (400, why.to_owned()));
        }
        assert_eq!(send(&f, "PUT", path, "a b\n").await.0, 400);
        let many = |n: usize| (0..n).map(|i| format!("b{{i=\"{i}\"}} 1\n")).collect::<String>();
        assert_eq!(send(&f, "POST", path, &many(GROUP_SERIES_MAX)).await.0, 429, "with a they are one too many");
        assert_eq!(send(&f, "PUT", "/metrics/job/k", &many(GROUP_SERIES_MAX + 1)).await.0, 400);
        f.ingest.repeat_pushed();
        assert!(f.values("push_failure_time_seconds")[0].ends_with(&format!(
            "{}:{}",
            NOW_MS + 5_000,
            (NOW_MS + 5_000) as f64 / 1000.0
        )));
        assert_eq!(f.ingest.pushed_counts(), (1, 1));
        assert_eq!(send(&f, "GET", path, "").await.0, 405);
    }

    #[tokio::test]
    async fn groups_are_held_over_a_restart_as_long_as_their_time_has_not_passed() {
        let mut f = Fixture::new(NOW_MS);
        for (job, ttl) in [("short", "1m"), ("long", "1h"), ("kept", "0s"), ("gone", "1h"), ("bad", "1h")] {
            assert_eq!(send(&f, "PUT", &format!("/metrics/job/{job}?ttl={ttl}"), "a 1\nb 2\n").await, ok());
        }
        assert_eq!(send(&f, "DELETE", "/metrics/job/gone", "").await.0, 202);
        f.set_now(NOW_MS + 10);
        assert_eq!(send(&f, "POST", "/metrics/job/long?ttl=1h", "b 3\n").await, ok());
        let damaged = f.dir().join("pushed/4.group");
        std::fs::write(&damaged, "x").unwrap();
        f.set_now(NOW_MS + 120_000);
        f.restart();
        assert_eq!(f.ingest.pushed_counts(), (3, 6), "the short one is to end with markers");
        assert!(!damaged.exists() && damaged.with_extension("damaged").exists());
        f.ingest.repeat_pushed();
        assert_eq!(f.ingest.pushed_counts(), (2, 4));
        let end = |job: &str, what: &str| {
            let line = f.values("b").into_iter().find(|line| line.contains(job)).unwrap();
            assert!(line.ends_with(&format!(" {}:{what}", NOW_MS + 120_000)), "{line}");
        };
        end("long", "3");
        end("kept", "2");
        end("short", "stale");
        f.set_now(NOW_MS + 2 * 3_600_000);
        f.restart();
        assert_eq!(f.ingest.pushed_counts(), (1, 2), "long ended too long ago for markers");
        assert_eq!(send(&f, "PUT", "/metrics/job/new", "a 1\n").await, ok());
        f.restart();
        assert_eq!(f.ingest.pushed_counts(), (2, 3));
    }

    #[test]
    fn labels_of_the_address_do_not_stand_for_gigabytes() {
        let key = labels(&[("job", &"x".repeat(1 << 20))]);
        let text: String = (0..65).map(|i| format!("a{{i=\"{i}\"}} 1\n")).collect();
        let families = exposition::read(text.as_bytes(), Encoding::Text, 100).unwrap();
        assert!(labelled(families, &key).unwrap_err().contains("group_bytes_max"));
    }

    #[test]
    fn labels_of_the_group_go_before() {
        let families = exposition::read(b"a{job=\"x\",b=\"c\"} 1\n", Encoding::Text, 10).unwrap();
        let (families, _) = labelled(families, &labels(&[("job", "j")])).unwrap();
        assert_eq!(families["a"][0].0, labels(&[("__name__", "a"), ("b", "c"), ("job", "j")]));
    }
}
