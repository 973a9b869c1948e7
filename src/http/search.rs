//! `/search/…`: names of metrics and labels and values of labels, for whoever remembers a part of them.
//!
//! Answers are lines of JSON: batches of results, then a line that says how it ended. As many results are held as were
//! asked for, at most `--web.search.max-limit`; lines are written while the client reads. Off without
//! `--enable-feature=search-api`.

mod score;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use promontory_model::{Cancel, METRIC_NAME, MetricMetadata, ReadError, Select, Snapshot, TimeRange};

use super::answer::{ApiError, ErrorType};
use super::params::Params;
use super::pieces::{self, Fill, PIECE_BYTES};
use super::series::read_set;
use super::{Http, json};
use score::{Algorithm, Terms};

/// What is searched for at once, and the bytes of one such text.
const TERMS_MAX: usize = 32;
const TERM_BYTES_MAX: usize = 1024;
/// Results of a request that does not say how many, and of one line.
const LIMIT: usize = 100;
const BATCH: usize = 100;
/// How far back is searched where nothing is said, ms.
const RECENT_MS: i64 = 3_600_000;
/// How long what is known of metrics is taken for true: collecting it visits every target.
const METADATA_KEPT_NS: u64 = 5_000_000_000;
/// Texts between two looks whether the client is still there.
const TEXTS_AT_ONCE: usize = 256;

const CONTENT_TYPE: &str = "application/x-ndjson; charset=utf-8";

/// What is known of metrics, as it was a few seconds ago at most.
#[derive(Debug, Default)]
pub(crate) struct KnownMetadata(Mutex<Option<(u64, Arc<Families>)>>);

type Families = BTreeMap<String, Vec<MetricMetadata>>;

impl KnownMetadata {
    fn get(&self, http: &Http) -> Arc<Families> {
        let now = http.clock.monotonic_ns();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, families)) = &*kept
            && now.saturating_sub(*at) < METADATA_KEPT_NS
        {
            return families.clone();
        }
        let families = Arc::new(http.backend.metadata());
        *kept = Some((now, families.clone()));
        families
    }
}

/// The order of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
    /// Best first.
    Score,
}

/// What all searches may say.
#[derive(Debug)]
struct Search {
    sets: Vec<Vec<promontory_model::Matcher>>,
    range: TimeRange,
    terms: Terms,
    order: Order,
    shows_score: bool,
    limit: usize,
    batch: usize,
}

/// A count; `default` when it is left out or 0.
fn count(params: &Params, name: &str, default: usize) -> Result<usize, ApiError> {
    let text = params.get(name);
    let n = if text.is_empty() { Some(0) } else { text.parse::<i64>().ok().and_then(|n| usize::try_from(n).ok()) };
    match n {
        Some(0) => Ok(default),
        Some(n) => Ok(n),
        None => Err(ApiError::parameter(name, format_args!("\"{text}\" is no non-negative integer"))),
    }
}

impl Search {
    fn read(http: &Http, params: &Params) -> Result<Self, ApiError> {
        params.whole()?;
        let now_ms = http.clock.now().0;
        let mint = params.time("start")?.unwrap_or_else(|| now_ms.saturating_sub(RECENT_MS));
        let maxt = params.time("end")?.unwrap_or(now_ms);
        let sets = params.all("match[]").map(read_set).collect::<Result<_, _>>()?;
        let terms: Vec<&str> = params.all("search[]").collect();
        if terms.len() > TERMS_MAX {
            let reason = format!("{} of them, at most {TERMS_MAX} are searched for (terms_max)", terms.len());
            return Err(ApiError::parameter("search[]", reason));
        }
        if let Some(long) = terms.iter().find(|term| term.len() > TERM_BYTES_MAX) {
            let reason = format!("{} bytes, more than {TERM_BYTES_MAX} (term_bytes_max)", long.len());
            return Err(ApiError::parameter("search[]", reason));
        }
        let threshold = match params.get("fuzz_threshold") {
            "" => 0,
            text => text.parse::<u8>().ok().filter(|n| *n <= 100).ok_or_else(|| {
                ApiError::parameter("fuzz_threshold", format_args!("\"{text}\" is no number from 0 to 100"))
            })?,
        };
        let algorithm = match params.get("fuzz_alg") {
            "" | "subsequence" => Algorithm::Subsequence,
            "jarowinkler" => Algorithm::JaroWinkler,
            other => {
                let reason = format!("\"{other}\" is neither subsequence nor jarowinkler");
                return Err(ApiError::parameter("fuzz_alg", reason));
            }
        };
        let is_case_sensitive = params.switch("case_sensitive", true)?;
        let shows_score = params.switch("include_score", false)?;
        let order = order(params, !terms.is_empty())?;
        let max = http.options.search_results_max;
        let limit = count(params, "limit", if max == 0 { LIMIT } else { LIMIT.min(max) })?;
        if max > 0 && limit > max {
            return Err(ApiError::parameter(
                "limit",
                format_args!("{limit} is more than web.search.max-limit ({max})"),
            ));
        }
        let batch = count(params, "batch_size", BATCH)?;
        let terms = Terms::new(&terms, algorithm, f64::from(threshold) / 100.0, is_case_sensitive);
        Ok(Self { sets, range: TimeRange::new(mint, maxt), terms, order, shows_score, limit, batch })
    }

    /// The best or first `limit` of the texts that are searched for, with their scores, and whether there are more.
    fn pick(&self, texts: BTreeSet<String>, cancel: &Cancel) -> Result<(Vec<(String, f64)>, bool), ReadError> {
        let mut found = Vec::new();
        for (i, text) in texts.into_iter().enumerate() {
            if i % TEXTS_AT_ONCE == 0 {
                cancel.check()?;
            }
            if let Some(score) = self.terms.score(&text) {
                found.push((text, score));
            }
        }
        match self.order {
            Order::Ascending => {}
            Order::Descending => found.reverse(),
            // Stable, so that of those that are alike the first name comes first.
            Order::Score => found.sort_by(|a, b| b.1.total_cmp(&a.1)),
        }
        let has_more = found.len() > self.limit;
        found.truncate(self.limit);
        Ok((found, has_more))
    }
}

fn order(params: &Params, has_terms: bool) -> Result<Order, ApiError> {
    let (by, direction) = (params.get("sort_by"), params.get("sort_dir"));
    let refuse = |name: &str, reason: String| Err(ApiError::parameter(name, reason));
    if !direction.is_empty() && by != "alpha" {
        return refuse("sort_dir", "only what is sorted by sort_by=alpha has a direction".to_owned());
    }
    match (by, direction) {
        ("" | "alpha", "" | "asc") => Ok(Order::Ascending),
        ("alpha", "dsc") => Ok(Order::Descending),
        ("alpha", other) => refuse("sort_dir", format!("\"{other}\" is neither asc nor dsc")),
        ("score", _) if has_terms => Ok(Order::Score),
        ("score", _) => refuse("sort_by", "there is no score without search[]".to_owned()),
        (other, _) => refuse("sort_by", format!("\"{other}\" is neither alpha nor score")),
    }
}

/// `/search/metric_names`
pub(crate) async fn metric_names(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    check_enabled(&http)?;
    let search = Search::read(&http, &params)?;
    let shows_metadata = params.switch("include_metadata", false)?;
    run(&http, search, shows_metadata, |snapshot, select| snapshot.label_values(METRIC_NAME, select, usize::MAX)).await
}

/// `/search/label_names`
pub(crate) async fn label_names(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    check_enabled(&http)?;
    let search = Search::read(&http, &params)?;
    run(&http, search, false, |snapshot, select| snapshot.label_names(select)).await
}

/// `/search/label_values`
pub(crate) async fn label_values(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    check_enabled(&http)?;
    let search = Search::read(&http, &params)?;
    let name = params.get("label").to_owned();
    if name.is_empty() {
        return Err(ApiError::bad_data("missing required parameter \"label\""));
    }
    run(&http, search, false, move |snapshot, select| snapshot.label_values(&name, select, usize::MAX)).await
}

fn check_enabled(http: &Http) -> Result<(), ApiError> {
    match http.options.enable_search {
        true => Ok(()),
        false => Err(ApiError::new(ErrorType::Unavailable, "search API disabled")),
    }
}

/// Searches the texts that `ask` gives for any of the request's sets of matchers.
async fn run(
    http: &Arc<Http>,
    search: Search,
    shows_metadata: bool,
    ask: impl Fn(&dyn Snapshot, &Select<'_>) -> Result<Vec<String>, ReadError> + Send + 'static,
) -> Result<Response, ApiError> {
    let (data, known) = (http.data.clone(), http.clone());
    let ran = http.run(http.options.query_timeout.ms(), move |cancel| {
        let snapshot = data.snapshot()?;
        let everything = [Vec::new()];
        let sets = if search.sets.is_empty() { &everything[..] } else { &search.sets };
        let mut texts = BTreeSet::new();
        for matchers in sets {
            cancel.check().map_err(ReadError::from)?;
            texts.extend(ask(&*snapshot, &Select { range: search.range, matchers, cancel })?);
        }
        let (found, has_more) = search.pick(texts, cancel)?;
        let families = shows_metadata.then(|| known.search_metadata.get(&known));
        let lines = Lines {
            found: found.into_iter(),
            has_more,
            shows_score: search.shows_score,
            families,
            batch: search.batch,
            is_first: true,
        };
        Ok(lines)
    });
    let mut lines = ran.await?.value;
    let body = pieces::body(move |out| lines.fill(out));
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response())
}

/// The lines of an answer that are not written yet.
struct Lines {
    found: std::vec::IntoIter<(String, f64)>,
    has_more: bool,
    shows_score: bool,
    families: Option<Arc<Families>>,
    batch: usize,
    is_first: bool,
}

impl Lines {
    fn fill(&mut self, out: &mut Vec<u8>) -> Fill {
        while out.len() < PIECE_BYTES {
            // There is a batch even when nothing was found.
            if self.found.len() == 0 && !std::mem::take(&mut self.is_first) {
                out.extend_from_slice(b"{\"status\":\"success\",\"has_more\":");
                out.extend_from_slice(if self.has_more { b"true}\n" } else { b"false}\n" });
                return Fill::Done;
            }
            self.is_first = false;
            self.push_batch(out);
        }
        Fill::More
    }

    fn push_batch(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"results\":[");
        let n = self.batch.min(self.found.len());
        for (i, (name, score)) in self.found.by_ref().take(n).enumerate() {
            out.extend_from_slice(if i > 0 { b",{\"name\":" } else { b"{\"name\":" });
            json::push_string(out, &name);
            if self.shows_score {
                out.extend_from_slice(b",\"score\":");
                json::push_float(out, score);
            }
            let families = self.families.as_ref();
            if let Some(of) = families.and_then(|families| families.get(&name)?.first()) {
                for (field, text) in [("type", of.kind.as_str()), ("help", &of.help), ("unit", &of.unit)] {
                    if !text.is_empty() {
                        json::push_next_name(out, field);
                        json::push_string(out, text);
                    }
                }
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}\n");
    }
}
